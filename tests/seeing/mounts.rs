//! Drop folders that are mount points.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::namespace::Namespace;
use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, manifest, png, wait_for, wait_for_within};

/// R5: a file that is dropped once the folder is there again is taken within this, and what one upload takes.
const PROMISED: Duration = Duration::from_secs(12);

/// A home whose drop folder is a mount point in a namespace.
struct Scene {
    namespace: Namespace,
    home: Home,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        Some(Self { namespace: Namespace::new(test)?, home: Home::new() })
    }

    /// Runs a line of shell in the namespace, with `$D` for the drop folder and `$H` for the home.
    fn sh(&self, line: &str) {
        let (drop, home) = (self.home.drop(), self.home.path(""));
        self.namespace.sh(&format!("D={}; H={}; {line}", drop.display(), home.display()));
    }

    /// The drop folder as the agent sees it.
    fn drop(&self) -> PathBuf {
        self.namespace.path(&self.home.drop())
    }

    fn put(&self, name: &str, seed: u32) {
        fs::write(self.drop().join(name), png(seed)).expect("writes");
    }

    /// Final lines of the manifest that is there now, by file and status.
    fn lines(&self) -> Vec<(String, String)> {
        let lines = manifest(&self.drop().join("manifest.jsonl"));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        lines.iter().map(|line| (text(&line["file"]), text(&line["status"]))).collect()
    }

    fn wait_for_line(&self, file: &str, status: &str) {
        let wanted = (file.to_owned(), status.to_owned());
        wait_for_within(PROMISED, &format!("{file} to be {status}"), || self.lines().contains(&wanted));
    }
}

#[test]
fn r5_what_is_mounted_over_the_folder_unmounted_and_mounted_again_is_watched() {
    let Some(scene) = Scene::new("r5_what_is_mounted") else { return };
    let host = FakeHost::well();
    scene.home.configure_folder(&host, "", "rescan = \"1h\"");
    let _agent = scene.namespace.start(&scene.home).ready();
    scene.put("plain.png", 1);
    scene.wait_for_line("plain.png", "uploaded");
    scene.sh("mount -t tmpfs tmpfs $D");
    scene.put("over.png", 2);
    scene.wait_for_line("over.png", "uploaded");
    scene.sh("umount -l $D");
    scene.put("under.png", 3);
    scene.wait_for_line("under.png", "uploaded");
    let names: Vec<String> = host.received().iter().map(|one| one.file_name.clone()).collect();
    assert_eq!(names, ["plain.png", "over.png", "under.png"]);
}

#[test]
fn r5_the_same_file_system_mounted_again_within_a_moment_is_watched_again() {
    let Some(scene) = Scene::new("r5_the_same_file_system") else { return };
    let host = FakeHost::well();
    scene.home.configure_folder(&host, "", "rescan = \"1h\"");
    // A bind mount: device and inode stay the same, and nothing tells that it was away.
    scene.sh("mkdir $H/disk; mount -t tmpfs tmpfs $H/disk; mkdir $H/disk/d; mount --bind $H/disk/d $D");
    let _agent = scene.namespace.start(&scene.home).ready();
    scene.sh("umount $D; mount --bind $H/disk/d $D");
    scene.put("again.png", 1);
    scene.wait_for_line("again.png", "uploaded");
}

#[test]
fn r5_a_folder_that_was_removed_behind_its_mount_is_not_there() {
    let Some(scene) = Scene::new("r5_a_folder_that_was_removed") else { return };
    let host = FakeHost::well();
    scene.home.configure_folder(&host, "", "rescan = \"1h\"");
    // As in the sandbox of a service: the path goes on to show what was removed.
    scene.sh("mkdir $H/disk; mount -t tmpfs tmpfs $H/disk; mkdir $H/disk/d; mount --bind $H/disk/d $D");
    let agent = scene.namespace.start(&scene.home).ready();
    scene.sh("rm -r $H/disk/d; mkdir $H/disk/d");
    wait_for("the word", || agent.log_text().contains("still shows what was removed"));
    scene.sh("umount $D; mount --bind $H/disk/d $D");
    scene.put("anew.png", 1);
    scene.wait_for_line("anew.png", "uploaded");
}

#[test]
fn r5_an_idle_agent_keeps_nothing_from_being_unmounted() {
    let Some(scene) = Scene::new("r5_an_idle_agent") else { return };
    let host = FakeHost::well();
    scene.home.configure(&host, "");
    scene.sh("mount -t tmpfs tmpfs $D");
    let _agent = scene.namespace.start(&scene.home).ready();
    scene.put("a.png", 1);
    scene.wait_for_line("a.png", "uploaded");
    wait_for("the unmount", || {
        let mut umount = scene.namespace.command("umount");
        umount.arg(scene.home.drop());
        crate::namespace::quietly(umount)
    });
}

