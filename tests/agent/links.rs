//! Link files: what is in them, that nothing takes them for an image, and that they are right after every kind of end.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for};

/// The files that a text of URLs links to.
fn linked(home: &Home, file: &str) -> Vec<String> {
    let text = fs::read_to_string(home.drop().join(file)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "whole lines only");
    text.lines().map(|line| line.rsplit("1_").next().expect("a name").to_owned()).collect()
}

fn wait_for_links(home: &Home, file: &str, expected: &[&str]) {
    wait_for(&format!("{expected:?} in {file}, which has {:?}", linked(home, file)), || linked(home, file) == expected);
}

#[test]
fn r33_link_files_are_in_the_order_of_names_and_rewritten_when_a_late_file_arrives() {
    let home = Home::new();
    let host = FakeHost::start(|name| match name {
        "img2.png" => Reply::StoredAfter(Duration::from_millis(1500)),
        "bad.png" => Reply::Answer(415, String::new(), String::new()),
        _ => Reply::Stored,
    });
    // Every name is taken: the link files must be left alone all the same.
    let folder = "include = [\"*\"]\nrender = [\"urls\", \"bbcode\", \"page\"]";
    let page = "[template.page]\nextension = \"html\"\ntext = '<p>{{ totals.count }} of {{ folder.name }}</p>'";
    home.configure_folder(&host, page, folder);
    let agent = home.start().ready();
    for (seed, name) in ["img10.png", "img2.png", "IMG1.png", "bad.png"].into_iter().enumerate() {
        home.drop_file(name, &png(u32::try_from(seed).expect("small")));
    }
    wait_for_links(&home, "links.urls.txt", &["IMG1.png", "img10.png"]);
    wait_for_links(&home, "links.urls.txt", &["IMG1.png", "img2.png", "img10.png"]);
    assert_eq!(
        fs::read_to_string(home.drop().join("links.bbcode.txt")).expect("there").lines().next(),
        Some("[url=https://pixhost.to/show/7/1_IMG1.png][img]https://t7.pixhost.to/thumbs/7/1_IMG1.png[/img][/url]")
    );
    let page = || fs::read_to_string(home.drop().join("links.page.html")).unwrap_or_default();
    wait_for("the page", || page() == "<p>3 of drop</p>\n");
    home.drop_file("img03.png", &png(9));
    wait_for_links(&home, "links.urls.txt", &["IMG1.png", "img2.png", "img03.png", "img10.png"]);
    assert!(agent.stop().success());
    let lines: Vec<String> =
        home.manifest().iter().map(|line| line["file"].as_str().expect("a name").to_owned()).collect();
    assert!(!lines.iter().any(|file| file.starts_with("links.")), "{lines:?}");
    let left: Vec<String> = home.files().into_iter().filter(|file| file.contains("links.")).collect();
    assert_eq!(left, ["links.bbcode.txt", "links.page.html", "links.urls.txt"]);
}

#[test]
fn link_files_are_complete_when_a_one_shot_run_ends() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_folder(&host, "", "render = [\"urls\"]");
    for seed in 0..12 {
        home.drop_file(format!("{seed}.png"), &png(seed));
    }
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(code, 0, "{log}");
    let expected: Vec<String> = (0..12).map(|seed| format!("{seed}.png")).collect();
    assert_eq!(linked(&home, "links.urls.txt"), expected);
}

#[test]
fn link_files_are_right_after_kills_and_rotation() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_folder(&host, "", "render = [\"urls\"]");
    let mut expected = Vec::new();
    for round in 0..4_u32 {
        let agent = home.start().ready();
        for seed in round * 3..round * 3 + 3 {
            home.drop_file(format!("{seed}.png"), &png(seed));
            expected.push(format!("{seed}.png"));
        }
        // Killed with all lines in the manifest, most likely before the link file is written, which waits for a quiet
        // moment; once in the middle of the uploads.
        if round != 2 {
            let rotated = if round > 1 { 6 } else { 0 };
            home.wait_for_finals(expected.len() - rotated);
        }
        agent.kill();
        if round == 1 {
            let manifest = home.drop().join("manifest.jsonl");
            pixchute::shelf::move_file(&manifest, &home.drop().join("manifest.jsonl.1")).expect("rotated");
        }
    }
    let agent = home.start().ready();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    wait_for_links(&home, "links.urls.txt", &expected);
    assert!(agent.stop().success());

    // Deleted, or never written because the end came in between: the next start makes it, without any new image.
    pixchute::shelf::remove(&home.drop().join("links.urls.txt")).expect("removed");
    let agent = home.start().ready();
    wait_for_links(&home, "links.urls.txt", &expected);
    assert!(agent.stop().success());
}

#[test]
fn a_burst_costs_a_few_writings_and_no_image_waits_for_one() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_folder(&host, "[log]\nlevel = \"warn\"", "render = [\"urls\"]");
    let agent = home.start();
    wait_for("the agent", || home.path("run/pixchute/control.sock").exists());
    let began = Instant::now();
    let mut inodes = std::collections::BTreeSet::new();
    for seed in 0..300 {
        home.drop_file(format!("{seed}.png"), &png(seed));
        inodes.extend(inode(&home));
    }
    wait_for("all links", || {
        inodes.extend(inode(&home));
        linked(&home, "links.urls.txt").len() == 300
    });
    // Each writing is a new file; at most one in half a second, and some for inodes that are used again.
    let most = usize::try_from(began.elapsed().as_millis() / 500).expect("short") + 2;
    assert!(inodes.len() <= most, "{} writings in {:?}", inodes.len(), began.elapsed());
    assert!(agent.stop().success());
}

fn inode(home: &Home) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(home.drop().join("links.urls.txt")).ok().map(|metadata| metadata.ino())
}

#[test]
fn link_files_begin_with_a_reload_that_wants_them() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    home.wait_for_line("x.png", 1);
    home.configure_folder(&host, "", "render = [\"urls\"]");
    let (code, _, message) = home.run(&["--config", "config.toml", "reload"]);
    assert_eq!(code, 0, "{message}");
    wait_for_links(&home, "links.urls.txt", &["x.png"]);
    assert!(agent.stop().success());
}

#[test]
fn a_bad_template_stops_the_start_with_its_place() {
    let home = Home::new();
    home.write_config(
        "[template.forum]\ntext = \"\"\"\n{% for f in files %}\n{{ f.ulr }}\n{% endfor %}\"\"\"\n\
         [[folder]]\npath = \"/d\"\nhost = \"local\"\nrender = [\"forum\", \"htlm\"]\n",
    );
    for command in ["check", "run"] {
        let (code, _, message) = home.run(&["--config", "config.toml", command]);
        assert_eq!(code, 78, "{message}");
        for part in [
            "config.toml:2:8: template.forum.text: line 2: `f.ulr` is undefined",
            "did you mean `url`?",
            "did you mean \"html\"?",
        ] {
            assert!(message.contains(part), "{part} in:\n{message}");
        }
    }
}
