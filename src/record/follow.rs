//! Reading a manifest while it grows: `pixchute tail [-f]`.
//!
//! Gives whole lines only, over rotation, truncation, deletion and re-creation. The caller decides when to look.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::manifest::{last_line_start, open_to_read, start_of_lines};

/// How far from its end a file is searched for its last lines: more than anybody reads.
const REACH: u64 = 64 << 20;

/// How much one [`Follower::poll`] reads at most: the rest comes with the next.
const AT_ONCE: usize = 1 << 20;

/// A line without an end is given up at this length: it is no record.
const MAX_LINE: usize = 1 << 20;

/// The last `n` complete lines of the file at `path`, without their line feeds; none if it does not exist.
///
/// # Errors
/// What the system says.
pub fn last_lines(path: &Path, n: usize) -> io::Result<Vec<String>> {
    Follower::after_last_lines(path, n).map(|(_, lines)| lines)
}

/// So much of what was read last is compared at the next look: some lines, each with its number and its job.
const REMEMBERED: usize = 4 << 10;

/// Follows a manifest by its name.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// Where the next byte is read.
    offset: u64,
    /// The bytes before it: when others stand there, the file was cut in place and has grown again since.
    seen: Vec<u8>,
    /// The beginning of a line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Follower {
    /// Starts after the last `n` complete lines of `path` and gives those.
    ///
    /// # Errors
    /// What the system says; a missing file is waited for.
    pub fn after_last_lines(path: &Path, n: usize) -> io::Result<(Self, Vec<String>)> {
        let file = open_to_read(path)?;
        let mut follower = Self { path: path.to_owned(), file, offset: 0, seen: Vec::new(), partial: Vec::new() };
        let Some(file) = &follower.file else { return Ok((follower, Vec::new())) };
        let end = last_line_start(file, file.metadata()?.len())?;
        let start = start_of_lines(file, end, n, REACH)?;
        let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start)?;
        follower.offset = end;
        let mut seen = vec![0; usize::try_from(end).map_or(REMEMBERED, |end| end.min(REMEMBERED))];
        let from = end - seen.len() as u64;
        file.read_exact_at(&mut seen, from)?;
        follower.seen = seen;
        let mut lines = follower.split(&bytes);
        // When the search ended in the middle of a line, there is one too many.
        lines.drain(..lines.len().saturating_sub(n));
        Ok((follower, lines))
    }

    /// The complete lines that were appended since the last call, about 1 MiB of them at most. An empty answer means
    /// that there is nothing more for now.
    ///
    /// # Errors
    /// What the system says; the next call tries again.
    pub fn poll(&mut self) -> io::Result<Vec<String>> {
        loop {
            let lines = self.read_more()?;
            // The old file is read to its end before the name is followed to a new one.
            if !lines.is_empty() || !self.follow()? {
                return Ok(lines);
            }
        }
    }

    fn read_more(&mut self) -> io::Result<Vec<String>> {
        if self.is_cut()? {
            // In place (copytruncate): what is there now is new.
            self.begin();
        }
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let mut bytes = vec![0; AT_ONCE];
        loop {
            let read = file.read_at(&mut bytes, self.offset)?;
            self.offset += read as u64;
            self.seen.extend_from_slice(&bytes[..read]);
            self.seen.drain(..self.seen.len().saturating_sub(REMEMBERED));
            if read == 0 || bytes[..read].contains(&b'\n') {
                bytes.truncate(read);
                return Ok(self.split(&bytes));
            }
            self.partial.extend_from_slice(&bytes[..read]);
            self.partial.truncate(MAX_LINE);
        }
    }

    /// Whether the file is shorter than what was read of it, or something else stands there now.
    fn is_cut(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        if file.metadata()?.len() < self.offset {
            return Ok(true);
        }
        let mut now = vec![0; self.seen.len()];
        let from = self.offset - now.len() as u64;
        match file.read_exact_at(&mut now, from) {
            Ok(()) => Ok(now != self.seen),
            // Cut in this very moment.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self) {
        self.offset = 0;
        self.seen.clear();
        self.partial.clear();
    }

    /// Opens the file that has the name now, if it is another one; whether it did.
    fn follow(&mut self) -> io::Result<bool> {
        let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let now = match self.path.metadata() {
            Ok(metadata) => identity(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let ours = self.file.as_ref().map(File::metadata).transpose()?.as_ref().map(identity);
        if ours == Some(now) {
            return Ok(false);
        }
        let Some(file) = open_to_read(&self.path)? else { return Ok(false) };
        self.file = Some(file);
        self.begin();
        Ok(true)
    }

    fn split(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            lines.push(String::from_utf8_lossy(&self.partial).into_owned());
            self.partial.clear();
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::shelf;

    fn append(path: &Path, text: &str) {
        use std::io::Write;
        let mut file = File::options().append(true).create(true).open(path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn r33_a_file_that_was_cut_and_has_grown_again_is_read_from_its_beginning() {
        let dir = TempDir::new().expect("temp");
        let path = dir.path().join("m");
        append(&path, "1 a\n2 b\n");
        let (mut from_zero, _) = Follower::after_last_lines(&path, 0).expect("read");
        let (mut follower, lines) = Follower::after_last_lines(&path, 1).expect("read");
        assert_eq!(lines, ["2 b"]);
        append(&path, "3 c\n");
        assert_eq!(follower.poll().expect("read"), ["3 c"]);
        for text in ["4 d\n5 e\n6 f\n", "a longer line than before\nand another\n", "x\n"] {
            fs::write(&path, text).expect("cut in place and written anew");
            let expected: Vec<&str> = text.lines().collect();
            assert_eq!(follower.poll().expect("read"), expected);
            assert_eq!(follower.poll().expect("read"), Vec::<String>::new());
            assert_eq!(from_zero.poll().expect("read"), expected);
        }
        // A line without an end is no cut.
        append(&path, "begi");
        assert_eq!(follower.poll().expect("read"), Vec::<String>::new());
        append(&path, "nning\n");
        assert_eq!(follower.poll().expect("read"), ["beginning"]);
    }

    #[test]
    fn the_last_lines_are_whole_and_as_many_as_asked_for() {
        let dir = TempDir::new().expect("temp");
        let path = dir.path().join("m");
        assert_eq!(last_lines(&path, 3).expect("missing"), Vec::<String>::new());
        append(&path, "one\ntwo\n\nthree\ntor");
        assert_eq!(last_lines(&path, 0).expect("read"), Vec::<String>::new());
        assert_eq!(last_lines(&path, 2).expect("read"), ["", "three"]);
        assert_eq!(last_lines(&path, 9).expect("read"), ["one", "two", "", "three"]);
        let long: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
        fs::write(&path, long).expect("written");
        let lines = last_lines(&path, 20_000).expect("read");
        assert_eq!((lines.len(), lines[0].as_str(), lines[19_999].as_str()), (20_000, "line 30000", "line 49999"));
    }

    #[test]
    fn r33_a_follower_gives_whole_lines_over_rotation_truncation_and_deletion() {
        let dir = TempDir::new().expect("temp");
        let path = dir.path().join("m");
        let (mut follower, lines) = Follower::after_last_lines(&path, 5).expect("waits for it");
        assert_eq!(lines, Vec::<String>::new());
        assert_eq!(follower.poll().expect("nothing"), Vec::<String>::new());
        append(&path, "one\ntw");
        assert_eq!(follower.poll().expect("read"), ["one"]);
        append(&path, "o");
        assert_eq!(follower.poll().expect("read"), Vec::<String>::new());
        append(&path, "\nthree\n");
        assert_eq!(follower.poll().expect("read"), ["two", "three"]);

        append(&path, "last of the old\n");
        shelf::move_file(&path, &dir.path().join("m.1")).expect("rotated");
        append(&path, "first of the new\n");
        assert_eq!(follower.poll().expect("read"), ["last of the old"]);
        assert_eq!(follower.poll().expect("read"), ["first of the new"]);

        File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("truncated");
        append(&path, "again\n");
        assert_eq!(follower.poll().expect("read"), ["again"]);

        shelf::remove(&path).expect("removed");
        assert_eq!(follower.poll().expect("read"), Vec::<String>::new());
        append(&path, "back\n");
        assert_eq!(follower.poll().expect("read"), ["back"]);
    }

    #[test]
    fn a_follower_begins_where_the_last_lines_ended() {
        let dir = TempDir::new().expect("temp");
        let path = dir.path().join("m");
        append(&path, "one\ntwo\nthr");
        let (mut follower, lines) = Follower::after_last_lines(&path, 1).expect("opened");
        assert_eq!(lines, ["two"]);
        append(&path, "ee\n");
        assert_eq!(follower.poll().expect("read"), ["three"]);
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let dir = TempDir::new().expect("temp");
        let path = dir.path().join("m");
        append(&path, &"x".repeat(4 * MAX_LINE));
        append(&path, "\nnext\n");
        let mut follower = Follower {
            path: path.clone(),
            file: open_to_read(&path).expect("opened"),
            offset: 0,
            seen: Vec::new(),
            partial: Vec::new(),
        };
        let lines = follower.poll().expect("read");
        assert!(lines[0].len() <= MAX_LINE + AT_ONCE);
        assert_eq!(lines[1], "next");
    }
}
