//! A thread that owns a connection, and the bounded channel to it.
//!
//! The thread takes everything that has gathered as one batch. It ends when the [`Mailbox`] is dropped: what was sent
//! before is still done, and the drop waits for it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// How many messages may wait, and how many make a batch at most. A batch costs one fsync, a few milliseconds; in that
/// time the whole pool (256 workers at most) sends one or two messages each. When it is full, senders wait.
const CAPACITY: usize = 1024;

enum Letter<M> {
    Message(M),
    Close,
}

impl<M> Letter<M> {
    fn message(self) -> Option<M> {
        match self {
            Self::Message(message) => Some(message),
            Self::Close => None,
        }
    }
}

/// The sending side; dropping it ends the thread.
pub(super) struct Mailbox<M> {
    sender: mpsc::Sender<Letter<M>>,
    /// For the case that the channel is too full for `Close`.
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Send + 'static> Mailbox<M> {
    /// Starts the thread `name`, which does `work` on each batch.
    pub(super) fn start(name: &str, mut work: impl FnMut(Vec<M>) + Send + 'static) -> io::Result<Self> {
        let (sender, mut receiver) = mpsc::channel::<Letter<M>>(CAPACITY);
        let closing = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&closing);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut open = true;
            while open {
                let Some(first) = receiver.blocking_recv() else { return };
                let mut batch = Vec::from_iter(first.message());
                while batch.len() < CAPACITY
                    && let Ok(letter) = receiver.try_recv()
                {
                    batch.extend(letter.message());
                }
                // Asked after the letters were taken, so that `Close` cannot be among them unseen.
                if told.load(Ordering::Acquire) {
                    open = false;
                    receiver.close();
                    while let Ok(letter) = receiver.try_recv() {
                        batch.extend(letter.message());
                    }
                }
                if !batch.is_empty() {
                    work(batch);
                }
            }
        })?;
        Ok(Self { sender, closing, thread: Some(thread) })
    }

    /// Sends at once if there is room, else when the future is awaited; `false` if the thread has ended.
    pub(super) fn send(&self, message: M) -> impl Future<Output = bool> + Send + use<M> {
        let sent = self.sender.try_send(Letter::Message(message));
        let sender = self.sender.clone();
        async move {
            match sent {
                Ok(()) => true,
                Err(TrySendError::Full(letter)) => sender.send(letter).await.is_ok(),
                Err(TrySendError::Closed(_)) => false,
            }
        }
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // Full means that the thread will receive a message, and it looks at `closing` after each.
        let _full_or_ended = self.sender.try_send(Letter::Close);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
