//! `pixchute status --watch`: the status again and again, over the whole screen.

mod line;
mod screen;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::Exit;
use super::out::{Out, Stop};
use crate::control::client::{Client, ClientError};
use crate::control::model::Status;
use screen::Screen;
use view::Known;

/// How often the agent is asked: often enough for a bar to move, and it costs the agent less than a millisecond.
const AGAIN: Duration = Duration::from_millis(500);

/// How often the plain text is printed where there is no terminal.
const AGAIN_PLAIN: Duration = Duration::from_secs(2);

/// Shows how the agent is until the user has seen enough.
pub(super) async fn run(client: &Client, out: &mut Out, plain: impl Fn(&Status) -> String) -> Result<Exit, Stop> {
    if std::io::stdout().is_terminal() { on_screen(client, out).await } else { as_text(client, out, plain).await }
}

/// One status after the other, for a file or a pipe.
async fn as_text(client: &Client, out: &mut Out, plain: impl Fn(&Status) -> String) -> Result<Exit, Stop> {
    loop {
        match client.get::<Status>("/v1/status").await {
            Ok(status) => out.print(&format!("{}\n", plain(&status)))?,
            Err(error) => out.print(&format!("no agent, waiting: {error}\n\n"))?,
        }
        sleep(AGAIN_PLAIN).await;
    }
}

async fn on_screen(client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut screen = Screen::open(out)?;
    let mut keys = EventStream::new();
    let mut keys_end = false;
    let mut since = Instant::now();
    let mut known = Known::Nothing { since: Duration::ZERO, reason: "asking the agent".to_owned() };
    screen.draw(&known)?;
    let mut asking = Box::pin(ask(client, Duration::ZERO));
    loop {
        tokio::select! {
            answer = &mut asking => {
                known = match answer {
                    Ok(status) => {
                        since = Instant::now();
                        Known::Status(Box::new(status))
                    }
                    Err(error) => Known::Nothing { since: since.elapsed(), reason: error.to_string() },
                };
                screen.draw(&known)?;
                asking = Box::pin(ask(client, AGAIN));
            }
            event = keys.next(), if !keys_end => match event {
                Some(Ok(Event::Key(key))) if ends(key) => return Ok(Exit::Done),
                Some(Ok(Event::Resize(..))) => screen.draw(&known)?,
                Some(Ok(_)) => {}
                // Without a keyboard the screen goes on until a signal ends it.
                Some(Err(_)) | None => keys_end = true,
            },
            _ = terminate.recv() => return Ok(Exit::Done),
        }
    }
}

async fn ask(client: &Client, after: Duration) -> Result<Status, ClientError> {
    sleep(after).await;
    client.get("/v1/status").await
}

/// `q`, Escape, Ctrl-C, Ctrl-D.
fn ends(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            KeyCode::Char('c' | 'd') => control,
            _ => false,
        }
}
