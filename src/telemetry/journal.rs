//! The journal of systemd: native fields, by way of `tracing-journald`.
//!
//! That crate waits for journald where an event happens, so it gets a thread of its own behind a bounded queue: a line is
//! copied, and said again by that thread. A journal that is slow or gone costs lines, which are counted and reported when it
//! is back, and never an upload.

use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event as Line, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::event::Event;
use super::{LINES_WAITING, LOST};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long the end of the process waits for the lines that are still queued.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Our own lines, and those of libraries that are said again.
const TARGET: &str = "pixchute";

/// A line with all fields that an event can have; those of libraries keep theirs in the message.
macro_rules! lines {
    ($($name:ident)*) => {
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        struct Entry {
            message: String,
            $($name: Option<String>,)*
        }

        impl Entry {
            fn put(&mut self, name: &str, value: String) {
                match name {
                    "message" => self.message.insert_str(0, &value),
                    $(stringify!($name) => self.$name = Some(value),)*
                    // Writing to a String cannot fail.
                    _ => drop(write!(self.message, " {name}={value}")),
                }
            }

            /// Says the line again, to whoever listens on this thread.
            fn say(&self, level: Level) {
                macro_rules! at {
                    ($level:expr) => {
                        tracing::event!(target: TARGET, $level, $($name = self.$name.as_deref(),)* "{}", self.message)
                    };
                }
                match level {
                    Level::ERROR => at!(Level::ERROR),
                    Level::WARN => at!(Level::WARN),
                    Level::INFO => at!(Level::INFO),
                    Level::DEBUG => at!(Level::DEBUG),
                    Level::TRACE => at!(Level::TRACE),
                }
            }
        }
    };
}
lines! {
    event message_id job worker_id service file folder attempt bytes duration_ms http_status queue_depth error_class url
    next_try_at cause library
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // What a value's own Debug refuses to say stays out.
        let _ = write!(text, "{value:?}");
        self.put(field.name(), text);
    }
}

/// What the thread is told.
enum Word {
    Line(Level, Box<Entry>),
    End,
}

/// A layer that copies lines for the thread.
pub(super) struct Journal {
    queue: SyncSender<Word>,
    lost: Lost,
}

/// How many lines this journal did not take; [`LOST`] counts for the whole process.
#[derive(Clone, Default)]
struct Lost(Arc<AtomicU64>);

impl Lost {
    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        LOST.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps the journal open; dropping it waits for what is queued, for at most a second.
#[derive(Debug)]
pub(super) struct Guard {
    queue: SyncSender<Word>,
    ended: Receiver<()>,
}

/// Opens the way to the journal.
///
/// # Errors
/// When nobody listens there, or no thread can be had.
pub(super) fn open() -> io::Result<(Journal, Guard)> {
    let mappings = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let journald = tracing_journald::Layer::new()?
        .with_field_prefix(None)
        .with_syslog_identifier(TARGET.to_owned())
        .with_priority_mappings(mappings)
        // Else the lines of all libraries would be prepared everywhere, for a subscriber that gets ours only.
        .with_filter(Targets::new().with_target(TARGET, Level::TRACE));
    let journald = Dispatch::new(tracing_subscriber::registry().with(journald));
    start(move |level, entry| {
        // The crate does not tell whether journald took it.
        let listens = Path::new(SOCKET).exists();
        if listens {
            tracing::dispatcher::with_default(&journald, || entry.say(level));
        }
        listens
    })
}

/// The queue and its thread, which hands each line to `tell`; that says whether it was taken.
fn start(tell: impl Fn(Level, &Entry) -> bool + Send + 'static) -> io::Result<(Journal, Guard)> {
    let (queue, words) = sync_channel(LINES_WAITING);
    let (end, ended) = sync_channel(1);
    let lost = Lost::default();
    let losses = lost.clone();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        run(&words, &losses, tell);
        // Nobody may wait.
        let _ = end.try_send(());
    })?;
    Ok((Journal { queue: queue.clone(), lost }, Guard { queue, ended }))
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.queue.try_send(Word::End).is_ok() {
            let _: Result<(), RecvTimeoutError> = self.ended.recv_timeout(LAST_LINES);
        }
    }
}

