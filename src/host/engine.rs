//! A host that a recipe describes: who runs its steps, in which session, and what becomes of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use tokio::time::Instant;
use ulid::Ulid;
use url::Url;

use super::http::{Client, Times};
use super::options::Options;
use super::recipe::template::Scope;
use super::recipe::{Answer, Draw, Recipe, Step};
use super::redact::Redactor;
use super::run::{Run, Stop};
use super::session::{Session, Sessions, SharedJar, Values};
use super::sites::Sites;
use super::{Doing, Galleries, Gallery, Host, Limits, Preview, Progress, Sending, Upload};
use crate::clock::Clock;
use crate::config::{HostFlow, Retry};
use crate::job::{ErrorClass, Failure, Links, Phase};

/// Galleries whose cookies are remembered: more are not filled at a time.
const JARS_LIMIT: usize = 64;

/// A host that a recipe describes.
pub(super) struct RecipeHost {
    pub(super) name: String,
    pub(super) recipe: Arc<Recipe>,
    pub(super) sites: Sites,
    pub(super) options: Options,
    pub(super) redactor: Redactor,
    pub(super) client: Client,
    pub(super) times: Times,
    pub(super) retry: Retry,
    pub(super) flow: HostFlow,
    pub(super) clock: Clock,
    /// The session of the account, shared with the other hosts that use it.
    pub(super) sessions: Arc<Sessions>,
    /// Cookies outside of a session by what `recipe.cookies` comes out as, the last used last.
    pub(super) jars: Mutex<Vec<(String, SharedJar)>>,
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
        Box::pin(async move { self.send(upload).await.map_err(|failure| *failure) })
    }

    fn previews(&self, upload: &Upload) -> Vec<Preview> {
        self.preview_all(upload)
    }

    fn site(&self) -> Option<Url> {
        Some(self.sites.base.clone())
    }

    fn ask_account(&self, deadline: Instant) -> Option<Doing<'_>> {
        self.ask_about_us(deadline)
    }

    fn galleries(&self) -> Option<&dyn Galleries> {
        self.recipe.gallery.as_ref().filter(|spec| self.has(&spec.needs)).map(|_| self as &dyn Galleries)
    }

    fn delete<'a>(&'a self, uploaded: &'a Links, deadline: Instant) -> Option<Doing<'a>> {
        let spec = self.recipe.delete.as_ref().filter(|spec| self.has(&spec.needs))?;
        Some(self.delete_by(spec, uploaded.delete_token.as_deref()?, deadline))
    }
}

