//! From a configuration to hosts and folders that work: at the start, when nothing is there yet, and at every reload.
//!
//! Slots are kept by name and path. What is in flight holds its slot, so a host or folder that is not configured any more
//! keeps it, as `gone`: nothing new comes of it. A feed is replaced only if what it does has changed, so that unchanged
//! folders keep their watches.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::AgentError;
use super::shared::{FolderId, Shared};
use super::slots::{FolderSlot, HostSlot, Wiring};
use crate::config::{Config, Folder, alike, paths};
use crate::flow::{Flow, Limits};
use crate::host::Host;
use crate::schedule::HostId;
use crate::watch::{BadPattern, Busy, FolderFeed, Ignore};

/// A new feed and what ends it.
pub(super) struct Fed {
    pub(super) folder: FolderId,
    pub(super) feed: FolderFeed,
    pub(super) end: CancellationToken,
}

/// What has become of hosts and folders.
#[derive(Default)]
pub(super) struct Wired {
    /// Hosts that were not there before, in the order of their ids.
    pub(super) new_hosts: Vec<HostId>,
    /// Folders that must be read from now on.
    pub(super) fed: Vec<Fed>,
    /// Folders that are there in another way than before, or again.
    pub(super) changed: Vec<FolderId>,
    /// Folders that are not configured any more.
    pub(super) removed: Vec<FolderId>,
}

/// Makes hosts and folders what `config` says. Nothing is changed if anything is wrong with it.
pub(super) fn wire(
    shared: &Shared,
    config: Arc<Config>,
    built: &BTreeMap<String, Arc<dyn Host>>,
) -> Result<Wired, AgentError> {
    for folder in &config.folders {
        if let Some(host) = folder.hosts().find(|host| !built.contains_key(*host)) {
            return Err(AgentError::NoHost { folder: folder.path.display().to_string(), host: host.to_owned() });
        }
    }
    let places = shared.keep_places(own_places(&config), &config);
    // Sidecars, manifests and ledgers are no images by name; what lies in our own folders is named here.
    let closed: Vec<Vec<PathBuf>> = config.folders.iter().map(|folder| closed_places(&config, folder)).collect();
    let ignore = |(folder, closed): (&Folder, &Vec<PathBuf>)| {
        Ok::<_, BadPattern>(Ignore::new(folder, places.clone())?.closed_to(closed.clone()))
    };
    let ignores: Vec<Ignore> = config.folders.iter().zip(&closed).map(ignore).collect::<Result<_, _>>()?;
    let old = shared.config();
    let mut wired = Wired::default();
    for (name, host) in built {
        wire_host(shared, name, host, (&old, &config), &mut wired);
    }
    for (_, slot) in shared.all_hosts() {
        slot.set_gone(!built.contains_key(&slot.name));
        slot.room.resize(room_of_host(&config, &slot.name), shared);
    }
    for ((folder, ignore), closed) in config.folders.iter().zip(ignores).zip(closed) {
        let concerns = |place: &&PathBuf| folder.follow_symlinks || place.starts_with(&folder.path);
        let concerned: Vec<PathBuf> = places.iter().filter(concerns).cloned().chain(closed).collect();
        wire_folder(shared, folder, ignore, (concerned, room_of_folder(&config)), &mut wired);
    }
    for (id, slot) in shared.folders() {
        if !config.folders.iter().any(|folder| folder.path == slot.config().path) {
            slot.remove();
            wired.removed.push(id);
        }
    }
    shared.set_config(config);
    Ok(wired)
}

fn wire_host(shared: &Shared, name: &str, host: &Arc<dyn Host>, (old, new): (&Config, &Config), wired: &mut Wired) {
    let Some(id) = shared.host_named(name) else {
        let room = room_of_host(new, name);
        wired.new_hosts.push(shared.add_host(HostSlot::new(name.to_owned(), Arc::clone(host), room)));
        return;
    };
    // Unchanged hosts keep their connections and sessions. A recipe of the user's own may say something else by now.
    let unchanged = old.hosts.get(name).zip(new.hosts.get(name)).is_some_and(|(old, new)| alike(old, new));
    let own_recipe = new.hosts.get(name).is_some_and(|host| crate::host::is_own_recipe(new, host));
    if !unchanged || own_recipe || old.pool != new.pool || old.retry != new.retry {
        shared.host(id).set_host(Arc::clone(host));
    }
}

