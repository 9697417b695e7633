//! systemd: the unit, and a drop-in with what the configuration names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Artifact, SERVICE_HOME, Scope, Target, Words, credentials, places, words};
use crate::config::Config;

const USER: &str = include_str!("../../systemd/user/pixchute.service");
const SYSTEM: &str = include_str!("../../systemd/pixchute.service");
const INSTANCE: &str = include_str!("../../systemd/pixchute@.service");
const SYSUSERS: &str = include_str!("../../systemd/pixchute.sysusers");
const TMPFILES: &str = include_str!("../../systemd/pixchute.tmpfiles");
const CATALOG: &str = include_str!("../../systemd/pixchute.catalog");

/// The program as the units name it.
const PROGRAM: &str = "/usr/bin/pixchute";

/// Where packages put units, below `systemd/`.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd", "/lib/systemd"];

/// What `service status` asks.
pub(super) const ASKED: &str =
    "--property=LoadState,ActiveState,SubState,UnitFileState,StatusText,NRestarts,FragmentPath";

/// A command to the service manager of the target.
pub(super) fn systemctl(target: &Target, rest: &[&str]) -> Words {
    let mut command = words(&["systemctl"]);
    command.extend((target.scope == Scope::User).then(|| "--user".to_owned()));
    command.extend(words(rest));
    command
}

pub(super) fn artifacts(
    target: &Target,
    config: &Config,
    is_there: impl Fn(&Path) -> bool,
) -> Result<Vec<Artifact>, String> {
    reachable(target)?;
    let (units, kind, text) = match (target.scope, &target.instance) {
        (Scope::User, None) => (target.config_home.join("systemd/user"), "user", USER),
        (Scope::User, Some(_)) => return Err("only the system service has instances: add --system".to_owned()),
        (Scope::System, None) => (PathBuf::from("/etc/systemd/system"), "system", SYSTEM),
        (Scope::System, Some(_)) => (PathBuf::from("/etc/systemd/system"), "system", INSTANCE),
    };
    let file = if target.instance.is_some() { "pixchute@.service".to_owned() } else { target.name() };
    let packaged = |path: &str| PACKAGED.iter().any(|root| is_there(&Path::new(root).join(path)));
    let mut artifacts = Vec::new();
    if !(target.program == Path::new(PROGRAM) && packaged(&format!("{kind}/{file}"))) {
        let text = text.replace(PROGRAM, &escaped(&target.program)?);
        artifacts.push(Artifact { path: units.join(file), text, shared: target.instance.is_some() });
    }
    let path = units.join(format!("{}.d", target.name())).join("50-folders.conf");
    artifacts.push(Artifact { path, text: drop_in(target, config)?, shared: false });
    if target.scope == Scope::System {
        for (file, text, own, theirs) in [
            ("pixchute.conf", SYSUSERS, "/etc/sysusers.d", "/usr/lib/sysusers.d"),
            ("pixchute.conf", TMPFILES, "/etc/tmpfiles.d", "/usr/lib/tmpfiles.d"),
            ("pixchute.catalog", CATALOG, "/usr/local/lib/systemd/catalog", "/usr/lib/systemd/catalog"),
        ] {
            if !is_there(&Path::new(theirs).join(file)) {
                let path = Path::new(own).join(file);
                artifacts.push(Artifact { path, text: text.to_owned(), shared: target.instance.is_some() });
            }
        }
    }
    Ok(artifacts)
}

/// The sandbox hides home directories from the system service, and `/tmp` from both.
fn reachable(target: &Target) -> Result<(), String> {
    let hidden = match target.scope {
        Scope::System => ["/home", "/root", "/run/user", "/tmp", "/var/tmp"].as_slice(),
        Scope::User => ["/tmp", "/var/tmp"].as_slice(),
    };
    if hidden.iter().any(|place| target.program.starts_with(place)) {
        let program = target.program.display();
        return Err(format!(
            "the program lies in {program}, which its own sandbox hides from the service: put it elsewhere first, as with \
             `install -m 755 '{program}' /usr/local/bin/`, and call it there"
        ));
    }
    Ok(())
}

