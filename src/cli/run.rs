//! `pixchute run`: the agent.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::out::{Out, Stop, safe};
use super::{Exit, config};
use crate::agent::{self, Setup, Summary};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Draft, Listen, Problem, paths};
use crate::control::{Handle, REQUEST_QUEUE, Request, server};
use crate::host;
use crate::host::local::{Site, Store};
use crate::ledger::sqlite::{Opened, SqliteLedger};
use crate::ledger::{Ledger, LedgerError};
use crate::panics;
use crate::render::Formats;
use crate::telemetry::{self, Event, Fields, emit, shown};

const EXAMPLES: &str = "\
Examples:
  pixchute run ./drop                 watch ./drop (made if missing) with the embedded `local` host
  pixchute run a b --host imgbb       two folders, the `imgbb` host of the configuration
  pixchute run                        everything as the configuration says
  pixchute run --once                 upload what is there, then end";

/// How long the start waits for a disk that is full or has trouble, before it leaves another try to the service manager:
/// longer than the span in which that counts starts, so that it does not give up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often binding the control socket is tried.
const BINDS: usize = 3;

/// The time between two tries at that.
const AGAIN: Duration = Duration::from_secs(1);

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// Folders to watch instead of the configured ones; made if missing
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Where the images of these folders go [default: local]
    #[arg(long, value_name = "NAME", requires = "dirs")]
    host: Option<String>,
    /// End when everything that can be uploaded now is uploaded
    #[arg(long)]
    once: bool,
    /// Where the gallery is served: a loopback address, `unix` for a socket, or `off`
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    listen: Option<Listen>,
}

fn listen(text: &str) -> Result<Listen, String> {
    match text {
        "off" => return Ok(Listen::Off),
        "unix" => return Ok(Listen::Unix),
        _ => {}
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected `off`, `unix` or an address with port, such as 127.0.0.1:8421".to_owned())?;
    if !address.ip().is_loopback() {
        return Err("expected a loopback address, such as 127.0.0.1:8421: the gallery has no password".to_owned());
    }
    Ok(Listen::Tcp(address))
}

pub(super) async fn run(args: &RunArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    panics::end_on_essential();
    panics::essential(start(args, file, out)).await
}

async fn start(args: &RunArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    // The same file at every reload, wherever one is looked for by then.
    let found = config::find(file).and_then(|file| std::path::absolute(file).ok());
    let config = Arc::new(configuration(args, file)?);
    let _logging = telemetry::init(&config.log).map_err(|error| Stop::said(Exit::Config, error.to_string()))?;
    // The ledger's lock first: a second agent must not touch anything.
    let Opened { ledger, fresh, set_aside } =
        patiently(|| SqliteLedger::open(&config.ledger)).await.map_err(ledger_stop)?;
    if let Some(aside) = set_aside {
        let message = format!("the ledger was damaged; it is kept as {} and rebuilt", shown(&aside));
        emit(Event::LedgerRepaired, &Fields::default(), format_args!("{message}"));
    }
    make_folders(&config)?;
    let (setup, handle, greeting) = set_up(config, Arc::new(ledger), fresh, (args, found)).await?;
    // A greeting that nobody reads is no reason to end.
    let _ = out.print(&greeting);
    let summary = until_told_twice(setup, handle).await?;
    if let Some(reason) = summary.gave_up {
        let message = format!("{reason}; what is left is as it was, and the next run goes on with it");
        return Err(Stop::said(Exit::Failed, message));
    }
    let unfinished = args.once && summary.failed + summary.deferred > 0;
    Ok(if unfinished || summary.restarting { Exit::Failed } else { Exit::Done })
}

/// Tries for [`PATIENCE`] to open the ledger on a disk that is full or has trouble.
async fn patiently(open: impl Fn() -> Result<Opened, LedgerError>) -> Result<Opened, LedgerError> {
    let until = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        match open() {
            Err(error @ LedgerError::Open { passing: true, .. }) if Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    let message = format!("nothing is sent before the ledger can be used: {error}");
                    emit(Event::DiskBlocked, &Fields::default(), format_args!("{message}"));
                }
                tokio::time::sleep(AGAIN).await;
            }
            opened => {
                if told && opened.is_ok() {
                    emit(Event::DiskOk, &Fields::default(), format_args!("the ledger can be used again"));
                }
                return opened;
            }
        }
    }
}

