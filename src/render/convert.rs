//! Templates of older uploaders as templates of ours: there `#name#` is a value, `[if name]…[else]…[/if]` and
//! `[if name=value]` are conditions and may lie in each other. Pure.
//!
//! There, values were put in as they were and then looked through for placeholders again; here they are escaped, once.

use std::fmt::Write as _;
use std::mem;

use super::template::{Template, guess};
use crate::config::Escape;

/// A converted template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The text for `[template.NAME]`.
    pub text: String,
    /// Its language.
    pub escape: Escape,
    /// What could not be said the same way, with its line.
    pub warnings: Vec<String>,
}

/// Conditions within conditions: as many as there were.
const MAX_DEPTH: usize = 50;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// An expression about the list.
    List(&'static str),
    /// An expression about one image.
    Image(&'static str),
    /// All images as previews, one space between them.
    Previews,
    /// All images in full size.
    Full,
    /// There is no such value here.
    Nothing,
}

impl Name {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "gallery_link" => Self::List("album.url"),
            "gallery_name" => Self::List("album.title or folder.name"),
            "gallery_id" => Self::List("album.id"),
            "cover_url" => Self::List("album.cover"),
            "image_url" => Self::Image("file.url"),
            "thumb_url" => Self::Image("file.thumb or file.image"),
            "direct_url" => Self::Image("file.image or file.url"),
            "all_images" => Self::Previews,
            "all_full_images" => Self::Full,
            "thumb_size" => Self::Nothing,
            _ => return None,
        })
    }
}

/// A piece of the old language.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Value(&'t str),
    If { name: &'t str, value: Option<&'t str> },
    Else,
    End,
}

/// Converts `source`; `language` is that of its images, else what its markup looks like, else BBCode.
///
/// # Errors
/// When the result is no template of ours, with the reason; a bug, unless conditions lie in each other too deeply.
pub fn convert(source: &str, language: Option<Escape>) -> Result<Converted, String> {
    let source = source.replace("\r\n", "\n");
    let escape = language.unwrap_or_else(|| match guess(&source, "") {
        Escape::None => Escape::Bbcode,
        found => found,
    });
    let mut converter = Converter {
        escape,
        // One that speaks of an image and not of all is the text of one image.
        about_one: ["#image_url#", "#thumb_url#", "#direct_url#"].iter().any(|name| source.contains(name))
            && !["#all_images#", "#all_full_images#"].iter().any(|name| source.contains(name)),
        has_cover: source.contains("#cover_url#"),
        ..Converter::default()
    };
    converter.run(&source);
    let Converter { out: text, warnings, .. } = converter;
    Template::new("converted", text.clone(), escape).map_err(|mistake| mistake.message)?;
    Ok(Converted { text, escape, warnings })
}

#[derive(Debug)]
struct Converter {
    out: String,
    warnings: Vec<String>,
    escape: Escape,
    about_one: bool,
    has_cover: bool,
    line: usize,
    /// The open conditions: whether each has had its `[else]`.
    open: Vec<bool>,
    /// Literal text that was not put out yet.
    text: String,
}

impl Default for Converter {
    fn default() -> Self {
        Self {
            out: String::new(),
            warnings: Vec::new(),
            escape: Escape::Bbcode,
            about_one: false,
            has_cover: false,
            line: 1,
            open: Vec::new(),
            text: String::new(),
        }
    }
}

impl Converter {
    fn run(&mut self, source: &str) {
        let mut rest = source;
        while !rest.is_empty() {
            let (piece, length) = next(rest);
            self.piece(&piece, &rest[..length]);
            self.line += rest[..length].matches('\n').count();
            rest = &rest[length..];
        }
        while self.open.pop().is_some() {
            self.warn("a condition has no [/if]: it ends with the template".to_owned());
            self.tag("{% endif %}");
        }
        self.flush(false);
    }

