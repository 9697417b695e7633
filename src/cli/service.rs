//! `pixchute service`: put the agent under the service manager of the machine, and look after it there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Subcommand, ValueEnum};
use rustix::process::geteuid;
use secrecy::zeroize::Zeroizing;

use super::out::{Out, Stop, complain, safe};
use super::{Exit, config};
use crate::config::{Config, paths};
use crate::service::files::{self, Found};
use crate::service::{Artifact, Manager, SERVICE_HOME, Scope, Target, credentials, places};

const EXAMPLES: &str = "\
Examples:
  pixchute service install                     for your user: writes the unit, enables and starts it
  sudo pixchute service install --system       for the machine, with /etc/pixchute/config.toml
  pixchute service install --dry-run           what would be written and run
  pixchute service print                       the files, as they would be written";

/// What is done with the service.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum ServiceCommand {
    /// Write its files for this configuration, enable and start it; again after each change of folders or secrets
    Install(InstallArgs),
    /// Stop it and remove its files; configuration, ledger and manifests stay
    Uninstall(InstallArgs),
    /// Say how it is; exit code 69 if it does not run
    Status(TargetArgs),
    /// Print its files
    Print(TargetArgs),
}

/// Which service.
#[derive(Debug, clap::Args)]
pub(super) struct TargetArgs {
    /// The service of the machine instead of your user's
    #[arg(long)]
    system: bool,
    /// One of several agents of the machine: pixchute@NAME with /etc/pixchute/NAME.toml
    #[arg(long, value_name = "NAME", requires = "system", value_parser = instance)]
    instance: Option<String>,
    /// For whose service manager; only this system's can be installed [default: this system's]
    #[arg(long, value_enum)]
    manager: Option<ManagerName>,
}

/// A service manager, by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ManagerName {
    Systemd,
    Launchd,
}

/// Arguments of `install` and `uninstall`.
#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Overwrite or remove files that you have changed, too
    #[arg(long)]
    force: bool,
}

fn instance(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits =
        !name.is_empty() && name.len() <= 64 && name.chars().all(good) && name != "config" && !name.starts_with('.');
    fits.then(|| name.to_owned())
        .ok_or_else(|| "expected letters, digits, `-`, `_` and `.`, and another name than config".to_owned())
}

pub(super) fn run(command: &ServiceCommand, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    match command {
        ServiceCommand::Install(args) => install(args, file, out),
        ServiceCommand::Uninstall(args) => uninstall(args, file, out),
        ServiceCommand::Status(args) => status(args, file, out),
        ServiceCommand::Print(args) => print(args, file, out),
    }
}

/// What the arguments mean on this machine.
fn target(args: &TargetArgs, file: Option<&Path>) -> Result<Target, Stop> {
    let refused = |message: String| Stop::said(Exit::Failed, message);
    let dirs = directories::BaseDirs::new();
    let home = dirs.as_ref().map_or_else(|| PathBuf::from("/root"), |dirs| dirs.home_dir().to_owned());
    let program = std::env::current_exe().map_err(|error| refused(format!("where is this program? {error}")))?;
    let mut target = Target {
        manager: match args.manager {
            None => Manager::of_system(),
            Some(ManagerName::Systemd) => Manager::Systemd,
            Some(ManagerName::Launchd) => Manager::Launchd,
        },
        scope: if args.system { Scope::System } else { Scope::User },
        instance: args.instance.clone(),
        program,
        config: None,
        config_home: dirs.map_or_else(|| home.join(".config"), |dirs| dirs.config_dir().to_owned()),
        home,
        state: [paths::state_dir(), paths::data_dir()],
        uid: geteuid().as_raw(),
        runs_as: std::env::var("SUDO_USER").ok(),
    };
    let given = file.map(std::path::absolute).transpose();
    let given = given.map_err(|error| refused(format!("the configuration cannot be found: {error}")))?;
    target.config = given.filter(|given| Some(given) != target.default_config().as_ref());
    Ok(target)
}

/// The configuration that the service would read. Its secrets stay where they are.
fn configuration(target: &Target) -> Result<Config, Stop> {
    let file = target.config.clone().or_else(|| target.default_config());
    let draft = match (target.manager, target.scope) {
        (Manager::Systemd, Scope::System) => config::outline_for(Path::new(SERVICE_HOME), file.as_deref())?,
        _ => config::outline(file.as_deref())?,
    };
    Ok(draft.finish()?)
}

