//! Secrets that a program gives: one of the user's, or the one that the platform has for its keyring.
//!
//! A program is started without a shell and without our other secrets. It has a deadline, and what it may say has a bound;
//! with its end, everything that it has started ends too. What it prints is shown to nobody.

use std::io::{self, ErrorKind};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::environment::Environment;
use super::problem::escaped;
use super::secret::{MAX_SECRET, Unusable};
use super::value::shown_duration;

/// How long a program may take: time for somebody to unlock a keyring, and less than a service manager waits for a start.
pub(super) const PROGRAM_TIME: Duration = Duration::from_secs(30);

/// How much of what a program complains about is read: its last line is shown.
const MAX_COMPLAINT: u64 = 16 * 1024;

/// What our secrets are filed under in a keyring.
const SERVICE: &str = "pixchute";

/// The program of the platform's keyring, what it is asked, how a secret is put there, and how the program is had.
struct Keyring {
    program: &'static str,
    ask: fn(&str) -> Vec<String>,
    store: fn(&str) -> String,
    install: &'static str,
}

const KEYRING: Keyring = if cfg!(target_os = "macos") {
    Keyring {
        program: "security",
        ask: |name| words(&["find-generic-password", "-s", SERVICE, "-a", name, "-w"]),
        store: |name| format!("security add-generic-password -s {SERVICE} -a '{name}' -w"),
        install: "it is a part of macOS: is /usr/bin in the PATH?",
    }
} else {
    Keyring {
        program: "secret-tool",
        ask: |name| words(&["lookup", "service", SERVICE, "account", name]),
        store: |name| format!("secret-tool store --label='pixchute {name}' service {SERVICE} account '{name}'"),
        install: "install it: the package is called libsecret-tools or libsecret",
    }
};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What the user's own program prints.
pub(super) fn from_program(
    program: &str,
    arguments: &[String],
    env: &Environment<'_>,
) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    // Arguments may be as secret as the secret itself: only the program is named.
    let shown = escaped(program);
    match run(program, arguments, env) {
        Ok(printed) => Ok(printed),
        Err(Trouble::Absent) => Err(Unusable::new(format!("the program {shown} of a secret is not there"))
            .help("name it with its whole path: the agent's PATH may be another one than yours")),
        Err(Trouble::Failed(status, complaint)) => {
            Err(Unusable::new(format!("the program {shown} gave no secret: {}", ended(status, &complaint))))
        }
        Err(other) => Err(Unusable::new(other.told(&format!("the program {shown}")))),
    }
}

/// What the platform's keyring has under `name`.
pub(super) fn from_keyring(name: &str, env: &Environment<'_>) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '/' | ':' | ' ');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(named) {
        let message = format!("found \"{}\" as the name of a secret in the keyring", escaped(name));
        return Err(Unusable::new(format!("{message}, expected letters, digits, blanks and any of -_.@/:")));
    }
    let store = || format!("put it there: {}", (KEYRING.store)(name));
    match run(KEYRING.program, &(KEYRING.ask)(name), env) {
        Ok(printed) if !printed.is_empty() => Ok(printed),
        Ok(_) => Err(Unusable::new(format!("the keyring has no secret {name}")).help(store())),
        Err(Trouble::Failed(_, complaint)) if complaint.is_empty() || complaint.contains("could not be found") => {
            Err(Unusable::new(format!("the keyring has no secret {name}")).help(store()))
        }
        Err(Trouble::Failed(status, complaint)) => {
            let message = format!("the keyring gave no secret {name}: {}", ended(status, &complaint));
            Err(Unusable::new(message).help("is it unlocked, and does the agent run in your session?"))
        }
        Err(Trouble::Absent) => {
            let message = format!("the keyring is asked through the program {}, which is not there", KEYRING.program);
            Err(Unusable::new(message).help(KEYRING.install))
        }
        Err(other) => Err(Unusable::new(other.told(&format!("the keyring's program {}", KEYRING.program)))
            .help("is the keyring unlocked? a locked one waits for somebody to type")),
    }
}

fn ended(status: ExitStatus, complaint: &str) -> String {
    let told = if complaint.is_empty() { String::new() } else { format!(", saying: {complaint}") };
    format!("it ended with {status}{told}")
}

/// Why there is no secret.
enum Trouble {
    Absent,
    NotStarted(io::Error),
    TooLarge,
    Late,
    /// How it ended, and the last line of its complaints.
    Failed(ExitStatus, String),
}

