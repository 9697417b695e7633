//! The page of metrics is what Prometheus reads: checked with a parser of the format, since the real one is not at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::control::model::{PoolStatus, StageCounts, StageTimes};
use crate::job::ErrorClass;
use crate::telemetry::tally::Outcome;

fn at(seconds: i64) -> WallTime {
    WallTime::from_millis(1_795_435_200_000 + seconds * 1000)
}

fn status() -> Status {
    let folder = FolderStatus {
        path: PathBuf::from("/home/a/Dr\"op\\\n"),
        host: "pixhost".into(),
        watch: "absent".into(),
        watch_reason: None,
        settling: Vec::new(),
        settling_total: 2,
        unreadable: Vec::new(),
        counts: StageCounts { waiting: 2, cooling: 4, done: 120, ..StageCounts::default() },
        oldest_open_at: Some(at(-300)),
        oldest_at: StageTimes { waiting: Some(at(-300)), ..StageTimes::default() },
        last_success_at: None,
        last_error: None,
        next_due_at: None,
        overflows: 3,
        held_since: None,
        manifest: PathBuf::from("/home/a/Drop/manifest.jsonl"),
    };
    let host = HostStatus {
        state: "ready".to_owned(),
        name: "pixhost".into(),
        running: 1,
        parked: 1,
        window: 4,
        max_parallel: 8,
        queued: 2,
        quota: None,
        paused_until: Some(at(90)),
        pause_reason: None,
        last_success_at: Some(at(-5)),
        last_error: None,
        next_due_at: Some(at(30)),
        unknown_outcomes: 2,
        held_since: Some(at(-60)),
    };
    Status {
        version: "0.1.0".into(),
        pid: 1,
        state: "ready".into(),
        started_at: at(-7_200),
        now: at(0),
        config: None,
        gallery: None,
        blocked: None,
        pool: PoolStatus { workers: 8, busy: 2, parked: 1, queue: 100, queue_depth: 2, oldest_queued_at: Some(at(-9)) },
        folders: vec![folder],
        hosts: vec![host.clone(), HostStatus { name: "unused".into(), ..host }],
        attempts: Vec::new(),
        recent: Vec::new(),
    }
}

fn page() -> String {
    let mut tally = Tally::default();
    for (status, class, millis) in [
        ("uploaded", None, 300),
        ("uploaded", None, 70_000),
        ("timeout", Some(ErrorClass::Timeout), 180_500),
        ("deferred", Some(ErrorClass::Connect), 10),
    ] {
        let timed_out = status == "timeout";
        tally.count(&Outcome { status, class, bytes: 183_422, took: Duration::from_millis(millis), timed_out });
    }
    tally.sent_bytes = 1_000_000;
    let counted = Counted {
        tallies: [("pixhost".to_owned(), tally)].into(),
        events: vec![("job-queued", 7), ("watch-overflow", 3)],
        requeues: 5,
        readers: 1,
        process: process::Process { resident_bytes: Some(29_696_000), open_files: Some(33) },
    };
    render(&status(), &counted)
}

/// A metric as a reader of the format sees it.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    help: String,
    /// Name, labels, value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads a page by the rules of the format, and panics where it breaks one.
