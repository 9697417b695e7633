//! Deleting what was stored.
//!
//! A store deletes whatever lies at an address, so it is told no address that may be somebody else's: what was stored is
//! noted with its links ([`Receipt`]), and under a name that others can have as well it is looked at first. An object that
//! is named by its content is the same for everybody who stored that content here; whether one of them still links to it
//! is asked by whoever undoes.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::name::Key;
use super::s3::META_BLAKE3;
use super::{Backend, Object, Outgoing, Plan, StoreHost, empty_sha256};
use crate::host::Progress;
use crate::host::recipe::Answer;
use crate::job::{ContentHash, ErrorClass, Failure, Phase};

/// What is kept to find the objects again: the token of an upload's links. It lies in a manifest, which others may be able
/// to write: it is believed no more than the name or the content of an object confirms.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Which store it was; see [`StoreHost::mark`].
    store: String,
    /// Of the image, as hex digits.
    blake3: String,
    /// The image, then its thumbnail.
    objects: Vec<Stored>,
}

/// An object that was stored.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    key: String,
    /// Its length, where others can have its name as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Stored {
    pub(super) fn new(key: &Key, object: &Object) -> Self {
        let bytes = (!key.is_address_of(&object.hash)).then(|| object.source.len());
        Self { key: key.as_str().to_owned(), bytes }
    }
}

impl StoreHost {
    /// The token by which these objects, of the image with this hash, can be deleted.
    pub(super) fn receipt(&self, blake3: ContentHash, objects: Vec<Stored>) -> Option<String> {
        serde_json::to_string(&Receipt { store: self.mark(), blake3: blake3.to_string(), objects }).ok()
    }

    /// What `token` says, if it is one of ours.
    pub(super) fn read_receipt(token: &str) -> Option<Receipt> {
        serde_json::from_str(token).ok()
    }

    /// Tells this store from others without telling its address.
    fn mark(&self) -> String {
        let root = match &self.backend {
            Backend::S3(s3) => format!("{}\n{}", s3.endpoint, s3.bucket),
            Backend::WebDav(dav) => dav.base_url.to_string(),
        };
        blake3::hash(root.trim_end_matches('/').as_bytes()).to_hex()[..16].to_owned()
    }

    /// Deletes the image, then its thumbnail. May be repeated: what is gone is gone.
    pub(super) async fn remove(&self, receipt: &Receipt, deadline: Instant) -> Result<(), Box<Failure>> {
        let name = &self.name;
        if receipt.store != self.mark() {
            return Err(refused(format!("{name} is another store now than the one that has the image")));
        }
        let bad = |what| refused(format!("the note of what was stored cannot be used: {what}"));
        let hash = blake3::Hash::from_hex(&receipt.blake3).map_err(|error| bad(error.to_string()))?;
        let hash = ContentHash(*hash.as_bytes());
        let deleting = async {
            for Stored { key: text, bytes } in &receipt.objects {
                let key = Key::new(text).map_err(bad)?;
                if !key.is_address_of(&hash) && !self.is_still(&key, &hash, *bytes).await? {
                    return Err(refused(format!("`{text}` on {name} is not what was stored there: it was replaced")));
                }
                self.remove_one(&key).await?;
            }
            Ok(())
        };
        let late =
            |_| Box::new(Failure::new(ErrorClass::Timeout, Phase::Response, format!("{name} did not answer in time")));
        timeout_at(deadline, deleting).await.map_err(late).flatten()
    }

    /// Whether at `key` lies what was stored there, or nothing.
    async fn is_still(&self, key: &Key, hash: &ContentHash, bytes: Option<u64>) -> Result<bool, Box<Failure>> {
        let answer = self.talk(Method::HEAD, key).await?;
        match answer.status {
            200..300 => {}
            404 | 410 => return Ok(true),
            _ => return self.judge().accept(&answer, false, self.clock.now()).map(|()| false),
        }
        let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let same_length = bytes.is_some_and(|bytes| text(CONTENT_LENGTH.as_str()) == Some(&bytes.to_string()));
        // WebDAV keeps no hash: the length is all it can tell.
        let same_hash = matches!(self.backend, Backend::WebDav(_)) || text(META_BLAKE3) == Some(&hash.to_string());
        Ok(same_length && same_hash)
    }

    async fn remove_one(&self, key: &Key) -> Result<(), Box<Failure>> {
        let answer = self.talk(Method::DELETE, key).await?;
        match answer.status {
            404 | 410 => Ok(()),
            _ => self.judge().accept(&answer, false, self.clock.now()),
        }
    }

    /// A request about the object, without a body.
    pub(super) async fn talk(&self, method: Method, key: &Key) -> Result<Answer, Box<Failure>> {
        let request = self.request_about(method, key);
        self.send(&request, &Plan::empty(), &Arc::new(Progress::new())).await
    }

    /// The same before it is sent.
    pub(super) fn request_about(&self, method: Method, key: &Key) -> Outgoing {
        let headers = [(ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
        match &self.backend {
            Backend::S3(s3) => s3.request(method, key, &headers, empty_sha256(), self.clock.now()),
            Backend::WebDav(dav) => dav.request(method, key, &headers),
        }
    }
}

fn refused(message: String) -> Box<Failure> {
    Box::new(Failure::new(ErrorClass::BadResponse, Phase::Record, message))
}
