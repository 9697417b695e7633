//! The real watcher on a real file system, in real time: every test waits for a condition with a deadline.
#![expect(clippy::disallowed_methods, reason = "the tests move and remove files as users do")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pixchute::clock::Clock;
use pixchute::config::{Folder, WatchMode};
use pixchute::watch::{Busy, Feed, FolderFeed, Ignore, Settled, WatchState};
use tempfile::TempDir;
use tokio::time::{Instant, timeout, timeout_at};

/// A whole GIF of one pixel, and room behind it to make each different.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02L\x01\0;";

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    top: TempDir,
    drop: PathBuf,
    aside: PathBuf,
    feed: FolderFeed,
    busy: Busy,
    /// What came beside settled files.
    told: Vec<Feed>,
}

fn folder(path: &Path) -> Folder {
    Folder {
        settle: Duration::from_millis(400),
        watch: WatchMode::Native,
        poll_interval: Duration::from_millis(300),
        rescan: Duration::from_secs(3600),
        max_bytes: 1 << 20,
        ..Folder::new(path.to_owned(), "local")
    }
}

fn gif(n: usize) -> Vec<u8> {
    [GIF, &n.to_le_bytes()].concat()
}

impl Scene {
    /// A drop folder and a folder beside it on the same file system; nothing has been looked at.
    fn untouched(change: impl FnOnce(&mut Folder)) -> Self {
        let top = TempDir::new().expect("a folder");
        let (drop, aside) = (top.path().join("drop"), top.path().join("aside"));
        fs::create_dir(&drop).expect("drop");
        fs::create_dir(&aside).expect("aside");
        let mut folder = folder(&drop);
        change(&mut folder);
        let busy = Busy::default();
        let ignore = Ignore::new(&folder, []).expect("good patterns");
        let feed = FolderFeed::new(&folder, ignore, busy.clone(), Clock::System);
        Self { top, drop, aside, feed, busy, told: Vec::new() }
    }

    /// The same, after the first scan.
    async fn idle(change: impl FnOnce(&mut Folder)) -> Self {
        let mut scene = Self::untouched(change);
        scene.until(|feed| matches!(feed, Feed::Scanned { first: true, .. })).await;
        scene
    }

