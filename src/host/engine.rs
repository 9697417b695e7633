//! The engine: runs the steps of a recipe for one file.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};
use ulid::Ulid;
use url::Url;

use super::body::Plan;
use super::follow::{self, Cookies, REDIRECT_LIMIT};
use super::http::{self, Client, Outgoing, Received, Times, Trouble};
use super::options::Options;
use super::pause::Limit;
use super::recipe::template::{RenderError, Scope};
use super::recipe::{Answer, BodySpec, Draw, Extractor, Recipe, Step, Template};
use super::redact::Redactor;
use super::verdict::Judge;
use super::{Host, Limits, Sending, Upload};
use crate::clock::Clock;
use crate::config::{HostFlow, Retry};
use crate::job::{ErrorClass, Failure, Links, Phase};

/// Bodies larger than this overflow the buffers on the way, so that a host can refuse one before it is sent whole.
const LARGE_BODY: u64 = 1 << 20;

/// A host that a recipe describes.
pub(super) struct RecipeHost {
    pub(super) name: String,
    pub(super) recipe: Arc<Recipe>,
    pub(super) base_url: Url,
    pub(super) options: Options,
    pub(super) redactor: Redactor,
    pub(super) client: Client,
    pub(super) times: Times,
    pub(super) retry: Retry,
    pub(super) flow: HostFlow,
    pub(super) clock: Clock,
}

impl Host for RecipeHost {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> &Limits {
        &self.recipe.limits
    }

    fn max_parallel(&self) -> Option<usize> {
        self.recipe.max_parallel
    }

    fn tidy(&self) {
        self.client.tidy();
    }

    fn upload<'a>(&'a self, upload: &'a Upload) -> Sending<'a> {
        Box::pin(async move { self.run(upload).await.map_err(|failure| *failure) })
    }
}

/// A request that can be sent as often as needed.
#[derive(Clone)]
struct Prepared {
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    plan: Arc<Plan>,
}

impl RecipeHost {
    async fn run(&self, upload: &Upload) -> Result<Links, Box<Failure>> {
        let mut scope = self.scope(upload);
        if self.recipe.steps.iter().any(Step::has_content) {
            scope.content = Some(content(upload).await?);
        }
        let (last, before) = self.recipe.steps.split_last().expect("a recipe has at least one step");
        for step in before {
            let answer = self.persist(step, &scope, upload, |answer, _| Ok(answer)).await?;
            scope.steps.insert(step.name.clone(), values(step, &answer));
        }
        // An answer without a usable link is a failed request, to be tried again like any other.
        let links = |answer: Answer, scope: &Scope| {
            let mut scope = scope.clone();
            scope.steps.insert(last.name.clone(), values(last, &answer));
            self.judge().links(&scope, &answer, self.clock.now())
        };
        self.persist(last, &scope, upload, links).await
    }

    /// Sends the request of `step` until `read` can use the answer, it is not worth another try, or the deadline is too
    /// near.
    async fn persist<T>(
        &self,
        step: &Step,
        scope: &Scope,
        upload: &Upload,
        read: impl Fn(Answer, &Scope) -> Result<T, Box<Failure>>,
    ) -> Result<T, Box<Failure>> {
        let request = self.prepare(step, scope, upload)?;
        let mut tries = 0;
        loop {
            let answer = self.send(step, &request, upload).await;
            let mut failure = match answer.and_then(|answer| read(answer, scope)) {
                Ok(useful) => return Ok(useful),
                Err(failure) => failure,
            };
            failure.sent = upload.progress.sent();
            tries += 1;
            let delay = self.retry.backoff.delay(tries, jitter());
            let too_late = Instant::now() + delay >= upload.deadline;
            let allowed = tries < self.retry.attempts && upload.progress.may_try_again();
            if !allowed || too_late || !failure.worth_another_request() {
                return Err(failure);
            }
            upload.progress.note_failed_try(failure.kind);
            upload.progress.enter(Phase::Wait);
            upload.progress.count_retry();
            tokio::select! {
                () = sleep(delay) => {}
                () = upload.progress.held() => return Err(failure),
            }
        }
    }