impl Trouble {
    fn told(&self, who: &str) -> String {
        match self {
            Self::Absent => format!("{who} is not there"),
            Self::NotStarted(error) => format!("{who} cannot be run: {error}"),
            Self::TooLarge => format!("{who} printed more than {} KiB", MAX_SECRET / 1024),
            Self::Late => format!("{who} did not end within {} and was killed", shown_duration(PROGRAM_TIME)),
            Self::Failed(status, complaint) => format!("{who} gave no secret: {}", ended(*status, complaint)),
        }
    }
}

/// What the program prints. Blocking, for [`PROGRAM_TIME`] at most.
fn run(program: &str, arguments: &[String], env: &Environment<'_>) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    for name in env.hidden() {
        command.env_remove(name);
    }
    if let Some(places) = env.var("PATH") {
        command.env("PATH", places);
    }
    // A configuration is read within a runtime as well as without one; on a thread of its own this may wait.
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(Trouble::NotStarted)?.block_on(async {
                tokio::time::timeout(PROGRAM_TIME, converse(command)).await.unwrap_or(Err(Trouble::Late))
            })
        });
        reading.join().unwrap_or_else(|_| Err(Trouble::NotStarted(io::Error::other("the thread that asks it failed"))))
    })
}

/// The program's process group: what it has started ends with it.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

async fn converse(mut command: Command) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Trouble::Absent,
        _ => Trouble::NotStarted(error),
    })?;
    let _group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).map(Group);
    let (printed, complaint) = (child.stdout.take(), child.stderr.take());
    let (printed, complaint) = tokio::join!(read(printed, MAX_SECRET + 1), read(complaint, MAX_COMPLAINT));
    let printed = printed.map_err(Trouble::NotStarted)?;
    if printed.len() as u64 > MAX_SECRET {
        return Err(Trouble::TooLarge);
    }
    let status = child.wait().await.map_err(Trouble::NotStarted)?;
    if !status.success() {
        return Err(Trouble::Failed(status, last_line(&complaint.unwrap_or_default(), &printed)));
    }
    Ok(printed)
}

/// Up to `limit` bytes. The room for them is there from the beginning, so that no copy is left behind in memory.
async fn read(from: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    const SPARE: usize = 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(limit).unwrap_or_default() + SPARE));
    if let Some(from) = from {
        from.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The last line of a complaint, without what was printed as the secret.
fn last_line(complaint: &[u8], printed: &[u8]) -> String {
    let complaint = String::from_utf8_lossy(complaint);
    let line = complaint.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let printed = String::from_utf8_lossy(printed);
    let secrets = printed.lines().map(str::trim).filter(|secret| !secret.is_empty());
    escaped(&secrets.fold(line.to_owned(), |line, secret| line.replace(secret, "[secret]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// Whether anything still holds the lock that `lock` describes, waiting for its end.
    fn is_free(lock: &std::fs::File) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            lock.try_lock().is_ok()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_hangs_is_killed_with_what_it_has_started() {
        let lock = tempfile::NamedTempFile::new().expect("a file");
        let name = lock.path().display();
        // Both processes inherit the descriptor, and with it the lock.
        let script = format!("exec 9>'{name}'; flock 9; sleep 4322 & sleep 4322");
        let result = tokio::time::timeout(PROGRAM_TIME, converse(shell(&script))).await;
        assert!(result.is_err(), "the time is over first");
        assert!(is_free(lock.as_file()), "something of it lives on");
    }

    #[tokio::test]
    async fn what_a_program_prints_has_a_bound_and_its_complaint_does_not_repeat_it() {
        assert!(matches!(converse(shell("yes | head -c 65537")).await, Err(Trouble::TooLarge)));
        assert!(matches!(converse(shell("yes")).await, Err(Trouble::TooLarge)), "endless");
        assert_eq!(converse(shell("yes | head -c 65536")).await.ok().map(|printed| printed.len()), Some(65_536));
        let refused = converse(shell("echo geheim; echo 'no geheim for you' >&2; echo >&2; exit 3")).await;
        let Err(Trouble::Failed(status, complaint)) = refused else { panic!("it fails") };
        assert_eq!((status.code(), complaint.as_str()), (Some(3), "no [secret] for you"));
        assert!(matches!(converse(Command::new("/no/such/program")).await, Err(Trouble::Absent)));
        assert!(matches!(converse(Command::new("/etc")).await, Err(Trouble::NotStarted(_))));
    }
}
