//! A table of the configuration, read key by key: a typed getter for each kind of value, the default where a key is
//! missing or wrong, and a [`Problem`] for everything that is not understood.
//!
//! A key is known once somebody asked for it; [`Section::finish`] reports the others.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::problem::{Problem, escaped, nearest};
use super::value::{duration, shown_duration};

/// What is said about keys and values of a later version.
pub(super) const NOT_YET: &str = "not available in this version";

/// A value and where it stands.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// One table being read.
pub(super) struct Section<'t> {
    table: Option<&'t DeTable<'t>>,
    /// `pool`, `folder[0]`, `host.pixhost`; empty for the whole file.
    name: String,
    /// Where its header stands.
    header: Range<usize>,
    known: Vec<&'static str>,
    /// Whether every other key is somebody else's business.
    open: bool,
    problems: Vec<Problem>,
}

impl<'t> Section<'t> {
    /// The table `name`, whose header stands at `header`; all defaults if there is none.
    pub(super) fn new(name: String, table: Option<&'t DeTable<'t>>, header: Range<usize>) -> Self {
        Self { table, name, header, known: Vec::new(), open: false, problems: Vec::new() }
    }

    /// The table `key` of this one.
    pub(super) fn table(&mut self, key: &'static str) -> Section<'t> {
        let Some(value) = self.take(key) else { return Section::new(key.to_owned(), None, 0..0) };
        let table = match value.get_ref() {
            DeValue::Table(table) => Some(table),
            DeValue::Array(_) => {
                let help = Some(format!("write the header as [{key}], and only once"));
                self.problem(key, value.span(), format!("found an array, expected the table [{key}]"), help);
                None
            }
            other => {
                self.problem(key, value.span(), format!("found {}, expected the table [{key}]", describe(other)), None);
                None
            }
        };
        Section::new(key.to_owned(), table, value.span())
    }

    /// Every table `[kind.NAME]` in this one, with its name and place; what has a name with a `mistake`, or is no table, is a
    /// problem. What was found is not shown: it may be a secret that lost its header.
    pub(super) fn named(
        &mut self,
        kind: &str,
        mistake: impl Fn(&str) -> Option<String>,
        help: impl Fn(&str) -> String,
    ) -> Vec<(&'t str, &'t DeTable<'t>, Range<usize>)> {
        let mut tables = Vec::new();
        for (name, key_span, value) in self.entries() {
            if let Some(message) = mistake(name) {
                self.problem(&escaped(name), key_span, message, None);
            } else if let Some(table) = value.get_ref().as_table() {
                tables.push((name, table, value.span()));
            } else {
                self.problem(name, key_span, format!("expected the table [{kind}.{name}]"), Some(help(name)));
            }
        }
        tables
    }

    /// Every entry, with the place of its key, for tables whose keys are names. Nothing is reported as unknown.
    pub(super) fn entries(&mut self) -> Vec<(&'t str, Range<usize>, &'t Value<'t>)> {
        self.open = true;
        let table = self.table.into_iter().flatten();
        let mut entries: Vec<_> = table.map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
        entries.sort_by_key(|(_, span, _)| span.start);
        entries
    }

    /// The entries that nobody asked for.
    pub(super) fn rest(&mut self) -> Vec<(&'t str, Range<usize>, &'t Value<'t>)> {
        let mut entries = self.entries();
        entries.retain(|(key, ..)| !self.known.contains(key));
        entries
    }

    /// The value of `key`, which is known from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'t Value<'t>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.find(key)
    }

    fn find(&self, key: &str) -> Option<&'t Value<'t>> {
        self.table?.iter().find(|(known, _)| known.get_ref() == key).map(|(_, value)| value)
    }

    /// Whether the file says something about `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Where the value of `key` stands, or the header if the default applies.
    pub(super) fn span(&self, key: &str) -> Range<usize> {
        self.find(key).map_or(self.header.clone(), Spanned::span)
    }

