//! `run --once` with a disk that does not get well: it ends, says why, and loses nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disks::{Mount, make_room};
use crate::scene::{Ended, Scene};
use crate::strace::{at_path, missing};
use crate::support::host::Reply;
use crate::support::wait_for;

/// Attempts are short, and so is the time for which a disk is waited for.
const SHORT: &str = "[pool]\nfile_timeout = \"3s\"\n";

/// The run ends with 1 and says this.
fn ends_and_says(scene: &Scene, what: &str) {
    assert_eq!(scene.run(&mut scene.once()), Ended::Code(1));
    let log = fs::read_to_string(scene.home.path("agent.log")).expect("a log");
    let said = log.lines().rfind(|line| line.starts_with("pixchute: ")).unwrap_or_default();
    assert!(said.contains(what) && said.contains("the next run goes on with it"), "{log}");
}

fn slow(_: &str) -> Reply {
    Reply::StoredAfter(Duration::from_millis(800))
}

/// The same for a run in whose middle something happens.
fn while_it_runs<T>(scene: &Scene, what: &str, happens: impl FnOnce() -> T) -> T {
    std::thread::scope(|threads| {
        let run = threads.spawn(|| ends_and_says(scene, what));
        wait_for("the uploads", || scene.host.began().len() >= 3);
        let happened = happens();
        run.join().expect("as it should be");
        happened
    })
}

/// One more run finishes everything, and nothing was sent twice.
fn the_next_run_finishes(scene: &Scene) {
    assert!(matches!(scene.run(&mut scene.once()), Ended::Code(0 | 1)), "one of them is no image");
    assert_eq!(scene.problems(0), Vec::<String>::new());
}

#[test]
fn r24_once_does_not_wait_for_ever_for_room_in_the_state_folder() {
    let scene = Scene::with_host(slow, SHORT, "");
    let Some(state) = Mount::new(&scene.home.path("xdg-state"), "size=1m") else { return };
    let filler = while_it_runs(&scene, "the ledger", || state.fill());
    make_room(&filler);
    the_next_run_finishes(&scene);
}

#[test]
fn r24_once_does_not_wait_for_ever_for_room_in_the_drop_folder() {
    let scene = Scene::empty(SHORT, "");
    let Some(drop) = Mount::new(&scene.home.drop(), "size=256k") else { return };
    scene.drop_files_and(|| drop.fill());
    ends_and_says(&scene, "results cannot be written to");
    let sent = scene.host.received().len();
    ends_and_says(&scene, "results cannot be written to");
    assert_eq!(scene.host.received().len(), sent, "what has its answer is not sent again");
    make_room(&scene.home.drop().join(".filler.tmp"));
    the_next_run_finishes(&scene);
}

#[test]
fn r6_once_does_not_wait_for_ever_for_a_drop_folder_that_went_away() {
    let scene = Scene::with_host(slow, SHORT, "");
    let gone = scene.home.path("gone");
    while_it_runs(&scene, "is not there, and results wait for it", || mv(&scene.home.drop(), &gone));
    assert!(!scene.home.drop().exists(), "nothing was made in its place");
    mv(&gone, &scene.home.drop());
    the_next_run_finishes(&scene);
}

fn mv(from: &Path, to: &Path) {
    #[expect(clippy::disallowed_methods, reason = "a disk that goes and comes")]
    fs::rename(from, to).expect("moves it");
}

#[test]
fn r24_a_start_that_meets_with_trouble_tries_again_and_a_configuration_that_cannot_be_read_is_not_called_wrong() {
    if let Some(reason) = missing() {
        println!("skipped: {reason}");
        return;
    }
    let trial = |path: &dyn Fn(&Scene) -> PathBuf, fault: &str| {
        let scene = Scene::with("", "");
        let ended = scene.run(&mut at_path(&path(&scene), fault, &scene.once()));
        (ended, scene)
    };
    let config = |_: &Scene| PathBuf::from("config.toml");
    // Twice in vain: the third time does.
    for fault in ["openat:error=EIO:when=1..2", "statx:error=EIO:when=1..2", "openat:error=EMFILE:when=1"] {
        let (ended, scene) = trial(&config, fault);
        assert_eq!((ended, scene.problems(0)), (Ended::Code(1), Vec::new()), "one of them is no image: {fault}");
    }
    // For good: no code that keeps a service manager from starting it anew.
    let (ended, scene) = trial(&config, "openat:error=EIO");
    assert_eq!((ended, scene.home.manifest_lines()), (Ended::Code(1), 0));
    let (ended, _) = trial(&config, "openat:error=EACCES");
    assert_eq!(ended, Ended::Code(78));
    // The folder, and the manifests that a new ledger is filled from.
    let drop = |scene: &Scene| scene.home.drop();
    let manifest = |scene: &Scene| scene.home.drop().join("manifest.jsonl");
    for path in [&drop as &dyn Fn(&Scene) -> PathBuf, &manifest] {
        let (_, scene) = trial(path, "openat:error=EIO:when=1..2");
        assert_eq!(scene.problems(0), Vec::<String>::new());
    }
}
