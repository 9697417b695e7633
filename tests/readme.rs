//! The README is true where a machine can tell.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use pixchute::cli::Exit;
use pixchute::clock::WallTime;
use pixchute::job::{ErrorClass, Job, JobId, Phase, Stage};
use pixchute::record::{Record, RecordError, Status};
use pixchute::telemetry::event::TABLE;

const README: &str = include_str!("../README.md");

/// The rows of the README that begin with `first` in the first cell.
fn row_of(first: &str) -> Option<&'static str> {
    README.lines().find(|line| line.starts_with(&format!("| {first} |")))
}

/// The blocks of the README in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    README.split("\n```").filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[test]
fn every_event_is_listed_with_its_level() {
    for entry in &TABLE {
        let row = row_of(&format!("`{}`", entry.name)).unwrap_or_else(|| panic!("no row for {}", entry.name));
        let level = entry.level.as_str().to_lowercase();
        assert!(row.contains(&format!("| {level} |")), "{row}: expected {level}");
    }
}

#[test]
fn every_exit_code_is_listed() {
    for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::NotRunning, Exit::InUse, Exit::Config] {
        assert!(row_of(&(exit as u8).to_string()).is_some(), "{exit:?}");
    }
}

#[test]
fn every_field_of_a_record_is_explained() {
    let fingerprint = pixchute::job::Fingerprint { dev: 1, ino: 2, len: 3, mtime_ns: 4 };
    let job = Job {
        id: JobId::generate(),
        folder: "/drop".into(),
        name: "x.jpg".into(),
        path: "/drop/x.jpg".into(),
        host: "h".into(),
        stage: Stage::Started,
        fingerprint,
        image: None,
        attempts: 1,
        requeues: 0,
        unknown_outcomes: 1,
        queued_at: WallTime::from_millis(0),
        not_before: None,
        record: None,
        pending: false,
    };
    let mut record = Record::of(&job, 1, WallTime::from_millis(0), Status::Deferred);
    record.file_bytes = Some(String::new());
    record.delete_token = Some(String::new());
    record.stripped = true;
    record.error = Some(RecordError {
        class: ErrorClass::UnknownOutcome,
        phase: Phase::Response,
        message: String::new(),
        http_status: None,
        response_head: None,
        next_try_at: None,
        advice: None,
        unknown_outcomes: Some(1),
    });
    let json: serde_json::Value = serde_json::from_str(&record.json()).expect("JSON");
    let table: Vec<&str> = README.lines().filter(|line| line.starts_with("| `")).collect();
    let fields = json.as_object().expect("an object").keys();
    for field in fields.chain(json["error"].as_object().expect("an object").keys()) {
        assert!(table.iter().any(|row| row.contains(&format!("`{field}`"))), "{field} is not explained");
    }
}

#[test]
fn the_example_line_is_a_record() {
    let line = blocks("json").concat().replace('\n', "");
    Record::parse(line.as_bytes()).expect("a record");
}

#[test]
fn the_table_of_hosts_is_that_of_the_program() {
    let list = pixchute(Path::new("/nonexistent")).args(["host", "list"]).output().expect("runs");
    for name in String::from_utf8_lossy(&list.stdout).lines().skip(1).filter_map(|line| line.split(' ').next()) {
        let row = row_of(&format!("`{name}`")).unwrap_or_else(|| panic!("no row for the host {name}"));
        let shown = pixchute(Path::new("/nonexistent")).args(["host", "show", name]).output().expect("runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let options = shown.lines().skip_while(|line| !line.starts_with("OPTION ")).skip(1);
        for option in options.take_while(|line| !line.is_empty()).filter_map(|line| line.split(' ').next()) {
            assert!(row.contains(&format!("`{option}`")), "{row}: the option {option} is missing");
        }
    }
}

#[test]
fn the_configurations_that_are_shown_can_be_used() {
    let home = tempfile::tempdir().expect("a folder");
    let key = home.path().join(".config/pixchute/imgbb.key");
    fs::create_dir_all(key.parent().expect("a parent")).expect("made");
    fs::write(&key, "key").expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("closed");
    for credential in ["gallery", "bucket", "cloud"] {
        fs::write(home.path().join(credential), "key").expect("written");
    }
    let examples = blocks("toml");
    assert_eq!(examples.len(), 4);
    for example in examples {
        let file = home.path().join("config.toml");
        fs::write(&file, example).expect("written");
        let checked = pixchute(home.path()).arg("check").arg("--config").arg(&file).output().expect("runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

/// The program in a world of its own.
fn pixchute(home: &Path) -> Command {
    let mut command = Command::new(cargo_bin!("pixchute"));
    command.env_clear().env("HOME", home).env("CREDENTIALS_DIRECTORY", home).env("XDG_RUNTIME_DIR", home);
    command
}
