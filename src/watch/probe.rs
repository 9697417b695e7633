//! Whether the system tells what happens in a folder: something is made to happen in it, and waited for.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::time::Instant;

use super::native::{no_watch, without_events};

/// Names that may wait to be looked at: other programs may be busy in the folder.
const WAITING: usize = 1_024;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The system told it after this time.
    After(Duration),
    /// Nothing came in time.
    Nothing,
    /// The folder's file system, named here, does not report changes made by other machines: such folders are polled.
    Polled(&'static str),
    /// The system watches nothing more for us; why, and what to do.
    Refused(String),
}

/// Lets `act` do something to the file `name` in `folder`, and waits up to `limit` to be told. Blocking.
///
/// # Errors
/// What `act` says.
pub fn probe<E>(folder: &Path, name: &str, limit: Duration, act: impl FnOnce() -> Result<(), E>) -> Result<Told, E> {
    let silent = without_events(folder);
    let (sender, told) = sync_channel(WAITING);
    let wanted = name.to_owned();
    let hear = move |event: notify::Result<Event>| {
        let ours = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name == wanted.as_str());
        if event.is_ok_and(|event| event.paths.iter().any(ours)) {
            // If nobody takes it, it was told before.
            let _ = sender.try_send(());
        }
    };
    let watching = RecommendedWatcher::new(hear, Config::default())
        .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher));
    let began = Instant::now();
    act()?;
    let watcher = match watching {
        Ok(watcher) => watcher,
        Err(error) => {
            return Ok(Told::Refused(no_watch(&error).map_or_else(|| error.to_string(), |reason| reason.to_string())));
        }
    };
    let heard = told.recv_timeout(limit).is_ok();
    let took = began.elapsed();
    drop(watcher);
    Ok(match silent {
        Some(kind) => Told::Polled(kind),
        None if heard => Told::After(took),
        None => Told::Nothing,
    })
}
