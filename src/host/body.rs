//! The body of a request: some bytes, the file, some bytes; its length is known before the first byte leaves.
//!
//! The multipart framing is our own, so that `Content-Length` is always exact. What is handed to the connection is
//! counted as it is pulled. Exactly the announced length is sent: a file that ends early breaks the request, one that
//! grows is cut at the length it had when it was opened.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use icu_normalizer::ComposingNormalizerBorrowed;
use tokio::task::JoinHandle;
use ulid::Ulid;

use super::{Progress, Source};
use crate::job::Phase;

/// Bodies up to this size go out as one piece, with one system call: measured, small files are twice as fast so.
const ONE_PIECE_LIMIT: u64 = 64 * 1024;

/// What is handed to the connection at once. Small enough that a slow line still moves a piece every few seconds, so
/// that the stall watch sees it.
const PIECE: usize = 64 * 1024;

/// What is read from a large file at once. One such block is sent while the next is read: half a MiB for each worker.
const READ: usize = 256 * 1024;

/// The longest file name on the wire in bytes: what file systems allow.
const NAME_LIMIT: usize = 255;

/// What is longer after the last full stop is no extension.
const EXTENSION_LIMIT: usize = 16;

/// The name of the file at `path` for the wire: no path, no control characters, Unicode NFC (macOS stores NFD, and some
/// hosts would show it so), never empty.
#[must_use]
pub fn wire_name(path: &Path) -> String {
    let lossy = path.file_name().unwrap_or_default().to_string_lossy();
    let visible: String =
        lossy.chars().map(|c| if c.is_control() || matches!(c, '/' | '\\') { '_' } else { c }).collect();
    let mut name = ComposingNormalizerBorrowed::new_nfc().normalize(&visible).into_owned();
    // Cut in the stem: the extension tells the host the type, if it is one.
    let dot = name.rfind('.').filter(|dot| name.len() - dot <= EXTENSION_LIMIT);
    let extension = dot.map_or(String::new(), |dot| name.split_off(dot));
    while name.len() + extension.len() > NAME_LIMIT && name.pop().is_some() {}
    name.push_str(&extension);
    if name.is_empty() { "image".to_owned() } else { name }
}

/// A body before it is sent; a fresh [`SendBody`] is made of it for each try.
pub(super) struct Plan {
    pub(super) content_type: Option<String>,
    before: Bytes,
    file: Option<Arc<Source>>,
    after: Bytes,
}

impl Plan {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { content_type: None, before: Bytes::new(), file: None, after: Bytes::new() }
    }

    /// These bytes.
    pub(super) fn bytes(content_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self { content_type: Some(content_type.to_owned()), before: bytes.into(), ..Self::empty() }
    }

    /// The file as it is.
    pub(super) fn raw(file: Arc<Source>) -> Self {
        Self { content_type: Some(file.kind().mime().to_owned()), file: Some(file), ..Self::empty() }
    }

    /// `multipart/form-data` as of RFC 7578, the file with its field's name and its own, with names escaped as browsers do (WHATWG "multipart/form-data encoding").
    pub(super) fn multipart(fields: &[(String, String)], file: Option<(&str, &str, Arc<Source>)>) -> Self {
        // 80 random bits: no file contains it by chance, and nobody can put it into one on purpose.
        let boundary = format!("pixchute-{}", Ulid::generate());
        let mut before = String::new();
        for (name, value) in fields {
            before.push_str(&head(&boundary, name));
            before.push_str("\r\n\r\n");
            before.push_str(value);
            before.push_str("\r\n");
        }
        let mut after = format!("--{boundary}--\r\n");
        if let Some((name, file_name, file)) = &file {
            let (file_name, mime) = (escaped(file_name), file.kind().mime());
            before.push_str(&head(&boundary, name));
            before.push_str(&format!("; filename=\"{file_name}\"\r\nContent-Type: {mime}\r\n\r\n"));
            after.insert_str(0, "\r\n");
        }
        Self {
            content_type: Some(format!("multipart/form-data; boundary={boundary}")),
            before: before.into(),
            file: file.map(|(_, _, file)| file),
            after: after.into(),
        }
    }

    /// The exact length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.before.len() as u64 + self.file.as_ref().map_or(0, |file| file.len()) + self.after.len() as u64
    }

    /// The body for one try. `trouble` receives what goes wrong with the file; once it is dropped, the try is over and
    /// the body breaks off.
    pub(super) fn body(&self, progress: &Arc<Progress>, trouble: &Arc<OnceLock<io::Error>>) -> SendBody {
        let mut body = SendBody {
            ready: self.before.clone(),
            file: None,
            after: self.after.clone(),
            remaining: self.len(),
            progress: Arc::clone(progress),
            trouble: Arc::downgrade(trouble),
        };
        match self.file.as_ref().map(|file| (file, file.whole())) {
            None => {}
            Some((_, Some(whole))) if self.len() <= ONE_PIECE_LIMIT => {
                let mut all = BytesMut::with_capacity(usize::try_from(self.len()).unwrap_or(PIECE));
                for part in [&self.before, whole, &self.after] {
                    all.extend_from_slice(part);
                }
                (body.ready, body.after) = (all.freeze(), Bytes::new());
            }
            Some((_, Some(whole))) => body.file = Some(FilePart::Whole(whole.clone())),
            Some((file, None)) => {
                body.file = Some(FilePart::Disk { file: Arc::clone(file), offset: 0, ahead: None });
            }
        }
        body
    }
}

