//! Whether a store takes our keys: a question about an object that is not there.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};

use super::name::Key;
use super::{Backend, StoreHost, empty_sha256};
use crate::host::Progress;
use crate::host::body::Plan;
use crate::job::Failure;

impl StoreHost {
    /// Fails if the store does not know the key, the user or the bucket. That the key may not read is no failure: it is
    /// there for writing.
    pub(super) async fn ask_about_us(&self) -> Result<(), Box<Failure>> {
        let request = match &self.backend {
            // Only the answer to a GET says why: that to a HEAD has no text.
            Backend::S3(s3) => s3.request(Method::GET, &Key::probe(), &[], empty_sha256(), self.clock.now()),
            Backend::WebDav(dav) => {
                let method = Method::from_bytes(b"PROPFIND").expect("a token");
                let depth = (HeaderName::from_static("depth"), HeaderValue::from_static("0"));
                dav.request(method, &Key::root(), &[depth])
            }
        };
        let answer = self.send(&request, &Plan::empty(), &Arc::new(Progress::new())).await?;
        let known = match &self.backend {
            Backend::S3(_) => match answer.status {
                404 => !answer.body.contains("NoSuchBucket"),
                403 => answer.body.contains("AccessDenied"),
                status => (200..300).contains(&status),
            },
            // Servers that know no PROPFIND say so only to who may ask.
            Backend::WebDav(_) => (200..300).contains(&answer.status) || matches!(answer.status, 405 | 501),
        };
        if known { Ok(()) } else { self.judge().accept(&answer, false, self.clock.now()) }
    }
}
