//! The scene of a trial: a handful of files, a host, a run with a fault, runs without one, and the sum.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, is_final, manifest, png, wait_for_within};

/// How long a run with a fault may take: a blocked disk is tried again every other second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs without a fault after the one with it. One must do; the others tell a stuck file from a late one.
const RESTARTS: usize = 3;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By a signal.
    Killed,
    /// Not within [`PATIENCE`]: it was killed then.
    Hung,
}

/// Whether each moment is to be tried, or some.
pub(crate) fn all() -> bool {
    std::env::var("PIXCHUTE_FAULTS").is_ok_and(|value| value == "all")
}

/// The place of a trial.
pub(crate) struct Scene {
    pub(crate) home: Home,
    pub(crate) host: FakeHost,
    /// Name in the drop folder, content.
    files: Vec<(&'static str, Vec<u8>)>,
}

/// What is in no way an image.
const TEXT: &[u8] = b"this is no image, whatever its name says";

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with("", "")
    }

    /// With more keys at the top, and for the folder.
    pub(crate) fn with(more: &str, folder: &str) -> Self {
        let scene = Self::empty(more, folder);
        scene.drop_files();
        scene
    }

    /// With a host of its own.
    pub(crate) fn with_host(script: impl Fn(&str) -> Reply + Send + Sync + 'static, more: &str, folder: &str) -> Self {
        let scene = Self::before(FakeHost::start(script), more, folder);
        scene.drop_files();
        scene
    }

    /// Before the files are dropped.
    pub(crate) fn empty(more: &str, folder: &str) -> Self {
        Self::before(FakeHost::well(), more, folder)
    }

    fn before(host: FakeHost, more: &str, folder: &str) -> Self {
        let home = Home::new();
        let short =
            "[retry]\nbackoff = \"20ms\"\nmax_backoff = \"40ms\"\n[cooldown]\nfirst = \"100ms\"\nmax = \"1s\"\n";
        home.configure_folder(&host, &format!("{short}{more}"), folder);
        let files = vec![
            ("a.png", png(1)),
            ("b.png", png(2)),
            ("trip/c d.png", png(3)),
            ("twin.png", png(1)),
            ("text.png", TEXT.to_vec()),
        ];
        Self { home, host, files }
    }

    pub(crate) fn drop_files(&self) {
        self.drop_files_and(|| ());
    }

    /// The same for a file system of its own, and something to do before the files are there.
    pub(crate) fn drop_files_and<T>(&self, before: impl FnOnce() -> T) {
        let drop = self.home.drop();
        let hidden = |name: &str| drop.join(name).with_file_name(format!(".{}.tmp", name.replace('/', "-")));
        for (name, bytes) in &self.files {
            fs::create_dir_all(drop.join(name).parent().expect("has one")).expect("a sub-folder");
            fs::write(hidden(name), bytes).expect("writes a file");
        }
        before();
        for (name, _) in &self.files {
            #[expect(clippy::disallowed_methods, reason = "tests drop files as users do")]
            fs::rename(hidden(name), drop.join(name)).expect("renames it in");
        }
    }

    /// Runs a command to its end, for [`PATIENCE`] at most; its output is appended to `agent.log`.
    pub(crate) fn run(&self, command: &mut Command) -> Ended {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.path("agent.log")).expect("a log");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the command starts");
        let mut status = None;
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for_within(PATIENCE, "the end of a run", || {
                status = child.try_wait().expect("its state");
                status.is_some()
            });
        }));
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
            return Ended::Hung;
        }
        status.and_then(|status| status.code()).map_or(Ended::Killed, Ended::Code)
    }

    /// A run of the agent until all is done.
    pub(crate) fn once(&self) -> Command {
        let mut command = self.home.command();
        command.args(["--config", "config.toml", "run", "--once"]);
        command
    }

    /// Runs without a fault until the sum is right; how many runs that took, or what is wrong.
    pub(crate) fn settle(&self, twice: usize) -> Result<usize, Vec<String>> {
        for restarts in 0..=RESTARTS {
            let problems = self.problems(twice);
            if problems.is_empty() {
                return Ok(restarts);
            }
            if restarts == RESTARTS {
                return Err(problems);
            }
            let ended = self.run(&mut self.once());
            if !matches!(ended, Ended::Code(0 | 1)) {
                return Err(vec![format!("a run without a fault ended with {ended:?}")]);
            }
        }
        unreachable!("the last round returns")
    }

    /// Everything that is not as it should be. Each content may have been sent `twice` times more than once.
    pub(crate) fn problems(&self, twice: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let drop = self.home.drop();
        let lines = match read_lines(&drop.join("manifest.jsonl")) {
            Ok(lines) => lines,
            Err(broken) => return vec![broken],
        };
        let seqs: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
        if !seqs.windows(2).all(|pair| pair[0] < pair[1]) {
            problems.push(format!("the numbers do not rise: {seqs:?}"));
        }
        let mut expected: Vec<PathBuf> = vec![drop.join("manifest.jsonl")];
        for (name, bytes) in &self.files {
            let finals: Vec<&Value> = lines.iter().filter(|line| line["file"] == *name && is_final(line)).collect();
            match finals[..] {
                [line] => {
                    let place = drop.join(line["moved_to"].as_str().unwrap_or(name));
                    expected.push(place.clone());
                    expected.push(sidecar(&place));
                    problems.extend(wrong_with(line, name, bytes, &place));
                }
                _ => problems.push(format!("{name} has {} final lines", finals.len())),
            }
        }
        let there = all_files(&drop);
        problems.extend(
            there
                .iter()
                .filter(|path| !expected.contains(path) && !is_torn(path) && !path.ends_with(".filler.tmp"))
                .map(|path| format!("{} is left over", path.display())),
        );
        problems.extend(
            expected.iter().filter(|path| !there.contains(path)).map(|path| format!("{} is missing", path.display())),
        );
        problems.extend(self.sent_too_often(twice));
        problems
    }

    fn sent_too_often(&self, twice: usize) -> Vec<String> {
        let mut times: HashMap<Vec<u8>, usize> = HashMap::new();
        for received in self.host.received() {
            *times.entry(received.file).or_default() += 1;
        }
        let known = |bytes: &Vec<u8>| self.files.iter().find(|(_, content)| content == bytes).map(|(name, _)| *name);
        let check = |(bytes, count): (&Vec<u8>, &usize)| match known(bytes) {
            None => Some("the host received what is no file".to_owned()),
            Some(name) if *count > 1 + twice => Some(format!("{name} was sent {count} times")),
            Some(_) => None,
        };
        times.iter().filter_map(check).collect()
    }
}

