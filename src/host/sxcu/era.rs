//! The three eras of the syntax, and the way from the older ones to the one that is read.
//!
//! | era | `Version` | syntax |
//! |---|---|---|
//! | A | none … 12.3.1 | `$…$`; `RequestType`, `ResponseType`, `RegexList`; no `Body`, no `Parameters` |
//! | B | 12.4.0 … 13.7.1 | `$…$`; `RegexList` |
//! | C | from 14.0.0 | `{…}` |
//!
//! Servers write any number as `Version`, so the content decides where the number says "old" or nothing.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::file::{Body, Item};

/// A text in the syntax of eras A and B with a function of theirs.
static OLD_CALL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\$(?:(?:json|regex|xml|header|random|base64|select|prompt|inputbox):[^$]*|response|responseurl|filename|input|prompt|inputbox|\d+,\w+)\$")
        .expect("a valid expression")
});

/// A call in the syntax of era C.
static NEW_CALL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{[A-Za-z0-9]+(?::[^{}]|\})").expect("a valid expression"));

/// A code of the name parser with an argument in braces, which are not those of the syntax.
static CODE_ARGUMENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^%(?:rna|rn|ra|rx|rf|iAa|ia|ib|ix|i)\{[^{}]*\}").expect("a valid expression"));

/// When a file was written, by its syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Until 12.3.1.
    A,
    /// 12.4.0 to 13.7.1.
    B,
    /// From 14.0.0.
    C,
}

impl Era {
    /// How messages name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A (until ShareX 12.3)",
            Self::B => "B (ShareX 12.4 to 13.7)",
            Self::C => "C (since ShareX 14)",
        }
    }

    /// The era of `item`.
    pub(super) fn of(item: &Item) -> Self {
        match number(&item.version) {
            Some(version) if version >= [14, 0, 0] => return Self::C,
            Some(version) if version >= [12, 4, 0] => return Self::B,
            _ => {}
        }
        let old_fields = item.request_type.is_some() || item.response_type.is_some();
        let new_fields = item.body.is_some() || item.method.is_some() || !item.parameters.is_empty();
        let texts = texts(item);
        let calls = |pattern: &Regex| texts.iter().any(|text| pattern.is_match(text));
        if old_fields || (!new_fields && !calls(&NEW_CALL)) {
            Self::A
        } else if calls(&OLD_CALL) && !calls(&NEW_CALL) || (!item.patterns.is_empty() && !calls(&NEW_CALL)) {
            Self::B
        } else {
            Self::C
        }
    }
}

/// The first three parts of a version.
fn number(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.trim().split('.').map(|part| part.parse::<u32>().ok());
    let first = parts.next()??;
    Some([first, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)])
}

/// Every text that may hold syntax.
fn texts(item: &Item) -> Vec<&str> {
    let pairs = item.parameters.iter().chain(&item.headers).chain(&item.arguments);
    let mut texts: Vec<&str> = pairs.map(|(_, value)| value.as_str()).collect();
    texts.extend([&item.url, &item.data, &item.link, &item.thumbnail, &item.deletion, &item.error].map(String::as_str));
    texts
}

/// Turns `item` into one of era C, and its query string into parameters.
pub(super) fn migrate(item: &mut Item, notes: &mut Vec<String>) -> Era {
    let era = Era::of(item);
    if era == Era::A {
        first_to_second(item, notes);
    }
    hoist_query(item);
    if item.body.is_none() && !item.file_form_name.is_empty() && item.method != Some("GET") {
        if era != Era::A {
            notes.push("Body: missing; MultipartFormData is assumed, because there is a FileFormName".to_owned());
        }
        item.body = Some(Body::Multipart);
    }
    let patterns = std::mem::take(&mut item.patterns);
    let converter = Converter { patterns: &patterns, old: era != Era::C };
    converter.item(item, notes);
    era
}

/// Era A → B.
fn first_to_second(item: &mut Item, notes: &mut Vec<String>) {
    item.method = item.method.or(item.request_type);
    if item.method.is_none_or(|method| method == "POST") {
        item.body.get_or_insert(Body::Multipart);
    } else {
        item.body.get_or_insert(Body::None);
        for (name, value) in std::mem::take(&mut item.arguments) {
            if !item.parameters.iter().any(|(known, _)| *known == name) {
                item.parameters.push((name, value));
            }
        }
    }
    let source = match item.response_type {
        Some("RedirectionURL") => "responseurl",
        Some("LocationHeader") => "header:Location",
        Some("Headers") => {
            notes.push("ResponseType: `Headers` cannot be converted; write {header:NAME} in URL".to_owned());
            return;
        }
        _ => return,
    };
    if item.link.is_empty() {
        item.link = "$response$".to_owned();
    }
    for text in [&mut item.link, &mut item.thumbnail, &mut item.deletion] {
        *text = text.replace("$response$", &format!("${source}$"));
    }
}

