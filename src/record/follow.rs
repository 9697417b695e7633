//! Stand-in for following a manifest until it is merged: no rotation.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Follows one manifest.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
}

impl Follower {
    /// The last `n` lines, and a follower of what comes after them.
    ///
    /// # Errors
    /// What the system says.
    pub fn last_lines(path: &Path, n: usize) -> io::Result<(Self, Vec<String>)> {
        let mut follower = Self { path: path.to_owned(), offset: 0 };
        let mut lines = follower.poll()?;
        lines.drain(..lines.len().saturating_sub(n));
        Ok((follower, lines))
    }

    /// The complete lines that came since the last call.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        self.offset += complete as u64;
        Ok(text[..complete].lines().map(ToOwned::to_owned).collect())
    }
}
