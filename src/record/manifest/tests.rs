use std::fs;

use tempfile::TempDir;

use super::*;
use crate::record::tests::{timeout, uploaded};

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("temp");
    let path = dir.path().join("manifest.jsonl");
    (dir, path)
}

fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(Record::line).collect()
}

fn replayed(path: &Path) -> (Vec<u64>, u64) {
    let mut replay = replay(path).expect("listed");
    let seqs = replay.by_ref().map(|record| record.expect("readable").seq).collect();
    (seqs, replay.skipped())
}

#[test]
fn appended_records_are_replayed_in_order_and_found() {
    let (_dir, path) = place();
    let records: Vec<Record> = (1..=3).map(uploaded).collect();
    let (mut manifest, repaired) = Manifest::open(&path).expect("created");
    assert_eq!(repaired, Repaired::Nothing);
    manifest.append(&lines(&records)).expect("appended");
    manifest.sync().expect("synced");
    assert_eq!(replayed(&path), (vec![1, 2, 3], 0));
    assert!(holds(&path, records[1].job, 2).expect("read"));
    assert!(!holds(&path, records[1].job, 3).expect("read"));
    assert!(!holds(&path, JobId::generate(), 2).expect("read"));
    assert_eq!(last_seq(&path).expect("read"), 3);
    manifest.append(&lines(&[uploaded(u64::MAX)])).expect("appended");
    assert_eq!(last_seq(&path).expect("read"), 3, "none of ours");
    fs::write(&path, format!("{}a remark\n{}", uploaded(7).line(), uploaded(8).line().trim_end())).expect("written");
    assert_eq!(last_seq(&path).expect("read"), 8, "a whole record without its line feed counts");
}

#[test]
fn a_missing_folder_is_not_made() {
    let (dir, _) = place();
    let path = dir.path().join("unmounted/manifest.jsonl");
    assert_eq!(Manifest::open(&path).expect_err("no folder").kind(), io::ErrorKind::NotFound);
    assert!(!path.parent().expect("parent").exists());
    assert!(!holds(&path, JobId::generate(), 1).expect("nothing there"));
    assert_eq!(last_seq(&path).expect("nothing there"), 0);
    assert_eq!(replayed(&path), (vec![], 0));
}

#[test]
fn r23_a_manifest_cut_anywhere_keeps_every_complete_line() {
    let (dir, path) = place();
    let all = lines(&[uploaded(1), timeout(&uploaded(2), 2), uploaded(3)]).concat();
    // Everywhere around the line feeds, and at every seventh byte between them.
    let near_end = |length: usize| all.as_bytes()[length.saturating_sub(2)..].iter().take(4).any(|byte| *byte == b'\n');
    for length in (0..=all.len()).filter(|length| length % 7 == 0 || near_end(*length)) {
        let kept = &all[..length];
        fs::write(&path, kept).expect("written");
        let _ = fs::write(beside(&path, ".torn"), "");
        let (mut manifest, repaired) = Manifest::open(&path).expect("opened");
        manifest.append(&lines(&[uploaded(9)])).expect("appended");
        let whole = kept.matches('\n').count();
        let completed = repaired == Repaired::Completed;
        let expected = (1..=whole as u64 + u64::from(completed)).chain([9]).collect();
        assert_eq!(replayed(&path), (expected, 0), "cut at {length}");
        assert_eq!(completed, all[length..].starts_with('\n'), "only the line feed was missing: {length}");
        if let Repaired::Cut { bytes, saved } = repaired {
            let torn = &kept[kept.rfind('\n').map_or(0, |end| end + 1)..];
            assert_eq!(bytes, torn.len() as u64);
            assert_eq!(fs::read_to_string(saved).expect("saved"), format!("{torn}\n"));
        }
    }
    drop(dir);
}

#[test]
fn a_tail_of_zeros_as_a_power_cut_leaves_it_is_cut_off_however_long() {
    let (_dir, path) = place();
    let mut bytes = uploaded(1).line().into_bytes();
    bytes.extend(vec![0; 3 * MAX_LINE]);
    fs::write(&path, bytes).expect("written");
    let (_, repaired) = Manifest::open(&path).expect("opened");
    assert!(matches!(repaired, Repaired::Cut { bytes, .. } if bytes == 3 * MAX_LINE as u64), "{repaired:?}");
    assert_eq!(replayed(&path), (vec![1], 0));
}

