//! Hooks: programs and addresses that are told what became of a file.
//!
//! They can neither slow nor stop anything: the recorder puts a call into a bounded queue and goes on; when the queue is
//! full the call is refused, counted, and said. One task works the queue off, [`AT_ONCE`] at a time, each try under the
//! hook's own time-out. A program that does not end in time is killed with everything it has started.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use crate::config::{Hook, HookAction};
use crate::host::webhook;
use crate::record::Record;
use crate::telemetry::trouble;

/// Calls that may wait: a record each, a megabyte or two. Refused are the newest.
const WAITING: usize = 1_024;

/// Hooks that run at the same time: enough that one that hangs does not hold up the others, few enough for a small machine.
const AT_ONCE: usize = 4;

/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long hooks may go on when the agent stops.
const AT_THE_END: Duration = Duration::from_secs(2);

/// One outcome for one hook.
#[derive(Debug)]
struct Call {
    hook: Hook,
    record: Arc<Record>,
}

/// The queue's two ends, and what did not fit.
#[derive(Debug)]
pub(super) struct Hooks {
    calls: mpsc::Sender<Call>,
    waiting: Mutex<Option<mpsc::Receiver<Call>>>,
    refused: AtomicU64,
}

impl Default for Hooks {
    fn default() -> Self {
        let (calls, waiting) = mpsc::channel(WAITING);
        Self { calls, waiting: Mutex::new(Some(waiting)), refused: AtomicU64::new(0) }
    }
}

impl Shared {
    /// Calls the hooks that want to know of this outcome. Waits for nobody.
    pub(super) fn call_hooks(&self, record: &Record) {
        let config = self.config();
        let mut wanted = config.hooks.iter().filter(|hook| hook.on.iter().any(|word| word == record.status.name()));
        let Some(first) = wanted.next() else { return };
        let record = Arc::new(record.clone());
        for hook in std::iter::once(first).chain(wanted) {
            let call = Call { hook: hook.clone(), record: Arc::clone(&record) };
            if self.hooks.calls.try_send(call).is_err() {
                let refused = self.hooks.refused.fetch_add(1, Ordering::Relaxed) + 1;
                // Once per power of two: a hook that hangs must not fill the log either.
                if refused.is_power_of_two() {
                    let cause = format!("{refused} calls were refused since the start");
                    trouble(&format!("hooks are too slow: {WAITING} calls wait, newer ones are left out"), &cause);
                }
            }
        }
    }
}

/// The task that works the queue off until `end`; what is left then is dropped and said.
pub(super) async fn keep(shared: Arc<Shared>, end: CancellationToken) {
    let Some(mut waiting) = shared.hooks.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(call) = waiting.recv(), if running.len() < AT_ONCE => running.push(run(&shared, call)),
            Some(()) = running.next(), if !running.is_empty() => {}
            () = end.cancelled() => break,
        }
    }
    let rest = async {
        loop {
            while running.len() < AT_ONCE
                && let Ok(call) = waiting.try_recv()
            {
                running.push(run(&shared, call));
            }
            if running.next().await.is_none() {
                return;
            }
        }
    };
    if tokio::time::timeout(AT_THE_END, rest).await.is_err() {
        let left = running.len() + waiting.len();
        trouble("hooks were cut off at the end", &format!("{left} calls were not finished"));
    }
}

