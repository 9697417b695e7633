use std::fs;

use tempfile::TempDir;

use super::*;
use crate::config::Rendering;
use crate::render::tests::record;

/// A drop folder with a manifest.
struct Drop {
    dir: TempDir,
    folder: Folder,
    seq: u64,
}

impl Drop {
    fn new(formats: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let rendering = |format: &&str| Rendering { format: (*format).to_owned(), file: format!("links.{format}.txt") };
        let folder =
            Folder { render: formats.iter().map(rendering).collect(), ..Folder::new(dir.path().to_owned(), "pixhost") };
        Self { dir, folder, seq: 0 }
    }

    /// Appends a record of `file` that links to its number.
    fn add(&mut self, file: &str, change: impl FnOnce(&mut Record)) -> JobId {
        self.seq += 1;
        let mut record = Record { seq: self.seq, job: JobId::generate(), thumb: None, ..record(file) };
        record.url = Some(format!("https://h.example/{}", self.seq));
        change(&mut record);
        let old = fs::read_to_string(&self.folder.manifest).unwrap_or_default();
        fs::write(&self.folder.manifest, old + &record.line()).expect("written");
        record.job
    }

    fn write(&self, facts: &Facts) {
        let files = LinkFiles::of(&self.folder, &Formats::builtin()).expect("some are wanted");
        files.write_all(facts, WallTime::from_millis(0)).expect("written");
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join(name)).ok()
    }

    /// The numbers that a file of URLs links to.
    fn numbers(&self, name: &str) -> String {
        let text = self.read(name).unwrap_or_else(|| panic!("no {name}"));
        text.lines().map(|line| line.rsplit('/').next().expect("a number")).collect::<Vec<_>>().join(" ")
    }
}

fn in_album(album: &str) -> impl FnOnce(&mut Record) {
    move |record| record.album = Some(album.to_owned())
}

fn ended_as(status: Status) -> impl FnOnce(&mut Record) {
    move |record| {
        record.status = status;
        record.url = None;
    }
}

#[test]
fn a_list_is_in_the_order_of_names_whatever_was_done_first_and_has_only_final_links() {
    let mut drop = Drop::new(&["urls", "bbcode"]);
    for file in ["img10.jpg", "img2.jpg", "IMG1.jpg", "sub/a.jpg"] {
        drop.add(file, |_| {});
    }
    drop.add("img3.jpg", ended_as(Status::Failed));
    drop.add("img4.jpg", ended_as(Status::Timeout));
    drop.add("img2.jpg", |record| record.status = Status::Linked);
    drop.write(&Facts::default());
    assert_eq!(drop.numbers("links.urls.txt"), "3 2 7 1 4");
    assert_eq!(drop.read("links.bbcode.txt").expect("there").lines().next(), Some("[url]https://h.example/3[/url]"));
}

#[test]
fn albums_have_their_own_lists_beside_their_images() {
    let mut drop = Drop::new(&["urls"]);
    drop.add("loose.jpg", |_| {});
    drop.add("trip/b.jpg", in_album("trip"));
    drop.add("trip/a.jpg", in_album("trip"));
    drop.add("x/y/c.jpg", in_album("x/y"));
    for (number, escape) in ["../up", "/abs", "", "a/../../b", "."].into_iter().enumerate() {
        drop.add(&format!("z{number}.jpg"), in_album(escape));
    }
    drop.write(&Facts::default());
    assert_eq!(drop.numbers("links.urls.txt"), "1 5 6 7 8 9", "no name leads out of the folder");
    assert_eq!(drop.numbers("done/trip/links.urls.txt"), "3 2");
    assert_eq!(drop.numbers("done/x/y/links.urls.txt"), "4");
    assert!(!drop.dir.path().parent().expect("a parent").join("up").exists());

    drop.folder.after = After::Keep;
    drop.write(&Facts::default());
    assert_eq!(drop.numbers("trip/links.urls.txt"), "3 2");
}

#[test]
fn rotated_manifests_are_read_too_and_a_missing_folder_empties_nothing() {
    let mut drop = Drop::new(&["urls"]);
    drop.add("b.jpg", |_| {});
    let manifest = drop.folder.manifest.clone();
    shelf::move_file(&manifest, &drop.dir.path().join("manifest.jsonl.1")).expect("rotated");
    drop.add("a.jpg", |_| {});
    drop.write(&Facts::default());
    assert_eq!(drop.numbers("links.urls.txt"), "2 1");

    shelf::remove(&manifest).expect("removed");
    shelf::remove(&drop.dir.path().join("manifest.jsonl.1")).expect("removed");
    drop.write(&Facts::default());
    assert_eq!(drop.numbers("links.urls.txt"), "2 1", "without a manifest nothing is known");

    drop.folder.path = drop.dir.path().join("unmounted");
    let files = LinkFiles::of(&drop.folder, &Formats::builtin()).expect("wanted");
    assert!(matches!(files.write_all(&Facts::default(), WallTime::from_millis(0)), Err(LinksError::Absent(_))));
    assert!(!drop.folder.path.exists());
}

