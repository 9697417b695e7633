//! What is done with untrusted bytes, one function for each kind. They are run by `tests/hostile.rs` and by cargo-fuzz.
//! A panic is a finding, and so is what an `assert` says.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pixchute::host::recipe::{Answer, Extractor};
use pixchute::host::sxcu::Sxcu;
use pixchute::host::thumb::Thumbnailer;
use pixchute::host::{Source, can_strip, links, strip, wire_name};
use pixchute::job::{Fingerprint, JobId};
use pixchute::ledger::{Ledger, SqliteLedger};
use pixchute::record::{Record, follow, manifest, rebuild};
use pixchute::{config, host, inspect, shelf, telemetry};

/// Larger pictures have no thumbnail here: a decode takes seconds, and how many pixels are too many is tested elsewhere.
const MAX_PIXELS: u64 = 1 << 20;

/// A recipe of a user: read, and described.
pub(crate) fn recipe(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match host::recipe::parse(text, "fuzz") {
        Ok(recipe) => drop(format!("{recipe:?}")),
        Err(error) => assert_printable(&error.to_string()),
    }
}

/// A ShareX uploader: read, and turned into a recipe.
pub(crate) fn sxcu(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(sxcu) = Sxcu::read(text) else { return };
    let questions = sxcu.questions();
    let answers = questions.into_iter().map(|(name, default)| (name, default.unwrap_or_default())).collect();
    let _ = (sxcu.name(), sxcu.no_host_for_images(), sxcu.asked_secrets(), sxcu.written());
    let _ = sxcu.recipe("fuzz", &answers);
}

/// A configuration: read, or every mistake in it shown. No secret is fetched, so that no program is run.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match config::parse(text, Some(Path::new("/c.toml"))) {
        Ok(config) => assert!(config::difference(&config, &config).is_empty()),
        Err(error) => assert_printable(&error.to_string()),
    }
}

/// A manifest: repaired, replayed, searched, followed, and a ledger rebuilt from it.
pub(crate) fn manifest(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(record) = Record::parse(line) {
            let again = Record::parse(record.line().trim_end().as_bytes()).expect("what was written can be read");
            assert_eq!(record, again);
            assert!(!record.line().trim_end().contains('\n'), "one line");
            if let Some(found) = record.links() {
                assert!(found.url.starts_with("http"), "{found:?}");
            }
            let _ = record.name();
        }
    }
    let place = tempfile::tempdir().expect("a folder");
    let folder = pixchute::config::Folder::new(place.path().to_owned(), "local");
    fs::write(&folder.manifest, data).expect("writes");
    let _ = follow::last_lines(&folder.manifest, 3).expect("a readable file");
    let (mut open, _) = manifest::Manifest::open(&folder.manifest).expect("any file can be repaired");
    let _ = manifest::find(&folder.manifest, JobId::generate(), |_| true).expect("a readable file");
    manifest::replay(&folder.manifest).expect("a readable file").for_each(drop);
    for job in rebuild::jobs(&folder, 0).expect("a readable file").flatten() {
        assert!(job.path.starts_with(&folder.path) || job.path.is_absolute());
        assert!(!job.path.components().any(|part| part == std::path::Component::ParentDir), "{:?}", job.path);
    }
    open.append(&["{}\n".to_owned()]).expect("appends");
    let after = fs::read(&folder.manifest).expect("reads");
    assert!(after.ends_with(b"\n{}\n") || after == b"{}\n", "what is appended stands on a line of its own");
}

/// A damaged ledger: opened or set aside, and asked.
pub(crate) fn ledger(data: &[u8]) {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("ledger.db");
    fs::write(&path, data).expect("writes");
    let Ok(opened) = SqliteLedger::open(&path) else { return };
    let ledger = opened.ledger;
    runtime().block_on(async {
        if let Ok(jobs) = ledger.jobs(None, None, 16).await {
            for job in jobs {
                let _ = job.record.map(|json| Record::parse(json.as_bytes()));
            }
        }
        let _ = ledger.unfinished(None, 16).await;
        let _ = (ledger.census().await, ledger.last_seq().await, ledger.pauses().await);
    });
}

/// What a host answered. The first line is an extractor, the rest the body.
pub(crate) fn answer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (way, body) = text.split_once('\n').unwrap_or(("json:url", &text));
    let Ok(extractor) = Extractor::new(way) else { return };
    let mut answer = Answer::new(200, Default::default(), body.as_bytes());
    answer.url.push_str("https://h.example/upload");
    answer.names.push("a.png".to_owned());
    if let Some(found) = extractor.find(&answer) {
        assert!(!found.trim().is_empty());
        if let Ok(link) = links::link(&found) {
            assert!(link.starts_with("http://") || link.starts_with("https://"), "{link}");
            assert_printable(&link);
            assert!(!link.contains(['"', '<', '>', ' ']), "{link}");
        }
    }
}

/// An image: looked at, inspected, its metadata removed, a thumbnail made.
pub(crate) fn image(data: &[u8]) {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("a.png");
    fs::write(&path, data).expect("writes");
    inspect::look(&path).expect("a readable file").expect("a file");
    let fingerprint = Fingerprint::of(&fs::metadata(&path).expect("is there"));
    let Ok(inspected) = inspect::inspect(&path, fingerprint, 1 << 30) else { return };
    let facts = inspected.image;
    let source = Source::in_memory(Bytes::copy_from_slice(data), "a.png".to_owned(), facts.kind);
    if can_strip(facts.kind)
        && let Ok(clean) = strip(&source)
    {
        assert!(clean.len() <= source.len() + 64, "removing adds nothing but what turns a picture");
        clean.hash().expect("it lies in memory");
    }
    if u64::from(facts.width) * u64::from(facts.height) <= MAX_PIXELS {
        let thumb = runtime().block_on(Thumbnailer::default().of(&Arc::new(source), &facts));
        if let Some(thumb) = thumb {
            assert!(thumb.size.0 <= host::thumb::EDGE && thumb.size.1 <= host::thumb::EDGE);
        }
    }
}

/// A file name: on the wire, in a path, on a terminal.
pub(crate) fn names(data: &[u8]) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = Path::new(OsStr::from_bytes(data));
    let wire = wire_name(name);
    assert!(!wire.is_empty() && !wire.contains(['/', '\\']) && !wire.chars().any(char::is_control), "{wire:?}");
    assert!(wire.len() <= 255, "{wire:?}");
    assert_printable(&telemetry::shown(name));
    assert_printable(&telemetry::visible(&name.to_string_lossy()));
    if let Ok(place) = shelf::free_name(Path::new("/nowhere/done"), name, &Default::default()) {
        assert!(place.starts_with("/nowhere/done"), "{place:?}");
        let sidecar = shelf::sidecar_path(&place);
        assert!(sidecar.starts_with("/nowhere/done") && sidecar != place, "{sidecar:?}");
    }
}

/// Nothing in it steers a terminal or turns the order of letters.
fn assert_printable(text: &str) {
    let bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    assert!(!text.chars().any(bad), "{text:?}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}
