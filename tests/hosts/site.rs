//! What the strict fakes of whole sites share: reading forms and cookies, answering, and counting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::fake::{Fake, Reply, Request, parts, text};

/// Secrets that must never be seen outside of a request. Each stands where one of its kind stands.
pub(crate) const USER: &str = "CANARY-user@h";
pub(crate) const PASSWORD: &str = "CANARY-pa&ss\"word";

/// Text fields in their order.
pub(crate) type Fields = Vec<(String, String)>;

/// The file of a multipart body.
pub(crate) struct SentFile {
    /// The name of its field.
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
}

/// A fake site with a state of its own.
pub(crate) struct Site<S> {
    pub(crate) fake: Fake,
    state: Arc<Mutex<S>>,
}

impl<S: Send + 'static> Site<S> {
    /// Starts it. `answer` panics at a request that breaks the protocol: then there is no answer, and the test fails.
    pub(crate) async fn start(state: S, answer: impl Fn(&Request, &mut S) -> String + Send + Sync + 'static) -> Self {
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let handler = Arc::new(move |request: &Request| {
            let mut state = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            answer(request, &mut state)
        });
        Self { fake: Fake::start(vec![Reply::Ask(handler)]).await, state }
    }

    pub(crate) fn url(&self) -> String {
        self.fake.url()
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut self.state.lock().expect("the site found no broken request"))
    }

    /// How many requests were `METHOD /path`.
    pub(crate) fn count(&self, what: &str) -> usize {
        let path = |request: &Request| request.target.split('?').next().unwrap_or_default().to_owned();
        self.fake.requests().iter().filter(|request| format!("{} {}", request.method, path(request)) == what).count()
    }
}

/// `METHOD /path`, and the query apart.
pub(crate) fn line(request: &Request) -> (String, BTreeMap<String, String>) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    (format!("{} {path}", request.method), url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

/// The fields of a form in their order; the content type must be that of a form.
pub(crate) fn form(request: &Request) -> Vec<(String, String)> {
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

pub(crate) fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn cookies(request: &Request) -> BTreeMap<String, String> {
    let header = request.header("cookie").unwrap_or_default();
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    header.split("; ").filter_map(pair).collect()
}

/// The text fields of a multipart body in their order, and the file: name of its field, its own name, its bytes. The
/// file must be the last part.
pub(crate) fn multipart(request: &Request) -> (Fields, Option<SentFile>) {
    let (mut fields, mut file) = (Vec::new(), None);
    for part in parts(request) {
        assert!(file.is_none(), "a part after the file");
        let name = part.disposition.strip_prefix("name=\"").expect("a name");
        match name.split_once("\"; filename=\"") {
            Some((name, file_name)) => {
                assert_eq!(part.content_type.as_deref(), Some("image/png"));
                let file_name = file_name.trim_end_matches('"').to_owned();
                file = Some(SentFile { field: name.to_owned(), name: file_name, data: part.data });
            }
            None => {
                let value = String::from_utf8(part.data).expect("a text field is text");
                fields.push((name.trim_end_matches('"').to_owned(), value));
            }
        }
    }
    (fields, file)
}

/// A field that is there once.
pub(crate) fn field<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let mut found = fields.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "field {name} is there twice");
    value
}

pub(crate) fn html(body: &str) -> String {
    text("200 OK", "Content-Type: text/html; charset=UTF-8\r\n", body)
}

pub(crate) fn json(body: &str) -> String {
    text("200 OK", "Content-Type: application/json\r\n", body)
}

pub(crate) fn redirect(to: &str, headers: &str) -> String {
    text("302 Found", &format!("Location: {to}\r\n{headers}"), "")
}

pub(crate) fn not_found(request: &Request) -> String {
    text("404 Not Found", "", &format!("nothing at {}", request.target.len()))
}
