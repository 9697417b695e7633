//! AWS Signature Version 4, in a header, for requests without a query.
//!
//! Written here because it is small, and because the crates for it bring a second time library or their own HTTP client:
//! ours must carry the body, with its progress, stall watch and deadline. The hash is signed with the rest, so that a body
//! that was changed on the way is refused by the store.
//!
//! Source: "Signature Calculations for the Authorization Header", Amazon S3 API Reference; its examples are the tests.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};

/// What stays as it is in the path of a signed request: the unreserved characters of RFC 3986, and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Who signs, and for where.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    /// Goes over the wire in the clear, but is nobody else's business.
    pub(super) access_key: SecretString,
    /// Never leaves the process.
    pub(super) secret_key: SecretString,
    /// `us-east-1`
    pub(super) region: String,
    /// `s3`
    pub(super) service: &'static str,
}

/// What is signed of a request.
pub(super) struct ToSign<'a> {
    /// `PUT`
    pub(super) method: &'a str,
    /// Encoded, with the slash at its beginning, exactly as it is sent.
    pub(super) path: &'a str,
    /// Lower-case names and values, sorted by name; `host`, `x-amz-date` and `x-amz-content-sha256` among them.
    pub(super) headers: &'a [(String, String)],
    /// As in `x-amz-content-sha256`.
    pub(super) payload: &'a str,
    /// `20130524T000000Z`, as in `x-amz-date`.
    pub(super) stamp: &'a str,
}

impl Signer {
    /// The value of `Authorization`.
    pub(super) fn authorization(&self, request: &ToSign<'_>) -> String {
        let names = request.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let day = request.stamp.get(..8).unwrap_or(request.stamp);
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            request.stamp,
            hex(digest::digest(&digest::SHA256, canonical(request, &names).as_bytes()).as_ref())
        );
        let signature = hex(hmac::sign(&self.key(day), text.as_bytes()).as_ref());
        let id = self.access_key.expose_secret();
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}")
    }

    /// The key of one day, region and service.
    fn key(&self, day: &str) -> hmac::Key {
        let first = format!("AWS4{}", self.secret_key.expose_secret());
        let steps = [day, &self.region, self.service, "aws4_request"];
        steps.iter().fold(hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes()), |key, step| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, step.as_bytes()).as_ref())
        })
    }
}

fn canonical(request: &ToSign<'_>, names: &str) -> String {
    let mut text = format!("{}\n{}\n\n", request.method, request.path);
    for (name, value) in request.headers {
        text.push_str(name);
        text.push(':');
        // Outer spaces go, and inner ones shrink to one.
        text.push_str(&value.split_whitespace().collect::<Vec<_>>().join(" "));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(names);
    text.push('\n');
    text.push_str(request.payload);
    text
}

/// `path` as it stands in a signed request.
pub(super) fn encoded(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn signer() -> Signer {
        Signer {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned().into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned().into(),
            region: "us-east-1".to_owned(),
            service: "s3",
        }
    }

    fn signature(method: &str, path: &str, payload: &str, headers: &[(&str, &str)]) -> String {
        let stamp = "20130524T000000Z";
        let fixed =
            [("host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", payload), ("x-amz-date", stamp)];
        let mut headers: Vec<_> =
            headers.iter().chain(&fixed).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        headers.sort();
        signer().authorization(&ToSign { method, path, headers: &headers, payload, stamp })
    }

    #[test]
    fn the_examples_of_the_specification_give_their_signatures() {
        let get = signature("GET", "/test.txt", EMPTY, &[("range", "bytes=0-9")]);
        assert_eq!(
            get,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let body = hex(digest::digest(&digest::SHA256, b"Welcome to Amazon S3.").as_ref());
        assert_eq!(body, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
        let headers = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let put = signature("PUT", &encoded("/test$file.text"), &body, &headers);
        assert_eq!(
            put,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
             Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn the_path_is_encoded_byte_by_byte_but_for_the_unreserved() {
        let table = [
            ("/a/b-c_d.e~f", "/a/b-c_d.e~f"),
            ("/test$file.text", "/test%24file.text"),
            ("/a b+c=d&e", "/a%20b%2Bc%3Dd%26e"),
            ("/ü'(!)*", "/%C3%BC%27%28%21%29%2A"),
        ];
        for (path, expected) in table {
            assert_eq!(encoded(path), expected);
        }
    }

    #[test]
    fn spaces_in_header_values_shrink() {
        let one = signature("GET", "/", EMPTY, &[("cache-control", "public, max-age=1")]);
        assert_eq!(one, signature("GET", "/", EMPTY, &[("cache-control", "  public,   max-age=1 ")]));
    }
}
