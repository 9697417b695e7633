//! The catalog of the journal explains every event, and says what to do about each warning and error.

use std::collections::BTreeMap;

use pixchute::telemetry::event::TABLE;
use tracing::Level;

const CATALOG: &str = include_str!("../../systemd/pixchute.catalog");

/// The variables that an entry may use: the fields of the log.
const FIELDS: [&str; 9] =
    ["FILE", "FOLDER", "SERVICE", "URL", "ERROR_CLASS", "NEXT_TRY_AT", "QUEUE_DEPTH", "HTTP_STATUS", "ATTEMPT"];

/// Head and text of each entry, by its id.
fn entries() -> BTreeMap<&'static str, (&'static str, &'static str)> {
    let parts = CATALOG.split("\n-- ").skip(1);
    let entry = |part: &'static str| {
        let (id, rest) = part.split_once('\n').expect("an id stands alone on its line");
        (id, rest.split_once("\n\n").expect("an empty line between head and text"))
    };
    parts.map(entry).collect()
}

#[test]
fn every_event_has_its_entry_and_every_warning_and_error_says_what_to_do() {
    let entries = entries();
    assert_eq!(entries.len(), TABLE.len(), "an entry is doubled, or belongs to no event");
    for event in &TABLE {
        let (head, text) = entries.get(event.message_id).unwrap_or_else(|| panic!("no entry for {}", event.name));
        assert!(head.starts_with("Subject: ") && head.contains("\nDefined-By: pixchute\n"), "{}: {head}", event.name);
        let advises = text.contains("\n\nWhat to do: ");
        let must = event.level == Level::ERROR || event.level == Level::WARN;
        assert!(advises || !must, "{} says not what to do:\n{text}", event.name);
    }
}

#[test]
fn an_entry_uses_only_fields_that_the_log_has() {
    for (id, (head, text)) in entries() {
        for word in format!("{head}\n{text}").split('@').skip(1).step_by(2) {
            assert!(FIELDS.contains(&word), "{id}: @{word}@");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{id}: a line is too long for a terminal");
    }
}
