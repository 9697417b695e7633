//! Stores that put an object where they are told: S3 and WebDAV.
//!
//! What tells them from other hosts is that the sender chooses the address. By default it is made of the content, so that
//! sending an image twice gives one object and the same link: a lost answer costs a question and no second copy. With a
//! key of the user's choice, what lies there already is never replaced by something else: the image goes beside it.
//!
//! Limits: one request per object (S3 takes 5 GiB so). With keys that are not made of the content, WebDAV cannot be asked
//! whether a lost upload has arrived: a later try may store a second copy beside the first.

mod account;
mod build;
mod name;
mod preview;
mod remove;
mod s3;
mod sigv4;
mod webdav;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use ring::digest;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use self::name::{Key, Naming};
use self::remove::Stored;
use self::s3::{META_BLAKE3, S3};
use self::webdav::WebDav;
use super::body::Plan;
use super::engine::jitter;
use super::http::{self, Received};
use super::recipe::{Answer, Recipe};
use super::redact::Redactor;
use super::thumb::Thumbnailer;
use super::verdict::Judge;
use super::{Doing, Host, Limits, Preview, Progress, Sending, Source, Upload};
use crate::clock::Clock;
use crate::config::{HostFlow, Retry};
use crate::job::{ContentHash, ErrorClass, Failure, Links, Phase};

pub(super) use self::build::{build, endpoint};

/// How long a thumbnail may hold up the link of an image that is stored already.
const THUMBNAIL_TIME: Duration = Duration::from_secs(30);

/// What is left of the attempt's deadline for telling the link.
const MARGIN: Duration = Duration::from_secs(1);

/// How many locks share the keys that the user chose: two different ones wait for each other once in so many times.
const STRIPES: usize = 64;

/// How much of a file is hashed at once.
const CHUNK: usize = 1 << 20;

/// An object store.
pub(super) struct StoreHost {
    name: String,
    recipe: Arc<Recipe>,
    redactor: Redactor,
    client: http::Client,
    times: http::Times,
    retry: Retry,
    flow: HostFlow,
    clock: Clock,
    naming: Naming,
    backend: Backend,
    /// `None`: no thumbnails are wanted.
    thumbnailer: Option<Thumbnailer>,
    /// Held from the question whether a name is free to the end of taking it.
    turns: [Mutex<()>; STRIPES],
}

enum Backend {
    S3(S3),
    WebDav(WebDav),
}

/// A request without its body.
#[derive(Debug)]
struct Outgoing {
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What is to be stored.
struct Object {
    source: Arc<Source>,
    /// The hash of the image, also for its thumbnail.
    hash: ContentHash,
    /// Of the bytes that are sent.
    sha256: [u8; 32],
}

/// What lies at an address.
#[derive(PartialEq)]
enum There {
    Nothing,
    /// What is to be stored there.
    Same,
    /// Something else, or something that cannot be told apart.
    Other,
    /// The store does not say.
    Unknown,
}

/// What became of a try to store.
enum Put {
    Stored,
    /// Something is there already.
    Taken,
}

impl Host for StoreHost {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> &Limits {
        &self.recipe.limits
    }

    fn max_parallel(&self) -> Option<usize> {
        self.recipe.max_parallel
    }

    fn tidy(&self) {
        self.client.tidy();
    }

    fn upload<'a>(&'a self, upload: &'a Upload) -> Sending<'a> {
        Box::pin(async move { self.run(upload).await.map_err(|failure| *failure) })
    }

    fn previews(&self, upload: &Upload) -> Vec<Preview> {
        self.preview_all(upload)
    }

    fn site(&self) -> Option<Url> {
        Some(self.address(&Key::root()))
    }

    fn ask_account(&self, deadline: Instant) -> Option<Doing<'_>> {
        let late = || {
            let message = format!("{} did not answer in time", self.name);
            Err(Failure::new(ErrorClass::Timeout, Phase::Response, message))
        };
        if matches!(&self.backend, Backend::WebDav(dav) if dav.authorization.is_none()) {
            return None;
        }
        Some(Box::pin(async move {
            let asked = timeout_at(deadline, self.ask_about_us()).await;
            asked.map_or_else(|_| late(), |done| done.map_err(|failure| *failure))
        }))
    }

