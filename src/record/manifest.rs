//! The manifest: an append-only file of records, one a line, one file per drop folder.
//!
//! Owns the open file and the rules that keep it readable for `tail -F`: one `write` per line, only whole lines, and
//! following the file's name over rotation and deletion. A torn last line (a power cut, a full disk) is repaired when the
//! file is opened. Never removes a complete line, never creates the folder, never reads a whole manifest into memory.
//!
//! **Limits.** Rotated manifests that are compressed are not read: keep some uncompressed ones (`delaycompress`), or a
//! lost ledger cannot be rebuilt from them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::vec;

use rustix::fs::OFlags;

use super::Record;
use crate::job::JobId;
use crate::shelf;

/// How far from its end a manifest is searched for a line by [`holds`]: the lines that one crash can leave in doubt are
/// those of one batch, a few hundred of about 700 bytes.
const SEARCHED: u64 = 1 << 20;

/// This and what is higher is none of ours: no agent comes so far, and not every reader of JSON tells such numbers apart.
pub(super) const HIGHEST_SEQ: u64 = 1 << 53;

/// How many lines at the end are looked at for the highest number: the last one may be torn, or somebody's remark.
const LOOKED_AT: usize = 8;

/// Longer lines are no records: the longest possible one has a file name of 4 KiB three times, escaped, and a message.
const MAX_LINE: usize = 256 << 10;

/// How much is read at once when a file is read backwards.
const CHUNK: usize = 64 << 10;

/// Endings of siblings that are not read: packed ones, and the torn lines that [`Manifest::open`] saves.
const NOT_READ: [&[u8]; 8] = [b".gz", b".xz", b".zst", b".bz2", b".lz4", b".zip", b".part", b".torn"];

/// A manifest that is open for appending.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    file: File,
    /// A half line could not be taken back: the next batch repairs it first.
    torn: bool,
    /// How long it was after our last line: if it is not now, somebody else was here, and may have left half a line.
    length: u64,
}

/// What [`Manifest::open`] had to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// The file was whole, or is new.
    Nothing,
    /// The last line was a whole record and got its line feed.
    Completed,
    /// The last line was torn: it was cut off, and its bytes were appended to `saved`.
    Cut {
        /// How many bytes.
        bytes: u64,
        /// `manifest.jsonl.torn`
        saved: PathBuf,
    },
}

/// A batch that could not be written completely.
#[derive(Debug, thiserror::Error)]
#[error("cannot append to the manifest {}: {source}", path.display())]
pub struct AppendError {
    /// The manifest.
    pub path: PathBuf,
    /// How many lines of the batch are in it, whole, nevertheless.
    pub written: usize,
    /// What the system said.
    pub source: io::Error,
}

impl Manifest {
    /// Opens the manifest at `path`, creates it if it is missing (but not its folder), and repairs its last line.
    ///
    /// # Errors
    /// What the system says, or that the path is no regular file.
    pub fn open(path: &Path) -> io::Result<(Self, Repaired)> {
        let (file, new) = match open_file(path, true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (open_file(path, false)?, false),
            result => (result?, true),
        };
        if new {
            sync_folder(path)?;
        }
        let mut manifest = Self { path: path.to_owned(), file, torn: false, length: 0 };
        let repaired = manifest.repair()?;
        Ok((manifest, repaired))
    }

    /// Appends `lines`, each ending in a line feed, each with one `write`. Follows the name first: if the file was renamed
    /// or removed, the lines go to a new one. What a failing write has left of a line is taken back.
    ///
    /// # Errors
    /// [`AppendError`] with the number of lines that were written. [`Manifest::sync`] has not happened then.
    pub fn append(&mut self, lines: &[String]) -> Result<(), AppendError> {
        let failed = |path: &Path, written, source| AppendError { path: path.to_owned(), written, source };
        self.follow().map_err(|error| failed(&self.path, 0, error))?;
        for (written, line) in lines.iter().enumerate() {
            self.append_line(line.as_bytes()).map_err(|error| failed(&self.path, written, error))?;
        }
        Ok(())
    }

