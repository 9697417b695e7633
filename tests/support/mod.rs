//! What the tests of the real binary share: a place to live in, a scripted host, images, and waiting with a deadline.

pub(crate) mod host;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for something that should happen soon: far longer than it takes, for a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A home of its own for one agent: configuration, state, data, drop folder.
pub(crate) struct Home {
    pub dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(dir.path().join("drop")).expect("a drop folder");
        fs::create_dir_all(dir.path().join("run")).expect("a runtime folder");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The drop folder.
    pub(crate) fn drop(&self) -> PathBuf {
        self.path("drop")
    }

    /// Writes the configuration: one folder for `host`, fast settling, and `more`.
    pub(crate) fn configure(&self, host: &host::FakeHost, more: &str) -> PathBuf {
        self.configure_folder(host, more, "")
    }

    /// The same with more keys for the folder.
    pub(crate) fn configure_folder(&self, host: &host::FakeHost, more: &str, folder: &str) -> PathBuf {
        self.configure_hosts(&[("pixhost", host)], more, folder)
    }

    /// A folder per host: `drop` for the first, a folder with the host's name for each other one.
    pub(crate) fn configure_hosts(&self, hosts: &[(&str, &host::FakeHost)], more: &str, folder: &str) -> PathBuf {
        let mut text = format!("{more}\n[server]\nlisten = \"off\"\n");
        for (index, (name, host)) in hosts.iter().enumerate() {
            let path = if index == 0 { self.drop() } else { self.path(name) };
            fs::create_dir_all(&path).expect("a drop folder");
            let url = host.url();
            let _ = write!(
                text,
                "[[folder]]\npath = {path:?}\nhost = \"{name}\"\nsettle = \"200ms\"\n{folder}\n[host.{name}]\nrecipe = \"pixhost\"\nbase_url = \"{url}\"\n"
            );
        }
        self.write_config(&text)
    }

    pub(crate) fn write_config(&self, text: &str) -> PathBuf {
        let path = self.path("config.toml");
        fs::write(&path, text).expect("writes the configuration");
        path
    }

    /// A command with this home and nothing of the real user's.
    pub(crate) fn command(&self) -> Command {
        // Another build of the program can be tried by naming it.
        let program = std::env::var_os("PIXCHUTE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_pixchute").into());
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.path("xdg-config"))
            .env("XDG_STATE_HOME", self.path("xdg-state"))
            .env("XDG_DATA_HOME", self.path("xdg-data"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir(self.dir.path());
        command
    }

    /// Starts the agent with the configuration of this home; its log goes to `agent.log`.
    pub(crate) fn start(&self) -> Agent {
        self.start_with(&["--config", "config.toml", "run"])
    }

    pub(crate) fn start_with(&self, arguments: &[&str]) -> Agent {
        let mut command = self.command();
        command.args(arguments);
        self.spawn(command)
    }

    /// Starts it by this command.
    pub(crate) fn spawn(&self, mut command: Command) -> Agent {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).expect("a log");
        let log_start = log.metadata().expect("its length").len();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        Agent { child, log: self.path("agent.log"), log_start }
    }

    /// Runs a command to its end: exit code, stdout, stderr.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command().args(arguments).output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Puts a file into the drop folder by renaming it in, complete at once.
    pub(crate) fn drop_file(&self, name: impl AsRef<OsStr>, bytes: &[u8]) {
        self.drop_into("drop", name, bytes);
    }

    /// The same for another folder.
    pub(crate) fn drop_into(&self, folder: &str, name: impl AsRef<OsStr>, bytes: &[u8]) {
        let waiting = self.path("not-yet");
        fs::write(&waiting, bytes).expect("writes a file");
        let target = self.path(folder).join(name.as_ref());
        fs::create_dir_all(target.parent().expect("has one")).expect("a sub-folder");
        #[expect(clippy::disallowed_methods, reason = "tests drop files as users do")]
        fs::rename(&waiting, &target).expect("renames it in");
    }

    /// How many whole lines the manifest has, without reading them.
    pub(crate) fn manifest_lines(&self) -> usize {
        let text = fs::read(self.drop().join("manifest.jsonl")).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Every whole line of the manifest.
    pub(crate) fn manifest(&self) -> Vec<Value> {
        manifest(&self.drop().join("manifest.jsonl"))
    }

    /// Waits until the manifest has `count` lines of this file, and gives the last of them.
    pub(crate) fn wait_for_line(&self, file: &str, count: usize) -> Value {
        let mut lines = Vec::new();
        wait_for(&format!("line {count} of {file}"), || {
            lines = self.lines_of(file);
            lines.len() >= count
        });
        lines.swap_remove(count - 1)
    }

    /// Waits until so many files have a final line.
    pub(crate) fn wait_for_finals(&self, count: usize) {
        wait_for(&format!("{count} final lines"), || {
            self.manifest().iter().filter(|line| is_final(line)).count() >= count
        });
    }

    /// The content of the drop folder: relative names of all files but the manifest, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut dirs = vec![self.drop()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("a folder").flatten() {
                if entry.path().is_dir() {
                    dirs.push(entry.path());
                } else {
                    names.push(entry.path().strip_prefix(self.drop()).expect("below").to_string_lossy().into_owned());
                }
            }
        }
        names.retain(|name| name != "manifest.jsonl");
        names.sort();
        names
    }

    /// The sidecar of an image, by its place in the drop folder.
    pub(crate) fn sidecar(&self, image: &str) -> Value {
        let text = fs::read(self.drop().join(format!("{image}.json"))).expect("a sidecar");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The manifest lines of one file.
    pub(crate) fn lines_of(&self, file: &str) -> Vec<Value> {
        self.manifest().into_iter().filter(|line| line["file"] == file).collect()
    }

    /// The events of this name in the log of all agents of this home.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("agent.log")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.filter_map(|line| serde_json::from_str(line).ok()).filter(|line: &Value| line["event"] == name).collect()
    }

    /// The events of this name about this file; there must be one soon.
    pub(crate) fn events_of(&self, name: &str, file: &str) -> Vec<Value> {
        let mut found = Vec::new();
        wait_for(&format!("the event {name} of {file}"), || {
            found = self.events(name);
            found.retain(|event| event["file"] == file);
            !found.is_empty()
        });
        found
    }
}

