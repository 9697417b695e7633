//! TOML → [`Step`]s, wherever in a recipe they stand.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::HeaderName;
use scraper::Selector;
use serde::Deserialize;

use super::load::{Checks, is_identifier};
use super::{BodySpec, Extractor, Field, FileField, Step, Test};

/// Polls of one page, and the longest pause between two: together they stay within a file's usual deadline.
const POLLS_LIMIT: usize = 20;
const POLL_LIMIT: f64 = 30.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStep {
    name: String,
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    query: BTreeMap<String, String>,
    #[serde(default)]
    body: RawBody,
    #[serde(default)]
    fields: Vec<RawField>,
    /// The step whose form's values are sent as well.
    fields_of: Option<String>,
    #[serde(default)]
    extract: BTreeMap<String, OneOrMore>,
    /// Selectors of a form whose values are kept for `fields_of`.
    form: Option<OneOrMore>,
    when: Option<String>,
    session: Option<bool>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    accept: Vec<u16>,
    #[serde(default)]
    expect: Vec<RawTest>,
    #[serde(default)]
    refuse: Vec<RawTest>,
    #[serde(default)]
    require: Vec<String>,
    #[serde(default)]
    secret: Vec<String>,
    #[serde(default)]
    poll: Vec<f64>,
}

/// What an answer is asked; all that is given must hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTest {
    #[serde(default)]
    status: Vec<u16>,
    text: Option<String>,
    css: Option<String>,
    redirect: Option<String>,
    cookie: Option<String>,
    value: Option<String>,
    like: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawBody {
    #[default]
    None,
    Multipart,
    Form,
    Json,
    Raw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    name: String,
    value: Option<String>,
    #[serde(default)]
    file: bool,
    file_name: Option<String>,
    #[serde(default)]
    empty: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

impl Checks {
    pub(super) fn steps(&mut self, key: &str, raw: Vec<RawStep>, has_session: bool) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for (at, raw) in raw.into_iter().enumerate() {
            let key = format!("{key}[{at}]");
            if let Some(from) = &raw.fields_of
                && !steps.iter().any(|step| step.name == *from && !step.form.is_empty())
            {
                self.problem(&format!("{key}.fields_of"), format!("no step `{from}` before it keeps a `form`"));
            }
            steps.extend(self.step(&key, raw, has_session));
        }
        steps
    }

    fn step(&mut self, key: &str, raw: RawStep, has_session: bool) -> Option<Step> {
        let method = match raw.method.as_str() {
            "GET" => Some(reqwest::Method::GET),
            "POST" => Some(reqwest::Method::POST),
            "PUT" => Some(reqwest::Method::PUT),
            "DELETE" => Some(reqwest::Method::DELETE),
            "HEAD" => Some(reqwest::Method::HEAD),
            other => {
                self.problem(&format!("{key}.method"), format!("`{other}` is not GET, POST, PUT, DELETE or HEAD"));
                None
            }
        };
        let url = self.template(&format!("{key}.url"), &raw.url);
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            let key = format!("{key}.headers.{name}");
            // The length and the framing are the engine's.
            let own = ["content-length", "transfer-encoding", "content-type", "host", "connection", "cookie"];
            if name.parse::<HeaderName>().is_err() || own.contains(&name.to_ascii_lowercase().as_str()) {
                self.problem(&key, "no header that a recipe can set");
            }
            headers.extend(self.template(&key, value).map(|value| (name.clone(), value)));
        }
        let mut query = Vec::new();
        for (name, value) in &raw.query {
            query.extend(self.template(&format!("{key}.query.{name}"), value).map(|value| (name.clone(), value)));
        }
        let body = self.body(key, raw.body, raw.fields);
        let mut extract = BTreeMap::new();
        for (name, texts) in raw.extract {
            let key = format!("{key}.extract.{name}");
            extract.insert(name, texts.all().iter().filter_map(|text| self.extractor(&key, text)).collect());
        }
        if !is_identifier(&raw.name) || extract.keys().any(|name| !is_identifier(name)) {
            self.problem(key, "names of steps and extracted values must be letters, digits or `_`");
        }
        let when = raw.when.and_then(|text| self.template(&format!("{key}.when"), &text));
        if let Some(name) = raw.require.iter().chain(&raw.secret).find(|name| !extract.contains_key(*name)) {
            self.problem(key, format!("`{name}` is not among what it extracts"));
        }
        let known: Vec<String> = extract.keys().map(|name| format!("step.{}.{name}", raw.name)).collect();
        let form = raw.form.map_or_else(Vec::new, OneOrMore::all);
        let form = form.iter().filter_map(|text| self.selector(&format!("{key}.form"), text)).collect();
        let expect = self.tests(&format!("{key}.expect"), raw.expect, &extract);
        let refuse = self.tests(&format!("{key}.refuse"), raw.refuse, &extract);
        if raw.poll.len() > POLLS_LIMIT || raw.poll.iter().any(|seconds| !(0.0..=POLL_LIMIT).contains(seconds)) {
            self.problem(&format!("{key}.poll"), format!("at most {POLLS_LIMIT} pauses of 0 to {POLL_LIMIT} seconds"));
        }
        let poll = raw.poll.iter().map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, POLL_LIMIT))).collect();
        self.known.extend(known);
        Some(Step {
            name: raw.name,
            method: method?,
            url: url?,
            headers,
            query,
            body: body?,
            fields_of: raw.fields_of,
            redirects: false,
            extract,
            form,
            when,
            session: raw.session.unwrap_or(has_session),
            follow: raw.follow,
            accept: raw.accept,
            expect,
            refuse,
            require: raw.require,
            secret: raw.secret,
            poll,
        })
    }

    pub(super) fn tests(
        &mut self,
        key: &str,
        raw: Vec<RawTest>,
        extract: &BTreeMap<String, Vec<Extractor>>,
    ) -> Vec<Test> {
        let mut tests = Vec::new();
        for test in raw {
            let value = match (test.value, test.like) {
                (None, None) => None,
                (Some(name), Some(like)) if extract.contains_key(&name) => {
                    self.regex(key, Some(&like)).map(|like| (name, like))
                }
                _ => {
                    self.problem(key, "`value` is one of what the step extracts, with a regular expression as `like`");
                    None
                }
            };
            let test = Test {
                status: test.status,
                text: self.regex(key, test.text.as_deref()),
                css: test.css.and_then(|text| self.selector(key, &text)),
                redirect: self.regex(key, test.redirect.as_deref()),
                cookie: test.cookie,
                value,
            };
            if test.is_empty() {
                self.problem(key, "give at least one of status, text, css, redirect, cookie, or value and like");
            }
            tests.push(test);
        }
        tests
    }

    fn selector(&mut self, key: &str, text: &str) -> Option<Selector> {
        Selector::parse(text).map_err(|error| self.problem(key, format!("`{text}`: {error}"))).ok()
    }

    fn body(&mut self, key: &str, body: RawBody, raw: Vec<RawField>) -> Option<BodySpec> {
        let key = format!("{key}.fields");
        if matches!(body, RawBody::None | RawBody::Raw) && !raw.is_empty() {
            self.problem(&key, "only a body that is \"multipart\", \"form\" or \"json\" has fields");
        }
        let (mut fields, mut file) = (Vec::new(), None);
        for field in raw {
            let key = format!("{key}.{}", field.name);
            if field.name.is_empty() || field.name.chars().any(char::is_control) {
                self.problem(&key, "a field's name must not be empty or contain control characters");
            }
            if file.is_some() {
                self.problem(&key, "the file's field must be the last one");
            }
            match (field.value, field.file) {
                (Some(value), false) => {
                    let value = self.template(&key, &value);
                    fields.extend(value.map(|value| Field { name: field.name, value, empty: field.empty }));
                }
                (None, true) if body == RawBody::Multipart => {
                    let file_name = field.file_name.and_then(|text| self.template(&key, &text));
                    file = Some(FileField { name: field.name, file_name });
                }
                (None, true) => self.problem(&key, "only a multipart body can carry the file in a field"),
                _ => self.problem(&key, "a field has either `value = \"…\"` or `file = true`"),
            }
        }
        Some(match body {
            RawBody::None => BodySpec::None,
            RawBody::Multipart => BodySpec::Multipart { fields, file },
            RawBody::Form => BodySpec::Form(fields),
            RawBody::Json => BodySpec::Json(fields),
            RawBody::Raw => BodySpec::Raw,
        })
    }
}
