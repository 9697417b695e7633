//! `[template.NAME]`: texts of the user's own, and `render`: which texts a folder keeps in link files.
//!
//! What a template says is checked by [`crate::render`], which knows the variables.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::environment::Environment;
use super::problem::{Problem, escaped, nearest};
use super::section::Section;

/// The formats that need no `[template]`.
pub const FORMATS: [&str; 4] = ["bbcode", "markdown", "html", "urls"];

/// Names that commands understand as formats besides: no template may have them.
const RESERVED: [&str; 2] = ["url", "json"];

/// The longest name of a template and of an extension: both are parts of one file name.
const MAX_NAME: usize = 64;

/// Extensions that the folder would take for images, or the agent for records of its own.
const NO_TEXT: [&str; 12] =
    ["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "avif", "heic", "json", "jsonl"];

/// `[template.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The key of the table.
    pub name: String,
    /// Where its text is.
    pub text: TemplateText,
    /// The ending of its link files, without the dot.
    pub extension: String,
    /// How values are made harmless; `None`: as the template looks like.
    pub escape: Option<Escape>,
    /// Where `text` or `file` stands in [`super::Config::text`].
    pub span: Range<usize>,
}

/// Where the text of a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateText {
    /// `text = "…"`
    Inline(String),
    /// `file = "…"`, absolute.
    File(PathBuf),
}

/// `escape = "html" | "bbcode" | "markdown" | "none"`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Escape {
    /// As they are.
    None,
    /// For text and quoted attributes of HTML.
    Html,
    /// For forums.
    Bbcode,
    /// For text and link destinations of Markdown.
    Markdown,
}

/// One link file that a folder keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// A built-in format or a template.
    pub format: String,
    /// The name of the file: `links.bbcode.txt`.
    pub file: String,
}

/// Reads every `[template.NAME]`.
pub(super) fn read<'t>(
    mut table: Section<'t>,
    file: Option<&Path>,
    env: &Environment<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Template> {
    let help = |name: &str| format!("write the header as [template.{name}], and text = \"…\" under it");
    let named = table.named("template", name_mistake, help);
    table.finish(problems);
    let read = |(name, keys, span)| (String::from(name), read_one(name, keys, span, (file, env), problems));
    named.into_iter().map(read).collect()
}

fn name_mistake(name: &str) -> Option<String> {
    if FORMATS.contains(&name) || RESERVED.contains(&name) {
        return Some(format!("`{name}` is a built-in format, expected another name"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let good = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed);
    (!good).then(|| {
        format!("found \"{}\", expected a name of letters, digits, `-` and `_`, {MAX_NAME} at most", escaped(name))
    })
}

fn read_one<'t>(
    name: &str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    (file, env): (Option<&Path>, &Environment<'_>),
    problems: &mut Vec<Problem>,
) -> Template {
    let mut section = Section::new(format!("template.{name}"), Some(table), span);
    let inline = section.text("text", "the template").map(|text| TemplateText::Inline(text.to_owned()));
    let path = section.file_path("file", env);
    let path = path.map(|path| file.and_then(Path::parent).map_or(path.clone(), |folder| folder.join(path)));
    if section.has("text") == section.has("file") {
        let message = match section.has("text") {
            true => "found both `text` and `file`, expected one of them",
            false => "missing, expected `text` with the template, or `file` with the path of one",
        };
        let help = "text = \"{% for file in files %}{{ file.url }}\\n{% endfor %}\"";
        section.wrong(if section.has("text") { "file" } else { "text" }, message, Some(help.to_owned()));
    }
    let extension = extension(&mut section);
    let choices =
        [("none", Escape::None), ("html", Escape::Html), ("bbcode", Escape::Bbcode), ("markdown", Escape::Markdown)];
    let escape = section.choice("escape", &choices);
    let span = section.span(if section.has("text") { "text" } else { "file" });
    section.finish(problems);
    // Without a text it has a problem, and nobody will use it; but its name is known.
    let text = inline.or(path.map(TemplateText::File)).unwrap_or(TemplateText::Inline(String::new()));
    Template { name: name.to_owned(), text, extension, escape, span }
}

fn extension(section: &mut Section<'_>) -> String {
    let expected = "the ending of the link file without the dot, such as \"txt\" or \"html\"";
    let found = section.read("extension", expected, |value| {
        let word = value.as_str()?;
        let plain = (1..=MAX_NAME / 4).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain && !NO_TEXT.contains(&word.to_ascii_lowercase().as_str())).then(|| word.to_owned())
    });
    found.unwrap_or_else(|| "txt".to_owned())
}

/// The folder's `render`.
pub(super) fn renderings(section: &mut Section<'_>, templates: &BTreeMap<String, Template>) -> Option<Vec<Rendering>> {
    let names = section.texts("render", "an array of formats such as [\"bbcode\", \"html\"]")?;
    let mut renderings: Vec<Rendering> = Vec::new();
    for (format, span) in names {
        let extension = match templates.get(format) {
            Some(template) => template.extension.as_str(),
            None if FORMATS.contains(&format) => "txt",
            None => {
                let known = || FORMATS.into_iter().chain(templates.keys().map(String::as_str));
                let help = nearest(format, known()).map(|near| format!("did you mean \"{near}\"?"));
                let help = help.or_else(|| Some("a [template.NAME] makes a format of your own".to_owned()));
                let known = known().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
                section.problem(
                    "render",
                    span,
                    format!("there is no format \"{}\", expected {known}", escaped(format)),
                    help,
                );
                continue;
            }
        };
        if renderings.iter().any(|known| known.format == format) {
            section.problem("render", span, format!("\"{format}\" is named twice"), None);
            continue;
        }
        renderings.push(Rendering { format: format.to_owned(), file: format!("links.{format}.{extension}") });
    }
    Some(renderings)
}
