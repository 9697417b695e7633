//! Every event of the log, in one table: its name, level and `MESSAGE_ID`. The ids never change: catalogs and scripts
//! rely on them.

use std::fmt;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Level;

use super::repeats::Repeats;
use crate::clock::WallTime;
use crate::job::{ErrorClass, Job, JobId};

/// One kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The agent begins its work.
    AgentStarted,
    /// Every present folder is watched and was scanned once.
    AgentReady,
    /// A signal came; running attempts may finish.
    AgentStopping,
    /// Everything is written down.
    AgentStopped,
    /// The agent ends by itself, to be started anew with a drop folder that its sandbox shuts it out of.
    AgentRestarting,
    /// The system reports changes of this folder.
    FolderWatching,
    /// This folder is looked through at intervals.
    FolderPolling,
    /// The drop folder is not there; it is looked for.
    FolderAbsent,
    /// The drop folder is there again.
    FolderBack,
    /// More changes than could be reported: the folder is scanned.
    WatchOverflow,
    /// The system does not allow enough watches.
    WatchLimit,
    /// A settled image was queued.
    JobQueued,
    /// An attempt begins.
    JobStarted,
    /// The links are on record.
    JobUploaded,
    /// Time ended an attempt; the file rests.
    JobTimeout,
    /// An attempt failed for now; the file rests.
    JobDeferred,
    /// A rest is over.
    JobRequeued,
    /// The file was given up.
    JobFailed,
    /// The job ended without a verdict on the file: cancelled, or the file is gone.
    JobCancelled,
    /// The queue has reached `queue_warn`.
    QueueFilling,
    /// The queue has fallen to half of it.
    QueueDrained,
    /// A host rests.
    HostPaused,
    /// Its rest is over.
    HostResumed,
    /// A host fails again and again: it gets nothing for a while.
    CircuitOpen,
    /// It gets one file, to see.
    CircuitHalfOpen,
    /// It is well again.
    CircuitClosed,
    /// More attempts may run at once, or fewer.
    WindowChanged,
    /// A host refuses our key or account.
    AccountError,
    /// Results cannot be recorded: nothing is sent.
    DiskBlocked,
    /// They can again.
    DiskOk,
    /// A damaged or lost ledger was replaced, or an older one got what it lacked.
    LedgerRepaired,
    /// A torn last line was mended.
    ManifestRepaired,
    /// The user paused a drop folder.
    FolderPaused,
    /// It is read again.
    FolderResumed,
    /// The user asked for something that has no event of its own.
    AgentSteered,
    /// Another configuration applies.
    ConfigReloaded,
    /// A configuration was read that cannot be used: the old one applies.
    ConfigRejected,
    /// A gallery was made on a host.
    AlbumOpened,
    /// A gallery has all images of its album.
    AlbumFinished,
    /// A gallery may be on a host twice.
    AlbumDoubtful,
    /// Something of ours went wrong that has no event of its own.
    AgentTrouble,
    /// Lines of the log are missing: nobody took them.
    LogLost,
}

/// What belongs to an event for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// Its name: the field `EVENT`.
    pub name: &'static str,
    /// Its level.
    pub level: Level,
    /// Its 128-bit id in journald's spelling: the field `MESSAGE_ID`.
    pub message_id: &'static str,
}

