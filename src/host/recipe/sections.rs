//! TOML → what a recipe says besides its upload: session, galleries, deleting.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::load::{Checks, GALLERY_VARIABLES, STEPS_LIMIT};
use super::steps::{OneOrMore, RawStep, RawTest};
use super::{DeleteSpec, GalleryParts, GallerySpec, OptionSpec, SessionSpec, Step};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSession {
    /// The options that say whose session it is; the only ones that its steps can use.
    #[serde(default)]
    account: Vec<String>,
    max_age_minutes: Option<u32>,
    step: Vec<RawStep>,
    #[serde(default)]
    expired: Vec<RawTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGallery {
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    name_min: usize,
    name_max: usize,
    name_characters: Option<String>,
    #[serde(default)]
    create: Vec<RawStep>,
    created: RawParts,
    #[serde(default)]
    finish: Vec<RawStep>,
    #[serde(default)]
    finished: RawParts,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParts {
    id: Option<OneOrMore>,
    secret: Option<OneOrMore>,
    url: Option<OneOrMore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDelete {
    #[serde(default)]
    needs: Vec<String>,
    step: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccount {
    step: Vec<RawStep>,
}

impl Checks {
    pub(super) fn session(&mut self, raw: RawSession, options: &BTreeMap<String, OptionSpec>) -> Option<SessionSpec> {
        self.needs("session.account", &raw.account, options);
        let all = self.known.clone();
        let own = |name: &String| name.strip_prefix("option.").is_none_or(|name| raw.account.iter().any(|a| a == name));
        self.known.retain(own);
        if raw.step.is_empty() || raw.step.len() > STEPS_LIMIT {
            self.problem("session.step", format!("there must be 1 to {STEPS_LIMIT} [[session.step]] tables"));
        }
        let steps = self.steps("session.step", raw.step, true);
        if steps.iter().any(super::Step::sends_file) {
            self.problem("session.step", "the file is no part of a session");
        }
        let expired = self.tests("session.expired", raw.expired, &BTreeMap::new());
        self.known = all;
        let max_age = raw.max_age_minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60));
        Some(SessionSpec { account: raw.account, steps, expired, max_age })
    }

    pub(super) fn gallery(
        &mut self,
        raw: RawGallery,
        options: &BTreeMap<String, OptionSpec>,
        has_session: bool,
    ) -> Option<GallerySpec> {
        self.needs("gallery.needs", &raw.needs, options);
        let text = raw.name_characters.map(|set| format!("[^{set}]"));
        let unfit = self.regex("gallery.name_characters", text.as_deref());
        let before = self.known.clone();
        self.known.insert("gallery.name".to_owned());
        let create = self.steps("gallery.create", raw.create, has_session);
        let created = self.parts("gallery.created", raw.created);
        self.known = before;
        self.known.extend(GALLERY_VARIABLES.iter().map(|name| format!("gallery.{name}")));
        self.known.insert("images".to_owned());
        let finish = self.steps("gallery.finish", raw.finish, has_session);
        let finished = self.parts("gallery.finished", raw.finished);
        if create.iter().chain(&finish).any(super::Step::sends_file) {
            self.problem("gallery", "the file is no part of making a gallery");
        }
        Some(GallerySpec {
            needs: raw.needs,
            name_min: raw.name_min,
            name_max: raw.name_max.max(1),
            unfit,
            create,
            created,
            finish,
            finished,
        })
    }

    fn parts(&mut self, key: &str, raw: RawParts) -> GalleryParts {
        GalleryParts {
            id: self.templates(&format!("{key}.id"), raw.id),
            secret: self.templates(&format!("{key}.secret"), raw.secret),
            url: self.templates(&format!("{key}.url"), raw.url),
        }
    }

    pub(super) fn delete(
        &mut self,
        raw: RawDelete,
        options: &BTreeMap<String, OptionSpec>,
        has_session: bool,
    ) -> Option<DeleteSpec> {
        self.needs("delete.needs", &raw.needs, options);
        self.known.insert("uploaded.delete_token".to_owned());
        let steps = self.steps("delete.step", raw.step, has_session);
        Some(DeleteSpec { needs: raw.needs, steps })
    }

    pub(super) fn account(&mut self, raw: RawAccount, has_session: bool) -> Vec<Step> {
        let steps = self.steps("account.step", raw.step, has_session);
        if steps.is_empty() || steps.iter().any(Step::sends_file) {
            self.problem("account.step", "there must be [[account.step]] tables, and none that sends the file");
        }
        steps
    }

    fn needs(&mut self, key: &str, names: &[String], options: &BTreeMap<String, OptionSpec>) {
        for name in names.iter().filter(|name| !options.contains_key(*name)) {
            self.problem(key, format!("there is no option `{name}`"));
        }
    }
}
