//! One run of some steps of a recipe: for a file, a login, a gallery, a deletion. Each request is tried again while that
//! helps and the deadline allows it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use tokio::time::{Instant, sleep};
use url::Url;

use super::body::Plan;
use super::engine::{RecipeHost, jitter};
use super::follow::{self, REDIRECT_LIMIT};
use super::http::{self, Outgoing, Received, Trouble};
use super::pause::Limit;
use super::prepare::Prepared;
use super::recipe::template::Scope;
use super::recipe::{Answer, Extractor, Step, Test};
use super::redact::Redactor;
use super::session::{Session, SharedJar};
use super::verdict::{DENIALS, Judge};
use super::{Progress, Upload};
use crate::job::{ErrorClass, Failure, Phase};

/// Bodies larger than this overflow the buffers on the way, so that a host can refuse one before it is sent whole.
const LARGE_BODY: u64 = 1 << 20;

/// Redirects of one request: a login takes two or three.
const HOPS: usize = 5;

/// The values that one answer gave.
type Found = BTreeMap<String, String>;

/// Why a run ended without its result.
pub(super) enum Stop {
    Failed(Box<Failure>),
    /// The host no longer takes the session; what it said.
    Expired(Box<Failure>),
}

impl From<Box<Failure>> for Stop {
    fn from(failure: Box<Failure>) -> Self {
        Self::Failed(failure)
    }
}

/// The state of one run. Holds secrets in the clear, so it has no `Debug`.
pub(super) struct Run<'a> {
    pub(super) host: &'a RecipeHost,
    /// The file, if there is one.
    pub(super) upload: Option<&'a Upload>,
    pub(super) progress: Arc<Progress>,
    pub(super) deadline: Instant,
    pub(super) scope: Scope,
    /// What the host may call it that this is about.
    pub(super) names: Vec<String>,
    /// Cookies of the requests outside of a session.
    pub(super) jar: SharedJar,
    pub(super) session: Option<Arc<Session>>,
    /// Whether these steps make a session: then the cookies are its own, and a test that fails speaks of the account.
    pub(super) login: bool,
    /// The forms that steps have kept.
    pub(super) forms: BTreeMap<String, Vec<(String, String)>>,
    pub(super) secrets: Vec<String>,
    /// The host has the whole file: whatever follows, the image may be there.
    pub(super) stored: bool,
    /// What it makes must not be made twice: a request whose answer was lost is not sent again.
    pub(super) makes: bool,
}

/// What a step has come to.
struct Done<T> {
    found: Found,
    form: Vec<(String, String)>,
    last: Option<T>,
}