fn run(words: &Receiver<Word>, lost: &Lost, tell: impl Fn(Level, &Entry) -> bool) {
    let mut told = 0;
    while let Ok(Word::Line(level, entry)) = words.recv() {
        if !tell(level, &entry) {
            lost.one_more();
            continue;
        }
        let count = lost.count();
        if count > told && tell(Event::LogLost.entry().level, &about_losses(count - told)) {
            told = count;
        }
    }
}

/// The line that owns up to lost ones.
fn about_losses(lost: u64) -> Entry {
    let row = Event::LogLost.entry();
    Entry {
        message: format!("{lost} log lines are missing before this one: the journal was slow or gone"),
        event: Some(row.name.to_owned()),
        message_id: Some(row.message_id.to_owned()),
        ..Entry::default()
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, line: &Line<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        let target = line.metadata().target();
        entry.library = (target != TARGET).then(|| target.to_owned());
        line.record(&mut entry);
        if self.queue.try_send(Word::Line(*line.metadata().level(), Box::new(entry))).is_err() {
            self.lost.one_more();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::telemetry::{self, emit};

    /// A line as one of ours, so that no cache of other threads' subscribers decides whether it is heard.
    fn said(journal: &Journal, level: Level, entry: Entry) {
        if journal.queue.try_send(Word::Line(level, Box::new(entry))).is_err() {
            journal.lost.one_more();
        }
    }

    #[test]
    fn an_event_keeps_its_fields_on_the_way_to_the_thread() {
        let (heard, lines) = sync_channel(2 * LINES_WAITING);
        let (layer, guard) = start(move |level, entry| heard.send((level, entry.clone())).is_ok()).expect("a thread");
        let fields = telemetry::Fields {
            service: Some("pixhost"),
            bytes: Some(7),
            file: Some(Path::new("a=b.png")),
            ..telemetry::Fields::default()
        };
        let ours = Dispatch::new(tracing_subscriber::registry().with(layer));
        tracing::dispatcher::with_default(&ours, || {
            // Other tests register the same lines at the same time, for threads that do not listen.
            tracing::callsite::rebuild_interest_cache();
            emit(Event::JobFailed, &fields, format_args!("two\nlines"));
        });
        drop(guard);
        let expected = Entry {
            message: "two\nlines".to_owned(),
            event: Some("job-failed".to_owned()),
            message_id: Some(Event::JobFailed.entry().message_id.to_owned()),
            service: Some("pixhost".to_owned()),
            file: Some("a=b.png".to_owned()),
            bytes: Some("7".to_owned()),
            ..Entry::default()
        };
        assert_eq!(lines.recv().expect("a line"), (Level::ERROR, expected));
    }

    #[test]
    fn what_libraries_say_keeps_its_fields_in_the_message() {
        let mut entry = Entry::default();
        entry.put("size", "3".to_owned());
        entry.put("message", "a frame".to_owned());
        assert_eq!(entry.message, "a frame size=3");
    }

    #[test]
    fn a_journal_that_stands_still_costs_lines_and_no_time() {
        let (open_door, door) = sync_channel::<()>(0);
        let (heard, lines) = sync_channel(2 * LINES_WAITING);
        let (layer, guard) = start(move |_, entry| {
            // Closed until the other end is dropped.
            let _ = door.recv();
            heard.send(entry.clone()).is_ok()
        })
        .expect("a thread");
        let (began, much) = (Instant::now(), LINES_WAITING + 5_000);
        for number in 0..much {
            said(&layer, Level::INFO, Entry { message: number.to_string(), ..Entry::default() });
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it waited for the journal: {:?}", began.elapsed());
        let lost = layer.lost.count();
        assert!(lost > 4_000, "{lost} of {much} are counted as lost");
        drop(open_door);
        let owned_up = lines.iter().find(|entry| entry.event.as_deref() == Some("log-lost")).expect("told");
        assert!(owned_up.message.starts_with(&format!("{lost} log lines are missing")), "{owned_up:?}");
        drop(guard);
    }
}
