//! A template of the user's: checked when it is read, bounded when it is rendered.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use super::escape::escaped;
use super::view::{ALBUM, FILE, FOLDER, TOTALS};
use super::{Album, List, read};
use crate::clock::WallTime;
use crate::config::problem::nearest;
use crate::config::{self, Escape, TemplateText};
use crate::job::JobId;
use crate::record::{Record, Status};

/// What every rendering may cost at least: instructions, and 64 bytes each of values and text.
const FUEL: u64 = 1_000_000;

/// And for each file of the list: some hundred instructions and 64 KiB. A template that looks at every pair of files of
/// a long list ends here, and not in minutes.
const FUEL_PER_FILE: u64 = 2_000;

/// The longest list that a template of the user's gets: about a kilobyte of memory each.
pub(super) const MAX_FILES: usize = 50_000;

/// How many files the list has on which a template is tried when it is read.
const TRIAL: usize = 24;

/// What templates may name without declaring it: functions of the engine.
const FUNCTIONS: [&str; 5] = ["range", "dict", "namespace", "debug", "loop"];

/// A checked template.
#[derive(Debug)]
pub(super) struct Template {
    name: String,
    source: String,
    escape: Escape,
    /// It speaks of one `file`: it is rendered once for each, a line each.
    each: bool,
}

/// What is wrong with a template.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Why a template could not be rendered. Holds no value that was rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The template failed on this list.
    #[error("template {name}{}: {reason}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Failed {
        /// The template.
        name: String,
        /// Where in it.
        line: Option<usize>,
        /// Why.
        reason: String,
    },
    /// The list is too long for a template.
    #[error("template {name}: the list has {count} files, and a template of your own gets {MAX_FILES} at most")]
    TooMany {
        /// The template.
        name: String,
        /// How many.
        count: usize,
    },
}

impl Template {
    /// Reads and tries the template of this table.
    pub(super) fn load(table: &config::Template) -> Result<Self, Mistake> {
        let source = match &table.text {
            TemplateText::Inline(text) => text.clone(),
            TemplateText::File(path) => read(path).map_err(|error| Mistake {
                message: format!("{} cannot be read: {error}", path.display()),
                help: None,
            })?,
        };
        let escape = table.escape.unwrap_or_else(|| guess(&source, &table.extension));
        Self::new(&table.name, source, escape)
    }

    /// Checks that it parses, that every variable exists, and that it can be rendered.
    pub(super) fn new(name: &str, source: String, escape: Escape) -> Result<Self, Mistake> {
        let environment = environment(escape);
        let named = match environment.template_from_str(&source) {
            Ok(parsed) => (parsed.undeclared_variables(false), parsed.undeclared_variables(true)),
            Err(error) => return Err(Mistake { message: described(&error), help: None }),
        };
        let (top, nested): (BTreeSet<String>, BTreeSet<String>) =
            (named.0.into_iter().collect(), named.1.into_iter().collect());
        let each = top.contains("file");
        if each && top.contains("files") {
            let help = Some("{% for file in files %} … {% endfor %} makes `file` out of `files`".to_owned());
            let message = "it uses `file`, which renders it once for each image, and also `files`".to_owned();
            return Err(Mistake { message, help });
        }
        nested.iter().try_for_each(|name| known(name, &source))?;
        let template = Self { name: name.to_owned(), source, escape, each };
        template.render(&sample()).map_err(|error| {
            let RenderError::Failed { line, reason, .. } = error else {
                return Mistake { message: error.to_string(), help: None };
            };
            let at = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            Mistake { help: meant(&reason), message: format!("{at}{reason}") }
        })?;
        Ok(template)
    }

    /// The text of a list; empty, or ending with a line feed.
    pub(super) fn render(&self, list: &List) -> Result<String, RenderError> {
        let count = list.files.len();
        if count > MAX_FILES {
            return Err(RenderError::TooMany { name: self.name.clone(), count });
        }
        let mut environment = environment(self.escape);
        environment.set_fuel(Some(FUEL + FUEL_PER_FILE * if self.each { 1 } else { count as u64 }));
        let parsed = environment.template_from_str(&self.source).map_err(|error| self.failed(&error))?;
        if !self.each {
            return parsed.render(list.context()).map(ended).map_err(|error| self.failed(&error));
        }
        let surroundings = list.surroundings();
        let mut text = String::new();
        for index in 0..count {
            let context = list.context_of(index, &surroundings);
            text.push_str(&parsed.render(context).map(ended).map_err(|error| self.failed(&error))?);
        }
        Ok(text)
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn escape(&self) -> Escape {
        self.escape
    }

    fn failed(&self, error: &Error) -> RenderError {
        let line = error.line();
        RenderError::Failed { name: self.name.clone(), line, reason: reason(error) }
    }
}

/// A text that is not empty ends with a line feed.
fn ended(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// How a template is escaped that does not say it: by its extension, else by the markup in it.
pub(super) fn guess(source: &str, extension: &str) -> Escape {
    let has = |marks: &[&str]| marks.iter().any(|mark| source.contains(mark));
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" | "xhtml" => Escape::Html,
        "md" | "markdown" => Escape::Markdown,
        "bbcode" => Escape::Bbcode,
        _ if has(&["[url", "[img", "[URL", "[IMG", "[center]", "[b]"]) => Escape::Bbcode,
        _ if has(&["<a ", "<img ", "<p>", "<br", "<li", "<html", "<div"]) => Escape::Html,
        _ if has(&["]("]) => Escape::Markdown,
        _ => Escape::None,
    }
}

/// The engine for templates of one language.
fn environment(escape: Escape) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Any custom name: what is captured counts as escaped then, and `{% autoescape false %}` works.
    environment.set_auto_escape_callback(move |_| match escape {
        Escape::None => AutoEscape::None,
        _ => AutoEscape::Custom("pixchute".into()),
    });
    environment.set_formatter(move |out, state, value| print(escape, out, state, value));
    let filter = move |of: Escape| move |value: Value| Value::from_safe_string(escaped(of, &text(&value)));
    let own = if escape == Escape::None { Escape::Html } else { escape };
    for (name, of) in [
        ("e", own),
        ("escape", own),
        ("html", Escape::Html),
        ("bbcode", Escape::Bbcode),
        ("markdown", Escape::Markdown),
    ] {
        environment.add_filter(name, filter(of));
    }
    environment
}

