//! `pixchute undo`: delete on the host what was uploaded. Asks the running agent, or does it itself.

use std::path::{self, Path};
use std::sync::Arc;

use super::out::{Out, Stop, complain, safe};
use super::run::expected_site;
use super::{Exit, Threads, client, wait};
use crate::agent::undo::Undo;
use crate::clock::Clock;
use crate::config::{self, Config, HostConfig};
use crate::control::client::ClientError;
use crate::control::undo::{ANSWER, Target, UndoBody, UndoResult, Undone};
use crate::host;
use crate::ledger::LedgerError;
use crate::ledger::sqlite::{Opened, SqliteLedger};

/// Arguments of `undo`.
#[derive(Debug, clap::Args)]
pub(super) struct UndoArgs {
    /// The file (where it is now, or as it was dropped), any of its links, or its job
    #[arg(value_name = "FILE|URL|JOB", required = true)]
    targets: Vec<String>,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &UndoArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let mut exit = Exit::Done;
    for target in &args.targets {
        let body = UndoBody { target: target_of(target)?, dry_run: args.dry_run };
        match wait(Threads::One, undo(body, file))? {
            Ok(undone) => {
                if !tell(&undone, args.dry_run, out)? {
                    exit = Exit::Failed;
                }
            }
            Err(reason) => {
                complain(&safe(&reason));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn target_of(text: &str) -> Result<Target, Stop> {
    if let Ok(job) = text.parse() {
        return Ok(Target::Job(job));
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Target::Url(text.to_owned()));
    }
    let absolute = path::absolute(text);
    absolute.map(Target::Path).map_err(|error| Stop::said(Exit::Usage, format!("a path cannot be used: {error}")))
}

/// The agent's answer, or our own if none runs.
async fn undo(body: UndoBody, file: Option<&Path>) -> Result<Result<Undone, String>, Stop> {
    match client(file)?.post_within("/v1/undo", &body, ANSWER).await {
        Ok(undone) => Ok(Ok(undone)),
        Err(ClientError::Refused { message, .. }) => Ok(Err(message)),
        Err(ClientError::NotRunning { .. }) => alone(body, file).await,
        Err(error) => Err(error.into()),
    }
}

/// Without an agent, under the ledger's lock.
async fn alone(body: UndoBody, file: Option<&Path>) -> Result<Result<Undone, String>, Stop> {
    let mut config = match config::load(file) {
        Ok(config) => config,
        Err(error) if file.is_some() => return Err(error.into()),
        Err(_) => Config::default(),
    };
    if !config.ledger.exists() {
        let message = format!("there is no ledger at {}: nothing was uploaded from here", config.ledger.display());
        return Err(Stop::said(Exit::Failed, message));
    }
    let Opened { ledger, .. } = SqliteLedger::open(&config.ledger).map_err(|error| {
        let exit = if matches!(error, LedgerError::InUse { .. }) { Exit::InUse } else { Exit::Failed };
        Stop::said(exit, error.to_string())
    })?;
    // Folders of `run DIR` use it without a table.
    config.hosts.entry("local".to_owned()).or_insert_with(|| HostConfig::new("local"));
    let site = expected_site(config.listen);
    if site.is_none() {
        config.hosts.retain(|_, host| host.recipe != "local");
    }
    let hosts = host::build(&config, site).map_err(|problems| config.rejected(problems))?;
    let undo = Undo {
        ledger: Arc::new(ledger),
        folders: config.folders,
        host: Box::new(move |name| hosts.get(name).cloned()),
        now: Clock::System.now(),
    };
    Ok(undo.run(body).await.map(|(undone, _)| undone))
}

/// Says what happened; whether it is what was wanted.
fn tell(undone: &Undone, dry_run: bool, out: &mut Out) -> Result<bool, Stop> {
    let Undone { result, file, host, url, also } = undone;
    let (file, host, url) = (safe(file), safe(host), safe(url));
    let names = also.iter().map(|file| safe(file)).collect::<Vec<_>>().join(", ");
    let also = if also.is_empty() { String::new() } else { format!("; {names} had the same link") };
    let text = match result {
        UndoResult::Deleted => format!("{file} is deleted on {host}: {url}{also}\n"),
        UndoResult::Possible => format!("{file} would be deleted on {host}: {url}{also}\n"),
        UndoResult::Kept => {
            let gives = if dry_run { "would give" } else { "gives" };
            format!("{file} {gives} up its link; the image stays on {host}, because of {names}: {url}\n")
        }
        UndoResult::Already(at) => format!("{file} was undone already, at {at} ({host})\n"),
        UndoResult::Page(page) => {
            out.print(&format!("{}\n", safe(page)))?;
            complain(&format!("{host} deletes {file} only through its page: open the address that was printed{also}"));
            return Ok(false);
        }
        UndoResult::Impossible => {
            complain(&format!("{host} has no way to delete {file}, or keeps no key for it: {url}"));
            return Ok(false);
        }
        UndoResult::Failed(reason) => {
            complain(&format!("{file} was not deleted on {host}: {}", safe(reason)));
            return Ok(false);
        }
    };
    out.print(&text)?;
    Ok(true)
}
