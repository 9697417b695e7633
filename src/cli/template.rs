//! `pixchute template`: what can be rendered, and templates of another program.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::out::{Out, Stop, complain, safe};
use super::{Exit, config_or_default};
use crate::config::{Escape, FORMATS};
use crate::render::Formats;
use crate::render::convert::{Converted, convert, table, word};

/// The largest file that is converted: templates are a few lines.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum TemplateCommand {
    /// List the built-in formats and your templates
    List,
    /// Print a format as a template
    Show {
        /// `bbcode`, `markdown`, `html`, `urls` or one of your templates
        name: String,
    },
    /// Convert a template with #name# and [if name]…[/if] (a text file, or a user_templates.json)
    Convert {
        /// The file
        file: PathBuf,
        /// The language of its images; by its markup if left out
        #[arg(long, value_enum)]
        format: Option<Language>,
    },
}

/// The language of a template.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Language {
    Bbcode,
    Markdown,
    Html,
}

pub(super) fn run(command: &TemplateCommand, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    match command {
        TemplateCommand::List => {
            let formats = formats(file)?;
            let mut text = String::new();
            for name in formats.names() {
                let origin = if FORMATS.contains(&name) { "built in" } else { "yours" };
                let escape = formats.find(name).map_or("", |format| word(format.escape()));
                let _ = writeln!(text, "{name:<16} {origin:<9} escape {escape}");
            }
            out.print(&text)?;
        }
        TemplateCommand::Show { name } => {
            let format = formats(file)?.find(name).map_err(|error| Stop::said(Exit::Usage, error.to_string()))?;
            let source = format.source().unwrap_or("the record itself, as one line of JSON; it is no template\n");
            out.print(source)?;
            if !source.ends_with('\n') {
                out.print("\n")?;
            }
        }
        TemplateCommand::Convert { file, format } => {
            let language = format.map(|language| match language {
                Language::Bbcode => Escape::Bbcode,
                Language::Markdown => Escape::Markdown,
                Language::Html => Escape::Html,
            });
            let text = read(file)?;
            match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(templates)) => {
                    for (name, text) in &templates {
                        let Some(text) = text.as_str() else { continue };
                        let converted = converted(text, language, Some(name))?;
                        out.print(&format!("{}\n", table(name, &converted)))?;
                    }
                }
                _ => out.print(&ended(converted(&text, language, None)?.text))?,
            }
        }
    }
    Ok(Exit::Done)
}

fn formats(file: Option<&Path>) -> Result<Formats, Stop> {
    let config = config_or_default(file)?;
    Formats::from_config(&config).map_err(|problems| config.rejected(problems).into())
}

fn converted(text: &str, language: Option<Escape>, name: Option<&str>) -> Result<Converted, Stop> {
    let about = name.map(|name| format!("{}: ", safe(name))).unwrap_or_default();
    let cannot = |reason: String| Stop::said(Exit::Failed, format!("{about}it cannot be converted: {}", safe(&reason)));
    let converted = convert(text, language).map_err(cannot)?;
    for warning in &converted.warnings {
        complain(&format!("{about}{}", safe(warning)));
    }
    Ok(converted)
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn read(file: &Path) -> Result<String, Stop> {
    let cannot = |reason: String| Stop::said(Exit::Failed, format!("cannot read {}: {reason}", file.display()));
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| cannot(error.to_string()))?;
    opened.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| cannot(error.to_string()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(cannot(format!("it is larger than {} KiB", MAX_FILE >> 10)));
    }
    Ok(text)
}