fn wire_folder(
    shared: &Shared,
    folder: &Folder,
    ignore: Ignore,
    (places, room): (Vec<PathBuf>, usize),
    wired: &mut Wired,
) {
    let hosts: Arc<[HostId]> = folder.hosts().filter_map(|name| shared.host_named(name)).collect();
    let known = shared.slot_at(&folder.path);
    if let Some((id, slot)) = &known
        && let Some((was, were)) = slot.if_active()
    {
        slot.room.resize(room, shared);
        if *was == *folder && slot.hosts() == hosts && were == places {
            return;
        }
        wired.changed.push(*id);
        if were == places && feeds_alike(&was, folder) {
            return slot.rewire(|wiring| Wiring { config: Arc::new(folder.clone()), hosts, ..wiring });
        }
    }
    let busy = known.as_ref().map_or_else(Busy::default, |(_, slot)| slot.busy.clone());
    let feed = FolderFeed::new(folder, ignore, busy.clone(), shared.clock.clone());
    let end = CancellationToken::new();
    let wiring =
        Wiring { config: Arc::new(folder.clone()), hosts, hints: feed.hints(), places, feed: end.clone(), gone: false };
    let id = match known {
        Some((id, slot)) => {
            slot.rewire(|earlier| {
                earlier.feed.cancel();
                wiring
            });
            if !wired.changed.contains(&id) {
                wired.changed.push(id);
            }
            id
        }
        None => shared.add_folder(FolderSlot::new(wiring, room, busy)),
    };
    wired.fed.push(Fed { folder: id, feed, end });
}

/// Whether two configurations of a folder make the same feed.
fn feeds_alike(old: &Folder, new: &Folder) -> bool {
    let part = |folder: &Folder| {
        let patterns = (folder.include.clone(), folder.exclude.clone());
        let required = (folder.require_mount, folder.require_marker.clone());
        let walked = (folder.recursive, folder.follow_symlinks);
        (walked, patterns, folder.settle, folder.watch, folder.poll_interval, folder.rescan, required)
    };
    part(old) == part(new)
}

/// How many share the queue: hosts that are used, and folders that have several.
fn sharers(config: &Config) -> usize {
    let mut used: Vec<&str> = config.folders.iter().flat_map(Folder::hosts).collect();
    used.sort_unstable();
    used.dedup();
    used.len() + config.folders.iter().filter(|folder| !folder.also.is_empty()).count()
}

/// The places of a host in the queue.
fn room_of_host(config: &Config, host: &str) -> usize {
    let users = config.folders.iter().filter(|folder| folder.hosts().any(|name| name == host)).count();
    if users == 0 { 1 } else { share_of_queue(config.pool.queue, sharers(config), users) }
}

/// The places of a folder with several hosts. Its jobs keep their places while they are in flight.
fn room_of_folder(config: &Config) -> usize {
    share_of_queue(config.pool.queue, sharers(config), 1) + config.pool.workers
}

/// An equal share, so that a host that rests or hangs cannot fill the queue; and at least one place for each folder that
/// feeds it and one for rested jobs, or they would wait for each other.
fn share_of_queue(queue: usize, sharers: usize, folders: usize) -> usize {
    (queue / sharers.max(1)).max(folders + 1)
}

/// The places of every folder: one folder's `done` may lie in another one.
fn own_places(config: &Config) -> Vec<PathBuf> {
    let places =
        |folder: &Folder| [folder.done.clone(), folder.retry.clone(), folder.failed.clone(), folder.manifest.clone()];
    config.folders.iter().flat_map(places).collect()
}

/// Where no symbolic link of this folder may lead, besides the places of every folder: what the agent keeps for itself, and
/// other drop folders, whose files are theirs.
fn closed_places(config: &Config, folder: &Folder) -> Vec<PathBuf> {
    if !folder.follow_symlinks {
        return Vec::new();
    }
    let others = config.folders.iter().filter(|other| other.path != folder.path).map(|other| other.path.clone());
    others.chain([paths::state_dir(), paths::data_dir()]).collect()
}

/// The flow towards a host as it is configured.
pub(super) fn flow_of(config: &Config, slot: &HostSlot) -> Flow {
    let host = config.hosts.get(&slot.name);
    let ceiling = host.and_then(|host| host.max_parallel).or_else(|| slot.host().max_parallel());
    let limits = Limits::new(&config.flow, &config.pool, host.and_then(|host| host.rate), host.map(|host| &host.flow));
    Flow::new(ceiling.unwrap_or(config.pool.max_workers), limits)
}
