//! JSON as ShareX takes it: a byte order mark, `//` and `/* */` comments, trailing commas and raw line breaks in texts
//! are found in published files. The order of keys is kept, because it is the order on the wire.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value whose objects keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// In the spelling of [`serde_json::Number`].
    Number(String),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    /// What messages call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    /// A single value as text; `None` for lists and objects. Null is the empty text.
    pub(super) fn scalar(&self) -> Option<String> {
        match self {
            Self::Null => Some(String::new()),
            Self::Bool(flag) => Some(flag.to_string()),
            Self::Number(text) | Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }
}

/// As JSON, without white space.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(text) => f.write_str(text),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "[" } else { "," })?;
                }
                f.write_str(if items.is_empty() { "[]" } else { "]" })
            }
            Self::Map(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{}:{value}", if i == 0 { "{" } else { "," }, quoted(key))?;
                }
                f.write_str(if entries.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

/// `text` as a JSON string with its quotes.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads `text`; notes what strict JSON would have refused.
///
/// # Errors
/// Where it is no JSON. Never repeats a value.
pub(super) fn read(text: &str, notes: &mut Vec<String>) -> Result<Json, String> {
    let (strict, found) = strict(text.strip_prefix('\u{feff}').unwrap_or(text));
    notes.extend(found);
    serde_json::from_str(&strict).map_err(|error| format!("no valid JSON: {error}"))
}

/// `text` without what strict JSON has not; every line keeps its number.
fn strict(text: &str) -> (String, Vec<String>) {
    let (mut out, mut notes) = (String::with_capacity(text.len()), Vec::new());
    let mut note = |what: &str, line: usize| notes.push(format!("line {line}: {what} is not JSON, but was understood"));
    let mut chars = text.chars().peekable();
    // Where a comma stands that nothing but white space followed so far.
    let mut comma = None;
    let (mut in_text, mut line) = (false, 1);
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '\\' if in_text => {
                out.push(c);
                out.extend(chars.next());
            }
            '"' => {
                (in_text, comma) = (!in_text, None);
                out.push(c);
            }
            c if in_text && c.is_control() && u32::from(c) < 0x20 => {
                note("a raw line break or control character in a text", line);
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c if in_text => out.push(c),
            '/' if chars.peek() == Some(&'/') => {
                note("a comment", line);
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            '/' if chars.peek() == Some(&'*') => {
                note("a comment", line);
                let mut last = ' ';
                for c in chars.by_ref().skip(1) {
                    if c == '\n' {
                        line += 1;
                        out.push(c);
                    }
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            ',' => {
                comma = Some(out.len());
                out.push(c);
            }
            '}' | ']' => {
                if let Some(at) = comma.take() {
                    note("a comma before a closing bracket", line);
                    out.replace_range(at..=at, " ");
                }
                out.push(c);
            }
            c => {
                if !c.is_whitespace() {
                    comma = None;
                }
                out.push(c);
            }
        }
    }
    notes.dedup();
    (out, notes)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(serde_json::Value::from(number).to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Json::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_noting(text: &str) -> (Result<Json, String>, usize) {
        let mut notes = Vec::new();
        let json = read(text, &mut notes);
        (json, notes.len())
    }

    #[test]
    fn what_generators_and_editors_add_is_understood_and_noted() {
        let table = [
            ("{\"b\":1,\"a\":[true,null,-2.5]}", "{\"b\":1,\"a\":[true,null,-2.5]}", 0),
            ("\u{feff}{}", "{}", 0),
            ("{\"a\":\"x\", // why\n \"b\":[1,2,],}", "{\"a\":\"x\",\"b\":[1,2]}", 2),
            ("{ /* two\n lines */ \"a\": \"// no /* comment\" }", "{\"a\":\"// no /* comment\"}", 1),
            ("{\"a\":\"\\\",}\", }", "{\"a\":\"\\\",}\"}", 1),
            ("{\"a\":\"x\ny\"}", "{\"a\":\"x\\ny\"}", 1),
        ];
        for (text, expected, notes) in table {
            let (json, noted) = read_noting(text);
            assert_eq!(json.map(|json| json.to_string()).as_deref(), Ok(expected), "{text}");
            assert_eq!(noted, notes, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_line_and_without_its_text() {
        let (json, _) = read_noting("{\n\"key\": CANARY\n}");
        let error = json.expect_err("no JSON");
        assert!(error.contains("line 2") && !error.contains("CANARY"), "{error}");
    }
}
