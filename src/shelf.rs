//! Stand-in for the shelf until it is merged: only what the `local` host needs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Writes `path` through a temporary name in the same folder, made visible by a rename over the old file.
///
/// # Errors
/// What the system says; nothing is left behind.
pub fn write_atomic(path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    write_atomic_with(path, sync, |file| file.write_all(bytes))
}

/// Like [`write_atomic`] for content that does not fit into memory: `fill` writes it.
///
/// # Errors
/// What `fill` or the system says; nothing is left behind.
#[expect(clippy::disallowed_methods, reason = "the shelf is the place that renames and removes")]
pub fn write_atomic_with(path: &Path, sync: bool, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other("a path without a folder"))?;
    fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".{}.part", ulid::Ulid::generate()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    let written = fill(&mut file).and_then(|()| if sync { file.sync_all() } else { Ok(()) });
    let result = written.and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    } else if sync {
        File::open(parent)?.sync_all()?;
    }
    result
}
