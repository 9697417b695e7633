//! `pixchute tail`: the manifests of all folders as readable lines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::out::{Out, Paint, Stop, complain, safe};
use super::{Exit, Threads, client, config_or_default, wait};
use crate::clock::{Clock, WallTime};
use crate::config::FORMATS;
use crate::control::model::Status;
use crate::record::follow::Follower;
use crate::record::{self, Record};
use crate::render::{Format, Formats};

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
    /// Print the links as bbcode, markdown, html, urls, json or one of your templates, instead of readable lines
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Drop folders; without any those of the running agent, else those of the configuration
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

pub(super) fn run(args: &TailArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let style = match &args.format {
        None => Style::Readable,
        Some(name) => Style::Format(format(name, file)?),
    };
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
    lines.sort_by_cached_key(|line| Record::parse(line.as_bytes()).map(|record| record.at).ok());
    lines.drain(..lines.len().saturating_sub(args.lines));
    show(&lines, &style, out)?;
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        std::thread::sleep(POLL);
        for (path, follower) in &mut followers {
            let cannot = |error| Stop::said(Exit::Failed, format!("cannot read {}: {error}", path.display()));
            show(&follower.poll().map_err(cannot)?, &style, out)?;
        }
    }
}

/// Folders with their manifests, from the running agent, else from the configuration; narrowed to `dirs` if there are
/// any.
pub(super) fn manifests(dirs: &[PathBuf], file: Option<&Path>) -> Result<Vec<PathBuf>, Stop> {
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

/// How lines are shown.
enum Style {
    /// For people.
    Readable,
    /// Text to paste, or for a program: only of files with a link, but for `json`.
    Format(Format),
}

/// The format of this name, built in or of the configuration.
pub(super) fn format(name: &str, file: Option<&Path>) -> Result<Format, Stop> {
    let config = config_or_default(file)?;
    let formats = match Formats::from_config(&config) {
        Ok(formats) => formats,
        // Other templates are no reason to refuse a built-in format.
        Err(_) if FORMATS.contains(&name) => Formats::builtin(),
        Err(problems) => return Err(config.rejected(problems).into()),
    };
    formats.find(name).map_err(|error| Stop::said(Exit::Usage, error.to_string()))
}

fn show(lines: &[String], style: &Style, out: &mut Out) -> Result<(), Stop> {
    if let Style::Format(format) = style {
        return show_as(lines, format, out);
    }
    let zone = TimeZone::system();
    let today = timestamp(Clock::System.now()).to_zoned_datetime(zone.clone()).date();
    for line in lines {
        out.print(&readable(line, &zone, today, out.paint))?;
    }
    Ok(())
}

/// What cannot be read is told on standard error: standard output belongs to a program or to the clipboard.
fn show_as(lines: &[String], format: &Format, out: &mut Out) -> Result<(), Stop> {
    for line in lines {
        match Record::parse(line.as_bytes()) {
            Ok(record) => {
                let text = format.one(&record, Clock::System.now());
                out.print(&text.map_err(|error| Stop::said(Exit::Failed, error.to_string()))?)?;
            }
            Err(error) => complain(&format!("unreadable line ({error}): {}", safe(line))),
        }
    }
    Ok(())
}

fn readable(line: &str, zone: &TimeZone, today: Date, paint: Paint) -> String {
    let Ok(record) = Record::parse(line.as_bytes()) else {
        return format!("{}\n", paint.warn(&format!("unreadable line: {}", safe(line))));
    };
    let time = local(record.at, zone, today);
    let word = format!("{:<8}", record.status.name());
    let status = match record.status {
        record::Status::Uploaded | record::Status::Linked => paint.good(&word),
        record::Status::Timeout | record::Status::Deferred => paint.warn(&word),
        record::Status::Failed => paint.bad(&word),
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

/// A moment beyond the calendar (a damaged record) is shown as the epoch.
pub(super) fn timestamp(at: WallTime) -> Timestamp {
    Timestamp::from_millisecond(at.millis()).unwrap_or_default()
}

/// The time of day here, with the date unless it is today.
pub(super) fn local(at: WallTime, zone: &TimeZone, today: Date) -> String {
    let at = timestamp(at).to_zoned_datetime(zone.clone());
    let format = if at.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        readable(line, &TimeZone::UTC, Date::constant(2026, 11, 23), Paint::default())
    }

    fn record(status: &str, file: &str, at: &str, rest: &str) -> String {
        format!(
            r#"{{"v":1,"seq":1,"job":"01JD0000000000000000000000","at":"{at}","status":"{status}","file":"{file}",
            "folder":"/d","host":"h","bytes":1,"mime":null,"width":null,"height":null,"blake3":null,"attempts":1,
            "requeues":0,"duration_ms":1,"moved_to":null,{rest}}}"#
        )
    }

    #[test]
    fn an_upload_is_a_time_a_name_and_a_link() {
        let line = record("uploaded", "trip/IMG_1.jpg", "2026-11-23T12:00:00.123Z", r#""url":"https://h.example/1""#);
        assert_eq!(shown(&line), "12:00:00 uploaded trip/IMG_1.jpg → https://h.example/1\n");
    }

    #[test]
    fn a_time_out_says_why_and_when_it_goes_on() {
        let error = r#""url":null,"error":{"class":"timeout","phase":"response","message":"no answer within 180 s",
            "next_try_at":"2026-11-23T12:05:00Z"}"#;
        assert_eq!(
            shown(&record("timeout", "a.jpg", "2026-11-22T12:00:00Z", error)),
            "2026-11-22 12:00:00 timeout  a.jpg: no answer within 180 s (next try 12:05:00)\n"
        );
    }

    #[test]
    fn hostile_lines_are_escaped() {
        let line = record("failed", r"a\u001b[2J\n.jpg", "2026-11-23T12:00:00Z", r#""url":null"#);
        assert_eq!(shown(&line), "12:00:00 failed   a\\u{1b}[2J\\n.jpg\n");
        assert_eq!(shown("{torn\x1b"), "unreadable line: {torn\\u{1b}\n");
    }
}