    /// Makes the appended lines survive a power cut.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn append_line(&mut self, line: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        write_line(&mut &self.file, line).map_err(|(written, error)| {
            // Only if nobody else has appended meanwhile: their line is worth more than our half one.
            let alone = self.file.metadata().is_ok_and(|metadata| metadata.len() == before + written);
            self.torn = written > 0 && !(alone && self.file.set_len(before).is_ok());
            error
        })?;
        self.length = before + line.len() as u64;
        Ok(())
    }

    /// Opens the file anew if the name belongs to another one now, or to none.
    fn follow(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        match self.path.metadata() {
            Ok(now) if is_same(&ours, &now) => self.mend(now.len()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.reopen(),
        }
    }

    fn mend(&mut self, length: u64) -> io::Result<()> {
        if self.torn || length != self.length {
            self.repair()?;
            self.torn = false;
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let (opened, _repaired) = Self::open(&self.path)?;
        // What was appended to the old file and not synced yet would never be.
        self.file.sync_data()?;
        *self = opened;
        Ok(())
    }

    fn repair(&mut self) -> io::Result<Repaired> {
        let length = self.file.metadata()?.len();
        let start = last_line_start(&self.file, length)?;
        if start == length {
            self.length = length;
            return Ok(Repaired::Nothing);
        }
        let torn = length - start;
        let mut line = Vec::new();
        self.file.seek(SeekFrom::Start(start))?;
        Read::by_ref(&mut self.file).take(MAX_LINE as u64 + 1).read_to_end(&mut line)?;
        if line.len() as u64 == torn && Record::parse(&line).is_ok() {
            write_line(&mut &self.file, b"\n").map_err(|(_, error)| error)?;
            self.file.sync_data()?;
            self.length = length + 1;
            return Ok(Repaired::Completed);
        }
        let saved = beside(&self.path, ".torn");
        self.file.seek(SeekFrom::Start(start))?;
        let mut side = OpenOptions::new().append(true).create(true).open(&saved)?;
        io::copy(&mut Read::by_ref(&mut self.file).take(torn), &mut side)?;
        side.write_all(b"\n")?;
        side.sync_all()?;
        self.file.set_len(start)?;
        self.file.sync_all()?;
        self.length = start;
        Ok(Repaired::Cut { bytes: torn, saved })
    }
}

/// Writes `line` with one call if the system takes it whole, else the rest too; the error tells how much was written.
fn write_line(file: &mut impl Write, line: &[u8]) -> Result<(), (u64, io::Error)> {
    let mut written = 0;
    while written < line.len() {
        match file.write(&line[written..]) {
            Ok(0) => return Err((written as u64, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written as u64, error)),
        }
    }
    Ok(())
}

/// Opens for appending; never waits for the reader of a pipe.
fn open_file(path: &Path, create_new: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(create_new)
        .custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other(format!("{} is no regular file", path.display())))
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    shelf::sync_dir(folder).map_err(io::Error::other)
}

fn is_same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Where the last, unfinished line of the first `length` bytes begins: `length` if they end in a line feed.
pub(super) fn last_line_start(file: &File, length: u64) -> io::Result<u64> {
    start_of_lines(file, length, 0, u64::MAX)
}

/// Where the last `lines` complete lines and what follows them begin in the first `length` bytes, looking back `reach`
/// bytes at most; then the place where it stopped.
pub(super) fn start_of_lines(file: &File, length: u64, lines: usize, reach: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let lowest = length.saturating_sub(reach);
    let (mut end, mut feeds) = (length, 0);
    let mut buffer = vec![0; CHUNK];
    while end > lowest {
        let begin = end.saturating_sub(CHUNK as u64).max(lowest);
        let chunk = &mut buffer[..usize::try_from(end - begin).unwrap_or(CHUNK)];
        file.read_exact_at(chunk, begin)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            if *byte == b'\n' {
                if feeds == lines {
                    return Ok(begin + index as u64 + 1);
                }
                feeds += 1;
            }
        }
        end = begin;
    }
    Ok(lowest)
}

/// Whether the line of `job` with this `seq` is among the last lines of the manifest at `path` or of its newest rotated
/// sibling: 1 MiB of each.
///
/// # Errors
/// What the system says; a missing manifest holds nothing.
pub fn holds(path: &Path, job: JobId, seq: u64) -> io::Result<bool> {
    Ok(find(path, job, |record| record.seq == seq)?.is_some())
}

/// The first line of `job` that is `wanted` among the last lines of the manifest at `path` or of its newest rotated
/// sibling: 1 MiB of each.
///
/// # Errors
/// What the system says; a missing manifest holds nothing.
pub fn find(path: &Path, job: JobId, wanted: impl Fn(&Record) -> bool) -> io::Result<Option<Record>> {
    let newest_sibling = siblings(path)?.pop();
    let id = job.to_string();
    for file in [Some(path.to_owned()), newest_sibling].into_iter().flatten() {
        let Some(file) = open_to_read(&file)? else { continue };
        let length = file.metadata()?.len();
        let mut lines = Lines::new(file, length.saturating_sub(SEARCHED))?;
        while let Some(line) = lines.next_line()? {
            // Looking for the id first is cheaper than parsing thousands of lines of other jobs.
            let mentioned = str::from_utf8(line).is_ok_and(|line| line.contains(&id));
            let record = if mentioned { Record::parse(line).ok() } else { None };
            if let Some(record) = record.filter(|record| record.job == job && wanted(record)) {
                return Ok(Some(record));
            }
        }
    }
    Ok(None)
}

