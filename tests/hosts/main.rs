//! Hosts against strict fakes of their protocols, and against everything that can go wrong on the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop where it is")]

mod contracts;
mod fake;
mod galleries;
mod imagebam;
mod imx;
mod misbehaviour;
mod packed;
mod previews;
mod problems;
mod retries;
mod silence;
mod site;
mod stores;
mod sxcu;
mod turbo;
mod verified;
mod vipr;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pixchute::backoff::Backoff;
use pixchute::config::{
    Config, Cooldown, FlowConfig, HostConfig, HostFlow, Listen, Log, LogFormat, Pool, Problem, Retry, Setting,
    Thumbnail, Verify,
};
use pixchute::host::{self, Host, Progress, Source, Upload, wire_name};
use pixchute::job::{ContentHash, Failure, ImageFacts, ImageKind, JobId, Links};
use tempfile::TempDir;
use tokio::time::Instant;

/// The defaults of `config/pixchute.toml` with these hosts.
fn config(hosts: impl IntoIterator<Item = HostConfig>) -> Config {
    let seconds = Duration::from_secs;
    Config {
        file: None,
        text: String::new(),
        pool: Pool {
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
        },
        flow: FlowConfig::default(),
        retry: Retry { attempts: 4, backoff: Backoff::try_new(seconds(2), 2.0, seconds(30)).unwrap() },
        cooldown: Cooldown { backoff: Backoff::try_new(seconds(300), 2.0, seconds(21_600)).unwrap(), requeues: 8 },
        ledger: PathBuf::new(),
        log: Log { format: LogFormat::Auto, level: "info".into() },
        listen: Listen::Off,
        control_socket: None,
        folders: Vec::new(),
        hosts: hosts.into_iter().map(|host| (host.name.clone(), host)).collect(),
        templates: BTreeMap::new(),
        hooks: Vec::new(),
        secret_variables: std::collections::BTreeSet::new(),
    }
}

fn host_config(recipe: &str, base_url: Option<String>, options: &[(&str, &str)]) -> HostConfig {
    let setting = |(at, (name, value)): (usize, &(&str, &str))| {
        let span = at + 1..at + 2;
        (
            (*name).to_owned(),
            Setting { value: (*value).to_owned().into(), origin: "config".into(), span: span.clone(), key_span: span },
        )
    };
    HostConfig {
        name: recipe.rsplit('/').next().unwrap().trim_end_matches(".toml").to_owned(),
        recipe: recipe.to_owned(),
        base_url,
        allow_http: false,
        max_parallel: None,
        rate: None,
        thumbnail: Thumbnail::Auto,
        verify: Verify::Off,
        fix_extension: false,
        flow: HostFlow::default(),
        options: options.iter().enumerate().map(setting).collect::<BTreeMap<_, _>>(),
        span: 0..1,
    }
}

fn build_one(config: &Config) -> Result<Arc<dyn Host>, Vec<Problem>> {
    host::build(config, None).map(|hosts| hosts.into_values().next().expect("one host"))
}

fn a_host(recipe: &str, base_url: String, options: &[(&str, &str)]) -> Arc<dyn Host> {
    build_one(&config([host_config(recipe, Some(base_url), options)])).expect("a good configuration")
}

/// A file with recognisable bytes, open and ready to send.
struct Image {
    upload: Upload,
    bytes: Vec<u8>,
    path: PathBuf,
    _folder: TempDir,
}

impl Image {
    fn new(len: usize) -> Self {
        Self::named("x.png", len)
    }

    fn named(name: &str, len: usize) -> Self {
        Self::with(name, (0..len).map(|i| (i % 251) as u8).collect())
    }

    fn with(name: &str, bytes: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let (source, _) = Source::open(&path, wire_name(&path), ImageKind::Png).unwrap();
        let image = ImageFacts {
            kind: ImageKind::Png,
            width: 3,
            height: 2,
            animated: false,
            hash: ContentHash(*blake3::hash(&bytes).as_bytes()),
        };
        let upload = Upload {
            job: JobId::generate(),
            source: Arc::new(source),
            image,
            progress: Arc::new(Progress::new()),
            doubtful: false,
            deadline: Instant::now() + Duration::from_secs(180),
            gallery: None,
        };
        Self { upload, bytes, path, _folder: folder }
    }

    async fn send(&self, host: &Arc<dyn Host>) -> Result<Links, Failure> {
        host.upload(&self.upload).await
    }
}

/// None of the secrets that a test planted is in what a failure says.
fn no_canary(failure: &Failure) {
    let told = format!("{failure:?}");
    assert!(!told.contains("CANARY"), "{told}");
}
