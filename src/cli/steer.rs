//! `pixchute cancel`, `pause`, `resume`, `rescan`, `reload`: steer the running agent.

use std::fmt::Write as _;
use std::path::{self, Path, PathBuf};

use super::out::{Out, Stop, safe};
use super::{Exit, Threads, wait};
use crate::control::client::Client;
use crate::control::client::ClientError;
use crate::control::steer::{CancelBody, Cancelled, Named, PauseBody, Reloaded, Rescanned, Turned};

/// Arguments of `cancel`.
#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// Files that wait, are being uploaded, or rest in retry/: where they lie, or under the name that they were dropped with; or a folder, for all of them in it
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Arguments of `pause` and `resume`.
#[derive(Debug, clap::Args)]
pub(super) struct TurnArgs {
    /// Names of hosts, or drop folders; everything if none is given
    #[arg(value_name = "HOST|FOLDER")]
    names: Vec<String>,
}

pub(super) fn cancel(args: &CancelArgs, client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    let absolute = args.paths.iter().map(path::absolute).collect::<Result<Vec<_>, _>>();
    let paths = absolute.map_err(|error| Stop::said(Exit::Usage, format!("a path cannot be used: {error}")))?;
    let body = CancelBody { paths };
    let cancelled: Cancelled = wait(Threads::One, async { Ok(client.post("/v1/cancel", &body).await?) })?;
    out.print(&format!("{} {} cancelled\n", cancelled.cancelled, files(cancelled.cancelled)))?;
    refused(&cancelled.refused)
}

pub(super) fn pause(args: &TurnArgs, client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    let turned = turn(args, client, "/v1/pause")?;
    let mut text = told(&turned, "paused", "was paused already");
    if turned.running > 0 {
        let running = turned.running;
        let _ = writeln!(text, "{running} {} under way may finish", if running == 1 { "upload" } else { "uploads" });
    }
    out.print(&text)?;
    refused(&turned.refused)
}

pub(super) fn resume(args: &TurnArgs, client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    let turned = turn(args, client, "/v1/resume")?;
    out.print(&told(&turned, "resumed", "was not paused"))?;
    refused(&turned.refused)
}

pub(super) fn rescan(client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    let empty = serde_json::Map::new();
    let scanned: Rescanned = wait(Threads::One, async { Ok(client.post("/v1/folders/rescan", &empty).await?) })?;
    let folders = if scanned.folders == 1 { "folder is" } else { "folders are" };
    out.print(&format!("{} {folders} scanned now\n", scanned.folders))?;
    Ok(Exit::Done)
}

/// Exit code 78 if the configuration cannot be used: then the old one applies.
pub(super) fn reload(client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    let empty = serde_json::Map::new();
    let answer = wait(Threads::One, async { Ok(client.post::<Reloaded>("/v1/reload", &empty).await) })?;
    let reloaded = match answer {
        Err(ClientError::Refused { status, message }) if status.as_u16() == 422 => {
            return Err(Stop::said(Exit::Config, format!("nothing was changed\n{}", message.trim_end())));
        }
        other => other?,
    };
    let mut text = String::new();
    for change in &reloaded.changes {
        let _ = writeln!(text, "{}", safe(change));
    }
    let count = reloaded.changes.len();
    let _ = match (count, reloaded.running) {
        (0, _) => writeln!(text, "nothing has changed"),
        (_, 0) => writeln!(text, "reloaded: {count} {}", if count == 1 { "change" } else { "changes" }),
        (_, running) => writeln!(text, "reloaded: {count} changes; {running} uploads under way go on as they began"),
    };
    if reloaded.at_start > 0 {
        let _ = writeln!(text, "{} of them apply after the next start of the agent", reloaded.at_start);
    }
    out.print(&text)?;
    Ok(Exit::Done)
}

fn turn(args: &TurnArgs, client: &Client, route: &str) -> Result<Turned, Stop> {
    // The agent knows whether a word is a host or a folder; relative paths mean this shell's folder.
    let named = |name: &String| Named { name: name.clone(), path: normal(Path::new(name)) };
    let body = PauseBody { names: args.names.iter().map(named).collect() };
    wait(Threads::One, async { Ok(client.post(route, &body).await?) })
}

/// The path from the root, without a slash at its end and without `.`.
fn normal(path: &Path) -> Option<PathBuf> {
    Some(path::absolute(path).ok()?.components().collect())
}

fn told(turned: &Turned, done: &str, unchanged: &str) -> String {
    let mut text = String::new();
    for host in &turned.hosts {
        let _ = writeln!(text, "{done} {}", safe(host));
    }
    for folder in &turned.folders {
        let _ = writeln!(text, "{done} {}", safe(&folder.to_string_lossy()));
    }
    for name in &turned.unchanged {
        let _ = writeln!(text, "{} {unchanged}", safe(name));
    }
    if text.is_empty() && turned.refused.is_empty() {
        text.push_str("there is nothing to do\n");
    }
    text
}

fn files(count: u64) -> &'static str {
    if count == 1 { "file" } else { "files" }
}

/// Exit code 1 with the reasons, if there are any.
fn refused(reasons: &[String]) -> Result<Exit, Stop> {
    if reasons.is_empty() {
        return Ok(Exit::Done);
    }
    let reasons: Vec<String> = reasons.iter().map(|reason| safe(reason)).collect();
    Err(Stop::said(Exit::Failed, reasons.join("\npixchute: ")))
}
