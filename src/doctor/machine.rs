//! The machine: limits, disks, journal, clock.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::hosts::{SKEW, Skew};
use super::{Finding, State, blocking};
use crate::clock::{Clock, WallTime, human};
use crate::config::{After, Config, Folder, LogFormat, WatchMode, paths};

/// Folders that are counted at most: so many are polled and not watched anyway.
const COUNTED: usize = 200_000;

/// Descriptors that the agent needs besides those of uploads: ledger, log, socket, pages, watches.
const OPEN_BESIDES: u64 = 192;

/// Below this much room the agent will soon be unable to write what it has done.
const ROOM_FAILED: u64 = 16 << 20;

/// Below this much room somebody should know.
const ROOM_WARNING: u64 = 512 << 20;

/// Below so many files that can still be made.
const FILES_WARNING: u64 = 1_000;

/// Midnight of 2026-01-01: this program is younger.
const EARLIEST: WallTime = WallTime::from_millis(1_767_225_600_000);

/// The kernel's limits of watches against the folders that there are.
pub(super) async fn inotify(config: &Config) -> Vec<Finding> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    let folders: Vec<Folder> =
        config.folders.iter().filter(|folder| folder.watch != WatchMode::Poll).cloned().collect();
    blocking("inotify", String::new(), move || {
        let needed: usize = folders.iter().map(directories).sum();
        let limits =
            [("max_user_watches", needed, "folders to watch"), ("max_user_instances", folders.len(), "drop folders")];
        limits.into_iter().filter_map(|(name, needed, what)| limit(name, needed as u64, what)).collect()
    })
    .await
}

fn limit(name: &str, needed: u64, what: &str) -> Option<Finding> {
    let allowed: u64 = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()?;
    let message = format!("{needed} {what}, {allowed} are allowed to this user (fs.inotify.{name})");
    // Other programs of the user need some too.
    if needed.saturating_mul(4) <= allowed.saturating_mul(3) {
        return Some(Finding::new("inotify", "", State::Ok, message));
    }
    let better = needed.saturating_mul(4).next_power_of_two();
    let remedy = format!("`sysctl -w fs.inotify.{name}={better}`, and the same in /etc/sysctl.d/ to keep it");
    Some(Finding::new("inotify", "", State::Warning, format!("{message}; what is left over is polled")).remedy(remedy))
}

/// The directories of a drop folder that would be watched.
fn directories(folder: &Folder) -> usize {
    let ours = [&folder.done, &folder.retry, &folder.failed];
    let mut open = vec![folder.path.clone()];
    let mut count = 0;
    while let Some(directory) = open.pop().filter(|_| count < COUNTED) {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        count += 1;
        if folder.recursive {
            let inner = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            open.extend(inner.map(|entry| entry.path()).filter(|path| !ours.contains(&path)));
        }
    }
    count
}

/// How many files may be open, for the running agent or else for us.
pub(super) async fn open_files(config: &Config, agent: Option<u32>) -> Vec<Finding> {
    let needed = config.pool.max_workers as u64 * 3 + config.folders.len() as u64 * 2 + OPEN_BESIDES;
    let theirs = agent.and_then(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        Some(line.split_whitespace().next()?.parse().unwrap_or(u64::MAX))
    });
    let (who, allowed) = match theirs {
        Some(allowed) => ("the agent", allowed),
        None => ("this shell", getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
    };
    let message = format!("{who} may open {allowed} files, {needed} are enough");
    vec![if allowed >= needed {
        Finding::new("files", "", State::Ok, message)
    } else {
        let remedy = format!("LimitNOFILE={needed} in the unit, or `ulimit -n {needed}`, or fewer workers");
        Finding::new("files", "", State::Warning, message).remedy(remedy)
    }]
}

/// Room on each file system that is written to.
pub(super) async fn disks(config: &Config) -> Vec<Finding> {
    let mut places: Vec<PathBuf> = vec![paths::ledger_of_agent(config), paths::data_dir()];
    for folder in &config.folders {
        places.extend([folder.path.clone(), folder.retry.clone(), folder.failed.clone()]);
        places.extend(Some(folder.done.clone()).filter(|_| folder.after == After::Move));
    }
    blocking("disk", String::new(), move || {
        let there = places.iter().filter_map(|place| place.ancestors().find(|place| place.is_dir()));
        let mut disks = BTreeMap::new();
        for place in there {
            // The first place of each file system speaks for it.
            if let Ok(found) = place.metadata() {
                disks.entry(found.dev()).or_insert(place);
            }
        }
        disks.into_values().map(room).collect()
    })
    .await
}

fn room(place: &Path) -> Finding {
    let name = place.display().to_string();
    let finding = |state, message: String| Finding::new("disk", name.clone(), state, message);
    let found = match rustix::fs::statvfs(place) {
        Ok(found) => found,
        Err(error) => return finding(State::Warning, format!("its room cannot be told: {error}")),
    };
    let (room, files) = (found.f_bavail.saturating_mul(found.f_frsize), found.f_favail);
    // Some file systems count no files.
    let few = found.f_files > 0 && files < FILES_WARNING;
    let message = format!("{} are free", bytesize::ByteSize(room));
    if room < ROOM_FAILED {
        return finding(State::Failed, message).remedy("make room: nothing is sent while results cannot be kept");
    }
    if room < ROOM_WARNING {
        return finding(State::Warning, message).remedy("make room");
    }
    if few {
        let message = format!("{message}, but only {files} more files can be made");
        return finding(State::Warning, message).remedy("remove files");
    }
    finding(State::Ok, message)
}

/// Whether the journal takes messages, where there is one.
pub(super) async fn journal(config: &Config) -> Vec<Finding> {
    const SOCKET: &str = "/run/systemd/journal/socket";
    let wanted = config.log.format == LogFormat::Journald;
    if !wanted && !Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let connected = std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.connect(SOCKET));
    vec![match connected {
        Ok(()) => Finding::new("journal", "", State::Ok, "takes messages"),
        Err(error) => {
            let state = if wanted { State::Failed } else { State::Warning };
            Finding::new("journal", "", state, format!("{SOCKET} cannot be reached: {error}"))
                .remedy("is systemd-journald running, and may the unit see /run/systemd/journal?")
        }
    }]
}

/// Our clock, and what hosts said about theirs.
pub(super) fn clock(hosts: &[Skew]) -> Finding {
    let now = Clock::System.now();
    let finding = |state, message: String| Finding::new("clock", "", state, message);
    let remedy = "set the clock: `timedatectl set-ntp true`";
    if now < EARLIEST {
        return finding(State::Failed, format!("it says {now}, which is long ago: encryption will fail"))
            .remedy(remedy);
    }
    // One host with a wrong clock must not accuse ours.
    let off = |skew: &Skew| skew.ours.since(skew.theirs).max(skew.theirs.since(skew.ours));
    let Some(best) = hosts.iter().min_by_key(|skew| off(skew)) else {
        return finding(State::Ok, format!("it says {now}; no host was asked for the time"));
    };
    let difference = human(std::time::Duration::from_secs(off(best).as_secs()));
    if off(best) > SKEW {
        return finding(State::Failed, format!("it differs by {difference} from that of {}", best.host)).remedy(remedy);
    }
    finding(State::Ok, format!("it agrees with that of {} ({difference} apart)", best.host))
}
