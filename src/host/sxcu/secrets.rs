//! What in a file is a secret: values under names that say so, and texts that look like one.
//!
//! Every such value is taken out as soon as the file is read, so that nothing that prints, logs or compares a recipe
//! ever holds it: `{secret:NAME}` stands in its place, and the value is kept apart.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use secrecy::SecretString;

use super::neutral::may_be_secret;
use super::syntax::{Call, Encoding, Function, Piece, Text};
use super::{Parsed, file::Body};

/// Names that hold one of these hold a secret.
const SECRET_PARTS: [&str; 16] = [
    "key",
    "token",
    "secret",
    "passw",
    "passphrase",
    "pwd",
    "auth",
    "credential",
    "cookie",
    "session",
    "signature",
    "userhash",
    "webhook",
    "bearer",
    "apikey",
    "privatekey",
];

/// Names that are exactly one of these hold a secret.
const SECRET_NAMES: [&str; 10] = ["pass", "pw", "sid", "sig", "hash", "uhash", "pin", "otp", "jwt", "login"];

/// Names that only look like one of those.
const PUBLIC_PARTS: [&str; 5] = ["keyword", "keyboard", "keyframe", "author", "monkey"];

/// Values that are no secret under any name.
const PUBLIC_VALUES: [&str; 8] = ["true", "false", "null", "none", "yes", "anonymous", "public", "private"];

/// Headers whose values are long and public.
const PUBLIC_HEADERS: [&str; 8] =
    ["user-agent", "accept", "accept-language", "accept-encoding", "content-type", "referer", "origin", "host"];

/// The words before the secret of an `Authorization` header.
const SCHEMES: [&str; 10] =
    ["bearer", "basic", "token", "client-id", "apikey", "api-key", "key", "bot", "digest", "jwt"];

/// The shortest secret: shorter ones would hide half of every message.
const SHORTEST: usize = 4;

/// What looks like a generated key: long, letters and digits mixed.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9_\-+]{16,}").expect("a valid expression"));

/// `token=…` inside of an address.
static QUERY_PAIR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|[?&])([\w.\-\[\]]+)=([^&#\s]+)").expect("a valid expression"));

/// `"name": "value"`, nothing in it escaped.
static JSON_PAIR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""([^"\\]+)"\s*:\s*"([^"\\]+)""#).expect("a valid expression"));

/// `<name>value<` and `name="value"`
static XML_PAIR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"<([\w.:\-]+)(?:\s[^<>]*)?>([^<&]+)<|([\w.:\-]+)\s*=\s*"([^"<&]+)""#).expect("a valid expression")
});

/// Whether `name` says that its value is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    if plain.contains("authoriz") {
        return true;
    }
    let public = PUBLIC_PARTS.iter().any(|part| plain.contains(part));
    SECRET_NAMES.contains(&plain.as_str()) || (!public && SECRET_PARTS.iter().any(|part| plain.contains(part)))
}

/// Whether `text` looks generated.
fn looks_secret(text: &str) -> bool {
    let count = |wanted: fn(&char) -> bool| text.chars().filter(wanted).count();
    let (letters, digits) = (count(char::is_ascii_alphabetic), count(char::is_ascii_digit));
    let mixed = count(char::is_ascii_uppercase) >= 4 && count(char::is_ascii_lowercase) >= 4 && text.len() >= 24;
    text.len() >= 16 && ((letters >= 4 && digits >= 3) || (mixed && entropy(text) >= 4.0)) && entropy(text) >= 2.8
}

/// Bits for each character, by how often the characters occur.
fn entropy(text: &str) -> f64 {
    let mut counts: BTreeMap<char, u32> = BTreeMap::new();
    text.chars().for_each(|c| *counts.entry(c).or_default() += 1);
    let total = f64::from(u32::try_from(text.chars().count()).unwrap_or(u32::MAX));
    counts.values().map(|count| f64::from(*count) / total).map(|share| -share * share.log2()).sum()
}

fn is_public_value(text: &str) -> bool {
    let text = text.trim();
    text.len() < SHORTEST || PUBLIC_VALUES.iter().any(|public| public.eq_ignore_ascii_case(text))
}

