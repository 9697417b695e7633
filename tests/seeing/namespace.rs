//! A mount namespace: what is mounted in it, nobody else sees, and it ends with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Agent, Home, wait_for};

/// A namespace that a sleeping process holds open.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// A new one; `None`, with the reason said, where this user may not have one.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let mut can = Command::new("unshare");
        can.args(["--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"]);
        if !quietly(can) {
            eprintln!(
                "SKIPPED: {test}: mounting in a namespace of one's own needs Linux, root, unshare(1) and nsenter(1)"
            );
            return None;
        }
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let namespace = Self { holder };
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        wait_for("the namespace", || {
            let there = of(&namespace.holder.id().to_string());
            there.is_some() && there != of("self")
        });
        Some(namespace)
    }

    /// `program` with the namespace's mounts.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.holder.id().to_string(), "--", program]);
        command
    }

    /// Runs a line of shell in it, which must succeed.
    pub(crate) fn sh(&self, line: &str) {
        let status = self.command("sh").args(["-ec", line]).status().expect("sh runs");
        assert!(status.success(), "{line}");
    }

    /// A path as it is seen in it.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(relative)
    }

    /// Starts the agent of `home` in it.
    pub(crate) fn start(&self, home: &Home) -> Agent {
        let id = self.holder.id().to_string();
        start_under(home, &["nsenter", "-m", "-t", &id, "--"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Starts the agent of `home` by way of another program, whose arguments end where those of the agent begin.
pub(crate) fn start_under(home: &Home, by: &[&str]) -> Agent {
    let agent = home.command();
    let mut command = Command::new(by[0]);
    // nsenter goes to the root of the file system: no relative path.
    command
        .args(&by[1..])
        .arg(agent.get_program())
        .arg("--config")
        .arg(home.path("config.toml"))
        .arg("run")
        .env_clear();
    command.envs(agent.get_envs().filter_map(|(key, value)| value.map(|value| (key, value))));
    command.current_dir(home.dir.path());
    home.spawn(command)
}

/// Whether the command succeeds; what it says is not shown.
pub(crate) fn quietly(mut command: Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|it| it.success())
}
