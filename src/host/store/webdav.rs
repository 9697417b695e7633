//! Requests of WebDAV (RFC 4918).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;

use super::Outgoing;
use super::name::Key;

/// How many folders are remembered as being there; forgotten all at once when there are more.
const REMEMBERED: usize = 4096;

/// A folder on a server, and how to speak to it.
#[derive(Debug)]
pub(super) struct WebDav {
    pub(super) base_url: Url,
    /// `Basic …`
    pub(super) authorization: Option<HeaderValue>,
    /// The folders that were made, or found to be there, since the start.
    folders: Mutex<HashSet<String>>,
}

impl WebDav {
    pub(super) fn new(base_url: Url, authorization: Option<HeaderValue>) -> Self {
        Self { base_url, authorization, folders: Mutex::default() }
    }

    /// Where the file lies.
    pub(super) fn address(&self, key: &Key) -> Url {
        self.below(&key.encoded())
    }

    /// A request for the file `key`.
    pub(super) fn request(&self, method: Method, key: &Key, headers: &[(HeaderName, HeaderValue)]) -> Outgoing {
        self.outgoing(method, self.address(key), headers.to_vec())
    }

    /// The requests that make the folders of `key` which are not known to be there, the outermost first; each with its
    /// name for [`WebDav::remember`].
    pub(super) fn missing(&self, key: &Key) -> Vec<(String, Outgoing)> {
        let known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let folders = key.folders().filter(|folder| !known.contains(*folder));
        let make = |folder: &str| {
            // Some servers want the slash that says "a folder".
            let url = self.below(&format!("{}/", super::sigv4::encoded(folder)));
            let method = Method::from_bytes(b"MKCOL").expect("a token");
            (folder.to_owned(), self.outgoing(method, url, Vec::new()))
        };
        folders.map(make).collect()
    }

    /// `folder` is there.
    pub(super) fn remember(&self, folder: String) {
        let mut known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(folder);
    }

    /// The folders of `key` may be gone.
    pub(super) fn forget(&self, key: &Key) {
        let mut known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in key.folders() {
            known.remove(folder);
        }
    }

    fn below(&self, encoded_path: &str) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}/{encoded_path}", self.base_url.path().trim_end_matches('/')));
        url
    }

    fn outgoing(&self, method: Method, url: Url, mut headers: Vec<(HeaderName, HeaderValue)>) -> Outgoing {
        headers.extend(self.authorization.iter().map(|value| (AUTHORIZATION, value.clone())));
        Outgoing { method, url, headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::store::name::Naming;

    #[test]
    fn folders_are_made_from_the_outermost_in_and_only_once() {
        let server = WebDav::new("https://h.example/dav/up/".parse().expect("a URL"), None);
        let key = Naming::sample_key("a b/c/x.jpg");
        assert_eq!(server.address(&key).as_str(), "https://h.example/dav/up/a%20b/c/x.jpg");
        let missing = server.missing(&key);
        let urls: Vec<&str> = missing.iter().map(|(_, request)| request.url.as_str()).collect();
        assert_eq!(urls, ["https://h.example/dav/up/a%20b/", "https://h.example/dav/up/a%20b/c/"]);
        for (folder, _) in missing {
            server.remember(folder);
        }
        assert!(server.missing(&key).is_empty());
        server.forget(&key);
        assert_eq!(server.missing(&key).len(), 2);
    }
}
