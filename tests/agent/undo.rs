//! Finding and undoing what was uploaded: with and without a running agent.

use std::fs;

use crate::support::host::FakeHost;
use crate::support::{Agent, Home, png, wait_for};

/// An agent on the embedded host, which really deletes.
fn local() -> (Home, Agent) {
    let home = Home::new();
    let drop = home.drop();
    home.write_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[[folder]]\npath = {drop:?}\nhost = \"local\"\nrender = [\"urls\"]\n"
    ));
    let agent = home.start().ready();
    (home, agent)
}

fn stored(home: &Home) -> usize {
    let files = walkdir::WalkDir::new(home.path("xdg-data/pixchute/local")).into_iter().flatten();
    files.filter(|entry| entry.file_type().is_file()).count()
}

fn run(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    home.run(&[&["--config", "config.toml"], arguments].concat())
}

#[test]
fn what_was_uploaded_is_found_and_undone_by_the_running_agent() {
    let (home, agent) = local();
    home.drop_file("harbour.png", &png(1));
    home.wait_for_line("harbour.png", 1);
    home.drop_file("trip/Beach 1.png", &png(2));
    let beach = home.wait_for_line("trip/Beach 1.png", 1);
    let url = beach["url"].as_str().expect("a link");
    assert_eq!(stored(&home), 4, "two images and their thumbnails");

    let (code, out, _) = run(&home, &["find", "beach", "LOCAL"]);
    assert!(code == 0 && out.contains(&format!("trip/Beach 1.png → {url} (local, done/trip/Beach 1.png)")), "{out}");
    assert_eq!(out.lines().count(), 1);
    let (_, out, _) = run(&home, &["find", "-n", "1", "png"]);
    assert!(out.contains("Beach"), "the newest: {out}");
    let (_, out, _) = run(&home, &["find", "--json", "harbour"]);
    let line: serde_json::Value = serde_json::from_str(&out).expect("one record");
    assert_eq!(line["file"], "harbour.png");
    let (_, out, _) = run(&home, &["find", "--format", "urls", beach["blake3"].as_str().expect("a hash")]);
    assert_eq!(out, format!("{url}\n"));
    assert_eq!(run(&home, &["find", "harbour", "beach"]).0, 1);

    let (code, out, _) = run(&home, &["undo", "--dry-run", url]);
    assert!(code == 0 && out.contains("would be deleted"), "{out}");
    assert_eq!(stored(&home), 4);
    let links = home.drop().join("links.urls.txt");
    let lines = || fs::read_to_string(&links).unwrap_or_default().lines().count();
    wait_for("both links", || lines() == 2);
    wait_for("its move", || home.drop().join("done/trip/Beach 1.png").exists());
    let (code, out, message) = run(&home, &["undo", "drop/done/trip/Beach 1.png"]);
    assert!(code == 0 && out.starts_with("trip/Beach 1.png is deleted on local"), "{out}{message}");
    assert_eq!(stored(&home), 2, "image and thumbnail are gone");
    wait_for("the link file without it", || lines() == 1);
    assert!(home.sidecar("done/trip/Beach 1.png")["removed_at"].is_string());
    assert_eq!(home.manifest().len(), 2, "the manifest tells what happened and keeps its lines");
    let (_, out, _) = run(&home, &["find", "beach"]);
    assert!(out.contains(", deleted "), "{out}");
    let (code, out, _) = run(&home, &["undo", url]);
    assert!(code == 0 && out.contains("was undone already"), "{out}");

    // The same content again is uploaded and not linked to what is gone.
    home.drop_file("again.png", &png(2));
    assert_eq!(home.wait_for_line("again.png", 1)["status"], "uploaded");
    assert_eq!(stored(&home), 4);
    home.drop_file("twin.png", &png(2));
    assert_eq!(home.wait_for_line("twin.png", 1)["status"], "linked");
    let (code, out, _) = run(&home, &["undo", "again.png"]);
    assert!(code == 1 && out.is_empty(), "relative names are looked for here");
    let (code, out, message) = run(&home, &["undo", "drop/again.png"]);
    assert!(code == 0 && out.contains("the image stays on local, because of twin.png"), "{out}{message}");
    assert_eq!(stored(&home), 4);
    let (code, out, message) = run(&home, &["undo", "drop/twin.png"]);
    assert!(code == 0 && out.contains("twin.png is deleted on local"), "{out}{message}");
    assert_eq!(stored(&home), 2, "the last file that had the link takes the image with it");
    let (code, _, message) = run(&home, &["undo", "nothing.png"]);
    assert!(code == 1 && message.contains("no upload of this name is known"), "{message}");
    assert!(agent.stop().success());
}

#[test]
fn without_an_agent_undo_works_under_the_lock_of_the_ledger() {
    let (home, agent) = local();
    home.drop_file("x.png", &png(1));
    home.drop_file("y.png", &png(2));
    let line = home.wait_for_line("x.png", 1);
    home.wait_for_line("y.png", 1);
    wait_for("the link file", || home.drop().join("links.urls.txt").exists());
    assert!(agent.stop().success());
    let (code, out, _) = run(&home, &["find", "x.png"]);
    assert!(code == 0 && out.contains("x.png"), "{out}");
    let (code, out, message) = run(&home, &["undo", line["job"].as_str().expect("a job")]);
    assert!(code == 0 && out.contains("x.png is deleted"), "{out}{message}");
    assert_eq!(stored(&home), 2);
    // The next start knows it: in the link file, and when the content comes again.
    let agent = home.start().ready();
    let links = || fs::read_to_string(home.drop().join("links.urls.txt")).unwrap_or_default().lines().count();
    wait_for("the link file without it", || links() == 1);
    home.drop_file("z.png", &png(1));
    assert_eq!(home.wait_for_line("z.png", 1)["status"], "uploaded");
    assert!(agent.stop().success());
}

#[test]
fn a_host_without_a_way_to_delete_says_so() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    home.wait_for_line("x.png", 1);
    let (code, out, message) = run(&home, &["undo", "drop/x.png"]);
    assert_eq!((code, out.as_str()), (1, ""), "{message}");
    assert!(message.contains("pixhost has no way to delete x.png"), "{message}");
    assert!(agent.stop().success());
}
