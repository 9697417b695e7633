//! ShareX custom uploaders: a `.sxcu` file becomes a [`Recipe`], and the one engine runs it.
//!
//! ```text
//! text ─▶ file: fields ─▶ era: syntax of today ─▶ syntax: checked texts ─▶ secrets: taken out ─▶ recipe
//! ```
//!
//! Everything is checked when the file is read: functions, patterns, paths, header names. What ShareX finds out during
//! an upload, or never, is a mistake or a note here. A file may be used where it lies, or be imported, which writes it
//! anew in the syntax of today and without its secrets.
//!
//! Three functions are ours and unknown to ShareX: `{secret:NAME}` is an option of `[host.NAME]`, `{base64file}` and
//! `{datauri}` are the image inside of `Data` and `Arguments`.
//!
//! Limits: `{select}`, `{inputbox}` and `{outputbox}` have no window to show; the first two are answered by the
//! configuration. `%i` counts since the start of the process.

mod codes;
mod era;
mod eval;
mod expression;
mod file;
pub mod import;
mod json;
mod jsonpath;
mod neutral;
mod recipe;
mod regexp;
mod secrets;
mod site;
mod syntax;
mod xpath;

use std::collections::BTreeMap;

use reqwest::header::HeaderName;
use secrecy::SecretString;

pub use era::Era;
use file::{Body, Item};
use json::quoted;
use syntax::{Encoding, Findings, Function, Place, Text};

use super::recipe::Recipe;

/// Headers that a file cannot set: they belong to the connection or to the body.
const OUR_HEADERS: [&str; 6] = ["content-length", "host", "connection", "transfer-encoding", "expect", "keep-alive"];

/// A custom uploader, read and checked, its secrets apart.
#[derive(Clone, Debug)]
pub struct Sxcu {
    item: Item,
    texts: Parsed,
    /// When it was written, by its syntax.
    pub era: Era,
    /// What is odd about it and keeps it from nothing.
    pub notes: Vec<String>,
    /// The secrets that stood in it, by the names under which it asks for them now.
    pub secrets: BTreeMap<String, SecretString>,
}

/// The texts of a file, checked.
#[derive(Clone, Debug, Default)]
struct Parsed {
    url: Text,
    parameters: Vec<(String, Text)>,
    headers: Vec<(String, Text)>,
    arguments: Vec<(String, Text)>,
    data: Text,
    link: Text,
    thumbnail: Text,
    deletion: Text,
    error: Text,
}

impl Parsed {
    fn texts(&self) -> Vec<&Text> {
        let pairs = self.parameters.iter().chain(&self.headers).chain(&self.arguments).map(|(_, text)| text);
        pairs.chain([&self.url, &self.data, &self.link, &self.thumbnail, &self.deletion, &self.error]).collect()
    }
}

impl Sxcu {
    /// Reads and checks the text of a `.sxcu` file.
    ///
    /// # Errors
    /// Every mistake, each with its key. Never repeats a value that may be a secret.
    pub fn read(text: &str) -> Result<Self, Vec<String>> {
        let mut notes = Vec::new();
        let mut item = file::read(text, &mut notes)?;
        let era = era::migrate(&mut item, &mut notes);
        user_to_header(&mut item, &mut notes);
        let mut found = Findings::default();
        let body = item.body.unwrap_or(Body::None);
        drop_headers(&mut item, body, &mut found);
        let mut texts = parse(&item, body, &mut found);
        if item.url.trim().is_empty() {
            found.mistakes.push("RequestURL: is empty".to_owned());
        }
        for (key, text) in [("URL", &texts.link), ("ThumbnailURL", &texts.thumbnail), ("DeletionURL", &texts.deletion)]
        {
            check_calls(key, text, &mut found);
        }
        check_calls("ErrorMessage", &texts.error, &mut found);
        for (key, text) in texts.parameters.iter().chain(&texts.headers).chain(&texts.arguments) {
            check_calls(&key.escape_default().to_string(), text, &mut found);
        }
        if !found.mistakes.is_empty() {
            return Err(found.mistakes);
        }
        notes.extend(found.notes);
        let secrets = secrets::separate(&mut texts, body);
        notes.dedup();
        let for_pictures = |word: &&str| matches!(*word, "ImageUploader" | "FileUploader" | "None");
        if !item.destinations.is_empty() && !item.destinations.iter().any(for_pictures) {
            let made_for = item.destinations.join(", ");
            notes.push(format!("DestinationType: made for {made_for}, not for images or files"));
        }
        // What the texts were made of still holds the secrets.
        let item = Item {
            version: item.version,
            name: item.name,
            destinations: item.destinations,
            method: item.method,
            body: item.body,
            file_form_name: item.file_form_name,
            ..Item::default()
        };
        Ok(Self { item, texts, era, notes, secrets })
    }