impl RecipeHost {
    async fn send(&self, upload: &Upload) -> Result<Links, Box<Failure>> {
        let mut run = self.run(Some(upload), Arc::clone(&upload.progress), upload.deadline);
        if self.recipe.steps.iter().any(Step::has_content) {
            run.scope.content = Some(content(upload).await?);
        }
        let links = |run: &Run<'_>, scope: &Scope, answer: &Answer| {
            run.judge(&run.redactor()).links(scope, answer, self.clock.now())
        };
        let sent = self.with_session(&mut run, &self.recipe.steps, links).await?;
        sent.ok_or_else(|| run.unfit(&Answer::default(), "to nothing: no step of the recipe applied"))
    }

    /// Runs `steps`, in the session if they belong to it; once more if the session turns out to be over.
    pub(super) async fn with_session<T>(
        &self,
        run: &mut Run<'_>,
        steps: &[Step],
        last: impl Fn(&Run<'_>, &Scope, &Answer) -> Result<T, Box<Failure>>,
    ) -> Result<Option<T>, Box<Failure>> {
        let mut renewed = false;
        loop {
            let session = self.session(run, steps).await?;
            match run.steps(steps, &last).await {
                Ok(result) => return Ok(result),
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(Stop::Expired(failure)) => {
                    if let Some(session) = &session {
                        self.sessions.expire(session);
                    }
                    if renewed {
                        return Err(failure);
                    }
                    renewed = true;
                    run.scope.steps.clear();
                    run.scope.random = self.randoms();
                }
            }
        }
    }

    /// Gives `run` the session that its `steps` belong to, if any does.
    async fn session(&self, run: &mut Run<'_>, steps: &[Step]) -> Result<Option<Arc<Session>>, Box<Failure>> {
        let Some(spec) = self.recipe.session.as_ref().filter(|_| steps.iter().any(|step| run.wants_session(step)))
        else {
            return Ok(None);
        };
        run.progress.enter(Phase::Wait);
        let login = async || self.log_in(&spec.steps, &run.progress, run.deadline).await;
        let session = self.sessions.get(spec.max_age, login).await?;
        run.scope.session.clone_from(&session.values);
        run.session = Some(Arc::clone(&session));
        Ok(Some(session))
    }

    pub(super) async fn log_in(
        &self,
        steps: &[Step],
        progress: &Arc<Progress>,
        deadline: Instant,
    ) -> Result<(Values, SharedJar), Box<Failure>> {
        let mut run = self.run(None, Arc::clone(progress), deadline);
        (run.login, run.jar) = (true, SharedJar::default());
        match run.steps(steps, |_, _, _| Ok(())).await {
            Ok(_) => Ok((run.scope.steps, run.jar)),
            Err(Stop::Failed(failure) | Stop::Expired(failure)) => Err(failure),
        }
    }

    /// A fresh run.
    pub(super) fn run<'a>(&'a self, upload: Option<&'a Upload>, progress: Arc<Progress>, deadline: Instant) -> Run<'a> {
        let no_gallery = Gallery::default();
        let gallery = upload.and_then(|upload| upload.gallery.as_ref()).unwrap_or(&no_gallery);
        let scope = Scope {
            base_url: self.sites.base.as_str().trim_end_matches('/').to_owned(),
            sites: self.sites.named.iter().map(|(name, url)| (name.clone(), trimmed(url.as_str()))).collect(),
            options: self
                .options
                .iter()
                .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
                .collect(),
            file: upload.map_or_else(BTreeMap::new, file_values),
            random: self.randoms(),
            gallery: gallery.values(),
            draw: Draw::new(self.clock.now()),
            ..Scope::default()
        };
        let jar = self.jar(&scope);
        Run {
            host: self,
            names: upload.map_or_else(Vec::new, |upload| vec![upload.source.name().to_owned()]),
            upload,
            progress,
            deadline,
            scope,
            jar,
            session: None,
            login: false,
            forms: BTreeMap::new(),
            secrets: Vec::new(),
            stored: false,
            makes: false,
        }
    }

    /// Fresh values for `random`.
    pub(super) fn randoms(&self) -> BTreeMap<String, String> {
        self.recipe.random.iter().map(|(name, random)| (name.clone(), random.make())).collect()
    }

    /// The jar for the requests outside of a session.
    fn jar(&self, scope: &Scope) -> SharedJar {
        let key = self.recipe.cookies.as_ref().and_then(|key| key.render(scope).ok()).filter(|key| !key.is_empty());
        let Some(key) = key else { return SharedJar::default() };
        let mut jars = self.jars.lock().unwrap_or_else(PoisonError::into_inner);
        let at = jars.iter().position(|(known, _)| *known == key);
        let (key, jar) = at.map_or_else(|| (key, SharedJar::default()), |at| jars.remove(at));
        if jars.len() >= JARS_LIMIT {
            jars.remove(0);
        }
        jars.push((key, Arc::clone(&jar)));
        jar
    }
}

impl Run<'_> {
    /// Whether `step`, if it is run, is run in the session. What its condition needs may not be known yet.
    fn wants_session(&self, step: &Step) -> bool {
        let ruled_out =
            |text: &super::recipe::Template| text.render(&self.scope).is_ok_and(|text| text.trim().is_empty());
        step.session && !step.when.as_ref().is_some_and(ruled_out)
    }
}

fn file_values(upload: &Upload) -> BTreeMap<String, String> {
    let (source, image) = (&upload.source, &upload.image);
    let name = source.name().to_owned();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
    let file = [
        ("stem", stem.to_owned()),
        ("extension", extension.to_owned()),
        ("mime", source.kind().mime().to_owned()),
        ("bytes", source.len().to_string()),
        ("width", image.width.to_string()),
        ("height", image.height.to_string()),
        ("blake3", image.hash.to_string()),
        ("name", name.clone()),
    ];
    file.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
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

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

/// A random number in `0.0..=1.0`.
pub(super) fn jitter() -> f64 {
    let random = u16::try_from(Ulid::generate().random() & 0xffff).unwrap_or(0);
    f64::from(random) / f64::from(u16::MAX)
}
