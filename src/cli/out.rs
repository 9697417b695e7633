//! What commands print: to a locked standard output that may go away, without letting a file name write to the terminal.

use std::io::{self, IsTerminal, StdoutLock, Write};

use super::exit::Exit;
use crate::config::ConfigError;
use crate::control::client::ClientError;
use crate::telemetry::visible;

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody reads our output any more (`pixchute tail | head`): nothing to say.
    NobodyReads,
    /// A message for standard error.
    Said {
        /// The exit code.
        exit: Exit,
        /// The message, without `pixchute: `.
        message: String,
    },
}

impl Stop {
    pub(super) fn said(exit: Exit, message: impl Into<String>) -> Self {
        Self::Said { exit, message: message.into() }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::said(Exit::Failed, format!("cannot write the output: {error}")),
        }
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::NotRunning { .. } => Exit::NotRunning,
            _ => Exit::Failed,
        };
        Self::said(exit, error.to_string())
    }
}

impl From<ConfigError> for Stop {
    fn from(error: ConfigError) -> Self {
        // A service manager starts it anew, unless the configuration is to blame.
        let exit = if error.passing { Exit::Failed } else { Exit::Config };
        Self::said(exit, error.to_string().trim_end())
    }
}

/// Standard output, and whether it may be coloured.
pub(super) struct Out {
    writer: StdoutLock<'static>,
    /// How to colour what is printed.
    pub(super) paint: Paint,
}

impl Out {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { paint: Paint { colour: wanted && stdout.is_terminal() }, writer: stdout.lock() }
    }

    /// Lets `write` write to standard output.
    pub(super) fn with_writer(
        &mut self,
        write: impl FnOnce(&mut StdoutLock<'static>) -> io::Result<()>,
    ) -> io::Result<()> {
        write(&mut self.writer)
    }

    /// Prints text that ends with a newline or is a part of a line.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.flush()
    }
}

/// Says something on standard error that is no reason to stop.
pub(super) fn complain(message: &str) {
    // Nothing is left to be done if standard error is closed too.
    let _ = writeln!(io::stderr(), "pixchute: {message}");
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }
}

/// Text from records, files and hosts with everything escaped that could steer a terminal or turn the order of letters.
pub(super) fn safe(text: &str) -> String {
    visible(text)
}

/// A column of a [`table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows of already safe cells as aligned lines, the first one being the head. The last column is not padded.
pub(super) fn table(aligns: &[Align], rows: &[Vec<String>], paint: Paint) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..aligns.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(aligns).zip(&widths).map(|((cell, align), width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = line.trim_end();
        text.push_str(&if index == 0 { paint.dim(line) } else { line.to_owned() });
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(safe("a\x1b[2J\r\nb\u{9b}c\u{202e}gpj.exe ä 写"), r"a\u{1b}[2J\r\nb\u{9b}c\u{202e}gpj.exe ä 写");
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let rows = [vec!["NAME", "N"], vec!["long name", "5"], vec!["x", "100"]];
        let rows = rows.map(|row| row.into_iter().map(ToOwned::to_owned).collect());
        let text = table(&[Align::Left, Align::Right], &rows, Paint::default());
        assert_eq!(text, "NAME         N\nlong name    5\nx          100\n");
    }
}
