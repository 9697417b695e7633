//! Values that may be secrets: what a host's option is, and where a secret is fetched from.
//!
//! Secrets are resolved once, when the configuration is read, so that a missing one is a message at the start and not a
//! failed upload. Nothing here repeats a value, only where it came from.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::problem::{escaped, nearest, shown_path};
use super::section::{NOT_YET, describe};

/// The largest secret: keys and tokens have some hundred bytes, service account files some thousand.
const MAX_SECRET: u64 = 64 * 1024;

/// What [`Setting::origin`] says of a value that stands in the configuration itself.
const IN_CONFIG: &str = "config";

/// Where a secret can be fetched from.
const SOURCES: [&str; 3] = ["env", "file", "credential"];

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
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
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

fn from_source(table: &DeTable<'_>, env: &Environment<'_>) -> Result<(SecretString, String), Unusable> {
    let accepted = "{ env = \"NAME\" }, { file = \"/path\" } or { credential = \"name\" }";
    let mut entries = table.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        return Err(Unusable::new(format!("found a table with {} keys, expected {accepted}", table.len())));
    };
    let source: &str = key.get_ref();
    if source == "keyring" || source == "exec" {
        return Err(Unusable::new(format!("secrets from {{ {source} = … }} are {NOT_YET}, expected {accepted}")));
    }
    if !SOURCES.contains(&source) {
        let problem = Unusable::new(format!("unknown source of a secret `{}`, expected {accepted}", escaped(source)));
        return Err(match nearest(source, SOURCES) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
    let name = Spanned::get_ref(value).as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
        Unusable::new(format!("found {} as the {source} of a secret, expected {accepted}", describe(value.get_ref())))
    })?;
    match source {
        "env" => from_variable(name, env),
        "file" => from_file(name, env),
        _ => from_credential(name, env),
    }
}

fn from_variable(name: &str, env: &Environment<'_>) -> Result<(SecretString, String), Unusable> {
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
    Ok((SecretString::from(value), format!("environment variable {shown}")))
}

fn from_file(name: &str, env: &Environment<'_>) -> Result<(SecretString, String), Unusable> {
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
    Ok((value, format!("file {}", escaped(name))))
}

/// The mode is not looked at: systemd guards the folder, and shows the mask of an ACL as the group's mode.
fn from_credential(name: &str, env: &Environment<'_>) -> Result<(SecretString, String), Unusable> {
    let shown = escaped(name);
    let directory = env.var("CREDENTIALS_DIRECTORY").filter(|value| !value.is_empty()).ok_or_else(|| {
        Unusable::new(format!("there is no credential {shown}: $CREDENTIALS_DIRECTORY is not set"))
            .help(format!("systemd sets it for units with LoadCredential={shown}:/path"))
    })?;
    if name.contains('/') || name == ".." || name == "." || name.contains('\0') {
        return Err(Unusable::new(format!("found \"{shown}\", expected the name of a credential without a path")));
    }
    let (value, _) = read(&PathBuf::from(directory).join(name))?;
    Ok((value, format!("credential {shown}")))
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
    let mut bytes = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(Unusable::new(format!("the secret file {shown} is larger than {} KiB", MAX_SECRET / 1024)));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Unusable::new(format!("the secret file {shown} is not valid UTF-8 text")))?;
    let value = text.trim_end_matches(['\n', '\r']);
    if value.is_empty() {
        return Err(Unusable::new(format!("the secret file {shown} is empty")));
    }
    Ok((SecretString::from(value), mode))
}
