//! The sidecar: the record beside one image, `IMG.jpg.json`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Record;
use crate::job::JobId;
use crate::shelf::{self, ShelfError};

/// A file this large is no sidecar: records are a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// Where the sidecar of `image` lies.
#[must_use]
pub fn path_for(image: &Path) -> PathBuf {
    shelf::sidecar_path(image)
}

/// Whether `path` is where the sidecar of `image` lies.
#[must_use]
pub fn is_sidecar_of(path: &Path, image: &Path) -> bool {
    path == path_for(image)
}

/// Reads the sidecar of `image`; `None` if there is none, or something else lies in its place.
#[must_use]
pub fn read(image: &Path) -> Option<Record> {
    let mut text = Vec::new();
    let path = path_for(image);
    // Not a pipe that somebody put there: opening it would wait for ever.
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Record::parse(&text).ok()
}

/// Writes the sidecar of `image`, or replaces it by `record`.
///
/// # Errors
/// [`ShelfError::Taken`] if the file there is none of ours (photo exports have such files too), else what the system says.
pub fn write(image: &Path, record: &Record) -> Result<(), ShelfError> {
    write_line(image, &record.line())
}

/// Like [`write()`], for a record that is a line already.
///
/// # Errors
/// As [`write()`].
pub fn write_line(image: &Path, line: &str) -> Result<(), ShelfError> {
    let path = path_for(image);
    match shelf::write_new(&path, line.as_bytes()) {
        Err(ShelfError::Taken { .. }) if read(image).is_some() => shelf::write_atomic(&path, line.as_bytes(), false),
        written => written,
    }
}

/// Removes the sidecar of `image` if it tells of this job, and what a crash has left of a newer one: the image has gone
/// elsewhere, and its record with it.
///
/// # Errors
/// What the system says.
pub fn remove_if_of(image: &Path, job: JobId) -> Result<(), ShelfError> {
    if read(image).is_some_and(|record| record.job == job) {
        shelf::remove_begun(&path_for(image))?;
        shelf::remove(&path_for(image))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::record::tests::uploaded;

    #[test]
    fn a_sidecar_is_written_replaced_and_read_back() {
        let dir = TempDir::new().expect("temp");
        let image = dir.path().join("IMG.jpg");
        let mut record = uploaded(1);
        write(&image, &record).expect("written");
        record.seq = 2;
        write(&image, &record).expect("replaced");
        assert_eq!(read(&image), Some(record));
        assert!(is_sidecar_of(&dir.path().join("IMG.jpg.json"), &image));
        assert!(!is_sidecar_of(&dir.path().join("IMG.png.json"), &image));
    }

    #[test]
    fn r21_what_a_kill_left_of_a_sidecar_goes_with_it() {
        let dir = TempDir::new().expect("temp");
        let image = dir.path().join("IMG.jpg");
        let record = uploaded(1);
        write(&image, &record).expect("written");
        shelf::begin(&path_for(&image), b"{\"v\":1").expect("begun");
        remove_if_of(&image, JobId::generate()).expect("nothing to do");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 2, "it tells of another job");
        remove_if_of(&image, record.job).expect("removed");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0);
    }

    #[test]
    fn somebody_elses_json_beside_an_image_is_left_alone() {
        let dir = TempDir::new().expect("temp");
        let image = dir.path().join("IMG.jpg");
        std::fs::write(path_for(&image), r#"{"title":"IMG.jpg"}"#).expect("written");
        assert!(matches!(write(&image, &uploaded(1)), Err(ShelfError::Taken { .. })));
        assert_eq!(read(&image), None);
        assert_eq!(std::fs::read_to_string(path_for(&image)).expect("read"), r#"{"title":"IMG.jpg"}"#);
    }
}
