//! The live page at `/status`, and the key that lets it steer.
//!
//! The page reads what anybody on this machine may read. Whatever changes something wants the key, which is made anew at
//! each start and told on the control socket only, that is to the user of the agent. It stands behind `#` in the address,
//! so no browser sends it anywhere by itself, and it goes back in a header, which no foreign page can set.

use std::fs::File;
use std::io::Read;

use axum::Extension;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::api::ApiError;
use crate::telemetry::event::TABLE;

/// The key of one run of the agent.
#[derive(Clone)]
pub(super) struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The address of the page with the key in it; `None` without a server, and for those who do not get the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Address(pub(super) Option<String>);

impl Key {
    /// 128 random bits of the system; `None` when it has none to give: then nobody steers from the page.
    pub(super) fn generate() -> Option<Self> {
        let mut bits = [0; 16];
        File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bits)).ok()?;
        Some(Self(bits.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub(super) fn address(&self, base_url: &str) -> Address {
        Address(Some(format!("{base_url}/status#{}", self.0)))
    }

    /// Compares hashes, so that the time it takes tells nothing.
    fn is(&self, offered: &str) -> bool {
        blake3::hash(self.0.as_bytes()) == blake3::hash(offered.as_bytes())
    }
}

/// Lets through who has the key.
pub(super) async fn with_key(Extension(key): Extension<Option<Key>>, request: Request, next: Next) -> Response {
    let offered = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let offered = offered.and_then(|value| value.strip_prefix("Bearer "));
    match (key, offered) {
        (Some(key), Some(offered)) if key.is(offered) => next.run(request).await,
        _ => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "this page only shows; to steer, open it with the address that `pixchute status` prints",
        )
        .into_response(),
    }
}

/// The head of a page.
pub(super) fn head(title: &str, styles: &[&str], script: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { (title) }
            @for style in styles { link rel="stylesheet" href=(style); }
            script src=(script) defer {}
        }
    }
}

/// The page without what is on it: that comes by `live.js`.
pub(super) async fn page() -> Markup {
    let events: Vec<&str> = TABLE.iter().map(|entry| entry.name).collect();
    let columns = |names: &[&str]| html! { thead { tr { @for name in names { th { (name) } } } } };
    html! {
        (DOCTYPE)
        html lang="en" {
            (head("pixchute: status", &["/gallery.css", "/live.css"], "/live.js"))
            body data-events=(events.join(" ")) {
                header {
                    h1 { a href="/" { "pixchute" } }
                    p.counts { b #state { "…" } span #pool {} span #steer {} span #said {} }
                }
                main {
                    table {
                        (columns(&["#", "File", "Host", "Progress", "", "Speed", "Left", ""]))
                        tbody #attempts {}
                    }
                    table { (columns(&["Host", "Window", "Queued", "State", ""])) tbody #hosts {} }
                    table {
                        (columns(&["Folder", "Settling", "Open", "Resting", "Failed", "Done", "Oldest"]))
                        tbody #folders {}
                    }
                    ul #events {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_long_random_and_in_no_debug_output() {
        let (one, two) = (Key::generate().expect("random"), Key::generate().expect("random"));
        assert!(one.0.len() == 32 && one.0 != two.0);
        assert!(one.is(&one.0) && !one.is(&two.0) && !one.is(""));
        assert!(!format!("{one:?}").contains(&one.0));
        let address = one.address("http://127.0.0.1:8421").0;
        assert_eq!(address, Some(format!("http://127.0.0.1:8421/status#{}", one.0)));
    }
}
