//! TOML → [`Recipe`]: every mistake at once, each with the file and the key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytesize::ByteSize;
use regex::Regex;
use reqwest::header::HeaderName;
use serde::Deserialize;

use super::template::FILE_VARIABLES;
use super::{BodySpec, Extractor, Meaning, OptionSpec, Protocol, Recipe, ResultSpec, Step, Template};
use crate::host::Limits;
use crate::job::{ErrorClass, FailureKind, ImageKind};

/// Requests of one recipe: the longest known protocol (login, page, upload, follow-up, result) needs five.
const STEPS_LIMIT: usize = 16;

/// A recipe that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// The file, or `built-in recipe NAME`.
    pub origin: String,
    /// Each with its key: `step[0].url: …`. Never empty.
    pub problems: Vec<String>,
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.problems.iter().map(|problem| format!("{}: {problem}", self.origin)).collect();
        f.write_str(&lines.join("; "))
    }
}

impl std::error::Error for RecipeError {}

/// Reads and checks a recipe; `origin` is what messages call it.
///
/// # Errors
/// [`RecipeError`] with everything that is wrong.
pub fn parse(text: &str, origin: &str) -> Result<Recipe, RecipeError> {
    let raw: RawRecipe = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or_else(String::new, |span| {
            let line = text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1;
            format!("line {line}: ")
        });
        RecipeError { origin: origin.to_owned(), problems: vec![format!("{at}{}", error.message())] }
    })?;
    let mut checks = Checks::default();
    match checks.recipe(raw) {
        Some(recipe) if checks.problems.is_empty() => Ok(recipe),
        _ => Err(RecipeError { origin: origin.to_owned(), problems: checks.problems }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecipe {
    name: String,
    about: String,
    site: String,
    base_url: Option<String>,
    #[serde(default)]
    protocol: RawProtocol,
    max_parallel: Option<usize>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    option: BTreeMap<String, RawOption>,
    #[serde(default)]
    require_any: Vec<Vec<String>>,
    #[serde(default)]
    step: Vec<RawStep>,
    result: Option<RawResult>,
    #[serde(default)]
    error: Vec<RawMeaning>,
    #[serde(default)]
    error_message: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawProtocol {
    #[default]
    Steps,
    S3,
    WebDav,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    max_bytes: Option<String>,
    #[serde(default)]
    types: Vec<String>,
    max_pixels: Option<u64>,
    max_width: Option<u32>,
    max_height: Option<u32>,
    animated: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOption {
    doc: String,
    default: Option<toml::Value>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    secret: bool,
    #[serde(default)]
    values: BTreeMap<String, String>,
    range: Option<(i64, i64)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
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
    #[serde(default)]
    extract: BTreeMap<String, OneOrMore>,
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
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResult {
    url: String,
    thumb: Option<String>,
    image: Option<String>,
    delete_url: Option<String>,
    fake: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeaning {
    #[serde(default)]
    status: Vec<u16>,
    text: Option<String>,
    class: RawClass,
    advice: Option<String>,
    wait: Option<String>,
}

/// The classes that an answer can have; the others come from the connection.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawClass {
    Transient,
    RateLimited,
    Account,
    BadResponse,
    File,
}

/// Collects problems while the raw recipe is turned into the checked one.
#[derive(Default)]
struct Checks {
    problems: Vec<String>,
    /// The variables that templates may use so far.
    known: BTreeSet<String>,
}

impl Checks {
    fn problem(&mut self, key: &str, message: impl fmt::Display) {
        self.problems.push(format!("{key}: {message}"));
    }

    fn recipe(&mut self, raw: RawRecipe) -> Option<Recipe> {
        if !is_word(&raw.name) {
            self.problem("name", "must be letters, digits, `-`, `_` or `.`");
        }
        if raw.max_parallel == Some(0) {
            self.problem("max_parallel", "must be at least 1");
        }
        let limits = self.limits(&raw.limits);
        let options = self.options(raw.option);
        for name in raw.require_any.iter().flatten().filter(|name| !options.contains_key(*name)) {
            self.problem("require_any", format!("there is no option `{name}`"));
        }
        self.known.insert("base_url".to_owned());
        self.known.extend(FILE_VARIABLES.iter().map(|name| format!("file.{name}")));
        self.known.extend(options.keys().map(|name| format!("option.{name}")));
        let protocol = match raw.protocol {
            RawProtocol::Steps => Protocol::Steps,
            RawProtocol::S3 => Protocol::S3,
            RawProtocol::WebDav => Protocol::WebDav,
        };
        if protocol != Protocol::Steps {
            let described = !raw.step.is_empty() || raw.result.is_some();
            self.no_steps(described, protocol, &options);
        } else if raw.step.is_empty() || raw.step.len() > STEPS_LIMIT {
            self.problem("step", format!("there must be 1 to {STEPS_LIMIT} [[step]] tables"));
        }
        let steps: Vec<Step> =
            raw.step.into_iter().enumerate().filter_map(|(i, step)| self.step(&format!("step[{i}]"), step)).collect();
        if protocol == Protocol::Steps
            && self.problems.is_empty()
            && steps.iter().filter(|step| step.sends_file()).count() != 1
        {
            self.problem(
                "step",
                "exactly one step must send the file: a `{ name = \"…\", file = true }` field, or body = \"raw\"",
            );
        }
        let result = match raw.result {
            Some(result) => self.result(result),
            None if protocol == Protocol::Steps => {
                self.problem("result", "missing, expected a table [result] with `url`");
                None
            }
            None => Some(ResultSpec::default()),
        };
        let meanings =
            raw.error.into_iter().enumerate().filter_map(|(i, e)| self.meaning(&format!("error[{i}]"), e)).collect();
        let messages = raw.error_message.iter().filter_map(|text| self.extractor("error_message", text)).collect();
        Some(Recipe {
            name: raw.name,
            about: raw.about,
            site: raw.site,
            base_url: raw.base_url,
            sites: Vec::new(),
            protocol,
            max_parallel: raw.max_parallel,
            limits,
            options,
            inline: BTreeMap::new(),
            require_any: raw.require_any,
            steps,
            result: result?,
            meanings,
            messages,
        })
    }

    /// Of a recipe whose requests are code.
    fn no_steps(&mut self, described: bool, protocol: Protocol, options: &BTreeMap<String, OptionSpec>) {
        if described {
            self.problem("protocol", "its requests and links are not described by [[step]] and [result]: remove them");
        }
        for name in protocol.options().iter().filter(|name| !options.contains_key(**name)) {
            self.problem("option", format!("this protocol needs a table [option.{name}]"));
        }
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        let max_bytes = raw.max_bytes.as_ref().and_then(|text| match text.parse::<ByteSize>() {
            Ok(size) => Some(size.as_u64()),
            Err(_) => {
                self.problem("limits.max_bytes", format!("`{text}` is no size; write \"10MB\" or \"8MiB\""));
                None
            }
        });
        let mut kinds = Vec::new();
        for name in &raw.types {
            match ImageKind::ALL.into_iter().find(|kind| kind.name() == name) {
                Some(kind) => kinds.push(kind),
                None => {
                    let known: Vec<&str> = ImageKind::ALL.iter().map(|kind| kind.name()).collect();
                    self.problem("limits.types", format!("`{name}` is unknown; there are {}", known.join(", ")));
                }
            }
        }
        let sides = [("max_width", raw.max_width), ("max_height", raw.max_height)];
        for (key, value) in
            sides.map(|(key, side)| (key, side.map(u64::from))).into_iter().chain([("max_pixels", raw.max_pixels)])
        {
            if value == Some(0) {
                self.problem(&format!("limits.{key}"), "must be at least 1");
            }
        }
        Limits {
            max_bytes,
            kinds,
            max_pixels: raw.max_pixels,
            max_width: raw.max_width,
            max_height: raw.max_height,
            still_only: raw.animated == Some(false),
        }
    }

    fn options(&mut self, raw: BTreeMap<String, RawOption>) -> BTreeMap<String, OptionSpec> {
        let mut options = BTreeMap::new();
        for (name, raw) in raw {
            let key = format!("option.{name}");
            let default = raw.default.and_then(|value| match value {
                toml::Value::String(text) => Some(text),
                toml::Value::Integer(number) => Some(number.to_string()),
                toml::Value::Boolean(flag) => Some(flag.to_string()),
                _ => {
                    self.problem(&key, "the default must be a text, a whole number or true/false");
                    None
                }
            });
            let spec = OptionSpec {
                doc: raw.doc,
                default,
                required: raw.required,
                secret: raw.secret,
                values: raw.values,
                range: raw.range,
            };
            if !is_identifier(&name) {
                self.problem(&key, "an option's name must be letters, digits or `_`");
            }
            if spec.required && spec.default.is_some() {
                self.problem(&key, "a required option has no default");
            }
            if spec.range.is_some_and(|(low, high)| low > high) {
                self.problem(&key, "range must be [lowest, highest]");
            }
            if let Some(default) = &spec.default
                && let Err(error) = spec.wire(default)
            {
                self.problem(&format!("{key}.default"), error);
            }
            options.insert(name, spec);
        }
        options
    }

    fn step(&mut self, key: &str, raw: RawStep) -> Option<Step> {
        let method = match raw.method.as_str() {
            "GET" => Some(reqwest::Method::GET),
            "POST" => Some(reqwest::Method::POST),
            "PUT" => Some(reqwest::Method::PUT),
            other => {
                self.problem(&format!("{key}.method"), format!("`{other}` is not GET, POST or PUT"));
                None
            }
        };
        let url = self.template(&format!("{key}.url"), &raw.url);
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            let key = format!("{key}.headers.{name}");
            // The length and the framing are the engine's.
            let own = ["content-length", "transfer-encoding", "content-type", "host", "connection"];
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
            let texts = match texts {
                OneOrMore::One(text) => vec![text],
                OneOrMore::More(texts) => texts,
            };
            extract.insert(name, texts.iter().filter_map(|text| self.extractor(&key, text)).collect());
        }
        if !is_identifier(&raw.name) || extract.keys().any(|name| !is_identifier(name)) {
            self.problem(key, "names of steps and extracted values must be letters, digits or `_`");
        }
        self.known.extend(extract.keys().map(|name| format!("step.{}.{name}", raw.name)));
        Some(Step {
            name: raw.name,
            method: method?,
            url: url?,
            headers,
            query,
            body: body?,
            redirects: false,
            extract,
        })
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
                (Some(value), false) => fields.extend(self.template(&key, &value).map(|value| (field.name, value))),
                (None, true) if body == RawBody::Multipart => file = Some(field.name),
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

    fn result(&mut self, raw: RawResult) -> Option<ResultSpec> {
        let url = self.template("result.url", &raw.url);
        let mut optional = |key: &str, text: Option<String>| text.and_then(|text| self.template(key, &text));
        let thumb = optional("result.thumb", raw.thumb);
        let image = optional("result.image", raw.image);
        let delete_url = optional("result.delete_url", raw.delete_url);
        let fake = self.regex("result.fake", raw.fake.as_deref());
        Some(ResultSpec { url: url?, thumb, image, delete_url, fake })
    }

    fn meaning(&mut self, key: &str, raw: RawMeaning) -> Option<Meaning> {
        if raw.status.is_empty() && raw.text.is_none() {
            self.problem(key, "give `status = [403, …]`, or a regular expression as `text`, or both");
        }
        let text = self.regex(&format!("{key}.text"), raw.text.as_deref());
        let class = match raw.class {
            RawClass::RateLimited => ErrorClass::RateLimited,
            RawClass::Account => ErrorClass::Account,
            RawClass::Transient | RawClass::BadResponse => ErrorClass::BadResponse,
            RawClass::File => ErrorClass::File,
        };
        let kind = match raw.class {
            RawClass::Transient => FailureKind::Transient,
            _ => FailureKind::of(class),
        };
        let wait_key = format!("{key}.wait");
        let wait = self.regex(&wait_key, raw.wait.as_deref());
        let units = ["days", "hours", "minutes", "seconds"];
        if wait.as_ref().is_some_and(|wait| !wait.capture_names().flatten().any(|name| units.contains(&name))) {
            self.problem(&wait_key, "needs a group named days, hours, minutes or seconds: (?<minutes>\\d+)");
        }
        Some(Meaning { status: raw.status, text, class, kind, advice: raw.advice, wait })
    }

    fn template(&mut self, key: &str, text: &str) -> Option<Template> {
        Template::new(text, &self.known).map_err(|error| self.problem(key, error)).ok()
    }

    fn extractor(&mut self, key: &str, text: &str) -> Option<Extractor> {
        Extractor::new(text).map_err(|error| self.problem(key, error)).ok()
    }

    fn regex(&mut self, key: &str, text: Option<&str>) -> Option<Regex> {
        Regex::new(text?).map_err(|error| self.problem(key, error)).ok()
    }
}

/// A name that can also be a file name.
fn is_word(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A name that can stand in a template: `a-b` would be a subtraction.
fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
