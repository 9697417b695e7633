//! A cookie jar for one session: RFC 6265 as far as upload sites need it. Pure: the time is passed in.
//!
//! A cookie goes back to the host that set it, or to the hosts below the domain that it named, and never anywhere else.
//! Which hosts are asked at all, the engine decides.

use reqwest::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::clock::WallTime;

/// Cookies of one jar: browsers keep 180 for a site, upload sites set fewer than ten.
const COOKIES_LIMIT: usize = 64;

/// The longest name and value together, as in browsers.
const COOKIE_LIMIT: usize = 4096;

/// The cookies of one session. Its `Debug` does not show their values.
#[derive(Clone, Debug, Default)]
pub(super) struct Jar {
    cookies: Vec<Cookie>,
}

#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: SecretString,
    /// The host, or with `below` the domain.
    domain: String,
    below: bool,
    /// Stricter than browsers: another port is another server.
    port: Option<u16>,
    path: String,
    secure: bool,
    /// Milliseconds of wall time; `None` for the session's life.
    until: Option<i64>,
}

impl Jar {
    /// Keeps what the answer of `url` sets, and drops what it takes back.
    pub(super) fn store(&mut self, url: &Url, headers: &HeaderMap, now: WallTime) {
        let texts = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        for cookie in texts.filter_map(|text| Cookie::parse(text, url, now)) {
            self.cookies.retain(|old| !old.is_same(&cookie));
            let gone = cookie.until.is_some_and(|until| until <= now.millis());
            if !gone && self.cookies.len() < COOKIES_LIMIT {
                self.cookies.push(cookie);
            }
        }
    }

    /// The `Cookie` header for a request to `url`.
    pub(super) fn header(&self, url: &Url, now: WallTime) -> Option<(reqwest::header::HeaderName, HeaderValue)> {
        let mut fitting: Vec<&Cookie> = self.cookies.iter().filter(|cookie| cookie.fits(url, now)).collect();
        fitting.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> =
            fitting.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value.expose_secret())).collect();
        let mut value = HeaderValue::from_str(&pairs.join("; ")).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some((COOKIE, value))
    }

    /// Name and value of every cookie.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.cookies.iter().map(|cookie| (cookie.name.as_str(), cookie.value.expose_secret()))
    }
}

impl Cookie {
    fn parse(text: &str, url: &Url, now: WallTime) -> Option<Self> {
        let mut parts = text.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let printable = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if name.is_empty() || name.len() + value.len() > COOKIE_LIMIT || !printable(name) || !printable(value) {
            return None;
        }
        let host = url.host_str()?.to_ascii_lowercase();
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned().into(),
            domain: host.clone(),
            below: false,
            port: url.port_or_known_default(),
            path: default_path(url.path()).to_owned(),
            secure: false,
            until: None,
        };
        let mut max_age = None;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "domain" if !value.is_empty() => {
                    let domain = value.trim_start_matches('.').to_ascii_lowercase();
                    // A whole top-level domain is nobody's site, and an address has no hosts below it.
                    let wide = !domain.contains('.') && domain != host;
                    if wide || !is_within(&host, &domain) {
                        return None;
                    }
                    (cookie.below, cookie.domain) = (true, domain);
                }
                "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
                "secure" => cookie.secure = true,
                "max-age" => max_age = value.parse::<i64>().ok(),
                "expires" => {
                    let date = httpdate::parse_http_date(&value.replace('-', " ")).ok();
                    let since = date.map(|date| date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default());
                    cookie.until = since.map(|since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
                }
                _ => {}
            }
        }
        if let Some(seconds) = max_age {
            cookie.until = Some(now.millis().saturating_add(seconds.saturating_mul(1000)));
        }
        Some(cookie)
    }

    fn is_same(&self, other: &Self) -> bool {
        let key = |cookie: &Self| (cookie.name.clone(), cookie.domain.clone(), cookie.port, cookie.path.clone());
        key(self) == key(other)
    }

    fn fits(&self, url: &Url, now: WallTime) -> bool {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let same = host == self.domain && self.port == url.port_or_known_default();
        let here = if self.below { is_within(&host, &self.domain) } else { same };
        let below = url.path().strip_prefix(self.path.as_str());
        let path = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'));
        let alive = self.until.is_none_or(|until| until > now.millis());
        here && path && alive && (!self.secure || url.scheme() == "https")
    }
}

/// Whether `host` is `domain` or below it.
fn is_within(host: &str, domain: &str) -> bool {
    let above = host.strip_suffix(domain);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.') && host.parse::<std::net::IpAddr>().is_err())
}

/// The folder of the request's path, without the slash at its end.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_millis(1_795_435_200_000);

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn jar(from: &str, cookies: &[&str]) -> Jar {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(SET_COOKIE, cookie.parse().expect("a header"));
        }
        let mut jar = Jar::default();
        jar.store(&url(from), &headers, NOW);
        jar
    }

    fn sent(jar: &Jar, to: &str) -> String {
        jar.header(&url(to), NOW).map_or_else(String::new, |(_, value)| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn a_cookie_goes_back_to_its_own_host_only() {
        let jar = jar("https://imx.example/login.php", &["a=1", "b=2; Path=/user", "c=3; Domain=.imx.example; Path=/"]);
        let table = [
            ("https://imx.example/", "a=1; c=3"),
            ("https://imx.example/user/gallery", "b=2; a=1; c=3"),
            ("https://imx.example/users", "a=1; c=3"),
            ("https://api.imx.example/v1", "c=3"),
            ("https://evil-imx.example/", ""),
            ("https://example/", ""),
        ];
        for (to, expected) in table {
            assert_eq!(sent(&jar, to), expected, "{to}");
        }
    }

    #[test]
    fn a_cookie_for_another_site_is_refused() {
        for cookie in ["a=1; Domain=other.example", "a=1; Domain=example", "a=1; Domain=x.imx.example", "=1", "a"] {
            assert_eq!(sent(&jar("https://imx.example/", &[cookie]), "https://imx.example/"), "", "{cookie}");
        }
        assert_eq!(sent(&jar("http://127.0.0.1:81/", &["a=1; Domain=0.0.1"]), "http://127.0.0.1:81/"), "");
    }

    #[test]
    fn cookies_are_replaced_expire_and_are_taken_back() {
        let jar = jar(
            "http://h.example/",
            &[
                "a=1",
                "a=2",
                "b=1; Max-Age=60",
                "c=1; expires=Wed, 21-Oct-2015 07:28:00 GMT",
                "d=1; Max-Age=0",
                "e=1; Secure",
                "f=1",
                "f=; Max-Age=0",
            ],
        );
        assert_eq!(sent(&jar, "http://h.example/"), "a=2; b=1");
        assert_eq!(sent(&jar, "http://h.example:81/"), "");
        let later = WallTime::from_millis(NOW.millis() + 61_000);
        let (_, value) = jar.header(&url("http://h.example/"), later).expect("one is left");
        assert_eq!(value, "a=2");
        assert!(value.is_sensitive());
    }

    #[test]
    fn r26_the_debug_text_has_no_values() {
        assert!(!format!("{:?}", jar("https://h.example/", &["sid=CANARY"])).contains("CANARY"));
    }
}
