//! The configuration: TOML in, validated types out, every mistake at once.
//!
//! [`load`] finds and reads the file; [`Config::default`] is what applies without one. All limits are checked here and
//! nowhere else, so the rest of the program needs no second look. Recipes check their own options, see
//! [`crate::host`]: a [`Setting`] therefore remembers where it stood, and a [`Draft`] collects what they find.
//!
//! It owns the words of the file and never touches what they name: of all paths only the configuration itself and
//! secret files are opened, and nothing is started but the program of a secret. Two names of one folder (links) are not noticed.

mod defaults;
mod difference;
mod draft;
mod environment;
mod fetch;
mod flow;
mod folder;
mod hook;
mod host;
mod load;
pub mod paths;
pub mod problem;
pub mod secret;
mod section;
mod template;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::backoff::Backoff;
pub use difference::{Change, alike, difference};
pub use draft::Draft;
pub use flow::{FailureRule, FlowConfig, HostFlow, Quota};
pub use hook::{Hook, HookAction, MANIFEST_FIELDS, OUTCOMES};
pub use load::{draft, find, for_directories, load, outline, outline_for, parse};
pub use problem::{ConfigError, Problem};
pub use secret::Setting;
pub use template::{Escape, FORMATS, Rendering, Template, TemplateText};

/// Everything a user can set.
#[derive(Clone)]
pub struct Config {
    /// The file it was read from; `None` for the built-in defaults.
    pub file: Option<PathBuf>,
    /// The text it was read from, for messages about it.
    pub text: String,
    /// `[pool]`
    pub pool: Pool,
    /// `[retry]`: of single requests.
    pub retry: Retry,
    /// `[cooldown]`: of whole files.
    pub cooldown: Cooldown,
    /// `[flow]`
    pub flow: FlowConfig,
    /// `[ledger]`: the database file.
    pub ledger: PathBuf,
    /// `[log]`
    pub log: Log,
    /// `[server] listen`
    pub listen: Listen,
    /// `[control] socket`; `None` is `"auto"`.
    pub control_socket: Option<PathBuf>,
    /// `[[folder]]`
    pub folders: Vec<Folder>,
    /// `[[hook]]`
    pub hooks: Vec<Hook>,
    /// `[host.NAME]`, and the hosts that folders name without a table of their own.
    pub hosts: BTreeMap<String, HostConfig>,
    /// `[template.NAME]`
    pub templates: BTreeMap<String, Template>,
    /// The environment variables that hold secrets: no program that is started gets to see them.
    pub secret_variables: BTreeSet<String>,
}

/// Without the text: it may hold secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("file", &self.file)
            .field("pool", &self.pool)
            .field("retry", &self.retry)
            .field("cooldown", &self.cooldown)
            .field("flow", &self.flow)
            .field("ledger", &self.ledger)
            .field("log", &self.log)
            .field("listen", &self.listen)
            .field("control_socket", &self.control_socket)
            .field("folders", &self.folders)
            .field("hosts", &self.hosts)
            .field("templates", &self.templates)
            .finish_non_exhaustive()
    }
}

/// `[pool]`: the bounded worker pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Files in flight at the start, 1..=256.
    pub workers: usize,
    /// As few as this when there is little to do; `workers` if not set.
    pub min_workers: usize,
    /// As many as this when there is much to do; `workers` if not set.
    pub max_workers: usize,
    /// Jobs in memory waiting for a worker, 1..=10,000.
    pub queue: usize,
    /// The depth at which `queue-filling` is logged.
    pub queue_warn: usize,
    /// Hard deadline of one attempt.
    pub file_timeout: Duration,
    /// No byte in either direction for so long ends a request.
    pub stall_timeout: Duration,
    /// Name look-up, TCP and TLS.
    pub connect_timeout: Duration,
    /// One HTTP request.
    pub request_timeout: Duration,
    /// A body that keeps moving at this many bytes a second is not cut by `request_timeout` or `file_timeout` before it
    /// could arrive at this rate; 0 for none.
    pub min_rate: u64,
    /// How long running attempts may finish at shutdown.
    pub drain: Duration,
}

/// `[retry]`: tries of one request inside the file's deadline.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How often a request is sent at most, 1..=20.
    pub attempts: u32,
    /// The pauses between them.
    pub backoff: Backoff,
}

/// `[cooldown]`: rests of whole files.
#[derive(Clone, Debug, PartialEq)]
pub struct Cooldown {
    /// The pauses.
    pub backoff: Backoff,
    /// How often a file is queued again before it goes to `failed/`.
    pub requeues: u32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where and how.
    pub format: LogFormat,
    /// A `tracing` filter: `info`, or `info,pixchute=debug`.
    pub level: String,
}

/// `[log] format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// journald under systemd, pretty on a terminal, else JSON.
    Auto,
    /// Native fields to the journal.
    Journald,
    /// Readable lines on stderr.
    Pretty,
    /// One JSON object a line on stderr.
    Json,
}

