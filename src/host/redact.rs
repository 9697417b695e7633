//! Texts from the network, made fit for messages and the manifest: secrets replaced, control characters escaped, short.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

/// What stands in place of a secret.
const REDACTED: &str = "[REDACTED]";

/// Tokens and cookies that are shorter are no secrets but flags: `1`, `on`, `all`.
const SHORTEST: usize = 5;

/// Shorter parts of a base64 text could be a part of anything.
const BASE64_SHORTEST: usize = 8;

/// What stays as it is in a URI: the unreserved characters of RFC 3986.
const URI: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stays as it is in a form of .NET, whose custom uploaders we speak.
const DOT_NET: &AsciiSet = &URI.remove(b'!').remove(b'*').remove(b'(').remove(b')').add(b'~');

/// What is encoded in the path of an address.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');

/// Knows the secrets of one host. Its `Debug` does not show them.
#[derive(Clone, Debug, Default)]
pub(super) struct Redactor {
    /// Each secret in the spellings in which it can come back, longest first.
    needles: Vec<SecretString>,
}

impl Redactor {
    /// Hides each of `secrets`, also percent-encoded and as in JSON.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a SecretString>) -> Self {
        Self::of(Vec::new(), secrets.map(ExposeSecret::expose_secret))
    }

    /// The same, and `more` that became known on the way. Short ones say nothing and would spoil every text.
    pub(super) fn and<'a>(&self, more: impl Iterator<Item = &'a str>) -> Self {
        Self::of(self.needles.clone(), more.filter(|secret| secret.len() >= SHORTEST))
    }

    fn of<'a>(mut needles: Vec<SecretString>, secrets: impl Iterator<Item = &'a str>) -> Self {
        let mut spellings: Vec<String> = Vec::new();
        for secret in secrets.flat_map(with_password).filter(|secret| !secret.is_empty()) {
            let json = serde_json::Value::from(secret).to_string();
            spellings.push(json.trim_matches('"').to_owned());
            spellings.push(json.trim_matches('"').replace('/', "\\/"));
            let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            for set in [NON_ALPHANUMERIC, URI, DOT_NET, PATH] {
                let encoded = utf8_percent_encode(secret, set).to_string();
                spellings.extend([small_hex(&encoded), small_hex(&encoded.replace("%20", "+")), encoded]);
            }
            spellings.extend([small_hex(&form), form]);
            spellings.push(secret.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;"));
            spellings.extend(in_base64(secret));
            spellings.push(secret.to_owned());
        }
        spellings.retain(|spelling| !spelling.is_empty());
        needles.extend(spellings.into_iter().map(SecretString::from));
        needles.sort_by(|a, b| {
            let (a, b) = (a.expose_secret(), b.expose_secret());
            b.len().cmp(&a.len()).then_with(|| a.cmp(b))
        });
        needles.dedup_by(|a, b| a.expose_secret() == b.expose_secret());
        Self { needles }
    }

    /// At most `limit` bytes of `text`, on one line, without secrets.
    pub(super) fn clean(&self, text: &str, limit: usize) -> String {
        let mut text = text.to_owned();
        // Before anything is cut or escaped: half a secret would not be recognised.
        for needle in &self.needles {
            text = text.replace(needle.expose_secret(), REDACTED);
        }
        printable(&text, limit)
    }
}

/// `%2F` as `%2f`, which some programs write.
fn small_hex(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let at = part.char_indices().nth(2).map_or(part.len(), |(at, _)| at);
        text.push('%');
        text.push_str(&part[..at].to_ascii_lowercase());
        text.push_str(&part[at..]);
    }
    text
}

/// A secret, and the password of one that is a whole login (`name:password`): a host may repeat only that.
fn with_password(secret: &str) -> impl Iterator<Item = &str> {
    let password = secret.split_once(':').map(|(_, password)| password);
    std::iter::once(secret).chain(password.filter(|password| password.len() >= SHORTEST))
}

/// The parts of a base64 text that are the same wherever in the encoded text `secret` stands: `Basic` puts a name before it.
/// Where nothing follows the secret, its last bits stand in the last characters.
fn in_base64(secret: &str) -> impl Iterator<Item = String> {
    (0..3_usize).flat_map(|before| {
        let encoded = STANDARD.encode([&[0; 2][..before], secret.as_bytes()].concat());
        let (from, to) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
        let parts =
            [encoded.get(from..to), encoded.get(from..), encoded.get(from..).map(|end| end.trim_end_matches('='))];
        parts.map(|part| part.filter(|part| part.len() >= BASE64_SHORTEST).map(str::to_owned)).into_iter().flatten()
    })
}

