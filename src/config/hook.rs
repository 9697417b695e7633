//! `[[hook]]`: what else happens when a file has an outcome.

use std::time::Duration;

use secrecy::SecretString;
use toml::de::{DeTable, DeValue};
use url::Url;

use super::problem::{Problem, nearest};
use super::section::{Section, describe};

/// The words of `on`: the statuses of the manifest.
pub const OUTCOMES: [&str; 5] = ["uploaded", "linked", "timeout", "deferred", "failed"];

/// The fields of a manifest line: what the words of `exec` may name.
pub const MANIFEST_FIELDS: [&str; 28] = [
    "v",
    "seq",
    "job",
    "at",
    "status",
    "file",
    "file_bytes",
    "folder",
    "host",
    "url",
    "thumb",
    "image",
    "delete_url",
    "delete_token",
    "stripped",
    "album",
    "album_url",
    "bytes",
    "mime",
    "width",
    "height",
    "blake3",
    "attempts",
    "requeues",
    "duration_ms",
    "moved_to",
    "error",
    "mirrors",
];

/// Hooks of one agent: each outcome is compared with all of them.
const MAX_HOOKS: usize = 100;

/// A hook that takes longer than a minute is no notification; one below this is none either.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

/// One `[[hook]]`.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The outcomes that it is called for.
    pub on: Vec<String>,
    /// What is done.
    pub action: HookAction,
    /// How long one try may take.
    pub timeout: Duration,
    /// How often it is tried again.
    pub retries: u32,
}

/// What a hook does.
#[derive(Clone, Debug)]
pub enum HookAction {
    /// A program and its arguments, each a template.
    Exec(Vec<String>),
    /// An address that gets the record. It may hold a token, so it is never shown.
    Webhook(SecretString),
}

/// Reads every `[[hook]]`.
pub(super) fn read(root: &mut Section<'_>, problems: &mut Vec<Problem>) -> Vec<Hook> {
    let Some(value) = root.take("hook") else { return Vec::new() };
    let Some(array) = value.get_ref().as_array() else {
        let message = format!("found {}, expected one or more tables [[hook]]", describe(value.get_ref()));
        root.wrong("hook", message, Some("write the header as [[hook]]".to_owned()));
        return Vec::new();
    };
    if array.len() > MAX_HOOKS {
        let message = format!("found {} hooks, expected at most {MAX_HOOKS}", array.len());
        root.wrong("hook", message, Some("let one program decide what to do".to_owned()));
        return Vec::new();
    }
    let mut hooks = Vec::new();
    for (index, element) in array.iter().enumerate() {
        let name = format!("hook[{index}]");
        match element.get_ref() {
            DeValue::Table(table) => hooks.extend(read_one(name, table, element.span(), problems)),
            other => {
                let message = format!("found {}, expected a table", describe(other));
                problems.push(Problem { span: element.span(), key: name, message, help: None });
            }
        }
    }
    hooks
}

fn read_one<'t>(
    name: String,
    table: &'t DeTable<'t>,
    header: std::ops::Range<usize>,
    problems: &mut Vec<Problem>,
) -> Option<Hook> {
    let mut section = Section::new(name, Some(table), header);
    let on = outcomes(&mut section);
    let exec = exec(&mut section);
    let webhook = webhook(&mut section);
    let timeout = section.duration("timeout", TIMEOUT).unwrap_or(Duration::from_secs(10));
    let retries = section.number("retries", 0..=10).unwrap_or(2);
    let action = match (section.has("exec"), section.has("webhook")) {
        (true, true) => {
            section.wrong("webhook", "stands beside `exec`, expected one of them", Some("write two hooks".to_owned()));
            None
        }
        (false, false) => {
            let help = "exec = [\"wl-copy\", \"{{ url }}\"]";
            section.wrong("exec", "missing, expected `exec` or `webhook`", Some(help.to_owned()));
            None
        }
        _ => exec.map(HookAction::Exec).or(webhook.map(HookAction::Webhook)),
    };
    section.finish(problems);
    Some(Hook { on: on?, action: action?, timeout, retries })
}

fn outcomes(section: &mut Section<'_>) -> Option<Vec<String>> {
    let accepted = OUTCOMES.map(|word| format!("\"{word}\"")).join(", ");
    if !section.has("on") {
        section.wrong("on", format!("missing, expected an array of {accepted}"), None);
    }
    let words = section.texts("on", &format!("an array of {accepted}"))?;
    if words.is_empty() {
        section.wrong("on", format!("found no word, so that it would never be called, expected {accepted}"), None);
        return None;
    }
    for (word, span) in &words {
        if !OUTCOMES.contains(word) {
            let help = nearest(word, OUTCOMES).map(|near| format!("did you mean \"{near}\"?"));
            let found = describe(&DeValue::String((*word).into()));
            section.problem("on", span.clone(), format!("found {found}, expected one of {accepted}"), help);
        }
    }
    Some(words.into_iter().map(|(word, _)| word.to_owned()).collect())
}

fn exec(section: &mut Section<'_>) -> Option<Vec<String>> {
    let words = section.texts("exec", "an array of a program and its arguments")?;
    if words.first().is_none_or(|(program, _)| program.is_empty()) {
        section.wrong("exec", "found no program, expected an array of a program and its arguments", None);
    }
    for (word, span) in &words {
        let engine = minijinja::Environment::new();
        match engine.template_from_str(word) {
            Err(error) => section.problem("exec", span.clone(), format!("is no template: {error}"), None),
            Ok(template) => {
                let named = template.undeclared_variables(false);
                let functions: Vec<&str> = engine.globals().map(|(name, _)| name).collect();
                let unknown =
                    |name: &&String| !MANIFEST_FIELDS.contains(&name.as_str()) && !functions.contains(&name.as_str());
                // In the same order each time.
                let unknown: std::collections::BTreeSet<&String> = named.iter().filter(unknown).collect();
                for name in unknown {
                    let help = nearest(name, MANIFEST_FIELDS).map(|near| format!("did you mean `{near}`?"));
                    let message = format!("there is no field `{name}`, expected one of a manifest line");
                    section.problem("exec", span.clone(), message, help);
                }
            }
        }
    }
    Some(words.into_iter().map(|(word, _)| word.to_owned()).collect())
}

/// Only to where nobody can read along: it may hold a token, and the record holds links.
fn webhook(section: &mut Section<'_>) -> Option<SecretString> {
    let text = section.text("webhook", "a URL")?;
    let loopback = |url: &Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && loopback(&url)) => {
            Some(SecretString::from(text.to_owned()))
        }
        _ => {
            // What was found may hold a token.
            section.wrong("webhook", "expected an address that begins with https://, or http:// on this machine", None);
            None
        }
    }
}