    fn delete<'a>(&'a self, uploaded: &'a Links, deadline: Instant) -> Option<Doing<'a>> {
        let receipt = Self::read_receipt(uploaded.delete_token.as_deref()?)?;
        Some(Box::pin(async move { self.remove(&receipt, deadline).await.map_err(|failure| *failure) }))
    }
}

impl StoreHost {
    async fn run(&self, upload: &Upload) -> Result<Links, Box<Failure>> {
        let key = self.naming.key(upload)?;
        let object = self.object(Arc::clone(&upload.source), upload.image.hash).await?;
        let key = self.store(key, &object, upload.doubtful, &upload.progress, upload.deadline).await?;
        let url = self.url(&key)?;
        let limit =
            (Instant::now() + THUMBNAIL_TIME).min(upload.deadline.checked_sub(MARGIN).unwrap_or(upload.deadline));
        let thumb = timeout_at(limit, self.thumb(&key, upload, limit)).await.ok().flatten();
        let (noted, thumb) = thumb.unzip();
        let objects = [Stored::new(&key, &object)].into_iter().chain(noted).collect();
        let delete_token = self.receipt(object.hash, objects);
        Ok(Links { url: url.clone(), thumb, image: Some(url), delete_token, ..Links::default() })
    }

    /// The thumbnail of the image stored as `key`, and its link; `None` if there is none, for whatever reason.
    async fn thumb(&self, key: &Key, upload: &Upload, limit: Instant) -> Option<(Stored, String)> {
        let thumb = self.thumbnailer.as_ref()?.of(&upload.source, &upload.image).await?;
        let key = key.thumb(thumb.kind);
        let source = Source::in_memory(thumb.bytes.into(), upload.source.name().to_owned(), thumb.kind);
        let object = self.object(Arc::new(source), upload.image.hash).await.ok()?;
        // Counted by itself: the progress of the attempt is that of the image.
        let key = self.store(key, &object, false, &Arc::new(Progress::new()), limit).await.ok()?;
        let link = self.url(&key).ok()?;
        Some((Stored::new(&key, &object), link))
    }

    async fn object(&self, source: Arc<Source>, hash: ContentHash) -> Result<Object, Box<Failure>> {
        let mut object = Object { source, hash, sha256: [0; 32] };
        if matches!(self.backend, Backend::S3(_)) {
            let source = Arc::clone(&object.source);
            let summed = tokio::task::spawn_blocking(move || sha256(&source)).await;
            object.sha256 = summed.map_err(std::io::Error::other).flatten().map_err(|error| {
                let message = format!("the file could not be read to its end: {error}");
                Box::new(Failure::new(ErrorClass::Io, Phase::Inspect, message))
            })?;
        }
        Ok(object)
    }

    fn url(&self, key: &Key) -> Result<String, Box<Failure>> {
        self.naming.url(key, self.address(key).as_str()).map_err(|error| {
            let message = format!("{}: the option `public_url` gives no link for this image: {error}", self.name);
            Box::new(Failure::new(ErrorClass::File, Phase::Parse, message))
        })
    }

    fn address(&self, key: &Key) -> Url {
        match &self.backend {
            Backend::S3(s3) => s3.address(key),
            Backend::WebDav(dav) => dav.address(key),
        }
    }

    /// Stores `object` as `key`, or beside it if something else is there, with as many tries as the deadline allows. Gives
    /// the key that it has. `doubtful`: it may be there already.
    async fn store(
        &self,
        key: Key,
        object: &Object,
        mut doubtful: bool,
        progress: &Arc<Progress>,
        deadline: Instant,
    ) -> Result<Key, Box<Failure>> {
        let _turn = self.turn(&key, object).await;
        let mut tries = 0;
        loop {
            let mut failure = match self.place(&key, object, doubtful, progress).await {
                Ok(key) => return Ok(key),
                Err(failure) => failure,
            };
            if failure.class == ErrorClass::UnknownOutcome
                && let Some(key) = self.find(&key, object).await
            {
                return Ok(key);
            }
            failure.sent = progress.sent();
            doubtful |= progress.all_sent();
            tries += 1;
            let delay = self.retry.backoff.delay(tries, jitter());
            let too_late = Instant::now() + delay >= deadline;
            let allowed = tries < self.retry.attempts && progress.may_try_again();
            if !allowed || too_late || !failure.worth_another_request() {
                return Err(failure);
            }
            progress.note_failed_try(failure.kind);
            progress.enter(Phase::Wait);
            tokio::select! {
                () = sleep(delay) => {}
                () = progress.held() => return Err(failure),
            }
        }
    }

