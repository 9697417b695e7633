//! Recipes: what a host's protocol is, as data.
//!
//! A [`Recipe`] is read from TOML once, checked completely, and never fails in a new way afterwards: templates parse and
//! name only values that exist, extractors are compiled, limits are numbers. A recipe is untrusted input: its templates
//! are single expressions (no loops, no assignments), its regular expressions run in linear time, and the engine sends
//! nothing outside the site of `base_url`.
//!
//! Limits: one file per run of the steps; no logins, sessions or polling yet.

mod draw;
pub mod extract;
pub mod library;
mod load;
pub mod template;

use std::collections::BTreeMap;

use regex::Regex;
use secrecy::SecretString;

use crate::host::Limits;
use crate::job::{ErrorClass, FailureKind};
pub use draw::Draw;
pub use extract::{Answer, Extractor};
pub use library::{Listed, Origin};
pub use load::{RecipeError, parse};
pub use template::Template;

/// The declarative description of a host's protocol.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What `recipe = "NAME"` refers to.
    pub name: String,
    /// One line for `host list`.
    pub about: String,
    /// The site's front page.
    pub site: String,
    /// Where requests go unless the user says otherwise; `None` for software that anybody can install.
    pub base_url: Option<String>,
    /// Other sites that requests may go to, as origins (`https://u2.example`).
    pub sites: Vec<String>,
    /// How many uploads at once the site bears.
    pub max_parallel: Option<usize>,
    /// What it takes.
    pub limits: Limits,
    /// What the user can set, by name.
    pub options: BTreeMap<String, OptionSpec>,
    /// The secrets that stood in the recipe's own file, by the option that replaces each.
    pub inline: BTreeMap<String, SecretString>,
    /// Of each group at least one option must be set.
    pub require_any: Vec<Vec<String>>,
    /// Who sends the requests.
    pub protocol: Protocol,
    /// The requests, in order. Exactly one sends the file; none if the protocol is code.
    pub steps: Vec<Step>,
    /// How the links are made of what the steps extracted.
    pub result: ResultSpec,
    /// What answers without a usable link mean where the status does not say it; the first that applies counts. They
    /// never turn an answer with a link into a failure: the answer may repeat a title or file name.
    pub meanings: Vec<Meaning>,
    /// Where the site puts the text of an error, besides the usual places.
    pub messages: Vec<Extractor>,
}

/// Whose requests a recipe describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Its own: they are in the steps.
    #[default]
    Steps,
    /// Those of an S3 object store; the recipe has the options and the meanings of errors.
    S3,
    /// Those of WebDAV.
    WebDav,
}

impl Protocol {
    /// The options that its code asks for.
    pub(in crate::host) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Steps => &[],
            Self::S3 => &[
                "endpoint",
                "bucket",
                "region",
                "access_key",
                "secret_key",
                "session_token",
                "path_style",
                "key",
                "public_url",
                "acl",
                "cache_control",
                "storage_class",
            ],
            Self::WebDav => &["user", "password", "key", "public_url"],
        }
    }
}

/// An option of a recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionSpec {
    /// One line.
    pub doc: String,
    /// The value if the user sets none, in the user's words.
    pub default: Option<String>,
    /// The user must set it.
    pub required: bool,
    /// Never shown.
    pub secret: bool,
    /// The accepted words and what each is on the wire; empty when anything goes.
    pub values: BTreeMap<String, String>,
    /// The accepted whole numbers, both ends included.
    pub range: Option<(i64, i64)>,
}

/// One request and what is kept of its answer.
#[derive(Clone, Debug)]
pub struct Step {
    /// What later templates call it: `{{ step.NAME.VALUE }}`.
    pub name: String,
    /// The request method.
    pub method: reqwest::Method,
    /// Where it goes: on the site of `base_url`.
    pub url: Template,
    /// Request headers; those that come out empty are left out.
    pub headers: Vec<(String, Template)>,
    /// Query parameters added to the URL; those that come out empty are left out.
    pub query: Vec<(String, Template)>,
    /// The body.
    pub body: BodySpec,
    /// Whether redirects are followed: a host that answers with the page of the image.
    pub redirects: bool,
    /// Named values of the answer: the first extractor that finds something counts.
    pub extract: BTreeMap<String, Vec<Extractor>>,
}

impl Step {
    /// Whether this is the request that carries the file.
    #[must_use]
    pub fn sends_file(&self) -> bool {
        matches!(self.body, BodySpec::Multipart { file: Some(_), .. } | BodySpec::Raw) || self.has_content()
    }

    /// Whether the file goes out inside of a text, as base64.
    #[must_use]
    pub fn has_content(&self) -> bool {
        match &self.body {
            BodySpec::Multipart { fields, .. } | BodySpec::Form(fields) | BodySpec::Json(fields) => {
                fields.iter().any(|(_, value)| value.has_content())
            }
            BodySpec::Text { text, .. } => text.has_content(),
            BodySpec::None | BodySpec::Raw => false,
        }
    }

    /// Whether its answer is useless unless it is JSON.
    #[must_use]
    pub fn expects_json(&self) -> bool {
        self.extract.values().flatten().any(Extractor::reads_json)
    }
}

/// What a request carries. Text fields that come out empty are left out.
#[derive(Clone, Debug)]
pub enum BodySpec {
    /// Nothing.
    None,
    /// `multipart/form-data`: the text fields in order, the file last (some sites read in order).
    Multipart {
        /// Name and value of each text field.
        fields: Vec<(String, Template)>,
        /// The name of the file's field.
        file: Option<String>,
    },
    /// `application/x-www-form-urlencoded`
    Form(Vec<(String, Template)>),
    /// A JSON object of strings.
    Json(Vec<(String, Template)>),
    /// A text that is sent as it is rendered.
    Text {
        /// Its `Content-Type`.
        content_type: &'static str,
        /// The text.
        text: Template,
    },
    /// The file as it is.
    Raw,
}

/// Templates of the links. All but `url` may come out empty.
#[derive(Clone, Debug, Default)]
pub struct ResultSpec {
    /// The page to link to.
    pub url: Template,
    /// What to show in its place.
    pub thumb: Option<Template>,
    /// The image file itself.
    pub image: Option<Template>,
    /// Opening it deletes the image.
    pub delete_url: Option<Template>,
    /// A `url` or `thumb` that matches this was never stored, whatever the status says.
    pub fake: Option<Regex>,
}

/// What certain answers mean.
#[derive(Clone, Debug)]
pub struct Meaning {
    /// The statuses it applies to; empty for all.
    pub status: Vec<u16>,
    /// What the body must contain.
    pub text: Option<Regex>,
    /// The class of the failure.
    pub class: ErrorClass,
    /// What follows from it.
    pub kind: FailureKind,
    /// What to do about it.
    pub advice: Option<String>,
    /// How the body says how long to stay away: its groups `days`, `hours`, `minutes`, `seconds`.
    pub wait: Option<Regex>,
}

impl Meaning {
    /// Whether an answer with this status and body is meant.
    #[must_use]
    pub fn applies(&self, status: u16, body: &str) -> bool {
        (self.status.is_empty() || self.status.contains(&status))
            && self.text.as_ref().is_none_or(|text| text.is_match(body))
    }
}
