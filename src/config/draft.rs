//! From text to [`Config`]: syntax, then table by table, then what the tables mean together.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue, Error};

use super::environment::Environment;
use super::problem::{ConfigError, Problem, escaped, nearest};
use super::section::{NOT_YET, Section};
use super::value::{LEVELS, log_filter, shown_duration};
use super::{Config, Cooldown, Listen, Log, LogFormat, Pool, Retry, flow, folder, hook, host, secret, template};
use crate::backoff::Backoff;

/// Files in flight: each costs a connection and up to a megabyte.
pub(super) const WORKERS: RangeInclusive<usize> = 1..=256;

/// Jobs in memory: more gain nothing, the rest waits on disk.
const QUEUE: RangeInclusive<usize> = 1..=10_000;

/// Every duration: a shorter one is below what timers keep, a longer one is a typing mistake (and could overflow a
/// clock).
pub(super) const DURATION: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 366 * 3600);

/// The longest path of a Unix socket: 104 bytes with the NUL on the BSDs, 108 on Linux.
const MAX_SOCKET_PATH: usize = 103;

/// A configuration while its problems are collected.
#[derive(Debug)]
pub struct Draft {
    /// What was understood, with defaults in place of what was not. Not to be used before [`Draft::finish`] agrees.
    pub config: Config,
    /// What is wrong.
    problems: Vec<Problem>,
    /// The text is no TOML: what follows from its content would be guesses.
    broken: bool,
}

impl Draft {
    /// Reads `text`; `file` is named in messages, and relative recipe paths start from its folder. Secrets stay where they
    /// are: no file is opened and no program started, whatever the text says, and their values are empty.
    #[must_use]
    pub fn parse(text: &str, file: Option<&Path>) -> Self {
        Self::parse_in(text, file, &Environment::of_process().without_secrets())
    }

    /// The same, with another home directory than ours.
    pub(super) fn parse_at(home: &Path, text: &str, file: Option<&Path>) -> Self {
        Self::parse_in(text, file, &Environment::of_process_at(home).without_secrets())
    }

    /// Reads `text` and fetches its secrets.
    pub(super) fn with_secrets(text: &str, file: Option<&Path>) -> Self {
        Self::parse_in(text, file, &Environment::of_process())
    }

    pub(super) fn parse_in(text: &str, file: Option<&Path>, env: &Environment<'_>) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut config = Config { file: file.map(PathBuf::from), text: text.to_owned(), ..Config::default() };
        let mut problems = Vec::new();
        config.secret_variables = secret::variables(document.get_ref());
        let env = env.of(file, config.secret_variables.clone());
        read_document(&mut config, document.get_ref(), &env, &mut problems);
        let broken = !errors.is_empty();
        if broken {
            problems = without_guesses(text, &errors, problems);
        }
        Self { config, problems, broken }
    }

    /// Adds what others found wrong in the same configuration: see [`crate::host`]. Not heard if the text is no TOML,
    /// because what others saw of it is incomplete.
    pub fn add(&mut self, problems: Vec<Problem>) {
        if !self.broken {
            self.problems.extend(problems);
        }
    }

    /// The configuration, if it is flawless.
    ///
    /// # Errors
    /// Every problem, in the order of the text.
    pub fn finish(self) -> Result<Config, ConfigError> {
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        Err(self.config.rejected(self.problems))
    }
}

/// The syntax errors, and those other problems that they cannot have caused: what stands on a broken line, after a line
/// that may have swallowed others, or is only missing, is not reported.
fn without_guesses(text: &str, errors: &[Error], mut problems: Vec<Problem>) -> Vec<Problem> {
    // Where each line starts, and the end. Looked up once: a long line can hold a hundred thousand errors.
    let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
    let starts: Vec<usize> = std::iter::once(0).chain(newlines).chain([text.len() + 1]).collect();
    let line_of = |offset: usize| starts[..starts.len() - 1].partition_point(|start| *start <= offset) - 1;
    let broken: BTreeSet<usize> =
        errors.iter().map(|error| line_of(error.span().map_or(0, |span| span.start))).collect();
    let swallows = |line: usize| {
        let line = &text[starts[line]..starts[line + 1] - 1];
        ["[", "{", "\"\"\"", "'''"].iter().any(|opening| line.contains(opening))
    };
    let end = broken.iter().find(|line| swallows(**line)).map_or(text.len(), |line| starts[*line]);
    problems.retain(|problem| {
        let lines = line_of(problem.span.start)..=line_of(problem.span.end);
        let known = !problem.span.is_empty() && !problem.message.starts_with(folder::MISSING);
        known && problem.span.start < end && broken.range(lines).next().is_none()
    });
    problems.extend(errors.iter().map(syntax_problem));
    problems
}

fn syntax_problem(error: &Error) -> Problem {
    let mut message = error.message().to_owned();
    let mut help = None;
    if message.starts_with("string values must be quoted") {
        message = "a text must stand in quotes".to_owned();
        help = Some("write key = \"value\"".to_owned());
    }
    // A range of one byte at least: 0..0 would mean that it stands nowhere.
    let span = error.span().unwrap_or(0..1);
    Problem { span: span.start..span.end.max(span.start + 1), key: String::new(), message, help }
}

