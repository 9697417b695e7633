//! What an answer, or its absence, means: answer → links or [`Failure`]. No I/O.

use std::sync::LazyLock;

use reqwest::StatusCode;
use serde_json::Value;

use super::classes;
use super::http::{ANSWER_LIMIT, Trouble};
use super::links::link;
use super::pause::{self, Limit};
use super::recipe::{Answer, Extractor, Recipe, Template, template::Scope};
use super::redact::Redactor;
use crate::clock::WallTime;
use crate::clock::human;
use crate::config::HostFlow;
use crate::job::{ErrorClass, Failure, Links, Phase};

/// How much of a host's own words goes into a message.
const HOST_TEXT_LIMIT: usize = 300;

/// Statuses besides 2xx and 3xx with which a site says that it does not know user or password.
pub(super) const DENIALS: [u16; 4] = [400, 401, 403, 422];

/// Where hosts put the text of an error.
static USUAL_MESSAGES: LazyLock<Vec<Extractor>> = LazyLock::new(|| {
    const PLACES: [&str; 10] = [
        "json:error.message",
        "json:error_msg",
        "json:data.error.message",
        "json:data.error",
        "json:error",
        "json:errors[0].detail",
        "json:errors[0].message",
        "json:message",
        "json:status_txt",
        r"regex:(?is)<title>(.*?)</title>",
    ];
    PLACES.iter().map(|place| Extractor::new(place).expect("the usual places are valid extractors")).collect()
});

/// What a verdict needs to know besides the answer.
pub(super) struct Judge<'a> {
    pub(super) host: &'a str,
    pub(super) recipe: &'a Recipe,
    pub(super) redactor: &'a Redactor,
    pub(super) flow: &'a HostFlow,
}