#[test]
fn r6_a_link_that_comes_while_the_disk_is_away_waits_for_the_disk() {
    let Some(scene) = Scene::new("r6_a_link_that_comes") else { return };
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_secs(2)));
    scene.home.configure(&host, "");
    scene.sh("mkdir $H/disk; mount -t tmpfs tmpfs $H/disk; mkdir $H/disk/d; mount --bind $H/disk/d $D");
    let agent = scene.namespace.start(&scene.home).ready();
    scene.put("a.png", 1);
    wait_for("the image to be on its way", || host.began().len() == 1);
    scene.sh("umount -l $D");
    let answered = || host.received().len() == 1;
    wait_for("the answer", answered);
    // Long enough for the folder to be looked at again.
    wait_for("the empty mount point to be seen", || agent.log_text().matches("folder-watching").count() > 1);
    assert!(fs::read_dir(scene.home.drop()).expect("the mount point").next().is_none(), "nothing is written beside it");
    scene.sh("mount --bind $H/disk/d $D");
    scene.wait_for_line("a.png", "uploaded");
    wait_for("the move", || scene.drop().join("done/a.png").exists());
    assert_eq!((scene.lines().len(), host.received().len()), (1, 1));
}

#[test]
fn r6_a_file_whose_rest_ends_while_the_disk_is_away_is_not_forgotten() {
    let Some(scene) = Scene::new("r6_a_file_whose_rest") else { return };
    let host = FakeHost::at_first(vec![Reply::Answer(503, String::new(), "later".to_owned())]);
    let often = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"1s\"\nfactor = 1.0\nmax = \"1s\"\n";
    scene.home.configure(&host, often);
    scene.sh("mkdir $H/disk; mount -t tmpfs tmpfs $H/disk; mkdir $H/disk/d; mount --bind $H/disk/d $D");
    let agent = scene.namespace.start(&scene.home).ready();
    scene.put("a.png", 1);
    wait_for("the rest", || scene.drop().join("retry/a.png").exists());
    scene.sh("umount -l $D");
    wait_for("the empty mount point to be seen", || agent.log_text().matches("folder-watching").count() > 1);
    scene.sh("mount --bind $H/disk/d $D");
    wait_for_within(Duration::from_secs(60), "the second try", || {
        scene.lines().iter().any(|line| line.1 == "uploaded")
    });
    assert!(!agent.log_text().contains("taken away by hand"));
}

#[test]
fn r6_with_require_mount_and_require_marker_a_bare_mount_point_is_left_alone() {
    let Some(scene) = Scene::new("r6_with_require_mount") else { return };
    let host = FakeHost::well();
    scene.home.configure_folder(&host, "", "require_mount = true\nrequire_marker = \".mine\"");
    scene.put("bare.png", 1);
    let agent = scene.namespace.start(&scene.home).ready();
    assert!(agent.log_text().contains("nothing is mounted there"), "{}", agent.log_text());
    scene.sh("mount -t tmpfs tmpfs $D");
    scene.put("wrong.png", 2);
    wait_for("the wrong disk to be seen", || agent.log_text().contains("there is no .mine in it"));
    scene.sh("umount $D; mount -t tmpfs tmpfs $D; touch $D/.mine");
    scene.put("right.png", 3);
    scene.wait_for_line("right.png", "uploaded");
    let names: Vec<String> = host.received().iter().map(|one| one.file_name.clone()).collect();
    assert_eq!(names, ["right.png"]);
    assert_eq!(fs::read_dir(scene.home.drop()).expect("the mount point").count(), 1, "bare.png and nothing else");
}

#[test]
fn r8_an_overlay_is_polled_without_being_asked_and_still_hears_what_happens_on_it() {
    let Some(scene) = Scene::new("r8_an_overlay") else { return };
    let host = FakeHost::well();
    // So rare that only an event can be as quick as the test wants it.
    scene.home.configure_folder(&host, "", "poll_interval = \"5s\"");
    scene.sh("mkdir $H/o; mount -t tmpfs tmpfs $H/o; mkdir $H/o/low $H/o/up $H/o/work");
    scene.sh("mount -t overlay overlay -o lowerdir=$H/o/low,upperdir=$H/o/up,workdir=$H/o/work $D");
    let agent = scene.namespace.start(&scene.home).ready();
    let polled = scene.home.events("folder-polling");
    assert!(polled[0]["message"].as_str().is_some_and(|text| text.contains("overlay")), "{polled:?}");
    scene.put("local.png", 1);
    scene.wait_for_line("local.png", "uploaded");
    // From outside, under it.
    fs::write(scene.namespace.path(&scene.home.path("o/up/remote.png")), png(2)).expect("writes");
    scene.wait_for_line("remote.png", "uploaded");
    drop(agent);
}

#[test]
fn r8_a_silent_file_system_mounted_in_the_folder_has_the_folder_polled() {
    let Some(scene) = Scene::new("r8_a_silent_file_system") else { return };
    let host = FakeHost::well();
    scene.home.configure_folder(&host, "", "poll_interval = \"1s\"\nrescan = \"1s\"");
    scene.sh("mkdir $D/sub $H/o; mount -t tmpfs tmpfs $H/o; mkdir $H/o/low $H/o/up $H/o/work");
    scene.sh("mount -t overlay overlay -o lowerdir=$H/o/low,upperdir=$H/o/up,workdir=$H/o/work $D/sub");
    let _agent = scene.namespace.start(&scene.home).ready();
    wait_for("polling", || !scene.home.events("folder-polling").is_empty());
    fs::write(scene.namespace.path(&scene.home.path("o/up/remote.png")), png(2)).expect("writes");
    scene.wait_for_line("sub/remote.png", "uploaded");
}
