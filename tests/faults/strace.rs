//! `strace` as a saboteur: a call that fails, or a kill at the moment of a call.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scene::Scene;

/// Why nothing can be injected here, if so.
pub(crate) fn missing() -> Option<String> {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "true"])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace does not work here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("strace is not installed ({error})")),
    }
}

/// What happens at the `when`-th call of each thread.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// The names of the calls, with commas between them.
    pub(crate) calls: &'static str,
    /// `error=EIO`, `signal=KILL`, …
    pub(crate) what: &'static str,
    /// `3`: the third; `3+`: each from the third on.
    pub(crate) when: String,
}

impl Fault {
    /// `command` with this fault in it; what happens is written to `trace`.
    pub(crate) fn around(&self, scene: &Scene, command: &Command) -> Command {
        self.around_traced(scene, command, self.calls)
    }

    /// The same, with more calls in the trace.
    pub(crate) fn around_traced(&self, scene: &Scene, command: &Command, traced: &str) -> Command {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-qq", "-o"]).arg(scene.home.path("trace"));
        strace.arg("-e").arg(format!("trace={traced}"));
        strace.arg("-e").arg(format!("inject={}:{}:when={}", self.calls, self.what, self.when));
        strace.arg(command.get_program()).args(command.get_args()).env_clear();
        strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            strace.current_dir(dir);
        }
        strace
    }

    /// The calls of the last run that were hit, whole.
    pub(crate) fn hits(scene: &Scene) -> Vec<String> {
        let trace = fs::read(scene.home.path("trace")).unwrap_or_default();
        let text = String::from_utf8_lossy(&trace);
        let (mut begun, mut hits) = (HashMap::new(), Vec::new());
        for line in text.lines() {
            let thread = line.split_whitespace().next().unwrap_or_default();
            if line.ends_with("<unfinished ...>") {
                begun.insert(thread, line);
            } else if line.contains("(INJECTED)") {
                let start = if line.contains(" resumed>") { begun.remove(thread) } else { None };
                hits.push(format!("{}{line}", start.unwrap_or_default()).chars().take(250).collect());
            }
        }
        hits
    }
}

/// `command` with this fault (as in `strace -e inject`) at the calls that are about `path`.
pub(crate) fn at_path(path: &Path, fault: &str, command: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(path).arg("-e").arg(format!("inject={fault}"));
    strace.arg(command.get_program()).args(command.get_args()).env_clear();
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        strace.current_dir(dir);
    }
    strace
}
