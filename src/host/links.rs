//! What counts as a link: an absolute http(s) URL and nothing else.

use url::Url;

/// The longest link that is believed; browsers and forums cut longer ones.
pub const LINK_LIMIT: usize = 2048;

/// Why a text is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLink {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than [`LINK_LIMIT`].
    #[error("it is longer than {LINK_LIMIT} bytes")]
    TooLong,
    /// Control characters inside.
    #[error("it contains control characters")]
    Control,
    /// `{id}` was not filled in.
    #[error("it contains a placeholder that nobody filled in")]
    Placeholder,
    /// Relative, or another scheme.
    #[error("it is no absolute http or https URL")]
    NotAbsolute,
}

/// `text` as a normalised absolute http(s) URL.
///
/// # Errors
/// [`NoLink`]
pub fn link(text: &str) -> Result<String, NoLink> {
    let text = text.trim();
    if text.is_empty() {
        return Err(NoLink::Empty);
    }
    if text.len() > LINK_LIMIT {
        return Err(NoLink::TooLong);
    }
    // The URL parser would drop line breaks silently: a page of text must not become a link.
    if text.chars().any(char::is_control) {
        return Err(NoLink::Control);
    }
    if text.contains(['{', '}']) {
        return Err(NoLink::Placeholder);
    }
    // The URL parser would take `https:example` and `https:///example`.
    let (scheme, rest) = text.split_once("://").ok_or(NoLink::NotAbsolute)?;
    let web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    if !web || rest.starts_with(['/', '\\']) {
        return Err(NoLink::NotAbsolute);
    }
    let url = Url::parse(text).map_err(|_| NoLink::NotAbsolute)?;
    // The parser takes quotation marks for letters of a name: in BBCode or Markdown they would end the link.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    if url.host_str().is_none_or(|host| host.is_empty() || !host.chars().all(plain)) {
        return Err(NoLink::NotAbsolute);
    }
    if url.as_str().len() > LINK_LIMIT {
        return Err(NoLink::TooLong);
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r16_only_absolute_http_urls_are_links() {
        let table = [
            ("https://h.example/1", Ok("https://h.example/1")),
            (" HTTP://h.example/a b\"<x> ", Ok("http://h.example/a%20b%22%3Cx%3E")),
            ("http://127.0.0.1:8080/i/1", Ok("http://127.0.0.1:8080/i/1")),
            ("", Err(NoLink::Empty)),
            ("   ", Err(NoLink::Empty)),
            ("/show/1", Err(NoLink::NotAbsolute)),
            ("//h.example/1", Err(NoLink::NotAbsolute)),
            ("ftp://h.example/1", Err(NoLink::NotAbsolute)),
            ("javascript:alert(1)", Err(NoLink::NotAbsolute)),
            ("https:h.example", Err(NoLink::NotAbsolute)),
            ("https://h.\"example/1", Err(NoLink::NotAbsolute)),
            ("https://[::1]:8421/i/1", Ok("https://[::1]:8421/i/1")),
            ("https://", Err(NoLink::NotAbsolute)),
            ("https:///x", Err(NoLink::NotAbsolute)),
            ("<html>", Err(NoLink::NotAbsolute)),
            ("https://h.example/{id}", Err(NoLink::Placeholder)),
            ("https://h.example/a\nb", Err(NoLink::Control)),
            ("é", Err(NoLink::NotAbsolute)),
        ];
        for (text, expected) in table {
            assert_eq!(link(text).as_deref(), expected.as_ref().copied(), "{text:?}");
        }
        assert_eq!(link(&format!("https://h.example/{}", "a".repeat(3000))), Err(NoLink::TooLong));
    }
}