/// The table, in the order of [`Event`].
pub const TABLE: [Entry; 42] = [
    entry(Event::AgentStarted, "agent-started", Level::INFO, "a65ead82d2384adeba4ce3baa4f28038"),
    entry(Event::AgentReady, "agent-ready", Level::INFO, "3c147f9155494add955e505d351b0e90"),
    entry(Event::AgentStopping, "agent-stopping", Level::INFO, "b1b23bb3b67142d8a0e3569b37c6b10e"),
    entry(Event::AgentStopped, "agent-stopped", Level::INFO, "1786024f711a4365a08e757ae7852d84"),
    entry(Event::AgentRestarting, "agent-restarting", Level::WARN, "30f375281b9245bb8f1fc16a606a06a5"),
    entry(Event::FolderWatching, "folder-watching", Level::INFO, "671f80d977474400b9e8de9ad00bbb0c"),
    entry(Event::FolderPolling, "folder-polling", Level::INFO, "ba35149ae06340fcbaa6a3894470f288"),
    entry(Event::FolderAbsent, "folder-absent", Level::WARN, "4da5997c53bb4f598125785e5071b46c"),
    entry(Event::FolderBack, "folder-back", Level::INFO, "2d64b022dd844a2c92cffbbc6e94c530"),
    entry(Event::WatchOverflow, "watch-overflow", Level::WARN, "1066d10a16ab411baecf74c2cd858a35"),
    entry(Event::WatchLimit, "watch-limit", Level::INFO, "634d49e6d51d462abc73dd0854d7d2fa"),
    entry(Event::JobQueued, "job-queued", Level::INFO, "3b6c6340ae5740ea9e9f2b7bba5ad019"),
    entry(Event::JobStarted, "job-started", Level::DEBUG, "131274d7c38140adafb135dd6eda81d1"),
    entry(Event::JobUploaded, "job-uploaded", Level::INFO, "cb11d457b4004744aac5836ec9f4c666"),
    entry(Event::JobTimeout, "job-timeout", Level::ERROR, "1b41b4fe8ef94a3fafbf4caddae3553c"),
    entry(Event::JobDeferred, "job-deferred", Level::INFO, "828e9893cc394ee08c0514d3910967e6"),
    entry(Event::JobRequeued, "job-requeued", Level::INFO, "1bbc8c21b7bd45d9955091ab277eb517"),
    entry(Event::JobFailed, "job-failed", Level::ERROR, "d29a97d1985245d2af634b65fd01774c"),
    entry(Event::JobCancelled, "job-cancelled", Level::INFO, "8d8af639a4dd4a44991cf8b892046d46"),
    entry(Event::QueueFilling, "queue-filling", Level::WARN, "20bbc0f1d57e4b4da52dcce81f718fe9"),
    entry(Event::QueueDrained, "queue-drained", Level::INFO, "727addc162db48fcad0d1f22d415ea00"),
    entry(Event::HostPaused, "host-paused", Level::WARN, "5f52b70c5b644edb9b10a8cf4d5dfcfa"),
    entry(Event::HostResumed, "host-resumed", Level::INFO, "bec2352a37d64d98865b8d2c34dc627a"),
    entry(Event::CircuitOpen, "circuit-open", Level::WARN, "0d5b2f0f8a3c4d0aa4e2b7c6c1f7e9b3"),
    entry(Event::CircuitHalfOpen, "circuit-half-open", Level::INFO, "4b1e7d92c6f84a5f9d3ab02e58c7f164"),
    entry(Event::CircuitClosed, "circuit-closed", Level::INFO, "e93c5a7718b24f6d8c40f2d1a6b9037e"),
    entry(Event::WindowChanged, "window-changed", Level::DEBUG, "86c297041f334aa5b366f72e7ebc0785"),
    entry(Event::AccountError, "account-error", Level::ERROR, "b675195c72af4352b2b999d9635895b2"),
    entry(Event::DiskBlocked, "disk-blocked", Level::ERROR, "6c68029347584b06a830d922c00c5857"),
    entry(Event::DiskOk, "disk-ok", Level::INFO, "671d4a7cdfd543629ea12e5478e564b5"),
    entry(Event::LedgerRepaired, "ledger-repaired", Level::INFO, "800b12e493bf40a7a065d6ea43451880"),
    entry(Event::ManifestRepaired, "manifest-repaired", Level::INFO, "200c814fe1114ffca8e226cc0cd60bff"),
    entry(Event::FolderPaused, "folder-paused", Level::INFO, "b0a3c7d0c8c04d0a9c6ee2ee5f0d4c51"),
    entry(Event::FolderResumed, "folder-resumed", Level::INFO, "5d7f2be7f5a94d1db3b1f2b7a6d00e62"),
    entry(Event::AgentSteered, "agent-steered", Level::INFO, "c27a4e0b8e3f4b0fa6f6a1c5d9b3e7f4"),
    entry(Event::ConfigReloaded, "config-reloaded", Level::INFO, "e91d6b52f04c4c7f8d5d3a20b7c6f185"),
    entry(Event::ConfigRejected, "config-rejected", Level::ERROR, "7a58c3e1d2b64f9e9b0c4f6e8d1a2b36"),
    entry(Event::AlbumOpened, "album-opened", Level::INFO, "2bdd653ceb8c485290b998460b2cfe32"),
    entry(Event::AlbumFinished, "album-finished", Level::INFO, "2879d8d9406443bd98c2b45069beb44a"),
    entry(Event::AlbumDoubtful, "album-doubtful", Level::WARN, "aff05b1b5e5a4dbe8507663169c1b9d6"),
    entry(Event::AgentTrouble, "agent-trouble", Level::WARN, "6f0d6d5b0c6e4a7f9a39f6f2c9a1d7e4"),
    entry(Event::LogLost, "log-lost", Level::WARN, "f3a1c0e27b584d0d8e64b90d1c25a7f8"),
];

