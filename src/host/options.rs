//! What the user set, checked against what the recipe declares.

use std::collections::BTreeMap;
use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::recipe::{OptionSpec, Recipe};
use super::sites::Sites;
use crate::config::{HostConfig, Problem};

/// The options of one host as they go on the wire. Any may be a secret, so all are kept as such.
pub(super) type Options = BTreeMap<String, SecretString>;

/// Names that are at least so similar are suggested.
const SIMILAR: f64 = 0.7;

impl OptionSpec {
    /// What `value`, in the user's words, is on the wire.
    ///
    /// # Errors
    /// What is accepted; never the value itself if it is a secret.
    pub fn wire(&self, value: &str) -> Result<String, String> {
        let found = if self.secret { String::from("the value") } else { format!("`{value}`") };
        if value.chars().any(char::is_control) {
            return Err(format!("{found} must not contain line breaks or other control characters"));
        }
        if !self.values.is_empty() {
            let known: Vec<String> = self.values.keys().map(|word| format!("\"{word}\"")).collect();
            return self
                .values
                .get(value)
                .cloned()
                .ok_or_else(|| format!("{found} is not one of {}", known.join(", ")));
        }
        if let Some((low, high)) = self.range {
            let number = value.parse::<i64>().ok().filter(|number| (low..=high).contains(number));
            return number
                .map(|number| number.to_string())
                .ok_or_else(|| format!("{found} is not a whole number from {low} to {high}"));
        }
        Ok(value.to_owned())
    }
}

/// The options of `host` for `recipe`. Options that are neither set nor have a default are empty.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn resolve(recipe: &Recipe, host: &HostConfig) -> Result<Options, Vec<Problem>> {
    let mut options = Options::new();
    let mut problems = Vec::new();
    let is_site = |name: &str| name.strip_suffix("_url").is_some_and(|site| recipe.addresses.contains_key(site));
    let unknown = |name: &String| !recipe.options.contains_key(name) && !is_site(name);
    for (name, setting) in host.options.iter().filter(|(name, _)| unknown(name)) {
        problems.push(Problem {
            span: setting.span.clone(),
            key: format!("host.{}.{name}", host.name),
            message: format!("recipe `{}` has no option `{name}`", recipe.name),
            help: nearest(name, recipe.options.keys().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"))
                .or_else(|| Some(format!("`pixchute host show {}` lists its options", recipe.name))),
        });
    }
    for (name, spec) in &recipe.options {
        let key = format!("host.{}.{name}", host.name);
        let set = host.options.get(name);
        let value = set.map(|setting| setting.value.expose_secret()).or(spec.default.as_deref());
        match value {
            Some(value) if spec.required && value.is_empty() => {
                let span = set.map_or(host.span.clone(), |setting| setting.span.clone());
                problems.push(Problem { span, key, message: "must not be empty".into(), help: Some(spec.doc.clone()) });
            }
            Some("") => drop(options.insert(name.clone(), SecretString::default())),
            Some(value) => match spec.wire(value) {
                Ok(wire) => drop(options.insert(name.clone(), wire.into())),
                Err(message) => {
                    let span = set.map_or(host.span.clone(), |setting| setting.span.clone());
                    problems.push(Problem { span, key, message, help: Some(spec.doc.clone()) });
                }
            },
            None if spec.required => problems.push(Problem {
                span: host.span.clone(),
                key,
                message: format!("recipe `{}` needs it", recipe.name),
                help: Some(spec.doc.clone()),
            }),
            None => drop(options.insert(name.clone(), recipe.inline.get(name).cloned().unwrap_or_default())),
        }
    }
    let is_set = |name: &String| options.get(name).is_some_and(|value| !value.expose_secret().is_empty());
    let unmet = recipe.require_any.iter().filter(|group| !group.iter().any(is_set));
    for group in unmet {
        problems.push(Problem {
            span: host.span.clone(),
            key: format!("host.{}", host.name),
            message: format!("recipe `{}` needs one of {}", recipe.name, quoted(group)),
            help: recipe.options.get(&group[0]).map(|spec| format!("{}: {}", group[0], spec.doc)),
        });
    }
    if problems.is_empty() { Ok(options) } else { Err(problems) }
}

/// The addresses that requests of `host` may go to; `else_here` if the user named the first one by another option.
///
/// # Errors
/// Why one cannot be used.
pub(super) fn sites(recipe: &Recipe, host: &HostConfig, else_here: Option<String>) -> Result<Sites, Problem> {
    let base = base_url(recipe, host, else_here.as_ref())?;
    let (mut named, mut moved) = (BTreeMap::new(), Vec::new());
    let original = |text: &Option<String>| text.as_ref().and_then(|text| Url::parse(text).ok());
    moved.extend(original(&recipe.base_url).map(|there| (there, base.clone())));
    for (name, text) in &recipe.addresses {
        let key = format!("{name}_url");
        let set = host.options.get(&key);
        let here = match (set, &host.base_url) {
            (Some(setting), _) => address(setting.value.expose_secret(), host, &key, setting.span.clone())?,
            // One address for everything, unless the user says more.
            (None, Some(_)) => base.clone(),
            (None, None) => address(text, host, &key, host.span.clone())?,
        };
        moved.extend(Url::parse(text).ok().map(|there| (there, here.clone())));
        named.insert(name.clone(), here);
    }
    moved.retain(|(there, here)| there.origin() != here.origin());
    if host.base_url.is_none() {
        moved.clear();
    }
    Ok(Sites { base, named, origins: recipe.sites.clone(), hosts: recipe.hosts.clone(), moved })
}

/// The base URL of `host`, without a slash at its end; `else_here` if the user named it by another option.
fn base_url(recipe: &Recipe, host: &HostConfig, else_here: Option<&String>) -> Result<Url, Problem> {
    let key = if else_here.is_some() && host.base_url.is_none() { "endpoint" } else { "base_url" };
    let span = host.options.get(key).map_or(host.span.clone(), |setting| setting.span.clone());
    let Some(text) = host.base_url.as_ref().or(else_here).or(recipe.base_url.as_ref()) else {
        return Err(Problem {
            span,
            key: format!("host.{}.{key}", host.name),
            message: format!("recipe `{}` needs it", recipe.name),
            help: Some("the address of the site: base_url = \"https://…\"".to_owned()),
        });
    };
    address(text, host, key, span)
}

/// An address that the user may set.
fn address(text: &str, host: &HostConfig, key: &str, span: std::ops::Range<usize>) -> Result<Url, Problem> {
    let problem = |message: String, help: &str| Problem {
        span: span.clone(),
        key: format!("host.{}.{key}", host.name),
        message,
        help: Some(help.to_owned()),
    };
    let example = "write it as https://host.example or https://host.example/path";
    // The text may hold a password: it is not repeated.
    let url = Url::parse(text).map_err(|error| problem(format!("it is no URL: {error}"), example))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(problem("it must begin with https:// and name a host".into(), example));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(problem("it must not contain a user, a password, `?` or `#`".into(), example));
    }
    if url.scheme() == "http" && !host.allow_http && !is_loopback(&url) {
        return Err(problem(
            "plain http would show the images and keys to everybody on the way".into(),
            "use https, or set `allow_http = true` if the network is yours",
        ));
    }
    Ok(url)
}

/// Whether `url` leads to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    }
}

/// The known name that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