fn artifacts(target: &Target, config: &Config) -> Result<Vec<Artifact>, Stop> {
    target.artifacts(config, Path::exists).map_err(|message| Stop::said(Exit::Failed, message))
}

/// The files, and how each is now.
fn looked_at(artifacts: Vec<Artifact>) -> Result<Vec<(Artifact, Found)>, Stop> {
    let look = |artifact: Artifact| match files::look(&artifact) {
        Ok(found) => Ok((artifact, found)),
        Err(error) => Err(Stop::said(Exit::Failed, format!("cannot read {}: {error}", show(&artifact.path)))),
    };
    artifacts.into_iter().map(look).collect()
}

fn print(args: &TargetArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let target = shown(target(args, file)?);
    let config = or_none(configuration(&target))?;
    let artifacts = artifacts(&target, &config)?;
    for artifact in &artifacts {
        let head = if artifacts.len() > 1 { format!("# {}\n", show(&artifact.path)) } else { String::new() };
        out.print(&format!("{head}{}\n", files::stamped(artifact)))?;
    }
    Ok(Exit::Done)
}

/// For commands that only show: a daemon of launchd that nobody has asked for by `sudo` runs as somebody.
fn shown(target: Target) -> Target {
    let runs_as = target.runs_as.clone().filter(|user| user != "root").or_else(|| Some("_pixchute".to_owned()));
    Target { runs_as, ..target }
}

/// For commands that only show: without a configuration there are no folders.
fn or_none(config: Result<Config, Stop>) -> Result<Config, Stop> {
    match config {
        Err(Stop::Said { message, .. }) => {
            complain(&format!("shown without folders: {message}"));
            Ok(Config::default())
        }
        other => other,
    }
}

fn install(args: &InstallArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let target = target(&args.target, file)?;
    let target = if args.dry_run { shown(target) } else { target };
    let config = configuration(&target);
    let config = if args.dry_run { or_none(config)? } else { config? };
    let found = looked_at(artifacts(&target, &config)?)?;
    if args.dry_run {
        return would_install(&target, &found, args.force, out);
    }
    may(&target)?;
    let changed: Vec<&Artifact> =
        found.iter().filter(|(_, found)| *found == Found::Changed).map(|(one, _)| one).collect();
    if !changed.is_empty() && !args.force {
        let names: Vec<String> = changed.iter().map(|artifact| show(&artifact.path)).collect();
        let message = format!(
            "{} is not as pixchute wrote it: nothing was done. Move your changes to a drop-in of your own (`systemctl edit`), or \
             overwrite it with --force",
            names.join(", ")
        );
        return Err(Stop::said(Exit::Failed, message));
    }
    secrets_are_there(&target, &config)?;
    let mut written = Vec::new();
    for (artifact, _) in found.into_iter().filter(|(_, found)| *found != Found::Current) {
        files::write(&artifact).map_err(|error| Stop::said(Exit::Failed, error.to_string()))?;
        out.print(&format!("wrote {}\n", show(&artifact.path)))?;
        written.push(artifact);
    }
    let running = runs(&target);
    let renewed = running && secrets_have_changed(&target, &config);
    if renewed {
        out.print("a secret has changed since the service was started\n")?;
    }
    if written.is_empty() && running && !renewed {
        out.print(&format!("{} runs, and its files are up to date\n", target.name()))?;
        return Ok(Exit::Done);
    }
    let artifacts = if target.manager == Manager::Systemd { written } else { artifacts(&target, &config)? };
    for words in target.begin(&artifacts, running) {
        call(&words).map_err(|error| Stop::said(Exit::Failed, format!("{error}\nlook with: {}", log_of(&target))))?;
        out.print(&format!("ran {}\n", words.join(" ")))?;
    }
    out.print(&format!("{} runs; its log: {}\n", target.name(), log_of(&target)))?;
    advise(&target, &config);
    Ok(Exit::Done)
}