const fn entry(event: Event, name: &'static str, level: Level, message_id: &'static str) -> Entry {
    Entry { event, name, level, message_id }
}

impl Event {
    /// Its row of the table.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }
}

/// What an event is about. What does not apply stays out of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// `JOB`
    pub job: Option<JobId>,
    /// `WORKER_ID`, 1..=workers.
    pub worker_id: Option<usize>,
    /// `SERVICE`: the host.
    pub service: Option<&'a str>,
    /// `FILE`: relative to the drop folder.
    pub file: Option<&'a Path>,
    /// `FOLDER`: the drop folder.
    pub folder: Option<&'a Path>,
    /// `ATTEMPT`: which one, from 1.
    pub attempt: Option<u32>,
    /// `BYTES`
    pub bytes: Option<u64>,
    /// `DURATION_MS`
    pub duration: Option<Duration>,
    /// `HTTP_STATUS`
    pub http_status: Option<u16>,
    /// `QUEUE_DEPTH`
    pub queue_depth: Option<usize>,
    /// `ERROR_CLASS`
    pub error_class: Option<ErrorClass>,
    /// `URL`
    pub url: Option<&'a str>,
    /// `NEXT_TRY_AT`
    pub next_try_at: Option<WallTime>,
}

impl<'a> Fields<'a> {
    /// What every event about `job` has.
    #[must_use]
    pub fn of(job: &'a Job) -> Self {
        Self {
            job: Some(job.id),
            service: Some(&job.host),
            file: Some(&job.name),
            folder: Some(&job.folder),
            ..Self::default()
        }
    }
}

/// Writes one event. `message` says what, where, what was expected and what to do.
pub fn emit(event: Event, fields: &Fields<'_>, message: fmt::Arguments<'_>) {
    super::live::tell(event, fields, message);
    let Entry { name, level, message_id, .. } = *event.entry();
    macro_rules! at {
        ($level:expr) => {
            tracing::event!(
                target: "pixchute",
                $level,
                event = name,
                message_id,
                job = fields.job.map(display),
                worker_id = fields.worker_id,
                service = fields.service,
                file = fields.file.map(|file| display(shown(file))),
                folder = fields.folder.map(|folder| display(shown(folder))),
                attempt = fields.attempt,
                bytes = fields.bytes,
                duration_ms = fields.duration.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
                http_status = fields.http_status,
                queue_depth = fields.queue_depth,
                error_class = fields.error_class.map(ErrorClass::name),
                url = fields.url,
                next_try_at = fields.next_try_at.map(display),
                "{message}"
            )
        };
    }
    match level {
        Level::ERROR => at!(Level::ERROR),
        Level::WARN => at!(Level::WARN),
        Level::INFO => at!(Level::INFO),
        Level::DEBUG => at!(Level::DEBUG),
        _ => at!(Level::TRACE),
    }
}

