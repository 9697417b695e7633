//! launchd: an agent of one user, or a daemon of the machine.

use std::path::{Path, PathBuf};

use super::{Artifact, Scope, Target, Words, words};

pub(super) const AGENT: &str = "org.pixchute.agent";
pub(super) const DAEMON: &str = "org.pixchute.daemon";

const AGENT_FILE: &str = include_str!("../../launchd/org.pixchute.agent.plist");
const DAEMON_FILE: &str = include_str!("../../launchd/org.pixchute.daemon.plist");

pub(super) fn artifacts(target: &Target) -> Result<Artifact, String> {
    if target.instance.is_some() {
        return Err("instances are systemd's: launchd runs one agent for each user".to_owned());
    }
    let program = text(&target.program)?;
    let (path, text) = match target.scope {
        Scope::User => {
            let log = text(&target.home.join("Library/Logs/pixchute.log"))?;
            let filled = AGENT_FILE.replace("/tmp/pixchute.log", &log).replace("/usr/local/bin/pixchute", &program);
            let filled = match &target.config {
                None => filled,
                Some(file) => filled.replace(
                    RUN,
                    &format!("{RUN}\t\t<string>--config</string>\n\t\t<string>{}</string>\n", text(file)?),
                ),
            };
            (target.home.join(format!("Library/LaunchAgents/{AGENT}.plist")), filled)
        }
        Scope::System => {
            let user = target.runs_as.as_deref().filter(|user| *user != "root").ok_or(
                "a daemon of the machine runs as one of its users: call it with `sudo`, as the user that it shall run as",
            )?;
            let (user, log) = (escaped(user), format!("/Users/{user}/Library/Logs/pixchute-daemon.log"));
            let mut filled =
                DAEMON_FILE.replace("_pixchute", &user).replace("/var/log/pixchute/pixchute.log", &escaped(&log));
            filled = filled.replace("/usr/local/bin/pixchute", &program);
            if let Some(file) = &target.config {
                filled = filled.replace("/etc/pixchute/config.toml", &text(file)?);
            }
            (PathBuf::from(format!("/Library/LaunchDaemons/{DAEMON}.plist")), filled)
        }
    };
    Ok(Artifact { path, text, shared: false })
}

/// The argument of the template after which more may follow.
const RUN: &str = "\t\t<string>run</string>\n";

fn text(path: &Path) -> Result<String, String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    text.map(escaped).ok_or_else(|| format!("{path:?} cannot stand in a plist"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Where launchd keeps it.
fn domain(target: &Target) -> String {
    match target.scope {
        Scope::User => format!("gui/{}", target.uid),
        Scope::System => "system".to_owned(),
    }
}

fn service(target: &Target) -> String {
    format!("{}/{}", domain(target), target.name())
}

pub(super) fn bootout(target: &Target) -> Words {
    words(&["launchctl", "bootout", &service(target)])
}

pub(super) fn begin(target: &Target, artifacts: &[Artifact], running: bool) -> Vec<Words> {
    let mut steps = Vec::new();
    if running {
        // What is loaded is not read again.
        steps.push(bootout(target));
    }
    steps.push(words(&["launchctl", "enable", &service(target)]));
    let files = artifacts.iter().map(|artifact| artifact.path.display().to_string());
    steps.extend(files.map(|file| words(&["launchctl", "bootstrap", &domain(target), &file])));
    steps
}

pub(super) fn question(target: &Target) -> Words {
    words(&["launchctl", "print", &service(target)])
}