/// Puts the query string of `RequestURL` into the parameters; a parameter of the file wins.
fn hoist_query(item: &mut Item) {
    let Some((url, query)) = item.url.split_once('?') else { return };
    let (url, query) = (url.to_owned(), query.split('#').next().unwrap_or_default());
    let mut found: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name, false), decoded(value, true));
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = format!("{known},{value}"),
            None => found.push((name, value)),
        }
    }
    found.retain(|(name, _)| !item.parameters.iter().any(|(known, _)| known == name));
    item.parameters.extend(found);
    item.url = url;
}

/// Form decoding. A decoded percent sign of a value is protected, so that it begins no `%` code.
fn decoded(text: &str, protect: bool) -> String {
    let text = text.replace('+', " ");
    let text = if protect { text.replace("%25", "\\%25") } else { text };
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

struct Converter<'p> {
    patterns: &'p [String],
    /// Whether everything is in the old syntax, and not only what looks like it.
    old: bool,
}

/// What a field may ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// No `%` codes.
    Address,
    Request,
    Response,
}

impl Converter<'_> {
    fn item(&self, item: &mut Item, notes: &mut Vec<String>) {
        let mut convert = |key: &str, text: &mut String, side: Side| {
            let new = self.text(text, side, &mut |note| notes.push(format!("{key}: {note}")));
            if *text != new {
                *text = new;
            }
        };
        convert("RequestURL", &mut item.url, Side::Address);
        let groups =
            [("Parameters", &mut item.parameters), ("Headers", &mut item.headers), ("Arguments", &mut item.arguments)];
        for (group, pairs) in groups {
            for (name, value) in pairs {
                convert(&format!("{group}.{}", name.escape_default()), value, Side::Request);
            }
        }
        convert("URL", &mut item.link, Side::Response);
        convert("ThumbnailURL", &mut item.thumbnail, Side::Response);
        convert("DeletionURL", &mut item.deletion, Side::Response);
        convert("ErrorMessage", &mut item.error, Side::Response);
        if self.old || OLD_CALL.is_match(&item.data) {
            static TOKEN: LazyLock<Regex> =
                LazyLock::new(|| Regex::new(r"(?i)\$(input|filename)\$").expect("a valid expression"));
            let data =
                TOKEN.replace_all(&item.data, |found: &regex::Captures<'_>| format!("{{{}}}", found[1].to_lowercase()));
            item.data = data.into_owned();
        }
    }

    fn text(&self, text: &str, side: Side, note: &mut dyn FnMut(&str)) -> String {
        if self.old {
            return self.all(text, side, note);
        }
        let converted = OLD_CALL.replace_all(text, |found: &regex::Captures<'_>| {
            let call = &found[0];
            self.call(&literal_chars(&call[1..call.len() - 1]), Side::Response, &mut |_| {})
        });
        if matches!(converted, Cow::Owned(_)) {
            note("has $…$ syntax in a file of the new one: converted");
        }
        self.numbered(&converted, note)
    }

    /// `{regex:1|u}` of a file that has a `RegexList` all the same.
    fn numbered(&self, text: &str, note: &mut dyn FnMut(&str)) -> String {
        static NUMBERED: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\{regex:(\d+)(\||\})").expect("a valid expression"));
        let replaced = NUMBERED.replace_all(text, |found: &regex::Captures<'_>| match self.pattern(&found[1]) {
            Some(pattern) => format!("{{regex:{}{}", escaped(pattern), &found[2]),
            None => found[0].to_owned(),
        });
        if matches!(&replaced, Cow::Owned(new) if new != text) {
            note("takes a pattern of RegexList by its number, which ShareX no longer does");
        }
        replaced.into_owned()
    }

    fn pattern(&self, number: &str) -> Option<&str> {
        let index = number.trim().parse::<usize>().ok()?.checked_sub(1)?;
        self.patterns.get(index).map(String::as_str)
    }

    /// A text that is in the old syntax from its first to its last letter.
    fn all(&self, text: &str, side: Side, note: &mut dyn FnMut(&str)) -> String {
        let mut out = String::new();
        let mut chars = literal_chars(text);
        while !chars.is_empty() {
            match chars.iter().position(|(c, literal)| *c == '$' && !literal) {
                Some(0) => {
                    let rest = &chars[1..];
                    let end = rest.iter().position(|(c, literal)| *c == '$' && !literal);
                    if end.is_none() {
                        note("a `$` without a second one: the end of the text closes it");
                    }
                    let inside = &rest[..end.unwrap_or(rest.len())];
                    out.push_str(&self.call(inside, side, note));
                    chars = rest.get(end.map_or(rest.len(), |end| end + 1)..).unwrap_or_default().to_vec();
                }
                next => {
                    let end = next.unwrap_or(chars.len());
                    plain(&chars[..end], side, &mut out);
                    chars.drain(..end);
                }
            }
        }
        out
    }

    /// What stands between two `$`, without them.
    fn call(&self, inside: &[(char, bool)], side: Side, note: &mut dyn FnMut(&str)) -> String {
        let colon = inside.iter().position(|(c, literal)| *c == ':' && !literal);
        let name: String = inside[..colon.unwrap_or(inside.len())].iter().map(|(c, _)| *c).collect();
        let params = colon.map(|colon| &inside[colon + 1..]);
        let lower = name.to_lowercase();
        let only = |wanted: Side, made: String, note: &mut dyn FnMut(&str)| {
            if (wanted == Side::Response) == (side == Side::Response) {
                return made;
            }
            note(&format!("${lower}$ means nothing here and stands for nothing"));
            String::new()
        };
        match (lower.as_str(), params) {
            ("response" | "responseurl", None) => only(Side::Response, format!("{{{lower}}}"), note),
            ("input", None) => only(Side::Request, "{input}".to_owned(), note),
            ("filename", None) => "{filename}".to_owned(),
            ("header" | "json" | "xml", Some(param)) => {
                only(Side::Response, format!("{{{lower}:{}}}", single(param)), note)
            }
            ("regex", Some(params)) => {
                let made = self.regex(params, note);
                only(Side::Response, made, note)
            }
            ("base64", Some(param)) => format!("{{base64:{}}}", single(param)),
            ("random" | "select", Some(params)) => format!("{{{lower}:{}}}", several(params)),
            ("prompt" | "inputbox", Some(params)) => format!("{{inputbox:{}}}", several(params)),
            ("prompt" | "inputbox", None) => "{inputbox}".to_owned(),
            // `$1,url$`: how the first files wrote $regex:1|url$.
            (_, None) if name.split(',').next().is_some_and(|number| self.pattern(number).is_some()) => {
                let made = self.regex(inside, note);
                only(Side::Response, made, note)
            }
            _ => {
                note("$…$ with an unknown function stands for nothing");
                String::new()
            }
        }
    }

    /// `1`, `1|group`, `1,group`, or a pattern.
    fn regex(&self, params: &[(char, bool)], note: &mut dyn FnMut(&str)) -> String {
        let text: String = params.iter().map(|(c, _)| *c).collect();
        let (number, group) = text.split_once(['|', ',']).unwrap_or((&text, ""));
        if let Some(pattern) = self.pattern(number) {
            let group = if group.is_empty() { String::new() } else { format!("|{}", escaped(group)) };
            return format!("{{regex:{}{group}}}", escaped(pattern));
        }
        if number.trim().parse::<usize>().is_ok() && !self.patterns.is_empty() {
            note("asks for a pattern that RegexList does not have: it stands for nothing");
            return String::new();
        }
        format!("{{regex:{}}}", several(params))
    }
}

