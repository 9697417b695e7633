//! Steering by the user: what is paused and goes on. Cancelling has a file of its own.
//!
//! A pause is a mark on the slot of a host or folder, kept as a memo so that it survives a restart. A paused host is held
//! in the scheduler: its queue stays. A paused folder gives its queued files back, so that they do not take the places of
//! others on the same host: fresh ones lie in the drop folder, the others wait in the ledger.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::claim;
use super::pool::Pool;
use super::shared::{FolderId, Shared};
use crate::clock::WallTime;
use crate::config::problem::nearest;
use crate::control::steer::{Named, Rescanned, Turn, Turned};
use crate::ledger::{Durability, LedgerError, Memo, Write};
use crate::schedule::{HostId, Input};
use crate::telemetry::{Event, Fields, emit, shown};

/// The kind of the memos.
const KIND: &str = "pause";

/// What a memo says.
#[derive(Debug, Serialize, Deserialize)]
struct Pause {
    since: WallTime,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    folder: Option<PathBuf>,
}

/// Something that can be paused.
#[derive(Clone, Copy, Debug)]
enum Target {
    Host(HostId),
    Folder(FolderId),
}

/// Marks what was paused before a restart. Before any folder is read.
pub(super) async fn restore(shared: &Shared) -> Result<(), LedgerError> {
    for memo in shared.ledger.memos(KIND.to_owned()).await? {
        let Ok(pause) = serde_json::from_str::<Pause>(&memo.value) else { continue };
        if let Some(host) = pause.host.and_then(|name| shared.host_named(&name)) {
            shared.host(host).held.send_replace(Some(pause.since));
        }
        if let Some(folder) = pause.folder.and_then(|path| shared.folder_of(&path)) {
            shared.slot(folder).held.send_replace(Some(pause.since));
        }
    }
    Ok(())
}

fn key_of(shared: &Shared, target: Target) -> String {
    match target {
        Target::Host(host) => format!("host {}", shared.host(host).name),
        // Lossy: two folders whose names are no UTF-8 and differ there only are paused as one after a restart.
        Target::Folder(folder) => format!("folder {}", shared.folder(folder).path.display()),
    }
}

fn memo(shared: &Shared, target: Target, since: WallTime) -> Memo {
    let pause = match target {
        Target::Host(host) => Pause { since, host: Some(shared.host(host).name.clone()), folder: None },
        Target::Folder(folder) => Pause { since, host: None, folder: Some(shared.folder(folder).path.clone()) },
    };
    let value = serde_json::to_string(&pause).unwrap_or_default();
    Memo { kind: KIND.to_owned(), key: key_of(shared, target), value }
}

/// What a name means, or what might have been meant.
fn resolve(shared: &Shared, named: &Named) -> Result<Target, String> {
    if let Some(host) = shared.host_named(&named.name) {
        return Ok(Target::Host(host));
    }
    let path = named.path.clone().unwrap_or_else(|| PathBuf::from(&named.name));
    if let Some(folder) = shared.folder_of(&path) {
        return Ok(Target::Folder(folder));
    }
    let hosts: Vec<String> = shared.hosts().into_iter().map(|(_, slot)| slot.name.clone()).collect();
    let folders: Vec<String> = shared.folders().into_iter().map(|(_, slot)| shown(&slot.config().path)).collect();
    let path = shown(&path);
    let near = nearest(&named.name, hosts.iter().map(String::as_str));
    let help = match near.or_else(|| nearest(&path, folders.iter().map(String::as_str))) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("there are {}", [hosts, folders].concat().join(", ")),
    };
    Err(format!("{}: neither a host nor a drop folder of the running agent; {help}", named.name))
}

impl Pool {
    /// Holds in the scheduler what [`restore`] has marked.
    pub(super) fn hold_as_before(&mut self) {
        for (host, slot) in self.shared.hosts() {
            if slot.held.borrow().is_some() {
                self.handle(Input::Hold { host, held: true });
            }
        }
    }

    /// Pauses, or lets go on. No name means every host.
    pub(super) fn turn(&mut self, turn: Turn, names: &[Named], reply: oneshot::Sender<Turned>) {
        let mut turned = Turned::default();
        let mut writes = Vec::new();
        for target in self.targets(turn, names, &mut turned.refused) {
            let changed = match turn {
                Turn::Pause => self.pause(target, &mut writes),
                Turn::Resume => self.resume(target, &mut writes),
            };
            match target {
                // Who names nothing wants to know what it was that changed.
                _ if !changed && names.is_empty() => {}
                _ if !changed => turned.unchanged.push(key_of(&self.shared, target)),
                Target::Host(host) => turned.hosts.push(self.shared.host(host).name.clone()),
                Target::Folder(folder) => turned.folders.push(self.shared.folder(folder).path.clone()),
            }
            turned.running += match target {
                Target::Host(host) => self.running.values().filter(|running| running.host == host).count(),
                Target::Folder(folder) => self.running.values().filter(|running| running.folder == folder).count(),
            };
        }
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(async move {
            // The answer promises that it holds after a restart too.
            shared.write(writes, Durability::Power).await;
            let _ = reply.send(turned);
        });
    }