    /// Passes over everything until something of this kind comes.
    async fn until(&mut self, wanted: impl Fn(&Feed) -> bool) -> Feed {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let feed = timeout_at(deadline, self.feed.next()).await.expect("it never came");
            if !matches!(feed, Feed::Settled(_)) {
                self.told.push(feed.clone());
            }
            if wanted(&feed) {
                return feed;
            }
        }
    }

    async fn settled(&mut self) -> Settled {
        match self.until(|feed| matches!(feed, Feed::Settled(_))).await {
            Feed::Settled(settled) => settled,
            other => panic!("{other:?}"),
        }
    }

    /// Takes `count` different files and moves each away as the agent would; the number of offers by name.
    async fn consume(&mut self, count: usize) -> HashMap<PathBuf, usize> {
        let mut offers = HashMap::new();
        while offers.len() < count {
            let settled = self.settled().await;
            self.busy.insert(settled.path.clone());
            *offers.entry(settled.name).or_default() += 1;
            fs::remove_file(&settled.path).expect("was there");
            self.busy.remove(&settled.path);
        }
        offers
    }

    /// Nothing settles while a file dropped afterwards is found, and nor in the time it took.
    async fn nothing_but(&mut self, marker: &str) {
        let (from, to) = (self.aside.join(marker), self.drop.join(marker));
        fs::write(&from, GIF).expect("writes");
        fs::rename(&from, &to).expect("moves");
        assert_eq!(self.settled().await.name, Path::new(marker));
        fs::remove_file(&to).expect("removes");
    }

    fn write(&self, name: &str) -> PathBuf {
        let path = self.drop.join(name);
        fs::write(&path, GIF).expect("writes");
        path
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_a_file_that_is_moved_in_is_offered_at_once() {
    let mut scene = Scene::idle(|folder| folder.settle = Duration::from_secs(60)).await;
    let mut waits = Vec::new();
    for n in 0..50 {
        let from = scene.aside.join("x");
        fs::write(&from, gif(n)).expect("writes");
        let began = Instant::now();
        fs::rename(&from, scene.drop.join(format!("{n}.gif"))).expect("moves");
        let settled = scene.settled().await;
        waits.push(began.elapsed());
        assert_eq!((settled.name, settled.warning), (PathBuf::from(format!("{n}.gif")), None));
    }
    waits.sort();
    assert!(waits[25] < Duration::from_millis(20), "{waits:?}");
    println!("median {:?}, worst {:?}", waits[25], waits[49]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_however_a_file_arrives_it_is_offered_once_under_its_final_name() {
    let mut scene = Scene::idle(|_| ()).await;
    let original = scene.aside.join("x.gif");
    fs::write(&original, GIF).expect("writes");
    fs::copy(&original, scene.drop.join("copied.gif")).expect("copies");
    fs::hard_link(&original, scene.drop.join("linked.gif")).expect("links");
    for temporary in [".x.gif.Ab12Cd", ".syncthing.x.gif.tmp", "x.gif.part", "x.gif.crdownload", "x.gif.partial"] {
        let path = scene.write(temporary);
        fs::rename(path, scene.drop.join(format!("from {}.gif", temporary.trim_start_matches('.')))).expect("renames");
    }
    let offers = scene.consume(7).await;
    assert!(
        offers.values().all(|count| *count == 1) && offers.keys().all(|name| !name.ends_with("part")),
        "{offers:?}"
    );
    scene.nothing_but("last.gif").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_slow_writer_gives_one_offer_after_its_last_byte() {
    let mut scene = Scene::idle(|_| ()).await;
    let path = scene.drop.join("slow.gif");
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut file = File::create(path).expect("creates");
            for piece in GIF.chunks(6) {
                std::thread::sleep(Duration::from_millis(600));
                file.write_all(piece).expect("writes");
            }
        }
    });
    let settled = scene.settled().await;
    assert_eq!((settled.fingerprint.len, settled.warning), (GIF.len() as u64, None));
    writer.join().expect("wrote");
    fs::remove_file(path).expect("removes");
    scene.nothing_but("last.gif").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_there_at_the_start_is_offered_and_then_the_scan_is_over() {
    let mut scene = Scene::untouched(|_| ());
    fs::create_dir_all(scene.drop.join("trip/day 1")).expect("folders");
    for name in ["a.gif", "trip/b.gif", "trip/day 1/c.gif"] {
        scene.write(name);
    }
    assert_eq!(scene.consume(3).await.len(), 3);
    scene.nothing_but("last.gif").await;
    assert_eq!(scene.told, [Feed::State(WatchState::Native), Feed::Scanned { first: true, complete: true }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_files_copied_into_a_new_folder_in_the_same_moment_are_all_found() {
    let mut scene = Scene::idle(|_| ()).await;
    let drop = scene.drop.clone();
    let copier = std::thread::spawn(move || {
        for folder in 0..100 {
            let folder = drop.join(format!("{folder}/deep"));
            fs::create_dir_all(&folder).expect("makes");
            (0..10).for_each(|n| fs::write(folder.join(format!("{n}.gif")), gif(n)).expect("writes"));
        }
    });
    let offers = scene.consume(1_000).await;
    copier.join().expect("copied");
    assert!(offers.values().all(|count| *count == 1), "{:?}", offers.iter().find(|(_, count)| **count > 1));
    scene.nothing_but("last.gif").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_ten_thousand_renames_are_ten_thousand_offers() {
    let mut scene = Scene::idle(|_| ()).await;
    (0..10_000).for_each(|n| fs::write(scene.aside.join(format!("{n}.gif")), gif(n)).expect("writes"));
    (0..10_000).for_each(|n| {
        let name = format!("{n}.gif");
        fs::rename(scene.aside.join(&name), scene.drop.join(&name)).expect("moves");
    });
    let offers = scene.consume(10_000).await;
    assert!(offers.values().all(|count| *count == 1));
    scene.nothing_but("last.gif").await;
    let overflows = scene.told.iter().filter(|feed| **feed == Feed::Overflow).count();
    assert_eq!(overflows, 1, "one warning for one burst");
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_drop_folder_that_is_removed_and_made_again_is_watched_again() {
    let mut scene = Scene::idle(|_| ()).await;
    for round in 0..3 {
        fs::remove_dir(&scene.drop).expect("removes");
        fs::create_dir(&scene.drop).expect("makes");
        let name = format!("{round}.gif");
        scene.write(&name);
        assert_eq!(scene.consume(1).await.into_keys().next(), Some(PathBuf::from(name)));
        scene.nothing_but("more.gif").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_subfolder_that_goes_and_comes_back_is_watched_again() {
    let mut scene = Scene::idle(|_| ()).await;
    let (trip, away) = (scene.drop.join("trip"), scene.top.path().join("away"));
    fs::create_dir(&trip).expect("makes");
    for round in 0..3 {
        scene.write("trip/a.gif");
        assert_eq!(scene.consume(1).await.len(), 1, "round {round}");
        fs::rename(&trip, &away).expect("moves out");
        scene.nothing_but("between.gif").await;
        fs::rename(&away, &trip).expect("moves back");
    }
    fs::remove_dir(&trip).expect("removes");
    fs::create_dir(&trip).expect("makes again");
    scene.write("trip/b.gif");
    assert_eq!(scene.consume(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_an_absent_drop_folder_is_not_made_not_empty_and_used_as_soon_as_it_is_there() {
    let mut scene = Scene::untouched(|_| ());
    fs::remove_dir(&scene.drop).expect("removes");
    let Feed::State(WatchState::Absent { reason }) = scene.feed.next().await else { panic!("absent expected") };
    assert!(reason.contains("does not exist"), "{reason}");
    assert!(timeout(Duration::from_millis(300), scene.feed.next()).await.is_err(), "an absent folder has no scan");
    assert!(!scene.drop.exists());
    assert_eq!(scene.feed.hints().status().watch.name(), "absent");
    fs::create_dir(&scene.drop).expect("makes");
    scene.write("a.gif");
    assert_eq!(scene.consume(1).await.len(), 1);
    assert_eq!(scene.feed.hints().status().watch, WatchState::Native);
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_a_drop_folder_that_may_be_made_is_made() {
    let mut scene = Scene::untouched(|folder| folder.create = true);
    fs::remove_dir(&scene.drop).expect("removes");
    assert_eq!(scene.feed.next().await, Feed::State(WatchState::Native));
    assert!(scene.drop.is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_files_are_never_offered_but_one_moved_back_is() {
    let mut scene = Scene::untouched(|folder| folder.include = Vec::new());
    for directory in ["done", "retry/trip", "failed"] {
        fs::create_dir_all(scene.drop.join(directory)).expect("makes");
    }
    let ours = ["done/a.gif", "retry/trip/b.gif", "failed/c.gif", "manifest.jsonl", "manifest.jsonl.1", "a.gif.json"];
    ours.iter().for_each(|name| drop(scene.write(name)));
    scene.nothing_but("first.gif").await;
    ours.iter().for_each(|name| drop(scene.write(name)));
    scene.feed.hints().rescan();
    scene.until(|feed| matches!(feed, Feed::Scanned { .. })).await;
    scene.nothing_but("last.gif").await;
    fs::rename(scene.drop.join("failed/c.gif"), scene.drop.join("c.gif")).expect("moves back");
    assert_eq!(scene.settled().await.name, Path::new("c.gif"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_names_need_not_be_utf_8_nor_one_line_nor_differ_by_more_than_case() {
    let mut scene = Scene::idle(|_| ()).await;
    let names: [&[u8]; 4] = [b"\xFF\xFEname.gif", b"two\nlines.gif", b"a.gif", b"A.GIF"];
    for name in names {
        fs::write(scene.drop.join(OsStr::from_bytes(name)), GIF).expect("writes");
    }
    let offers = scene.consume(4).await;
    assert!(names.iter().all(|name| offers.get(Path::new(OsStr::from_bytes(name))) == Some(&1)), "{offers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r8_a_polled_folder_finds_files_without_any_event() {
    let mut scene = Scene::idle(|folder| folder.watch = WatchMode::Poll).await;
    assert_eq!(scene.feed.hints().status().watch.name(), "poll");
    for n in 0..3 {
        fs::create_dir(scene.drop.join(format!("{n}"))).expect("makes");
        let name = format!("{n}/x.gif");
        scene.write(&name);
        let began = Instant::now();
        assert_eq!(scene.consume(1).await.into_keys().next(), Some(PathBuf::from(name)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r9_a_thousand_touches_of_a_busy_file_are_one_offer_when_it_is_free_again() {
    let mut scene = Scene::idle(|_| ()).await;
    let path = scene.write("busy.gif");
    let settled = scene.settled().await;
    scene.busy.insert(settled.path.clone());
    for _ in 0..1_000 {
        File::options().append(true).open(&path).expect("opens").set_modified(std::time::UNIX_EPOCH).expect("touches");
    }
    scene.feed.hints().rescan();
    scene.until(|feed| matches!(feed, Feed::Scanned { .. })).await;
    scene.nothing_but("other.gif").await;
    scene.busy.remove(&settled.path);
    assert_eq!(scene.settled().await.name, Path::new("busy.gif"));
    scene.nothing_but("last.gif").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_looks_again_and_an_unchanged_folder_is_not_listed_again() {
    let mut scene = Scene::idle(|folder| folder.rescan = Duration::from_millis(100)).await;
    let path = scene.write("kept.gif");
    scene.settled().await;
    scene.feed.hints().hint(path);
    assert_eq!(scene.settled().await.name, Path::new("kept.gif"));
    // Scans go on; once the folder's time is two seconds old they no longer offer the file.
    let deadline = Instant::now() + PATIENCE;
    let mut scans_without = 0;
    while scans_without < 5 {
        match timeout_at(deadline, scene.feed.next()).await.expect("scans go on") {
            Feed::Scanned { .. } => scans_without += 1,
            Feed::Settled(_) => scans_without = 0,
            other => panic!("{other:?}"),
        }
    }
    scene.nothing_but("last.gif").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_status_tells_what_is_settling() {
    let mut scene = Scene::idle(|_| ()).await;
    fs::write(scene.drop.join("empty.gif"), b"").expect("writes");
    let hints = scene.feed.hints();
    let deadline = Instant::now() + PATIENCE;
    while hints.status().settling_total == 0 {
        assert!(Instant::now() < deadline, "it never showed up");
        let _ = timeout(Duration::from_millis(10), scene.feed.next()).await;
    }
    let status = hints.status();
    assert_eq!(status.settling[0].name, Path::new("empty.gif"));
    assert!(status.settling[0].since <= Clock::System.now());
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_are_passed_over() {
    let mut scene = Scene::untouched(|_| ());
    let pipe = scene.drop.join("pipe.gif");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    fs::write(scene.aside.join("x.gif"), GIF).expect("writes");
    std::os::unix::fs::symlink(scene.aside.join("x.gif"), scene.drop.join("link.gif")).expect("links");
    std::os::unix::fs::symlink(&scene.aside, scene.drop.join("linked folder")).expect("links");
    scene.nothing_but("only.gif").await;
    scene.nothing_but("last.gif").await;
    assert_eq!(scene.told, [Feed::State(WatchState::Native), Feed::Scanned { first: true, complete: true }]);
}