fn head(boundary: &str, name: &str) -> String {
    format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", escaped(name))
}

/// A name inside of `name="…"`.
pub(super) fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

/// A body on its way out.
pub(super) struct SendBody {
    /// What goes out next.
    ready: Bytes,
    file: Option<FilePart>,
    after: Bytes,
    remaining: u64,
    progress: Arc<Progress>,
    trouble: Weak<OnceLock<io::Error>>,
}

enum FilePart {
    Whole(Bytes),
    Disk { file: Arc<Source>, offset: u64, ahead: Option<JoinHandle<io::Result<Bytes>>> },
}

impl SendBody {
    /// The next block once `ready` is used up.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match &mut self.file {
            None if self.after.is_empty() => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            None => Poll::Ready(Ok(std::mem::take(&mut self.after))),
            Some(FilePart::Whole(_)) => match self.file.take() {
                Some(FilePart::Whole(whole)) => Poll::Ready(Ok(whole)),
                _ => Poll::Ready(Ok(Bytes::new())),
            },
            Some(FilePart::Disk { file, offset, ahead }) => {
                let read = ahead.get_or_insert_with(|| read_at(file, *offset));
                let block = ready!(Pin::new(read).poll(cx)).map_err(io::Error::other)??;
                *offset += block.len() as u64;
                if *offset < file.len() {
                    *ahead = Some(read_at(file, *offset));
                } else {
                    self.file = None;
                }
                Poll::Ready(Ok(block))
            }
        }
    }
}

/// Begins to read the next block: never past the announced length.
fn read_at(file: &Arc<Source>, offset: u64) -> JoinHandle<io::Result<Bytes>> {
    let file = Arc::clone(file);
    let len = usize::try_from(file.len() - offset).unwrap_or(usize::MAX).min(READ);
    tokio::task::spawn_blocking(move || file.read(offset, len))
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        // The client would go on sending after an early answer, and count it as progress of the next try.
        let Some(trouble) = self.trouble.upgrade() else {
            return Poll::Ready(Some(Err(io::Error::other("the request is over"))));
        };
        if self.progress.phase() == Phase::Connect {
            self.progress.enter(Phase::Send);
        }
        while self.ready.is_empty() {
            match ready!(self.poll_next(cx)) {
                Ok(block) => self.ready = block,
                Err(error) => {
                    // The client wraps errors of bodies beyond recognition: the engine reads it here.
                    let copy = io::Error::new(error.kind(), error.to_string());
                    trouble.set(error).ok();
                    return Poll::Ready(Some(Err(copy)));
                }
            }
        }
        let len = self.ready.len().min(PIECE);
        let piece = self.ready.split_to(len);
        self.remaining = self.remaining.saturating_sub(len as u64);
        self.progress.add_sent(len as u64);
        if self.remaining == 0 {
            self.progress.enter(Phase::Response);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