/// The characters of `text` in the old syntax, and whether each was escaped with a backslash.
fn literal_chars(text: &str) -> Vec<(char, bool)> {
    let (mut chars, mut out) = (text.chars(), Vec::new());
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().map(|c| (c, true))),
            c => out.push((c, false)),
        }
    }
    out
}

/// Text outside of calls.
fn plain(chars: &[(char, bool)], side: Side, out: &mut String) {
    let mut at = 0;
    while let Some((c, literal)) = chars.get(at) {
        let rest: String = chars[at..].iter().take_while(|(_, literal)| !literal).map(|(c, _)| *c).collect();
        if side == Side::Request && *c == '%' {
            if let Some(code) = CODE_ARGUMENT.find(&rest) {
                out.push_str(code.as_str());
                at += code.as_str().chars().count();
                continue;
            }
            if *literal {
                out.push('\\');
            }
        }
        push(*c, out);
        at += 1;
    }
}

/// The only parameter of a function: it may hold `|`.
fn single(chars: &[(char, bool)]) -> String {
    escaped(&chars.iter().map(|(c, _)| *c).collect::<String>())
}

/// Parameters between `|`.
fn several(chars: &[(char, bool)]) -> String {
    let mut out = String::new();
    for (c, literal) in chars {
        if *c == '|' && !literal {
            out.push('|');
        } else {
            push(*c, &mut out);
        }
    }
    out
}

/// `text` so that the new syntax takes it as it is.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| push(c, &mut out));
    out
}

fn push(c: char, out: &mut String) {
    if matches!(c, '{' | '}' | '|' | '\\') {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
#[path = "era_tests.rs"]
mod tests;
