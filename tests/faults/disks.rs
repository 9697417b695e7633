//! Disks that are full, out of inodes, read-only, or another disk than one thinks: small file systems in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::scene::{Ended, Scene};
use crate::support::wait_for;

/// A file system in memory; unmounted when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// `None`, and aloud, where mounting is not allowed.
    pub(crate) fn new(path: &Path, options: &str) -> Option<Self> {
        Self::of("tmpfs", path, options)
    }

    fn of(kind: &str, path: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("a place");
        let done = Command::new("mount").args(["-t", kind, "-o", options, kind]).arg(path).output();
        match done {
            Ok(output) if output.status.success() => Some(Self(path.to_path_buf())),
            Ok(output) => {
                println!("skipped: nothing can be mounted here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: there is no mount here: {error}");
                None
            }
        }
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "remounts {how}");
    }

    /// Takes all room that is left; gives what to remove to have it back.
    pub(crate) fn fill(&self) -> PathBuf {
        let filler = self.0.join(".filler.tmp");
        let mut file = fs::File::create(&filler).expect("a filler");
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
        filler
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub(crate) fn make_room(filler: &Path) {
    #[expect(clippy::disallowed_methods, reason = "what a user does")]
    fs::remove_file(filler).expect("makes room");
}

/// Everything is recorded by the agent that runs, without a restart, and nothing was sent twice.
fn all_is_well_without_a_restart(scene: &Scene) {
    wait_for("everything to be recorded", || scene.problems(0).is_empty());
}

#[test]
fn r24_a_full_state_folder_stops_sending_and_room_lets_it_go_on() {
    let scene = Scene::empty("", "");
    let Some(state) = Mount::new(&scene.home.path("xdg-state"), "size=1m") else { return };
    let agent = scene.home.start().ready();
    let filler = state.fill();
    scene.drop_files();
    wait_for("the agent to say so", || !scene.home.events("disk-blocked").is_empty());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(scene.host.received().len(), 0, "nothing is sent that could not be recorded");
    make_room(&filler);
    all_is_well_without_a_restart(&scene);
    assert_eq!(scene.home.events("disk-ok").len(), 1);
    assert!(agent.stop().success());
}

#[test]
fn r24_an_agent_that_starts_on_a_full_disk_waits_for_room() {
    let scene = Scene::new();
    let Some(state) = Mount::new(&scene.home.path("xdg-state"), "size=1m") else { return };
    let filler = state.fill();
    let agent = scene.home.start();
    wait_for("the agent to say so", || !scene.home.events("disk-blocked").is_empty());
    make_room(&filler);
    all_is_well_without_a_restart(&scene);
    assert!(agent.stop().success());
}

#[test]
fn r24_a_full_drop_folder_loses_no_link_and_room_lets_it_go_on() {
    let scene = Scene::empty("", "");
    let Some(drop) = Mount::new(&scene.home.drop(), "size=256k") else { return };
    let agent = scene.home.start().ready();
    scene.drop_files_and(|| drop.fill());
    wait_for("the agent to say so", || !scene.home.events("disk-blocked").is_empty());
    make_room(&drop.0.join(".filler.tmp"));
    all_is_well_without_a_restart(&scene);
    assert!(agent.stop().success());
}

#[test]
fn r24_without_inodes_no_link_is_lost_and_more_let_it_go_on() {
    for inodes in [9, 11, 13, 15] {
        let scene = Scene::empty("", "");
        // Room for the folders and files, and not for what belongs to them.
        let Some(drop) = Mount::new(&scene.home.drop(), &format!("size=1m,nr_inodes={inodes}")) else { return };
        scene.drop_files();
        let agent = scene.home.start();
        wait_for("the agent to say so", || !scene.home.events("disk-blocked").is_empty());
        drop.remount("nr_inodes=100");
        all_is_well_without_a_restart(&scene);
        assert!(agent.stop().success());
    }
}

#[test]
fn r24_a_folder_that_is_read_only_for_a_while() {
    let scene = Scene::empty("", "");
    let Some(drop) = Mount::new(&scene.home.drop(), "size=1m") else { return };
    scene.drop_files();
    drop.remount("ro");
    let agent = scene.home.start();
    wait_for("the agent to say so", || !scene.home.events("disk-blocked").is_empty());
    drop.remount("rw");
    all_is_well_without_a_restart(&scene);
    assert!(agent.stop().success());
}

#[test]
fn r25_folders_on_other_file_systems() {
    let scene = Scene::new();
    let mounts: Vec<Mount> = ["done", "failed", "retry"]
        .iter()
        .filter_map(|dir| Mount::new(&scene.home.drop().join(dir), "size=1m"))
        .collect();
    if mounts.len() < 3 {
        return;
    }
    assert!(matches!(scene.run(&mut scene.once()), Ended::Code(1)), "one of them is no image");
    assert_eq!(scene.problems(0), Vec::<String>::new());
}

#[test]
fn r21_a_line_does_not_name_a_place_that_nothing_can_be_moved_to() {
    let scene = Scene::empty("", "");
    let done = scene.home.drop().join("done");
    let Some(mount) = Mount::new(&done, "size=1m") else { return };
    mount.remount("ro");
    scene.drop_files();
    assert_eq!(scene.run(&mut scene.once()), Ended::Code(1), "one of them is no image");
    // Each line names where its file lies, and the sidecar lies beside it.
    assert_eq!(scene.problems(0), Vec::<String>::new());
    let lines = scene.home.manifest();
    assert!(lines.iter().all(|line| line["moved_to"].is_null() || line["file"] == "text.png"), "{lines:#?}");
    let sent = scene.host.received().len();
    assert_eq!(scene.run(&mut scene.once()), Ended::Code(0));
    assert_eq!((scene.home.manifest().len(), scene.host.received().len()), (lines.len(), sent), "it is known");
}

#[test]
fn r21_a_place_that_refuses_a_file_in_the_end_is_put_right_where_that_can_be() {
    let scene = Scene::empty("", "");
    // It says that it can be written to, and refuses every file.
    let Some(_mount) = Mount::of("sysfs", &scene.home.drop().join("done"), "rw") else { return };
    scene.home.drop_file("a.png", &crate::support::png(1));
    assert_eq!(scene.run(&mut scene.once()), Ended::Code(0));
    let line = &scene.home.lines_of("a.png")[0];
    assert_eq!(line["status"], "uploaded");
    assert!(scene.home.drop().join("a.png").exists());
    let sidecar = scene.home.sidecar("a.png");
    assert_eq!((&sidecar["url"], &sidecar["moved_to"]), (&line["url"], &serde_json::Value::Null));
    assert_eq!(scene.run(&mut scene.once()), Ended::Code(0));
    assert_eq!((scene.home.manifest().len(), scene.host.received().len()), (1, 1), "it is known");
}