    /// Its `Name`, or the host it sends to.
    #[must_use]
    pub fn name(&self) -> String {
        if !self.item.name.trim().is_empty() {
            return self.item.name.trim().to_owned();
        }
        let host = site::host_of(&self.texts.url.written(Place::Url));
        host.strip_prefix("www.").unwrap_or(&host).to_owned()
    }

    /// Why it cannot be a host for images; `None` when it can.
    #[must_use]
    pub fn no_host_for_images(&self) -> Option<String> {
        let argument_has_file = self.texts.arguments.iter().any(|(_, text)| text.has_content());
        let method = self.item.method.unwrap_or("POST");
        let body = self.item.body.unwrap_or(Body::None);
        let no_file = match body {
            Body::Multipart if self.item.file_form_name.is_empty() && !argument_has_file => {
                "FileFormName is empty, so nothing says how the image's field is called"
            }
            Body::Multipart | Body::Binary if method == "GET" => "RequestMethod is GET, which carries no image",
            Body::Multipart | Body::Binary => return None,
            Body::Json | Body::Xml if self.texts.data.has_content() => return None,
            Body::Form if argument_has_file => return None,
            Body::Json | Body::Xml => {
                "its Data does not carry the image: write {base64file} or {datauri} where it belongs"
            }
            Body::Form => "its Arguments do not carry the image: write {base64file} or {datauri} where it belongs",
            Body::None => "its request has no body, so it carries no image",
        };
        let made_for = match self.item.destinations.as_slice() {
            [] => String::new(),
            destinations => format!(" (DestinationType {})", destinations.join(", ")),
        };
        Some(format!("Body {}: {no_file}{made_for}", body.word()))
    }

    /// The questions that ShareX would ask in a window: the option that answers each, and the answer it offers.
    #[must_use]
    pub fn questions(&self) -> BTreeMap<String, Option<String>> {
        let mut questions = BTreeMap::new();
        for call in self.texts.texts().into_iter().flat_map(Text::calls) {
            let Some(name) = call.option_name() else { continue };
            let offered = match call.function {
                Function::Select => call.params.iter().filter_map(Text::as_literal).find(|option| !option.is_empty()),
                _ => call.params.get(1).and_then(Text::as_literal),
            };
            questions.entry(name).or_insert(offered);
        }
        // What ShareX knows by itself is told to nobody unless the configuration says it.
        for code in self.texts.texts().into_iter().flat_map(Text::codes) {
            if let Some(name) = code.option_name() {
                questions.insert(name, Some(String::new()));
            }
        }
        questions
    }

    /// The names of the secrets that it asks the configuration for.
    #[must_use]
    pub fn asked_secrets(&self) -> Vec<String> {
        let mut names: Vec<String> = self.texts.texts().into_iter().flat_map(secrets::names).collect();
        names.sort();
        names.dedup();
        names
    }

    /// As a recipe called `name`. `answers` are the options that are set, as far as they decide where the file goes.
    ///
    /// # Errors
    /// Why it cannot be a host for images.
    pub fn recipe(&self, name: &str, answers: &BTreeMap<String, String>) -> Result<Recipe, Vec<String>> {
        recipe::recipe(self, name, answers)
    }

    /// The file anew: in the syntax of today, `{secret:NAME}` where secrets were.
    #[must_use]
    pub fn written(&self) -> String {
        let item = &self.item;
        let mut fields: Vec<(&str, String)> = vec![("Version", quoted("17.0.0"))];
        let mut text = |key, value: &str| {
            if !value.is_empty() {
                fields.push((key, quoted(value)));
            }
        };
        text("Name", &item.name);
        text("DestinationType", &item.destinations.join(", "));
        text("RequestMethod", item.method.unwrap_or("POST"));
        text("RequestURL", &self.texts.url.written(Place::Url));
        pairs("Parameters", &self.texts.parameters, Place::Request, &mut fields);
        pairs("Headers", &self.texts.headers, Place::Request, &mut fields);
        fields.push(("Body", quoted(item.body.unwrap_or(Body::None).word())));
        pairs("Arguments", &self.texts.arguments, Place::Argument, &mut fields);
        let mut text = |key, value: &str| {
            if !value.is_empty() {
                fields.push((key, quoted(value)));
            }
        };
        text("FileFormName", &item.file_form_name);
        text("Data", &syntax::written_data(&self.texts.data));
        text("URL", &self.texts.link.written(Place::Response));
        text("ThumbnailURL", &self.texts.thumbnail.written(Place::Response));
        text("DeletionURL", &self.texts.deletion.written(Place::Response));
        text("ErrorMessage", &self.texts.error.written(Place::Response));
        let lines: Vec<String> = fields.iter().map(|(key, value)| format!("  {}: {value}", quoted(key))).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}

fn pairs(key: &'static str, pairs: &[(String, Text)], place: Place, fields: &mut Vec<(&'static str, String)>) {
    if pairs.is_empty() {
        return;
    }
    let lines = pairs.iter().map(|(name, text)| format!("    {}: {}", quoted(name), quoted(&text.written(place))));
    fields.push((key, format!("{{\n{}\n  }}", lines.collect::<Vec<_>>().join(",\n"))));
}