    /// The name of `key` with its tables.
    pub(super) fn path(&self, key: &str) -> String {
        match (self.name.as_str(), key) {
            ("", key) => key.to_owned(),
            (name, "") => name.to_owned(),
            (name, key) => format!("{name}.{key}"),
        }
    }

    /// Notes a mistake at `span`.
    pub(super) fn problem(&mut self, key: &str, span: Range<usize>, message: String, help: Option<String>) {
        self.problems.push(Problem { span, key: self.path(key), message, help });
    }

    /// Notes a mistake in the value of `key`.
    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>, help: Option<String>) {
        self.problem(key, self.span(key), message.into(), help);
    }

    /// `key` as `read` understands it; otherwise a problem that says what was `expected`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        expected: impl Display,
        read: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?.get_ref();
        let result = read(value);
        if result.is_none() {
            self.wrong(key, format!("found {}, expected {expected}", describe(value)), None);
        }
        result
    }

    /// A whole number.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, expected, |value| {
            let number = value.as_integer()?;
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            T::try_from(number).ok().filter(|number| range.contains(number))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", DeValue::as_bool)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str, expected: &str) -> Option<&'t str> {
        self.read(key, expected, |value| value.as_str().filter(|text| !text.is_empty()))
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let value = self.take(key)?.get_ref();
        let word = value.as_str();
        if let Some((_, chosen)) = choices.iter().find(|(name, _)| Some(*name) == word) {
            return Some(*chosen);
        }
        let names = choices.iter().map(|(name, _)| *name);
        let help = word.and_then(|word| nearest(word, names.clone())).map(|near| format!("did you mean \"{near}\"?"));
        let accepted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
        self.wrong(key, format!("found {}, expected one of {}", describe(value), accepted.join(", ")), help);
        None
    }

    /// A duration.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.take(key)?.get_ref();
        let read = value.as_str().and_then(duration);
        if let Some(read) = read.filter(|read| range.contains(read)) {
            return Some(read);
        }
        let (start, end) = (shown_duration(*range.start()), shown_duration(*range.end()));
        let expected = match read {
            Some(_) => format!("a duration from \"{start}\" to \"{end}\""),
            None => "a duration such as \"250ms\", \"90s\", \"3m\" or \"1h30m\"".to_owned(),
        };
        let help = value.as_integer().map(|number| format!("for seconds write \"{number}s\""));
        self.wrong(key, format!("found {}, expected {expected}", describe(value)), help);
        None
    }

    /// A path, with `~` and variables replaced.
    pub(super) fn file_path(&mut self, key: &'static str, env: &Environment<'_>) -> Option<PathBuf> {
        let text = self.read(key, "a path", DeValue::as_str)?;
        match env.expand(text) {
            Ok(path) => Some(path),
            Err(message) => {
                self.wrong(key, message, None);
                None
            }
        }
    }

    /// File name patterns, with the place of each.
    pub(super) fn texts(&mut self, key: &'static str, expected: &str) -> Option<Vec<(&'t str, Range<usize>)>> {
        let array = self.read(key, expected, DeValue::as_array)?;
        let mut texts = Vec::new();
        for element in array {
            match element.get_ref().as_str() {
                Some(text) => texts.push((text, element.span())),
                None => {
                    let found = describe(element.get_ref());
                    self.problem(key, element.span(), format!("found {found}, expected {expected}"), None);
                }
            }
        }
        Some(texts)
    }

    /// Hands over the problems, with one for each unknown key.
    pub(super) fn finish(mut self, problems: &mut Vec<Problem>) {
        if !self.open {
            for (key, span, _) in self.rest() {
                let help = nearest(key, self.known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                let message = format!("unknown key, expected one of {}", self.known.join(", "));
                self.problem(&escaped(key), span, message, help);
            }
        }
        problems.append(&mut self.problems);
    }
}

/// What a value is, as messages say it.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", escaped(text)),
        DeValue::Integer(number) => escaped(&number.to_string()),
        DeValue::Float(number) => escaped(&number.to_string()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
