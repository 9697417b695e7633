//! What differs between two configurations, key by key, as its owner wrote them. Never shows what may be a secret.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::ExposeSecret;
use toml::{Table, Value};

use super::Config;

/// So much of a value is shown.
const MAX_SHOWN: usize = 60;

/// Keys that are read once, at the start. What they say now applies after the next start.
const AT_START: [&str; 4] = ["ledger.", "server.listen", "control.socket", "log.format"];

/// Tables whose values are shown; in all others any text may be a secret.
const OPEN: [&str; 9] =
    ["pool.", "retry.", "cooldown.", "flow.", "log.", "server.", "control.", "template.", "folder "];

/// Keys of a host whose values are shown.
const OPEN_OF_HOST: [&str; 7] =
    [".recipe", ".max_parallel", ".rate", ".burst", ".quota", ".allow_http", ".min_parallel"];

/// One key that says something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key with its tables: `pool.workers`, `host.pixhost.api_key`, `folder "~/Drop".after`.
    pub key: String,
    /// What it said; `None` if it said nothing.
    pub from: Option<String>,
    /// What it says now; `None` if nothing.
    pub to: Option<String>,
    /// It applies after the next start only.
    pub at_start: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        match (&self.from, &self.to) {
            (from, to) if from == to => write!(f, "{}: changed", self.key)?,
            (from, to) => write!(f, "{}: {} → {}", self.key, shown(from), shown(to))?,
        }
        if self.at_start { f.write_str(" (applies after the next start)") } else { Ok(()) }
    }
}

/// Every key that differs, in order. Secrets that were fetched anew and differ count, though nothing of them is shown.
#[must_use]
pub fn difference(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after) = (keys_of(&old.text), keys_of(&new.text));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut changes: Vec<Change> = Vec::new();
    for key in keys {
        let (from, to) = (before.get(key), after.get(key));
        if from != to {
            let shown = |value: Option<&Value>| value.map(|value| shown(key, value));
            let at_start = AT_START.iter().any(|prefix| key.starts_with(prefix));
            changes.push(Change { key: key.clone(), from: shown(from), to: shown(to), at_start });
        }
    }
    for (name, host) in &new.hosts {
        let Some(earlier) = old.hosts.get(name) else { continue };
        for (option, setting) in &host.options {
            let known = earlier.options.get(option);
            let differs = known.is_some_and(|known| known.value.expose_secret() != setting.value.expose_secret());
            let key = format!("host.{name}.{option}");
            if differs && !changes.iter().any(|change| change.key == key || change.key.starts_with(&format!("{key}.")))
            {
                let origin = Some(setting.origin.clone());
                changes.push(Change { key, from: origin.clone(), to: origin, at_start: false });
            }
        }
    }
    changes
}

/// Whether two hosts are configured alike, secrets included.
#[must_use]
pub fn alike(old: &super::HostConfig, new: &super::HostConfig) -> bool {
    let plain = |host: &super::HostConfig| {
        // Everything but where it stood.
        format!("{:?}", super::HostConfig { span: 0..0, options: BTreeMap::new(), ..host.clone() })
    };
    let options = |host: &super::HostConfig| -> Vec<(String, String)> {
        host.options.iter().map(|(key, setting)| (key.clone(), setting.value.expose_secret().to_owned())).collect()
    };
    plain(old) == plain(new) && options(old) == options(new)
}

/// The text as keys and values. It was read as a configuration before, so that it is TOML.
fn keys_of(text: &str) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    if let Ok(table) = text.parse::<Table>() {
        for (name, value) in table {
            match value {
                Value::Array(folders) if name == "folder" => {
                    for (index, folder) in folders.into_iter().enumerate() {
                        let path = folder.get("path").and_then(Value::as_str).map(|path| format!("{path:?}"));
                        flatten(&format!("folder {}", path.unwrap_or_else(|| index.to_string())), folder, &mut keys);
                    }
                }
                other => flatten(&name, other, &mut keys),
            }
        }
    }
    keys
}

fn flatten(key: &str, value: Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            table.into_iter().for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, keys));
        }
        Value::Array(array) if array.iter().any(Value::is_table) => {
            array.into_iter().enumerate().for_each(|(index, value)| flatten(&format!("{key}[{index}]"), value, keys));
        }
        other => drop(keys.insert(key.to_owned(), other)),
    }
}

/// The value, if it can be no secret.
fn shown(key: &str, value: &Value) -> String {
    let of_host = key.starts_with("host.") && OPEN_OF_HOST.iter().any(|ending| key.ends_with(ending));
    if !of_host && !OPEN.iter().any(|prefix| key.starts_with(prefix)) {
        return "(not shown)".to_owned();
    }
    let text: String = value.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    text.chars().take(MAX_SHOWN).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn told(old: &str, new: &str) -> Vec<String> {
        let config = |text: &str| parse(text, None).expect("valid");
        difference(&config(old), &config(new)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_that_differs_is_told_once() {
        let old = "[pool]\nworkers = 8\n[[folder]]\npath = \"/a\"\nhost = \"local\"\n[[folder]]\npath = \"/b\"\nhost = \"local\"\n";
        let new = "[pool]\nworkers = 16\ndrain = \"5s\"\n[[folder]]\npath = \"/b\"\nhost = \"local\"\nafter = \"keep\"\n[ledger]\nurl = \"sqlite:///x\"\n";
        assert_eq!(
            told(old, new),
            [
                "folder \"/a\".host: \"local\" → not set",
                "folder \"/a\".path: \"/a\" → not set",
                "folder \"/b\".after: not set → \"keep\"",
                "ledger.url: not set → (not shown) (applies after the next start)",
                "pool.drain: not set → \"5s\"",
                "pool.workers: 8 → 16",
            ]
        );
        assert_eq!(told(new, new), Vec::<String>::new());
    }

    #[test]
    fn r26_no_secret_is_shown_and_one_that_changes_is_noticed() {
        let text = |key: &str| {
            format!(
                "[[folder]]\npath = \"/a\"\nhost = \"imgbb\"\n[host.imgbb]\napi_key = \"{key}\"\nmax_parallel = 2\n"
            )
        };
        assert_eq!(told(&text("geheim1"), &text("geheim2")), ["host.imgbb.api_key: changed"]);
        // From somewhere else: the text is the same, the value is not.
        let mut old = parse(&text("geheim1"), None).expect("valid");
        let new = parse(&text("geheim2"), None).expect("valid");
        old.text.clone_from(&new.text);
        let changes: Vec<String> = difference(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["host.imgbb.api_key: changed"]);
        assert!(!alike(&old.hosts["imgbb"], &new.hosts["imgbb"]) && alike(&new.hosts["imgbb"], &new.hosts["imgbb"]));
    }
}
