//! `pixchute check`: what the agent would do, without doing any of it.

use std::fmt::Write as _;
use std::path::Path;

use rustix::fs::{Access, access};

use super::doctor::line;
use super::out::{Out, Paint, Stop, safe};
use super::run::{checked, expected_site};
use super::{Exit, Threads, config, paths, wait};
use crate::clock::human as duration;
use crate::config::{
    After, Album, Config, Dedupe, Folder, Hook, HookAction, HostConfig, Listen, Policy, Problem, WatchMode,
};
use crate::control::human;
use crate::doctor::{self, State};
use crate::host;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Ask the hosts too: is the name known, does the site answer, is the account taken
    #[arg(long)]
    online: bool,
}

pub(super) fn run(args: &CheckArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let mut draft = config::draft(file)?;
    draft.add(draft.config.folders.iter().enumerate().filter_map(folder_problem).collect());
    let config = checked(draft, None)?;
    out.print(&report(&config, out.paint))?;
    if !args.online {
        return Ok(Exit::Done);
    }
    let hosts = host::build(&config, expected_site(config.listen)).map_err(|problems| config.rejected(problems))?;
    let paint = out.paint;
    let mut failed = false;
    out.print("\n")?;
    let asking = doctor::examine_hosts(&config, &hosts, |finding| -> Result<(), Stop> {
        failed |= finding.state == State::Failed;
        Ok(out.print(&line(&finding, paint))?)
    });
    wait(Threads::One, asking)?;
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// A folder that exists and cannot be used. One that is missing is no mistake: its disk may come back.
fn folder_problem((index, folder): (usize, &Folder)) -> Option<Problem> {
    let message = if !folder.path.exists() {
        return None;
    } else if !folder.path.is_dir() {
        format!("{} is not a folder", folder.path.display())
    } else if access(&folder.path, Access::READ_OK | Access::EXEC_OK).is_err() {
        format!("{} cannot be read by this user", folder.path.display())
    } else if folder.after != After::Keep && access(&folder.path, Access::WRITE_OK).is_err() {
        format!("{} cannot be written by this user, so uploaded files could not be moved away", folder.path.display())
    } else {
        return None;
    };
    let help = Some("name another folder, change its permissions, or set after = \"keep\"".to_owned());
    Some(Problem { span: 0..0, key: format!("folder[{index}].path"), message, help })
}

fn report(config: &Config, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{}  {}", paint.dim(&format!("{name:<8}")), safe(value));
    };
    let file = config.file.as_ref().map_or("none, the built-in defaults apply".to_owned(), |file| show(file));
    line("config", &file);
    line("ledger", &show(&paths::ledger_of_agent(config)));
    line("socket", &show(&paths::socket_of_agent(config)));
    match config.listen {
        Listen::Off => line("gallery", "off"),
        Listen::Unix => line("gallery", &paths::gallery_socket(config).to_string_lossy()),
        Listen::Tcp(address) => line("gallery", &format!("http://{address}/")),
    }
    line("pool", &format!("{} workers, a queue of {} jobs", config.pool.workers, config.pool.queue));
    config.folders.iter().for_each(|folder| text.push_str(&folder_report(folder, paint)));
    let notes = host::notes(config);
    for host in config.hosts.values() {
        text.push_str(&host_report(host, paint));
        for note in notes.get(&host.name).into_iter().flatten() {
            let _ = writeln!(text, "  {}  {}", paint.warn("warning "), safe(note));
        }
    }
    config.hooks.iter().for_each(|hook| text.push_str(&hook_report(hook, paint)));
    text.push_str(&paint.good("The configuration can be used."));
    text.push('\n');
    text
}

