//! Values that may be secrets: what a host's option is, and where a secret is fetched from.
//!
//! Secrets are resolved once, when the configuration is read, so that a missing one is a message at the start and not a
//! failed upload. Commands that send nothing leave them where they are. Nothing here repeats a value, only where it came
//! from; what was read on the way to it is wiped.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::fetch::{from_keyring, from_program};
use super::problem::{escaped, nearest, shown_path};
use super::section::describe;

/// The largest secret: keys and tokens have some hundred bytes, service account files some thousand.
pub(super) const MAX_SECRET: u64 = 64 * 1024;

/// What [`Setting::origin`] says of a value that stands in the configuration itself.
const IN_CONFIG: &str = "config";

/// Where a secret can be fetched from.
const SOURCES: [&str; 5] = ["env", "file", "credential", "keyring", "exec"];

/// How they are written.
const ACCEPTED: &str = "{ env = \"NAME\" }, { file = \"/path\" }, { credential = \"name\" }, { keyring = \"name\" } or \
                        { exec = [\"program\", …] }";

/// One option of a host as it was written: any of them may be a secret, so none is ever shown by `Debug`.
#[derive(Clone)]
pub struct Setting {
    /// The value; numbers and booleans in their TOML spelling.
    pub value: SecretString,
    /// Where it came from, for `check`: `config`, `environment variable X`, `file ~/key`, `credential mine`, …
    pub origin: String,
    /// Where its value stands in the configuration's text.
    pub span: Range<usize>,
    /// Where its key stands in the configuration's text: for "unknown option".
    pub key_span: Range<usize>,
}

impl Setting {
    /// Whether it stands in the configuration itself, readable for whoever reads that.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.origin == IN_CONFIG
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[REDACTED from {}]", self.origin)
    }
}

