//! Log lines for people: time, level where it matters, message.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;

/// The format of lines on a terminal.
#[derive(Debug)]
pub(super) struct Pretty {
    /// Whether the terminal shows colours.
    pub(super) colours: bool,
}

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        let now = Timestamp::from_millisecond(Clock::System.now().millis()).unwrap_or_default();
        let now = now.to_zoned_datetime(TimeZone::system());
        let (word, colour) = match *event.metadata().level() {
            Level::ERROR => ("error: ", "31"),
            Level::WARN => ("warning: ", "33"),
            Level::INFO => ("", "0"),
            Level::DEBUG | Level::TRACE => ("debug: ", "2"),
        };
        let time = now.strftime("%H:%M:%S");
        if self.colours {
            writeln!(writer, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{word}{}\x1b[0m", message.0)
        } else {
            writeln!(writer, "{time} {word}{}", message.0)
        }
    }
}

/// Picks the message out of an event; the fields are for machines.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Names are escaped where they are put in; this is for what somebody forgets. A line of its own stands further
            // in than where a time would stand.
            let message = format!("{value:?}");
            let lines: Vec<String> = message.lines().map(super::visible).collect();
            self.0 = lines.join("\n         ");
        }
    }
}
