//! `pixchute put`: upload files now, without an agent; with `--json -` as the upload engine of another program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::out::{Out, Stop, safe};
use super::{Exit, config, put_json, run};
use crate::agent::put::put;
use crate::clock::Clock;
use crate::config::{Config, HostConfig, paths};
use crate::control::client::Client;
use crate::control::human;
use crate::control::model::Status;
use crate::host::{self, Host, Progress};
use crate::record::Record;
use crate::render::Formats;

/// A running agent is asked before anything is sent; one that does not answer so soon is not waited for.
const AGENT_ANSWERS: Duration = Duration::from_secs(1);

/// How often the progress on a terminal is drawn.
const DRAW: Duration = Duration::from_millis(100);

/// Width of the bar.
const BAR: usize = 24;

/// Arguments of `put`.
#[derive(Debug, clap::Args)]
pub(super) struct PutArgs {
    /// Where the images go [default: the host of the first configured folder, else local]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// What is printed: url, json, bbcode, markdown, html, or a template of the configuration
    #[arg(long, value_name = "NAME", default_value = "url")]
    format: String,
    /// Send even if the host rests, or is paused, for the running agent
    #[arg(long)]
    anyway: bool,
    /// Read jobs from stdin, one JSON object a line, and print events; give `-` as FILE
    #[arg(long)]
    json: bool,
    /// Pictures
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// The hosts that are asked for, built when they are first needed.
pub(super) struct Hosts {
    config: Config,
    built: BTreeMap<String, Arc<dyn Host>>,
    default: String,
}

impl Hosts {
    fn new(file: Option<&Path>, default: Option<&str>) -> Result<Self, Stop> {
        let config = match config::find(file) {
            Some(_) => config::load(file)?,
            None => Config::default(),
        };
        let first = config.folders.first().map_or("local", |folder| folder.host.as_str());
        let default = default.unwrap_or(first).to_owned();
        Ok(Self { config, built: BTreeMap::new(), default })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The host of this name, or the default one: as it is configured, or as its recipe is.
    pub(super) fn get(&mut self, name: Option<&str>) -> Result<Arc<dyn Host>, String> {
        let name = name.unwrap_or(&self.default).to_owned();
        if let Some(host) = self.built.get(&name) {
            return Ok(Arc::clone(host));
        }
        let table = self.config.hosts.get(&name).cloned().unwrap_or_else(|| HostConfig::new(&name));
        let only = Config { hosts: [(name.clone(), table)].into(), ..self.config.clone() };
        let built = host::build(&only, run::expected_site(only.listen));
        let host = built.map_err(|problems| only.rejected(problems).to_string().trim_end().to_owned())?;
        let host = host.into_values().next().ok_or_else(|| format!("there is no host {name}"))?;
        self.built.insert(name, Arc::clone(&host));
        Ok(host)
    }

    /// How many uploads run at once: what the pool may, and what the host bears.
    pub(super) fn at_once(&self, host: &dyn Host) -> usize {
        let configured = self.config.hosts.get(host.name()).and_then(|host| host.max_parallel);
        configured.or_else(|| host.max_parallel()).unwrap_or(usize::MAX).clamp(1, self.config.pool.workers)
    }
}

pub(super) async fn run(args: &PutArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let mut hosts = Hosts::new(file, args.host.as_deref())?;
    if args.json {
        if args.files != [PathBuf::from("-")] {
            return Err(Stop::said(Exit::Usage, "--json reads the jobs from stdin: pixchute put --json -"));
        }
        return put_json::run(hosts, out).await;
    }
    let formats = Formats::from_config(hosts.config()).map_err(|problems| hosts.config().rejected(problems))?;
    if !matches!(args.format.as_str(), "url" | "json") {
        formats.find(&args.format).map_err(|error| Stop::said(Exit::Usage, error.to_string()))?;
    }
    let host = hosts.get(None).map_err(|message| Stop::said(Exit::Config, message))?;
    if !args.anyway
        && let Some(objection) = objection(hosts.config(), host.name()).await
    {
        return Err(Stop::said(Exit::Failed, objection));
    }
    let config = hosts.config().clone();
    let files: Vec<(&PathBuf, Arc<Progress>)> =
        args.files.iter().map(|file| (file, Arc::new(Progress::new()))).collect();
    let one = |(file, progress): &(&PathBuf, Arc<Progress>)| {
        let (file, progress, host, config) = ((*file).clone(), Arc::clone(progress), Arc::clone(&host), &config);
        async move {
            let path = path::absolute(&file).map_err(|error| error.to_string());
            let result = match path {
                Ok(path) => put(config, &*host, &path, progress).await,
                Err(reason) => Err(reason),
            };
            (file, result)
        }
    };
    // In the order of the arguments, whichever is done first.
    let mut results = stream::iter(files.iter().map(one)).buffered(hosts.at_once(&*host));
    let mut bar = Bar { shown: io::stderr().is_terminal() };
    let mut tick = tokio::time::interval(DRAW);
    let (mut done, mut failed) = (0, 0);
    loop {
        tokio::select! {
            next = results.next() => {
                let Some((file, result)) = next else { break };
                done += 1;
                bar.clear();
                match told(&args.format, &formats, result) {
                    Ok(text) => out.print(&text)?,
                    Err(reason) => {
                        failed += 1;
                        let _ = writeln!(io::stderr(), "pixchute: {}: {}", safe(&file.to_string_lossy()), safe(&reason));
                    }
                }
            }
            _ = tick.tick() => bar.draw(&files, done),
        }
    }
    bar.clear();
    Ok(if failed > 0 { Exit::Failed } else { Exit::Done })
}

/// Why nothing should be sent to this host now, if a running agent knows a reason: the host has told it, not us.
async fn objection(config: &Config, name: &str) -> Option<String> {
    let client = Client::new(&paths::socket_of_agent(config));
    let status: Status = tokio::time::timeout(AGENT_ANSWERS, client.get("/v1/status")).await.ok()?.ok()?;
    let host = status.hosts.iter().find(|host| host.name == name)?;
    let why = match (host.held_since, host.paused_until) {
        (Some(since), _) => format!("was paused by you {} ago", human::age(status.now.since(since))),
        (None, Some(until)) => {
            let reason = host.pause_reason.as_deref().map(|reason| format!(" ({})", safe(reason))).unwrap_or_default();
            format!("rests for {}{reason}", human::age(until.since(status.now)))
        }
        (None, None) => return None,
    };
    let name = safe(name);
    Some(format!(
        "nothing was sent: {name} {why}, as the running agent knows; `pixchute resume {name}` ends that, --anyway sends all the same"
    ))
}

/// What is printed of a file, or why there is no link.
fn told(format: &str, formats: &Formats, result: Result<Record, String>) -> Result<String, String> {
    let record = result?;
    let Some(url) = &record.url else {
        let Some(error) = &record.error else { return Err("not uploaded".to_owned()) };
        let advice = error.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        return Err(format!("{} ({}){advice}", error.message, error.class.name()));
    };
    match format {
        "url" => Ok(format!("{}\n", safe(url))),
        "json" => Ok(record.line()),
        name => formats.one(name, &record, Clock::System.now()).map_err(|error| error.to_string()),
    }
}

/// One line on a terminal: how many files are done, and how far those under way are.
struct Bar {
    shown: bool,
}

impl Bar {
    fn draw(&mut self, files: &[(&PathBuf, Arc<Progress>)], done: usize) {
        if !self.shown {
            return;
        }
        let sent: u64 = files.iter().map(|(_, progress)| progress.sent()).sum();
        let total: u64 = files.iter().map(|(_, progress)| progress.total()).sum();
        let filled = usize::try_from(sent.saturating_mul(BAR as u64).checked_div(total).unwrap_or(0)).unwrap_or(BAR);
        let mut line = String::from("\r\x1b[K[");
        (0..BAR).for_each(|cell| line.push(if cell < filled { '█' } else { ' ' }));
        let _ = write!(line, "] {done} of {} files, {} of {} kB", files.len(), sent / 1_000, total / 1_000);
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
