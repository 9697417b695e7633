//! Where a recipe's requests may go: nothing that a host answers can lead them anywhere else.

use std::collections::BTreeMap;

use url::Url;

/// The addresses of one host. Pure.
#[derive(Clone, Debug)]
pub(super) struct Sites {
    /// `base_url`.
    pub(super) base: Url,
    /// The recipe's other addresses, by name.
    pub(super) named: BTreeMap<String, Url>,
    /// More sites of the recipe, as origins.
    pub(super) origins: Vec<String>,
    /// The hosts that the site may name, `*.` for all below.
    pub(super) hosts: Vec<String>,
    /// Where the recipe expects the site if the user has put it elsewhere, each with what is asked instead.
    pub(super) moved: Vec<(Url, Url)>,
}

impl Sites {
    /// `text`, seen from `from`, as the URL that is asked; `None` if it leads to none of these sites.
    ///
    /// Addresses of the original site become those of the user's: pages are full of absolute addresses.
    pub(super) fn own(&self, text: &str, from: &Url) -> Option<Url> {
        let url = from.join(text.trim()).ok()?;
        let url = self.here(url);
        let clean = url.username().is_empty() && url.password().is_none();
        (clean && self.is_own(&url)).then_some(url)
    }

    /// Whether `url` leads to one of these sites.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        let origin = url.origin();
        let known = std::iter::once(&self.base).chain(self.named.values()).any(|site| site.origin() == origin);
        known || self.origins.contains(&origin.ascii_serialization()) || self.is_declared(url)
    }

    fn here(&self, mut url: Url) -> Url {
        let exact = self.moved.iter().find(|(there, _)| there.origin() == url.origin());
        let below = || self.moved.first().filter(|_| self.is_declared(&url));
        if let Some((_, here)) = exact.or_else(below) {
            // Between http and https all of these succeed.
            let moved = url.set_scheme(here.scheme()).is_ok()
                && url.set_host(here.host_str()).is_ok()
                && url.set_port(here.port()).is_ok();
            if moved {
                return url;
            }
        }
        url
    }

    fn is_declared(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let fits = |name: &String| match name.strip_prefix('*') {
            Some(below) => host.ends_with(below) && host.len() > below.len(),
            None => host == name,
        };
        url.scheme() == "https" && url.port().is_none() && self.hosts.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn sites(base: &str, moved: bool) -> Sites {
        let original = url("https://www.turbo.example");
        Sites {
            base: url(base),
            named: [("api".to_owned(), url("https://api.other.example"))].into(),
            origins: vec!["https://u2.example".into()],
            hosts: vec!["*.turbo.example".into(), "up.example.org".into()],
            moved: if moved { vec![(original, url(base))] } else { Vec::new() },
        }
    }

    fn own(sites: &Sites, text: &str) -> Option<String> {
        sites.own(text, &sites.base).map(String::from)
    }

    #[test]
    fn only_declared_sites_are_asked() {
        let sites = sites("https://www.turbo.example", false);
        let table = [
            ("/a?b", Some("https://www.turbo.example/a?b")),
            ("https://api.other.example/1", Some("https://api.other.example/1")),
            ("https://s8d8.turbo.example/up", Some("https://s8d8.turbo.example/up")),
            ("https://up.example.org/", Some("https://up.example.org/")),
            ("https://u2.example/x", Some("https://u2.example/x")),
            ("http://s8d8.turbo.example/up", None),
            ("https://s8d8.turbo.example:444/up", None),
            ("https://turbo.example/", None),
            ("https://evilturbo.example/", None),
            ("https://x.up.example.org/", None),
            ("https://evil.example/", None),
            ("//evil.example/", None),
            ("https://u:p@www.turbo.example/", None),
            ("http://127.0.0.1/", None),
            ("file:///etc/passwd", None),
        ];
        for (text, expected) in table {
            assert_eq!(own(&sites, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_the_original_site_lead_to_where_the_user_has_put_it() {
        let sites = sites("http://127.0.0.1:8080", true);
        let table = [
            ("https://www.turbo.example/p?q=1", Some("http://127.0.0.1:8080/p?q=1")),
            ("https://s8d8.turbo.example/up", Some("http://127.0.0.1:8080/up")),
            ("/p", Some("http://127.0.0.1:8080/p")),
            ("https://evil.example/", None),
            ("http://127.0.0.1:8081/", None),
        ];
        for (text, expected) in table {
            assert_eq!(own(&sites, text).as_deref(), expected, "{text}");
        }
    }
}