fn would_install(target: &Target, found: &[(Artifact, Found)], force: bool, out: &mut Out) -> Result<Exit, Stop> {
    let mut refused = false;
    for (artifact, found) in found {
        let path = show(&artifact.path);
        let line = match found {
            Found::Current => format!("{path} is up to date\n"),
            Found::Changed if !force => {
                refused = true;
                format!("would refuse: {path} is not as pixchute wrote it (--force overwrites it)\n")
            }
            _ => format!("would write {path}:\n{}", indented(&files::stamped(artifact))),
        };
        out.print(&line)?;
    }
    let artifacts: Vec<Artifact> = found.iter().map(|(artifact, _)| artifact.clone()).collect();
    for words in target.begin(&artifacts, false) {
        out.print(&format!("would run {}\n", words.join(" ")))?;
    }
    Ok(if refused { Exit::Failed } else { Exit::Done })
}

fn uninstall(args: &InstallArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let target = target(&args.target, file)?;
    let found = looked_at(own_files(&target)?)?;
    let there: Vec<_> = found.into_iter().filter(|(_, found)| *found != Found::Missing).collect();
    if !args.dry_run {
        may(&target)?;
    }
    // One that fails again and again does not run, and is to be ended all the same.
    let over =
        |answer: String| ["inactive", "failed"].iter().any(|how| answer.contains(&format!("ActiveState={how}\n")));
    if there.is_empty() && call(&target.question()).map_or(true, over) {
        out.print("nothing is installed\n")?;
        return Ok(Exit::Done);
    }
    let tense = |done: &'static str, planned: &'static str| if args.dry_run { planned } else { done };
    for words in target.end() {
        // What does not run cannot be stopped.
        let note = if args.dry_run { Ok(String::new()) } else { call(&words) };
        let note = note.err().map(|error| format!(" ({error})")).unwrap_or_default();
        out.print(&format!("{} {}{note}\n", tense("ran", "would run"), words.join(" ")))?;
    }
    let (mut removed, mut kept) = (Vec::new(), false);
    for (artifact, found) in there {
        let path = show(&artifact.path);
        if found == Found::Changed && !args.force {
            kept = true;
            let keeps = tense("kept", "would keep");
            out.print(&format!("{keeps} {path}: it is not as pixchute wrote it (--force removes it)\n"))?;
            continue;
        }
        if !args.dry_run {
            files::remove(&artifact.path).map_err(|error| Stop::said(Exit::Failed, error.to_string()))?;
        }
        out.print(&format!("{} {path}\n", tense("removed", "would remove")))?;
        removed.push(artifact.path);
    }
    for words in target.forget(&removed) {
        if !args.dry_run {
            call(&words).map_err(|error| Stop::said(Exit::Failed, error))?;
        }
        out.print(&format!("{} {}\n", tense("ran", "would run"), words.join(" ")))?;
    }
    out.print("configuration, ledger and manifests stay where they are\n")?;
    Ok(if kept { Exit::Failed } else { Exit::Done })
}

/// Every file that may have been installed, whatever the program and the configuration are now.
fn own_files(target: &Target) -> Result<Vec<Artifact>, Stop> {
    let plain = Target { program: PathBuf::from("/usr/bin/pixchute"), config: None, ..target.clone() };
    let plain = Target { runs_as: plain.runs_as.clone().or_else(|| Some("nobody".to_owned())), ..plain };
    let all = plain.artifacts(&Config::default(), |_| false).map_err(|message| Stop::said(Exit::Failed, message))?;
    Ok(all.into_iter().filter(|artifact| !artifact.shared).collect())
}

fn status(args: &TargetArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let target = target(args, file)?;
    let config = or_none(configuration(&target))?;
    for (artifact, found) in looked_at(artifacts(&target, &config)?)? {
        let how = match found {
            Found::Missing => "not installed",
            Found::Current => "up to date",
            Found::Outdated => "not up to date: run `pixchute service install` again",
            Found::Changed => "changed by hand",
        };
        out.print(&format!("{}  {how}\n", show(&artifact.path)))?;
    }
    let answer = call(&target.question()).map_err(|error| Stop::said(Exit::Failed, error))?;
    let lines: String = answer.lines().take(30).map(|line| safe(line) + "\n").collect();
    out.print(&lines)?;
    Ok(if is_active(&answer) { Exit::Done } else { Exit::NotRunning })
}

/// Whether the service runs, or is about to.
fn runs(target: &Target) -> bool {
    call(&target.question()).is_ok_and(|answer| is_active(&answer))
}

fn is_active(answer: &str) -> bool {
    let active = ["ActiveState=active", "ActiveState=activating", "ActiveState=reloading", "state = running"];
    let says = |words: &[&str]| answer.lines().any(|line| words.contains(&line.trim()));
    // systemd calls a service that has failed and is to be tried again "activating".
    says(&active) && !says(&["SubState=auto-restart"])
}