    /// Sends a request once.
    async fn send(&self, step: &Step, request: &Prepared, upload: &Upload) -> Result<Answer, Box<Failure>> {
        let progress = &upload.progress;
        if progress.is_held() && self.leads_to_file(step) {
            let message = format!("{} rests: the file was not sent", self.name);
            let mut failure = Failure::new(ErrorClass::RateLimited, Phase::Wait, message);
            // How long is known already, and written down.
            failure.retry_after = Some(Duration::ZERO);
            return Err(Box::new(failure));
        }
        let file_trouble = Arc::new(OnceLock::new());
        let mut received = Received::default();
        progress.start_body(request.plan.len());
        progress.enter(Phase::Connect);
        let outgoing = self.request(step, request, upload, &file_trouble);
        let mut done = http::exchange(outgoing, &mut received, progress, &file_trouble, &self.times).await;
        let mut answer = Answer::new(received.status, received.headers, &received.body);
        answer.url = request.url.to_string();
        if step.redirects && done.is_ok() {
            (done, answer) = self.follow(step, request, upload, answer).await;
        }
        let judge = self.judge();
        match done {
            Ok(()) if step.sends_file() && !progress.all_sent() && (200..300).contains(&answer.status) => {
                let message = format!("{} answered {} before it had the whole file", self.name, answer.status);
                Err(Box::new(Failure::new(ErrorClass::BadResponse, Phase::Send, message)))
            }
            Ok(()) => {
                let now = self.clock.now();
                let accepted = judge.accept(&answer, step.expects_json(), now);
                let limit = Limit::of(&answer, now);
                if accepted.is_ok() && limit.spent {
                    progress.note_spent(limit.wait());
                }
                accepted.map(|()| answer)
            }
            // The status says enough, even if its page did not arrive completely.
            Err(_) if answer.status >= 300 => judge.accept(&answer, false, self.clock.now()).map(|()| answer),
            Err(trouble) => {
                let mut failure = judge.broken(&trouble, progress.phase(), progress.all_sent(), step.sends_file());
                if matches!(trouble, Trouble::Broken(_)) && !progress.all_sent() && request.plan.len() > LARGE_BODY {
                    failure =
                        failure.advise("some hosts hang up on files that are too large for them: check its limit");
                }
                if answer.status != 0 {
                    failure.http_status = Some(answer.status);
                    let head = self.redactor.clean(&answer.body, Failure::RESPONSE_HEAD);
                    failure.response_head = Some(head).filter(|head| !head.is_empty());
                }
                Err(Box::new(failure))
            }
        }
    }

    /// Whether `step` sends the file, or comes before the one that does.
    fn leads_to_file(&self, step: &Step) -> bool {
        let file = self.recipe.steps.iter().position(Step::sends_file);
        let this = self.recipe.steps.iter().position(|other| other.name == step.name);
        this.zip(file).is_some_and(|(this, file)| this <= file)
    }

    /// Goes where `answer` leads, until an answer leads nowhere.
    async fn follow(
        &self,
        step: &Step,
        request: &Prepared,
        upload: &Upload,
        mut answer: Answer,
    ) -> (Result<(), Trouble>, Answer) {
        let (mut method, mut cookies) = (step.method.clone(), Cookies::default());
        for _ in 0..REDIRECT_LIMIT {
            let Ok(from) = Url::parse(&answer.url) else { break };
            let Some(hop) = follow::next(&from, &method, &answer) else { break };
            cookies.keep(&from, &answer);
            let own = self.is_own(&hop.url);
            let file_trouble = Arc::new(OnceLock::new());
            let mut outgoing = match hop.method {
                None if !own => break,
                None => {
                    upload.progress.start_body(request.plan.len());
                    let request = Prepared { url: hop.url.clone(), ..request.clone() };
                    self.request(step, &request, upload, &file_trouble)
                }
                Some(next) => {
                    method = next.clone();
                    self.client.request(next, hop.url.clone())
                }
            };
            if let Some(cookie) = cookies.header(&hop.url) {
                outgoing = outgoing.header(COOKIE, cookie);
            }
            let mut received = Received::default();
            let done = http::exchange(outgoing, &mut received, &upload.progress, &file_trouble, &self.times).await;
            answer = Answer::new(received.status, received.headers, &received.body);
            answer.url = hop.url.into();
            match done {
                Ok(()) => {}
                // The way may end at the image itself, and where it ends is what counts.
                Err(Trouble::TooLarge) => break,
                done => return (done, answer),
            }
        }
        (Ok(()), answer)
    }

