//! The terminal: taken over at the start, given back at the end whatever happens.

use std::io::{self, Write as _};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

use super::line::{Line, Style};
use super::view::{Known, view};
use crate::cli::out::Out;

/// What a terminal has that does not tell its size.
const USUAL: (u16, u16) = (80, 24);

/// The screen while it is ours.
pub(super) struct Screen<'a> {
    out: &'a mut Out,
}

impl<'a> Screen<'a> {
    pub(super) fn open(out: &'a mut Out) -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on it is given back when this is dropped.
        let screen = Self { out };
        screen.out.with_writer(|writer| execute!(writer, EnterAlternateScreen, Hide))?;
        Ok(screen)
    }

    /// Draws it whole, in one write; a terminal that knows how shows nothing half drawn.
    pub(super) fn draw(&mut self, known: &Known) -> io::Result<()> {
        let (width, height) = size().ok().filter(|(width, height)| *width > 0 && *height > 0).unwrap_or(USUAL);
        let lines = view(known, width.into(), height.into());
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate)?;
        for row in 0..height {
            queue!(bytes, MoveTo(0, row))?;
            if let Some(line) = lines.get(usize::from(row)) {
                put(&mut bytes, line, self.out.paint.colour)?;
            }
            queue!(bytes, Clear(ClearType::UntilNewLine))?;
        }
        queue!(bytes, EndSynchronizedUpdate)?;
        self.out.with_writer(|writer| {
            writer.write_all(&bytes)?;
            writer.flush()
        })
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = self.out.with_writer(|writer| execute!(writer, Show, LeaveAlternateScreen));
        let _ = disable_raw_mode();
    }
}

fn put(bytes: &mut Vec<u8>, line: &Line, colours: bool) -> io::Result<()> {
    for (style, text) in &line.0 {
        match style {
            Style::Plain => queue!(bytes, Print(text))?,
            Style::Bold => queue!(bytes, SetAttribute(Attribute::Bold), Print(text), SetAttribute(Attribute::Reset))?,
            Style::Dim => queue!(bytes, SetAttribute(Attribute::Dim), Print(text), SetAttribute(Attribute::Reset))?,
            Style::Good | Style::Warn | Style::Bad if !colours => queue!(bytes, Print(text))?,
            Style::Good => queue!(bytes, SetForegroundColor(Color::DarkGreen), Print(text), ResetColor)?,
            Style::Warn => queue!(bytes, SetForegroundColor(Color::DarkYellow), Print(text), ResetColor)?,
            Style::Bad => queue!(bytes, SetForegroundColor(Color::DarkRed), Print(text), ResetColor)?,
        }
    }
    Ok(())
}