/// Whether nothing more will be said about this job.
pub(crate) fn is_final(line: &Value) -> bool {
    ["uploaded", "linked", "failed"].iter().any(|status| line["status"] == *status)
}

/// A time of a manifest line, in milliseconds.
pub(crate) fn millis(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("a time, not {time}"));
    text.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
}

/// Every whole line of a manifest.
pub(crate) fn manifest(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("a broken line ({error}): {line}")))
        .collect()
}

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    pub child: Child,
    log: PathBuf,
    /// Where its part of the log begins.
    log_start: u64,
}

impl Agent {
    /// Waits until the agent has logged that it is ready.
    pub(crate) fn ready(self) -> Self {
        wait_for("the agent to be ready", || self.log_text().contains("agent-ready"));
        self
    }

    pub(crate) fn log_text(&self) -> String {
        let mut file = fs::File::open(&self.log).expect("its log");
        file.seek(SeekFrom::Start(self.log_start)).expect("a file");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("UTF-8");
        text
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success(), "kill {signal}");
    }

    /// Asks it to stop and waits for it.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.wait()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kills it");
        self.child.wait().expect("reaps it");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the agent to end", || {
            status = self.child.try_wait().expect("asks for its state");
            status.is_some()
        });
        status.expect("just seen")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What a test that falls leaves to find out why.
            let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("the end of its log:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds, for [`SOON`] at most.
pub(crate) fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_for_within(SOON, what, condition);
}

/// Waits until `condition` holds, for `limit` at most.
#[expect(clippy::disallowed_methods, reason = "tests measure real time")]
pub(crate) fn wait_for_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = SystemTime::now();
    while !condition() {
        assert!(began.elapsed().unwrap_or_default() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A small valid PNG; different for every seed.
pub(crate) fn png(seed: u32) -> Vec<u8> {
    let [a, b, c, d] = seed.to_le_bytes();
    let image = image::RgbImage::from_fn(8, 8, |x, y| {
        image::Rgb([a ^ u8::try_from(x).expect("small"), b ^ u8::try_from(y).expect("small"), c.wrapping_add(d)])
    });
    encode(&image, image::ImageFormat::Png)
}

/// A small valid image of this format; different for every seed.
pub(crate) fn picture(seed: u8, format: image::ImageFormat) -> Vec<u8> {
    encode(&image::RgbImage::from_pixel(32, 24, image::Rgb([seed, 90, 200])), format)
}

fn encode(image: &image::RgbImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

/// A valid JPEG of about `size` bytes: a small picture with comment segments in it. Different for every seed.
pub(crate) fn jpeg(size: usize, seed: u64) -> Vec<u8> {
    const SEGMENT: usize = 65_000;
    let small = picture(u8::try_from(seed % 251).expect("small"), image::ImageFormat::Jpeg);
    let mut bytes = small[..2].to_vec();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while bytes.len() + small.len() < size {
        let length = (size - bytes.len() - small.len()).clamp(16, SEGMENT);
        bytes.extend([0xFF, 0xFE]);
        bytes.extend(u16::try_from(length + 2).expect("a segment").to_be_bytes());
        for _ in 0..length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Never 0xFF, so that nothing in it looks like a marker.
            bytes.push(u8::try_from(state % 255).expect("below 255"));
        }
    }
    bytes.extend(&small[2..]);
    bytes
}
