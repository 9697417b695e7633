//! Tests of an answer: is this the page of somebody who is logged in?

use std::collections::BTreeMap;

use regex::Regex;
use reqwest::header::LOCATION;
use scraper::{Html, Selector};

use super::Answer;

/// What an answer is asked; all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Test {
    /// One of these statuses; empty for all.
    pub status: Vec<u16>,
    /// Something in the body.
    pub text: Option<Regex>,
    /// An element of the page.
    pub css: Option<Selector>,
    /// Something in the address that it leads to, or to which it has led.
    pub redirect: Option<Regex>,
    /// A cookie that the session has after it.
    pub cookie: Option<String>,
    /// A value that the step has extracted, and what it must be like.
    pub value: Option<(String, Regex)>,
}

impl Test {
    /// Whether it asks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { status, text, css, redirect, cookie, value } = self;
        let nothing = (text.is_none(), css.is_none(), redirect.is_none(), cookie.is_none(), value.is_none());
        status.is_empty() && nothing == (true, true, true, true, true)
    }

    /// Whether it holds for `answer`, of which `values` were extracted.
    #[must_use]
    pub fn holds(&self, answer: &Answer, values: &BTreeMap<String, String>) -> bool {
        let led = |regex: &Regex| {
            let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
            regex.is_match(location.unwrap_or(&answer.url))
        };
        (self.status.is_empty() || self.status.contains(&answer.status))
            && self.text.as_ref().is_none_or(|text| text.is_match(&answer.body))
            && self.redirect.as_ref().is_none_or(led)
            && self.cookie.as_ref().is_none_or(|name| answer.cookies.get(name).is_some_and(|value| !value.is_empty()))
            && self.value.as_ref().is_none_or(|(name, like)| values.get(name).is_some_and(|value| like.is_match(value)))
            && self.css.as_ref().is_none_or(|css| Html::parse_document(&answer.body).select(css).next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_given_must_hold() {
        let mut answer = Answer::new(302, reqwest::header::HeaderMap::new(), b"<form action=/auth/logout>Bye</form>");
        answer.headers.insert(LOCATION, "/user/dashboard".parse().expect("a value"));
        answer.cookies.insert("xfss".into(), "1".into());
        let values = BTreeMap::from([("st".to_owned(), "OK".to_owned())]);
        let regex = |text: &str| Some(Regex::new(text).expect("a regex"));
        let css = |text: &str| Some(Selector::parse(text).expect("a selector"));
        let value = |like: &str| Some(("st".to_owned(), Regex::new(like).expect("a regex")));
        let of = Test::default;
        let table = [
            (Test { status: vec![301, 302], ..of() }, true),
            (Test { status: vec![200], ..of() }, false),
            (Test { text: regex("Bye"), css: css("form[action*=logout]"), ..of() }, true),
            (Test { css: css("form[action*=login]"), ..of() }, false),
            (Test { redirect: regex("dashboard"), status: vec![302], ..of() }, true),
            (Test { redirect: regex("login"), ..of() }, false),
            (Test { cookie: Some("xfss".into()), ..of() }, true),
            (Test { cookie: Some("none".into()), ..of() }, false),
            (Test { value: value("^OK$"), ..of() }, true),
            (Test { value: value("^no"), ..of() }, false),
            (Test { text: regex("Bye"), status: vec![200], ..of() }, false),
        ];
        for (test, expected) in table {
            assert!(!test.is_empty());
            assert_eq!(test.holds(&answer, &values), expected, "{test:?}");
        }
    }
}