/// Whether anything can be changed: by this user, and by a service manager that answers.
fn may(target: &Target) -> Result<(), Stop> {
    if target.manager != Manager::of_system() {
        let message =
            "only files for this system's service manager can be installed; `print` and --dry-run show others";
        return Err(Stop::said(Exit::Usage, message));
    }
    if target.scope == Scope::System && !geteuid().is_root() {
        return Err(Stop::said(Exit::Failed, "the service of the machine is root's business: call it with `sudo`"));
    }
    let cannot = |error: String| Stop::said(Exit::Failed, format!("the service manager does not answer: {error}"));
    call(&target.probe()).map(drop).map_err(cannot)
}

/// A unit whose secret is missing does not start.
fn secrets_are_there(target: &Target, config: &Config) -> Result<(), Stop> {
    if target.manager != Manager::Systemd {
        return Ok(());
    }
    let missing: Vec<PathBuf> =
        credentials(config).iter().map(|name| target.credential(name)).filter(|path| !path.exists()).collect();
    let mut text = String::new();
    for path in &missing {
        let path = show(path);
        let _ = write!(text, "\nthere is no secret at {path}; put it there: install -D -m 600 /dev/stdin '{path}'");
    }
    if missing.is_empty() { Ok(()) } else { Err(Stop::said(Exit::Config, text.trim_start())) }
}

/// Whether the running service has another secret than it would be given now: it keeps what it was started with.
fn secrets_have_changed(target: &Target, config: &Config) -> bool {
    let read = |path: PathBuf| std::fs::read(path).map(Zeroizing::new).ok();
    let is_another = |name: &String| {
        let both = read(target.credential(name)).zip(read(target.handed_over(name)));
        both.is_some_and(|(now, then)| now != then)
    };
    target.manager == Manager::Systemd && credentials(config).iter().any(is_another)
}

/// What the user may want to know once it runs.
fn advise(target: &Target, config: &Config) {
    if target.manager != Manager::Systemd {
        return;
    }
    if target.scope == Scope::User {
        let user = std::env::var("USER").unwrap_or_default();
        if !user.is_empty() && !Path::new("/var/lib/systemd/linger").join(&user).exists() {
            complain("it ends when you log out; `loginctl enable-linger` lets it run without anybody logged in");
        }
        return;
    }
    for place in places(config).iter().filter(|place| place.exists()) {
        let place = place.display().to_string();
        let asked = ["runuser", "-u", "pixchute", "--", "test", "-w", &place, "-a", "-x", &place];
        let asked: Vec<String> = asked.iter().map(|word| (*word).to_owned()).collect();
        let may = Command::new(&asked[0]).args(&asked[1..]).stdin(Stdio::null()).output();
        if may.is_ok_and(|output| output.status.code() == Some(1)) {
            complain(&format!(
                "the user `pixchute` may not write to {0}: `chown pixchute '{0}'`, or `setfacl -m u:pixchute:rwx '{0}'`",
                safe(&place)
            ));
        }
    }
}

/// Where the log of the service is read.
fn log_of(target: &Target) -> String {
    match (target.manager, target.scope) {
        (Manager::Systemd, Scope::User) => "journalctl --user -u pixchute".to_owned(),
        (Manager::Systemd, Scope::System) => format!("journalctl -u {}", target.name().trim_end_matches(".service")),
        (Manager::Launchd, Scope::User) => "tail -f ~/Library/Logs/pixchute.log".to_owned(),
        (Manager::Launchd, Scope::System) => "tail -f ~/Library/Logs/pixchute-daemon.log".to_owned(),
    }
}

/// Runs a command to its end: what it printed, or why it failed.
fn call(words: &[String]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("an empty command")?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` failed: {}", words.join(" "), said.lines().map(safe).collect::<Vec<_>>().join("; ")))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn show(path: &Path) -> String {
    safe(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_waits_for_its_next_try_does_not_run() {
        assert!(is_active("ActiveState=activating\nSubState=start\n") && is_active("\tstate = running\n"));
        assert!(!is_active("ActiveState=activating\nSubState=auto-restart\n"));
        assert!(!is_active("ActiveState=inactive\nSubState=dead\n"));
    }
}
