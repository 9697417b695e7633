//! Making values harmless for the language that surrounds them. Pure.
//!
//! Names come from files and URLs from hosts, so both are untrusted. A text that is a usable web address is escaped as
//! one, so that it still leads where it led; everything else as text.

use url::Url;

use crate::config::Escape;

/// `text` made harmless.
#[must_use]
pub fn escaped(escape: Escape, text: &str) -> String {
    match (escape, web_address(text)) {
        (Escape::None, _) => text.to_owned(),
        (Escape::Html, Some(url)) => html(&url),
        (Escape::Html, None) => html(text),
        (Escape::Bbcode, Some(url)) => encoded(&url, &['[', ']', '<', '>', '"', '\'']),
        (Escape::Bbcode, None) => bbcode(text),
        (Escape::Markdown, Some(url)) => encoded(&url, &['(', ')', '[', ']', '<', '>', '"', '\'', '\\']),
        (Escape::Markdown, None) => markdown(text),
    }
}

/// The address if it is one to open in a browser: absolute, http or https, nobody's name or password in it. As it was
/// written if every program reads that alike, else in its normal form.
#[must_use]
pub fn web_address(text: &str) -> Option<String> {
    let lower = text.get(..8)?.to_ascii_lowercase();
    if !lower.starts_with("http://") && lower != "https://" {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let usable = url.has_host() && url.username().is_empty() && url.password().is_none();
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !is_invisible(c) && c != '\\';
    usable.then(|| if text.chars().all(plain) { text.to_owned() } else { url.into() })
}

/// The address with these characters percent-encoded behind its authority, where brackets may belong to a number.
fn encoded(url: &str, characters: &[char]) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let mut safe = url[..end].to_owned();
    for character in url[end..].chars() {
        if characters.contains(&character) {
            safe.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            safe.push(character);
        }
    }
    safe
}

fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in visible(text) {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// BBCode has no way to write a bracket that every forum understands: round ones are readable everywhere.
fn bbcode(text: &str) -> String {
    let round = |character| match character {
        '[' => '(',
        ']' => ')',
        other => other,
    };
    visible(text).map(round).collect()
}

fn markdown(text: &str) -> String {
    let characters: Vec<char> = visible(text).collect();
    let mut safe = String::with_capacity(text.len());
    for (at, character) in characters.iter().enumerate() {
        let is_word = |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(|c| c.is_alphanumeric());
        let special = match character {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' => true,
            // Within a word it is no emphasis: IMG_1.jpg.
            '_' => !(is_word(at.checked_sub(1)) && is_word(Some(at + 1))),
            // The start of an entity.
            '&' => characters.get(at + 1).is_some_and(|next| next.is_alphanumeric() || *next == '#'),
            _ => false,
        };
        if special {
            safe.push('\\');
        }
        safe.push(*character);
    }
    safe
}

/// The characters of a text that stays on its line and reads in one direction.
fn visible(text: &str) -> impl Iterator<Item = char> {
    let line = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().filter(|character| !is_invisible(*character)).map(line)
}

/// Marks that turn the order of letters or end a line, and the byte order mark.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        let cases = [
            ("a.jpg", "a.jpg", "a.jpg", "a.jpg"),
            ("IMG_1.jpg", "IMG_1.jpg", "IMG_1.jpg", "IMG_1.jpg"),
            ("a[1].jpg", "a[1].jpg", "a(1).jpg", r"a\[1\].jpg"),
            ("</a><b>", "&lt;/a&gt;&lt;b&gt;", "</a><b>", r"\</a\>\<b\>"),
            ("\"'&amp;", "&quot;&#39;&amp;amp;", "\"'&amp;", r#""'\&amp;"#),
            ("Tom & _x_*", "Tom &amp; _x_*", "Tom & _x_*", r"Tom & \_x\_\*"),
            ("a\r\nb\u{202e}gpj", "a  bgpj", "a  bgpj", "a  bgpj"),
            ("[/url][b]", "[/url][b]", "(/url)(b)", r"\[/url\]\[b\]"),
            ("ж猫é.png", "ж猫é.png", "ж猫é.png", "ж猫é.png"),
        ];
        for (text, html, bbcode, markdown) in cases {
            assert_eq!(escaped(Escape::Html, text), html);
            assert_eq!(escaped(Escape::Bbcode, text), bbcode);
            assert_eq!(escaped(Escape::Markdown, text), markdown);
            assert_eq!(escaped(Escape::None, text), text);
        }
    }

    #[test]
    fn addresses_stay_intact_and_inside_their_markup() {
        let plain = "https://h.example/p/1?a=b&c=d#e";
        assert_eq!(escaped(Escape::Bbcode, plain), plain);
        assert_eq!(escaped(Escape::Markdown, plain), plain);
        assert_eq!(escaped(Escape::Html, plain), "https://h.example/p/1?a=b&amp;c=d#e");
        let odd = "http://[::1]:8421/i/a(b)[c]'\"<>.jpg";
        assert_eq!(escaped(Escape::Bbcode, odd), "http://[::1]:8421/i/a(b)%5Bc%5D%27%22%3C%3E.jpg");
        assert_eq!(escaped(Escape::Markdown, odd), "http://[::1]:8421/i/a%28b%29%5Bc%5D%27%22%3C%3E.jpg");
        assert_eq!(escaped(Escape::Html, odd), "http://[::1]:8421/i/a(b)[c]&#39;&quot;&lt;&gt;.jpg");
    }

    #[test]
    fn only_web_addresses_are_addresses() {
        for bad in
            ["", "h", "/i/x", "javascript:alert(1)", "data:text/html,x", "ftp://h/x", "https://u:p@h/", "https:x"]
        {
            assert_eq!(web_address(bad), None, "{bad}");
        }
        assert_eq!(web_address("https://h.example").as_deref(), Some("https://h.example"));
        assert_eq!(web_address("https://h.example/a\nb c").as_deref(), Some("https://h.example/ab%20c"));
        assert_eq!(web_address("HTTPS://h.example/a").as_deref(), Some("HTTPS://h.example/a"));
    }
}
