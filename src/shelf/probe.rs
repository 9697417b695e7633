//! Whether files can be made in a folder: one is made and removed again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The name of the file. Hidden, so that no agent and no desktop takes it for a picture.
#[must_use]
pub fn probe_name() -> String {
    format!(".pixchute-probe-{}.tmp", std::process::id())
}

/// Makes the file `name` in `folder`, writes into it, and removes it. Nothing is overwritten.
///
/// # Errors
/// What the system says.
#[expect(clippy::disallowed_methods, reason = "it removes the file that it has just made")]
pub fn probe(folder: &Path, name: &str) -> io::Result<()> {
    let path = folder.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file.write_all(b"pixchute doctor\n").and_then(|()| file.sync_all());
    drop(file);
    written.and(std::fs::remove_file(&path))
}
