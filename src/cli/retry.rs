//! `pixchute retry`: try resting or failed files again now.

use std::path::{self, PathBuf};

use super::out::{Out, Stop, safe};
use super::{Exit, Threads, wait};
use crate::control::Retried;
use crate::control::api::RetryBody;
use crate::control::client::Client;

/// Arguments of `retry`.
#[derive(Debug, clap::Args)]
pub(super) struct RetryArgs {
    /// Files in retry/ or failed/, or under the name that they were dropped with; or a folder, for all of them in it
    #[arg(value_name = "PATH", required_unless_present = "all", conflicts_with = "all")]
    paths: Vec<PathBuf>,
    /// Everything that rests or has failed
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &RetryArgs, client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    let absolute = args.paths.iter().map(path::absolute).collect::<Result<Vec<_>, _>>();
    let paths = absolute.map_err(|error| Stop::said(Exit::Usage, format!("a path cannot be used: {error}")))?;
    let body = RetryBody { all: args.all, paths };
    let retried: Retried = wait(Threads::One, async { Ok(client.post("/v1/retry", &body).await?) })?;
    let files = if retried.queued == 1 { "file" } else { "files" };
    out.print(&format!("{} {files} queued again\n", retried.queued))?;
    if retried.refused.is_empty() {
        return Ok(Exit::Done);
    }
    let refused: Vec<String> = retried.refused.iter().map(|reason| safe(reason)).collect();
    Err(Stop::said(Exit::Failed, refused.join("\npixchute: ")))
}