fn folder_report(folder: &Folder, paint: Paint) -> String {
    let state = match (folder.path.is_dir(), folder.create) {
        (true, _) => "exists",
        (false, true) => "does not exist, would be made",
        (false, false) => "does not exist now, would be waited for",
    };
    let watch = match folder.watch {
        WatchMode::Auto => "natively, or by polling where the file system tells nothing",
        WatchMode::Native => "natively",
        WatchMode::Poll => "by polling",
    };
    let after = match folder.after {
        After::Move => format!("moved to {}", folder.done.display()),
        After::Keep => "kept where they are".to_owned(),
        After::Delete => "deleted once their links are on disk".to_owned(),
    };
    let mut text = format!("\n{} {} ({state})\n", paint.bold("folder"), safe(&show(&folder.path)));
    let rows = [
        ("host", hosts(folder)),
        (
            "watched",
            format!(
                "{watch}{}{}",
                also(folder.recursive, "with sub-folders"),
                also(folder.follow_symlinks, "links followed")
            ),
        ),
        ("files", files(folder)),
        ("uploaded", after),
        ("resting", format!("in {}", folder.retry.display())),
        ("given up", format!("in {}", folder.failed.display())),
        ("links", links(folder)),
    ];
    let album = (folder.album == Album::Subfolder).then_some(("albums", "each of its sub-folders"));
    let stripped = folder.strip_metadata.then_some(("metadata", "removed before an image is sent"));
    let known = match folder.dedupe {
        Dedupe::Link => None,
        Dedupe::Upload => Some(("again", "what a host has already is sent to it once more")),
        Dedupe::Skip => Some(("again", "what a host has already is put away without a line")),
    };
    let more = [album, stripped, known].into_iter().flatten().map(|(name, value)| (name, value.to_owned()));
    for (name, value) in rows.into_iter().chain(more) {
        let _ = writeln!(text, "  {}  {}", paint.dim(&format!("{name:<8}")), safe(&value));
    }
    text
}

/// Which files are taken.
fn files(folder: &Folder) -> String {
    let mut text = if folder.include.is_empty() { "all images".to_owned() } else { folder.include.join(" ") };
    if !folder.exclude.is_empty() {
        let _ = write!(text, ", without {}", folder.exclude.join(" "));
    }
    let _ = write!(text, ", up to {}", human::size(folder.max_bytes));
    text
}

fn also(is_so: bool, what: &str) -> String {
    if is_so { format!(", {what}") } else { String::new() }
}

/// The manifest, and the link files.
fn links(folder: &Folder) -> String {
    let files = folder.render.iter().map(|rendering| folder.path.join(&rendering.file));
    let all: Vec<String> = std::iter::once(folder.manifest.clone()).chain(files).map(|path| show(&path)).collect();
    all.join(", ")
}

fn hosts(folder: &Folder) -> String {
    let names: Vec<&str> = folder.hosts().collect();
    let how = match folder.policy {
        _ if names.len() == 1 => "",
        Policy::Failover => " (the first that can take it)",
        Policy::Mirror => " (each)",
        Policy::RoundRobin => " (in turn)",
    };
    format!("{}{how}", names.join(", "))
}

/// What a host is set to. Any option may be a secret, so none is shown: only where it comes from.
fn host_report(host: &HostConfig, paint: Paint) -> String {
    let mut text = format!("\n{} {} (recipe {})\n", paint.bold("host"), safe(&host.name), safe(&host.recipe));
    if let Some(base_url) = &host.base_url {
        let _ = writeln!(text, "  {}  {}", paint.dim("base_url"), safe(base_url));
    }
    if let Some(limits) = limits(host) {
        let _ = writeln!(text, "  {}  {}", paint.dim("limits  "), safe(&limits));
    }
    for (name, setting) in &host.options {
        let _ = writeln!(text, "  {}  from {}", paint.dim(&format!("{:<8}", safe(name))), safe(&setting.origin));
    }
    text
}

/// What the user allows this host at most.
fn limits(host: &HostConfig) -> Option<String> {
    let quota = host.flow.quota.map(|quota| format!("{} uploads in {}", quota.count, duration(quota.period)));
    let rate = host.rate.map(|rate| format!("one every {}, {} at once after a rest", duration(rate.every), rate.burst));
    let parallel = host.max_parallel.map(|count| format!("{count} at a time"));
    let all: Vec<String> = [parallel, rate, quota].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// When it is called, and what: of a program its name, as its words may hold anything; of an address nothing.
fn hook_report(hook: &Hook, paint: Paint) -> String {
    let what = match &hook.action {
        HookAction::Exec(words) => format!("starts {}", words.first().map_or("nothing", String::as_str)),
        HookAction::Webhook(_) => "tells an address".to_owned(),
    };
    let limit = duration(hook.timeout);
    let text = format!("{what} for {}, within {limit}, tried {} times", hook.on.join(", "), hook.retries + 1);
    format!("\n{} {}\n", paint.bold("hook"), safe(&text))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
