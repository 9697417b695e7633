//! Templates → a request that can be sent as often as needed.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::body::Plan;
use super::recipe::template::{RenderError, Scope};
use super::recipe::{BodySpec, Field, Step, Template};
use super::run::Run;
use crate::job::{ErrorClass, Failure, Phase};

/// A request before it is sent.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) plan: Plan,
}

impl Run<'_> {
    /// Fills in the templates of `step`.
    pub(super) fn prepare(&self, step: &Step) -> Result<Prepared, Box<Failure>> {
        let host = self.host;
        let failed = |error: RenderError| {
            let message = format!("{}: step `{}` could not be prepared: {error}", host.name, step.name);
            Box::new(Failure::new(ErrorClass::BadResponse, Phase::Parse, message))
        };
        let scope = &self.scope;
        let text = step.url.render(scope).map_err(failed)?;
        let mut url = host.sites.own(&text, &host.sites.base).ok_or_else(|| self.elsewhere(&step.name))?;
        let query = pairs(&step.query, scope).map_err(failed)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers = Vec::new();
        for (name, value) in pairs(&step.headers, scope).map_err(failed)? {
            let name: HeaderName = name.parse().expect("header names were checked when the recipe was read");
            let mut value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| failed(RenderError::Failed(name.to_string(), "no valid header value".to_owned())))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let plan = self.plan(step).map_err(failed)?;
        Ok(Prepared { method: step.method.clone(), url, headers, plan })
    }

    /// The failure of a request that would leave the recipe's sites.
    pub(super) fn elsewhere(&self, step: &str) -> Box<Failure> {
        let (name, base) = (&self.host.name, &self.host.sites.base);
        let message = format!("{name}: step `{step}` would send to another site than {base}");
        Box::new(Failure::new(ErrorClass::BadResponse, Phase::Parse, message))
    }

    fn plan(&self, step: &Step) -> Result<Plan, RenderError> {
        let source = || Arc::clone(&self.upload.expect("only uploads have steps that send a file").source);
        Ok(match &step.body {
            BodySpec::None => Plan::empty(),
            BodySpec::Raw => Plan::raw(source()),
            BodySpec::Multipart { fields, file } => {
                let fields = self.filled(step, fields)?;
                match file {
                    None => Plan::multipart(&fields, None),
                    Some(file) => {
                        let source = source();
                        let own = file.file_name.as_ref().map(|name| name.render(&self.scope)).transpose()?;
                        let file_name = own.unwrap_or_else(|| source.name().to_owned());
                        Plan::multipart(&fields, Some((&file.name, &file_name, source)))
                    }
                }
            }
            BodySpec::Form(fields) => {
                let pairs = self.filled(step, fields)?;
                let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
                Plan::bytes("application/x-www-form-urlencoded", form)
            }
            BodySpec::Json(fields) => {
                let pairs = self.filled(step, fields)?;
                let object: serde_json::Map<_, _> =
                    pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
                Plan::bytes("application/json", serde_json::Value::from(object).to_string())
            }
            BodySpec::Text { content_type, text } => Plan::bytes(content_type, text.render(&self.scope)?),
        })
    }

    /// The form that is sent back, then the step's own fields.
    fn filled(&self, step: &Step, fields: &[Field]) -> Result<Vec<(String, String)>, RenderError> {
        let form = step.fields_of.as_ref().and_then(|from| self.forms.get(from));
        let kept = form.into_iter().flatten().filter(|(name, _)| fields.iter().all(|field| field.name != *name));
        let mut filled: Vec<(String, String)> = kept.cloned().collect();
        for field in fields {
            let value = field.value.render(&self.scope)?;
            if field.empty || field.value.keeps_empty() || !value.is_empty() {
                filled.push((field.name.clone(), value));
            }
        }
        Ok(filled)
    }
}

/// The rendered pairs; what comes out empty is left out.
fn pairs(pairs: &[(String, Template)], scope: &Scope) -> Result<Vec<(String, String)>, RenderError> {
    let mut filled = Vec::new();
    for (name, template) in pairs {
        let value = template.render(scope)?;
        if template.keeps_empty() || !value.is_empty() {
            filled.push((name.clone(), value));
        }
    }
    Ok(filled)
}