fn read_document<'t>(
    config: &mut Config,
    document: &'t DeTable<'t>,
    env: &Environment<'_>,
    problems: &mut Vec<Problem>,
) {
    let mut root = Section::new(String::new(), Some(document), 0..0);
    pool(&mut config.pool, root.table("pool"), problems);
    retry(&mut config.retry, root.table("retry"), problems);
    cooldown(&mut config.cooldown, root.table("cooldown"), problems);
    flow::read(&mut config.flow, root.table("flow"), problems);
    ledger(&mut config.ledger, root.table("ledger"), env, problems);
    log(&mut config.log, root.table("log"), problems);
    server(&mut config.listen, root.table("server"), problems);
    control(&mut config.control_socket, root.table("control"), env, problems);
    config.hosts = host::read(root.table("host"), config.file.as_deref(), env, problems);
    config.templates = template::read(root.table("template"), config.file.as_deref(), env, problems);
    let folders = folder::read(&mut root, &config.templates, env, problems);
    for (folder, place) in &folders {
        for (name, span) in folder.hosts().zip(place.hosts()) {
            host::named_by_folder(&mut config.hosts, name, span.clone());
        }
    }
    config.folders = folders.into_iter().map(|(folder, _)| folder).collect();
    config.hooks = hook::read(&mut root, problems);
    root.finish(problems);
}

/// Replaces `place` by what was read, if something was.
pub(super) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn pool(pool: &mut Pool, mut section: Section<'_>, problems: &mut Vec<Problem>) {
    workers(pool, &mut section);
    set(&mut pool.queue, section.number("queue", QUEUE));
    pool.queue_warn = pool.queue.div_ceil(2);
    set(&mut pool.queue_warn, section.number("queue_warn", QUEUE));
    set(&mut pool.file_timeout, section.duration("file_timeout", DURATION));
    set(&mut pool.stall_timeout, section.duration("stall_timeout", DURATION));
    set(&mut pool.connect_timeout, section.duration("connect_timeout", DURATION));
    set(&mut pool.request_timeout, section.duration("request_timeout", DURATION));
    set(&mut pool.min_rate, flow::min_rate(&mut section));
    set(&mut pool.drain, section.duration("drain", DURATION));
    if pool.queue_warn > pool.queue {
        let message = format!("found {}, expected at most {}, the value of `queue`", pool.queue_warn, pool.queue);
        section.wrong("queue_warn", message, None);
    }
    // A default that the file's deadline cuts short needs no words; what somebody wrote and can never happen does.
    let limits = [
        ("request_timeout", pool.request_timeout),
        ("stall_timeout", pool.stall_timeout),
        ("connect_timeout", pool.connect_timeout),
    ];
    for (key, limit) in limits {
        if section.has(key) && limit > pool.file_timeout {
            let (found, most) = (shown_duration(limit), shown_duration(pool.file_timeout));
            section.wrong(key, format!("found \"{found}\", expected at most \"{most}\", the `file_timeout`"), None);
        }
    }
    section.finish(problems);
}

/// `workers` alone is a fixed number; with the other two it is where the pool begins.
fn workers(pool: &mut Pool, section: &mut Section<'_>) {
    let start = section.number("workers", WORKERS);
    let (min, max) = (section.number("min_workers", WORKERS), section.number("max_workers", WORKERS));
    pool.workers = start.unwrap_or_else(|| pool.workers.max(min.unwrap_or(1)).min(max.unwrap_or(*WORKERS.end())));
    pool.min_workers = min.unwrap_or(pool.workers);
    pool.max_workers = max.unwrap_or(pool.workers);
    let order = || Some("the pool begins with `workers` and stays between the two others".to_owned());
    if pool.min_workers > pool.workers {
        section.wrong("min_workers", format!("found {}, expected at most {}", pool.min_workers, pool.workers), order());
    }
    if pool.max_workers < pool.workers {
        section.wrong(
            "max_workers",
            format!("found {}, expected at least {}", pool.max_workers, pool.workers),
            order(),
        );
    }
}

fn retry(retry: &mut Retry, mut section: Section<'_>, problems: &mut Vec<Problem>) {
    set(&mut retry.attempts, section.number("attempts", 1..=20));
    let first = section.duration("backoff", DURATION).unwrap_or(retry.backoff.first());
    let max = section.duration("max_backoff", DURATION).unwrap_or(retry.backoff.max());
    let backoff = checked(&mut section, ("backoff", first), retry.backoff.factor(), ("max_backoff", max));
    set(&mut retry.backoff, backoff);
    section.finish(problems);
}

fn cooldown(cooldown: &mut Cooldown, mut section: Section<'_>, problems: &mut Vec<Problem>) {
    let first = section.duration("first", DURATION).unwrap_or(cooldown.backoff.first());
    let factor = section.read("factor", "a number from 1.0 to 100.0", |value| {
        let number = match value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return None,
        };
        number.parse().ok().filter(|factor| (1.0..=100.0).contains(factor))
    });
    let max = section.duration("max", DURATION).unwrap_or(cooldown.backoff.max());
    let factor = factor.unwrap_or(cooldown.backoff.factor());
    set(&mut cooldown.backoff, checked(&mut section, ("first", first), factor, ("max", max)));
    set(&mut cooldown.requeues, section.number("requeues", 0..=1_000));
    section.finish(problems);
}