/// `text` with white space of every kind as single spaces and other control characters escaped, at most `limit` bytes.
fn printable(text: &str, limit: usize) -> String {
    const CUT: &str = "…";
    let mut clean = String::new();
    for c in text.trim().chars() {
        let before = clean.len();
        if c.is_whitespace() {
            if !clean.ends_with(' ') {
                clean.push(' ');
            }
        } else if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
        if clean.len() > limit {
            clean.truncate(before);
            while clean.len() + CUT.len() > limit && clean.pop().is_some() {}
            clean.push_str(CUT);
            break;
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r26_a_secret_is_replaced_in_every_spelling() {
        let secret = SecretString::from("a/b\"c d+e".to_owned());
        let redactor = Redactor::new([&secret].into_iter());
        let text = r#"raw a/b"c d+e, json a/b\"c d+e, json2 a\/b\"c d+e, url a%2Fb%22c%20d%2Be, form a%2Fb%22c+d%2Be"#;
        let clean = redactor.clean(text, 512);
        assert_eq!(clean.matches(REDACTED).count(), 5, "{clean}");
        assert!(!format!("{redactor:?}").contains("a/b"));
        for spelling in ["a%2fb%22c%20d%2be", "a%2fb%22c+d%2be", "a/b%22c%20d+e"] {
            assert_eq!(redactor.clean(&format!("?key={spelling}&x"), 512), format!("?key={REDACTED}&x"));
        }
        let redactor = Redactor::new([&SecretString::from("q-k/(x)!~ä")].into_iter());
        for spelling in ["q-k%2f(x)!%7e%c3%a4", "q-k%2F%28x%29%21~%C3%A4", "q-k/(x)!~%C3%A4"] {
            assert_eq!(redactor.clean(spelling, 512), REDACTED, "{spelling}");
        }
    }

    #[test]
    fn r26_secrets_that_come_later_are_hidden_too_and_flags_are_not() {
        let redactor = Redactor::new([&SecretString::from("key1")].into_iter()).and(["to<ken", "all"].into_iter());
        assert_eq!(redactor.clean("key1 to&lt;ken to<ken all", 512), "[REDACTED] [REDACTED] [REDACTED] all");
    }

    #[test]
    fn r26_a_secret_is_replaced_inside_of_base64() {
        let secret = SecretString::from("s3cret-CANARY".to_owned());
        let redactor = Redactor::new([&secret].into_iter());
        for name in ["", "a", "al", "ada", "alice:"] {
            let sent = STANDARD.encode(format!("{name}s3cret-CANARY"));
            let clean = redactor.clean(&format!("Basic {sent}"), 512);
            assert!(clean.ends_with(REDACTED) && clean.len() < 24 + name.len() * 2, "{name}: {clean}");
            let longer = STANDARD.encode(format!("{name}s3cret-CANARY:more"));
            assert!(redactor.clean(&longer, 512).contains(REDACTED), "{name}");
        }
    }

    #[test]
    fn r26_of_a_login_the_password_alone_is_a_secret_too() {
        let redactor = Redactor::new([&SecretString::from("alice:s3cret-CANARY")].into_iter());
        let clean = redactor.clean("alice:s3cret-CANARY, s3cret-CANARY, ada", 512);
        assert_eq!(clean, "[REDACTED], [REDACTED], ada");
        let basic = STANDARD.encode("alice:s3cret-CANARY");
        assert_eq!(redactor.clean(&format!("Basic {basic}"), 512), "Basic [REDACTED]");
        // A short one is no password but could be any word.
        assert_eq!(Redactor::new([&SecretString::from("a:on")].into_iter()).clean("on", 9), "on");
    }

    #[test]
    fn texts_are_one_short_line() {
        let redactor = Redactor::default();
        assert_eq!(redactor.clean("  a\r\n\t b\u{1b}[31m\u{0}c ", 64), "a b\\u{1b}[31m\\u{0}c");
        let cut = redactor.clean(&"é".repeat(400), 512);
        assert!(cut.len() <= 512 && cut.len() > 505 && cut.ends_with('…'));
        assert_eq!(redactor.clean(&"a".repeat(512), 512).len(), 512);
    }

    #[test]
    fn r26_a_secret_across_the_cut_does_not_survive_in_part() {
        let secret = SecretString::from("CANARY".to_owned());
        let redactor = Redactor::new([&secret].into_iter());
        assert!(!redactor.clean(&format!("{}CANARY", "x".repeat(509)), 512).contains("CAN"));
    }
}