    fn piece(&mut self, piece: &Piece<'_>, as_written: &str) {
        match piece {
            Piece::Text(text) => self.text.push_str(text),
            Piece::Value(name) => match Name::of(name) {
                Some(name) => self.value(name, as_written),
                None => {
                    self.warn(format!("there is no value {as_written}: it stays as text"));
                    self.text.push_str(as_written);
                }
            },
            Piece::If { name, value } if self.open.len() < MAX_DEPTH => self.condition(name, *value),
            Piece::Else if self.open.last() == Some(&false) => {
                self.tag("{% else %}");
                *self.open.last_mut().expect("just seen") = true;
            }
            Piece::End if !self.open.is_empty() => {
                self.open.pop();
                self.tag("{% endif %}");
            }
            Piece::If { .. } | Piece::Else | Piece::End => {
                self.warn(format!("{as_written} belongs to no condition: it stays as text"));
                self.text.push_str(as_written);
            }
        }
    }

    fn value(&mut self, name: Name, as_written: &str) {
        match name {
            Name::List(expression) => self.print(expression),
            Name::Image(expression) if self.about_one => self.print(expression),
            Name::Image(_) => {
                self.warn(format!("{as_written} speaks of one image in a text about all: it is left out"))
            }
            Name::Previews => self.images(&preview(self.escape)),
            Name::Full => self.images(full(self.escape)),
            Name::Nothing => self.warn(format!("{as_written} is not known here: it is left out")),
        }
    }

    fn print(&mut self, expression: &str) {
        self.tag(&format!("{{{{ {expression} }}}}"));
    }

    /// The image that is the cover is not shown a second time.
    fn images(&mut self, image: &str) {
        let but = if self.has_cover { " if (file.thumb or file.image) != album.cover" } else { "" };
        let spaced = "{% if not loop.first %} {% endif %}";
        self.tag(&format!("{{% for file in files{but} %}}{spaced}{image}{{% endfor %}}"));
    }

    fn condition(&mut self, name: &str, value: Option<&str>) {
        self.open.push(false);
        let expression = match Name::of(name) {
            Some(Name::List(expression)) => expression,
            Some(Name::Image(expression)) if self.about_one => expression,
            Some(Name::Previews | Name::Full) => "totals.count > 0",
            Some(Name::Image(_) | Name::Nothing) | None => {
                self.warn(format!("[if {name}] asks for what is not known here: it counts as empty"));
                "false"
            }
        };
        match value {
            None => self.tag(&format!("{{% if {expression} %}}")),
            Some(value) => {
                let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                self.tag(&format!("{{% if ({expression}) == '{value}' %}}"));
            }
        }
    }

    fn tag(&mut self, tag: &str) {
        self.flush(true);
        self.out.push_str(tag);
    }

    /// Puts the literal text out, with braces that would begin a tag spelled out.
    fn flush(&mut self, before_tag: bool) {
        let text = mem::take(&mut self.text);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let begins = match characters.peek() {
                Some(next) => matches!(next, '{' | '%' | '#'),
                None => before_tag,
            };
            if character == '{' && begins { self.out.push_str("{{ '{' }}") } else { self.out.push(character) }
        }
    }

    fn warn(&mut self, message: String) {
        self.warnings.push(format!("line {}: {message}", self.line));
    }
}

/// The first piece of `rest`, which is not empty, and its length.
fn next(rest: &str) -> (Piece<'_>, usize) {
    let is_word =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if let Some(inner) = rest.strip_prefix('#')
        && let Some(end) = inner.find('#')
        && is_word(&inner[..end])
        // Not a colour: `#ff0000 #`.
        && (Name::of(&inner[..end]).is_some() || inner[..end].contains('_'))
    {
        return (Piece::Value(&inner[..end]), end + 2);
    }
    for (text, piece) in [("[else]", Piece::Else), ("[/if]", Piece::End)] {
        if rest.starts_with(text) {
            return (piece, text.len());
        }
    }
    if let Some(inner) = rest.strip_prefix("[if ")
        && let Some(end) = inner.find(']')
        && !inner[..end].contains('\n')
    {
        let (name, value) = match inner[..end].split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (inner[..end].trim(), None),
        };
        if is_word(name) {
            return (Piece::If { name, value }, end + "[if ]".len());
        }
    }
    let length = rest.char_indices().skip(1).find(|(_, c)| matches!(c, '#' | '[')).map_or(rest.len(), |(at, _)| at);
    (Piece::Text(&rest[..length]), length)
}