/// The back-off of two keys; the message stands at the one that the file mentions.
fn checked(
    section: &mut Section<'_>,
    (first_key, first): (&'static str, Duration),
    factor: f64,
    (max_key, max): (&'static str, Duration),
) -> Option<Backoff> {
    let backoff = Backoff::try_new(first, factor, max);
    if let Err(reason) = &backoff {
        let key = if section.has(max_key) { max_key } else { first_key };
        let (first, max) = (shown_duration(first), shown_duration(max));
        let help = format!("{first_key} is \"{first}\" and {max_key} is \"{max}\": change one of them");
        section.wrong(key, reason.to_string(), Some(help));
    }
    backoff.ok()
}

fn ledger(path: &mut PathBuf, mut section: Section<'_>, env: &Environment<'_>, problems: &mut Vec<Problem>) {
    // What was found is not repeated: the URL of a database may hold a password.
    const EXPECTED: &str = "expected \"sqlite:\" (the default place) or \"sqlite:///absolute/path\"";
    match section.take("url").map(|value| value.get_ref().as_str()) {
        None | Some(Some("sqlite:")) => {}
        Some(Some(url)) if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
            section.wrong("url", format!("a Postgres ledger is {NOT_YET}, {EXPECTED}"), None);
        }
        Some(url) => {
            let place = url.and_then(|url| url.strip_prefix("sqlite:"));
            let place = place.map(|place| place.strip_prefix("//").unwrap_or(place));
            match place.map(|place| env.expand(place)) {
                Some(Ok(place)) if place.is_absolute() => *path = place,
                Some(Err(message)) => section.wrong("url", format!("{message}, {EXPECTED}"), None),
                _ => section.wrong("url", EXPECTED, None),
            }
        }
    }
    section.finish(problems);
}

fn log(log: &mut Log, mut section: Section<'_>, problems: &mut Vec<Problem>) {
    let formats = [
        ("auto", LogFormat::Auto),
        ("journald", LogFormat::Journald),
        ("pretty", LogFormat::Pretty),
        ("json", LogFormat::Json),
    ];
    set(&mut log.format, section.choice("format", &formats));
    let expected = format!("one of {}, or a filter such as \"info,pixchute::watch=debug\"", LEVELS.join(", "));
    if let Some(level) = section.text("level", &expected) {
        if log_filter(level) {
            log.level = level.to_owned();
        } else {
            let help = nearest(level, LEVELS).map(|near| format!("did you mean \"{near}\"?"));
            section.wrong("level", format!("found \"{}\", expected {expected}", escaped(level)), help);
        }
    }
    section.finish(problems);
}

fn server(listen: &mut Listen, mut section: Section<'_>, problems: &mut Vec<Problem>) {
    const EXPECTED: &str = "\"off\", \"unix\" or a loopback address such as \"127.0.0.1:8421\"";
    match section.text("listen", EXPECTED) {
        None => {}
        Some("off") => *listen = Listen::Off,
        Some("unix") => *listen = Listen::Unix,
        Some(text) => match text.parse::<std::net::SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => *listen = Listen::Tcp(address),
            Ok(_) => {
                let help = "what is served has no password: reach it from elsewhere through ssh -L or a proxy";
                section.wrong(
                    "listen",
                    format!("found \"{}\", expected {EXPECTED}", escaped(text)),
                    Some(help.to_owned()),
                );
            }
            Err(_) => {
                let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
                let help = port.map(|port| format!("write \"127.0.0.1:{port}\""));
                section.wrong("listen", format!("found \"{}\", expected {EXPECTED}", escaped(text)), help);
            }
        },
    }
    section.finish(problems);
}

fn control(socket: &mut Option<PathBuf>, mut section: Section<'_>, env: &Environment<'_>, problems: &mut Vec<Problem>) {
    let automatic = section.take("socket").is_some_and(|value| value.get_ref().as_str() == Some("auto"));
    if !automatic && let Some(path) = section.file_path("socket", env) {
        if !path.is_absolute() {
            section.wrong("socket", "found a relative path, expected \"auto\" or an absolute path", None);
        } else if path.as_os_str().len() > MAX_SOCKET_PATH {
            let message = format!("the path has {} bytes, expected at most {MAX_SOCKET_PATH}", path.as_os_str().len());
            section.wrong("socket", message, Some("a socket cannot have a longer one: see unix(7)".to_owned()));
        } else {
            *socket = Some(path);
        }
    }
    section.finish(problems);
}

impl Config {
    /// The report of `problems` with this configuration.
    #[must_use]
    pub fn rejected(&self, problems: Vec<Problem>) -> ConfigError {
        ConfigError::new(self.file.clone(), self.text.clone(), problems)
    }
}
