//! `verify = "head" | "get"`: a link counts only once it was seen to answer with an image (R16).
//!
//! The address comes from the host and is untrusted: it is asked without keys or cookies, redirects are not followed, and an
//! address of this machine or of a private network is asked only if the host itself is one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Response};
use tokio::time::{Instant, sleep, timeout_at};
use url::{Host as UrlHost, Url};

use super::wrapper::Wrapper;
use super::{Host, Sending, Upload, http};
use crate::config::Verify;
use crate::job::{ErrorClass, Failure, Links, Phase};

/// A new image may take a moment until every server of a host has it: the pauses between the looks.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// How long one look may take.
const LOOK_TIME: Duration = Duration::from_secs(20);

/// What is left of the attempt's deadline for telling what came of it.
const MARGIN: Duration = Duration::from_secs(1);

/// A host whose links are looked at before they count.
pub(super) struct Verified {
    pub(super) inner: Arc<dyn Host>,
    pub(super) how: Verify,
    pub(super) client: reqwest::Client,
    /// The host is on this machine or in a private network itself, or plain http is allowed.
    pub(super) near: bool,
}

impl Verified {
    async fn run(&self, upload: &Upload) -> Result<Links, Failure> {
        let links = self.inner.upload(upload).await?;
        upload.progress.enter(Phase::Parse);
        let limit = upload.deadline.checked_sub(MARGIN).unwrap_or(upload.deadline);
        let mut pauses = PAUSES.into_iter();
        loop {
            let Err(what) = self.look(&links, upload.source.len(), limit).await else { return Ok(links) };
            match pauses.next().filter(|pause| Instant::now() + *pause < limit) {
                Some(pause) => sleep(pause).await,
                None => return Err(self.failure(&links, &what)),
            }
        }
    }

    fn failure(&self, links: &Links, what: &str) -> Failure {
        let url = links.image.as_deref().unwrap_or(&links.url);
        let message = format!("{} gave a link that does not show the image: {url} {what}", self.name());
        Failure::new(ErrorClass::BadResponse, Phase::Parse, message).advise(
            "open the link; if it is well, the host changes images or answers late: set verify = \"off\" for it",
        )
    }

    /// Looks once; the error says what was found instead of an image.
    async fn look(&self, links: &Links, sent: u64, limit: Instant) -> Result<(), String> {
        let whole = links.image.as_deref();
        let text = whole.or(links.thumb.as_deref()).unwrap_or(&links.url);
        let url = Url::parse(text).map_err(|error| format!("is no address ({error})"))?;
        if !self.near && !is_public(&url) {
            return Err("leads to this machine or into a private network".to_owned());
        }
        let limit = limit.min(Instant::now() + LOOK_TIME);
        let answer = async {
            let method = if self.how == Verify::Get { Method::GET } else { Method::HEAD };
            let request = self.client.request(method, url);
            let answer =
                request.send().await.map_err(|error| format!("cannot be reached ({})", error.without_url()))?;
            self.judge(answer, whole.map(|_| sent)).await
        };
        timeout_at(limit, answer).await.unwrap_or_else(|_| Err("does not answer in time".to_owned()))
    }

    /// Whether `answer` is a whole image; of `expected` bytes, if its length is known.
    async fn judge(&self, mut answer: Response, expected: Option<u64>) -> Result<(), String> {
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("answers {}", status.as_u16()));
        }
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
        if !kind.trim_start().to_ascii_lowercase().starts_with("image/") {
            let found = if kind.is_empty() { "nothing said about its type" } else { &kind };
            return Err(format!("is no image but {}", found.chars().take(80).collect::<String>()));
        }
        let said = answer.headers().get(CONTENT_LENGTH).and_then(|said| said.to_str().ok()?.parse::<u64>().ok());
        let length = match self.how {
            Verify::Get => Some(read(&mut answer, expected.or(said)).await?),
            Verify::Head | Verify::Off => said,
        };
        match (length, expected) {
            (Some(0), _) => Err("is empty".to_owned()),
            (Some(length), Some(expected)) if length != expected => {
                Err(format!("has {length} bytes, {expected} were sent"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads the body and counts it; no further than one byte past `expected`, so that an endless one ends.
async fn read(answer: &mut Response, expected: Option<u64>) -> Result<u64, String> {
    let most = expected.unwrap_or(http::ANSWER_LIMIT as u64);
    let mut length: u64 = 0;
    while let Some(piece) = answer.chunk().await.map_err(|error| format!("breaks off ({})", error.without_url()))? {
        length = length.saturating_add(piece.len() as u64);
        if length > most {
            break;
        }
    }
    Ok(length)
}

/// Whether `url` is no address of this machine or of a private network.
fn is_public(url: &Url) -> bool {
    let address = match url.host() {
        Some(UrlHost::Domain(name)) => return name != "localhost" && !name.ends_with(".localhost"),
        Some(UrlHost::Ipv4(address)) => IpAddr::V4(address),
        Some(UrlHost::Ipv6(address)) => IpAddr::V6(address).to_canonical(),
        None => return false,
    };
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local())
        }
    }
}

impl Wrapper for Verified {
    fn inner(&self) -> &dyn Host {
        &*self.inner
    }

    fn send<'a>(&'a self, upload: &'a Upload) -> Sending<'a> {
        Box::pin(self.run(upload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_of_private_networks_are_told_from_others() {
        for near in [
            "http://127.0.0.1/x.jpg",
            "http://localhost:8080/",
            "http://a.localhost/",
            "http://10.1.2.3/",
            "http://169.254.169.254/latest",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://0.0.0.0/",
        ] {
            assert!(!is_public(&Url::parse(near).expect("a URL")), "{near}");
        }
        for far in ["https://i.example.org/x.jpg", "http://192.0.2.7/", "https://[2001:db8::1]/x.png"] {
            assert!(is_public(&Url::parse(far).expect("a URL")), "{far}");
        }
    }
}