#[test]
fn rotation_deletion_and_replacement_are_followed() {
    let (dir, path) = place();
    let (mut manifest, _) = Manifest::open(&path).expect("created");
    let rotated = uploaded(1);
    manifest.append(&lines(std::slice::from_ref(&rotated))).expect("appended");
    shelf::move_file(&path, &dir.path().join("manifest.jsonl.1")).expect("rotated");
    manifest.append(&lines(&[uploaded(2)])).expect("appended to a new file");
    assert_eq!(replayed(&path), (vec![1, 2], 0), "the rotated one is read first");
    assert!(holds(&path, rotated.job, 1).expect("read"), "a line that was rotated away a moment ago");
    shelf::remove(&path).expect("removed");
    manifest.append(&lines(&[uploaded(3)])).expect("appended to a new file");
    assert_eq!(replayed(&path), (vec![1, 3], 0));
    shelf::remove(&path).expect("removed");
    fs::write(&path, "half a line of somebody else").expect("written");
    manifest.append(&lines(&[uploaded(4)])).expect("appended");
    assert_eq!(replayed(&path), (vec![1, 4], 0), "never glued to a torn line");
}

#[test]
fn packed_and_foreign_siblings_are_not_read() {
    let (dir, path) = place();
    for (seq, name) in [
        (1, "manifest.jsonl-20261101"),
        (2, "manifest.jsonl.2.gz"),
        (3, "manifest.jsonl.torn"),
        (4, "manifest.jsonl2"),
        (5, "other.jsonl"),
    ] {
        fs::write(dir.path().join(name), uploaded(seq).line()).expect("written");
    }
    fs::create_dir(dir.path().join("manifest.jsonl.d")).expect("made");
    assert_eq!(replayed(&path), (vec![1], 0));
}

#[test]
fn lines_that_are_no_records_are_counted_and_skipped() {
    let (_dir, path) = place();
    let long = "x".repeat(2 * MAX_LINE + 5);
    let other_version = uploaded(5).line().replace(r#""v":1"#, r#""v":7"#);
    let text = [&uploaded(1).line(), "junk\n", "\n", &long, "\n", &other_version, "\u{0}\n", &uploaded(2).line()];
    fs::write(&path, text.concat()).expect("written");
    assert_eq!(replayed(&path), (vec![1, 2], 4));
}

#[test]
fn a_manifest_that_is_no_file_is_an_error_and_not_empty() {
    let (_dir, path) = place();
    fs::create_dir(&path).expect("made");
    assert!(Manifest::open(&path).is_err());
    assert_eq!(replay(&path).expect("listed").filter(Result::is_err).count(), 1);
}

/// Takes `room` bytes, at most three at once, and is full then.
struct SmallDisk<'a> {
    file: &'a File,
    room: usize,
}

impl Write for SmallDisk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(3).min(self.room);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= taken;
        self.file.write_all(&bytes[..taken])?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_short_write_is_completed_and_a_full_disk_tells_how_far_it_came() {
    let (_dir, path) = place();
    let file = File::create(&path).expect("created");
    write_line(&mut SmallDisk { file: &file, room: 100 }, b"a whole line\n").expect("completed");
    assert_eq!(fs::read(&path).expect("read"), b"a whole line\n");
    let (written, error) = write_line(&mut SmallDisk { file: &file, room: 7 }, b"another line\n").expect_err("full");
    assert_eq!((written, error.kind()), (7, io::ErrorKind::StorageFull));
}

#[test]
fn r24_a_batch_that_fails_says_how_many_of_its_lines_are_in() {
    let Ok(full) = OpenOptions::new().append(true).read(true).open("/dev/full") else { return };
    let mut manifest = Manifest { path: PathBuf::from("/dev/full"), file: full, torn: false, length: 0 };
    assert_eq!(manifest.append_line(b"x\n").expect_err("full").kind(), io::ErrorKind::StorageFull);
    let (dir, path) = place();
    let (mut manifest, _) = Manifest::open(&path).expect("created");
    drop(dir);
    let error = manifest.append(&lines(&[uploaded(1)])).expect_err("the folder is gone");
    assert_eq!(error.written, 0);
    assert!(error.to_string().contains("manifest.jsonl"), "{error}");
}

#[test]
fn a_large_manifest_is_searched_only_at_its_end() {
    let (_dir, path) = place();
    let (first, last) = (uploaded(1), uploaded(9_999));
    let filler = uploaded(2).line().repeat(usize::try_from(SEARCHED).expect("fits") / 500);
    fs::write(&path, first.line() + &filler + &last.line()).expect("written");
    assert!(holds(&path, last.job, 9_999).expect("read"));
    assert!(!holds(&path, first.job, 1).expect("read"), "too far back");
}

#[test]
fn a_half_line_that_could_not_be_taken_back_is_repaired_before_the_next_batch() {
    let (_dir, path) = place();
    let (mut manifest, _) = Manifest::open(&path).expect("created");
    fs::write(&path, "half").expect("written");
    manifest.torn = true;
    manifest.append(&lines(&[uploaded(1)])).expect("appended");
    assert_eq!(replayed(&path), (vec![1], 0));
}
