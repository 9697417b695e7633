//! The environment of the process as the configuration sees it, as a value: tests bring their own.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use super::problem::escaped;

/// Variables and home directory.
pub(super) struct Environment<'e> {
    variables: &'e dyn Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
    /// The variables that hold secrets.
    hidden: BTreeSet<String>,
    /// Where credentials lie if systemd has handed over none.
    credentials: Option<PathBuf>,
    fetches: bool,
}

impl<'e> Environment<'e> {
    /// The environment with these variables and this home directory.
    pub(super) fn new(variables: &'e dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        Self { variables, home, hidden: BTreeSet::new(), credentials: None, fetches: true }
    }

    /// The same, in which secrets are left where they are.
    pub(super) fn without_secrets(self) -> Self {
        Self { fetches: false, ..self }
    }

    /// The same for the configuration `file`, knowing which variables hold secrets.
    pub(super) fn of(&self, file: Option<&Path>, hidden: BTreeSet<String>) -> Self {
        let credentials = file.and_then(Path::parent).map(|folder| folder.join("credentials"));
        Self { variables: self.variables, home: self.home.clone(), hidden, credentials, fetches: self.fetches }
    }

    /// Where credentials lie if systemd has handed over none: beside the configuration.
    pub(super) fn credentials(&self) -> Option<&Path> {
        self.credentials.as_deref()
    }

    /// The variables that no program gets to see.
    pub(super) fn hidden(&self) -> &BTreeSet<String> {
        &self.hidden
    }

    /// Whether secrets are fetched.
    pub(super) fn fetches(&self) -> bool {
        self.fetches
    }

    /// The environment of this process.
    pub(super) fn of_process() -> Environment<'static> {
        let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned());
        Environment::new(&process_variable, home)
    }

    /// The environment of this process, but with this home directory.
    pub(super) fn of_process_at(home: &Path) -> Environment<'static> {
        Environment::new(&process_variable, Some(home.to_owned()))
    }

    /// The value of a variable.
    pub(super) fn var(&self, name: &str) -> Option<OsString> {
        (self.variables)(name)
    }

    /// `text` as a path: a leading `~`, `$VAR` and `${VAR}` are replaced, `$$` is a plain `$`.
    ///
    /// # Errors
    /// A message that says what cannot be replaced.
    pub(super) fn expand(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("found an empty path".to_owned());
        }
        if text.contains('\0') {
            return Err("found a path with a NUL character".to_owned());
        }
        let (mut path, mut rest) = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let home = self.home.as_ref().ok_or("`~` cannot be replaced: there is no home directory")?;
                (home.clone().into_os_string(), rest)
            }
            Some(_) => {
                return Err(format!(
                    "found \"{}\": only one's own home directory can be written with `~`",
                    escaped(text)
                ));
            }
            None => (OsString::new(), text),
        };
        while let Some((before, after)) = rest.split_once('$') {
            path.push(before);
            rest = self.push_variable(&mut path, after)?;
        }
        path.push(rest);
        Ok(normal(&path))
    }

    /// Appends the value of the variable that `text` begins with, and returns what follows.
    fn push_variable<'t>(&self, path: &mut OsString, text: &'t str) -> Result<&'t str, String> {
        if let Some(rest) = text.strip_prefix('$') {
            path.push("$");
            return Ok(rest);
        }
        let (name, rest) = match text.strip_prefix('{') {
            Some(inner) => inner.split_once('}').ok_or("found `${` without `}`")?,
            None => {
                let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
                text.split_at(end)
            }
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err("found `$` without the name of a variable; a plain `$` is written `$$`".to_owned());
        }
        let value = self.var(name).filter(|value| !value.is_empty());
        path.push(value.ok_or_else(|| format!("the environment variable {} is not set", escaped(name)))?);
        Ok(rest)
    }
}

fn process_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// `path` without `.` and doubled slashes, so that equal places are written equally. `..` stays: what it means depends
/// on links.
pub(super) fn normal(path: &OsStr) -> PathBuf {
    Path::new(path).components().filter(|part| *part != Component::CurDir).collect()
}
