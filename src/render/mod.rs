//! Texts with links in them: the built-in formats and the user's templates, for one image or a whole list.
//!
//! [`Formats`] is everything that can be rendered. A template is [minijinja](https://docs.rs/minijinja) with an undefined
//! variable as an error, a bound on what it may cost, and no access to anything but its list ([`view`]); what it prints is
//! [escaped](escape) for the language that it is written in. Built-in formats are templates too, in their text; they
//! are carried out by code, so that a list of a hundred thousand images needs no engine and little memory.

pub mod convert;
pub mod escape;
pub mod links;
pub mod order;
mod template;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::clock::WallTime;
use crate::config::problem::nearest;
use crate::config::{Config, Escape, FORMATS, Problem, TemplateText};
use crate::record::Record;
use escape::{escaped, web_address};
pub use template::RenderError;
use template::Template;
use view::base_name;
pub use view::{Album, List};

/// The longest template: far above any that people write.
const MAX_TEMPLATE: u64 = 256 << 10;

/// A name that commands take for the format `urls` of one image.
const URL: &str = "url";

/// The record itself, as one line of JSON.
const JSON: &str = "json";

/// Everything that can be rendered, by name.
#[derive(Clone, Debug)]
pub struct Formats {
    templates: BTreeMap<String, Arc<Template>>,
}

/// A name that is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no format \"{name}\", expected {known}{}", near.as_ref().map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default())]
pub struct UnknownFormat {
    name: String,
    known: String,
    near: Option<String>,
}

/// One of [`Formats`].
#[derive(Clone, Debug)]
pub struct Format(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Builtin(Builtin),
    Json,
    Template(Arc<Template>),
}

#[derive(Clone, Copy, Debug)]
enum Builtin {
    Bbcode,
    Markdown,
    Html,
    Urls,
}

impl Formats {
    /// The built-in ones.
    #[must_use]
    pub fn builtin() -> Self {
        Self { templates: BTreeMap::new() }
    }

    /// The built-in ones and the configuration's. Reads the files of templates.
    ///
    /// # Errors
    /// Everything that is wrong with a template, at its place in the configuration.
    pub fn from_config(config: &Config) -> Result<Self, Vec<Problem>> {
        let (mut templates, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, table) in &config.templates {
            match Template::load(table) {
                Ok(template) => {
                    templates.insert(name.clone(), Arc::new(template));
                }
                Err(mistake) => {
                    let key = match &table.text {
                        TemplateText::Inline(_) => format!("template.{name}.text"),
                        TemplateText::File(_) => format!("template.{name}.file"),
                    };
                    let (span, message, help) = (table.span.clone(), mistake.message, mistake.help);
                    problems.push(Problem { span, key, message, help });
                }
            }
        }
        if problems.is_empty() { Ok(Self { templates }) } else { Err(problems) }
    }

    /// Every name that a folder may render, the built-in ones first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        FORMATS.into_iter().chain(self.templates.keys().map(String::as_str))
    }

    /// The format of this name. Besides [`Formats::names`] there are `url`, which is `urls`, and `json`, the record.
    ///
    /// # Errors
    /// With what there is, and what was probably meant.
    pub fn find(&self, name: &str) -> Result<Format, UnknownFormat> {
        let kind = match name {
            "bbcode" => Kind::Builtin(Builtin::Bbcode),
            "markdown" => Kind::Builtin(Builtin::Markdown),
            "html" => Kind::Builtin(Builtin::Html),
            "urls" | URL => Kind::Builtin(Builtin::Urls),
            JSON => Kind::Json,
            _ => match self.templates.get(name) {
                Some(template) => Kind::Template(Arc::clone(template)),
                None => return Err(self.unknown(name)),
            },
        };
        Ok(Format(kind))
    }

    fn unknown(&self, name: &str) -> UnknownFormat {
        let known = || self.names().chain([URL, JSON]);
        let near = nearest(name, known()).map(ToOwned::to_owned);
        let list = known().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let name = name.chars().filter(|c| !c.is_control()).take(60).collect();
        UnknownFormat { name, known: list, near }
    }

    /// The text of one record in this format, as `put --format` and `tail --format` print it: lines, or nothing for a
    /// record without a link. `now` is the `now` of templates.
    ///
    /// # Errors
    /// [`OneError`]
    pub fn one(&self, name: &str, record: &Record, now: WallTime) -> Result<String, OneError> {
        Ok(self.find(name)?.one(record, now)?)
    }
}

