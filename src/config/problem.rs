//! What is wrong with a configuration, and how it is said.
//!
//! [`ConfigError`] shows every problem with file, line, column, key and the line itself. It never shows a value that
//! may be a secret.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// So many problems are shown, the rest is counted: more than anybody repairs in one go, and a bound for the log.
const MAX_SHOWN: usize = 50;

/// Longer source lines are not shown: a caret under a line that a terminal wraps points nowhere.
const MAX_LINE: usize = 200;

/// So much of a found text is repeated in a message: enough to recognise it.
const MAX_QUOTED: usize = 60;

/// Words longer than this get no suggestion: no key is so long, and comparing takes time quadratic in the length.
const MAX_WORD: usize = 64;

/// The span of what stands in no file.
const NOWHERE: Range<usize> = 0..0;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the text, in bytes; `0..0` for what stands in no file (the command line).
    pub span: Range<usize>,
    /// The key with its tables: `folder[0].settle`, `host.pixhost.api_key`; empty when no key is to blame.
    pub key: String,
    /// What was found and what is accepted.
    pub message: String,
    /// What to do: the nearest known key, an example.
    pub help: Option<String>,
}

impl Problem {
    /// A mistake that stands in no file.
    #[must_use]
    pub fn nowhere(key: &str, message: String, help: Option<String>) -> Self {
        Self { span: NOWHERE, key: key.to_owned(), message, help }
    }
}

/// A configuration that cannot be used: every problem at once, shown with file, line and column.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file; `None` for the built-in defaults or the command line.
    pub file: Option<PathBuf>,
    /// The text that the spans belong to.
    pub text: String,
    /// The problems, in the order of the text. Never empty.
    pub problems: Vec<Problem>,
    /// The file could not be read because the system has trouble: it may be right.
    pub passing: bool,
}

impl ConfigError {
    /// The report of `problems`, brought into the order of the text.
    #[must_use]
    pub fn new(file: Option<PathBuf>, text: String, problems: Vec<Problem>) -> Self {
        let mut error = Self { file, text, problems: Vec::new(), passing: false };
        error.extend(problems);
        error
    }

    /// Adds what somebody else found in the same text. A second problem with the same place is left out: it follows
    /// from the first (a secret that cannot be read is not a bad option as well).
    pub fn extend(&mut self, problems: Vec<Problem>) {
        let place = |problem: &Problem| (problem.span.start, problem.span.end, problem.key.clone());
        let mut known: BTreeSet<_> = self.problems.iter().map(place).collect();
        for problem in problems {
            if problem.span == NOWHERE || known.insert(place(&problem)) {
                self.problems.push(problem);
            }
        }
        self.problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
    }

    fn write_problem(&self, f: &mut fmt::Formatter<'_>, problem: &Problem, excerpt: &Excerpt<'_>) -> fmt::Result {
        let position = (problem.span != NOWHERE).then(|| Position::of(&self.text, problem.span.start));
        match (&self.file, &position) {
            (Some(file), Some(at)) => write!(f, "{}:{}:{}: ", shown_path(file), at.line, at.column)?,
            (Some(file), None) => write!(f, "{}: ", shown_path(file))?,
            (None, Some(at)) => write!(f, "line {}, column {}: ", at.line, at.column)?,
            (None, None) => {}
        }
        if !problem.key.is_empty() {
            write!(f, "{}: ", escaped(&problem.key))?;
        }
        write!(f, "{}", problem.message)?;
        if let Some(at) = position
            && let Some(shown) = excerpt.line(&problem.span)
        {
            let width = at.line.to_string().len();
            let caret = " ".repeat(at.column - 1) + &"^".repeat(shown.marked);
            write!(f, "\n  {} | {}\n  {:width$} | {caret}", at.line, shown.text, "")?;
        }
        if let Some(help) = &problem.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        if count > 1 {
            write!(f, "{count} problems in the configuration\n\n")?;
        }
        let excerpt = Excerpt::new(&self.text);
        for (index, problem) in self.problems.iter().take(MAX_SHOWN).enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            self.write_problem(f, problem, &excerpt)?;
        }
        if count > MAX_SHOWN {
            write!(f, "\n\n… and {} more", count - MAX_SHOWN)?;
        }
        Ok(())
    }
}

