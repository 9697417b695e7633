//! `[host.NAME]`: the keys that every host has, and the options of its recipe, which only the recipe understands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use secrecy::SecretString;
use toml::Spanned;
use toml::de::DeTable;

use super::draft::{WORKERS, set};
use super::environment::Environment;
use super::problem::{Problem, escaped, shown_path};
use super::secret::{Setting, resolve};
use super::section::{Section, Value};
use super::value::rate;
use super::{HostConfig, Rate, Thumbnail, Verify, flow};

/// What stands before the path of a ShareX custom uploader.
const SXCU: &str = "sxcu:";

/// The table of the answers to what a custom uploader asks.
const PROMPT: &str = "prompt";

/// The longest name of a host: it stands in log lines, URLs and file names.
const MAX_NAME: usize = 64;

/// Why `name` cannot be the name of a host.
pub(super) fn name_mistake(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.');
    (!good).then(|| {
        format!("found \"{}\", expected a name of letters, digits, `-`, `_` and `.`, 64 at most", escaped(name))
    })
}

/// Makes a host without a table for a name that a folder uses, if there is none.
pub(super) fn named_by_folder(hosts: &mut BTreeMap<String, HostConfig>, name: &str, span: Range<usize>) {
    hosts.entry(name.to_owned()).or_insert_with(|| HostConfig { span, ..HostConfig::new(name) });
}

/// Reads every `[host.NAME]`.
pub(super) fn read<'t>(
    mut table: Section<'t>,
    file: Option<&Path>,
    env: &Environment<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, HostConfig> {
    let help = |_: &str| "a host's keys stand under a header such as [host.pixhost]".to_owned();
    let named = table.named("host", name_mistake, help);
    table.finish(problems);
    let read = |(name, options, span)| (String::from(name), read_one(name, options, span, (file, env), problems));
    named.into_iter().map(read).collect()
}

fn read_one<'t>(
    name: &str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    (file, env): (Option<&Path>, &Environment<'_>),
    problems: &mut Vec<Problem>,
) -> HostConfig {
    let mut section = Section::new(format!("host.{name}"), Some(table), span.clone());
    let mut host = HostConfig { span, ..HostConfig::new(name) };
    set(&mut host.recipe, recipe(&mut section, file, env));
    host.base_url = section.text("base_url", "a URL").map(str::to_owned);
    set(&mut host.allow_http, section.flag("allow_http"));
    host.max_parallel = section.number("max_parallel", WORKERS);
    host.rate = read_rate(&mut section);
    let thumbnails = [
        ("auto", Thumbnail::Auto),
        ("off", Thumbnail::Off),
        ("upload", Thumbnail::Upload),
        ("local", Thumbnail::Local),
    ];
    set(&mut host.thumbnail, section.choice("thumbnail", &thumbnails));
    let looks = [("off", Verify::Off), ("head", Verify::Head), ("get", Verify::Get)];
    set(&mut host.verify, section.choice("verify", &looks));
    set(&mut host.fix_extension, section.flag("fix_extension"));
    host.flow = flow::read_host(&mut section);
    for (key, key_span, value) in section.rest() {
        if let (PROMPT, Some(answers)) = (key, value.get_ref().as_table()) {
            for (title, answer) in answers {
                let name = format!("{PROMPT}.{}", title.get_ref());
                let setting = setting(&mut section, &name, title.span(), answer, env);
                host.options.insert(name, setting);
            }
            continue;
        }
        let setting = setting(&mut section, key, key_span, value, env);
        host.options.insert(key.to_owned(), setting);
    }
    section.finish(problems);
    host
}

/// The recipe's name, or the path of its file, made absolute.
fn recipe(section: &mut Section<'_>, file: Option<&Path>, env: &Environment<'_>) -> Option<String> {
    const EXPECTED: &str = "the name of a recipe, the path of a .toml file, or sxcu:FILE for a ShareX custom uploader";
    let text = section.text("recipe", EXPECTED)?;
    let (prefix, path) = text.strip_prefix(SXCU).map_or(("", text), |path| (SXCU, path));
    let is_path = text.contains('/') || [".toml", ".sxcu"].iter().any(|ending| text.ends_with(ending));
    if prefix.is_empty() && !is_path {
        return Some(text.to_owned());
    }
    let path = match env.expand(path) {
        Ok(path) => path,
        Err(message) => {
            section.wrong("recipe", message, None);
            return None;
        }
    };
    let path = file.and_then(Path::parent).map_or(path.clone(), |folder| folder.join(path));
    if path.to_str().is_none() {
        section.wrong("recipe", format!("the path \"{}\" is not valid UTF-8 text", shown_path(&path)), None);
    }
    path.to_str().map(|path| format!("{prefix}{path}"))
}

fn read_rate(section: &mut Section<'_>) -> Option<Rate> {
    let expected = "uploads per second, minute or hour such as \"2/s\", \"30/m\" or \"100/h\"";
    let every = section.read("rate", expected, |value| value.as_str().and_then(rate));
    let burst = section.number("burst", 1..=1_000);
    if burst.is_some() && !section.has("rate") {
        section.wrong("burst", "means nothing without `rate`", Some("add rate = \"2/s\", or remove it".to_owned()));
    }
    every.map(|every| Rate { every, burst: burst.unwrap_or(1) })
}

/// An option that cannot be read stays as an empty one, so that the recipe does not call it missing as well.
fn setting(
    section: &mut Section<'_>,
    key: &str,
    key_span: Range<usize>,
    value: &Value<'_>,
    env: &Environment<'_>,
) -> Setting {
    let span = Spanned::span(value);
    let (value, origin) = resolve(value.get_ref(), env).unwrap_or_else(|unusable| {
        section.problem(&escaped(key), span.clone(), unusable.message, unusable.help);
        (SecretString::default(), "nowhere: it could not be read".to_owned())
    });
    Setting { value, origin, span, key_span }
}
