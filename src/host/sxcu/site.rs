//! Where a file's requests go: the sites that `RequestURL` can name, known before anything is sent.

use std::collections::BTreeMap;

use url::Url;

use super::syntax::{Function, Piece, Text};

/// How many sites `{random:…}` may choose from: the longest list in the public collection has 23.
const SITES_LIMIT: usize = 256;

/// The schemes before which nothing is put.
const SCHEMES: [&str; 5] = ["http://", "https://", "ftp://", "ftps://", "file://"];

/// `text` with a scheme, as ShareX completes it.
pub(super) fn with_scheme(text: &str) -> String {
    let text = text.trim();
    let lower = text.to_lowercase();
    if lower.starts_with("//") {
        format!("https:{text}")
    } else if SCHEMES.iter().any(|scheme| lower.starts_with(scheme)) {
        text.to_owned()
    } else {
        format!("https://{text}")
    }
}

/// The host of an address in the file's words; what cannot be understood is returned as it is.
pub(super) fn host_of(url: &str) -> String {
    let full = with_scheme(url);
    let rest = full.split_once("://").map_or(full.as_str(), |(_, rest)| rest);
    let host = &rest[..rest.find(['/', '?', '#', '{']).unwrap_or(rest.len())];
    host.rsplit('@').next().unwrap_or(host).to_owned()
}

/// The sites of `url` as origins, in the order of the file; the first is where requests go unless chance decides.
///
/// # Errors
/// Why they are not known: a question without an answer, or an address that is none.
pub(super) fn sites(url: &Text, answers: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut sites = Vec::new();
    for variant in variants(url, answers)? {
        let full = with_scheme(&variant);
        let url = Url::parse(&full).map_err(|error| format!("it is no address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err("only http and https addresses can be used".to_owned());
        }
        let origin = url.origin().ascii_serialization();
        if !sites.contains(&origin) {
            sites.push(origin);
        }
    }
    Ok(sites)
}

/// Every text that `text` can become by chance; what is not known before an upload is a letter.
fn variants(text: &Text, answers: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut all = vec![String::new()];
    for piece in &text.0 {
        let next: Vec<String> = match piece {
            Piece::Literal(text) => vec![text.clone()],
            Piece::Code(_) => vec!["0".to_owned()],
            Piece::Encoded(_, text) => variants(text, answers)?,
            Piece::Call(call) => match call.function {
                Function::Random => {
                    let lists = call.params.iter().map(|param| variants(param, answers));
                    lists.collect::<Result<Vec<_>, _>>()?.concat()
                }
                Function::Select | Function::InputBox => {
                    let name = call.option_name().unwrap_or_default();
                    let answer = answers.get(&name).filter(|answer| !answer.is_empty());
                    vec![answer.cloned().ok_or_else(|| format!("it depends on `{name}`, which is not set"))?]
                }
                _ => vec!["x".to_owned()],
            },
        };
        if all.len() * next.len() > SITES_LIMIT {
            return Err(format!("chance chooses between more than {SITES_LIMIT} addresses"));
        }
        all = all.iter().flat_map(|before| next.iter().map(move |after| format!("{before}{after}"))).collect();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sxcu::syntax::{Findings, Place, parse};

    fn of(url: &str, answers: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let text = parse("RequestURL", url, Place::Url, &mut Findings::default());
        let answers = answers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        sites(&text, &answers)
    }

    #[test]
    fn the_sites_are_known_before_anything_is_sent() {
        let table = [
            ("https://h.example/up", vec!["https://h.example"]),
            ("h.example/up/{filename}", vec!["https://h.example"]),
            ("//h.example:8443/up", vec!["https://h.example:8443"]),
            ("HTTP://h.example/up", vec!["http://h.example"]),
            ("https://{random:d1|d2|d1}.h.example/up", vec!["https://d1.h.example", "https://d2.h.example"]),
            ("{random:https://a.example/x|https://b.example/y}", vec!["https://a.example", "https://b.example"]),
            ("https://h.example/{secret:token}", vec!["https://h.example"]),
            ("https://h_underscore/x", vec!["https://h_underscore"]),
        ];
        for (url, expected) in table {
            assert_eq!(of(url, &[]), Ok(expected.into_iter().map(str::to_owned).collect()), "{url}");
        }
        let asked = "https://{inputbox:Your site}/up";
        assert!(of(asked, &[]).is_err_and(|error| error.contains("prompt.Your site")));
        assert_eq!(of(asked, &[("prompt.Your site", "me.example")]), Ok(vec!["https://me.example".to_owned()]));
        for url in ["Webhook URL", "ftp://h.example/", "https://"] {
            assert!(of(url, &[]).is_err(), "{url}");
        }
        let many = "{random:a|b|c|d|e|f|g|h}";
        assert!(of(&format!("https://{many}{many}{many}.example/"), &[]).is_err());
    }

    #[test]
    fn the_name_is_the_host() {
        for (url, host) in
            [("https://u:p@h.example/x?y", "h.example"), ("h.example", "h.example"), ("Webhook URL", "Webhook URL")]
        {
            assert_eq!(host_of(url), host);
        }
    }
}