/// Something of ours went wrong that has no event of its own: a warning with its cause. The same words within a minute are
/// counted instead.
pub fn trouble(what: &str, cause: &dyn fmt::Display) {
    let words = format!("{what}: {cause}");
    super::live::tell(Event::AgentTrouble, &Fields::default(), format_args!("{words}"));
    tell_repeats(Instant::now());
    if repeats().admits(Instant::now(), &words) {
        warn(&words, &visible(&cause.to_string()));
    }
}

/// Tells how often troubles came again whose minute is over at `now`.
fn tell_repeats(now: Instant) {
    let over = repeats().over(now);
    for (words, more) in over {
        warn(&format!("{words} ({more} more times within a minute)"), "");
    }
}

/// Tells what has not been told yet of troubles that came again: at the end.
pub fn settle() {
    tell_repeats(Instant::now() + super::repeats::WINDOW);
}

fn warn(words: &str, cause: &str) {
    let Entry { name, message_id, .. } = *Event::AgentTrouble.entry();
    tracing::warn!(target: "pixchute", event = name, message_id, cause, "{words}");
}

fn repeats() -> MutexGuard<'static, Repeats> {
    static REPEATS: LazyLock<Mutex<Repeats>> = LazyLock::new(Mutex::default);
    REPEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path for people: lossy where it is not UTF-8; characters that control a terminal, end a line or turn the direction of
/// the text are escaped, so that no name can forge a log line.
#[must_use]
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(is_deceptive) { text.escape_debug().to_string() } else { text.into_owned() }
}

/// Text of others with every character escaped that steers a terminal, ends a line or turns the order of letters.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) { visible.extend(c.escape_default()) } else { visible.push(c) }
    }
    visible
}

/// Whether this character changes how the text around it is read or shown.
fn is_deceptive(c: char) -> bool {
    const DIRECTIONS: [char; 12] = [
        '\u{61C}', '\u{200E}', '\u{200F}', '\u{202A}', '\u{202B}', '\u{202C}', '\u{202D}', '\u{202E}', '\u{2066}',
        '\u{2067}', '\u{2068}', '\u{2069}',
    ];
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FEFF}') || DIRECTIONS.contains(&c)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_names_and_ids_are_unique() {
        for entry in &TABLE {
            assert_eq!(entry.event.entry(), entry);
            assert_eq!(entry.message_id.len(), 32, "{}", entry.name);
            assert!(entry.message_id.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
        }
        assert_eq!(TABLE.iter().map(|e| e.name).collect::<HashSet<_>>().len(), TABLE.len());
        assert_eq!(TABLE.iter().map(|e| e.message_id).collect::<HashSet<_>>().len(), TABLE.len());
    }

    #[test]
    fn levels_are_those_of_the_contract() {
        let names = |level| TABLE.iter().filter(|e| e.level == level).map(|e| e.name).collect::<Vec<_>>();
        assert_eq!(
            names(Level::WARN),
            [
                "agent-restarting",
                "folder-absent",
                "watch-overflow",
                "queue-filling",
                "host-paused",
                "circuit-open",
                "album-doubtful",
                "agent-trouble",
                "log-lost"
            ]
        );
        assert_eq!(
            names(Level::ERROR),
            ["job-timeout", "job-failed", "account-error", "disk-blocked", "config-rejected"]
        );
        assert_eq!(names(Level::DEBUG), ["job-started", "window-changed"]);
    }

    #[test]
    fn a_name_cannot_forge_a_log_line() {
        assert_eq!(shown(Path::new("a\nERROR b.png")), "a\\nERROR b.png");
        assert_eq!(shown(Path::new("a\u{202E}gnp.exe")), "a\\u{202e}gnp.exe");
        assert_eq!(shown(Path::new("a\u{2028}b.png")), "a\\u{2028}b.png");
        assert_eq!(shown(Path::new("plain é.png")), "plain é.png");
    }
}
