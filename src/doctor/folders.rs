//! Drop folders: there, readable, writable where files are moved to, reported by the system, and the same for the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rights::Person;
use super::{Finding, State, blocking};
use crate::clock::human;
use crate::config::{After, Folder, WatchMode};
use crate::shelf;
use crate::watch::mounts::{self, Seen};
use crate::watch::{self, Told};

/// How long an event may take to arrive: it takes milliseconds where it arrives at all.
const EVENT_TIME: Duration = Duration::from_secs(2);

/// Everything about one folder. `agent` is the process id of the running agent.
pub(super) async fn look(folder: &Folder, agent: Option<u32>) -> Vec<Finding> {
    let name = folder.path.display().to_string();
    let folder = folder.clone();
    blocking("folder", name.clone(), move || {
        if let Some(finding) = missing(&folder, &name) {
            return vec![finding];
        }
        let mut findings = vec![events(&folder, &name)];
        findings.extend(places(&folder, &name));
        findings.extend(agent.map(|pid| sandbox(&folder, &name, pid)));
        findings.extend(agent.and_then(|pid| owner(&folder, &name, pid)));
        findings
    })
    .await
}

fn missing(folder: &Folder, name: &str) -> Option<Finding> {
    let made = format!("mkdir -p '{name}'");
    match folder.path.metadata() {
        Ok(found) if !found.is_dir() => Some(
            Finding::new("folder", name, State::Failed, "is not a folder")
                .remedy("name another one in [[folder]] path"),
        ),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.create => {
            Some(Finding::new("folder", name, State::Note, "does not exist; the agent makes it"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = "does not exist; the agent waits for it";
            Some(Finding::new("folder", name, State::Warning, message).remedy(format!("mount its disk, or {made}")))
        }
        Err(error) => {
            Some(Finding::new("folder", name, State::Failed, format!("cannot be looked at: {error}")).remedy(rights()))
        }
    }
}

/// Makes a hidden file and waits to be told of it.
fn events(folder: &Folder, name: &str) -> Finding {
    let finding = |state, message: String| Finding::new("events", name, state, message);
    if let Err(error) = folder.path.read_dir() {
        return finding(State::Failed, format!("it cannot be read: {error}")).remedy(rights());
    }
    let interval = human(folder.poll_interval);
    let file = shelf::probe_name();
    let told = watch::probe(&folder.path, &file, EVENT_TIME, || shelf::probe(&folder.path, &file));
    match told {
        Err(error) if folder.after == After::Keep => {
            finding(State::Warning, format!("no file can be made in it, so events were not tried: {error}"))
                .remedy("its manifest must lie elsewhere: set `manifest` to a path that can be written")
        }
        Err(error) => finding(State::Failed, format!("no file can be made in it: {error}")).remedy(rights()),
        Ok(_) if folder.watch == WatchMode::Poll => {
            finding(State::Ok, format!("it is polled every {interval}, as configured"))
        }
        Ok(Told::After(took)) => {
            finding(State::Ok, format!("a new file was reported after {} ms", took.as_millis().max(1)))
        }
        Ok(Told::Polled(kind)) => finding(
            State::Note,
            format!("{kind} does not report what other machines do: it is polled every {interval}"),
        ),
        Ok(Told::Refused(reason)) => {
            finding(State::Warning, format!("it is polled every {interval}: {reason}")).remedy("raise the limit")
        }
        Ok(Told::Nothing) => {
            let message = format!("a new file was not reported within {} s", EVENT_TIME.as_secs());
            finding(State::Failed, message).remedy("set watch = \"poll\" for this folder")
        }
    }
}

/// Where files are moved to.
fn places(folder: &Folder, name: &str) -> Vec<Finding> {
    let mut wanted: Vec<&PathBuf> = vec![&folder.retry, &folder.failed];
    if folder.after == After::Move {
        wanted.insert(0, &folder.done);
    }
    let file = shelf::probe_name();
    let mut findings = Vec::new();
    for place in wanted {
        // What is missing is made by the agent, in the nearest folder that is there.
        let there = place.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
        if let Err(error) = shelf::probe(there, &file) {
            let message = format!("no file can be made in {}: {error}", place.display());
            findings.push(Finding::new("places", name, State::Failed, message).remedy(rights()));
        }
    }
    if findings.is_empty() {
        let words = if folder.after == After::Move { "done, retry and failed" } else { "retry and failed" };
        findings.push(Finding::new("places", name, State::Ok, format!("{words} can be written")));
    }
    findings
}

/// Whether the running agent's user may use the folder, if that is another one than we are.
fn owner(folder: &Folder, name: &str, pid: u32) -> Option<Finding> {
    let person = Person::other(pid)?;
    let finding = |state, message: String| Finding::new("rights", name, state, message);
    let mut places = vec![(&folder.path, folder.after != After::Keep)];
    let moved = Some(&folder.done).filter(|_| folder.after == After::Move);
    places.extend(moved.into_iter().chain([&folder.retry, &folder.failed]).map(|place| (place, true)));
    for (place, written) in places {
        let there = place.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
        if !person.may_use(there, written)? {
            let (there, what) = (there.display(), if written { "may not write to" } else { "may not read" });
            return Some(
                finding(State::Failed, format!("the user of the agent {what} {there}"))
                    .remedy(format!("chown {0} '{there}', or setfacl -m u:{0}:rwx '{there}'", person.user())),
            );
        }
    }
    Some(finding(State::Ok, "the user of the agent may use it".to_owned()))
}

/// What the running agent sees of the folder.
fn sandbox(folder: &Folder, name: &str, pid: u32) -> Finding {
    let finding = |state, message: String| Finding::new("sandbox", name, state, message);
    let (Some(theirs), Some(ours)) = (mounts::of_process(&pid.to_string()), mounts::of_process("self")) else {
        return finding(State::Note, "what the agent sees of it cannot be told on this system".to_owned());
    };
    for place in [&folder.path, &folder.done, &folder.retry, &folder.failed] {
        let there = place.ancestors().find_map(|place| place.canonicalize().ok()).unwrap_or_default();
        let place = place.display();
        match mounts::compare(&theirs, &ours, &there) {
            Seen::Alike => {}
            Seen::ReadOnly => {
                return finding(State::Failed, format!("the agent (process {pid}) may not write to {place}"))
                    .remedy(let_in("ReadWritePaths="));
            }
            Seen::Hidden(mount) => {
                let message = format!(
                    "the agent (process {pid}) does not see {place}: {} is another one for it",
                    mount.display()
                );
                return finding(State::Failed, message).remedy(let_in("BindPaths="));
            }
        }
    }
    finding(State::Ok, "the running agent sees it as we do".to_owned())
}

/// What lets the agent into a folder.
fn let_in(key: &str) -> String {
    format!(
        "`pixchute service install` names the folders in the unit (or add {key} yourself); if it is named there already it was \
         made anew: restart the service"
    )
}

fn rights() -> String {
    "change its permissions, or run the agent as its owner".to_owned()
}
