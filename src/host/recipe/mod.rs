//! Recipes: what a host's protocol is, as data.
//!
//! A [`Recipe`] is read from TOML once, checked completely, and never fails in a new way afterwards: templates parse and
//! name only values that exist, extractors are compiled, limits are numbers. A recipe is untrusted input: its templates
//! are single expressions (no loops, no assignments), its regular expressions run in linear time, and the engine sends
//! nothing outside the site of `base_url`.
//!
//! A recipe may also describe a session (a login, tokens, cookies) that all uploads of an account share, how galleries
//! are made and finished, and how an image is deleted. Steps of all of them are the same kind of [`Step`].

mod draw;
pub mod extract;
mod form;
pub mod library;
mod load;
mod pick;
mod plain;
mod random;
mod sections;
mod steps;
pub mod template;
mod test;

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use scraper::Selector;
use secrecy::SecretString;

use crate::host::Limits;
use crate::job::{ErrorClass, FailureKind};
pub use draw::Draw;
pub use extract::{Answer, Extractor};
pub use library::{Listed, Origin};
pub use load::{RecipeError, parse};
pub use random::Random;
pub use template::Template;
pub use test::Test;

/// The declarative description of a host's protocol.
#[derive(Clone, Debug, Default)]
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
    /// Other addresses of the site by name: `{{ site.NAME }}`. The option `NAME_url` sets one; if only `base_url` is set,
    /// they are all there.
    pub addresses: BTreeMap<String, String>,
    /// Hosts that the site may send us to for an upload, `*.` for all below; only by https.
    pub hosts: Vec<String>,
    /// Values made up for each run: `{{ random.NAME }}`.
    pub random: BTreeMap<String, Random>,
    /// Uploads for which this comes out the same share their cookies; empty, each has its own. Not those of a session.
    pub cookies: Option<Template>,
    /// What uploads share.
    pub session: Option<SessionSpec>,
    /// Who sends the requests.
    pub protocol: Protocol,
    /// The requests, in order. Exactly one of those that are run sends the file; none if the protocol is code.
    pub steps: Vec<Step>,
    /// How the links are made of what the steps extracted.
    pub result: ResultSpec,
    /// Its galleries.
    pub gallery: Option<GallerySpec>,
    /// How an image is deleted.
    pub delete: Option<DeleteSpec>,
    /// Requests that change nothing and fail if the account is not taken.
    pub account: Option<Vec<Step>>,
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

/// What all uploads of one account share: run once, and again when the site no longer takes it.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// The options that say whose it is.
    pub account: Vec<String>,
    /// Login and preparation. An answer that they do not expect means that the account was refused.
    pub steps: Vec<Step>,
    /// Answers that mean it is over.
    pub expired: Vec<Test>,
    /// After this it is made anew in any case.
    pub max_age: Option<Duration>,
}

/// How galleries are made.
#[derive(Clone, Debug)]
pub struct GallerySpec {
    /// Options that must be set.
    pub needs: Vec<String>,
    /// Characters of the shortest name.
    pub name_min: usize,
    /// Characters of the longest name.
    pub name_max: usize,
    /// Characters that a name must not have.
    pub unfit: Option<Regex>,
    /// Before the first image.
    pub create: Vec<Step>,
    /// What came of it.
    pub created: GalleryParts,
    /// After the last image.
    pub finish: Vec<Step>,
    /// What is known better then.
    pub finished: GalleryParts,
}

/// Templates of a gallery: of each the first that comes out with something.
#[derive(Clone, Debug, Default)]
pub struct GalleryParts {
    /// Its id.
    pub id: Vec<Template>,
    /// What uploads into it need.
    pub secret: Vec<Template>,
    /// Its page.
    pub url: Vec<Template>,
}

/// How an image is deleted.
#[derive(Clone, Debug)]
pub struct DeleteSpec {
    /// Options that must be set.
    pub needs: Vec<String>,
    /// The requests.
    pub steps: Vec<Step>,
}

/// One request and what is kept of its answer.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// What later templates call it: `{{ step.NAME.VALUE }}`. Alternatives have the same name.
    pub name: String,
    /// The request method.
    pub method: reqwest::Method,
    /// Where it goes: on the site of `base_url`, of `sites` or of `hosts`.
    pub url: Template,
    /// Request headers; those that come out empty are left out.
    pub headers: Vec<(String, Template)>,
    /// Query parameters added to the URL; those that come out empty are left out.
    pub query: Vec<(String, Template)>,
    /// The body.
    pub body: BodySpec,
    /// The step whose form is sent back before the fields of this one, which replace those of the same name.
    pub fields_of: Option<String>,
    /// Whether redirects are followed, even to other sites, which are asked with nothing but a GET: a host that answers
    /// with the page of the image.
    pub redirects: bool,
    /// Named values of the answer: the first extractor that finds something counts.
    pub extract: BTreeMap<String, Vec<Extractor>>,
    /// Where the form is that `fields_of` means: the first that has fields.
    pub form: Vec<Selector>,
    /// Run only if this comes out with something.
    pub when: Option<Template>,
    /// Whether it belongs to the session: has its cookies, and its answer may say that the session is over.
    pub session: bool,
    /// Whether redirects are followed, within the sites of the recipe.
    pub follow: bool,
    /// Statuses besides 2xx that are a success.
    pub accept: Vec<u16>,
    /// One of these must hold, if there are any. One that names the status of the answer makes it a success.
    pub expect: Vec<Test>,
    /// None of these may hold.
    pub refuse: Vec<Test>,
    /// Extracted values without which the answer is not ready.
    pub require: Vec<String>,
    /// Extracted values that are secrets.
    pub secret: Vec<String>,
    /// Asked again after each of these pauses until the answer is ready, instead of as often as `[retry]` says.
    pub poll: Vec<Duration>,
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
                fields.iter().any(|field| field.value.has_content())
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

/// A text field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Template,
    /// Sent even if it is empty.
    pub empty: bool,
}

impl From<(String, Template)> for Field {
    fn from((name, value): (String, Template)) -> Self {
        Self { name, value, empty: false }
    }
}

/// The field of the file.
#[derive(Clone, Debug)]
pub struct FileField {
    /// Its name.
    pub name: String,
    /// The file's name for this site, if it is not simply its name.
    pub file_name: Option<Template>,
}

/// What a request carries. Text fields that come out empty are left out.
#[derive(Clone, Debug, Default)]
pub enum BodySpec {
    /// Nothing.
    #[default]
    None,
    /// `multipart/form-data`: the text fields in order, the file last (some sites read in order).
    Multipart {
        /// The text fields.
        fields: Vec<Field>,
        /// The file's field.
        file: Option<FileField>,
    },
    /// `application/x-www-form-urlencoded`
    Form(Vec<Field>),
    /// A JSON object of strings.
    Json(Vec<Field>),
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

/// Templates of the links: of each the first that comes out with something. All but `url` may come out empty.
#[derive(Clone, Debug, Default)]
pub struct ResultSpec {
    /// The page to link to.
    pub url: Vec<Template>,
    /// What to show in its place.
    pub thumb: Vec<Template>,
    /// The image file itself.
    pub image: Vec<Template>,
    /// Opening it deletes the image.
    pub delete_url: Option<Template>,
    /// What the steps of `delete` need.
    pub delete_token: Option<Template>,
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
