//! Stand-in for the configuration's reader until it is merged: signatures only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let backoff = |first, max| Backoff::try_new(seconds(first), 2.0, seconds(max)).expect("valid numbers");
        Self {
            file: None,
            text: String::new(),
            pool: Pool {
                workers: 8,
                queue: 100,
                queue_warn: 50,
                file_timeout: seconds(180),
                stall_timeout: seconds(30),
                connect_timeout: seconds(10),
                request_timeout: seconds(120),
                drain: seconds(20),
            },
            retry: Retry { attempts: 4, backoff: backoff(2, 30) },
            cooldown: Cooldown { backoff: backoff(300, 21_600), requeues: 8 },
            ledger: paths::data_dir().join("ledger.db"),
            log: Log { format: LogFormat::Auto, level: "info".into() },
            listen: Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8421))),
            control_socket: None,
            folders: Vec::new(),
            hosts: BTreeMap::new(),
        }
    }
}

/// Reads the configuration.
///
/// # Errors
/// Every mistake at once.
pub fn load(explicit: Option<&Path>) -> Result<Config, ConfigError> {
    let Some(file) = explicit else { return Ok(Config::default()) };
    let problem = |error: std::io::Error| ConfigError {
        file: Some(file.to_owned()),
        text: String::new(),
        problems: vec![Problem {
            span: 0..0,
            key: String::new(),
            message: format!("cannot read {}: {error}", file.display()),
            help: None,
        }],
    };
    let text = std::fs::read_to_string(file).map_err(problem)?;
    Ok(Config { file: Some(file.to_owned()), text, ..Config::default() })
}

/// The file that would be read.
#[must_use]
pub fn find(explicit: Option<&Path>) -> Option<PathBuf> {
    explicit.map(Path::to_owned)
}

/// The configuration of `run DIR…`.
///
/// # Errors
/// Every mistake at once.
pub fn for_directories(base: Config, dirs: &[PathBuf], host: Option<&str>) -> Result<Config, ConfigError> {
    let seconds = Duration::from_secs;
    let folder = |dir: &PathBuf| Folder {
        path: dir.clone(),
        host: host.unwrap_or("local").to_owned(),
        recursive: true,
        include: Vec::new(),
        exclude: Vec::new(),
        settle: seconds(2),
        watch: WatchMode::Auto,
        poll_interval: seconds(10),
        rescan: seconds(60),
        after: After::Move,
        done: dir.join("done"),
        retry: dir.join("retry"),
        failed: dir.join("failed"),
        manifest: dir.join("manifest.jsonl"),
        sidecars: true,
        dedupe: Dedupe::Link,
        max_bytes: 100_000_000,
        create: true,
    };
    let folders = dirs.iter().map(folder).collect();
    Ok(Config { folders, ..base })
}