/// Takes the secrets out of `parsed`; returns them by the names under which they are asked for.
pub(super) fn separate(parsed: &mut Parsed, body: Body) -> BTreeMap<String, SecretString> {
    let mut vault =
        Vault { taken: parsed.texts().iter().flat_map(|text| names(text)).collect(), found: BTreeMap::new() };
    vault.address(&mut parsed.url);
    for (name, value) in &mut parsed.headers {
        if name.eq_ignore_ascii_case("cookie") {
            vault.cookies(value);
        } else if is_secret_name(name) {
            vault.whole(name, value);
        } else if !PUBLIC_HEADERS.contains(&name.to_lowercase().as_str()) {
            vault.neutral(name, value);
        }
    }
    for (name, value) in parsed.parameters.iter_mut().chain(&mut parsed.arguments) {
        if is_secret_name(name) { vault.whole(name, value) } else { vault.neutral(name, value) }
    }
    vault.data(&mut parsed.data, body);
    for text in [&mut parsed.link, &mut parsed.thumbnail, &mut parsed.deletion, &mut parsed.error] {
        vault.address(text);
    }
    vault.found
}

/// The secrets that `text` asks for by name.
pub(super) fn names(text: &Text) -> Vec<String> {
    let asked = text.calls().into_iter().filter(|call| call.function == Function::Secret);
    asked.filter_map(|call| call.params.first().and_then(Text::as_literal)).collect()
}

struct Vault {
    /// Names that the file itself uses.
    taken: Vec<String>,
    found: BTreeMap<String, SecretString>,
}

