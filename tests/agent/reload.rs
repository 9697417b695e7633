//! Another configuration while hundreds of files are under way: applied whole or not at all, and nothing is lost by it.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::host::FakeHost;
use crate::support::{Home, is_final, png, wait_for, wait_for_within};

fn run(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    home.run(&[&["--config", "config.toml"], arguments].concat())
}

/// Replaces a part of the configuration.
fn edit(home: &Home, from: &str, to: &str) {
    let path = home.path("config.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&path, text.replace(from, to)).expect("written");
}

fn field(received: &crate::support::host::Received, name: &str) -> Option<String> {
    received.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone())
}

#[test]
fn r10_r22_a_reload_with_five_hundred_files_under_way_loses_repeats_and_cuts_none() {
    let home = Home::new();
    let host = FakeHost::start(|_| pixhost_reply());
    home.configure(&host, "[pool]\nworkers = 4\nqueue = 60");
    let agent = home.start().ready();
    for index in 0..500 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for("some uploads", || host.received().len() >= 8);
    let more = home.path("more");
    fs::create_dir_all(&more).expect("a folder");
    home.drop_into("more", "new.png", &png(1_000));
    edit(&home, "workers = 4", "workers = 8\ndrain = \"9s\"");
    edit(
        &home,
        "[[folder]]",
        &format!("[[folder]]\npath = {more:?}\nhost = \"pixhost\"\nsettle = \"200ms\"\n[[folder]]"),
    );
    let (code, out, err) = run(&home, &["reload"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("pool.workers: 4 → 8\n") && out.contains("pool.drain: not set → \"9s\"\n"), "{out}");
    assert!(out.contains("under way go on as they began"), "{out}");
    wait_for_within(Duration::from_secs(10), "the new folder", || more.join("done/new.png").exists());

    // Once more in the middle: other options of the host, another place for what is done, fewer workers.
    edit(&home, "workers = 8", "workers = 2");
    edit(&home, "[host.pixhost]", "[host.pixhost]\ncontent_type = \"nsfw\"");
    edit(&home, &format!("path = {:?}", home.drop()), &format!("path = {:?}\ndone = \"ready\"", home.drop()));
    let (code, out, err) = run(&home, &["reload"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("host.pixhost.content_type: not set → (not shown)"), "{out}");
    home.wait_for_finals(500);
    let lines = home.manifest();
    let finals: HashSet<&str> = lines.iter().filter(|line| is_final(line)).filter_map(|l| l["file"].as_str()).collect();
    assert_eq!((lines.len(), finals.len()), (500, 500), "one line each");
    assert!(lines.iter().all(|line| line["status"] == "uploaded" && line["attempts"] == 1), "none was cut");
    assert_eq!(host.received().len(), 501, "none twice");
    let kinds: Vec<Option<String>> = host.received().iter().map(|received| field(received, "content_type")).collect();
    assert_eq!(kinds.first(), Some(&Some("0".to_owned())));
    assert_eq!(kinds.last(), Some(&Some("1".to_owned())), "new uploads use what is configured now");
    wait_for("the last move", || {
        let count =
            |dir: &str| fs::read_dir(home.drop().join(dir)).map_or(0, |dir| dir.flatten().filter(is_image).count());
        count("done") + count("ready") == 500 && count("ready") > 0
    });
    let watched = |folder: &Value| home.events("folder-watching").iter().filter(|e| e["folder"] == *folder).count();
    assert_eq!(watched(&json!(more)), 1, "a folder that has not changed keeps its watch");
    let (_, out, _) = run(&home, &["reload"]);
    assert_eq!(out, "nothing has changed\n");
    assert!(agent.stop().success());
}

fn is_image(entry: &fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|ending| ending == "png")
}

fn pixhost_reply() -> crate::support::host::Reply {
    crate::support::host::Reply::StoredAfter(Duration::from_millis(20))
}

#[test]
fn a_configuration_with_a_mistake_changes_nothing_and_every_mistake_is_told() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "[pool]\nworkers = 3");
    let agent = home.start().ready();
    edit(&home, "workers = 3", "workers = 5\nqueu = 7");
    edit(&home, "[host.pixhost]", "[host.pixhost]\napi_key = \"geheim\"\ncontent_type = \"what\"");
    let (code, out, err) = run(&home, &["reload"]);
    assert_eq!((code, out.as_str()), (78, ""), "{err}");
    for part in ["nothing was changed", "queu", "queue", "config.toml:3:", "content_type", "api_key"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let (_, status, _) = run(&home, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["pool"]["workers"], 3);
    assert_eq!(home.events("config-rejected").len(), 1);
    assert!(!agent.log_text().contains("geheim") && !err.contains("geheim"));
    home.drop_file("x.png", &png(1));
    wait_for("it to go on", || home.drop().join("done/x.png").exists());

    // By a signal, with what applies after the next start only.
    edit(&home, "\nqueu = 7", "");
    edit(&home, "api_key = \"geheim\"\ncontent_type = \"what\"", "max_parallel = 2");
    edit(&home, "listen = \"off\"", "listen = \"127.0.0.1:1\"");
    agent.signal("-HUP");
    wait_for("the signal to be heard", || home.events("config-reloaded").len() == 4);
    let told: Vec<String> = home.events("config-reloaded").iter().map(|e| e["message"].to_string()).collect();
    assert!(
        told.iter().any(|text| text.contains("server.listen") && text.contains("after the next start")),
        "{told:?}"
    );
    let (_, status, _) = run(&home, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!((&status["pool"]["workers"], &status["hosts"][0]["max_parallel"]), (&json!(5), &json!(2)));
    assert!(agent.stop().success());
}

#[test]
fn a_folder_that_is_taken_out_is_left_alone_and_comes_back_with_its_files() {
    let home = Home::new();
    let host = FakeHost::well();
    let other = home.path("other");
    fs::create_dir_all(&other).expect("a folder");
    home.configure(&host, "[log]\nlevel = \"warn\"");
    let second = format!("[[folder]]\npath = {other:?}\nhost = \"pixhost\"\nsettle = \"200ms\"\n[host.pixhost]");
    edit(&home, "[host.pixhost]", &second);
    let agent = home.start();
    wait_for("the socket", || run(&home, &["status"]).0 == 0);
    home.drop_into("other", "1.png", &png(1));
    wait_for("the first", || other.join("done/1.png").exists());
    edit(&home, &second, "[host.pixhost]");
    edit(&home, "level = \"warn\"", "level = \"debug\"");
    assert_eq!(run(&home, &["reload"]).0, 0);
    home.drop_into("other", "2.png", &png(2));
    home.drop_file("3.png", &png(3));
    wait_for("the folder that is left", || home.drop().join("done/3.png").exists());
    assert!(other.join("2.png").exists() && host.received().len() == 2);
    assert!(!home.events_of("job-started", "3.png").is_empty(), "the level of the log has changed");
    let (_, status, _) = run(&home, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["folders"].as_array().map(Vec::len), Some(1));
    edit(&home, "[host.pixhost]", &second);
    assert_eq!(run(&home, &["reload"]).0, 0);
    wait_for("the file that waited", || other.join("done/2.png").exists());
    assert!(agent.stop().success());
}
