//! The log: where it goes and how it looks. What is logged stands in [`event`].
//!
//! Under systemd the journal gets native fields; a terminal gets readable lines; everything else gets one JSON object a
//! line. A log that nobody reads never stops an upload: lines go through a bounded queue to a thread of their own, and what
//! does not fit is dropped and counted.

pub mod event;
mod journal;
pub mod live;
mod pretty;
mod repeats;
pub mod tally;

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Log, LogFormat};
pub use event::{Event, Fields, emit, settle, shown, trouble, visible};

/// Log lines that may wait for a slow journal or a slow reader of stderr: a few megabytes, minutes of normal work.
const LINES_WAITING: usize = 8_192;

/// Keeps the log open; dropping it writes out what is waiting, for at most a second.
#[derive(Debug)]
pub struct Logging {
    _writer: Option<WorkerGuard>,
    _journal: Option<journal::Guard>,
}

/// Entries that the journal did not take.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that did not fit on their way to stderr.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines of the log were lost because nobody took them.
#[must_use]
pub fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    LOST.load(Ordering::Relaxed) + u64::try_from(dropped).unwrap_or(u64::MAX)
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `[log] level` is not a filter.
    #[error(
        "[log] level = {level:?} is not a log filter ({reason}); accepted: error, warn, info, debug, trace, or a tracing filter such as \"info,pixchute=debug\""
    )]
    Filter {
        /// What was found.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Opens the log for the whole process. The second and later calls change nothing.
///
/// # Errors
/// When the level is not a filter.
pub fn init(log: &Log) -> Result<Logging, LoggingError> {
    let filter = EnvFilter::try_new(directives(&log.level))
        .map_err(|error| LoggingError::Filter { level: log.level.clone(), reason: error.to_string() })?;
    let (filter, handle) = reload::Layer::new(filter);
    if matches!(chosen(log.format), LogFormat::Journald)
        && let Ok((journal, guard)) = journal::open()
    {
        // A second logger in the same process (a test's) keeps the first.
        if tracing_subscriber::registry().with(filter).with(journal).try_init().is_ok() {
            let _ = FILTER.set(handle);
        }
        return Ok(Logging { _writer: None, _journal: Some(guard) });
    }
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING).finish(std::io::stderr());
    let _ = DROPPED.set(writer.error_counter());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match chosen(log.format) {
        LogFormat::Pretty => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let format = pretty::Pretty { colours };
            Box::new(tracing_subscriber::fmt::layer().event_format(format).with_writer(writer).with_filter(filter))
        }
        LogFormat::Auto | LogFormat::Journald | LogFormat::Json => Box::new(
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_target(false)
                .with_writer(writer)
                .with_filter(filter),
        ),
    };
    if tracing_subscriber::registry().with(lines).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(Logging { _writer: Some(guard), _journal: None })
}

/// The way to the filter of the log that is open.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Another level from now on. Nothing happens if it is no filter: a configuration is checked before.
pub fn set_level(level: &str) {
    if let (Some(handle), Ok(filter)) = (FILTER.get(), EnvFilter::try_new(directives(level))) {
        let _ = handle.reload(filter);
    }
}

/// The filter that `[log] level` means. A plain level is ours: what libraries say at `debug` and `trace` includes whole
/// requests, and with them secrets. Who writes out directives gets exactly those.
fn directives(level: &str) -> String {
    let plain = level.parse::<LevelFilter>().is_ok_and(|level| level >= LevelFilter::WARN);
    if plain { format!("warn,pixchute={level}") } else { level.to_owned() }
}

/// What `auto` means here.
fn chosen(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if stderr_is_the_journal() => LogFormat::Journald,
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    }
}

/// systemd sets `JOURNAL_STREAM` to device:inode of the stream it connected; children inherit the variable, so it counts
/// only if stderr is still that stream (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/dev/stderr") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r26_a_plain_level_is_ours_and_does_not_open_what_libraries_say() {
        assert_eq!(directives("trace"), "warn,pixchute=trace");
        assert_eq!(directives("info"), "warn,pixchute=info");
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("off"), "off");
        assert_eq!(directives("info,pixchute=debug"), "info,pixchute=debug");
    }
}
