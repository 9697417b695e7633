//! `pixchute put --json -`: job lines in, event lines out. One bad line or bad path is that line's error and nothing else's.
//!
//! In: `{"id":"…","path":"…","host":"…"}` (`host` may be left out) and `{"id":"…","cancel":true}`. Out:
//! `{"id":"…","event":"queued|started|progress|result|error",…}`; each job ends with one `result` (with its `record`) or one
//! `error` (with its text). However many lines come, a bounded number is held: the rest stays in the pipe.

use std::collections::{HashMap, VecDeque};
use std::path::{self, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::out::{Out, Stop};
use super::put::Hosts;
use crate::agent::put::put;
use crate::host::Progress;

/// Jobs that are read ahead of those under way: so that a cancel line is seen soon, and memory is bounded.
const WAITING: usize = 256;

/// The longest line: a path has at most 4 kB, escaped at most six times that.
const MAX_LINE: usize = 64 << 10;

/// The time between two progress events of a job.
const PROGRESS: Duration = Duration::from_millis(250);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    path: Option<PathBuf>,
    host: Option<String>,
    #[serde(default)]
    cancel: bool,
}

#[derive(Debug)]
struct Order {
    id: String,
    path: PathBuf,
    host: Option<String>,
}

/// An upload under way.
struct Running {
    progress: Arc<Progress>,
    told: u64,
    cancel: CancellationToken,
}

pub(super) async fn run(mut hosts: Hosts, out: &mut Out) -> Result<Exit, Stop> {
    let config = hosts.config().clone();
    let mut input = BufReader::new(tokio::io::stdin());
    let (mut buffer, mut number, mut ended, mut failed) = (Vec::new(), 0_u64, false, false);
    let mut waiting: VecDeque<Order> = VecDeque::new();
    let mut running: HashMap<String, Running> = HashMap::new();
    let mut uploads = FuturesUnordered::new();
    let mut tick = tokio::time::interval(PROGRESS);
    loop {
        while running.len() < config.pool.workers
            && let Some(Order { id, path, host }) = waiting.pop_front()
        {
            let host = match hosts.get(host.as_deref()) {
                Ok(host) => host,
                Err(reason) => {
                    failed = true;
                    event(out, &json!({"id": id, "event": "error", "error": reason}))?;
                    continue;
                }
            };
            event(out, &json!({"id": id, "event": "started", "host": host.name()}))?;
            let (progress, cancel) = (Arc::new(Progress::new()), CancellationToken::new());
            let entry = Running { progress: Arc::clone(&progress), told: 0, cancel: cancel.clone() };
            running.insert(id.clone(), entry);
            let config = &config;
            uploads.push(async move {
                let result = tokio::select! {
                    biased;
                    // Dropping the upload closes its connection.
                    () = cancel.cancelled() => Err("cancelled".to_owned()),
                    result = put(config, &*host, &path, progress) => result,
                };
                (id, result)
            });
        }
        if ended && waiting.is_empty() && running.is_empty() {
            return Ok(if failed { Exit::Failed } else { Exit::Done });
        }
        tokio::select! {
            read = next_line(&mut input, &mut buffer), if !ended && waiting.len() < WAITING => {
                number += 1;
                let line = match read? {
                    Read::End => {
                        ended = true;
                        continue;
                    }
                    Read::Line(line) if line.iter().all(u8::is_ascii_whitespace) => continue,
                    Read::Line(line) => serde_json::from_slice::<Line>(&line).map_err(|error| error.to_string()),
                    Read::TooLong => Err(format!("longer than {MAX_LINE} bytes")),
                };
                failed |= !take(line, number, &mut waiting, &running, out)?;
            }
            Some((id, result)) = uploads.next(), if !running.is_empty() => {
                running.remove(&id);
                match result {
                    Ok(record) => {
                        failed |= record.url.is_none();
                        let record: Value = serde_json::from_str(&record.json()).unwrap_or_default();
                        event(out, &json!({"id": id, "event": "result", "record": record}))?;
                    }
                    Err(reason) => {
                        failed = true;
                        event(out, &json!({"id": id, "event": "error", "error": reason}))?;
                    }
                }
            }
            _ = tick.tick() => for (id, running) in &mut running {
                let (sent, total) = (running.progress.sent(), running.progress.total());
                if sent != running.told {
                    running.told = sent;
                    event(out, &json!({"id": id, "event": "progress", "sent": sent, "total": total}))?;
                }
            },
        }
    }
}

/// Takes one line in; false if it is in error.
fn take(
    line: Result<Line, String>,
    number: u64,
    waiting: &mut VecDeque<Order>,
    running: &HashMap<String, Running>,
    out: &mut Out,
) -> Result<bool, Stop> {
    const FORM: &str = r#"expected {"id":"…","path":"…","host":"…"} or {"id":"…","cancel":true}"#;
    let mut refuse = |id: Option<&str>, reason: String| -> Result<bool, Stop> {
        event(out, &json!({"id": id, "event": "error", "line": number, "error": reason}))?;
        Ok(false)
    };
    let line = match line {
        Ok(line) => line,
        Err(reason) => return refuse(None, format!("{reason}; {FORM}")),
    };
    let queued = waiting.iter().position(|order| order.id == line.id);
    match (line.cancel, line.path) {
        (true, None) => {
            if let Some(running) = running.get(&line.id) {
                running.cancel.cancel();
                return Ok(true);
            }
            match queued.and_then(|position| waiting.remove(position)) {
                Some(order) => refuse(Some(&order.id), "cancelled".to_owned()),
                None => refuse(Some(&line.id), "nothing to cancel: it has ended, or was never given".to_owned()),
            }
        }
        (false, Some(_)) if queued.is_some() || running.contains_key(&line.id) => {
            refuse(None, format!("the id {:?} is in use by a job that has not ended", line.id))
        }
        (false, Some(path)) => match path::absolute(&path) {
            Ok(path) => {
                event(out, &json!({"id": line.id, "event": "queued"}))?;
                waiting.push_back(Order { id: line.id, path, host: line.host });
                Ok(true)
            }
            Err(error) => refuse(Some(&line.id), format!("the path cannot be used: {error}")),
        },
        _ => refuse(Some(&line.id), FORM.to_owned()),
    }
}

fn event(out: &mut Out, event: &Value) -> Result<(), Stop> {
    Ok(out.print(&format!("{event}\n"))?)
}

enum Read {
    Line(Vec<u8>),
    TooLong,
    End,
}

/// The next line, however long it is: what is too long is skipped. What was read so far is kept in `buffer`, so that
/// dropping this loses nothing.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin), buffer: &mut Vec<u8>) -> std::io::Result<Read> {
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            let rest = std::mem::take(buffer);
            return Ok(if rest.is_empty() { Read::End } else { Read::Line(rest) });
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = &available[..end.unwrap_or(available.len())];
        // One byte more than allowed marks a line as too long.
        let room = (MAX_LINE + 1).saturating_sub(buffer.len());
        buffer.extend_from_slice(&taken[..taken.len().min(room)]);
        let used = end.map_or(available.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            let line = std::mem::take(buffer);
            return Ok(if line.len() > MAX_LINE { Read::TooLong } else { Read::Line(line) });
        }
    }
}