fn parse(item: &Item, body: Body, found: &mut Findings) -> Parsed {
    let encoding = match body {
        Body::Json => Some(Encoding::Json),
        Body::Xml => Some(Encoding::Xml),
        Body::None | Body::Multipart | Body::Form | Body::Binary => None,
    };
    let mut values = |group: &str, pairs: &[(String, String)], place| {
        let key = |name: &String| format!("{group}.{}", name.escape_default());
        let parsed = pairs.iter().map(|(name, value)| (name.clone(), syntax::parse(&key(name), value, place, found)));
        parsed.collect::<Vec<_>>()
    };
    Parsed {
        parameters: values("Parameters", &item.parameters, Place::Request),
        headers: values("Headers", &item.headers, Place::Request),
        arguments: values("Arguments", &item.arguments, Place::Argument),
        url: syntax::parse("RequestURL", item.url.trim(), Place::Url, found),
        data: syntax::parse_data(&item.data, encoding, found),
        link: syntax::parse("URL", &item.link, Place::Response, found),
        thumbnail: syntax::parse("ThumbnailURL", &item.thumbnail, Place::Response, found),
        deletion: syntax::parse("DeletionURL", &item.deletion, Place::Response, found),
        error: syntax::parse("ErrorMessage", &item.error, Place::Response, found),
    }
}

/// Compiles the patterns and paths of `text` that do not depend on an answer.
fn check_calls(key: &str, text: &Text, found: &mut Findings) {
    for call in text.calls() {
        let literal = |i: usize| call.params.get(i).and_then(Text::as_literal);
        let last = call.params.len().saturating_sub(1);
        let checked = match call.function {
            Function::Json => {
                literal(last.min(1)).filter(|path| !path.is_empty()).map(|path| jsonpath::compile(&path).err())
            }
            Function::Xml => literal(last.min(1)).map(|path| xpath::XPath::compile(&path).err()),
            Function::Regex => literal(usize::from(last >= 2)).map(|pattern| regexp::compile(&pattern).err()),
            Function::Header => literal(0).map(|name| {
                let valid = name.trim().parse::<HeaderName>().is_ok();
                (!valid).then(|| "that is no name of a header".to_owned())
            }),
            _ => None,
        };
        found.mistakes.extend(checked.flatten().map(|mistake| format!("{key}: {mistake}")));
    }
}

/// `https://user:password@host/`: sent as a header, because addresses end up in logs.
fn user_to_header(item: &mut Item, notes: &mut Vec<String>) {
    let Some((scheme, rest)) = item.url.split_once("://") else { return };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let Some((user, _)) = authority.rsplit_once('@') else { return };
    let header = format!("Basic {{base64:{}}}", percent_encoding::percent_decode_str(user).decode_utf8_lossy());
    let url = format!("{scheme}://{}", &rest[user.len() + 1..]);
    if !item.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        item.headers.push(("Authorization".to_owned(), header));
    }
    notes.push("RequestURL: its user and password are sent as an Authorization header".to_owned());
    item.url = url;
}

/// Leaves out the headers that only the engine can set, and refuses those that none can be called.
fn drop_headers(item: &mut Item, body: Body, found: &mut Findings) {
    item.headers.retain(|(name, _)| {
        let lower = name.trim().to_lowercase();
        let shown = name.escape_default();
        if name.trim().parse::<HeaderName>().is_err() {
            found.mistakes.push(format!("Headers.{shown}: that is no name of a header"));
            return false;
        }
        if lower == "content-type" && body == Body::Multipart {
            found.notes.push(format!("Headers.{shown}: ignored, it would replace the boundary of the multipart body"));
            return false;
        }
        let ours = OUR_HEADERS.contains(&lower.as_str());
        if ours {
            found.notes.push(format!("Headers.{shown}: ignored, the connection sets it"));
        }
        !ours
    });
    for (name, _) in &mut item.headers {
        *name = name.trim().to_owned();
    }
}

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
