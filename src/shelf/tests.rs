use std::fs;

use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    TempDir::new().expect("temp")
}

/// Every visible file below `dir` with its content, by name.
fn visible(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.expect("entry");
        if entry.file_type().is_file() && !entry.file_name().as_bytes().starts_with(b".") {
            let name = entry.path().strip_prefix(dir).expect("below").to_owned();
            found.push((name, fs::read(entry.path()).expect("read")));
        }
    }
    found
}

fn hidden_files(dir: &Path) -> usize {
    let all = walkdir::WalkDir::new(dir).into_iter().filter_map(Result::ok);
    all.filter(|entry| entry.file_name().as_bytes().starts_with(b".pixchute")).count()
}

#[test]
fn r25_every_prefix_of_a_move_followed_by_a_repeat_ends_in_one_complete_file() {
    for steps in [&LINKED[..], &ACROSS[..]] {
        for cut in 0..=steps.len() {
            let dir = folder();
            let (from, to) = (dir.path().join("x.jpg"), dir.path().join("done/x.jpg"));
            fs::create_dir(dir.path().join("done")).expect("made");
            fs::write(&from, b"content").expect("written");
            for step in &steps[..cut] {
                carry_out(*step, &from, &to).expect("step");
                let files = visible(dir.path());
                assert!(!files.is_empty() && files.iter().all(|(_, content)| content == b"content"), "{step:?}");
            }
            match finish(&from, &to, steps) {
                Ok(()) => {}
                Err(ShelfError::Vanished { .. }) => assert_eq!(cut, steps.len(), "only a finished move has no source"),
                Err(error) => panic!("{steps:?} cut after {cut}: {error}"),
            }
            assert_eq!(visible(dir.path()), [(PathBuf::from("done/x.jpg"), b"content".to_vec())], "{steps:?} {cut}");
            assert_eq!(hidden_files(dir.path()), 0, "{steps:?} {cut}");
        }
    }
}

#[test]
fn r25_a_half_written_copy_of_a_killed_agent_is_replaced() {
    let dir = folder();
    let (from, to) = (dir.path().join("x.jpg"), dir.path().join("y.jpg"));
    fs::write(&from, b"content").expect("written");
    fs::write(hidden(&to), b"con").expect("written");
    finish(&from, &to, &ACROSS).expect("moved");
    assert_eq!(visible(dir.path()), [(PathBuf::from("y.jpg"), b"content".to_vec())]);
    assert_eq!(hidden_files(dir.path()), 0);
}

#[test]
fn r25_a_file_moves_to_another_file_system_with_its_time() {
    let (dir, Ok(other)) = (folder(), TempDir::new_in("/dev/shm")) else { return };
    let (from, to) = (dir.path().join("x.jpg"), other.path().join("done/trip/x.jpg"));
    fs::write(&from, b"content").expect("written");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    File::options().append(true).open(&from).and_then(|file| file.set_modified(time)).expect("touched");
    move_file(&from, &to).expect("moved");
    assert_eq!(visible(dir.path()), []);
    assert_eq!(visible(other.path()), [(PathBuf::from("done/trip/x.jpg"), b"content".to_vec())]);
    assert_eq!(to.metadata().and_then(|metadata| metadata.modified()).expect("time"), time);
    fs::write(&from, b"CONTENT").expect("written");
    assert!(matches!(move_file(&from, &to), Err(ShelfError::Taken { .. })), "same length, other content");
    assert_eq!(fs::read(&from).expect("stays"), b"CONTENT");
}

#[test]
fn nothing_is_overwritten_by_any_way_of_moving() {
    for steps in [None, Some(&LINKED[..]), Some(&ACROSS[..])] {
        let dir = folder();
        let (from, to) = (dir.path().join("x.jpg"), dir.path().join("y.jpg"));
        fs::write(&from, b"new").expect("written");
        fs::write(&to, b"old").expect("written");
        let result = steps.map_or_else(|| move_file(&from, &to), |steps| finish(&from, &to, steps));
        assert!(matches!(result, Err(ShelfError::Taken { path }) if path == to), "{steps:?}");
        assert_eq!(visible(dir.path()).len(), 2);
        for step in [Step::Link, Step::Publish] {
            fs::write(hidden(&to), b"new").expect("written");
            assert!(matches!(carry_out(step, &from, &to), Err(ShelfError::Taken { .. })), "{step:?}");
        }
        assert_eq!(fs::read(&to).expect("read"), b"old");
    }
}

#[test]
fn a_missing_source_has_vanished_and_no_folder_is_made_for_it() {
    let dir = folder();
    let error = move_file(&dir.path().join("x.jpg"), &dir.path().join("done/x.jpg")).expect_err("nothing there");
    assert!(matches!(error, ShelfError::Vanished { .. }), "{error}");
    assert!(!dir.path().join("done").exists());
}