impl Run<'_> {
    /// Runs `steps`. `last` makes the result of the last answer; if it cannot, that request is tried again like any that
    /// failed. `None` if no step was to be run.
    pub(super) async fn steps<T>(
        &mut self,
        steps: &[Step],
        last: impl Fn(&Self, &Scope, &Answer) -> Result<T, Box<Failure>>,
    ) -> Result<Option<T>, Stop> {
        let mut result = None;
        for (at, step) in steps.iter().enumerate() {
            if !applies(step, &self.scope) {
                self.scope.steps.entry(step.name.clone()).or_default();
                continue;
            }
            let done = match self.persist(step, &steps[at + 1..], &last).await {
                Ok(done) => done,
                Err(stop) => return Err(if self.stored { may_be_there(stop) } else { stop }),
            };
            self.stored |= step.sends_file();
            self.secrets.extend(step.secret.iter().filter_map(|name| done.found.get(name)).cloned());
            self.scope.steps.insert(step.name.clone(), done.found);
            self.forms.insert(step.name.clone(), done.form);
            result = done.last;
        }
        Ok(result)
    }

    /// Sends the request of `step` until its answer can be used, it is not worth another try, or the deadline is too near.
    async fn persist<T>(
        &mut self,
        step: &Step,
        rest: &[Step],
        last: &impl Fn(&Self, &Scope, &Answer) -> Result<T, Box<Failure>>,
    ) -> Result<Done<T>, Stop> {
        let mut request = self.prepare(step)?;
        let mut tries = 0;
        loop {
            let answer = self.send(step, &request).await;
            let mut failure = match answer.and_then(|answer| Ok(self.read(step, rest, &answer, last)?)) {
                Ok(done) => return Ok(done),
                Err(Stop::Failed(failure)) => failure,
                Err(expired) => return Err(expired),
            };
            failure.sent = self.progress.sent();
            tries += 1;
            let retry = &self.host.retry;
            let polled = step.poll.get(usize::try_from(tries).unwrap_or(usize::MAX) - 1);
            let pause = match polled {
                Some(pause) => Some(*pause),
                None if step.poll.is_empty() && tries < retry.attempts && self.progress.may_try_again() => {
                    Some(retry.backoff.delay(tries, jitter()))
                }
                None => None,
            };
            match pause.filter(|pause| Instant::now() + *pause < self.deadline) {
                Some(pause) if failure.worth_another_request() && !self.may_have_made(&failure) => {
                    // Once the host has the file, a lost answer is all that can be lost.
                    self.progress.enter(if self.stored { Phase::Response } else { Phase::Wait });
                    // A page that is not ready yet is no trouble.
                    if step.poll.is_empty() {
                        self.progress.count_retry();
                        self.progress.note_failed_try(failure.kind);
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        // What the host has taken is waited for all the same.
                        () = self.progress.held(), if !self.stored => return Err(Stop::Failed(failure)),
                    }
                    // An id that was used up by a broken upload is not taken again.
                    if step.sends_file() && !self.scope.random.is_empty() {
                        self.scope.random = self.host.randoms();
                        request = self.prepare(step)?;
                    }
                }
                _ => return Err(Stop::Failed(failure)),
            }
        }
    }

    /// Whether the host may have made what it was asked for, without anybody knowing.
    fn may_have_made(&self, failure: &Failure) -> bool {
        self.makes && failure.http_status.is_none() && failure.phase == Phase::Response
    }

    /// What `step` keeps of its answer, and the result if no step follows.
    fn read<T>(
        &self,
        step: &Step,
        rest: &[Step],
        answer: &Answer,
        last: &impl Fn(&Self, &Scope, &Answer) -> Result<T, Box<Failure>>,
    ) -> Result<Done<T>, Box<Failure>> {
        let found = found(step, answer);
        if let Some(missing) = step.require.iter().find(|name| !found.contains_key(*name)) {
            return Err(self.unfit(answer, &format!("without `{missing}`")));
        }
        let form = if step.form.is_empty() { Vec::new() } else { answer.form(&step.form) };
        if !step.form.is_empty() && form.is_empty() {
            return Err(self.unfit(answer, "without the form that should follow"));
        }
        let mut scope = self.scope.clone();
        scope.steps.insert(step.name.clone(), found.clone());
        let last = if rest.iter().any(|step| applies(step, &scope)) { None } else { Some(last(self, &scope, answer)?) };
        Ok(Done { found, form, last })
    }

    /// Sends a request once, and where it is redirected to.
    async fn send(&self, step: &Step, request: &Prepared) -> Result<Answer, Stop> {
        let mut answer = self.exchange(step, &request.method, &request.url, Some(request)).await?;
        if step.redirects {
            answer = self.wander(step, request, answer).await?;
        }
        let mut method = request.method.clone();
        for _ in 0..HOPS {
            let Some(to) = answer.headers.get(LOCATION).filter(|_| step.follow && answer.status / 100 == 3) else {
                break;
            };
            let from = Url::parse(&answer.url).unwrap_or_else(|_| request.url.clone());
            let to = to.to_str().ok().and_then(|to| self.host.sites.own(to, &from));
            let to = to.ok_or_else(|| self.elsewhere(&step.name))?;
            // 307 and 308 ask for the same request again; only the others become a GET, as in browsers.
            let again = matches!(answer.status, 307 | 308) && method != Method::GET;
            if !again {
                method = Method::GET;
            }
            answer = self.exchange(step, &method, &to, Some(request).filter(|_| again)).await?;
        }
        self.check(step, answer)
    }

    /// Goes where `answer` leads, until an answer leads nowhere. Other sites than the recipe's are asked with a bare GET.
    async fn wander(&self, step: &Step, request: &Prepared, mut answer: Answer) -> Result<Answer, Box<Failure>> {
        let mut method = request.method.clone();
        for _ in 0..REDIRECT_LIMIT {
            let Ok(from) = Url::parse(&answer.url) else { break };
            let Some(hop) = follow::next(&from, &method, &answer) else { break };
            let again = match hop.method {
                None if !self.host.sites.is_own(&hop.url) => break,
                None => Some(request),
                Some(next) => {
                    method = next;
                    None
                }
            };
            answer = self.exchange(step, &method, &hop.url, again).await?;
        }
        Ok(answer)
    }

    /// One request and its complete answer, whatever it says.
    async fn exchange(
        &self,
        step: &Step,
        method: &Method,
        url: &Url,
        request: Option<&Prepared>,
    ) -> Result<Answer, Box<Failure>> {
        let progress = &self.progress;
        if progress.is_held() && !self.stored && (request.is_some() || !step.sends_file()) {
            let message = format!("{} rests: the file was not sent", self.host.name);
            let mut failure = Failure::new(ErrorClass::RateLimited, Phase::Wait, message);
            // How long is known already, and written down.
            failure.retry_after = Some(Duration::ZERO);
            return Err(Box::new(failure));
        }
        let empty = Plan::empty();
        let plan = request.map_or(&empty, |request| &request.plan);
        let carries = step.sends_file() && request.is_some();
        // The host has had the file: what is counted of it stays.
        let after = self.stored || (step.sends_file() && request.is_none());
        // Only the file counts: a login that is cut short has sent nothing of it.
        let counted = if carries { Arc::clone(progress) } else { Arc::new(Progress::new()) };
        if !after {
            progress.start_body(if carries { plan.len() } else { 0 });
        }
        progress.enter(if after { Phase::Response } else { Phase::Connect });
        let file_trouble = Arc::new(OnceLock::new());
        let mut outgoing = self.host.client.request(method.clone(), url.clone());
        for (name, value) in request.iter().flat_map(|request| &request.headers) {
            outgoing = outgoing.header(name.clone(), value.clone());
        }
        outgoing = self.with_cookies(step, url, outgoing);
        if let Some(content_type) = &plan.content_type {
            let body = reqwest::Body::wrap(plan.body(&counted, &file_trouble));
            if !request.iter().flat_map(|request| &request.headers).any(|(name, _)| name == CONTENT_TYPE) {
                outgoing = outgoing.header(CONTENT_TYPE, content_type);
            }
            outgoing = outgoing.header(CONTENT_LENGTH, plan.len()).body(body);
        }
        let mut received = Received::default();
        let done = http::exchange(outgoing, &mut received, progress, &file_trouble, &self.host.times).await;
        let now = self.host.clock.now();
        let cookies = {
            let jar = self.jar_of(step);
            let mut jar = jar.lock().unwrap_or_else(PoisonError::into_inner);
            jar.store(url, &received.headers, now);
            jar.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let mut answer = Answer::new(received.status, received.headers, &received.body);
        answer.url = url.to_string();
        answer.cookies = cookies;
        answer.names.clone_from(&self.names);
        match done {
            Ok(()) if carries && !progress.all_sent() && (200..300).contains(&answer.status) => {
                let message = format!("{} answered {} before it had the whole file", self.host.name, answer.status);
                Err(Box::new(Failure::new(ErrorClass::BadResponse, Phase::Send, message)))
            }
            Ok(()) => Ok(answer),
            // The status says enough, even if its page did not arrive completely.
            Err(_) if answer.status >= 300 => Ok(answer),
            // The way may end at the image itself, and where it ends is what counts.
            Err(Trouble::TooLarge) if step.redirects && request.is_none() => Ok(answer),
            Err(trouble) => {
                let mut failure = self.broken(&trouble, step.sends_file().then_some(plan), &answer);
                let reached = !matches!(trouble, Trouble::Connect { .. });
                if self.makes && reached && counted.sent() >= plan.len() {
                    failure.phase = Phase::Response;
                }
                Err(failure)
            }
        }
    }

    fn broken(&self, trouble: &Trouble, plan: Option<&Plan>, answer: &Answer) -> Box<Failure> {
        let (progress, redactor) = (&self.progress, self.redactor());
        let mut failure = self.judge(&redactor).broken(trouble, progress.phase(), progress.all_sent(), plan.is_some());
        let large = plan.is_some_and(|plan| plan.len() > LARGE_BODY);
        if matches!(trouble, Trouble::Broken(_)) && !progress.all_sent() && large {
            failure = failure.advise("some hosts hang up on files that are too large for them: check its limit");
        }
        if answer.status != 0 {
            failure.http_status = Some(answer.status);
            let head = redactor.clean(&answer.body, Failure::RESPONSE_HEAD);
            failure.response_head = Some(head).filter(|head| !head.is_empty());
        }
        Box::new(failure)
    }

    /// Whether the answer is one that can be read.
    fn check(&self, step: &Step, answer: Answer) -> Result<Answer, Stop> {
        let now = self.host.clock.now();
        let redactor = self.redactor();
        let judge = self.judge(&redactor);
        let found = found(step, &answer);
        let holds = |test: &Test| test.holds(&answer, &found);
        let session =
            self.host.recipe.session.as_ref().filter(|_| step.session && !self.login && self.session.is_some());
        let over = session.is_some_and(|session| session.expired.iter().any(holds));
        // A site that asks for proof of a browser, or for rest, does not get a login on top.
        if over && !judge.in_trouble(&answer) {
            return Err(Stop::Expired(judge.unfit(&answer, now, "and wants a new login")));
        }
        let unexpected = !step.expect.is_empty() && !step.expect.iter().any(holds);
        let speaks = (200..400).contains(&answer.status) || (self.login && DENIALS.contains(&answer.status));
        if step.refuse.iter().any(holds) || (unexpected && speaks) {
            let denied = || judge.denied(&answer, now);
            let failure = if self.login { denied() } else { judge.unfit(&answer, now, "and refused the request") };
            return Err(Stop::Failed(failure));
        }
        let named = |test: &Test| test.status.contains(&answer.status) && holds(test);
        if !step.accept.contains(&answer.status) && !step.expect.iter().any(named) {
            judge.accept(&answer, step.expects_json(), now)?;
        }
        let limit = Limit::of(&answer, now);
        if limit.spent {
            self.progress.note_spent(limit.wait());
        }
        Ok(answer)
    }

    pub(super) fn unfit(&self, answer: &Answer, what: &str) -> Box<Failure> {
        self.judge(&self.redactor()).unfit(answer, self.host.clock.now(), what)
    }

    pub(super) fn judge<'j>(&'j self, redactor: &'j Redactor) -> Judge<'j> {
        Judge { host: &self.host.name, recipe: &self.host.recipe, redactor, flow: &self.host.flow }
    }

    /// Knows the secrets of the host and those that came up in this run.
    pub(super) fn redactor(&self) -> Cow<'_, Redactor> {
        let jars = [Some(&self.jar), self.session.as_ref().map(|session| &session.jar)];
        let mut known: Vec<String> = self.secrets.clone();
        for jar in jars.into_iter().flatten() {
            let jar = jar.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(jar.pairs().map(|(_, value)| value.to_owned()));
        }
        known.extend(self.scope.session.values().flat_map(BTreeMap::values).cloned());
        known.extend(self.scope.gallery.get("secret").cloned());
        known.extend(self.scope.uploaded.values().cloned());
        if self.login {
            known.extend(self.scope.steps.values().flat_map(BTreeMap::values).cloned());
        }
        if known.iter().all(String::is_empty) {
            return Cow::Borrowed(&self.host.redactor);
        }
        Cow::Owned(self.host.redactor.and(known.iter().map(String::as_str)))
    }

    fn jar_of(&self, step: &Step) -> &SharedJar {
        self.session.as_ref().filter(|_| step.session).map_or(&self.jar, |session| &session.jar)
    }

    fn with_cookies(&self, step: &Step, url: &Url, request: Outgoing) -> Outgoing {
        let jar = self.jar_of(step).lock().unwrap_or_else(PoisonError::into_inner);
        match jar.header(url, self.host.clock.now()) {
            Some((name, value)) => request.header(name, value),
            None => request,
        }
    }
}

