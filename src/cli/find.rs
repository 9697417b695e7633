//! `pixchute find`: what was uploaded, from the manifests; the agent need not run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::Exit;
use super::out::{Out, Paint, Stop, complain, safe};
use super::tail::{format, local, manifests, timestamp};
use crate::clock::{Clock, WallTime};
use crate::record::manifest::replay;
use crate::record::{Record, sidecar};

const EXAMPLES: &str = "\
Examples:
  pixchute find trip                    everything with `trip` in its name, album, link or host
  pixchute find harbour pixhost -n 1    the latest that has both words
  pixchute find img_0042 --format bbcode";

/// Arguments of `find`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct FindArgs {
    /// Words that must all be in the name, the album, a link, the host, the hash or the job; without regard to case
    #[arg(value_name = "TEXT", required = true)]
    words: Vec<String>,
    /// How many at most, the newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: usize,
    /// Print the records as lines of JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print the links as bbcode, markdown, html, urls or one of your templates
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Look in these drop folders only
    #[arg(long = "dir", value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

pub(super) fn run(args: &FindArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let style = match (&args.format, args.json) {
        (Some(name), _) => Some(format(name, file)?),
        (None, true) => Some(format("json", file)?),
        (None, false) => None,
    };
    let manifests = manifests(&args.dirs, file)?;
    if manifests.is_empty() {
        let message = "no folder to look in: name one with --dir, start the agent, or configure a [[folder]]";
        return Err(Stop::said(Exit::Failed, message));
    }
    let words: Vec<String> = args.words.iter().map(|word| word.to_lowercase()).collect();
    let found = search(&manifests, &words, args.lines)?;
    if found.is_empty() {
        complain("nothing was found");
        return Ok(Exit::Failed);
    }
    let now = Clock::System.now();
    let zone = TimeZone::system();
    let today = timestamp(now).to_zoned_datetime(zone.clone()).date();
    let time = |at: WallTime| local(at, &zone, today);
    for record in found.into_values().rev() {
        let record = with_removal(record);
        let text = match &style {
            Some(format) => format.one(&record, now).map_err(|error| Stop::said(Exit::Failed, error.to_string()))?,
            None => readable(&record, &time, out.paint),
        };
        out.print(&text)?;
    }
    Ok(Exit::Done)
}

/// The newest `limit` records with a link that have all words; memory holds no more than those.
fn search(manifests: &[PathBuf], words: &[String], limit: usize) -> Result<BTreeMap<(WallTime, u64), Record>, Stop> {
    let mut found = BTreeMap::new();
    for path in manifests {
        let cannot = |error| Stop::said(Exit::Failed, format!("cannot read {}: {error}", path.display()));
        for record in replay(path).map_err(cannot)? {
            let record = record.map_err(cannot)?;
            if record.status.is_success() && has_all(&record, words) {
                found.insert((record.at, record.seq), record);
                if found.len() > limit {
                    found.pop_first();
                }
            }
        }
    }
    Ok(found)
}

fn has_all(record: &Record, words: &[String]) -> bool {
    let hash = record.blake3.map(|hash| hash.to_string());
    let job = record.job.to_string();
    let texts = [
        Some(&record.file),
        Some(&record.host),
        Some(&job),
        record.album.as_ref(),
        record.url.as_ref(),
        record.image.as_ref(),
        record.thumb.as_ref(),
        record.album_url.as_ref(),
        hash.as_ref(),
    ];
    let texts: Vec<String> = texts.into_iter().flatten().map(|text| text.to_lowercase()).collect();
    words.iter().all(|word| texts.iter().any(|text| text.contains(word)))
}

/// The manifest does not tell what happened later; the sidecar does.
fn with_removal(mut record: Record) -> Record {
    let place = record.moved_to.as_ref().unwrap_or(&record.file);
    let beside = sidecar::read(&Path::new(&record.folder).join(place));
    record.removed_at = beside.filter(|beside| beside.job == record.job).and_then(|beside| beside.removed_at);
    record
}

fn readable(record: &Record, time: &impl Fn(WallTime) -> String, paint: Paint) -> String {
    let at = paint.dim(&time(record.at));
    let url = safe(record.url.as_deref().unwrap_or_default());
    let place = record.moved_to.as_deref().map(|place| format!(", {}", safe(place))).unwrap_or_default();
    let removed = record.removed_at.map(|at| format!(", deleted {}", time(at))).unwrap_or_default();
    let about = paint.dim(&format!("({}{place}{removed})", safe(&record.host)));
    format!("{at} {} → {url} {about}\n", safe(&record.file))
}