impl Vault {
    /// What stands in place of `secret`.
    fn keep(&mut self, name: &str, secret: &str) -> Piece {
        let mut base: String =
            name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        base = base.trim_matches('_').to_owned();
        if base.is_empty() {
            base.push_str("secret");
        }
        let free = |name: &String| !self.taken.contains(name) && !self.found.contains_key(name);
        let numbered = (2..).map(|n| format!("{base}_{n}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(free).unwrap_or(base);
        self.found.insert(name.clone(), SecretString::from(secret));
        Piece::Call(Call { function: Function::Secret, params: vec![Text::literal(name)] })
    }

    /// The value of a name that says it is secret: every literal in it.
    fn whole(&mut self, name: &str, text: &mut Text) {
        let mut pieces = Vec::new();
        for piece in std::mem::take(&mut text.0) {
            match piece {
                Piece::Literal(literal) => {
                    let (scheme, secret) = without_scheme(&literal);
                    if is_public_value(secret) {
                        pieces.push(Piece::Literal(literal));
                    } else {
                        pieces.extend(Text::literal(scheme).0);
                        let secret = self.keep(name, secret);
                        pieces.push(secret);
                    }
                }
                Piece::Call(mut call) => {
                    let takes_text = matches!(call.function, Function::Base64 | Function::Random);
                    if takes_text {
                        call.params.iter_mut().for_each(|param| self.whole(name, param));
                    }
                    pieces.push(Piece::Call(call));
                }
                other => pieces.push(other),
            }
        }
        text.0 = pieces;
    }

    /// The value of a name that says nothing.
    fn neutral(&mut self, name: &str, text: &mut Text) {
        match text.as_literal() {
            Some(literal) if may_be_secret(name, &literal) => self.whole(name, text),
            _ => self.tokens(name, text),
        }
        // `user:password` in base64 is what Basic authentication sends, under whatever name.
        for piece in &mut text.0 {
            if let Piece::Call(call) = piece
                && call.function == Function::Base64
            {
                let is_login = |param: &Text| param.to_string().contains(':');
                call.params.iter_mut().filter(|param| is_login(param)).for_each(|param| self.whole(name, param));
            }
        }
    }

    /// `a=1; b=2`: every value.
    fn cookies(&mut self, text: &mut Text) {
        self.replace(text, |literal| {
            let mut found = Vec::new();
            let mut at = 0;
            for pair in literal.split("; ") {
                let value = pair.find('=').map_or(pair.len(), |equals| equals + 1);
                if !is_public_value(&pair[value..]) {
                    found
                        .push((at + value..at + pair.len(), format!("cookie_{}", pair[..value].trim_end_matches('='))));
                }
                at += pair.len() + 2;
            }
            found
        });
        // A value that is put together of several parts has literals without `=`.
        self.tokens("cookie", text);
    }

    /// The parts of any value that look generated.
    fn tokens(&mut self, name: &str, text: &mut Text) {
        self.replace(text, |literal| {
            let found = TOKEN.find_iter(literal).filter(|found| looks_secret(found.as_str()));
            found.map(|found| (found.range(), name.to_owned())).collect()
        });
        for piece in &mut text.0 {
            if let Piece::Call(call) = piece
                && matches!(call.function, Function::Base64 | Function::Random)
            {
                call.params.iter_mut().for_each(|param| self.tokens(name, param));
            }
        }
    }

    /// An address: the values of secret names in its query, and whatever looks generated.
    fn address(&mut self, text: &mut Text) {
        self.replace(text, |literal| {
            let pairs = QUERY_PAIR.captures_iter(literal).filter_map(|found| found.get(1).zip(found.get(2)));
            let secret =
                pairs.filter(|(name, value)| is_secret_name(name.as_str()) && !is_public_value(value.as_str()));
            secret.map(|(name, value)| (value.range(), name.as_str().to_owned())).collect()
        });
        self.tokens("address", text);
    }

    /// A body's text: the values of secret names, and whatever looks generated.
    fn data(&mut self, text: &mut Text, body: Body) {
        let encoding = match body {
            Body::Json => Encoding::Json,
            Body::Xml => Encoding::Xml,
            Body::None | Body::Multipart | Body::Form | Body::Binary => return,
        };
        self.replace(text, |literal| {
            let pairs = match encoding {
                Encoding::Json => &JSON_PAIR,
                Encoding::Form | Encoding::Xml => &XML_PAIR,
            };
            let mut found = Vec::new();
            for captures in pairs.captures_iter(literal) {
                let pair = captures.get(1).zip(captures.get(2)).or_else(|| captures.get(3).zip(captures.get(4)));
                let Some((name, value)) = pair else { continue };
                if is_secret_name(name.as_str()) && !is_public_value(value.as_str()) {
                    found.push((value.range(), name.as_str().to_owned()));
                }
            }
            found
        });
        self.tokens("data", text);
        for piece in &mut text.0 {
            if matches!(piece, Piece::Call(_)) {
                let call = std::mem::replace(piece, Piece::Literal(String::new()));
                *piece = Piece::Encoded(encoding, Text(vec![call]));
            }
        }
    }

    /// Replaces the ranges that `find` names in every literal.
    fn replace(&mut self, text: &mut Text, find: impl Fn(&str) -> Vec<(std::ops::Range<usize>, String)>) {
        let mut pieces = Vec::new();
        for piece in std::mem::take(&mut text.0) {
            let Piece::Literal(literal) = piece else {
                pieces.push(piece);
                continue;
            };
            let mut at = 0;
            for (range, name) in find(&literal) {
                pieces.extend(Text::literal(&literal[at..range.start]).0);
                let secret = self.keep(&name, &literal[range.clone()]);
                pieces.push(secret);
                at = range.end;
            }
            pieces.extend(Text::literal(&literal[at..]).0);
        }
        text.0 = pieces;
    }
}

/// `Bearer x` as `Bearer ` and `x`.
fn without_scheme(text: &str) -> (&str, &str) {
    match text.split_once(' ') {
        Some((scheme, secret)) if SCHEMES.contains(&scheme.to_lowercase().as_str()) => {
            let at = text.len() - secret.trim_start().len();
            text.split_at(at)
        }
        _ => ("", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_secret() {
        for name in [
            "Authorization",
            "X-API-Key",
            "auth_token",
            "pw",
            "userHash",
            "Cookie",
            "upload_password",
            "secret_key",
            "sid",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in
            ["author", "keywords", "title", "album", "format", "keep-exif", "userID", "private", "type", "passive"]
        {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn generated_texts_look_secret_and_words_do_not() {
        for text in [
            "6d207e02198a847aa98d0a2a901485a5",
            "CANARY-title-7f3d9c21",
            "sk_live_4eC39HqLyjWDarjtT1",
            "AbCdEfGhIjKlMnOpQrStUvWxYz",
        ] {
            assert!(looks_secret(text), "{text}");
        }
        for text in [
            "multipart-form-data",
            "2026-01-02-03-04-05",
            "image-compression-percent",
            "aaaaaaaaaaaaaaaaaaaa",
            "short1a2b3c",
        ] {
            assert!(!looks_secret(text), "{text}");
        }
    }
}