#[test]
fn a_move_through_a_linked_folder_to_itself_does_not_remove_the_file() {
    let dir = folder();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("done")).expect("linked");
    fs::write(dir.path().join("x.jpg"), b"content").expect("written");
    move_file(&dir.path().join("x.jpg"), &dir.path().join("done/x.jpg")).expect("is there");
    assert_eq!(fs::read(dir.path().join("x.jpg")).expect("stays"), b"content");
}

#[test]
fn only_regular_files_are_copied() {
    let dir = folder();
    let (target, link) = (dir.path().join("x.jpg"), dir.path().join("link.jpg"));
    fs::write(&target, b"content").expect("written");
    std::os::unix::fs::symlink(&target, &link).expect("linked");
    let error = finish(&link, &dir.path().join("y.jpg"), &ACROSS).expect_err("a link");
    assert!(matches!(error, ShelfError::Refused { .. }), "{error}");
}

#[test]
fn odd_names_are_moved_and_detours_are_refused() {
    let dir = folder();
    let latin = OsString::from_vec(b"f\xfcnf.jpg".to_vec());
    let long = OsString::from("ä".repeat(125) + ".jpg");
    for name in [latin, OsString::from("two\nlines.png"), OsString::from("'\"; rm -rf.gif"), long] {
        let (from, to) = (dir.path().join(&name), dir.path().join("done").join(&name));
        fs::write(&from, b"content").expect("written");
        move_file(&from, &to).expect("moved");
        assert!(to.exists() && !from.exists());
        fs::write(&from, b"content").expect("written");
        let next = free_name(&dir.path().join("done"), Path::new(&name), &HashSet::new()).expect("a name");
        assert_ne!(next, to);
        move_file(&from, &next).expect("moved beside it");
        write_atomic(&sidecar_path(&next), b"{}", false).expect("a sidecar has room");
    }
    let from = dir.path().join("x.jpg");
    fs::write(&from, b"content").expect("written");
    for to in ["../x.jpg", "done/../../x.jpg"] {
        assert!(matches!(move_file(&from, &dir.path().join(to)), Err(ShelfError::Refused { .. })), "{to}");
        assert!(matches!(free_name(dir.path(), Path::new(to), &HashSet::new()), Err(ShelfError::Refused { .. })));
    }
    assert!(free_name(dir.path(), Path::new("/etc/passwd"), &HashSet::new()).is_err());
}

#[test]
fn the_free_name_is_the_first_without_image_sidecar_or_promise() {
    let dir = folder();
    let next = |taken: &[&str]| {
        let taken = taken.iter().map(|name| dir.path().join(name)).collect();
        let path = free_name(dir.path(), Path::new("trip/x.tar.jpg"), &taken).expect("a name");
        path.strip_prefix(dir.path()).expect("below").to_string_lossy().into_owned()
    };
    assert_eq!(next(&[]), "trip/x.tar.jpg");
    fs::create_dir(dir.path().join("trip")).expect("made");
    fs::write(dir.path().join("trip/x.tar.jpg"), b"").expect("written");
    assert_eq!(next(&[]), "trip/x.tar-1.jpg");
    fs::write(dir.path().join("trip/x.tar-1.jpg.json"), b"").expect("written");
    assert_eq!(next(&[]), "trip/x.tar-2.jpg");
    assert_eq!(next(&["trip/x.tar-2.jpg"]), "trip/x.tar-3.jpg");
}

#[test]
fn long_names_get_distinct_legal_sidecars() {
    let sidecar = |name: String| sidecar_path(Path::new(&name)).file_name().expect("a name").to_owned();
    assert_eq!(sidecar("IMG.jpg".to_owned()), "IMG.jpg.json");
    let (one, two) = (sidecar("x".repeat(254) + "1"), sidecar("x".repeat(254) + "2"));
    assert!(one != two && one.len() == NAME_MAX && two.len() == NAME_MAX);
    assert!(sidecar("ä".repeat(127)).to_str().is_some(), "no character is cut in two");
}

#[test]
fn an_atomic_write_replaces_the_whole_content() {
    let dir = folder();
    let path = dir.path().join("x.json");
    write_atomic(&path, b"a long first version", true).expect("written");
    write_atomic(&path, b"short", false).expect("written");
    assert_eq!(fs::read(&path).expect("read"), b"short");
    assert_eq!(hidden_files(dir.path()), 0);
    write_atomic(&dir.path().join("new/x.json"), b"{}", false).expect("its folder is made");
    assert_eq!(fs::read(dir.path().join("new/x.json")).expect("read"), b"{}");
}

#[test]
fn removing_twice_is_as_good_as_once() {
    let dir = folder();
    fs::write(dir.path().join("x"), b"").expect("written");
    remove(&dir.path().join("x")).expect("removed");
    remove(&dir.path().join("x")).expect("gone already");
    assert!(remove(dir.path()).is_err(), "a folder is not removed");
}
