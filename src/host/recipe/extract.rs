//! Extractors: how a value is found in an answer. Compiled once, when the recipe is read.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use reqwest::header::{HeaderMap, HeaderName};
use scraper::{Html, Selector};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::Template;
use super::form;
use super::pick::pick;
use super::template::Scope;

/// A complete answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// Where it came from, redirects followed.
    pub url: String,
    /// The cookies of the session after it.
    pub cookies: BTreeMap<String, String>,
    /// What the file, or the gallery, that it is about may be called in it.
    pub names: Vec<String>,
    json: OnceLock<Option<Value>>,
}

impl Answer {
    /// An answer of these parts. The byte order mark that some PHP scripts send first is no part of the text.
    #[must_use]
    pub fn new(status: u16, headers: HeaderMap, body: &[u8]) -> Self {
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
        Self { status, headers, body: String::from_utf8_lossy(body).into_owned(), ..Self::default() }
    }

    /// The fields of the first form that `ways` find in the body.
    pub(in crate::host) fn form(&self, ways: &[Selector]) -> Vec<(String, String)> {
        form::fields(&self.body, ways)
    }

    /// The body as JSON, if it is JSON. Parsed once.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| serde_json::from_str(&self.body).ok()).as_ref()
    }
}

/// One way to find a value.
#[derive(Clone, Debug)]
pub enum Extractor {
    /// `json:PATH`: the first node of an RFC 9535 path; the leading `$.` may be left out.
    Json(JsonPath),
    /// `regex:RE`: group 1 of the first match in the body, or the whole match.
    Regex(Regex),
    /// `header:NAME`
    Header(HeaderName),
    /// `css:SELECTOR` (text) or `css:SELECTOR@ATTRIBUTE` of the first element that has it.
    Css {
        /// The elements.
        selector: Selector,
        /// The attribute; `None` for the text.
        attribute: Option<String>,
    },
    /// `cookie:NAME`
    Cookie(String),
    /// `url:RE`: as `regex`, in the address of the answer.
    Url(Regex),
    /// `match:RE`: of all matches in the body the one that carries the name of the file or gallery, or the only one.
    /// `named:RE`: never one that does not carry the name.
    Match {
        /// What is looked for.
        regex: Regex,
        /// Whether the name must be there.
        strict: bool,
    },
    /// `A >> B`: B finds its value in the value of A.
    Within(Box<Self>, Box<Self>),
    /// `body:`: all of it.
    Body,
    /// A template of another language, which reads the answer.
    Template(Template),
}

/// Why a text is no extractor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractorError {
    /// Unknown kind.
    #[error(
        "`{0}` is no extractor; write json:PATH, regex:RE, header:NAME, css:SELECTOR, match:RE, named:RE, cookie:NAME, url:RE or body:"
    )]
    Kind(String),
    /// The part after the colon does not parse.
    #[error("`{text}`: {reason}")]
    Invalid {
        /// The extractor.
        text: String,
        /// What is wrong.
        reason: String,
    },
}

impl Extractor {
    /// Reads `kind:argument`.
    ///
    /// # Errors
    /// [`ExtractorError`]
    pub fn new(text: &str) -> Result<Self, ExtractorError> {
        let invalid = |reason: String| ExtractorError::Invalid { text: text.to_owned(), reason };
        if let Some((outer, inner)) = text.split_once(" >> ") {
            return Ok(Self::Within(Box::new(Self::new(outer.trim())?), Box::new(Self::new(inner.trim())?)));
        }
        let regex = |argument: &str| Regex::new(argument).map_err(|error| invalid(error.to_string()));
        let (kind, argument) = text.split_once(':').ok_or_else(|| ExtractorError::Kind(text.to_owned()))?;
        match kind {
            "json" => {
                let path = match argument {
                    "" => return Err(invalid("a path is missing, as in json:data.url".into())),
                    path if path.starts_with('$') => path.to_owned(),
                    path if path.starts_with('[') => format!("${path}"),
                    path => format!("$.{path}"),
                };
                JsonPath::parse(&path).map(Self::Json).map_err(|error| invalid(error.to_string()))
            }
            "regex" => regex(argument).map(Self::Regex),
            "url" => regex(argument).map(Self::Url),
            "match" | "named" => Ok(Self::Match { regex: regex(argument)?, strict: kind == "named" }),
            "cookie" if argument.is_empty() => Err(invalid("a cookie's name is missing".into())),
            "cookie" => Ok(Self::Cookie(argument.to_owned())),
            "header" => argument.parse().map(Self::Header).map_err(|_| invalid("that is no header name".into())),
            "css" => {
                let (selector, attribute) = split_attribute(argument);
                let selector = Selector::parse(selector).map_err(|error| invalid(error.to_string()))?;
                Ok(Self::Css { selector, attribute: attribute.map(str::to_owned) })
            }
            "body" if argument.is_empty() => Ok(Self::Body),
            "body" => Err(invalid("body: takes no argument".into())),
            _ => Err(ExtractorError::Kind(text.to_owned())),
        }
    }

