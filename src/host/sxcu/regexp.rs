//! Regular expressions in the words of .NET.
//!
//! Most patterns run in linear time. Those with look-around or back references, which published uploaders use, may
//! step back, but only [`BACKTRACK_LIMIT`] times.

use fancy_regex::{Regex, RegexBuilder};

/// How often a pattern may step back on one answer (at most 1 MiB): a second of work at worst.
const BACKTRACK_LIMIT: usize = 1_000_000;

/// The largest compiled pattern: written out, a page of text.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles a pattern of .NET's syntax.
///
/// # Errors
/// What is wrong with it. Does not repeat it: a pattern may hold a secret.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    RegexBuilder::new(&translated)
        .backtrack_limit(BACKTRACK_LIMIT)
        .delegate_size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| format!("the regular expression is not understood: {}", reason(&error)))
}

/// What `pattern` matches first in `input`: a group by number or name, or all of it. Nothing is `None`.
///
/// # Errors
/// When the pattern needed too long.
pub(super) fn find(pattern: &Regex, input: &str, group: &str) -> Result<Option<String>, String> {
    let captures = pattern.captures(input).map_err(|_| "the regular expression needs too long for this text")?;
    let Some(captures) = captures else { return Ok(None) };
    let found = match group {
        "" => captures.get(0),
        group => match group.parse::<usize>() {
            Ok(number) => captures.get(number),
            Err(_) => captures.name(group),
        },
    };
    Ok(found.map(|found| found.as_str().to_owned()))
}

/// The error without the pattern that some of them repeat.
fn reason(error: &fancy_regex::Error) -> String {
    match error {
        fancy_regex::Error::ParseError(at, kind) => format!("at byte {at}: {}", first_line(&format!("{kind:?}"))),
        _ => "it is too large or has a part that does not exist here".to_owned(),
    }
}

fn first_line(text: &str) -> &str {
    // `GeneralParseError("…")` and such: the name says enough, the rest may be a part of the pattern.
    text.split(['(', '\n']).next().unwrap_or_default()
}