/// Why one record could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum OneError {
    /// The format does not exist.
    #[error(transparent)]
    Unknown(#[from] UnknownFormat),
    /// The template failed.
    #[error(transparent)]
    Render(#[from] RenderError),
}

impl Format {
    /// The text of one record: lines, or nothing for a record without a link.
    ///
    /// # Errors
    /// When a template fails on it.
    pub fn one(&self, record: &Record, now: WallTime) -> Result<String, RenderError> {
        match &self.0 {
            Kind::Json => Ok(record.line()),
            _ if web_address(record.url.as_deref().unwrap_or_default()).is_none() => Ok(String::new()),
            Kind::Builtin(builtin) => Ok(builtin.line(record)),
            Kind::Template(template) => template.render(&List::one(record, now)),
        }
    }

    /// The text of a whole list; empty, or ending with a line feed.
    ///
    /// # Errors
    /// When a template fails on it.
    pub fn list(&self, list: &List) -> Result<String, RenderError> {
        match &self.0 {
            Kind::Json => Ok(list.files.iter().map(|record| record.line()).collect()),
            Kind::Builtin(builtin) => Ok(list.files.iter().map(|record| builtin.line(record)).collect()),
            Kind::Template(template) => template.render(list),
        }
    }

    /// The line of one record in a text that is nothing but such lines; `None` if the format needs the whole list.
    #[must_use]
    pub fn line(&self, record: &Record) -> Option<String> {
        match &self.0 {
            Kind::Builtin(builtin) => Some(builtin.line(record)),
            Kind::Json => Some(record.line()),
            Kind::Template(_) => None,
        }
    }

    /// Whether a list is nothing but the [lines](Format::line) of its records.
    #[must_use]
    pub fn is_lines(&self) -> bool {
        !matches!(self.0, Kind::Template(_))
    }

    /// The template, as `pixchute template show` prints it; `None` for `json`.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        match &self.0 {
            Kind::Builtin(builtin) => Some(builtin.source()),
            Kind::Template(template) => Some(template.source()),
            Kind::Json => None,
        }
    }

    /// How it escapes values.
    #[must_use]
    pub fn escape(&self) -> Escape {
        match &self.0 {
            Kind::Builtin(builtin) => builtin.escape(),
            Kind::Template(template) => template.escape(),
            Kind::Json => Escape::None,
        }
    }
}

impl Builtin {
    /// The line of one record with a link; nothing without one.
    fn line(self, record: &Record) -> String {
        let address = |text: &Option<String>| {
            let address = text.as_deref().and_then(web_address);
            address.map(|address| escaped(self.escape(), &address))
        };
        let Some(url) = address(&record.url) else { return String::new() };
        let name = || escaped(self.escape(), base_name(record));
        match (self, address(&record.thumb)) {
            (Self::Bbcode, Some(thumb)) => format!("[url={url}][img]{thumb}[/img][/url]\n"),
            (Self::Bbcode, None) => match address(&record.image) {
                Some(image) => format!("[img]{image}[/img]\n"),
                None => format!("[url]{url}[/url]\n"),
            },
            (Self::Markdown, Some(thumb)) => format!("[![{}]({thumb})]({url})\n", name()),
            (Self::Markdown, None) => format!("[{}]({url})\n", name()),
            (Self::Html, Some(thumb)) => format!("<a href=\"{url}\"><img src=\"{thumb}\" alt=\"{}\"></a>\n", name()),
            (Self::Html, None) => format!("<a href=\"{url}\">{}</a>\n", name()),
            (Self::Urls, _) => format!("{url}\n"),
        }
    }

    fn escape(self) -> Escape {
        match self {
            Self::Bbcode => Escape::Bbcode,
            Self::Markdown => Escape::Markdown,
            Self::Html => Escape::Html,
            Self::Urls => Escape::None,
        }
    }

    /// The same as a template: a test compares them.
    fn source(self) -> &'static str {
        match self {
            Self::Bbcode => include_str!("builtin/bbcode.jinja"),
            Self::Markdown => include_str!("builtin/markdown.jinja"),
            Self::Html => include_str!("builtin/html.jinja"),
            Self::Urls => include_str!("builtin/urls.jinja"),
        }
    }
}

/// The text of a template's file.
fn read(path: &Path) -> io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_TEMPLATE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEMPLATE {
        return Err(io::Error::other(format!("it is larger than {} KiB", MAX_TEMPLATE >> 10)));
    }
    Ok(text)
}