    /// The value, trimmed; nothing, null and the empty text are all `None`.
    #[must_use]
    pub fn find(&self, answer: &Answer) -> Option<String> {
        let found = match self {
            Self::Json(path) => scalar(path.query(answer.json()?).first()?),
            Self::Regex(regex) => first_match(regex, &answer.body),
            Self::Url(regex) => first_match(regex, &answer.url),
            Self::Match { regex, strict } => pick(regex, &answer.body, &answer.names, *strict),
            Self::Cookie(name) => answer.cookies.get(name).cloned(),
            Self::Within(outer, inner) => inner.find(&Answer {
                body: outer.find(answer)?,
                names: answer.names.clone(),
                url: answer.url.clone(),
                ..Answer::default()
            }),
            Self::Header(name) => {
                answer.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            }
            Self::Css { selector, attribute } => css(&answer.body, selector, attribute.as_deref()),
            Self::Body => Some(answer.body.clone()),
            Self::Template(template) => template.render_after(&Scope::default(), Some(answer)).ok(),
        }?;
        let trimmed = found.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// Whether it needs a JSON body.
    #[must_use]
    pub fn reads_json(&self) -> bool {
        match self {
            Self::Json(_) => true,
            Self::Within(outer, _) => outer.reads_json(),
            _ => false,
        }
    }
}

fn first_match(regex: &Regex, text: &str) -> Option<String> {
    let captures = regex.captures(text)?;
    captures.get(1).or_else(|| captures.get(0)).map(|found| found.as_str().to_owned())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `a[href*="@"]@href` is a selector and an attribute; an `@` inside the selector is not followed by a bare name.
fn split_attribute(argument: &str) -> (&str, Option<&str>) {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':');
    match argument.rsplit_once('@') {
        Some((selector, name)) if !name.is_empty() && name.chars().all(bare) => (selector, Some(name)),
        _ => (argument, None),
    }
}

fn css(body: &str, selector: &Selector, attribute: Option<&str>) -> Option<String> {
    // `Html` is not Send: it must not outlive this function.
    let page = Html::parse_document(body);
    match attribute {
        Some(name) => page.select(selector).find_map(|element| element.attr(name)).map(str::to_owned),
        None => page.select(selector).next().map(|element| element.text().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("x-link", "https://h.example/1".parse().expect("a value"));
        Answer {
            url: "https://h.example/edit?id=g7".into(),
            cookies: [("sid".to_owned(), "c1".to_owned())].into(),
            names: vec!["a.png".into()],
            ..Answer::new(200, headers, body.as_bytes())
        }
    }

    fn find(extractor: &str, body: &str) -> Option<String> {
        Extractor::new(extractor).expect(extractor).find(&answer(body))
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_an_answer() {
        assert_eq!(
            find("json:url", "\u{feff}{\"url\":\"https://h.example/1\"}").as_deref(),
            Some("https://h.example/1")
        );
        assert_eq!(find("body:", "\u{feff}https://h.example/1").as_deref(), Some("https://h.example/1"));
    }

    #[test]
    fn each_kind_finds_its_value() {
        let json = r#"{"data":{"url":" https:\/\/h.example\/1 ","size":12,"none":null,"errors":[{"detail":"d"}]}}"#;
        let page = r#"<a class=x>no</a><a class=x href="/1?a=1&amp;b=2">two <b>words</b></a><input name=t value=v>"#;
        let table = [
            ("json:data.url", json, Some("https://h.example/1")),
            ("json:$.data.size", json, Some("12")),
            ("json:data.errors[0].detail", json, Some("d")),
            ("json:data.none", json, None),
            ("json:data", json, None),
            ("json:data.url", "<html>", None),
            (r"regex:id=(\d+)", "x id=42", Some("42")),
            (r"regex:id=\d+", "x id=42", Some("id=42")),
            ("header:X-Link", "", Some("https://h.example/1")),
            ("header:X-None", "", None),
            ("css:a.x@href", page, Some("/1?a=1&b=2")),
            ("css:a.x[href]", page, Some("two words")),
            ("css:input[name=t]@value", page, Some("v")),
            ("css:p", page, None),
            ("body:", "  https://h.example/1\n", Some("https://h.example/1")),
            ("body:", " \n", None),
            ("css:a.x[href] >> regex:w.r", page, Some("wor")),
            ("css:p >> body:", page, None),
            ("cookie:sid", "", Some("c1")),
            ("cookie:none", "", None),
            (r"url:[?&]id=(\w+)", "", Some("g7")),
            (r"match:\w+\.png", "b.png a.png", Some("a.png")),
            (r"match:\w+\.gif", "b.gif", Some("b.gif")),
            (r"named:\w+\.gif", "b.gif", None),
        ];
        for (extractor, body, expected) in table {
            assert_eq!(find(extractor, body).as_deref(), expected, "{extractor}");
        }
    }

    #[test]
    fn what_is_no_extractor_is_refused_with_its_text() {
        for text in [
            "nope",
            "xml:a",
            "json:",
            "json:a[",
            "regex:(",
            "css:[[",
            "header:a b",
            "body:x",
            "cookie:",
            "match:(",
            "css:a >> nope",
        ] {
            let error = Extractor::new(text).expect_err(text).to_string();
            assert!(error.contains(text.rsplit(" >> ").next().unwrap_or(text)), "{error}");
        }
    }
}
