//! A checked text as a template of the recipe.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use url::Url;

use super::eval::{Found, World, place_of};
use super::site::with_scheme;
use super::syntax::Text;
use crate::host::NO_ADDRESS;
use crate::host::links::LINK_LIMIT;
use crate::host::recipe::template::{Foreign, RENDERED_LIMIT, RenderError, Scope};
use crate::host::recipe::{Answer, Template};

/// What a text becomes.
#[derive(Clone, Debug)]
enum Kind {
    /// What it says.
    Value,
    /// An address to send to: the text, and the parameters behind it. `home` is where it leads by itself; with another
    /// `base_url` it is moved there.
    Address { query: Text, home: Option<String> },
    /// An address that an answer gives.
    Link,
}

struct Expression {
    key: String,
    text: Text,
    kind: Kind,
}

/// A value, called `key` in messages.
pub(super) fn value(key: impl Into<String>, text: Text) -> Template {
    foreign(key, text, Kind::Value)
}

/// The address of a request.
pub(super) fn address(text: Text, query: Text, home: Option<String>) -> Template {
    foreign("RequestURL", text, Kind::Address { query, home })
}

/// A link that is read from the answer.
pub(super) fn link(key: &str, text: Text) -> Template {
    foreign(key, text, Kind::Link)
}

fn foreign(key: impl Into<String>, text: Text, kind: Kind) -> Template {
    Template::foreign(Arc::new(Expression { key: key.into(), text, kind }))
}

impl Foreign for Expression {
    fn render(&self, scope: &Scope, answer: Option<&Answer>) -> Result<String, RenderError> {
        let world = World {
            scope,
            answer,
            encodes_names: !matches!(self.kind, Kind::Value),
            draws: Cell::new(place_of(&self.key)),
            chosen: RefCell::default(),
            found: Cell::new(Found::NotAsked),
        };
        let failed = |reason| RenderError::Failed(self.key.clone(), reason);
        let text = self.text.work_out(&world).map_err(failed)?;
        let text = match &self.kind {
            Kind::Value => text,
            Kind::Address { query, home } => {
                // File names are encoded by the query's own encoding.
                let world = World { encodes_names: false, ..world };
                let there = with_query(&with_scheme(&text), &query.work_out(&world).map_err(failed)?);
                // Shown as it stands in the file, for its owner to see what has to be put there.
                if scope.preview && scope.base_url == NO_ADDRESS {
                    there
                } else {
                    moved(&there, home.as_deref(), scope)
                }
            }
            // An address around nothing leads nowhere, though it looks like a link.
            Kind::Link if world.found.get() == Found::Nothing => return Err(RenderError::Missing(self.key.clone())),
            Kind::Link => absolute(&text, answer),
        };
        if text.len() > RENDERED_LIMIT && !self.has_content() {
            return Err(RenderError::TooLong(self.key.clone()));
        }
        Ok(text)
    }

    fn source(&self) -> &str {
        &self.key
    }

    fn has_content(&self) -> bool {
        self.text.has_content()
    }
}

fn with_query(url: &str, query: &str) -> String {
    let (url, _) = url.split_once('#').unwrap_or((url, ""));
    match query {
        "" => url.to_owned(),
        query => format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' }),
    }
}

/// `text` on the site that the user chose, if it is another one.
fn moved(text: &str, home: Option<&str>, scope: &Scope) -> String {
    if home == Some(scope.base_url.as_str()) {
        return text.to_owned();
    }
    let path = match Url::parse(text) {
        Ok(url) => url[url::Position::BeforePath..].to_owned(),
        // Not even an address: `base_url` is the whole of it.
        Err(_) => String::new(),
    };
    format!("{}{path}", scope.base_url)
}

/// A path on the site that answered as a whole address. Nothing else that is relative is believed.
fn absolute(text: &str, answer: Option<&Answer>) -> String {
    let text = text.trim();
    let path = text.starts_with('/') && text.len() <= LINK_LIMIT && !text.chars().any(char::is_whitespace);
    let base = answer.filter(|_| path).and_then(|answer| Url::parse(&answer.url).ok());
    base.and_then(|base| base.join(text).ok()).map_or_else(|| text.to_owned(), String::from)
}