/// `pattern` in the words of the `regex` crate where they differ: `$` also matches before a line break at the end, a
/// brace that begins no repetition is a brace, a bracket inside of a class is a bracket, `(?'name'…)` is a named group,
/// and `\<` is no word boundary.
fn translate(pattern: &str) -> Result<String, String> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            '\\' => {
                let escaped = chars.get(at).copied();
                at += 1;
                match escaped {
                    Some(letter @ ('<' | '>')) => out.push(letter),
                    // An escaped quote or slash is itself; the `regex` crate does not know every such escape.
                    Some(mark) if !mark.is_ascii_alphanumeric() && !mark.is_ascii_punctuation() => out.push(mark),
                    Some(other) => {
                        out.extend(['\\', other]);
                        // `\p{Lu}`, `\k{name}`, `\x{41}`: braces of a name.
                        if other.is_ascii_alphabetic() && chars.get(at) == Some(&'{') {
                            let name = chars[at..].iter().take_while(|c| **c != '}').count();
                            out.extend(&chars[at..at + name]);
                            at += name;
                        }
                    }
                    None => return Err("the regular expression ends with a lone backslash".to_owned()),
                }
            }
            '$' => out.push_str(r"(?=\n?\z)"),
            '{' if !is_repetition(&chars[at..]) => out.push_str(r"\{"),
            '}' if !closes_repetition(&chars[..at - 1]) => out.push_str(r"\}"),
            '(' if chars[at..].starts_with(&['?', '\'']) => {
                let name: String = chars[at + 2..].iter().take_while(|c| **c != '\'').collect();
                at += 3 + name.chars().count();
                out.push_str(&format!("(?<{name}>"));
            }
            '[' => at = class(&chars, at, &mut out)?,
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Whether `rest`, which follows a `{`, makes it a repetition: `3}`, `3,}` or `3,5}`.
fn is_repetition(rest: &[char]) -> bool {
    let inside: String = rest.iter().take_while(|c| **c != '}').collect();
    let (least, most) = inside.split_once(',').unwrap_or((&inside, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    rest.len() > inside.chars().count() && !least.is_empty() && digits(least) && digits(most)
}

/// Whether a `}` after `before` closes a repetition, or the name of `\p{…}`, `\k{…}`, `\x{…}`.
fn closes_repetition(before: &[char]) -> bool {
    let Some(open) = before.iter().rposition(|c| *c == '{') else { return false };
    let mut rest: Vec<char> = before[open + 1..].to_vec();
    rest.push('}');
    let named = open >= 2 && before[open - 2] == '\\' && before[open - 1].is_ascii_alphabetic();
    named || is_repetition(&rest)
}

/// Copies the class whose `[` stands before `at`; returns where it ends.
fn class(chars: &[char], mut at: usize, out: &mut String) -> Result<usize, String> {
    out.push('[');
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            ']' if at - 1 > first => {
                out.push(']');
                return Ok(at);
            }
            ']' => out.push_str(r"\]"),
            '\\' => {
                out.push('\\');
                out.extend(chars.get(at));
                at += 1;
            }
            '[' if chars.get(at.wrapping_sub(2)) == Some(&'-') && at - 2 > first => {
                return Err("a class minus a class (`[a-z-[aeiou]]`) is not supported".to_owned());
            }
            // In .NET these are themselves.
            '[' | '&' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Err("a `[` of the regular expression is never closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(pattern: &str, input: &str, group: &str) -> Option<String> {
        find(&compile(pattern).expect(pattern), input, group).expect("in time")
    }

    #[test]
    fn patterns_mean_what_they_mean_in_dotnet() {
        let table = [
            (r"id=(\d+)", "x id=42", "1", Some("42")),
            (r"id=(\d+)", "x id=42", "", Some("id=42")),
            (r"(?<u>https://\S+)", "a https://h/1 b", "u", Some("https://h/1")),
            (r"(?'u'\d+)", "a1b", "u", Some("1")),
            (r"id=(\d+)", "x id=42", "7", None),
            (r"id=(\d+)", "none", "1", None),
            // `$` and the line break at the end.
            (r"^(.+)$", "https://h/1\n", "1", Some("https://h/1")),
            // Braces and brackets that are only themselves.
            (r#"{"url":"(.+?)"}"#, r#"{"url":"https://h/1"}"#, "1", Some("https://h/1")),
            (r"\{(\d{2,3})\}", "{1234} {56}", "1", Some("56")),
            (r"[0-9]{3}", "a1b234", "", Some("234")),
            (r"([^[]+)\[", "ab[c", "1", Some("ab")),
            (r"[]a]+", "x]a", "", Some("]a")),
            (r"\p{Lu}+", "abCDe", "", Some("CD")),
            (r"[&~]+", "a&&~b", "", Some("&&~")),
            // Look-around and back references.
            (r#"(?<=href=").+?(?=")"#, r#"<a href="https://h/1">"#, "", Some("https://h/1")),
            (r#"src=(["'])(.+?)\1"#, r#"<img src='a"b' x>"#, "2", Some("a\"b")),
            (r"\<b\>(.*?)\<\/b\>", "<b>x</b>", "1", Some("x")),
        ];
        for (pattern, input, group, expected) in table {
            assert_eq!(first(pattern, input, group).as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn mistakes_are_named_without_the_pattern() {
        for pattern in ["(CANARY", "[CANARY", "CANARY\\", "[a-z-[aeiou]]CANARY", "(?P<CANARY"] {
            let error = compile(pattern).expect_err(pattern);
            assert!(!error.contains("CANARY"), "{error}");
        }
    }

    #[test]
    fn a_pattern_that_steps_back_for_ever_is_stopped() {
        let pattern = compile(r"(?=(a+)+$)(a+)+b\2").expect("a pattern");
        assert!(find(&pattern, &"a".repeat(5_000), "").is_err());
    }
}