/// The highest number in the last lines of the manifest at `path`, or of its newest rotated sibling if it has none; 0 if there
/// is none at all.
///
/// # Errors
/// What the system says; a missing manifest has no line.
pub fn last_seq(path: &Path) -> io::Result<u64> {
    match last_seq_in(path)? {
        0 => siblings(path)?.pop().map_or(Ok(0), |newest| last_seq_in(&newest)),
        last => Ok(last),
    }
}

fn last_seq_in(path: &Path) -> io::Result<u64> {
    let Some(file) = open_to_read(path)? else { return Ok(0) };
    let length = file.metadata()?.len();
    let start = start_of_lines(&file, length, LOOKED_AT, SEARCHED)?;
    let mut lines = Lines::new(file, start)?;
    let mut last = 0;
    while let Some(line) = lines.next_line()? {
        let seq = Record::parse(line).map_or(0, |record| record.seq);
        if seq < HIGHEST_SEQ {
            last = last.max(seq);
        }
    }
    Ok(last)
}

/// Rotated manifests beside `path` (`manifest.jsonl.1`, `manifest.jsonl-20261123`), oldest first by the time of their
/// last line.
fn siblings(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let ours = path.file_name().unwrap_or_default().as_bytes();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.as_bytes().strip_prefix(ours).unwrap_or_default();
        let rotated = rest.starts_with(b".") || rest.starts_with(b"-");
        if rotated && !NOT_READ.iter().any(|ending| rest.ends_with(ending)) {
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                found.push((metadata.mtime(), metadata.mtime_nsec(), entry.path()));
            }
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, _, path)| path).collect())
}

/// All records of the manifest at `path` and of its rotated siblings, oldest file first.
///
/// # Errors
/// When the folder cannot be listed.
pub fn replay(path: &Path) -> io::Result<Replay> {
    replay_from(path, 0)
}

/// The same without the files that end before the number `from`, and those that are older.
///
/// # Errors
/// When the folder cannot be listed, or a file's end cannot be read.
pub(super) fn replay_from(path: &Path, from: u64) -> io::Result<Replay> {
    let mut files = siblings(path)?;
    files.push(path.to_owned());
    if from > 0 {
        let mut first = files.len();
        while first > 0 {
            // One without a line says nothing about those before it.
            let last = last_seq_in(&files[first - 1])?;
            if last > 0 && last < from {
                break;
            }
            first -= 1;
        }
        files.drain(..first);
    }
    Ok(Replay { files: files.into_iter(), lines: None, skipped: 0 })
}

/// The iterator of [`replay`]; holds one line in memory at a time.
#[derive(Debug)]
pub struct Replay {
    files: vec::IntoIter<PathBuf>,
    lines: Option<Lines>,
    skipped: u64,
}

impl Replay {
    /// How many lines so far were no records.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            let Some(lines) = &mut self.lines else {
                let Some(path) = self.files.next() else { return Ok(None) };
                self.lines = open_to_read(&path)?.map(|file| Lines::new(file, 0)).transpose()?;
                continue;
            };
            match lines.next_line() {
                Ok(Some([])) => {}
                Ok(Some(line)) => match Record::parse(line) {
                    Ok(record) => return Ok(Some(record)),
                    Err(_) => self.skipped += 1,
                },
                Ok(None) => self.lines = None,
                Err(error) => {
                    self.lines = None;
                    return Err(error);
                }
            }
        }
    }
}

impl Iterator for Replay {
    type Item = io::Result<Record>;

    /// A file that cannot be read is an error, once; the next call goes on with the next file.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

/// Opens a regular file for reading; `None` if there is none of this name.
pub(super) fn open_to_read(path: &Path) -> io::Result<Option<File>> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other(format!("{} is no regular file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// The lines of a file, none longer than [`MAX_LINE`] in memory.
#[derive(Debug)]
struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    fn new(mut file: File, start: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { reader: BufReader::with_capacity(CHUNK, file), line: Vec::new() })
    }

    /// The next line without its line feed; a line that is too long comes cut off.
    fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let read = Read::by_ref(&mut self.reader).take(MAX_LINE as u64).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if read == MAX_LINE {
            self.reader.skip_until(b'\n')?;
        }
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests;