/// Without the text: it may hold secrets.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigError")
            .field("file", &self.file)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for ConfigError {}

/// Line and column of a byte, both from 1; the column counts characters.
struct Position {
    line: usize,
    column: usize,
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Self { line, column }
    }
}

/// Which lines of the text may be shown, and how much of them.
///
/// A value below `[host.…]` may be a secret, and so may be one that was put under the wrong header or into a ledger's
/// URL. So a line is shown whole only if the problem is about its value and its table never holds secrets; a line with
/// any other value is shown up to the `=`. In a text that does not parse, what stands on other lines cannot be known
/// and is not shown at all.
struct Excerpt<'t> {
    text: &'t str,
    broken: bool,
}

/// A line as it is shown.
struct Shown {
    text: String,
    /// How many carets go under it.
    marked: usize,
}

impl<'t> Excerpt<'t> {
    /// The tables whose values are no secrets.
    const PLAIN: [&'static str; 7] =
        ["[pool]", "[retry]", "[cooldown]", "[log]", "[server]", "[control]", "[[folder]]"];

    fn new(text: &'t str) -> Self {
        Self { text, broken: toml::de::DeTable::parse(text).is_err() }
    }

    fn line(&self, span: &Range<usize>) -> Option<Shown> {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end.max(start));
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let marked = self.text[start..end].lines().next().unwrap_or_default().chars().count().max(1);
        if line.chars().count() > MAX_LINE {
            return None;
        }
        // A span may begin at the line's end, which is not part of it.
        let inside = (start - line_start).min(line.len());
        let about_value = line.find('=').is_some_and(|sign| sign < inside);
        let plain = self.is_plain(line_start);
        let shown = match line.split_once('=') {
            _ if plain && about_value => line.to_owned(),
            None if plain => line.to_owned(),
            _ if !self.broken && line.trim_start().starts_with('[') => line.to_owned(),
            Some((key, value)) if (plain || !self.broken) && inside <= key.len() + 1 + leading_spaces(value) => {
                format!("{key}={}…", " ".repeat(leading_spaces(value)))
            }
            _ => return None,
        };
        let marked = marked.min(shown.chars().count().saturating_sub(line[..inside].chars().count()).max(1));
        // A tab counts as one column; other control characters could steer the terminal.
        let text = shown.chars().map(|c| if c == '\t' { ' ' } else { printable(c) }).collect();
        Some(Shown { text, marked })
    }

    /// Whether the line that starts at `line_start` belongs to a table without secrets.
    fn is_plain(&self, line_start: usize) -> bool {
        if self.broken && (self.text.contains("\"\"\"") || self.text.contains("'''")) {
            return false;
        }
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let headers = self.text[..line_start].lines().rev();
        let header = std::iter::once(line).chain(headers).map(str::trim).find(|line| line.starts_with('['));
        let header = header.map(|line| line.split('#').next().unwrap_or_default().trim_end());
        header.is_some_and(|header| Self::PLAIN.contains(&header))
    }
}

fn leading_spaces(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// Nothing that steers a terminal, ends a line or turns the order of letters.
fn printable(c: char) -> char {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || turns { '\u{fffd}' } else { c }
}

/// `text` without control characters, and not endless.
pub(super) fn escaped(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED).map(printable).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        shown.push('…');
    }
    shown
}

/// `text` on one line, with nothing in it that steers a terminal or turns the order of letters.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// `path` as it is shown in messages.
pub(super) fn shown_path(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// The word among `known` that was probably meant by `word`.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let length = word.chars().count();
    if length > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= (length / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