/// One image as a preview that links to its page.
fn preview(language: Escape) -> String {
    let (with, without) = match language {
        Escape::Markdown => ("[![Image]({{ file.thumb }})]({{ file.url }})", "[{{ file.name }}]({{ file.url }})"),
        Escape::Html => (
            r#"<a href="{{ file.url }}"><img src="{{ file.thumb }}"></a>"#,
            r#"<a href="{{ file.url }}">{{ file.name }}</a>"#,
        ),
        Escape::Bbcode | Escape::None => {
            ("[url={{ file.url }}][img]{{ file.thumb }}[/img][/url]", "[url]{{ file.url }}[/url]")
        }
    };
    format!("{{% if file.thumb %}}{with}{{% else %}}{without}{{% endif %}}")
}

/// One image in full size.
fn full(language: Escape) -> &'static str {
    match language {
        Escape::Markdown => "![]({{ file.image or file.url }})",
        Escape::Html => r#"<img src="{{ file.image or file.url }}">"#,
        Escape::Bbcode | Escape::None => "[img]{{ file.image or file.url }}[/img]",
    }
}

/// `[template.NAME]` of a converted template, for a configuration.
#[must_use]
pub fn table(name: &str, converted: &Converted) -> String {
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let name = if words.is_empty() { "template".to_owned() } else { words.join("-") };
    let plain =
        !converted.text.contains("'''") && converted.text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    let mut text = format!("[template.{name}]\n");
    let _ = if plain && !converted.text.ends_with('\'') {
        writeln!(text, "text = '''\n{}'''", converted.text)
    } else {
        writeln!(text, "text = {}", serde_json::Value::from(converted.text.as_str()))
    };
    let _ = writeln!(text, "escape = \"{}\"", word(converted.escape));
    text
}

