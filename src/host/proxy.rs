//! The system's proxies (`https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`) on the way to a site.
//!
//! One that speaks plain HTTP is a part of our own connection, which ends when its future does: encrypted sites are reached
//! through a tunnel (`CONNECT`), plain ones by passing the request on. Proxies of other kinds are the client library's.

use std::fmt;
use std::io;

use hyper::Uri;
use hyper::http::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use url::{Host, Url};

use super::options::is_loopback;

/// The head of an answer to `CONNECT`: a status line and a few headers.
const HEAD_LIMIT: usize = 8 * 1024;

/// How a site is reached.
#[derive(Debug)]
pub(super) enum Way {
    /// By ourselves.
    Direct,
    /// Through this proxy.
    Through(Proxy),
    /// Through one that speaks something else.
    Other,
}

/// A proxy that speaks plain HTTP. Its `Debug` does not show the password.
#[derive(Clone)]
pub(super) struct Proxy {
    /// Where it is.
    pub(super) host: Host<String>,
    pub(super) port: u16,
    /// `Basic …`
    pub(super) authorization: Option<HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// The way to `url` as the system has it. Sites on this machine are never reached through a proxy.
pub(super) fn way_to(url: &Url) -> Way {
    let uri: Option<Uri> = url.as_str().parse().ok();
    match uri.and_then(|uri| Matcher::from_system().intercept(&uri)) {
        _ if is_loopback(url) => Way::Direct,
        None => Way::Direct,
        Some(proxy) => plain(&proxy).map_or(Way::Other, Way::Through),
    }
}

fn plain(proxy: &Intercept) -> Option<Proxy> {
    let url = Url::parse(&proxy.uri().to_string()).ok().filter(|url| url.scheme() == "http")?;
    let host = url.host()?.to_owned();
    Some(Proxy { host, port: url.port_or_known_default()?, authorization: proxy.basic_auth().cloned() })
}

impl Proxy {
    /// Asks for a tunnel to `host` (as it stands in an address) on a connection to the proxy. Whatever is sent or read on
    /// it afterwards goes through.
    ///
    /// # Errors
    /// What the system or the proxy says.
    pub(super) async fn tunnel(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &Host<String>,
        port: u16,
    ) -> io::Result<()> {
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;
        let head = self.head(stream).await?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if head.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
            return Ok(());
        }
        let said: String =
            head.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(80).collect();
        Err(io::Error::other(format!("the proxy {} opens no tunnel: {said}", self.host)))
    }

    /// Up to the empty line and not a byte further: what follows belongs to the tunnel.
    async fn head(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= HEAD_LIMIT {
                return Err(io::Error::other(format!("the proxy {} answers something else than HTTP", self.host)));
            }
            head.push(stream.read_u8().await?);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(authorization: Option<&'static str>) -> Proxy {
        let authorization = authorization.map(HeaderValue::from_static);
        Proxy { host: Host::Domain("proxy.example".to_owned()), port: 3128, authorization }
    }

    /// What the proxy read, and what came of it.
    async fn tunnel(answer: &'static [u8], authorization: Option<&'static str>) -> (String, io::Result<()>) {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let asking = async {
            let done = proxy(authorization).tunnel(&mut ours, &Host::Domain("imgbb.example".to_owned()), 443).await;
            drop(ours);
            done
        };
        // Its end breaks the connection.
        let answering = async move {
            let mut read = [0; 512];
            let count = theirs.read(&mut read).await.expect("a request");
            theirs.write_all(answer).await.expect("written");
            String::from_utf8_lossy(&read[..count]).into_owned()
        };
        let (done, read) = tokio::join!(asking, answering);
        (read, done)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_and_nothing_behind_the_answer_is_taken() {
        let (read, done) = tunnel(b"HTTP/1.1 200 Connection established\r\n\r\n", Some("Basic eDp5")).await;
        assert!(done.is_ok(), "{done:?}");
        assert_eq!(
            read,
            "CONNECT imgbb.example:443 HTTP/1.1\r\nHost: imgbb.example:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
        );
        let (mut ours, mut theirs) = tokio::io::duplex(1_024);
        theirs.write_all(b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\nTLS").await.expect("written");
        proxy(None).tunnel(&mut ours, &Host::Ipv6(std::net::Ipv6Addr::LOCALHOST), 1).await.expect("a tunnel");
        let mut rest = [0; 3];
        ours.read_exact(&mut rest).await.expect("what belongs to the tunnel");
        assert_eq!(&rest, b"TLS");
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_or_speaks_otherwise_is_named() {
        let refused = tunnel(b"HTTP/1.1 407 Proxy Authentication Required\r\nX: y\r\n\r\n", None).await.1;
        let message = refused.expect_err("refused").to_string();
        assert_eq!(message, "the proxy proxy.example opens no tunnel: HTTP/1.1 407 Proxy Authentication Required");
        assert!(tunnel(b"SSH-2.0-x\r\n\r\n", None).await.1.is_err());
        assert!(tunnel(b"HTTP/1.1 200", None).await.1.is_err(), "it broke off");
        let endless: &'static [u8] = Box::leak(vec![b'a'; HEAD_LIMIT + 1].into_boxed_slice());
        assert!(tunnel(endless, None).await.1.expect_err("too long").to_string().contains("something else than HTTP"));
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", proxy(Some("Basic geheim"))).contains("geheim"));
    }
}
