//! TOML → [`Recipe`]: every mistake at once, each with the file and the key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytesize::ByteSize;
use regex::Regex;
use serde::Deserialize;

use super::sections::{RawAccount, RawDelete, RawGallery, RawSession};
use super::steps::{OneOrMore, RawStep};
use super::template::FILE_VARIABLES;
use super::{Extractor, Meaning, OptionSpec, Protocol, Random, Recipe, ResultSpec, Step, Template};
use crate::config::problem::one_line;
use crate::host::Limits;
use crate::job::{ErrorClass, FailureKind, ImageKind};

/// Requests of one recipe: the longest known protocol (login, page, upload, follow-up, result) needs five.
pub(super) const STEPS_LIMIT: usize = 16;

/// The variables of `gallery`.
pub(super) const GALLERY_VARIABLES: [&str; 4] = ["id", "secret", "url", "name"];

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
        let message: Vec<String> = error.message().lines().map(one_line).collect();
        RecipeError { origin: origin.to_owned(), problems: vec![format!("{at}{}", message.join(", "))] }
    })?;
    let mut checks = Checks::default();
    match checks.recipe(raw) {
        Some(recipe) if checks.problems.is_empty() => Ok(recipe),
        _ => {
            // They repeat names of the file, which anybody may have written.
            let problems = checks.problems.iter().map(|problem| one_line(problem)).collect();
            Err(RecipeError { origin: origin.to_owned(), problems })
        }
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
    sites: BTreeMap<String, String>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    random: BTreeMap<String, String>,
    cookies: Option<String>,
    session: Option<RawSession>,
    #[serde(default)]
    step: Vec<RawStep>,
    result: Option<RawResult>,
    gallery: Option<RawGallery>,
    delete: Option<RawDelete>,
    account: Option<RawAccount>,
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
struct RawResult {
    url: OneOrMore,
    thumb: Option<OneOrMore>,
    image: Option<OneOrMore>,
    delete_url: Option<String>,
    delete_token: Option<String>,
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
pub(super) struct Checks {
    pub(super) problems: Vec<String>,
    /// The variables that templates may use so far.
    pub(super) known: BTreeSet<String>,
}

impl Checks {
    pub(super) fn problem(&mut self, key: &str, message: impl fmt::Display) {
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
        let random = self.random(raw.random);
        let hosts = self.hosts(raw.hosts);
        self.known.insert("base_url".to_owned());
        self.known.extend(raw.sites.keys().map(|name| format!("site.{name}")));
        self.known.extend(options.keys().map(|name| format!("option.{name}")));
        self.known.extend(random.keys().map(|name| format!("random.{name}")));
        let session = raw.session.and_then(|session| self.session(session, &options));
        if let Some(session) = &session {
            let values = session.steps.iter().flat_map(|step| step.extract.keys().map(|name| (&step.name, name)));
            self.known.extend(values.map(|(step, name)| format!("session.{step}.{name}")));
        }
        let shared = self.known.clone();
        self.known.extend(FILE_VARIABLES.iter().map(|name| format!("file.{name}")));
        self.known.extend(GALLERY_VARIABLES.iter().map(|name| format!("gallery.{name}")));
        let cookies = raw.cookies.and_then(|text| self.template("cookies", &text));
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
        let steps = self.steps("step", raw.step, session.is_some());
        let carriers: Vec<&Step> = steps.iter().filter(|step| step.sends_file()).collect();
        let alternatives = carriers.len() > 1 && carriers.iter().filter(|step| step.when.is_none()).count() <= 1;
        let one = carriers.len() == 1 || alternatives;
        if protocol == Protocol::Steps && self.problems.is_empty() && !one {
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
        let gallery = raw.gallery.and_then(|gallery| {
            self.known.clone_from(&shared);
            self.gallery(gallery, &options, session.is_some())
        });
        let delete = raw.delete.and_then(|delete| {
            self.known.clone_from(&shared);
            self.delete(delete, &options, session.is_some())
        });
        let account = raw.account.map(|account| {
            self.known.clone_from(&shared);
            self.account(account, session.is_some())
        });
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
            addresses: raw.sites,
            hosts,
            random,
            cookies,
            session,
            steps,
            result: result?,
            gallery,
            delete,
            account,
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

    fn result(&mut self, raw: RawResult) -> Option<ResultSpec> {
        let url = self.templates("result.url", Some(raw.url));
        let thumb = self.templates("result.thumb", raw.thumb);
        let image = self.templates("result.image", raw.image);
        let delete_url = raw.delete_url.and_then(|text| self.template("result.delete_url", &text));
        let delete_token = raw.delete_token.and_then(|text| self.template("result.delete_token", &text));
        let fake = self.regex("result.fake", raw.fake.as_deref());
        (!url.is_empty()).then_some(ResultSpec { url, thumb, image, delete_url, delete_token, fake })
    }

    /// `{ id = "digits:12" }`
    fn random(&mut self, raw: BTreeMap<String, String>) -> BTreeMap<String, Random> {
        let mut random = BTreeMap::new();
        for (name, text) in raw {
            let key = format!("random.{name}");
            if !is_identifier(&name) {
                self.problem(&key, "a name must be letters, digits or `_`");
            }
            match Random::new(&text) {
                Some(kind) => drop(random.insert(name, kind)),
                None => self.problem(&key, format!("`{text}` is not digits:N, lower:N or alnum:N with N from 1 to 64")),
            }
        }
        random
    }

    /// Names of hosts, `*.` for all below.
    fn hosts(&mut self, raw: Vec<String>) -> Vec<String> {
        for name in &raw {
            let bare = name.strip_prefix("*.").unwrap_or(name);
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            if !bare.contains('.') || !bare.chars().all(known) {
                self.problem(
                    "hosts",
                    format!("`{name}` is no name of a host such as \"up.example.org\" or \"*.example.org\""),
                );
            }
        }
        raw.iter().map(|name| name.to_ascii_lowercase()).collect()
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

    pub(super) fn template(&mut self, key: &str, text: &str) -> Option<Template> {
        Template::new(text, &self.known).map_err(|error| self.problem(key, error)).ok()
    }

    pub(super) fn templates(&mut self, key: &str, texts: Option<OneOrMore>) -> Vec<Template> {
        let texts = texts.map_or_else(Vec::new, OneOrMore::all);
        texts.iter().filter_map(|text| self.template(key, text)).collect()
    }

    pub(super) fn extractor(&mut self, key: &str, text: &str) -> Option<Extractor> {
        Extractor::new(text).map_err(|error| self.problem(key, error)).ok()
    }

    pub(super) fn regex(&mut self, key: &str, text: Option<&str>) -> Option<Regex> {
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
pub(super) fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