    fn targets(&self, turn: Turn, names: &[Named], refused: &mut Vec<String>) -> Vec<Target> {
        if !names.is_empty() {
            let resolved = names.iter().map(|named| resolve(&self.shared, named));
            return resolved.filter_map(|target| target.map_err(|reason| refused.push(reason)).ok()).collect();
        }
        let hosts = self.shared.hosts().into_iter().map(|(id, _)| Target::Host(id));
        // Without any host nothing starts; a folder is paused only by its own name.
        let held = self.shared.folders().into_iter().filter(|(_, slot)| slot.held.borrow().is_some());
        let folders = held.map(|(id, _)| Target::Folder(id));
        match turn {
            Turn::Pause => hosts.collect(),
            Turn::Resume => hosts.chain(folders).collect(),
        }
    }

    /// Whether that changes anything.
    fn pause(&mut self, target: Target, writes: &mut Vec<Write>) -> bool {
        let now = self.shared.clock.now();
        let held = match target {
            Target::Host(host) => self.shared.host(host).held.clone(),
            Target::Folder(folder) => self.shared.slot(folder).held.clone(),
        };
        if held.borrow().is_some() {
            return false;
        }
        held.send_replace(Some(now));
        writes.push(Write::Keep(memo(&self.shared, target, now)));
        match target {
            Target::Host(host) => {
                self.handle(Input::Hold { host, held: true });
                let name = &self.shared.host(host).name;
                emit(
                    Event::HostPaused,
                    &Fields { service: Some(name), ..Fields::default() },
                    format_args!("{name} is paused by the user until `pixchute resume {name}`"),
                );
            }
            Target::Folder(folder) => {
                self.give_back(|queued| queued == folder);
                let path = &self.shared.folder(folder).path;
                emit(
                    Event::FolderPaused,
                    &Fields { folder: Some(path), ..Fields::default() },
                    format_args!("{} is paused by the user until `pixchute resume`", shown(path)),
                );
            }
        }
        true
    }

    /// Ends a pause; for a host also the rest that it asked for. Whether that changes anything.
    fn resume(&mut self, target: Target, writes: &mut Vec<Write>) -> bool {
        match target {
            Target::Host(host) => self.resume_host(host, writes),
            Target::Folder(folder) => self.resume_folder(folder, writes),
        }
    }

    fn resume_host(&mut self, host: HostId, writes: &mut Vec<Write>) -> bool {
        let slot = self.shared.host(host);
        let held = slot.held.send_replace(None).is_some();
        let rested = self.resting.remove(&host).is_some();
        if !held && !rested {
            return false;
        }
        writes.push(Write::Drop { kind: KIND.to_owned(), key: key_of(&self.shared, Target::Host(host)) });
        writes.push(Write::Resume(slot.name.clone()));
        emit(
            Event::HostResumed,
            &Fields { service: Some(&slot.name), ..Fields::default() },
            format_args!("{} may be used again: the user says so", slot.name),
        );
        self.handle(Input::Hold { host, held: false });
        self.handle(Input::Wake(host));
        slot.due.notify_one();
        true
    }

    fn resume_folder(&mut self, folder: FolderId, writes: &mut Vec<Write>) -> bool {
        let slot = self.shared.slot(folder);
        if slot.held.send_replace(None).is_none() {
            return false;
        }
        writes.push(Write::Drop { kind: KIND.to_owned(), key: key_of(&self.shared, Target::Folder(folder)) });
        let path = slot.config().path.clone();
        emit(
            Event::FolderResumed,
            &Fields { folder: Some(&path), ..Fields::default() },
            format_args!("{} is read again: the user says so", shown(&path)),
        );
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(async move { claim::make_due(&shared, &path).await });
        true
    }

    /// Scans every folder now.
    pub(super) fn rescan(&self) -> Rescanned {
        let folders = self.shared.folders();
        folders.iter().for_each(|(_, slot)| slot.hints().rescan());
        let count = folders.len();
        emit(Event::AgentSteered, &Fields::default(), format_args!("{count} folders are scanned: the user says so"));
        Rescanned { folders: count }
    }
}
