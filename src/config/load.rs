//! Which file is read, and the configuration of `run DIR…`, which needs none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::environment::normal;
use super::folder::{Place, conflicts};
use super::problem::shown_path;
use super::{Config, ConfigError, Draft, Folder, HostConfig, Problem, host, paths};

/// The largest configuration file: a thousand folders need a tenth of it.
const MAX_FILE: u64 = 1024 * 1024;

/// How often the system is asked for the file while it has trouble: a program that is to start anew at an exit by code 78
/// would never, and who waits at a terminal waits half a second.
const READS: u32 = 3;

/// The time between two of these.
const AGAIN: Duration = Duration::from_millis(250);

/// The file that [`load`] would read: `explicit`, or the first that exists of the user's and the system's.
#[must_use]
pub fn find(explicit: Option<&Path>) -> Option<PathBuf> {
    match explicit {
        Some(file) => Some(file.to_owned()),
        None => first_existing(&paths::config_files()),
    }
}

/// A file that exists but cannot be looked at counts: it must not be passed over silently.
fn first_existing(places: &[PathBuf]) -> Option<PathBuf> {
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    places.iter().find(|place| !fs::metadata(place).is_err_and(|error| absent(&error))).cloned()
}

/// Finds and reads the configuration.
///
/// # Errors
/// There is none, it cannot be read, or every mistake in it.
pub fn load(explicit: Option<&Path>) -> Result<Config, ConfigError> {
    draft(explicit)?.finish()
}

/// Like [`load`], but leaves room for the problems that others find in it: see [`Draft::add`].
///
/// # Errors
/// There is none, or it cannot be read.
pub fn draft(explicit: Option<&Path>) -> Result<Draft, ConfigError> {
    let (file, text) = found(explicit)?;
    Ok(Draft::with_secrets(&text, Some(&file)))
}

/// Like [`draft`], for commands that send nothing: no secret is fetched, so that none is asked for and none is missing.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn outline(explicit: Option<&Path>) -> Result<Draft, ConfigError> {
    let (file, text) = found(explicit)?;
    Ok(Draft::parse(&text, Some(&file)))
}

/// Like [`outline`], for a service whose user has this home directory: `~` means that.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn outline_for(home: &Path, explicit: Option<&Path>) -> Result<Draft, ConfigError> {
    let (file, text) = found(explicit)?;
    Ok(Draft::parse_at(home, &text, Some(&file)))
}

fn found(explicit: Option<&Path>) -> Result<(PathBuf, String), ConfigError> {
    let file = find(explicit).ok_or_else(|| none_found(&paths::config_files()))?;
    let text = read(&file)?;
    // Messages and relative paths must not depend on where the agent was started.
    Ok((std::path::absolute(&file).unwrap_or(file), text))
}

/// Reads `text` as a configuration, without its secrets; `file` is named in messages.
///
/// # Errors
/// Every mistake in it.
pub fn parse(text: &str, file: Option<&Path>) -> Result<Config, ConfigError> {
    Draft::parse(text, file).finish()
}

fn none_found(places: &[PathBuf]) -> ConfigError {
    let places: Vec<String> = places.iter().map(|place| shown_path(place)).collect();
    let message = format!("no configuration found: there is neither {}", places.join(" nor "));
    let help = "`pixchute run DIR` needs none; or copy config/pixchute.toml to the first place".to_owned();
    ConfigError::new(None, String::new(), vec![Problem::nowhere("", message, Some(help))])
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let refused = |message: String, help: Option<String>| {
        ConfigError::new(Some(file.to_owned()), String::new(), vec![Problem::nowhere("", message, help)])
    };
    let cannot = |error: io::Error| ConfigError {
        passing: may_pass(&error),
        ..refused(format!("the configuration cannot be read: {error}"), None)
    };
    let Some(bytes) = bytes_of(file).map_err(cannot)? else {
        return Err(refused("the configuration is not a regular file".to_owned(), None));
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(refused(format!("the configuration is larger than {} KiB", MAX_FILE / 1024), None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        refused(format!("line {line} is not valid UTF-8 text"), Some("save the file as UTF-8".to_owned()))
    })
}

/// The content of a regular file, or as much of it as says that it is too large; `None` for anything else.
fn bytes_of(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let read = || {
        if !fs::metadata(file)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    for _ in 1..READS {
        match read() {
            Err(error) if may_pass(&error) => std::thread::sleep(AGAIN),
            done => return done,
        }
    }
    read()
}

/// Whether the system may do later what it refuses now, with nothing changed.
fn may_pass(error: &io::Error) -> bool {
    const PASSING: [Errno; 8] = [
        Errno::IO,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::NOSPC,
        Errno::STALE,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(error).is_some_and(|errno| PASSING.contains(&errno))
}

/// The configuration of `run DIR… [--host NAME]`: these folders with everything by default, made if they do not exist;
/// the host is `local` unless given, and what `base` says of it applies. The other folders and hosts of `base` do not.
///
/// # Errors
/// A name that cannot be one, the same directory twice, directories that lie in each other.
pub fn for_directories(base: Config, dirs: &[PathBuf], host: Option<&str>) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let host = host.unwrap_or("local");
    if let Some(message) = host::name_mistake(host) {
        problems.push(Problem::nowhere("--host", message, None));
    }
    let mut folders = Vec::new();
    for dir in dirs {
        match absolute(dir) {
            Ok(path) => folders.push((Folder { create: true, ..Folder::new(path, host) }, Place::default())),
            Err(error) => {
                let message = format!("\"{}\" cannot be made an absolute path: {error}", shown_path(dir));
                problems.push(Problem::nowhere("", message, None));
            }
        }
    }
    problems.extend(conflicts(&folders));
    if !problems.is_empty() {
        return Err(ConfigError::new(None, String::new(), problems));
    }
    let mut base = base;
    let table = base.hosts.remove(host).unwrap_or_else(|| HostConfig::new(host));
    base.hosts = [(host.to_owned(), table)].into();
    base.folders = folders.into_iter().map(|(folder, _)| folder).collect();
    Ok(base)
}

/// `dir` from the root. `..` is resolved through the links that exist; below them there is nothing it could mean.
fn absolute(dir: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(dir)?;
    if path.parent().is_none() {
        return Err(io::Error::other("the root of the file system cannot be a drop folder"));
    }
    let mut resolved = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            resolved = resolved.canonicalize().unwrap_or(resolved);
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    Ok(normal(resolved.as_os_str()))
}
