//! Values that a protocol wants made up: ids of uploads.

use ulid::Ulid;

/// The longest one; the known protocols want 32 at most.
const LENGTH_LIMIT: usize = 64;

/// Random characters of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    alphabet: &'static [u8],
    length: usize,
}

impl Random {
    /// Reads `digits:N`, `lower:N` (small letters and digits) or `alnum:N`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (kind, length) = text.split_once(':')?;
        let alphabet: &[u8] = match kind {
            "digits" => b"0123456789",
            "lower" => b"abcdefghijklmnopqrstuvwxyz0123456789",
            "alnum" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            _ => return None,
        };
        let length = length.parse().ok().filter(|length| (1..=LENGTH_LIMIT).contains(length))?;
        Some(Self { alphabet, length })
    }

    /// A fresh value.
    #[must_use]
    pub fn make(self) -> String {
        // Eight of the ten random bytes of each id: the remainder's slight unevenness does not matter for ids.
        let bytes =
            std::iter::repeat_with(|| Ulid::generate().random().to_le_bytes()).flat_map(|all| all.into_iter().take(8));
        bytes.take(self.length).map(|byte| char::from(self.alphabet[usize::from(byte) % self.alphabet.len()])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_length_and_alphabet_and_differ() {
        for (text, length, known) in [
            ("digits:12", 12, (|c| c.is_ascii_digit()) as fn(char) -> bool),
            ("lower:20", 20, |c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            ("alnum:32", 32, |c| c.is_ascii_alphanumeric()),
        ] {
            let random = Random::new(text).expect(text);
            let (one, other) = (random.make(), random.make());
            assert_eq!(one.len(), length);
            assert!(one.chars().all(known), "{one}");
            assert_ne!(one, other);
        }
        for text in ["digits", "digits:0", "digits:65", "hex:3", "lower:x"] {
            assert_eq!(Random::new(text), None, "{text}");
        }
    }
}