/// What `{{ value }}` prints: nothing for a value that is null, so that no template shows the word for it.
fn print(escape: Escape, out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let raw = value.is_safe() || *state.auto_escape() == AutoEscape::None;
    let text = text(value);
    out.write_str(&if raw { text } else { escaped(escape, &text) })?;
    Ok(())
}

fn text(value: &Value) -> String {
    if value.is_none() { String::new() } else { value.to_string() }
}

/// Whether a template may use this variable: `album.name`.
fn known(name: &str, source: &str) -> Result<(), Mistake> {
    let mut parts = name.split('.');
    let (first, field) = (parts.next().unwrap_or_default(), parts.next());
    let fields: &[&str] = match first {
        "file" => &FILE,
        "album" => &ALBUM,
        "folder" => &FOLDER,
        "totals" => &TOTALS,
        "files" | "now" => return Ok(()),
        other if FUNCTIONS.contains(&other) => return Ok(()),
        other => {
            let all = ["files", "file", "album", "folder", "totals", "now"];
            let field = if FILE.contains(&other) { Some(format!("write `file.{other}`")) } else { None };
            let near = nearest(other, all).map(|near| format!("did you mean `{near}`?"));
            let message =
                format!("{}there is no variable `{other}`, expected one of {}", at(source, other), all.join(", "));
            return Err(Mistake { message, help: near.or(field) });
        }
    };
    match field {
        Some(field) if !fields.contains(&field) => {
            let near = nearest(field, fields.iter().copied()).map(|near| format!("did you mean `{first}.{near}`?"));
            let place = at(source, &format!("{first}.{field}"));
            let message = format!("{place}`{first}` has no field `{field}`, expected one of {}", fields.join(", "));
            Err(Mistake { message, help: near })
        }
        _ => Ok(()),
    }
}

/// In which line of a template a word stands first.
fn at(source: &str, word: &str) -> String {
    let line = source.lines().position(|line| line.contains(word));
    line.map(|line| format!("line {}: ", line + 1)).unwrap_or_default()
}

/// A syntax error with its line.
fn described(error: &Error) -> String {
    let at = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{at}{}", reason(error))
}

fn reason(error: &Error) -> String {
    let mut text = match error.kind() {
        ErrorKind::OutOfFuel => return "it needs too much time or memory for this list".to_owned(),
        // The detail names it.
        ErrorKind::UndefinedError => {
            return error.detail().map_or_else(|| "a value is undefined".to_owned(), ToOwned::to_owned);
        }
        kind => kind.to_string(),
    };
    if let Some(detail) = error.detail() {
        let _ = write!(text, ": {detail}");
    }
    text
}

/// What was probably meant by the last word of a failed look-up.
fn meant(reason: &str) -> Option<String> {
    let name = reason.split('`').nth(1)?;
    let word = name.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).find(|word| !word.is_empty())?;
    if !reason.ends_with("is undefined") || FILE.contains(&word) {
        return None;
    }
    let near = nearest(word, FILE).map(|near| format!("did you mean `{near}`? "));
    Some(format!("{}a file has {}", near.unwrap_or_default(), FILE.join(", ")))
}

/// The list on which templates are tried: with and without everything that may be missing.
fn sample() -> List {
    let files = (0..TRIAL).map(|index| Arc::new(sample_record(index))).collect();
    let album = Album {
        name: Some("trip".to_owned()),
        url: Some("https://host.example/album/1".to_owned()),
        id: Some("1".to_owned()),
        cover: None,
    };
    List { files, album, folder: PathBuf::from("/home/user/drop"), failed: 1, now: WallTime::from_millis(0) }
}

fn sample_record(index: usize) -> Record {
    let full = index.is_multiple_of(2);
    let link = |what: &str| Some(format!("https://host.example/{what}/{index}"));
    Record {
        v: crate::record::VERSION,
        seq: index as u64 + 1,
        job: JobId::generate(),
        at: WallTime::from_millis(0),
        status: if full { Status::Uploaded } else { Status::Linked },
        file: format!("trip/IMG_{index}.jpg"),
        file_bytes: None,
        folder: "/home/user/drop".to_owned(),
        host: "host".to_owned(),
        url: link("page"),
        thumb: link("thumb").filter(|_| full),
        image: link("image").filter(|_| full),
        delete_url: link("delete").filter(|_| full),
        delete_token: None,
        stripped: false,
        album: Some("trip".to_owned()).filter(|_| full),
        album_url: link("album").filter(|_| full),
        bytes: 1,
        mime: Some("image/jpeg".to_owned()),
        width: Some(4),
        height: Some(3),
        blake3: None,
        attempts: 1,
        requeues: 0,
        duration_ms: 1,
        moved_to: None,
        removed_at: None,
        error: None,
        mirrors: Vec::new(),
    }
}