/// `run DIR` makes what is missing; configured folders are waited for.
fn make_folders(config: &Config) -> Result<(), Stop> {
    for folder in config.folders.iter().filter(|folder| folder.create) {
        let cannot = |error| Stop::said(Exit::Failed, format!("cannot make {}: {error}", folder.path.display()));
        std::fs::create_dir_all(&folder.path).map_err(cannot)?;
    }
    Ok(())
}

/// Binds what has to be bound and puts the agent together.
async fn set_up(
    config: Arc<Config>,
    ledger: Arc<dyn Ledger>,
    rebuild: bool,
    (args, file): (&RunArgs, Option<PathBuf>),
) -> Result<(Setup, Handle, String), Stop> {
    let people = people(&config).await?;
    let control = bind_control(&config).await.map_err(|error| Stop::said(Exit::Failed, error.to_string()))?;
    let site = people.as_ref().map(|people| Site { store: Store::at(&paths::data_dir()), base_url: people.base_url() });
    let hosts = host::build(&config, site.clone()).map_err(|problems| config.rejected(problems))?;
    let greeting = if args.dirs.is_empty() { String::new() } else { greeting(&config, people.as_ref()) };
    let reload = file.map(|file| reload(args.clone(), file, site.clone()));
    let (handle, requests) = tokio::sync::mpsc::channel(REQUEST_QUEUE);
    let own = handle.clone();
    let state = server::State {
        ledger: Arc::clone(&ledger),
        handle,
        store: site.map(|site| site.store),
        folders: config.folders.iter().map(|folder| folder.path.clone()).collect(),
        clock: Clock::System,
    };
    let gallery = people.as_ref().map(server::People::place);
    let services: agent::Services =
        Box::new(move |end| Box::pin(async move { server::serve(people, Some(control), state, end).await }));
    let (clock, services, once) = (Clock::System, Some(services), args.once);
    let setup = Setup { config, clock, ledger, rebuild, hosts, requests, services, gallery, once, reload };
    Ok((setup, own, greeting))
}

/// Binds the socket of the commands; a system that has trouble with it gets a second chance, a few times.
async fn bind_control(config: &Config) -> Result<server::Control, server::BindError> {
    let path = paths::control_socket(config);
    for _ in 1..BINDS {
        match server::bind_control(&path) {
            Err(server::BindError::Control { .. }) => tokio::time::sleep(AGAIN).await,
            bound => return bound,
        }
    }
    server::bind_control(&path)
}

/// How the configuration is read again: in the way of the start, for the same command line. What is bound stays as it is.
fn reload(args: RunArgs, file: PathBuf, site: Option<Site>) -> agent::Reload {
    Arc::new(move || {
        let config = configuration(&args, Some(&file))?;
        let hosts = host::build(&config, site.clone()).map_err(|problems| config.rejected(problems))?;
        Ok(agent::Loaded { config, hosts })
    })
}

/// Runs the agent; the first SIGTERM or SIGINT lets it finish, the second ends it at once.
async fn until_told_twice(setup: Setup, handle: Handle) -> Result<Summary, Stop> {
    let cannot = |error: std::io::Error| Stop::said(Exit::Failed, format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(cannot)?;
    let reloads = setup.reload.is_some();
    let told = CancellationToken::new();
    let signals = async {
        let mut count = 0;
        while count < 2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => if reloads {
                    // The log tells what comes of it.
                    let (reply, _) = tokio::sync::oneshot::channel();
                    let _ = handle.try_send(Request::Reload(reply));
                    continue;
                }
            }
            count += 1;
            told.cancel();
        }
    };
    tokio::select! {
        summary = agent::run(setup, told.clone().cancelled_owned()) => {
            summary.map_err(|error| Stop::said(Exit::Failed, error.to_string()))
        }
        () = signals => Err(Stop::said(Exit::Failed, "ended at once; what was under way is taken up at the next start")),
    }
}

