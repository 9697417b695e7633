//! Values that nothing around them calls a secret: `"k": "q7Zx41"` can be one, `"mode": "upload"` cannot.
//!
//! A key that was made by a machine or thought up as a password mixes letters and digits; what a form says about an image
//! seldom does. What is taken for a secret though it is none costs nothing: it is sent all the same. The other way round
//! a secret would be seen, so names that are known to be harmless are listed, and no others.

use std::sync::LazyLock;

use regex::Regex;

/// The shortest that is looked at: shorter ones would hide half of every message.
const SHORTEST: usize = 5;

/// Parts of names whose values tell something about the image or the answer.
const HARMLESS: [&str; 44] = [
    "album", "action", "mode", "format", "type", "time", "expir", "durat", "title", "name", "descr", "content",
    "folder", "categor", "tag", "private", "public", "nsfw", "adult", "lang", "locale", "size", "width", "height",
    "thumb", "quality", "upload", "submit", "method", "output", "return", "response", "version", "domain", "color",
    "colour", "url", "referer", "source", "client", "embed", "date", "text", "comment",
];

/// Names with exactly these letters.
const HARMLESS_NAMES: [&str; 8] = ["act", "op", "q", "v", "ver", "th", "tz", "ext"];

/// What mixes letters and digits and means something: `12h`, `300x300`, `1.2.3-beta`, `utf-8`, `sha256`, `image/webp`.
static MEANS_SOMETHING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)^(?:\d+(?:ms|s|m|h|d|w|y|min|mins|minutes|hours?|days?|weeks?|months?|years?|px|[kmg]i?b|st|nd|rd|th)|\d+x\d+|v?\d+(?:\.\d+)+\S*|utf-?\d+|iso-?8859-\d+|(?:sha|md|base|mp|h|x)\d+|[\w.+-]+/[\w.+-]+(?:;\S*)?|\d{4}-\d\d-\d\dt?\S*|\S+://\S*)$",
    )
    .expect("a valid expression")
});

/// Whether `text`, the value of `name`, may be a secret though nothing says so.
pub(super) fn may_be_secret(name: &str, text: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    if HARMLESS_NAMES.contains(&plain.as_str()) || HARMLESS.iter().any(|part| plain.contains(part)) {
        return false;
    }
    let text = text.trim();
    let mixed = text.chars().any(|c| c.is_ascii_digit()) && text.chars().any(|c| c.is_ascii_alphabetic());
    text.len() >= SHORTEST && mixed && !text.contains(char::is_whitespace) && !MEANS_SOMETHING.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mixes_letters_and_digits_may_be_a_secret_unless_it_means_something() {
        for (name, value) in
            [("k", "q7Zx41"), ("z", "hunter2"), ("user", "ada-77"), ("X-Thing", "CAN1234"), ("id", "1234b")]
        {
            assert!(may_be_secret(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("act", "bput2x"),
            ("expires", "q7Zx41"),
            ("color", "#4a7de2"),
            ("keep", "12hours"),
            ("box", "300x300"),
            ("charset", "utf-8"),
            ("api", "1.2.3-rc1"),
            ("day", "2026-01-02T03"),
            ("accept", "image/webp2"),
            ("z", "poop"),
            ("z", "12345678"),
            ("z", "Value 1 of 2"),
            ("z", "a1"),
        ] {
            assert!(!may_be_secret(name, value), "{name}={value}");
        }
    }
}