/// All tries of one call.
async fn run(shared: &Shared, call: Call) {
    let Call { hook, record } = call;
    let (mut pause, mut tries) = (FIRST_PAUSE, 0);
    loop {
        let failed = match &hook.action {
            HookAction::Exec(words) => exec(words, &record, hook.timeout, &shared.config().secret_variables).await,
            HookAction::Webhook(address) => {
                let pool = &shared.config().pool;
                let posted = webhook::post(address, public(&record).to_string(), hook.timeout, pool).await;
                posted.map_err(|refused| (format!("the webhook failed: {}", refused.reason), refused.again))
            }
        };
        let Err((reason, again)) = failed else { return };
        tries += 1;
        if !again || tries > hook.retries {
            let what = format!("a hook for {} gave up after {tries} tries", record.file.escape_debug());
            return trouble(&what, &reason);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// The record without what deletes the image: a hook gets that only by naming it.
fn public(record: &Record) -> Value {
    let mut value: Value = serde_json::from_str(&record.json()).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("delete_url");
        fields.remove("delete_token");
    }
    value
}

/// One argument: fields of the record by name, nothing for those that are null.
fn argument(word: &str, record: &Record) -> Result<String, String> {
    let mut value: Value = serde_json::from_str(&record.json()).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        // `{{ error.message }}` of a hook for successes and failures is nothing for a success.
        fields.entry("error").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    let text = minijinja::Environment::new()
        .render_str(word, minijinja::value::Serde(&value))
        .map_err(|error| error.to_string())?;
    // No argument can hold a zero byte, and no link has one.
    Ok(text.replace('\0', ""))
}

/// A program's process group: it and what it has started end with this.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Starts the program without a shell and without the variables that hold secrets, gives it the record, and waits for its end. The flag: whether to try again.
async fn exec(
    words: &[String],
    record: &Record,
    limit: Duration,
    hidden: &BTreeSet<String>,
) -> Result<(), (String, bool)> {
    let arguments: Vec<String> =
        words.iter().map(|word| argument(word, record)).collect::<Result<_, _>>().map_err(|error| (error, false))?;
    let Some((program, arguments)) = arguments.split_first() else { return Ok(()) };
    let named = program.escape_debug();
    let mut command = Command::new(program);
    for name in hidden {
        command.env_remove(name);
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| (format!("{named} cannot be started: {error}"), false))?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).map(Group);
    let input = child.stdin.take();
    let json = format!("{}\n", public(record));
    let ended = tokio::time::timeout(limit, async {
        if let Some(mut input) = input {
            // It need not read what it does not want to know.
            let _ = input.write_all(json.as_bytes()).await;
        }
        child.wait().await
    })
    .await;
    match ended {
        Ok(Ok(status)) if status.success() => {
            // What it has left running on purpose (a clipboard's owner) goes on.
            std::mem::forget(group);
            Ok(())
        }
        Ok(Ok(status)) => Err((format!("{named} ended with {status}"), true)),
        Ok(Err(error)) => Err((format!("{named} cannot be waited for: {error}"), true)),
        Err(_) => Err((format!("{named} did not end within its time-out and was killed"), true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_filled_in_and_what_deletes_is_given_only_by_name() {
        let line = r#"{"v":1,"seq":1,"job":"01JD0000000000000000000001","at":"2026-01-01T00:00:00Z","status":"uploaded","file":"a b.png","folder":"/d","host":"h","url":"https://h/a","thumb":null,"image":null,"delete_url":"https://h/delete/geheim","album":null,"album_url":null,"bytes":3,"mime":"image/png","width":1,"height":1,"blake3":null,"attempts":1,"requeues":0,"duration_ms":5,"moved_to":null}"#;
        let record = Record::parse(line.as_bytes()).expect("a record");
        assert_eq!(argument("{{ file }} → {{ url }}{{ thumb }}", &record), Ok("a b.png → https://h/a".to_owned()));
        assert_eq!(argument("{{ delete_url }}", &record), Ok("https://h/delete/geheim".to_owned()));
        assert_eq!(argument("{{ status }} {{ error.message }}", &record), Ok("uploaded ".to_owned()));
        assert_eq!(argument("{% if error %}failed{% else %}fine{% endif %}", &record), Ok("fine".to_owned()));
        assert!(!public(&record).to_string().contains("geheim"));
    }

    #[test]
    fn the_words_of_the_configuration_are_those_of_the_manifest() {
        use crate::record::Status::{Deferred, Failed, Linked, Timeout, Uploaded};
        let words = [Uploaded, Linked, Timeout, Deferred, Failed].map(crate::record::Status::name);
        assert_eq!(words, crate::config::OUTCOMES);
    }

    #[test]
    fn the_fields_that_a_configuration_may_name_are_those_of_the_manifest() {
        let all = r#"{"v":1,"seq":1,"job":"01JD0000000000000000000001","at":"2026-01-01T00:00:00Z","status":"uploaded","file":"a","file_bytes":"YQ==","folder":"/d","host":"h","url":"https://h/a","thumb":null,"image":null,"delete_url":null,"delete_token":"t","stripped":true,"album":null,"album_url":null,"bytes":3,"mime":null,"width":1,"height":1,"blake3":null,"attempts":1,"requeues":0,"duration_ms":5,"moved_to":null,"removed_at":"2026-01-01T00:00:00Z","error":{"class":"file","phase":"send","message":"m","http_status":null,"response_head":null,"next_try_at":null,"advice":null},"mirrors":[{"host":"h","url":"https://h/a","thumb":null,"image":null,"delete_url":null,"album_url":null,"error":null}]}"#;
        let record = Record::parse(all.as_bytes()).expect("a record with every field");
        let value: Value = serde_json::from_str(&record.json()).expect("JSON");
        let mut fields: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut known = crate::config::MANIFEST_FIELDS.to_vec();
        // Only sidecars have it.
        known.push("removed_at");
        fields.sort_unstable();
        known.sort_unstable();
        assert_eq!(fields, known);
    }
}