    fn request(
        &self,
        step: &Step,
        request: &Prepared,
        upload: &Upload,
        file_trouble: &Arc<OnceLock<std::io::Error>>,
    ) -> Outgoing {
        let mut outgoing = self.client.request(step.method.clone(), request.url.clone());
        for (name, value) in &request.headers {
            outgoing = outgoing.header(name.clone(), value.clone());
        }
        if let Some(content_type) = &request.plan.content_type {
            let body = request.plan.body(&upload.progress, file_trouble);
            if !request.headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
                outgoing = outgoing.header(CONTENT_TYPE, content_type);
            }
            outgoing = outgoing.header(CONTENT_LENGTH, request.plan.len()).body(reqwest::Body::wrap(body));
        }
        outgoing
    }

    /// Fills in the templates of `step`.
    fn prepare(&self, step: &Step, scope: &Scope, upload: &Upload) -> Result<Prepared, Box<Failure>> {
        let failed = |error: RenderError| {
            let message = format!("{}: step `{}` could not be prepared: {error}", self.name, step.name);
            Box::new(Failure::new(ErrorClass::BadResponse, Phase::Parse, message))
        };
        let url = step.url.render(scope).map_err(failed)?;
        let mut url = self.own_url(&url).ok_or_else(|| {
            let message =
                format!("{}: step `{}` would send to another site than {}", self.name, step.name, self.base_url);
            Box::new(Failure::new(ErrorClass::BadResponse, Phase::Parse, message))
        })?;
        let query = filled(&step.query, scope).map_err(failed)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers = Vec::new();
        for (name, value) in filled(&step.headers, scope).map_err(failed)? {
            let name: HeaderName = name.parse().expect("header names were checked when the recipe was read");
            let mut value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| failed(RenderError::Failed(name.to_string(), "no valid header value".to_owned())))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let plan = match &step.body {
            BodySpec::None => Plan::empty(),
            BodySpec::Raw => Plan::raw(Arc::clone(&upload.source)),
            BodySpec::Multipart { fields, file } => {
                let file = file.as_deref().map(|name| (name, Arc::clone(&upload.source)));
                Plan::multipart(&filled(fields, scope).map_err(failed)?, file)
            }
            BodySpec::Form(fields) => {
                let pairs = filled(fields, scope).map_err(failed)?;
                let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
                Plan::bytes("application/x-www-form-urlencoded", form)
            }
            BodySpec::Json(fields) => {
                let pairs = filled(fields, scope).map_err(failed)?;
                let object: serde_json::Map<_, _> =
                    pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
                Plan::bytes("application/json", serde_json::Value::from(object).to_string())
            }
            BodySpec::Text { content_type, text } => Plan::bytes(content_type, text.render(scope).map_err(failed)?),
        };
        Ok(Prepared { url, headers, plan: Arc::new(plan) })
    }

    /// `text` as a URL, if it leads to the site of `base_url`: what a host answers must not make us send the image or a
    /// key anywhere else.
    fn own_url(&self, text: &str) -> Option<Url> {
        let url = self.base_url.join(text).ok()?;
        (self.is_own(&url) && url.username().is_empty()).then_some(url)
    }

    /// Whether `url` lies on the site of `base_url`, or on another one that the recipe names.
    fn is_own(&self, url: &Url) -> bool {
        let origin = url.origin();
        origin == self.base_url.origin() || self.recipe.sites.contains(&origin.ascii_serialization())
    }

    fn scope(&self, upload: &Upload) -> Scope {
        let name = upload.source.name().to_owned();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
        let image = &upload.image;
        let file = [
            ("stem", stem.to_owned()),
            ("extension", extension.to_owned()),
            ("mime", upload.source.kind().mime().to_owned()),
            ("bytes", upload.source.len().to_string()),
            ("width", image.width.to_string()),
            ("height", image.height.to_string()),
            ("blake3", image.hash.to_string()),
            ("name", name.clone()),
        ];
        Scope {
            base_url: self.base_url.as_str().trim_end_matches('/').to_owned(),
            options: self
                .options
                .iter()
                .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
                .collect(),
            file: file.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            draw: Draw::new(self.clock.now()),
            ..Scope::default()
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge { host: &self.name, recipe: &self.recipe, redactor: &self.redactor, flow: &self.flow }
    }
}

/// The file as base64.
async fn content(upload: &Upload) -> Result<Arc<str>, Box<Failure>> {
    let source = Arc::clone(&upload.source);
    let read =
        move || source.read(0, usize::try_from(source.len()).unwrap_or(usize::MAX)).map(|all| STANDARD.encode(all));
    let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    read.map(Arc::from).map_err(|error| {
        let message = format!("the file could not be read: {error}");
        Box::new(Failure::new(ErrorClass::Io, Phase::Inspect, message))
    })
}

/// What `step` keeps of its answer.
fn values(step: &Step, answer: &Answer) -> BTreeMap<String, String> {
    let found =
        |(name, ways): (&String, &Vec<Extractor>)| Some((name.clone(), ways.iter().find_map(|way| way.find(answer))?));
    step.extract.iter().filter_map(found).collect()
}

/// The rendered pairs; what comes out empty is left out.
fn filled(pairs: &[(String, Template)], scope: &Scope) -> Result<Vec<(String, String)>, RenderError> {
    let rendered = pairs.iter().map(|(name, template)| Ok((name.clone(), template.render(scope)?)));
    let keeps = pairs.iter().map(|(_, template)| template.keeps_empty());
    let sent =
        rendered.zip(keeps).filter(|(pair, keeps)| *keeps || !matches!(pair, Ok((_, value)) if value.is_empty()));
    sent.map(|(pair, _)| pair).collect()
}

/// A random number in `0.0..=1.0`.
pub(super) fn jitter() -> f64 {
    let random = u16::try_from(Ulid::generate().random() & 0xffff).unwrap_or(0);
    f64::from(random) / f64::from(u16::MAX)
}