fn wrong_with(line: &Value, name: &str, bytes: &[u8], place: &Path) -> Option<String> {
    let slug: String =
        name.rsplit('/').next()?.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let of = |slug: &str| format!("https://pixhost.to/show/7/1_{slug}");
    let right = match name {
        "text.png" => line["status"] == "failed" && line["url"].is_null(),
        // One of the two was sent, the other got its link; after a fault perhaps each was sent.
        "a.png" | "twin.png" => line["url"] == of("a.png") || line["url"] == of("twin.png"),
        _ => line["status"] == "uploaded" && line["url"] == of(&slug),
    };
    if !right {
        return Some(format!("{name} has the line {line}"));
    }
    if fs::read(place).ok().as_deref() != Some(bytes) {
        return Some(format!("{name} does not lie in {}", place.display()));
    }
    let record: Option<Value> = fs::read(sidecar(place)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    match record {
        Some(record) if record["url"] == line["url"] && record["job"] == line["job"] => None,
        record => Some(format!("the sidecar of {name} is {record:?}")),
    }
}

fn sidecar(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

/// What a manifest repair has saved.
fn is_torn(path: &Path) -> bool {
    path.to_string_lossy().ends_with("manifest.jsonl.torn")
}

fn read_lines(path: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    if !(text.is_empty() || text.ends_with('\n')) {
        return Err("the last line of the manifest has no end".to_owned());
    }
    std::panic::catch_unwind(|| manifest(path)).map_err(|_| "the manifest has a broken line".to_owned())
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .flatten()
        .filter(|entry| !entry.file_type().is_dir())
        .map(walkdir::DirEntry::into_path)
        .collect()
}
