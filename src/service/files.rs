//! Files that are installed: stamped, so that what the user has changed since is told from what is ours.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Artifact;
use crate::shelf::{self, ShelfError};

/// What the stamp begins with; the hash of all that stands before it follows.
const STAMP: &str = "Written by `pixchute service install`. Without a change of yours it is kept up to date; hash ";

/// How a file of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is not there.
    Missing,
    /// As it would be written now.
    Current,
    /// As it was written by an earlier version, or for another configuration.
    Outdated,
    /// The user has changed it, or it is the user's own.
    Changed,
}

/// How the file of `artifact` is.
///
/// # Errors
/// It cannot be read.
pub fn look(artifact: &Artifact) -> io::Result<Found> {
    let text = match fs::read_to_string(&artifact.path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Found::Changed),
        Err(error) => return Err(error),
    };
    Ok(match is_untouched(&text) {
        _ if text == stamped(artifact) => Found::Current,
        true => Found::Outdated,
        false => Found::Changed,
    })
}

/// The content of a file with its stamp.
#[must_use]
pub fn stamped(artifact: &Artifact) -> String {
    let text = format!("{}\n", artifact.text.trim_end());
    let stamp = format!("{STAMP}{}", blake3::hash(text.as_bytes()).to_hex());
    let comment = artifact.path.extension().is_some_and(|ending| ending == "plist");
    if comment { format!("{text}<!-- {stamp} -->\n") } else { format!("{text}# {stamp}\n") }
}

/// Whether `text` ends with a stamp that is true.
fn is_untouched(text: &str) -> bool {
    let Some((body, last)) = text.trim_end().rsplit_once('\n') else { return false };
    let hash = last.split_once(STAMP).map(|(_, hash)| hash.trim_end_matches(" -->"));
    hash == Some(blake3::hash(format!("{body}\n").as_bytes()).to_hex().as_str())
}

/// Writes the file, readable for everybody, and its folders.
///
/// # Errors
/// What the system says; the file is as it was.
pub fn write(artifact: &Artifact) -> Result<(), ShelfError> {
    shelf::write_atomic(&artifact.path, stamped(artifact).as_bytes(), true)?;
    // It holds no secret, and service managers run under other users. Where this fails they say so.
    let _ = fs::set_permissions(&artifact.path, fs::Permissions::from_mode(0o644));
    Ok(())
}

/// Removes the file.
///
/// # Errors
/// What the system says.
pub fn remove(path: &Path) -> Result<(), ShelfError> {
    shelf::remove(path)
}