impl Judge<'_> {
    /// Whether `answer` is one that the next step, or the links, can be made of.
    pub(super) fn accept(&self, answer: &Answer, expects_json: bool, now: WallTime) -> Result<(), Box<Failure>> {
        let refused = answer.json().and_then(|json| json.get("success")) == Some(&Value::Bool(false));
        if (200..300).contains(&answer.status) && !refused && (!expects_json || answer.json().is_some()) {
            return Ok(());
        }
        Err(Box::new(self.refusal(answer, now, None)))
    }

    /// The links that `scope` gives.
    pub(super) fn links(&self, scope: &Scope, answer: &Answer, now: WallTime) -> Result<Links, Box<Failure>> {
        let spec = &self.recipe.result;
        let problem = |what: &str| Box::new(self.refusal(answer, now, Some(what)));
        let first = |templates: &[Template]| first(templates, scope, Some(answer));
        let raw = first(&spec.url).ok_or_else(|| problem("without a link"))?;
        let url = link(&raw).map_err(|error| problem(&format!("with a link that cannot be used: {error}")))?;
        let optional = |templates: &[Template]| first(templates).and_then(|text| link(&text).ok());
        let links = Links {
            thumb: optional(&spec.thumb),
            image: optional(&spec.image),
            delete_url: optional(spec.delete_url.as_slice()),
            delete_token: first(spec.delete_token.as_slice()),
            url,
            stripped: false,
        };
        let fake = |text: &String| spec.fake.as_ref().is_some_and(|fake| fake.is_match(text));
        if fake(&links.url) || links.thumb.as_ref().is_some_and(fake) {
            return Err(problem("with a link that leads nowhere: the image was not stored"));
        }
        Ok(links)
    }

    /// An answer that looks like a success and is none: `what` says why.
    pub(super) fn unfit(&self, answer: &Answer, now: WallTime, what: &str) -> Box<Failure> {
        Box::new(self.refusal(answer, now, Some(what)))
    }

    /// The answer to a login that does not say that we are logged in: the account was refused, unless the site was in
    /// trouble instead.
    pub(super) fn denied(&self, answer: &Answer, now: WallTime) -> Box<Failure> {
        let failure = self.refusal(answer, now, Some("and did not accept the login"));
        let page = !answer.body.trim().is_empty() || !(200..300).contains(&answer.status);
        let speaks = (200..400).contains(&answer.status) || DENIALS.contains(&answer.status);
        if self.in_trouble(answer) || !page || !speaks {
            return Box::new(failure);
        }
        let message = format!("{} did not accept the login", self.host);
        let mut denied = Failure::new(ErrorClass::Account, Phase::Parse, message)
            .advise(format!("check the user and the password in [host.{}]", self.host));
        denied.http_status = failure.http_status;
        denied.response_head = failure.response_head;
        Box::new(denied)
    }

    /// Whether the recipe knows `answer` as that of a site that has trouble or wants rest, whatever was asked.
    pub(super) fn in_trouble(&self, answer: &Answer) -> bool {
        let mut known = self.recipe.meanings.iter().filter(|meaning| meaning.applies(answer.status, &answer.body));
        known.any(|meaning| matches!(meaning.class, ErrorClass::BadResponse | ErrorClass::RateLimited))
    }

    /// An answer that is no success. `what` says what is wrong with one that claims to be.
    fn refusal(&self, answer: &Answer, now: WallTime, what: Option<&str>) -> Failure {
        let status = StatusCode::from_u16(answer.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("");
        let limit = Limit::of(answer, now);
        let meaning = self.recipe.meanings.iter().find(|meaning| meaning.applies(answer.status, &answer.body));
        let (class, kind) = meaning.map_or_else(
            || classes::of_status(answer.status, limit.retry_after.is_some(), limit.spent),
            |meaning| (meaning.class, meaning.kind),
        );
        let mut message = format!("{} answered {} {reason}", self.host, answer.status).trim_end().to_owned();
        if (200..300).contains(&answer.status) {
            message.push(' ');
            message.push_str(what.unwrap_or(if answer.json().is_some() {
                "and refused the image"
            } else {
                "with something that is not JSON"
            }));
        }
        if let Some(text) = self.host_text(answer) {
            message = format!("{message}: {text}");
        }
        let mut failure = Failure::new(class, Phase::Parse, message).meaning(kind);
        failure.advice =
            meaning.and_then(|meaning| meaning.advice.clone()).or_else(|| self.advice(class, answer.status));
        failure.http_status = Some(answer.status);
        failure.response_head =
            Some(self.redactor.clean(&answer.body, Failure::RESPONSE_HEAD)).filter(|head| !head.is_empty());
        let told = || pause::told(meaning?.wait.as_ref()?, &answer.body);
        failure.retry_after = limit.wait().or_else(told);
        classes::overruled(failure, self.flow)
    }

    fn host_text(&self, answer: &Answer) -> Option<String> {
        let found = self.recipe.messages.iter().chain(USUAL_MESSAGES.iter()).find_map(|place| place.find(answer))?;
        Some(self.redactor.clean(&found, HOST_TEXT_LIMIT))
    }

    fn advice(&self, class: ErrorClass, status: u16) -> Option<String> {
        match (class, status) {
            (ErrorClass::Account, _) => Some(format!("check the keys and the account in [host.{}]", self.host)),
            (ErrorClass::File, 413) => Some("the file is too large for this host".into()),
            (ErrorClass::File, _) => Some("this host does not take such files".into()),
            (ErrorClass::BadResponse, 300..=399) => {
                Some(format!("the site has moved or wants a login: check `base_url` in [host.{}]", self.host))
            }
            (ErrorClass::BadResponse, 404 | 405) => Some(format!("check `base_url` in [host.{}]", self.host)),
            _ => None,
        }
    }

    /// The failure of an exchange that did not end with an answer. `carries_file`: an answer that is missing after the
    /// last byte may have been a success.
    pub(super) fn broken(&self, trouble: &Trouble, phase: Phase, all_sent: bool, carries_file: bool) -> Failure {
        let after_last_byte = all_sent && carries_file;
        let (class, phase, timed_out, what) = match trouble {
            Trouble::File(error) => {
                let message = format!("the file could not be read to its end while it was sent: {error}");
                return Failure::new(ErrorClass::Io, Phase::Send, message)
                    .advise("it was changed, or the disk has a problem");
            }
            Trouble::TooLarge => {
                let message = format!("{} sent an answer larger than {ANSWER_LIMIT} bytes", self.host);
                return Failure::new(ErrorClass::BadResponse, Phase::Response, message);
            }
            Trouble::Packed(how) => {
                let message = format!(
                    "{} sent an answer that cannot be unpacked ({how}); nobody asked for a packed one",
                    self.host
                );
                return Failure::new(
                    ErrorClass::BadResponse,
                    Phase::Response,
                    self.redactor.clean(&message, HOST_TEXT_LIMIT),
                );
            }
            Trouble::Connect { phase, timed_out: true, .. } => {
                let step = if *phase == Phase::Tls { "the TLS handshake did not end" } else { "no connection" };
                (ErrorClass::Connect, *phase, true, format!("could not be reached: {step} within connect_timeout"))
            }
            Trouble::Connect { phase, timed_out: false, offline, reason } => {
                let who =
                    if *offline { "could not be reached, this machine has no network" } else { "could not be reached" };
                (ErrorClass::Connect, *phase, false, format!("{who}: {reason}"))
            }
            Trouble::Broken(reason) => (ErrorClass::Connect, phase, false, format!("broke the connection: {reason}")),
            Trouble::Stall(limit) => {
                (ErrorClass::Stall, phase, true, format!("moved no byte for {} (stall_timeout)", human(*limit)))
            }
            Trouble::Timeout(limit) => (
                ErrorClass::Timeout,
                phase,
                true,
                format!("did not finish the request within {} (request_timeout)", human(*limit)),
            ),
        };
        let reached = !matches!(trouble, Trouble::Connect { .. });
        let mut message = self.redactor.clean(&format!("{} {what}", self.host), HOST_TEXT_LIMIT);
        let mut failure = if reached && after_last_byte {
            message.push_str("; every byte had been sent, so the image may be on the host");
            Failure::new(ErrorClass::UnknownOutcome, Phase::Response, message)
                .advise("a later try may store it there a second time")
        } else {
            Failure::new(class, phase, message)
        };
        failure.timed_out = timed_out;
        failure.offline = matches!(trouble, Trouble::Connect { offline: true, .. });
        classes::overruled(failure, self.flow)
    }
}

/// The first of `templates` that comes out with something; a value that is missing is nothing.
pub(super) fn first(templates: &[Template], scope: &Scope, answer: Option<&Answer>) -> Option<String> {
    let texts = templates.iter().filter_map(|template| template.render_after(scope, answer).ok());
    texts.map(|text| text.trim().to_owned()).find(|text| !text.is_empty())
}
