//! Requests of the S3 protocol.

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::Outgoing;
use super::name::Key;
use super::sigv4::{Signer, ToSign, encoded, hex};
use crate::clock::WallTime;

/// The header that keeps the hash of the image with the object, so that it can be told from others of its name.
pub(super) const META_BLAKE3: &str = "x-amz-meta-blake3";

/// A bucket, and how to speak to it.
#[derive(Clone, Debug)]
pub(super) struct S3 {
    pub(super) endpoint: Url,
    pub(super) bucket: String,
    /// The bucket stands in the path, not in the name of the host.
    pub(super) path_style: bool,
    pub(super) signer: Signer,
    pub(super) session_token: Option<HeaderValue>,
    /// Headers of every object: ACL, storage class, `Cache-Control`.
    pub(super) object_headers: Vec<(HeaderName, HeaderValue)>,
}

impl S3 {
    /// Where the object lies.
    pub(super) fn address(&self, key: &Key) -> Url {
        let mut url = self.endpoint.clone();
        let base = self.endpoint.path().trim_end_matches('/');
        let path = if self.path_style {
            format!("{base}/{}/{}", encoded(&self.bucket), key.encoded())
        } else {
            let host = format!("{}.{}", self.bucket, self.endpoint.host_str().unwrap_or_default());
            // The name of a bucket was checked when the host was built.
            let _ = url.set_host(Some(&host));
            format!("{base}/{}", key.encoded())
        };
        url.set_path(&path);
        url
    }

    /// A signed request. `payload` is the SHA-256 of its body.
    pub(super) fn request(
        &self,
        method: Method,
        key: &Key,
        headers: &[(HeaderName, HeaderValue)],
        payload: [u8; 32],
        now: WallTime,
    ) -> Outgoing {
        let url = self.address(key);
        let stamp = stamp(now);
        let payload = hex(&payload);
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut headers = headers.to_vec();
        headers.push((HeaderName::from_static("x-amz-date"), plain(&stamp)));
        headers.push((HeaderName::from_static("x-amz-content-sha256"), plain(&payload)));
        if let Some(token) = &self.session_token {
            headers.push((HeaderName::from_static("x-amz-security-token"), token.clone()));
        }
        let mut signed: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        signed.push(("host".to_owned(), host));
        signed.sort();
        let to_sign =
            ToSign { method: method.as_str(), path: url.path(), headers: &signed, payload: &payload, stamp: &stamp };
        let mut authorization = plain(&self.signer.authorization(&to_sign));
        authorization.set_sensitive(true);
        headers.push((reqwest::header::AUTHORIZATION, authorization));
        Outgoing { method, url, headers }
    }
}

/// `20130524T000000Z`
fn stamp(now: WallTime) -> String {
    let time = Timestamp::from_millisecond(now.millis()).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A header's value out of text that was checked to be one, or that we made.
fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::store::name::Naming;

    fn bucket(endpoint: &str, path_style: bool) -> S3 {
        S3 {
            endpoint: endpoint.parse().expect("a URL"),
            bucket: "pics".to_owned(),
            path_style,
            signer: Signer {
                access_key: "AK".to_owned().into(),
                secret_key: "SK".to_owned().into(),
                region: "us-east-1".to_owned(),
                service: "s3",
            },
            session_token: None,
            object_headers: Vec::new(),
        }
    }

    #[test]
    fn an_object_lies_where_the_style_says() {
        let key = Naming::sample_key("a b/ü~.jpg");
        let table = [
            ("https://s3.eu-west-1.amazonaws.com", false, "https://pics.s3.eu-west-1.amazonaws.com/a%20b/%C3%BC~.jpg"),
            ("https://s3.example", true, "https://s3.example/pics/a%20b/%C3%BC~.jpg"),
            ("http://127.0.0.1:8333/", true, "http://127.0.0.1:8333/pics/a%20b/%C3%BC~.jpg"),
            ("https://gate.example/store/", true, "https://gate.example/store/pics/a%20b/%C3%BC~.jpg"),
        ];
        for (endpoint, path_style, expected) in table {
            assert_eq!(bucket(endpoint, path_style).address(&key).as_str(), expected);
        }
    }

    #[test]
    fn a_request_is_stamped_in_utc_and_shows_no_secret() {
        let now = WallTime::from_millis(1_369_353_600_999);
        assert_eq!(stamp(now), "20130524T000000Z");
        let request =
            bucket("https://s3.example", true).request(Method::PUT, &Naming::sample_key("x.jpg"), &[], [0; 32], now);
        let shown = format!("{:?} {:?}", request.headers, bucket("https://s3.example", true));
        assert!(!shown.contains("SK") && !shown.contains("AK") && !shown.contains("Signature"), "{shown}");
    }
}
