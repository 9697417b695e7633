//! `pixchute tail`: the manifests of all folders as readable lines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::out::{Out, Paint, Stop, safe};
use super::{Exit, Threads, client, config_or_default, wait};
use crate::clock::Clock;
use crate::control::model::Status;
use crate::record::follow::Follower;

/// Time between two looks at the manifests: a link is shown within a second of its upload.
const POLL: Duration = Duration::from_millis(300);

/// The manifest of a folder that no configuration knows.
const MANIFEST: &str = "manifest.jsonl";

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub(super) struct TailArgs {
    /// Go on with new lines as they come
    #[arg(short, long)]
    follow: bool,
    /// How many lines to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Drop folders; without any those of the running agent, else those of the configuration
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

pub(super) fn run(args: &TailArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let manifests = manifests(&args.dirs, file)?;
    if manifests.is_empty() {
        let message = "no folder to show: name one, start the agent, or configure a [[folder]]";
        return Err(Stop::said(Exit::Failed, message));
    }
    let mut followers = Vec::new();
    let mut lines = Vec::new();
    for path in &manifests {
        let cannot = |error| Stop::said(Exit::Failed, format!("cannot read {}: {error}", path.display()));
        let (follower, last) = Follower::after_last_lines(path, args.lines).map_err(cannot)?;
        followers.push((path, follower));
        lines.extend(last);
    }
    lines.sort_by_cached_key(|line| Line::parse(line).map(|line| line.at));
    lines.drain(..lines.len().saturating_sub(args.lines));
    show(&lines, out)?;
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        std::thread::sleep(POLL);
        for (path, follower) in &mut followers {
            let cannot = |error| Stop::said(Exit::Failed, format!("cannot read {}: {error}", path.display()));
            show(&follower.poll().map_err(cannot)?, out)?;
        }
    }
}

/// Folders with their manifests, from the running agent, else from the configuration; narrowed to `dirs` if there are
/// any.
fn manifests(dirs: &[PathBuf], file: Option<&Path>) -> Result<Vec<PathBuf>, Stop> {
    let agent = client(file)?;
    let known: Vec<(PathBuf, PathBuf)> = match wait(Threads::One, async {
        Ok(agent.get::<Status>("/v1/status").await?)
    }) {
        Ok(status) => status.folders.into_iter().map(|folder| (folder.path, folder.manifest)).collect(),
        Err(_) => config_or_default(file)?.folders.into_iter().map(|folder| (folder.path, folder.manifest)).collect(),
    };
    if dirs.is_empty() {
        return Ok(known.into_iter().map(|(_, manifest)| manifest).collect());
    }
    let manifest_of = |dir: &PathBuf| {
        let wanted = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let same = known.iter().find(|(path, _)| path.canonicalize().is_ok_and(|path| path == wanted));
        same.map_or_else(|| dir.join(MANIFEST), |(_, manifest)| manifest.clone())
    };
    Ok(dirs.iter().map(manifest_of).collect())
}

fn show(lines: &[String], out: &mut Out) -> Result<(), Stop> {
    let zone = TimeZone::system();
    let now = Timestamp::from_millisecond(Clock::System.now().millis()).unwrap_or_default();
    let today = now.to_zoned_datetime(zone.clone()).date();
    for line in lines {
        out.print(&readable(line, &zone, today, out.paint))?;
    }
    Ok(())
}

/// What is shown of a manifest line; all else is passed over.
#[derive(Debug, Deserialize)]
struct Line {
    at: Timestamp,
    status: String,
    file: String,
    url: Option<String>,
    error: Option<LineError>,
}

#[derive(Debug, Deserialize)]
struct LineError {
    message: String,
    #[serde(default)]
    next_try_at: Option<Timestamp>,
    #[serde(default)]
    advice: Option<String>,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

fn readable(line: &str, zone: &TimeZone, today: Date, paint: Paint) -> String {
    let Some(record) = Line::parse(line) else {
        return format!("{}\n", paint.warn(&format!("unreadable line: {}", safe(line))));
    };
    let time = local(record.at, zone, today);
    let status = match record.status.as_str() {
        status @ ("uploaded" | "linked") => paint.good(&format!("{status:<8}")),
        status @ ("timeout" | "deferred") => paint.warn(&format!("{status:<8}")),
        other => paint.bad(&format!("{:<8}", safe(other))),
    };
    let mut text = format!("{} {status} {}", paint.dim(&time), safe(&record.file));
    if let Some(url) = &record.url {
        text.push_str(&format!(" → {}", safe(url)));
    }
    if let Some(error) = &record.error {
        text.push_str(&format!(": {}", safe(&error.message)));
        if let Some(next) = error.next_try_at {
            text.push_str(&format!(" (next try {})", local(next, zone, today)));
        }
        if let Some(advice) = &error.advice {
            text.push_str(&format!(" ({})", safe(advice)));
        }
    }
    text.push('\n');
    text
}

/// The time of day here, with the date unless it is today.
fn local(at: Timestamp, zone: &TimeZone, today: Date) -> String {
    let at = at.to_zoned_datetime(zone.clone());
    let format = if at.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        readable(line, &TimeZone::UTC, Date::constant(2026, 11, 23), Paint::default())
    }

    #[test]
    fn an_upload_is_a_time_a_name_and_a_link() {
        let line = r#"{"v":1,"seq":1,"at":"2026-11-23T12:00:00.123Z","status":"uploaded","file":"trip/IMG_1.jpg","url":"https://h.example/1"}"#;
        assert_eq!(shown(line), "12:00:00 uploaded trip/IMG_1.jpg → https://h.example/1\n");
    }

    #[test]
    fn a_time_out_says_why_and_when_it_goes_on() {
        let line = r#"{"at":"2026-11-22T12:00:00Z","status":"timeout","file":"a.jpg","url":null,
            "error":{"class":"timeout","message":"no answer within 180 s","next_try_at":"2026-11-23T12:05:00Z"}}"#;
        assert_eq!(shown(line), "2026-11-22 12:00:00 timeout  a.jpg: no answer within 180 s (next try 12:05:00)\n");
    }

    #[test]
    fn hostile_lines_are_escaped() {
        let line = r#"{"at":"2026-11-23T12:00:00Z","status":"failed","file":"a\u001b[2J\n.jpg","url":null}"#;
        assert_eq!(shown(line), "12:00:00 failed   a\\u{1b}[2J\\n.jpg\n");
        assert_eq!(shown("{torn\x1b"), "unreadable line: {torn\\u{1b}\n");
    }
}
