//! What a recipe would send, without sending it.
//!
//! Secrets never get as far as here: each is replaced by a mark before the templates are filled in, and the mark is shown
//! as `[secret]`. What only an answer can tell is a mark as well, shown as the template that asks for it. The lengths
//! are those of the real request, where it can be known already.

use std::collections::BTreeMap;
use std::sync::Arc;

use url::Url;

use super::body::escaped;
use super::engine::RecipeHost;
use super::http;
use super::recipe::template::{RenderError, Scope};
use super::recipe::{BodySpec, Field, Step, Template};
use super::run::Run;
use super::{Preview, Upload};

const CONTENT_TYPE: &str = "Content-Type";

/// What is shown in place of a secret.
const SECRET: &str = "[secret]";

/// How much of a text body is shown.
const TEXT_LIMIT: usize = 4096;

/// Digits that no value has by chance: they survive URLs, encodings and changes of case.
const MARK: &str = "71903562840917";

/// Stand-ins and what is shown for each.
#[derive(Default)]
struct Marks(Vec<String>);

impl Marks {
    fn mark(&mut self, shown: String) -> String {
        self.0.push(shown);
        format!("{MARK}{:04}", self.0.len() - 1)
    }

    /// `text` with what the marks stand for.
    fn shown(&self, text: &str) -> String {
        let mut out = String::new();
        let mut parts = text.split(MARK);
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let number = part.get(..4).and_then(|digits| digits.parse::<usize>().ok());
            match number.and_then(|number| self.0.get(number)) {
                Some(shown) => {
                    out.push_str(shown);
                    out.push_str(&part[4..]);
                }
                None => {
                    out.push_str(MARK);
                    out.push_str(part);
                }
            }
        }
        out
    }
}

impl RecipeHost {
    /// Every request of an upload, those of its session first.
    pub(super) fn preview_all(&self, upload: &Upload) -> Vec<Preview> {
        let mut real = self.run(Some(upload), Arc::clone(&upload.progress), upload.deadline);
        let mut marks = Marks::default();
        let mut scope = real.scope.clone();
        scope.preview = true;
        for (name, value) in &mut scope.options {
            let secret = self.recipe.options.get(name).is_some_and(|spec| spec.secret);
            if secret && !value.is_empty() {
                *value = marks.mark(SECRET.to_owned());
            }
        }
        let encoded = upload.source.len().div_ceil(3) * 4;
        scope.content = Some(Arc::from(marks.mark(format!("[{encoded} characters of base64]"))));
        let mut previews = Vec::new();
        let session = self.recipe.session.as_ref().filter(|_| self.recipe.steps.iter().any(|step| step.session));
        let login = session.map_or(&[][..], |session| &session.steps);
        for (group, steps) in [("session", login), ("upload", &self.recipe.steps[..])] {
            for step in steps {
                if skipped(step, &scope) {
                    scope.steps.entry(step.name.clone()).or_default();
                    continue;
                }
                previews.push(self.preview(group, step, (&real, &scope), &marks));
                let found: BTreeMap<String, String> = step
                    .extract
                    .keys()
                    .map(|name| (name.clone(), marks.mark(format!("{{{{ step.{}.{name} }}}}", step.name))))
                    .collect();
                scope.steps.insert(step.name.clone(), found);
            }
            if group == "session" {
                scope.session = std::mem::take(&mut scope.steps);
            }
        }
        real.scope.steps.clear();
        previews
    }