/// Whether `step` is to be run: a value that is missing is one that says no.
fn applies(step: &Step, scope: &Scope) -> bool {
    step.when.as_ref().is_none_or(|when| when.render(scope).is_ok_and(|text| !text.trim().is_empty()))
}

/// What `step` keeps of its answer.
fn found(step: &Step, answer: &Answer) -> Found {
    let first =
        |(name, ways): (&String, &Vec<Extractor>)| Some((name.clone(), ways.iter().find_map(|way| way.find(answer))?));
    step.extract.iter().filter_map(first).collect()
}

/// The same, after the host has had the whole file and accepted it.
fn may_be_there(stop: Stop) -> Stop {
    let (Stop::Failed(failure) | Stop::Expired(failure)) = stop;
    if !failure.worth_another_request() && !failure.timed_out {
        return Stop::Failed(failure);
    }
    let mut unknown = Failure::new(
        ErrorClass::UnknownOutcome,
        failure.phase,
        format!("{}; the host had taken the file, so the image may be there", failure.message),
    );
    unknown.advice = Some("a later try may store it there a second time".to_owned());
    unknown.http_status = failure.http_status;
    unknown.response_head = failure.response_head;
    unknown.timed_out = failure.timed_out;
    unknown.sent = failure.sent;
    Stop::Failed(Box::new(unknown))
}