    /// The turn of whoever stores under a name that others may want as well.
    async fn turn(&self, key: &Key, object: &Object) -> Option<MutexGuard<'_, ()>> {
        if key.is_address_of(&object.hash) {
            return None;
        }
        let stripe = key.encoded().bytes().fold(0, |sum, byte| (sum * 31 + usize::from(byte)) % STRIPES);
        Some(self.turns[stripe].lock().await)
    }

    /// One try to store; gives the key under which it is stored.
    async fn place(
        &self,
        key: &Key,
        object: &Object,
        doubtful: bool,
        progress: &Arc<Progress>,
    ) -> Result<Key, Box<Failure>> {
        let addressed = key.is_address_of(&object.hash);
        progress.enter(Phase::Connect);
        match if self.asks(key, object, doubtful) { self.ask(key, object).await } else { Ok(There::Nothing) } {
            Ok(There::Same) => {
                progress.start_body(object.source.len());
                progress.add_sent(object.source.len());
                return Ok(key.clone());
            }
            Ok(There::Other) if !addressed => return self.place_beside(key, object, progress).await,
            Err(failure) if !addressed => return Err(failure),
            // What has another length at the address of this content is a damaged copy.
            Ok(There::Nothing | There::Unknown | There::Other) | Err(_) => {}
        }
        match self.put(key, object, !addressed, progress).await? {
            Put::Stored => Ok(key.clone()),
            Put::Taken => match self.ask(key, object).await {
                Ok(There::Same) => Ok(key.clone()),
                _ => self.place_beside(key, object, progress).await,
            },
        }
    }

    /// Whether it is asked what lies there before anything is sent.
    fn asks(&self, key: &Key, object: &Object, doubtful: bool) -> bool {
        // Some WebDAV servers store a second time under a name of their own what is there already.
        doubtful || !key.is_address_of(&object.hash) || matches!(self.backend, Backend::WebDav(_))
    }

    /// Stores under a name that only this content can have, so that nothing else can be replaced.
    async fn place_beside(&self, key: &Key, object: &Object, progress: &Arc<Progress>) -> Result<Key, Box<Failure>> {
        let key = key.addressed(&object.hash);
        if self.ask(&key, object).await.is_ok_and(|there| there == There::Same) {
            return Ok(key);
        }
        self.put(&key, object, false, progress).await.map(|_| key)
    }

    /// The key under which `object` is stored, if it is.
    async fn find(&self, key: &Key, object: &Object) -> Option<Key> {
        let beside = (!key.is_address_of(&object.hash)).then(|| key.addressed(&object.hash));
        for key in [Some(key), beside.as_ref()].into_iter().flatten() {
            if self.ask(key, object).await.is_ok_and(|there| there == There::Same) {
                return Some(key.clone());
            }
        }
        None
    }

    /// What lies at `key`.
    async fn ask(&self, key: &Key, object: &Object) -> Result<There, Box<Failure>> {
        let answer = self.talk(Method::HEAD, key).await?;
        match answer.status {
            200..300 => {}
            404 | 410 => return Ok(There::Nothing),
            // S3 says so of what is missing too, to a key that may not list the bucket.
            403 if matches!(self.backend, Backend::S3(_)) => return Ok(There::Unknown),
            _ => return self.judge().accept(&answer, false, self.clock.now()).map(|()| There::Unknown),
        }
        let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let same_length = text(CONTENT_LENGTH.as_str()) == Some(object.source.len().to_string().as_str());
        let same_name = key.is_address_of(&object.hash) || text(META_BLAKE3) == Some(&object.hash.to_string());
        Ok(if same_length && same_name { There::Same } else { There::Other })
    }

    /// Sends the object once. `if_absent`: only if nothing is there.
    async fn put(
        &self,
        key: &Key,
        object: &Object,
        if_absent: bool,
        progress: &Arc<Progress>,
    ) -> Result<Put, Box<Failure>> {
        if let Backend::WebDav(dav) = &self.backend {
            self.make_folders(dav, key).await?;
        }
        let (request, plan) = self.storing(key, object, if_absent);
        let answer = self.send(&request, &plan, progress).await?;
        if if_absent && answer.status == 412 {
            return Ok(Put::Taken);
        }
        if let Backend::WebDav(dav) = &self.backend
            && answer.status >= 300
        {
            dav.forget(key);
        }
        self.judge().accept(&answer, false, self.clock.now())?;
        if !progress.all_sent() {
            let message = format!("{} answered {} before it had the whole file", self.name, answer.status);
            return Err(Box::new(Failure::new(ErrorClass::BadResponse, Phase::Send, message)));
        }
        Ok(Put::Stored)
    }

    /// The request that stores the object, and its body.
    fn storing(&self, key: &Key, object: &Object, if_absent: bool) -> (Outgoing, Plan) {
        let plan = Plan::raw(Arc::clone(&object.source));
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        headers.extend(if_absent.then(|| (IF_NONE_MATCH, HeaderValue::from_static("*"))));
        headers.extend(plan.content_type.as_deref().and_then(|kind| Some((CONTENT_TYPE, kind.parse().ok()?))));
        let request = match &self.backend {
            Backend::S3(s3) => {
                headers.extend(s3.object_headers.iter().cloned());
                let hash = object.hash.to_string();
                headers.extend(hash.parse().ok().map(|value| (HeaderName::from_static(META_BLAKE3), value)));
                s3.request(Method::PUT, key, &headers, object.sha256, self.clock.now())
            }
            Backend::WebDav(dav) => dav.request(Method::PUT, key, &headers),
        };
        (request, plan)
    }

    /// Makes the folders of `key`. What a server says against it does not matter: the file's own request shows whether
    /// they are there.
    async fn make_folders(&self, dav: &WebDav, key: &Key) -> Result<(), Box<Failure>> {
        for (folder, request) in dav.missing(key) {
            let answer = self.send(&request, &Plan::empty(), &Arc::new(Progress::new())).await?;
            // 405: there is something at this address already (RFC 4918, 9.3.1).
            if (200..300).contains(&answer.status) || answer.status == 405 {
                dav.remember(folder);
            }
        }
        Ok(())
    }

    /// One request and its answer, whatever its status.
    async fn send(&self, request: &Outgoing, plan: &Plan, progress: &Arc<Progress>) -> Result<Answer, Box<Failure>> {
        let carries_file = plan.len() > 0;
        let file_trouble = Arc::new(OnceLock::new());
        let mut outgoing = self.client.request(request.method.clone(), request.url.clone());
        let mut headers = HeaderMap::new();
        headers.extend(request.headers.iter().cloned());
        outgoing = outgoing.headers(headers);
        if carries_file {
            let body = plan.body(progress, &file_trouble);
            outgoing = outgoing.header(CONTENT_LENGTH, plan.len()).body(reqwest::Body::wrap(body));
        }
        progress.start_body(plan.len());
        progress.enter(Phase::Connect);
        let mut received = Received::default();
        let done = http::exchange(outgoing, &mut received, progress, &file_trouble, &self.times).await;
        match done {
            Err(trouble) if received.status < 300 => {
                Err(Box::new(self.judge().broken(&trouble, progress.phase(), progress.all_sent(), carries_file)))
            }
            // The status says enough, even if its page did not arrive completely.
            _ => Ok(Answer::new(received.status, received.headers, &received.body)),
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge { host: &self.name, recipe: &self.recipe, redactor: &self.redactor, flow: &self.flow }
    }
}

/// The SHA-256 of what is to be sent. Blocking.
fn sha256(source: &Source) -> std::io::Result<[u8; 32]> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut at = 0;
    while at < source.len() {
        let len = usize::try_from(source.len() - at).unwrap_or(CHUNK).min(CHUNK);
        context.update(&source.read(at, len)?);
        at += len as u64;
    }
    Ok(bytes_of(&context.finish()))
}

fn empty_sha256() -> [u8; 32] {
    bytes_of(&digest::digest(&digest::SHA256, b""))
}

fn bytes_of(digest: &digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
