//! Texts from the network, made fit for messages and the manifest: secrets replaced, control characters escaped, short.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

/// What stands in place of a secret.
const REDACTED: &str = "[REDACTED]";

/// Knows the secrets of one host. Its `Debug` does not show them.
#[derive(Clone, Debug, Default)]
pub(super) struct Redactor {
    /// Each secret in the spellings in which it can come back, longest first.
    needles: Vec<SecretString>,
}

impl Redactor {
    /// Hides each of `secrets`, also percent-encoded and as in JSON.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a SecretString>) -> Self {
        let mut spellings: Vec<String> = Vec::new();
        for secret in secrets.map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty()) {
            let json = serde_json::Value::from(secret).to_string();
            spellings.push(json.trim_matches('"').to_owned());
            spellings.push(json.trim_matches('"').replace('/', "\\/"));
            spellings.push(utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string());
            spellings.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
            spellings.push(secret.to_owned());
        }
        spellings.retain(|spelling| !spelling.is_empty());
        spellings.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        spellings.dedup();
        Self { needles: spellings.into_iter().map(SecretString::from).collect() }
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
