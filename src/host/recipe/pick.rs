//! Which of several links on a page is ours: the one that carries the file's name.
//!
//! Sites change names when they make addresses of them (`my pic.png` becomes `my_pic.png.html`), so names are compared
//! by their letters and digits, segment by segment.

use percent_encoding::percent_decode_str;
use regex::Regex;

/// Matches on one page that are looked at: a gallery has at most some hundred images.
const MATCHES_LIMIT: usize = 2000;

/// Characters that end a name in a page: those of markup and of addresses.
const EDGES: [char; 9] = ['/', '"', '\'', '<', '>', '[', ']', '=', '?'];

/// Group 1 (or all) of the match of `regex` whose text carries one of `names`: the last one, because a later upload of
/// the same name stands below. Without any such match the only one there is, unless it must be `strict`ly by name.
pub(super) fn pick(regex: &Regex, text: &str, names: &[String], strict: bool) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| plain(name)).filter(|name| !name.is_empty()).collect();
    let (mut exact, mut ending, mut all) = (None, None, Vec::new());
    for captures in regex.captures_iter(text).take(MATCHES_LIMIT) {
        let whole = captures.get(0)?.as_str();
        let value = captures.get(1).map_or(whole, |group| group.as_str());
        let segments: Vec<String> = decoded(whole).split(EDGES).map(plain).collect();
        let carries = |same: &dyn Fn(&str, &str) -> bool| {
            segments.iter().any(|segment| names.iter().any(|name| same(without_html(segment), name)))
        };
        if carries(&|segment, name| segment == name) {
            exact = Some(value);
        } else if carries(&|segment, name| segment.strip_suffix(name).is_some_and(|rest| rest.ends_with('_'))) {
            ending = Some(value);
        }
        if !all.contains(&value) {
            all.push(value);
        }
    }
    let only = if all.len() == 1 && !strict { all.first().copied() } else { None };
    exact.or(ending).or(only).map(str::to_owned)
}

/// `a&amp;b%20c` as `a&b c`.
fn decoded(text: &str) -> String {
    let text = percent_decode_str(text).decode_utf8_lossy().replace("&quot;", "\"").replace("&#39;", "'");
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Lower case, letters and digits, everything else as single `_` between them.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() {
            plain.extend(c.to_lowercase());
        } else if !plain.is_empty() && !plain.ends_with('_') {
            plain.push('_');
        }
    }
    plain.trim_end_matches('_').to_owned()
}

fn without_html(segment: &str) -> &str {
    segment.strip_suffix("_html").unwrap_or(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: &str = "[URL=https://h.example/p/1/banana.png.html][IMG]https://t.example/1_banana.png[/IMG][/URL]
        [URL=https://h.example/p/2/a.png.html][IMG]https://t.example/2_a.png[/IMG][/URL]
        [URL=https://h.example/p/3/My%20pic_%281%29.png.html][IMG]https://t.example/3[/IMG][/URL]
        [URL=https://h.example/p/4/a.png.html][IMG]https://t.example/4_a.png[/IMG][/URL]";

    fn picked(text: &str, name: &str, strict: bool) -> Option<String> {
        let regex = Regex::new(r"\[URL=([^\]]+)\]\[IMG\][^\[]+\[/IMG\]").expect("a regex");
        pick(&regex, text, &[name.to_owned()], strict)
    }

    #[test]
    fn the_link_of_the_file_is_found_among_many_and_a_later_one_wins() {
        let table = [
            ("banana.png", Some("https://h.example/p/1/banana.png.html")),
            ("a.png", Some("https://h.example/p/4/a.png.html")),
            ("My pic (1).png", Some("https://h.example/p/3/My%20pic_%281%29.png.html")),
            ("none.png", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(picked(CODES, name, false).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn the_only_link_needs_no_name_unless_the_name_decides() {
        let one = "[URL=https://h.example/p/9][IMG]https://t.example/9[/IMG]";
        assert_eq!(picked(&format!("{one} {one}"), "a.png", false).as_deref(), Some("https://h.example/p/9"));
        assert_eq!(picked(one, "a.png", true), None);
    }
}
