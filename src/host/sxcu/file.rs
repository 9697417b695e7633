//! The fields of a `.sxcu` file: names in any case, scalar values of any kind, and a message for whatever else is there.

use super::json::{self, Json};

/// Names and values in the order of the file.
pub(super) type Pairs = Vec<(String, String)>;

/// How the request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Multipart,
    Form,
    Json,
    Xml,
    Binary,
}

/// The words of `Body`; the position is the number that ShareX also takes.
const BODIES: [(&str, Body); 6] = [
    ("None", Body::None),
    ("MultipartFormData", Body::Multipart),
    ("FormURLEncoded", Body::Form),
    ("JSON", Body::Json),
    ("XML", Body::Xml),
    ("Binary", Body::Binary),
];

impl Body {
    /// Its word in the file.
    pub(super) fn word(self) -> &'static str {
        BODIES.iter().find(|(_, body)| *body == self).map_or("None", |(word, _)| word)
    }
}

/// The words of `RequestMethod`; the position is the number that ShareX also takes.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The words of `ResponseType`.
const RESPONSES: [&str; 4] = ["Text", "RedirectionURL", "Headers", "LocationHeader"];

/// The words of `DestinationType`; the position is the bit.
const DESTINATIONS: [&str; 5] = ["ImageUploader", "TextUploader", "FileUploader", "URLShortener", "URLSharingService"];

/// What ShareX and we know; anything else is noted.
const KNOWN: [&str; 17] = [
    "Version",
    "Name",
    "DestinationType",
    "RequestMethod",
    "RequestURL",
    "Parameters",
    "Headers",
    "Body",
    "Arguments",
    "FileFormName",
    "Data",
    "URL",
    "ThumbnailURL",
    "DeletionURL",
    "ErrorMessage",
    "RequestType",
    "ResponseType",
];

/// A `.sxcu` file as it was written, every value of the right kind. Empty texts and absent ones are the same, as in
/// ShareX.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Item {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) destinations: Vec<&'static str>,
    /// `None` when the key is absent.
    pub(super) method: Option<&'static str>,
    pub(super) url: String,
    pub(super) parameters: Pairs,
    pub(super) headers: Pairs,
    /// `None` when the key is absent.
    pub(super) body: Option<Body>,
    pub(super) arguments: Pairs,
    pub(super) file_form_name: String,
    pub(super) data: String,
    pub(super) link: String,
    pub(super) thumbnail: String,
    pub(super) deletion: String,
    pub(super) error: String,
    /// Era A's name of `method`.
    pub(super) request_type: Option<&'static str>,
    /// Era A's choice of what is read.
    pub(super) response_type: Option<&'static str>,
    /// The patterns of eras A and B.
    pub(super) patterns: Vec<String>,
}

/// Reads the JSON in `text`. `notes` receives what was understood and yet is odd.
///
/// # Errors
/// Every value that is not what its key needs: `Arguments.x: expected string, got object`. Never repeats a value of a
/// field that may hold a secret.
pub(super) fn read(text: &str, notes: &mut Vec<String>) -> Result<Item, Vec<String>> {
    let entries = match json::read(text, notes).map_err(|error| vec![error])? {
        Json::Map(entries) => entries,
        other => return Err(vec![format!("expected an object, got {}", other.kind())]),
    };
    let mut reader = Reader { entries, notes, problems: Vec::new() };
    reader.note_odd_keys();
    let item = reader.item();
    if reader.problems.is_empty() { Ok(item) } else { Err(reader.problems) }
}