/// What a newcomer wants to know.
fn greeting(config: &Config, people: Option<&server::People>) -> String {
    let mut text = String::new();
    for folder in &config.folders {
        let _ = writeln!(text, "drop pictures into  {}", safe(&folder.path.display().to_string()));
        let _ = writeln!(text, "links are in        {}", safe(&folder.manifest.display().to_string()));
    }
    if let Some(people) = people {
        let slash = if people.base_url().is_empty() { "" } else { "/" };
        let _ = writeln!(text, "the gallery is at   {}{slash}", safe(&people.place()));
    }
    text
}

/// The address for people. A taken port is a reason not to start only if links would lead there.
async fn people(config: &Config) -> Result<Option<server::People>, Stop> {
    let bound = match config.listen {
        Listen::Off => return Ok(None),
        Listen::Unix => server::bind_people_private(&paths::gallery_socket(config)),
        Listen::Tcp(address) => server::bind_people(address).await,
    };
    match bound {
        Ok(people) => Ok(Some(people)),
        Err(error) if config.hosts.values().any(|host| host.recipe == "local") => {
            Err(Stop::said(Exit::Failed, error.to_string()))
        }
        Err(error) => {
            telemetry::trouble("there is no gallery", &error);
            Ok(None)
        }
    }
}

fn ledger_stop(error: LedgerError) -> Stop {
    let exit = if matches!(error, LedgerError::InUse { .. }) { Exit::InUse } else { Exit::Failed };
    Stop::said(exit, error.to_string())
}

/// What applies: the file, and above it the command line; with everything that is wrong with it, hosts included.
fn configuration(args: &RunArgs, file: Option<&Path>) -> Result<Config, ConfigError> {
    let mut config = if args.dirs.is_empty() {
        checked(config::draft(file)?, args.listen)?
    } else {
        let base = match config::find(file) {
            Some(_) => config::load(file)?,
            None => Config::default(),
        };
        config::for_directories(base, &args.dirs, args.host.as_deref())?
    };
    config.listen = args.listen.unwrap_or(config.listen);
    host::build(&config, expected_site(config.listen)).map_err(|problems| config.rejected(problems))?;
    Ok(config)
}

/// The configuration of a draft, if neither it nor a host in it has a problem.
pub(super) fn checked(mut draft: Draft, listen: Option<Listen>) -> Result<Config, ConfigError> {
    if draft.config.folders.is_empty() {
        let help = "add a [[folder]] with a path and a host, or name folders: pixchute run DIR".to_owned();
        draft.add(vec![Problem::nowhere(
            "folder",
            "no folder is configured, so there is nothing to do".to_owned(),
            Some(help),
        )]);
    }
    let site = expected_site(listen.unwrap_or(draft.config.listen));
    if let Err(problems) = host::build(&draft.config, site) {
        draft.add(problems);
    }
    if let Err(problems) = Formats::from_config(&draft.config) {
        draft.add(problems);
    }
    draft.finish()
}

/// Where the `local` host's images will be served, for checking before anything is bound.
pub(super) fn expected_site(listen: Listen) -> Option<Site> {
    match listen {
        Listen::Off => None,
        Listen::Unix => Some(Site { store: Store::at(&paths::data_dir()), base_url: String::new() }),
        Listen::Tcp(address) => {
            Some(Site { store: Store::at(&paths::data_dir()), base_url: format!("http://{address}") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gallery_is_for_this_machine_only() {
        assert_eq!((listen("off"), listen("unix")), (Ok(Listen::Off), Ok(Listen::Unix)));
        assert_eq!(listen("127.0.0.1:0"), Ok(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))));
        assert!(listen("[::1]:8421").is_ok());
        for refused in ["0.0.0.0:8421", "192.168.1.5:80", "localhost:80", "8421", ""] {
            assert!(listen(refused).is_err(), "{refused}");
        }
    }
}