/// `[server] listen`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// No server: the `local` host cannot be used.
    Off,
    /// A Unix socket beside that of the commands, for its user alone.
    Unix,
    /// A loopback address.
    Tcp(SocketAddr),
}

/// `[[folder]]`: one drop folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    /// The drop folder, absolute.
    pub path: PathBuf,
    /// The host its images go to; the first of several.
    pub host: String,
    /// Its further hosts, in order; empty unless `hosts` names several.
    pub also: Vec<String>,
    /// Which of several hosts gets a file.
    pub policy: Policy,
    /// What is an album.
    pub album: Album,
    /// Whether sub-folders are watched too.
    pub recursive: bool,
    /// Whether symbolic links in it are followed.
    pub follow_symlinks: bool,
    /// File name patterns that are taken, without regard to case.
    pub include: Vec<String>,
    /// File name patterns that are not, on top of the built-in ones.
    pub exclude: Vec<String>,
    /// Quiet time for files whose end cannot be seen.
    pub settle: Duration,
    /// How changes are noticed.
    pub watch: WatchMode,
    /// Time between two looks when polling.
    pub poll_interval: Duration,
    /// Time between two reconciling scans.
    pub rescan: Duration,
    /// A name that must be in the folder, or it counts as absent.
    pub require_marker: Option<String>,
    /// The folder counts as absent while nothing is mounted on it.
    pub require_mount: bool,
    /// What happens to an uploaded file.
    pub after: After,
    /// Where uploaded files go, absolute.
    pub done: PathBuf,
    /// Where resting files go, absolute.
    pub retry: PathBuf,
    /// Where given-up files go, absolute.
    pub failed: PathBuf,
    /// The manifest file, absolute.
    pub manifest: PathBuf,
    /// Whether each image gets a JSON record beside it.
    pub sidecars: bool,
    /// The link files that are kept up to date.
    pub render: Vec<Rendering>,
    /// What happens to a content that this host has already.
    pub dedupe: Dedupe,
    /// Larger files are refused.
    pub max_bytes: u64,
    /// Whether metadata is removed from what is sent.
    pub strip_metadata: bool,
    /// Make the folder if it does not exist (only `run DIR` sets it).
    pub create: bool,
}

/// `policy = "failover" | "mirror" | "round_robin"`: which of the `hosts` gets a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The first one that can take it.
    Failover,
    /// Each.
    Mirror,
    /// They take turns.
    RoundRobin,
}

/// `album = "off" | "subfolder"`: what is an album.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Album {
    /// Nothing.
    Off,
    /// The images of each folder that lies in the drop folder.
    Subfolder,
}

/// `watch = "auto" | "native" | "poll"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// Native where the file system delivers events, else polling.
    Auto,
    /// Native, whatever the file system is.
    Native,
    /// Polling.
    Poll,
}

/// `after = "move" | "keep" | "delete"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// To `done/`.
    Move,
    /// It stays; the ledger knows it is done.
    Keep,
    /// It is removed once ledger and manifest are on disk.
    Delete,
}

/// `dedupe = "link" | "upload" | "skip"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedupe {
    /// The known URL is repeated with status `linked`; no request.
    Link,
    /// It is uploaded again.
    Upload,
    /// Like `Link`, but without a manifest line.
    Skip,
}

/// `[host.NAME]`
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The key of the table.
    pub name: String,
    /// `recipe`, or the name: a built-in recipe, one of the user's recipe folder, or a path to a `.toml` file.
    pub recipe: String,
    /// Overrides the recipe's.
    pub base_url: Option<String>,
    /// Plain http to other than loopback is wanted.
    pub allow_http: bool,
    /// Ceiling of the host's window; the pool's `workers` if not set.
    pub max_parallel: Option<usize>,
    /// Uploads begun per second; unlimited if not set.
    pub rate: Option<Rate>,
    /// Whether thumbnails are made for it, and where they go.
    pub thumbnail: Thumbnail,
    /// Whether its links are looked at before they count.
    pub verify: Verify,
    /// The sent name's extension follows the content.
    pub fix_extension: bool,
    /// Its other limits, and what its failures mean.
    pub flow: HostFlow,
    /// All other keys: the recipe's options.
    pub options: BTreeMap<String, Setting>,
    /// Where the table, or the folder that names this host, stands in [`Config::text`].
    pub span: Range<usize>,
}

/// `thumbnail = "auto" | "off" | "upload" | "local"`: for images of which the host makes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thumbnail {
    /// Stored beside the image by `s3` and `webdav`; none elsewhere.
    #[default]
    Auto,
    /// None.
    Off,
    /// Uploaded to the same host, as an image of its own.
    Upload,
    /// Kept and served by this machine.
    Local,
}

/// `verify = "off" | "head" | "get"`: how the link to an image is looked at before it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Not at all.
    #[default]
    Off,
    /// Its answer is asked for without the image.
    Head,
    /// The image is fetched.
    Get,
}

/// `rate = "2/s"` and `burst = 5`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Time between two uploads on average.
    pub every: Duration,
    /// How many may follow each other at once after a rest, at least 1.
    pub burst: u32,
}