/// Why a value cannot be used: the message, and what to do.
pub(super) struct Unusable {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Unusable {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The value and the origin of an option.
pub(super) fn resolve(value: &DeValue<'_>, env: &Environment<'_>) -> Result<(SecretString, String), Unusable> {
    let plain = |text: String| Ok((SecretString::from(text), IN_CONFIG.to_owned()));
    match value {
        DeValue::String(text) => plain(text.to_string()),
        DeValue::Integer(number) => plain(number.to_string()),
        DeValue::Float(number) => plain(number.to_string()),
        DeValue::Boolean(flag) => plain(flag.to_string()),
        DeValue::Table(table) => from_source(table, env),
        DeValue::Array(_) | DeValue::Datetime(_) => Err(Unusable::new(format!(
            "found {}, expected a text, a number, true or false, or a secret such as {{ env = \"NAME\" }}",
            describe(value)
        ))),
    }
}

/// The variables that the hosts of `document` name as holding a secret.
pub(super) fn variables(document: &DeTable<'_>) -> BTreeSet<String> {
    fn below(table: &DeTable<'_>, found: &mut BTreeSet<String>) {
        for (key, value) in table {
            match value.get_ref() {
                DeValue::String(name) if key.get_ref() == "env" => drop(found.insert(name.to_string())),
                DeValue::Table(table) => below(table, found),
                _ => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    if let Some(hosts) = document.get("host").and_then(|hosts| hosts.get_ref().as_table()) {
        below(hosts, &mut found);
    }
    // What no process can have in its environment cannot be taken out of it either.
    found.retain(|name| !name.is_empty() && !name.contains(['=', '\0']));
    found
}

fn from_source(table: &DeTable<'_>, env: &Environment<'_>) -> Result<(SecretString, String), Unusable> {
    let mut entries = table.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        return Err(Unusable::new(format!("found a table with {} keys, expected {ACCEPTED}", table.len())));
    };
    let source: &str = key.get_ref();
    if !SOURCES.contains(&source) {
        let problem = Unusable::new(format!("unknown source of a secret `{}`, expected {ACCEPTED}", escaped(source)));
        return Err(match nearest(source, SOURCES) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
    let wrong = || {
        // The words of a program may be secrets themselves.
        let found = if source == "exec" { "what is no program".to_owned() } else { describe(value.get_ref()) };
        Unusable::new(format!("found {found} as the {source} of a secret, expected {ACCEPTED}"))
    };
    if source == "exec" {
        let words = words(value.get_ref()).ok_or_else(wrong)?;
        let (program, arguments) = words.split_first().filter(|(program, _)| !program.is_empty()).ok_or_else(wrong)?;
        let shown = escaped(program);
        let value = match env.fetches() {
            true => text(&from_program(program, arguments, env)?, &format!("what the program {shown} gave"))?,
            false => nothing(),
        };
        return Ok((value, format!("program {shown}")));
    }
    let name = Spanned::get_ref(value).as_str().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
    let shown = escaped(name);
    let origin = match source {
        "env" => format!("environment variable {shown}"),
        "keyring" => format!("keyring, service pixchute, account {shown}"),
        _ => format!("{source} {shown}"),
    };
    if !env.fetches() {
        return Ok((nothing(), origin));
    }
    let value = match source {
        "env" => from_variable(name, env)?,
        "file" => from_file(name, env)?,
        "keyring" => text(&from_keyring(name, env)?, &format!("the secret {shown} in the keyring"))?,
        _ => from_credential(name, env)?,
    };
    Ok((value, origin))
}

/// What stands for a secret that nobody needs.
fn nothing() -> SecretString {
    SecretString::default()
}

/// An array of texts.
fn words(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|word| word.get_ref().as_str().map(ToOwned::to_owned)).collect()
}

fn from_variable(name: &str, env: &Environment<'_>) -> Result<SecretString, Unusable> {
    let shown = escaped(name);
    let value = env.var(name).ok_or_else(|| {
        Unusable::new(format!("the environment variable {shown} is not set"))
            .help("export it for the agent, or use { file = \"/path\" } or { credential = \"name\" }")
    })?;
    let value = value
        .into_string()
        .map_err(|_| Unusable::new(format!("the environment variable {shown} is not valid UTF-8 text")))?;
    if value.is_empty() {
        return Err(Unusable::new(format!("the environment variable {shown} is empty")));
    }
    Ok(SecretString::from(value))
}

/// A file that others can read is a mistake and no warning, as for the keys of ssh.
fn from_file(name: &str, env: &Environment<'_>) -> Result<SecretString, Unusable> {
    let path = env.expand(name).map_err(Unusable::new)?;
    if !path.is_absolute() {
        return Err(Unusable::new(format!("found the relative path \"{}\", expected an absolute one", escaped(name)))
            .help("begin it with / or ~/"));
    }
    let (value, mode) = read(&path)?;
    if mode & 0o077 != 0 {
        let shown = shown_path(&path);
        return Err(Unusable::new(format!("the secret file {shown} is open to others (mode {:03o})", mode & 0o777))
            .help(format!("chmod 600 '{shown}'")));
    }
    Ok(value)
}

/// What systemd has handed over counts; in a shell, what it would hand over. The mode is not looked at: systemd guards the
/// folder, and shows the mask of an ACL as the group's mode.
fn from_credential(name: &str, env: &Environment<'_>) -> Result<SecretString, Unusable> {
    let shown = escaped(name);
    if name.contains('/') || name == ".." || name == "." || name.contains('\0') {
        return Err(Unusable::new(format!("found \"{shown}\", expected the name of a credential without a path")));
    }
    let none = format!("there is no credential {shown}: $CREDENTIALS_DIRECTORY is not set");
    let given = env.var("CREDENTIALS_DIRECTORY").filter(|value| !value.is_empty()).map(PathBuf::from);
    let Some(folder) = given.as_deref().or(env.credentials()) else {
        return Err(Unusable::new(none).help(format!("systemd sets it for units with LoadCredential={shown}:/path")));
    };
    let path = folder.join(name);
    let absent = || fs::metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if given.is_none() && absent() {
        let path = shown_path(&path);
        return Err(Unusable::new(format!("{none}, and there is no {path}"))
            .help(format!("put it there: install -D -m 600 /dev/stdin '{path}'")));
    }
    let (value, _) = read(&path)?;
    Ok(value)
}

/// The content of a secret file without the newline at its end, and its mode. What is not a regular file is not opened:
/// opening a pipe could wait for ever.
fn read(path: &Path) -> Result<(SecretString, u32), Unusable> {
    let shown = shown_path(path);
    let unreadable = |error: std::io::Error| Unusable::new(format!("the secret file {shown} cannot be read: {error}"));
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Unusable::new(format!("the secret file {shown} is not a regular file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    // As much room as it may take: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET as usize + 64));
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(Unusable::new(format!("the secret file {shown} is larger than {} KiB", MAX_SECRET / 1024)));
    }
    Ok((text(&bytes, &format!("the secret file {shown}"))?, mode))
}

/// The text without the newline at its end.
fn text(bytes: &[u8], whose: &str) -> Result<SecretString, Unusable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unusable::new(format!("{whose} is not valid UTF-8 text")))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(Unusable::new(format!("{whose} is empty"))),
        value => Ok(SecretString::from(value)),
    }
}
