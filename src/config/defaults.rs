//! What applies where the configuration says nothing. `config/pixchute.toml` shows the same values, and a test compares.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    After, Album, Config, Cooldown, Dedupe, FlowConfig, Folder, HostConfig, HostFlow, Listen, Log, LogFormat, Policy,
    Pool, Retry, WatchMode, paths,
};
use crate::backoff::Backoff;

const fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

impl Default for Config {
    /// All defaults, no folders and no hosts.
    fn default() -> Self {
        Self {
            file: None,
            text: String::new(),
            pool: Pool::default(),
            retry: Retry::default(),
            cooldown: Cooldown::default(),
            flow: FlowConfig::default(),
            ledger: paths::ledger(),
            log: Log::default(),
            listen: Listen::default(),
            control_socket: None,
            folders: Vec::new(),
            hosts: BTreeMap::new(),
            hooks: Vec::new(),
            templates: BTreeMap::new(),
            secret_variables: BTreeSet::new(),
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            workers: 8,
            min_workers: 8,
            max_workers: 8,
            queue: 100,
            queue_warn: 50,
            file_timeout: seconds(180),
            stall_timeout: seconds(30),
            connect_timeout: seconds(10),
            request_timeout: seconds(120),
            min_rate: 100 << 10,
            drain: seconds(20),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        let backoff = Backoff::try_new(seconds(2), 2.0, seconds(30)).expect("0 < 2 s <= 30 s, and the factor is 2");
        Self { attempts: 4, backoff }
    }
}

impl Default for Cooldown {
    fn default() -> Self {
        let backoff =
            Backoff::try_new(seconds(300), 2.0, seconds(21_600)).expect("0 < 5 m <= 6 h, and the factor is 2");
        Self { backoff, requeues: 8 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8421)))
    }
}

impl Folder {
    /// The drop folder `path` (absolute) for `host`, everything else by default.
    #[must_use]
    pub fn new(path: PathBuf, host: &str) -> Self {
        let include = ["*.jpg", "*.jpeg", "*.png", "*.gif", "*.webp"];
        Self {
            host: host.to_owned(),
            also: Vec::new(),
            policy: Policy::Failover,
            album: Album::Off,
            recursive: true,
            follow_symlinks: false,
            include: include.map(str::to_owned).to_vec(),
            exclude: Vec::new(),
            settle: seconds(2),
            watch: WatchMode::Auto,
            poll_interval: seconds(10),
            rescan: seconds(60),
            require_marker: None,
            require_mount: false,
            after: After::Move,
            done: path.join("done"),
            retry: path.join("retry"),
            failed: path.join("failed"),
            manifest: path.join("manifest.jsonl"),
            sidecars: true,
            render: Vec::new(),
            dedupe: Dedupe::Link,
            max_bytes: 100_000_000,
            strip_metadata: false,
            create: false,
            path,
        }
    }

    /// The names of its hosts, in order; at least one.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.host.as_str()).chain(self.also.iter().map(String::as_str))
    }
}

impl HostConfig {
    /// The host `name` without a table: the recipe of that name with its defaults.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            recipe: name.to_owned(),
            base_url: None,
            allow_http: false,
            max_parallel: None,
            rate: None,
            thumbnail: super::Thumbnail::Auto,
            verify: super::Verify::Off,
            fix_extension: false,
            flow: HostFlow::default(),
            options: BTreeMap::new(),
            span: 0..0,
        }
    }
}