struct Reader<'n> {
    entries: Vec<(String, Json)>,
    notes: &'n mut Vec<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn note_odd_keys(&mut self) {
        let mut seen: Vec<String> = Vec::new();
        for (key, _) in &self.entries {
            let known = KNOWN.iter().chain(&["RegexList", "X-Agent"]).any(|known| known.eq_ignore_ascii_case(key));
            if !known {
                self.notes.push(format!("{}: unknown key, ignored", key.escape_default()));
            }
            let lower = key.to_lowercase();
            if known && seen.contains(&lower) {
                self.notes.push(format!("{key}: appears twice, the last one counts"));
            }
            seen.push(lower);
        }
    }

    fn item(&mut self) -> Item {
        Item {
            version: self.text("Version"),
            name: self.text("Name"),
            destinations: self.destinations(),
            method: self.method("RequestMethod"),
            url: self.text("RequestURL"),
            parameters: self.pairs("Parameters"),
            headers: self.pairs("Headers"),
            body: self.body(),
            arguments: self.pairs("Arguments"),
            file_form_name: self.text("FileFormName"),
            data: self.data(),
            link: self.text("URL"),
            thumbnail: self.text("ThumbnailURL"),
            deletion: self.text("DeletionURL"),
            error: self.text("ErrorMessage"),
            request_type: self.method("RequestType"),
            response_type: self.word("ResponseType", &RESPONSES),
            patterns: self.patterns(),
        }
    }

    /// The value of `key`, whatever the case of its letters; null is absent.
    fn value(&self, key: &str) -> Option<Json> {
        let found = self.entries.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.clone()).filter(|value| *value != Json::Null)
    }

    fn expected(&mut self, key: &str, expected: &str, got: &Json) {
        self.problems.push(format!("{key}: expected {expected}, got {}", got.kind()));
    }

    fn text(&mut self, key: &str) -> String {
        let Some(value) = self.value(key) else { return String::new() };
        value.scalar().unwrap_or_else(|| {
            self.expected(key, "string", &value);
            String::new()
        })
    }

    /// Like a text; an object is what its author meant to write as text.
    fn data(&mut self) -> String {
        let Some(value) = self.value("Data") else { return String::new() };
        value.scalar().unwrap_or_else(|| {
            self.notes.push(format!("Data: expected string, got {}: its JSON is taken", value.kind()));
            value.to_string()
        })
    }

    fn pairs(&mut self, key: &str) -> Pairs {
        let entries = match self.value(key) {
            None => return Pairs::new(),
            Some(Json::Map(entries)) => entries,
            // What PHP makes of an empty map.
            Some(Json::List(items)) if items.is_empty() => return Pairs::new(),
            Some(other) => {
                self.expected(key, "object", &other);
                return Pairs::new();
            }
        };
        let mut pairs = Pairs::new();
        for (name, value) in entries {
            match value.scalar() {
                Some(text) => {
                    pairs.retain(|(known, _)| *known != name);
                    pairs.push((name, text));
                }
                None => self.expected(&format!("{key}.{}", name.escape_default()), "string", &value),
            }
        }
        pairs
    }

    fn patterns(&mut self) -> Vec<String> {
        let items = match self.value("RegexList") {
            None => return Vec::new(),
            Some(Json::List(items)) => items,
            Some(other) => {
                self.expected("RegexList", "array", &other);
                return Vec::new();
            }
        };
        let mut patterns = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match item.scalar() {
                Some(pattern) => patterns.push(pattern),
                None => self.expected(&format!("RegexList[{i}]"), "string", item),
            }
        }
        patterns
    }

    /// One of `words`, in any case, or its number.
    fn word(&mut self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.value(key)?;
        let text = value.scalar();
        if text.as_deref() == Some("") {
            return None;
        }
        let by_word = |text: &String| words.iter().find(|word| word.eq_ignore_ascii_case(text.trim()));
        let by_number = |text: &String| words.get(text.trim().parse::<usize>().ok()?);
        let found = text.as_ref().and_then(|text| by_word(text).or_else(|| by_number(text)));
        if found.is_none() {
            self.problems.push(format!("{key}: expected one of {}, got another {}", words.join(", "), value.kind()));
        }
        found.copied()
    }

    fn method(&mut self, key: &str) -> Option<&'static str> {
        self.word(key, &METHODS)
    }

    fn body(&mut self) -> Option<Body> {
        let word = self.word("Body", &BODIES.map(|(word, _)| word))?;
        BODIES.iter().find(|(known, _)| *known == word).map(|(_, body)| *body)
    }

    fn destinations(&mut self) -> Vec<&'static str> {
        let Some(value) = self.value("DestinationType") else { return Vec::new() };
        let Some(text) = value.scalar() else {
            self.expected("DestinationType", "string", &value);
            return Vec::new();
        };
        if let Ok(bits) = text.trim().parse::<u32>() {
            return (0..).zip(DESTINATIONS).filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, word)| word).collect();
        }
        let mut found = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match DESTINATIONS.iter().find(|known| known.eq_ignore_ascii_case(word)) {
                Some(known) => found.push(*known),
                None if word.eq_ignore_ascii_case("None") => {}
                None => self.notes.push(format!("DestinationType: `{}` is unknown", word.escape_default())),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> (Item, Vec<String>) {
        let mut notes = Vec::new();
        (read(text, &mut notes).expect(text), notes)
    }

    fn problems(text: &str) -> Vec<String> {
        read(text, &mut Vec::new()).expect_err(text)
    }

    #[test]
    fn keys_and_words_are_taken_in_any_case_and_words_as_numbers_too() {
        let (read, notes) = item(
            r#"{ "requesturl": "u", "BODY": "multipartformdata", "RequestMethod": "put",
                 "destinationtype": "imageuploader,FILEUPLOADER", "Headers": { "X-Use-Original-Filename": 1, "b": true,
                 "a": null } }"#,
        );
        assert_eq!((read.url.as_str(), read.body, read.method), ("u", Some(Body::Multipart), Some("PUT")));
        assert_eq!(read.destinations, ["ImageUploader", "FileUploader"]);
        let headers: Vec<_> = read.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("X-Use-Original-Filename", "1"), ("b", "true"), ("a", "")], "in the file's order");
        assert!(notes.is_empty(), "{notes:?}");
        let (read, _) = item(r#"{ "Body": 5, "RequestMethod": 2, "DestinationType": 5, "Version": 17 }"#);
        assert_eq!((read.body, read.method, read.version.as_str()), (Some(Body::Binary), Some("PUT"), "17"));
        assert_eq!(read.destinations, ["ImageUploader", "FileUploader"]);
    }

    #[test]
    fn wrong_kinds_are_named_all_at_once_and_never_dropped_silently() {
        let found = problems(
            r#"{ "RequestURL": {}, "Arguments": { "x": { "y": "CANARY" } }, "Headers": "CANARY", "RegexList": [[]],
                 "Body": "CANARY", "URL": ["CANARY"] }"#,
        );
        let expected = [
            "RequestURL: expected string, got object",
            "Headers: expected object, got string",
            "Body: expected one of None, MultipartFormData, FormURLEncoded, JSON, XML, Binary, got another string",
            "Arguments.x: expected string, got object",
            "URL: expected string, got array",
            "RegexList[0]: expected string, got array",
        ];
        assert_eq!(found, expected);
        assert_eq!(problems("[]"), ["expected an object, got array"]);
    }

    #[test]
    fn data_may_be_an_object_and_odd_keys_are_noted() {
        let (read, notes) = item(r#"{ "Data": { "b": "{input}", "a": [1] }, "Arguments": [], "Foo": 1, "foo": 2 }"#);
        assert_eq!(read.data, r#"{"b":"{input}","a":[1]}"#);
        assert_eq!(notes.len(), 3, "{notes:?}");
        let (_, notes) = item(r#"{ "URL": "a", "url": "b" }"#);
        assert_eq!(notes, ["url: appears twice, the last one counts"]);
    }
}
