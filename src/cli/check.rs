//! `pixchute check`: what the agent would do, without doing any of it.

use std::fmt::Write as _;
use std::path::Path;

use rustix::fs::{Access, access};

use super::out::{Out, Paint, Stop, safe};
use super::run::checked;
use super::{Exit, config, paths};
use crate::config::{After, Config, Folder, HostConfig, Listen, Policy, Problem, WatchMode};
use crate::host;

pub(super) fn run(file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let mut draft = config::draft(file)?;
    draft.add(draft.config.folders.iter().enumerate().filter_map(folder_problem).collect());
    let config = checked(draft, None)?;
    out.print(&report(&config, out.paint))?;
    Ok(Exit::Done)
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
    line("ledger", &show(&config.ledger));
    line("socket", &show(&paths::control_socket(config)));
    match config.listen {
        Listen::Off => line("gallery", "off"),
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
        ("watched", format!("{watch}{}", if folder.recursive { ", with sub-folders" } else { "" })),
        ("files", if folder.include.is_empty() { "all images".to_owned() } else { folder.include.join(" ") }),
        ("uploaded", after),
        ("resting", format!("in {}", folder.retry.display())),
        ("given up", format!("in {}", folder.failed.display())),
        ("links", links(folder)),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "  {}  {}", paint.dim(&format!("{name:<8}")), safe(&value));
    }
    text
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
    for (name, setting) in &host.options {
        let _ = writeln!(text, "  {}  from {}", paint.dim(&format!("{:<8}", safe(name))), safe(&setting.origin));
    }
    text
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