/// What depends on the configuration.
fn drop_in(target: &Target, config: &Config) -> Result<String, String> {
    let file = config.file.as_deref().map_or_else(|| "the configuration".to_owned(), |file| file.display().to_string());
    let mut text = format!(
        "# What {} may write to and which secrets it gets. `pixchute service install` writes it anew after a change.\n\
         [Service]\n",
        file.replace(|c: char| c.is_control(), "?")
    );
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    if let Some(file) = &target.config {
        let (program, file) = (escaped(&target.program)?, quoted(file, "")?);
        for (key, verb) in [("ExecStart", "run"), ("ExecReload", "reload")] {
            line(key, "");
            line(key, &format!("{program} {verb} --config {file}"));
        }
    }
    let mut all = places(config);
    for place in state_elsewhere(target) {
        line("ExecStartPre", &format!("+/bin/mkdir -p -m 700 {}", quoted(place, "")?.replace('$', "$$")));
        all.push(place.clone());
    }
    let state = target.state.iter().map(PathBuf::as_path).chain([Path::new(SERVICE_HOME)]).collect::<Vec<_>>();
    let own = [Some(config.ledger.as_path()), config.control_socket.as_deref()].into_iter().flatten();
    for folder in own.filter_map(Path::parent).filter(|folder| !state.iter().any(|own| folder.starts_with(own))) {
        all.push(folder.to_owned());
    }
    let lies_in = |path: &PathBuf, roots: &[&str]| roots.iter().any(|root| path.starts_with(root));
    if all.iter().any(|path| lies_in(path, &["/tmp", "/var/tmp"])) {
        line("PrivateTmp", "no");
    }
    let (hidden, open): (Vec<_>, Vec<_>) =
        all.iter().partition(|path| target.scope == Scope::System && lies_in(path, &["/home", "/root", "/run/user"]));
    if !hidden.is_empty() {
        // Only these are to be seen of the home directories.
        line("ProtectHome", "tmpfs");
    }
    for path in hidden {
        line("BindPaths", &quoted(path, "-")?);
    }
    for path in open {
        // One that is not there yet is no reason not to start: the agent waits for it.
        line("ReadWritePaths", &quoted(path, "-")?);
    }
    for name in credentials(config) {
        let source = target.credential(&name);
        let plain =
            source.to_str().filter(|text| !text.contains([':', '"', '\'', '\\']) && !text.contains(char::is_control));
        let source = plain.ok_or_else(|| format!("{} cannot stand in a unit", source.display()))?;
        line("LoadCredential", &format!("{name}:{source}").replace('%', "%%"));
    }
    Ok(text)
}

/// Where a user's agent keeps its state if `$XDG_STATE_HOME` or `$XDG_DATA_HOME` say so: the unit knows the usual places.
fn state_elsewhere(target: &Target) -> impl Iterator<Item = &PathBuf> {
    let local = target.home.join(".local");
    target.state.iter().filter(move |place| target.scope == Scope::User && !place.starts_with(&local))
}

/// A path as one word of a unit, behind `prefix`.
fn quoted(path: &Path, prefix: &str) -> Result<String, String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control) && !text.contains('\\'));
    let quote = |text: &str| match (text.contains('"'), text.contains('\'')) {
        (false, _) => Some('"'),
        (true, false) => Some('\''),
        (true, true) => None,
    };
    let (text, mark) = text.and_then(|text| quote(text).map(|mark| (text, mark))).ok_or_else(|| {
        format!(
            "{:?} cannot stand in a unit: its name has a backslash, both kinds of quotes, or bytes that are no text",
            path
        )
    })?;
    Ok(format!("{mark}{prefix}{}{mark}", text.replace('%', "%%")))
}

/// The program as the first word of a command.
fn escaped(program: &Path) -> Result<String, String> {
    let text = program
        .to_str()
        .filter(|text| !text.contains(|c: char| c.is_control() || c.is_whitespace() || "\"'\\$;".contains(c)));
    text.map(|text| text.replace('%', "%%"))
        .ok_or_else(|| format!("{:?} cannot stand in a unit: put the program into a folder with a plain name", program))
}

pub(super) fn begin(target: &Target, artifacts: &[Artifact], running: bool) -> Vec<Words> {
    let mut steps = Vec::new();
    for artifact in artifacts {
        let path = artifact.path.display().to_string();
        if path.starts_with("/etc/sysusers.d") {
            steps.push(words(&["systemd-sysusers", &path]));
        } else if path.starts_with("/etc/tmpfiles.d") {
            steps.push(words(&["systemd-tmpfiles", "--create", &path]));
        } else if path.ends_with(".catalog") {
            steps.push(words(&["journalctl", "--update-catalog"]));
        }
    }
    let verb = if running { "restart" } else { "start" };
    steps.push(systemctl(target, &["daemon-reload"]));
    steps.push(systemctl(target, &["enable", &target.name()]));
    steps.push(systemctl(target, &[verb, &target.name()]));
    steps
}

pub(super) fn forget(target: &Target, removed: &[PathBuf]) -> Vec<Words> {
    let mut steps = vec![systemctl(target, &["daemon-reload"])];
    if removed.iter().any(|path| path.extension().is_some_and(|ending| ending == "catalog")) {
        steps.push(words(&["journalctl", "--update-catalog"]));
    }
    steps
}