    fn preview(&self, group: &str, step: &Step, (real, scope): (&Run<'_>, &Scope), marks: &Marks) -> Preview {
        let shown = |template: &Template| match template.render(scope) {
            Ok(text) => text,
            Err(RenderError::Missing(_)) => format!("[{}]", template.source()),
            Err(error) => format!("[{error}]"),
        };
        // The query of the address is encoded together with its marks.
        let address = shown(&step.url);
        let pairs = filled(&step.query, &shown);
        let url = match self.sites.own(&address, &self.sites.base).filter(|_| !address.starts_with(MARK)) {
            Some(mut url) => {
                if !pairs.is_empty() {
                    url.query_pairs_mut().extend_pairs(&pairs);
                }
                String::from(url)
            }
            None => {
                let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
                if query.is_empty() { address } else { format!("{address}?{query}") }
            }
        };
        let length = real.prepare(step).ok().filter(|_| step.fields_of.is_none()).map(|ready| ready.plan.len());
        let (content_type, body) = self.body(step, (real, scope), &shown);
        let mut headers = vec![("Host".to_owned(), host_of(&url)), ("User-Agent".to_owned(), http::AGENT.to_owned())];
        for (name, value) in filled(&step.headers, &shown) {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            headers.push((name, value));
        }
        let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
        headers.extend(content_type.filter(|_| !named).map(|text| (CONTENT_TYPE.to_owned(), text)));
        if !matches!(step.body, BodySpec::None) {
            let length =
                length.map_or_else(|| "[known once the answers before it are]".to_owned(), |length| length.to_string());
            headers.push(("Content-Length".to_owned(), length));
        }
        let undecided =
            step.when.as_ref().filter(|when| when.render(scope).map_or(true, |decided| decided.contains(MARK)));
        let clean = |text: &str| marks.shown(text);
        Preview {
            step: format!("{group}: {}", step.name),
            when: undecided.map(|when| when.source().to_owned()),
            method: step.method.to_string(),
            url: clean(&url),
            headers: headers.iter().map(|(name, value)| (name.clone(), clean(value))).collect(),
            body: body.iter().map(|line| clean(line)).collect(),
        }
    }

    /// The body's type, and its parts.
    fn body(
        &self,
        step: &Step,
        (real, _): (&Run<'_>, &Scope),
        shown: &dyn Fn(&Template) -> String,
    ) -> (Option<String>, Vec<String>) {
        let file = |upload: &Upload| format!("{} bytes of {}", upload.source.len(), upload.source.kind().mime());
        let sent_file = real.upload.map(file).unwrap_or_default();
        let mut lines = Vec::new();
        if let Some(from) = &step.fields_of {
            lines.push(format!("the fields of the form that step `{from}` found"));
        }
        let form_type = "application/x-www-form-urlencoded".to_owned();
        match &step.body {
            BodySpec::None => (None, vec!["no body".to_owned()]),
            BodySpec::Raw => {
                let mime = real.upload.map(|upload| upload.source.kind().mime().to_owned());
                (mime, vec![format!("the file: {sent_file}")])
            }
            BodySpec::Multipart { fields, file } => {
                lines.extend(field_lines(fields, shown));
                if let Some(file) = file {
                    let own = file.file_name.as_ref().map(shown);
                    let name =
                        own.or_else(|| real.upload.map(|upload| upload.source.name().to_owned())).unwrap_or_default();
                    lines.push(format!("file {} = \"{}\": {sent_file}", file.name, escaped(&name)));
                }
                (Some("multipart/form-data; boundary=…".to_owned()), lines)
            }
            BodySpec::Form(fields) => {
                lines.extend(field_lines(fields, shown));
                (Some(form_type), lines)
            }
            BodySpec::Json(fields) => {
                lines.extend(field_lines(fields, shown));
                (Some("application/json".to_owned()), lines)
            }
            BodySpec::Text { content_type, text } => {
                let mut text = shown(text);
                if let Some((end, _)) = text.char_indices().nth(TEXT_LIMIT) {
                    text.truncate(end);
                    text.push('…');
                }
                (Some((*content_type).to_owned()), vec![text])
            }
        }
    }
}

fn field_lines(fields: &[Field], shown: &dyn Fn(&Template) -> String) -> Vec<String> {
    let values = fields.iter().map(|field| (field, shown(&field.value)));
    let sent = values.filter(|(field, value)| field.empty || field.value.keeps_empty() || !value.is_empty());
    sent.map(|(field, value)| format!("field {} = \"{value}\"", field.name)).collect()
}

fn filled(pairs: &[(String, Template)], shown: &dyn Fn(&Template) -> String) -> Vec<(String, String)> {
    let values = pairs.iter().map(|(name, template)| (name.clone(), template, shown(template)));
    values
        .filter(|(_, template, value)| template.keeps_empty() || !value.is_empty())
        .map(|(name, _, value)| (name, value))
        .collect()
}

/// Whether `step` is certainly not run: what its condition needs may not be known yet.
fn skipped(step: &Step, scope: &Scope) -> bool {
    step.when.as_ref().is_some_and(|when| when.render(scope).is_ok_and(|text| text.trim().is_empty()))
}

fn host_of(address: &str) -> String {
    let url = Url::parse(address).ok();
    let words = address.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let host = url.as_ref().and_then(|url| Some((url.host_str()?.to_owned(), url.port())));
    host.map_or_else(
        || words.unwrap_or("[known later]").to_owned(),
        |(host, port)| port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")),
    )
}