#[test]
fn files_that_stay_are_listed_with_their_newest_content_and_others_with_each() {
    let mut drop = Drop::new(&["urls"]);
    drop.add("x.jpg", |_| {});
    drop.add("x.jpg", |_| {});
    drop.write(&Facts::default());
    assert_eq!(drop.numbers("links.urls.txt"), "1 2", "two pictures that were dropped under one name");
    drop.folder.after = After::Keep;
    drop.write(&Facts::default());
    assert_eq!(drop.numbers("links.urls.txt"), "2");
}

#[test]
fn a_job_that_failed_and_was_tried_again_counts_once() {
    let mut drop = Drop::new(&[]);
    let template = "[template.t]\ntext = '{{ totals.count }} {{ totals.failed }} {{ album.url }}'\n\
                    [template.all]\ntext = '{{ totals.count }} {{ totals.failed }} {{ album.url }} {{ album.id }}{% for f in files %} {{ f.name }}{% endfor %}'\n";
    let formats = Formats::from_config(&crate::config::parse(template, None).expect("valid")).expect("good");
    drop.folder.render = vec![Rendering { format: "all".into(), file: "links.all.md".into() }];
    let job = drop.add("a.jpg", ended_as(Status::Failed));
    drop.add("b.jpg", ended_as(Status::Failed));
    let files = LinkFiles::of(&drop.folder, &formats).expect("wanted");
    let write = |files: &LinkFiles| files.write_all(&Facts::default(), WallTime::from_millis(0)).expect("written");
    write(&files);
    assert_eq!(drop.read("links.all.md"), None, "a file appears with the first link");
    drop.add("a.jpg", |record| {
        record.job = job;
        record.album_url = Some("https://h.example/g".to_owned());
    });
    write(&files);
    assert_eq!(drop.read("links.all.md").as_deref(), Some("1 1 https://h.example/g  a.jpg\n"));
}

#[test]
fn deleted_images_leave_the_lists() {
    let mut drop = Drop::new(&["urls"]);
    let (one, other) = (drop.add("a.jpg", |_| {}), drop.add("b.jpg", |_| {}));
    drop.write(&Facts::default());
    let mut facts = Facts { removed: [one].into(), ..Facts::default() };
    drop.write(&facts);
    assert_eq!(drop.numbers("links.urls.txt"), "2");
    facts.removed.insert(other);
    drop.write(&facts);
    assert_eq!(drop.read("links.urls.txt").as_deref(), Some(""));
}

#[test]
fn a_list_that_says_the_same_is_not_touched_and_only_what_was_asked_for_is_written() {
    use std::os::unix::fs::MetadataExt;
    let mut drop = Drop::new(&["urls"]);
    drop.add("a.jpg", |_| {});
    drop.add("t/b.jpg", in_album("t"));
    let files = LinkFiles::of(&drop.folder, &Formats::builtin()).expect("wanted");
    let album: BTreeSet<Group> = [Some("t".to_owned())].into();
    files.write(&album, &Facts::default(), WallTime::from_millis(0)).expect("written");
    assert_eq!((drop.read("links.urls.txt"), drop.numbers("done/t/links.urls.txt").as_str()), (None, "2"));
    let inode = || fs::metadata(drop.dir.path().join("done/t/links.urls.txt")).expect("there").ino();
    let before = inode();
    files.write(&album, &Facts::default(), WallTime::from_millis(0)).expect("written");
    assert_eq!(inode(), before);
}

#[test]
fn many_lists_are_written_in_turns_and_a_long_one_whole() {
    let mut drop = Drop::new(&["urls"]);
    let line = |seq: usize, file: &str| Record { seq: seq as u64, job: JobId::generate(), ..record(file) }.line();
    let text: String = (0..2_000).map(|seq| line(seq, &format!("img{}.jpg", 2_000 - seq))).collect();
    fs::write(&drop.folder.manifest, text).expect("written");
    drop.seq = 2_000;
    drop.write(&Facts::default());
    assert_eq!(drop.read("links.urls.txt").expect("there").lines().count(), 2_000);
}
