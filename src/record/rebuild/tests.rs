use std::fs;

use tempfile::TempDir;

use super::*;
use crate::clock::WallTime;
use crate::job::ContentHash;
use crate::record::tests::{timeout, uploaded};

fn folder(path: &Path) -> Folder {
    Folder { include: Vec::new(), max_bytes: 100, ..Folder::new(path.to_owned(), "pixhost") }
}

fn rebuilt(dir: &TempDir, records: &[&Record]) -> Vec<Job> {
    let text: String = records.iter().map(|record| record.line()).collect();
    fs::write(dir.path().join("manifest.jsonl"), text).expect("written");
    jobs(&folder(dir.path()), 0).expect("read").map(|job| job.expect("readable")).collect()
}

#[test]
fn r22_the_last_line_of_each_job_decides() {
    let dir = TempDir::new().expect("temp");
    let (one, two) = (uploaded(5), uploaded(6));
    let linked = Record { status: Status::Linked, ..uploaded(7) };
    let failed =
        Record { status: Status::Failed, moved_to: Some("failed/x.jpg".to_owned()), ..timeout(&uploaded(0), 8) };
    let jobs = rebuilt(&dir, &[&timeout(&one, 1), &timeout(&two, 9), &one, &two, &linked, &failed]);
    let found: Vec<_> = jobs.iter().map(|job| (job.id, job.stage)).collect();
    let expected =
        [(two.job, Stage::Cooling), (one.job, Stage::Done), (linked.job, Stage::Done), (failed.job, Stage::Failed)];
    assert_eq!(found, expected, "the highest number, not the last place, decides");
    let (resting, done) = (&jobs[0], &jobs[1]);
    assert_eq!(resting.path, dir.path().join("retry/trip/IMG_1.jpg"));
    assert_eq!(resting.not_before, Some(WallTime::from_millis(1_795_435_500_000)));
    assert_eq!(resting.unknown_outcomes, 2);
    assert_eq!(done.path, dir.path().join("done/trip/IMG_1.jpg"));
    assert_eq!(done.record, Some(one.json()));
    assert_eq!(done.image.map(|image| (image.kind, image.hash)), Some((ImageKind::Jpeg, ContentHash([0xab; 32]))));
    assert!(jobs.iter().all(|job| !job.pending && job.folder == dir.path()));
}

#[test]
fn rotated_manifests_count_and_unreadable_lines_do_not() {
    let dir = TempDir::new().expect("temp");
    let old = uploaded(3);
    fs::write(dir.path().join("manifest.jsonl.1"), format!("junk\n{}", old.line())).expect("written");
    fs::write(dir.path().join("manifest.jsonl.copy"), old.line()).expect("written");
    fs::write(dir.path().join("manifest.jsonl"), uploaded(4).line()).expect("written");
    let found = jobs(&folder(dir.path()), 0).expect("read");
    assert_eq!((found.highest_seq(), found.skipped()), (4, 1));
    assert_eq!(found.count(), 2, "a copied line is no second job");
}

#[test]
fn r22_only_jobs_with_a_later_line_are_those_that_an_older_ledger_lacks() {
    let dir = TempDir::new().expect("temp");
    let (old, resting, new) = (uploaded(3), uploaded(6), uploaded(9));
    let lines = [&old, &timeout(&resting, 4), &resting, &timeout(&new, 8), &new].map(Record::line).concat();
    let (older, newer) = lines.split_at(lines.match_indices('\n').nth(2).expect("a line").0 + 1);
    fs::write(dir.path().join("manifest.jsonl.1"), older).expect("written");
    fs::write(dir.path().join("manifest.jsonl"), newer).expect("written");
    let of = |from| {
        let jobs = jobs(&folder(dir.path()), from).expect("read");
        let highest = jobs.highest_seq();
        (highest, jobs.map(|job| job.expect("readable").id).collect::<Vec<_>>())
    };
    assert_eq!(of(5), (9, vec![resting.job, new.job]));
    assert_eq!(of(9), (9, vec![new.job]));
    assert_eq!(of(10), (0, vec![]));
    // A file that ends before it is not opened further: here it would tell.
    let late_at_first: String = (0..9).map(|n| uploaded(if n == 0 { 25 } else { 2 }).line()).collect();
    fs::write(dir.path().join("manifest.jsonl.1"), late_at_first).expect("written");
    fs::write(dir.path().join("manifest.jsonl"), [&uploaded(20), &uploaded(1 << 53)].map(Record::line).concat())
        .expect("written");
    assert_eq!(of(20).0, 20, "numbers that are none of ours do not count");
}

#[test]
fn a_manifest_that_cannot_be_read_is_an_error_and_not_an_empty_memory() {
    let dir = TempDir::new().expect("temp");
    fs::create_dir(dir.path().join("manifest.jsonl")).expect("made");
    assert!(jobs(&folder(dir.path()), 0).is_err());
}

#[test]
fn a_kept_file_is_done_where_it_was_dropped() {
    let dir = TempDir::new().expect("temp");
    let jobs = rebuilt(&dir, &[&Record { moved_to: None, ..uploaded(1) }]);
    assert_eq!((jobs[0].path.clone(), jobs[0].pending), (dir.path().join("trip/IMG_1.jpg"), false));
}

#[test]
fn an_edited_manifest_cannot_point_at_files_elsewhere() {
    let dir = TempDir::new().expect("temp");
    for evil in ["/etc/passwd", "../../etc/passwd", "done/../../x"] {
        let jobs = rebuilt(&dir, &[&Record { moved_to: Some(evil.to_owned()), ..uploaded(1) }]);
        assert_eq!(jobs[0].path, dir.path().join("trip/IMG_1.jpg"), "{evil}");
    }
    assert!(rebuilt(&dir, &[&Record { file: "../x.jpg".to_owned(), ..uploaded(1) }]).is_empty());
}

#[test]
fn r21_a_move_that_a_crash_prevented_is_pending_only_for_the_very_content() {
    let dir = TempDir::new().expect("temp");
    let dropped = dir.path().join("trip/IMG_1.jpg");
    fs::create_dir(dir.path().join("trip")).expect("made");
    fs::write(&dropped, b"the image").expect("written");
    let hash = ContentHash(*blake3::hash(b"the image").as_bytes());
    let record = Record { bytes: 9, blake3: Some(hash), ..uploaded(1) };
    let jobs = rebuilt(&dir, &[&record]);
    assert_eq!((jobs[0].path.clone(), jobs[0].pending), (dropped.clone(), true));
    fs::write(&dropped, b"ANOTHER 1").expect("written");
    let jobs = rebuilt(&dir, &[&record]);
    assert!(!jobs[0].pending, "a new file of the same name and length is not moved away unsent");
    assert_eq!(jobs[0].path, dir.path().join("done/trip/IMG_1.jpg"));
}

#[test]
fn a_name_that_is_no_utf_8_is_found_again_exactly() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let dir = TempDir::new().expect("temp");
    let name = PathBuf::from(OsString::from_vec(b"f\xff.jpg".to_vec()));
    let base = uploaded(1);
    let record = Record { file: "f\u{fffd}.jpg".to_owned(), file_bytes: Some("Zv8uanBn".to_owned()), ..base }
        .with_move(Path::new("/d"), &Path::new("/d/done").join(&name));
    let jobs = rebuilt(&dir, &[&record]);
    assert_eq!((jobs[0].name.clone(), jobs[0].path.clone()), (name.clone(), dir.path().join("done").join(name)));
}