fn parse(page: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    assert!(page.ends_with('\n'), "the last line has an end");
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            assert!(is_name(name) && !metrics.contains_key(name), "{name} comes once, with all its samples");
            current = name.to_owned();
            metrics.entry(current.clone()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert_eq!(name, current, "TYPE follows HELP");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            metrics.get_mut(name).expect("has help").kind = kind.to_owned();
        } else {
            let sample = sample(line);
            let metric = metrics.get_mut(&current).expect("samples follow their head");
            let part = sample.0.strip_prefix(&current).expect("samples belong to the head above them");
            let allowed: &[&str] = if metric.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&part), "{line}");
            assert!(seen.insert((sample.0.clone(), sample.1.clone())), "twice: {line}");
            metric.samples.push(sample);
        }
    }
    metrics
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name{label="value",…} number`
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (head, value) = line.rsplit_once(' ').expect("a value");
    let value = value.parse().unwrap_or_else(|_| panic!("{value} is no number"));
    let Some((name, labels)) = head.split_once('{') else {
        assert!(is_name(head), "{line}");
        return (head.to_owned(), BTreeMap::new(), value);
    };
    let mut found = BTreeMap::new();
    let mut rest = labels.strip_suffix('}').expect("closed");
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("a label");
        let mut text = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => text.push(match letters.next().expect("an escape").1 {
                    'n' => '\n',
                    other @ ('\\' | '"') => other,
                    other => panic!("\\{other} is no escape"),
                }),
                (_, letter) => text.push(letter),
            }
        };
        assert!(is_name(label) && found.insert(label.to_owned(), text).is_none(), "{line}");
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    assert!(is_name(name), "{line}");
    (name.to_owned(), found, value)
}

fn value(metrics: &BTreeMap<String, Metric>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
    let wanted: BTreeMap<String, String> = labels.iter().map(|(l, v)| ((*l).to_owned(), (*v).to_owned())).collect();
    let mut found = metrics[family].samples.iter().filter(|sample| sample.0 == name && sample.1 == wanted);
    found.next().unwrap_or_else(|| panic!("{name} {labels:?}")).2
}

#[test]
fn the_page_keeps_the_rules_of_the_format_and_tells_what_is() {
    let metrics = parse(&page());
    assert!(metrics.iter().all(|(name, metric)| !metric.help.is_empty() && !metric.kind.is_empty() && {
        name.starts_with("pixchute_") || name.starts_with("process_")
    }));
    let value = |name, labels: &[(&str, &str)]| value(&metrics, name, labels);
    assert_eq!(value("pixchute_uploads_total", &[("host", "pixhost"), ("status", "uploaded")]), 2.0);
    assert_eq!(value("pixchute_uploads_total", &[("host", "unused"), ("status", "failed")]), 0.0);
    assert_eq!(value("pixchute_errors_total", &[("host", "pixhost"), ("class", "timeout")]), 1.0);
    assert_eq!(value("pixchute_recent_timeout_ratio", &[("host", "pixhost")]), 0.25);
    assert_eq!(value("pixchute_workers_busy_ratio", &[]), 0.25);
    assert_eq!(value("pixchute_host_pause_seconds", &[("host", "pixhost")]), 90.0);
    assert_eq!(value("pixchute_host_held", &[("host", "pixhost")]), 1.0);
    assert_eq!(value("pixchute_queue_oldest_age_seconds", &[]), 9.0);
    let folder = "/home/a/Dr\"op\\\n";
    assert_eq!(value("pixchute_jobs", &[("folder", folder), ("state", "done")]), 120.0);
    assert_eq!(value("pixchute_oldest_job_age_seconds", &[("folder", folder), ("state", "waiting")]), 300.0);
    assert_eq!(value("pixchute_folder_absent", &[("folder", folder)]), 1.0);
    assert_eq!(value("pixchute_events_total", &[("event", "watch-overflow")]), 3.0);
}

#[test]
fn histograms_rise_and_end_with_all_values() {
    let metrics = parse(&page());
    let histograms: Vec<&Metric> = metrics.values().filter(|metric| metric.kind == "histogram").collect();
    assert_eq!(histograms.len(), 2);
    for metric in histograms {
        let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for (_, labels, count) in metric.samples.iter().filter(|sample| sample.0.ends_with("_bucket")) {
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("a bound").parse().expect("a number or +Inf");
            series.entry(labels).or_default().push((bound, *count));
        }
        for (labels, buckets) in series {
            assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{buckets:?}");
            let total = buckets.last().expect("some");
            let count = metric.samples.iter().find(|sample| sample.0.ends_with("_count") && sample.1 == labels);
            assert_eq!((total.0, Some(total.1)), (f64::INFINITY, count.map(|sample| sample.2)));
        }
    }
    let name = "pixchute_upload_duration_seconds_bucket";
    let one = value(&metrics, name, &[("host", "pixhost"), ("status", "uploaded"), ("le", "1")]);
    assert_eq!(one, 1.0);
    let sum = value(&metrics, "pixchute_upload_size_bytes_sum", &[("host", "pixhost")]);
    assert_eq!(sum, 366_844.0);
}

/// Every word of `text` that looks like one of our metrics, without the parts of a histogram.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let ours = words.filter(|word| (word.starts_with("pixchute_") || word.starts_with("process_")) && is_name(word));
    let family = |word: &str| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| word.strip_suffix(part))
            .filter(|family| family.ends_with("_seconds") || family.ends_with("_bytes"))
            .unwrap_or(word)
            .to_owned()
    };
    ours.map(family).collect()
}

#[test]
fn the_rules_the_dashboard_and_the_readme_name_only_metrics_that_exist() {
    let metrics: BTreeSet<String> = parse(&page()).into_keys().collect();
    for (file, text) in [
        ("alerts.yml", include_str!("../../config/alerts.yml")),
        ("grafana.json", include_str!("../../config/grafana.json")),
    ] {
        let named = named(text);
        assert!(named.len() > 5, "{file} names none: {named:?}");
        let missing: Vec<_> = named.difference(&metrics).collect();
        assert!(missing.is_empty(), "{file} names what does not exist: {missing:?}");
    }
    let readme = named(include_str!("../../README.md"));
    assert_eq!(readme, metrics, "the README lists them all");
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../config/grafana.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 5));
}
