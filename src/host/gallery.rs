//! Galleries and deleting, as a recipe describes them.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::engine::RecipeHost;
use super::links::link;
use super::recipe::template::{ImageValues, Scope};
use super::recipe::{DeleteSpec, GalleryParts, GallerySpec};
use super::run::Run;
use super::verdict::first;
use super::{Doing, Galleries, Gallery, Making, Progress};
use crate::job::{ErrorClass, Failure, Links, Phase};

/// What a gallery is called whose name has nothing that the host takes.
const UNTITLED: &str = "untitled";

impl Galleries for RecipeHost {
    fn create<'a>(&'a self, name: &'a str, deadline: Instant) -> Making<'a> {
        Box::pin(async move {
            let Some(spec) = &self.recipe.gallery else { return Err(no_galleries(&self.name)) };
            let gallery = Gallery { name: fitting(spec, name), ..Gallery::default() };
            let mut run = self.gallery_run(&gallery, &[], deadline);
            run.makes = true;
            self.until(deadline, self.make(run, &spec.create, &spec.created, gallery)).await
        })
    }

    fn finish<'a>(&'a self, gallery: &'a Gallery, images: &'a [Links], deadline: Instant) -> Making<'a> {
        Box::pin(async move {
            let Some(spec) = &self.recipe.gallery else { return Err(no_galleries(&self.name)) };
            let run = self.gallery_run(gallery, images, deadline);
            self.until(deadline, self.make(run, &spec.finish, &spec.finished, gallery.clone())).await
        })
    }
}

impl RecipeHost {
    /// Whether the options that `needs` names are set.
    pub(super) fn has(&self, needs: &[String]) -> bool {
        needs.iter().all(|name| self.options.get(name).is_some_and(|value| !value.expose_secret().is_empty()))
    }

    /// Deletes one image.
    pub(super) fn delete_by<'a>(&'a self, spec: &'a DeleteSpec, token: &'a str, deadline: Instant) -> Doing<'a> {
        Box::pin(async move {
            let mut run = self.bare_run(deadline);
            run.scope.uploaded.insert("delete_token", token.to_owned());
            self.until(deadline, self.with_session(&mut run, &spec.steps, |_, _, _| Ok(()))).await.map(drop)
        })
    }

    /// Ends `work` at `deadline`, whatever it waits for.
    pub(super) async fn until<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Box<Failure>>>,
    ) -> Result<T, Failure> {
        match timeout_at(deadline, work).await {
            Ok(done) => done.map_err(|failure| *failure),
            Err(_) => {
                let message = format!("{} was not done in time", self.name);
                Err(Failure::new(ErrorClass::Timeout, Phase::Response, message))
            }
        }
    }

    fn gallery_run(&self, gallery: &Gallery, images: &[Links], deadline: Instant) -> Run<'_> {
        let mut run = self.bare_run(deadline);
        run.scope.gallery = gallery.values();
        run.scope.images = images.iter().map(image_values).collect();
        run.secrets = images.iter().filter_map(|image| image.delete_token.clone()).collect();
        run.names = vec![gallery.name.clone()];
        run
    }

    async fn make(
        &self,
        mut run: Run<'_>,
        steps: &[super::recipe::Step],
        parts: &GalleryParts,
        mut gallery: Gallery,
    ) -> Result<Gallery, Box<Failure>> {
        self.with_session(&mut run, steps, |_, _, _| Ok(())).await?;
        let scope: &Scope = &run.scope;
        if let Some(id) = first(&parts.id, scope, None) {
            gallery.id = id;
        } else if !parts.id.is_empty() && gallery.id.is_empty() {
            let message = format!("{} did not tell the id of the gallery", self.name);
            return Err(Box::new(Failure::new(ErrorClass::BadResponse, Phase::Parse, message)));
        }
        gallery.secret = first(&parts.secret, scope, None).or(gallery.secret);
        let page = first(&parts.url, scope, None).and_then(|text| self.sites.base.join(&text).ok());
        gallery.url = page.and_then(|page| link(page.as_str()).ok()).or(gallery.url);
        Ok(gallery)
    }

    /// A run that is about no file.
    pub(super) fn bare_run(&self, deadline: Instant) -> Run<'_> {
        self.run(None, Arc::new(Progress::new()), deadline)
    }
}

impl Gallery {
    /// What templates see of it.
    pub(super) fn values(&self) -> std::collections::BTreeMap<&'static str, String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        [("id", self.id.clone()), ("secret", text(&self.secret)), ("url", text(&self.url)), ("name", self.name.clone())]
            .into()
    }
}

/// What templates see of a finished image; `file` is the last part of its address.
fn image_values(links: &Links) -> ImageValues {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let file = links.image.as_ref().unwrap_or(&links.url).rsplit('/').next().unwrap_or_default();
    [
        ("url", links.url.clone()),
        ("thumb", text(&links.thumb)),
        ("image", text(&links.image)),
        ("delete_token", text(&links.delete_token)),
        ("file", file.to_owned()),
    ]
    .into()
}

/// `name` as the host's rules allow it.
fn fitting(spec: &GallerySpec, name: &str) -> String {
    let text = match &spec.unfit {
        Some(unfit) => unfit.replace_all(name, "_").into_owned(),
        None => name.chars().map(|c| if c.is_control() { '_' } else { c }).collect(),
    };
    let short: String = text.trim().chars().take(spec.name_max).collect();
    if short.trim().chars().count() < spec.name_min.max(1) {
        UNTITLED.chars().take(spec.name_max).collect()
    } else {
        short.trim().to_owned()
    }
}

fn no_galleries(host: &str) -> Failure {
    Failure::new(ErrorClass::BadResponse, Phase::Parse, format!("{host} has no galleries"))
}
