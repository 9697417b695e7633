//! What people paste: the links of one image as URL, BBCode, Markdown and HTML. Pure.
//!
//! URLs come from hosts and names from files, so both are untrusted: only absolute http(s) URLs pass, and no text can
//! break out of its markup.

use maud::html;
use url::Url;

use crate::job::Links;

/// The texts for one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The page to link to.
    pub url: String,
    /// What to show; absent when the host made no thumbnail.
    pub thumb: Option<String>,
    /// `[url=…][img]…[/img][/url]`
    pub bbcode: String,
    /// `[![name](…)](…)`
    pub markdown: String,
    /// `<a href=…><img …></a>`
    pub html: String,
}

impl Texts {
    /// The texts for an image called `name`; `None` without a usable URL.
    #[must_use]
    pub fn of(name: &str, links: &Links) -> Option<Self> {
        let url = web_url(&links.url)?;
        let thumb = links.thumb.as_deref().and_then(web_url);
        let shown = thumb.clone().or_else(|| links.image.as_deref().and_then(web_url));
        let alt = markdown_text(name);
        let (bbcode, markdown, html) = match &shown {
            Some(image) => (
                format!("[url={url}][img]{image}[/img][/url]"),
                format!("[![{alt}]({image})]({url})"),
                html! { a href=(url) { img src=(image) alt=(name); } },
            ),
            None => (format!("[url]{url}[/url]"), format!("[{alt}]({url})"), html! { a href=(url) { (name) } }),
        };
        Some(Self { url, thumb, bbcode, markdown, html: html.into_string() })
    }
}

/// The URL in its normal form if it is one to open in a browser: absolute, http or https, without a user's name. What
/// would end a BBCode or Markdown link is percent-encoded.
#[must_use]
pub fn web_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty();
    if !usable || url.password().is_some() {
        return None;
    }
    let host_end = url.scheme().len() + 3 + url.authority().len();
    let (start, rest) = url.as_str().split_at(host_end);
    let mut safe = start.to_owned();
    for character in rest.chars() {
        match character {
            '(' => safe.push_str("%28"),
            ')' => safe.push_str("%29"),
            '[' => safe.push_str("%5B"),
            ']' => safe.push_str("%5D"),
            '<' => safe.push_str("%3C"),
            '>' => safe.push_str("%3E"),
            '"' => safe.push_str("%22"),
            '\'' => safe.push_str("%27"),
            other => safe.push(other),
        }
    }
    Some(safe)
}

fn markdown_text(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        match character {
            character if character.is_control() => text.push(' '),
            '\\' | '[' | ']' | '<' | '>' | '`' | '*' | '_' | '!' | '&' => text.extend(['\\', character]),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(url: &str, thumb: Option<&str>) -> Links {
        Links {
            url: url.into(),
            thumb: thumb.map(Into::into),
            image: None,
            delete_url: Some("https://x/del".into()),
            ..Links::default()
        }
    }

    #[test]
    fn an_image_with_a_thumbnail_has_all_four_texts() {
        let texts =
            Texts::of("a.jpg", &links("https://h.example/p/1", Some("https://t.example/1.jpg"))).expect("usable");
        assert_eq!(texts.bbcode, "[url=https://h.example/p/1][img]https://t.example/1.jpg[/img][/url]");
        assert_eq!(texts.markdown, "[![a.jpg](https://t.example/1.jpg)](https://h.example/p/1)");
        assert_eq!(
            texts.html,
            r#"<a href="https://h.example/p/1"><img src="https://t.example/1.jpg" alt="a.jpg"></a>"#
        );
    }

    #[test]
    fn without_a_thumbnail_the_texts_are_plain_links() {
        let texts = Texts::of("a.jpg", &links("https://h.example/p/1", Some("javascript:alert(1)"))).expect("usable");
        assert_eq!((texts.thumb, texts.bbcode.as_str()), (None, "[url]https://h.example/p/1[/url]"));
        assert_eq!(texts.markdown, "[a.jpg](https://h.example/p/1)");
    }

    #[test]
    fn only_absolute_web_urls_become_links() {
        for bad in
            ["", "/i/x", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "ftp://h/x", "https://u:p@h/"]
        {
            assert_eq!(web_url(bad), None, "{bad}");
        }
        assert_eq!(web_url("http://[::1]:8421/i/a(b)[c]"), Some("http://[::1]:8421/i/a%28b%29%5Bc%5D".into()));
    }

    #[test]
    fn hostile_names_and_urls_stay_inside_their_markup() {
        let hostile = links("https://h.example/\"><script>/)[/url]", Some("https://h.example/']("));
        let texts = Texts::of("](javascript:alert(1))\n<script>\"", &hostile).expect("usable");
        assert_eq!(texts.bbcode.matches("[/url]").count(), 1);
        assert!(!texts.html.contains("<script>"), "{}", texts.html);
        assert!(texts.markdown.starts_with(r"[![\](javascript:alert(1)) \<script\>"), "{}", texts.markdown);
    }
}
