//! Redirects, for the recipes that want them followed: a host that answers an upload with the way to its page.
//!
//! The client itself follows none. Here the file and the headers go to the recipe's own sites only; any other site is
//! asked with a plain GET that says nothing, and never over plain http when the recipe's site has https.

use reqwest::Method;
use reqwest::header::LOCATION;
use url::Url;

use super::recipe::Answer;

/// How many redirects are followed: ShareX follows 50, browsers 20; real sites need two.
pub(super) const REDIRECT_LIMIT: usize = 20;

/// The next request of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hop {
    pub(super) url: Url,
    /// The method; with `None` the whole request is made again.
    pub(super) method: Option<Method>,
}

/// Where `answer`, which `from` gave to a request with `method`, leads to; `None` when it is the last one.
pub(super) fn next(from: &Url, method: &Method, answer: &Answer) -> Option<Hop> {
    let repeats = match answer.status {
        301..=303 => false,
        307 | 308 => true,
        _ => return None,
    };
    let location = answer.headers.get(LOCATION)?.to_str().ok()?;
    let url = from.join(location).ok()?;
    let safe = url.scheme() == "https" || (url.scheme() == "http" && from.scheme() == "http");
    if !safe || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let method = match (repeats, method) {
        (true, method) if *method != Method::GET => None,
        _ => Some(Method::GET),
    };
    Some(Hop { url, method })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn answer(status: u16, location: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().expect("a value"));
        Answer::new(status, headers, b"")
    }

    fn hop(from: &str, method: &Method, status: u16, location: &str) -> Option<(String, Option<Method>)> {
        let from = Url::parse(from).expect("a URL");
        next(&from, method, &answer(status, location)).map(|hop| (hop.url.into(), hop.method))
    }

    #[test]
    fn a_post_becomes_a_get_unless_the_status_says_otherwise() {
        let from = "https://h.example/up";
        let page = || "https://h.example/i/1".to_owned();
        for status in [301, 302, 303] {
            assert_eq!(hop(from, &Method::POST, status, "/i/1"), Some((page(), Some(Method::GET))), "{status}");
        }
        assert_eq!(hop(from, &Method::POST, 307, "/i/1"), Some((page(), None)));
        assert_eq!(hop(from, &Method::GET, 308, "/i/1"), Some((page(), Some(Method::GET))));
        for status in [200, 201, 300, 304, 404] {
            assert_eq!(hop(from, &Method::POST, status, "/i/1"), None, "{status}");
        }
    }

    #[test]
    fn r26_no_redirect_leaves_https_or_brings_a_password() {
        let from = "https://h.example/up";
        for location in ["http://h.example/i", "file:///etc/passwd", "https://u:p@h.example/", "https://"] {
            assert_eq!(hop(from, &Method::POST, 302, location), None, "{location}");
        }
        assert!(hop("http://127.0.0.1:1/up", &Method::POST, 302, "http://127.0.0.1:2/i").is_some());
    }
}