/// The word of the configuration.
#[must_use]
pub fn word(escape: Escape) -> &'static str {
    match escape {
        Escape::None => "none",
        Escape::Html => "html",
        Escape::Bbcode => "bbcode",
        Escape::Markdown => "markdown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::{list, record};
    use crate::render::{Album, List};

    fn old(source: &str) -> Converted {
        convert(source, None).unwrap_or_else(|error| panic!("{source}: {error}"))
    }

    /// What the converted template makes of two images, with and without a gallery.
    fn texts(source: &str) -> (String, String) {
        let converted = old(source);
        assert_eq!(converted.warnings, Vec::<String>::new(), "{source}");
        let template = Template::new("t", converted.text, converted.escape).expect("good");
        let without = list(vec![record("a.jpg"), record("b.jpg")]);
        let album = Album {
            name: Some("x/My trip".into()),
            url: Some("https://pixhost.to/gallery/7".into()),
            id: Some("7".into()),
            cover: None,
        };
        let with = List { album, ..without.clone() };
        (template.render(&with).expect("rendered"), template.render(&without).expect("rendered"))
    }

    const BBCODE: &str = "[url=https://h.example/show/1][img]https://t.example/1.jpg[/img][/url]";

    #[test]
    fn the_built_in_templates_of_the_old_program_say_the_same() {
        let (with, without) = texts(
            "[center]\n[if gallery_link][url=#gallery_link#]Click here for Gallery[/url]\n\n[/if]#all_images#\n[/center]",
        );
        assert_eq!(
            with,
            format!(
                "[center]\n[url=https://pixhost.to/gallery/7]Click here for Gallery[/url]\n\n{BBCODE} {BBCODE}\n[/center]\n"
            )
        );
        assert_eq!(without, format!("[center]\n{BBCODE} {BBCODE}\n[/center]\n"));

        let (with, without) = texts("[if gallery_link][Click here for Gallery](#gallery_link#)\n\n[/if]#all_images#");
        let image = "[![Image](https://t.example/1.jpg)](https://h.example/show/1)";
        assert_eq!(with, format!("[Click here for Gallery](https://pixhost.to/gallery/7)\n\n{image} {image}\n"));
        assert_eq!(without, format!("{image} {image}\n"));

        let (with, _) = texts(
            "[if gallery_link]<center><a href=\"#gallery_link#\">Click here for Gallery</a></center><br><br>[/if]#all_full_images#",
        );
        let image = "<img src=\"https://h.example/show/1\">";
        assert_eq!(
            with,
            format!(
                "<center><a href=\"https://pixhost.to/gallery/7\">Click here for Gallery</a></center><br><br>{image} {image}\n"
            )
        );
    }

    #[test]
    fn conditions_lie_in_each_other_compare_and_have_an_else() {
        let source = "[if gallery_name=My trip][if gallery_id=8]eight[else]not eight[/if][else]#gallery_name#[/if]!";
        assert_eq!(texts(source), ("not eight!\n".to_owned(), "Drop!\n".to_owned()));
        assert_eq!(texts("[if gallery_name=it's]x[/if].").0, ".\n");
    }

    #[test]
    fn the_cover_is_shown_once_and_a_text_about_one_image_is_rendered_for_each() {
        let (with, _) = texts("#gallery_id#: [img]#cover_url#[/img] #all_images#");
        assert_eq!(with, "7: [img]https://t.example/1.jpg[/img] \n", "both samples have the cover's thumbnail");
        let (one, _) = texts("[url=#image_url#][img]#thumb_url#[/img][/url] #direct_url#");
        assert_eq!(one, format!("{BBCODE} https://h.example/show/1\n").repeat(2));
    }

    #[test]
    fn text_that_looks_like_a_tag_stays_text() {
        for source in [
            "a {{ b }} {% c %} {# d #}",
            "{#gallery_id#} {",
            "#fff# #ff0000 # 50% [b]x[/b] [if ] [if",
            "{{#gallery_id#}}",
        ] {
            let expected = source.replace("#gallery_id#", "7") + "\n";
            assert_eq!(texts(source).0, expected, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_told_with_its_line() {
        let converted = old(
            "#all_images#\n#thumb_size# #no_such#\n[if thumb_size=200]x[/if][/if][else]\n#image_url#[if gallery_link]",
        );
        assert_eq!(
            converted.warnings,
            [
                "line 2: #thumb_size# is not known here: it is left out",
                "line 2: there is no value #no_such#: it stays as text",
                "line 3: [if thumb_size] asks for what is not known here: it counts as empty",
                "line 3: [/if] belongs to no condition: it stays as text",
                "line 3: [else] belongs to no condition: it stays as text",
                "line 4: #image_url# speaks of one image in a text about all: it is left out",
                "line 4: a condition has no [/if]: it ends with the template",
            ]
        );
    }

    #[test]
    fn a_table_for_the_configuration_can_be_read_back() {
        for source in ["#all_images#\n", "'''#gallery_id#'", "a\u{1}b\\ \"x\""] {
            let converted = old(source);
            let toml = table("Vipr Forum (Center)", &converted);
            let config = crate::config::parse(&toml, None).unwrap_or_else(|error| panic!("{toml}: {error}"));
            let template = &config.templates["vipr-forum-center"];
            assert_eq!(template.text, crate::config::TemplateText::Inline(converted.text), "{toml}");
            assert_eq!(template.escape, Some(Escape::Bbcode));
        }
    }
}
