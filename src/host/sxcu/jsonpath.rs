//! JSON paths in the words of Json.NET: dotted names may hold nearly any character (`data.small-url`), and every path is
//! below the root whether it says so or not.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::json::quoted;

/// Compiles a path of Json.NET's syntax.
///
/// # Errors
/// What is wrong with it.
pub(super) fn compile(path: &str) -> Result<JsonPath, String> {
    let translated = translate(path).ok_or("the JSON path has a bracket that is never closed")?;
    JsonPath::parse(&translated).map_err(|_| "the JSON path is not understood".to_owned())
}

/// The only value at `path`. A missing one and null are the empty text.
///
/// # Errors
/// Several values, an object or an array.
pub(super) fn find(path: &JsonPath, root: &Value) -> Result<String, String> {
    let nodes = path.query(root);
    let mut nodes = nodes.iter();
    match (nodes.next(), nodes.next()) {
        (_, Some(_)) => Err("the JSON path finds several values".to_owned()),
        (None, None) | (Some(Value::Null), None) => Ok(String::new()),
        (Some(Value::String(text)), None) => Ok(text.clone()),
        (Some(Value::Bool(flag)), None) => Ok(flag.to_string()),
        (Some(Value::Number(number)), None) => Ok(number.to_string()),
        (Some(Value::Array(_)), None) => Err("the JSON path finds an array".to_owned()),
        (Some(Value::Object(_)), None) => Err("the JSON path finds an object".to_owned()),
    }
}

/// The same path as RFC 9535 writes it; `None` if a bracket is not closed.
fn translate(path: &str) -> Option<String> {
    let mut out = String::from("$");
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    // `$.` is put before any other path: one that begins with a dot then has two, and is found at any depth.
    let mut deep = !path.starts_with('$') && rest.starts_with('.');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            (deep, rest) = (true, after);
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = after;
        }
        if deep {
            out.push_str("..");
        }
        deep = false;
        if rest.starts_with('[') {
            let end = closing(rest)?;
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        match &rest[..end] {
            // `a.` and the dot before a bracket.
            "" => {}
            "*" => out.push_str("[*]"),
            name => {
                let _ = write!(out, "[{}]", quoted(name));
            }
        }
        rest = &rest[end..];
    }
    Some(out)
}

/// Where the bracket at the beginning of `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(chars.next()),
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(path: &str, json: &str) -> Result<String, String> {
        find(&compile(path)?, &serde_json::from_str(json).expect("JSON"))
    }

    #[test]
    fn sxcu_6_4_paths_seen_in_the_wild() {
        let json = r#"{"a":{"b":"1","b-c":"2","list":[{"x":"y","u":"3"},{"x":"z","u":"4"}]},"n":12,"t":true,"z":null,
                       "d":"2024-05-01T10:00:00Z","files":["f"],"o":{},"0":"zero"}"#;
        let table = [
            ("a.b", "1"),
            ("$.a.b", "1"),
            ("a['b-c']", "2"),
            ("a.b-c", "2"),
            ("a.list[0].u", "3"),
            (".a.list[1].u", "4"),
            ("['a']['list'][1]['u']", "4"),
            ("a.list[?(@.x=='z')].u", "4"),
            ("..b", "1"),
            ("files[*]", "f"),
            ("n", "12"),
            ("t", "true"),
            ("z", ""),
            ("missing.deep", ""),
            ("A.b", ""),
            ("d", "2024-05-01T10:00:00Z"),
            ("0", "zero"),
        ];
        for (path, expected) in table {
            assert_eq!(value(path, json).as_deref(), Ok(expected), "{path}");
        }
        assert_eq!(value("[0].url", r#"[{"url":"u"}]"#).as_deref(), Ok("u"));
    }

    #[test]
    fn sxcu_6_4_several_values_objects_and_arrays_are_mistakes() {
        let json = r#"{"a":[1,2],"o":{}}"#;
        for path in ["a[*]", "a", "o"] {
            assert!(value(path, json).is_err(), "{path}");
        }
        assert!(compile("a[").is_err() && compile("a[?]").is_err());
    }
}
