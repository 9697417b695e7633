//! `[[folder]]`: each by itself, and all together: no two may get in each other's way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::draft::{DURATION, set};
use super::environment::{Environment, normal};
use super::problem::{Problem, shown_path};
use super::section::{Section, describe};
use super::value::{pattern_mistake, size};
use super::{After, Album, Dedupe, Folder, Policy, Template, WatchMode, host, template};

/// How the message of a missing key begins.
pub(super) const MISSING: &str = "missing";

/// Drop folders of one agent: each costs a watcher and a scan per minute, and comparing them takes quadratic time.
const MAX_FOLDERS: usize = 1_000;

/// Looking more often than this would be a busy loop.
const LOOK: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=*DURATION.end();

/// The largest file: far above any image, and exact in every number format it is written to.
const MAX_BYTES: u64 = 1_000_000_000_000;

/// Where a folder and its keys stand, for messages about several folders.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// `folder[0]`, or empty for a folder of the command line.
    name: String,
    header: Range<usize>,
    keys: BTreeMap<&'static str, Range<usize>>,
    /// Where the name of each host stands.
    hosts: Vec<Range<usize>>,
}

impl Place {
    /// Where the value of `key` stands, or the header.
    pub(super) fn span(&self, key: &str) -> Range<usize> {
        self.keys.get(key).unwrap_or(&self.header).clone()
    }

    /// Where the names of the folder's hosts stand, in order.
    pub(super) fn hosts(&self) -> &[Range<usize>] {
        &self.hosts
    }

    fn problem(&self, key: &str, message: String, help: &str) -> Problem {
        let name = if self.name.is_empty() { String::new() } else { format!("{}.{key}", self.name) };
        Problem { span: self.span(key), key: name, message, help: Some(help.to_owned()) }
    }
}

/// Reads every `[[folder]]`.
pub(super) fn read<'t>(
    root: &mut Section<'t>,
    templates: &BTreeMap<String, Template>,
    env: &Environment<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<(Folder, Place)> {
    let Some(value) = root.take("folder") else { return Vec::new() };
    let Some(array) = value.get_ref().as_array() else {
        let message = format!("found {}, expected one or more tables [[folder]]", describe(value.get_ref()));
        root.wrong("folder", message, Some("write the header as [[folder]]".to_owned()));
        return Vec::new();
    };
    if array.len() > MAX_FOLDERS {
        let message = format!("found {} folders, expected at most {MAX_FOLDERS}", array.len());
        root.wrong("folder", message, Some("watch a common parent with recursive = true".to_owned()));
        return Vec::new();
    }
    let mut folders = Vec::new();
    for (index, element) in array.iter().enumerate() {
        let name = format!("folder[{index}]");
        match element.get_ref() {
            DeValue::Table(table) => {
                folders.extend(read_one(name, (table, element.span()), templates, env, problems));
            }
            other => {
                let message = format!("found {}, expected a table", describe(other));
                problems.push(Problem { span: element.span(), key: name, message, help: None });
            }
        }
    }
    problems.extend(conflicts(&folders));
    folders
}

/// `None` when it has no usable path. Without a usable host, `host` is empty.
fn read_one<'t>(
    name: String,
    (table, header): (&'t DeTable<'t>, Range<usize>),
    templates: &BTreeMap<String, Template>,
    env: &Environment<'_>,
    problems: &mut Vec<Problem>,
) -> Option<(Folder, Place)> {
    let mut section = Section::new(name.clone(), Some(table), header.clone());
    let path = folder_path(&mut section, env);
    let hosts = folder_hosts(&mut section);
    let mut names = hosts.iter().map(|(name, _)| (*name).to_owned());
    // The other keys are read in any case, for the sake of their problems.
    let usable = path.is_some();
    let mut folder = Folder::new(path.unwrap_or_default(), &names.next().unwrap_or_default());
    folder.also = names.collect();
    read_policy(&mut folder, &mut section);
    read_watching(&mut folder, &mut section);
    read_shelving(&mut folder, &mut section, env);
    set(&mut folder.render, template::renderings(&mut section, templates));
    set(&mut folder.album, section.choice("album", &[("off", Album::Off), ("subfolder", Album::Subfolder)]));
    if folder.album == Album::Subfolder && !folder.recursive {
        let help = "remove `recursive = false`".to_owned();
        section.wrong("album", "means nothing where sub-folders are not watched", Some(help));
    }
    let spans = ["path", "host", "done", "retry", "failed", "manifest"].map(|key| (key, section.span(key)));
    section.finish(problems);
    let hosts = hosts.into_iter().map(|(_, span)| span).collect();
    usable.then(|| (folder, Place { name, header, keys: spans.into(), hosts }))
}

fn folder_path(section: &mut Section<'_>, env: &Environment<'_>) -> Option<PathBuf> {
    if !section.has("path") {
        section.wrong(
            "path",
            format!("{MISSING}, expected the folder to watch"),
            Some("path = \"~/Pictures/Drop\"".into()),
        );
    }
    let path = section.file_path("path", env)?;
    if !path.is_absolute() {
        let message = format!("found the relative path \"{}\", expected an absolute one", shown_path(&path));
        section.wrong("path", message, Some("begin it with / or ~/".to_owned()));
        return None;
    }
    if goes_up(section, "path", &path) {
        return None;
    }
    if path.parent().is_none() {
        section.wrong("path", "found the root of the file system, expected a folder in it", None);
        return None;
    }
    Some(path)
}

/// What `..` means depends on links, so places could not be compared.
fn goes_up(section: &mut Section<'_>, key: &'static str, path: &Path) -> bool {
    let up = path.components().any(|part| part == Component::ParentDir);
    if up {
        section.wrong(key, format!("found \"{}\", expected a path without `..`", shown_path(path)), None);
    }
    up
}

/// The names of the folder's hosts and where each stands; none if there is no usable one.
fn folder_hosts<'t>(section: &mut Section<'t>) -> Vec<(&'t str, Range<usize>)> {
    const EXPECTED: &str = "an array of host names such as [\"pixhost\", \"catbox\"]";
    let named = match (section.has("host"), section.has("hosts")) {
        (false, false) => {
            let help = "host = \"local\" keeps the images on this machine";
            section.wrong("host", format!("{MISSING}, expected the name of a host"), Some(help.to_owned()));
            Vec::new()
        }
        (true, true) => {
            let help = "put the host into the list, and remove `host`";
            section.wrong("hosts", "found both `host` and `hosts`, expected one of them", Some(help.to_owned()));
            let _ = (section.take("host"), section.take("hosts"));
            Vec::new()
        }
        (true, false) => {
            let span = section.span("host");
            section.text("host", "the name of a host").map(|name| (name, span)).into_iter().collect()
        }
        (false, true) => section.texts("hosts", EXPECTED).unwrap_or_default(),
    };
    let key = if section.has("hosts") { "hosts" } else { "host" };
    let list = section.take("hosts").and_then(|value| value.get_ref().as_array());
    if list.is_some_and(|list| list.is_empty()) {
        section.wrong("hosts", format!("found no name, expected {EXPECTED}"), None);
    }
    let mut hosts: Vec<(&str, Range<usize>)> = Vec::new();
    for (name, span) in named {
        if let Some(message) = host::name_mistake(name) {
            section.problem(key, span, message, None);
        } else if hosts.iter().any(|(other, _)| *other == name) {
            section.problem(key, span, format!("found \"{name}\" twice, expected each host once"), None);
        } else {
            hosts.push((name, span));
        }
    }
    hosts
}

fn read_policy(folder: &mut Folder, section: &mut Section<'_>) {
    let policies = [("failover", Policy::Failover), ("mirror", Policy::Mirror), ("round_robin", Policy::RoundRobin)];
    set(&mut folder.policy, section.choice("policy", &policies));
    if section.has("policy") && !section.has("hosts") {
        let help = "name several hosts: hosts = [\"pixhost\", \"catbox\"]";
        section.wrong("policy", "means nothing with a single `host`", Some(help.to_owned()));
    }
}

fn read_watching(folder: &mut Folder, section: &mut Section<'_>) {
    set(&mut folder.recursive, section.flag("recursive"));
    set(&mut folder.follow_symlinks, section.flag("follow_symlinks"));
    set(&mut folder.include, patterns(section, "include"));
    set(&mut folder.exclude, patterns(section, "exclude"));
    if folder.include.is_empty() {
        section.wrong("include", "found no pattern, so that no file would be taken", Some("include = [\"*\"]".into()));
    }
    set(&mut folder.settle, section.duration("settle", DURATION));
    let modes = [("auto", WatchMode::Auto), ("native", WatchMode::Native), ("poll", WatchMode::Poll)];
    set(&mut folder.watch, section.choice("watch", &modes));
    set(&mut folder.poll_interval, section.duration("poll_interval", LOOK));
    set(&mut folder.rescan, section.duration("rescan", LOOK));
    set(&mut folder.require_mount, section.flag("require_mount"));
    folder.require_marker = marker(section);
    let expected = "a size from 1 byte to 1 TB, such as \"100MB\", \"8MiB\" or a number of bytes";
    let max_bytes = section.read("max_bytes", expected, |value| {
        let bytes = match value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            other => other.as_str().and_then(size),
        };
        bytes.filter(|bytes| (1..=MAX_BYTES).contains(bytes))
    });
    set(&mut folder.max_bytes, max_bytes);
    set(&mut folder.strip_metadata, section.flag("strip_metadata"));
}

/// A file or folder that only the right file system has. The empty text is the default: none.
fn marker(section: &mut Section<'_>) -> Option<String> {
    let span = section.span("require_marker");
    let expected = "the name of a file in the folder, such as \".pixchute-here\"";
    let name = section.read("require_marker", expected, DeValue::as_str)?;
    let below = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !below || name.contains(char::is_control) {
        let message = format!("found {name:?}, expected the name of a file in the folder");
        section.problem("require_marker", span, message, None);
        return None;
    }
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

fn read_shelving(folder: &mut Folder, section: &mut Section<'_>, env: &Environment<'_>) {
    let after = [("move", After::Move), ("keep", After::Keep), ("delete", After::Delete)];
    set(&mut folder.after, section.choice("after", &after));
    let base = folder.path.clone();
    let mut inside = |key| {
        let path = section.file_path(key, env)?;
        (!goes_up(section, key, &path)).then(|| normal(base.join(path).as_os_str()))
    };
    set(&mut folder.done, inside("done"));
    set(&mut folder.retry, inside("retry"));
    set(&mut folder.failed, inside("failed"));
    set(&mut folder.manifest, inside("manifest"));
    set(&mut folder.sidecars, section.flag("sidecars"));
    let dedupe = [("link", Dedupe::Link), ("upload", Dedupe::Upload), ("skip", Dedupe::Skip)];
    set(&mut folder.dedupe, section.choice("dedupe", &dedupe));
}

fn patterns(section: &mut Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let texts = section.texts(key, "an array of file name patterns such as [\"*.jpg\"]")?;
    for (pattern, span) in &texts {
        if let Some(mistake) = pattern_mistake(pattern) {
            let found = describe(&DeValue::String((*pattern).into()));
            section.problem(key, span.clone(), format!("found {found}: {mistake}"), None);
        }
    }
    Some(texts.into_iter().map(|(pattern, _)| pattern.to_owned()).collect())
}

/// Where folders, their shelves and their manifests would get in each other's way. Compared as they are written, not
/// through links: looking them up could hang on a dead network drive.
pub(super) fn conflicts(folders: &[(Folder, Place)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, (folder, place)) in folders.iter().enumerate() {
        problems.extend(within(folder, place));
        for (earlier, earlier_place) in &folders[..index] {
            problems.extend(between((earlier, earlier_place), (folder, place)));
        }
    }
    problems
}

fn shelves(folder: &Folder) -> [(&'static str, &Path); 3] {
    [("done", &folder.done), ("retry", &folder.retry), ("failed", &folder.failed)]
}

/// The places of one folder.
fn within(folder: &Folder, place: &Place) -> Vec<Problem> {
    const HELP: &str = "give each of done, retry, failed and manifest a place of its own";
    let shelves = shelves(folder);
    let (above, apart): (Vec<_>, Vec<_>) = shelves.iter().partition(|(_, path)| folder.path.starts_with(path));
    let mut problems = Vec::new();
    for (key, path) in above {
        let message = format!("the drop folder lies in \"{}\", which is never watched", shown_path(path));
        problems.push(place.problem(key, message, HELP));
    }
    for (index, (key, path)) in apart.iter().enumerate() {
        let overlapping = apart[..index].iter().find(|(_, other)| path.starts_with(other) || other.starts_with(path));
        if let Some((other, other_path)) = overlapping {
            // The message belongs to what somebody wrote, not to a default.
            let swap = place.span(key) == place.header;
            let (key, path, other) = if swap { (other, other_path, key) } else { (key, path, other) };
            let message = format!("\"{}\" and the place of `{other}` overlap", shown_path(path));
            problems.push(place.problem(key, message, HELP));
        }
    }
    let manifest = &folder.manifest;
    if folder.path.starts_with(manifest) || shelves.iter().any(|(_, path)| path.starts_with(manifest)) {
        let message = format!("\"{}\" is a folder, expected a file", shown_path(manifest));
        problems.push(place.problem("manifest", message, HELP));
    }
    problems
}

/// The places of two folders; the message stands at the later one.
fn between((one, _): (&Folder, &Place), (two, place): (&Folder, &Place)) -> Option<Problem> {
    let first = shown_path(&one.path);
    if one.path == two.path {
        return Some(place.problem("path", format!("\"{first}\" is watched already"), "leave one of them out"));
    }
    let nested = |outer: &Folder, inner: &Folder| outer.recursive && inner.path.starts_with(&outer.path);
    if nested(one, two) || nested(two, one) {
        let (inner, outer) = if nested(one, two) { (two, one) } else { (one, two) };
        let (inner, outer) = (shown_path(&inner.path), shown_path(&outer.path));
        let message = format!("\"{inner}\" lies in \"{outer}\", and both would take the same files");
        return Some(place.problem(
            "path",
            message,
            "set recursive = false in the outer one, or leave one of them out",
        ));
    }
    // In this order: an equal place lies in the other folder as well, and is better named.
    let shared = [
        ("retry", &one.retry, &two.retry),
        ("failed", &one.failed, &two.failed),
        ("manifest", &one.manifest, &two.manifest),
    ];
    if let Some((key, path, _)) = shared.into_iter().find(|(_, a, b)| a == b) {
        let message = format!("\"{}\" belongs to the drop folder \"{first}\" already", shown_path(path));
        return Some(place.problem(key, message, "each drop folder needs its own"));
    }
    if let Some((_, path)) = shelves(one).into_iter().find(|(_, path)| two.path.starts_with(path)) {
        let message = format!("the folder lies in \"{}\", where files of \"{first}\" are kept", shown_path(path));
        return Some(place.problem("path", message, "watch another folder"));
    }
    let in_one = |path: &Path| path == one.path || one.recursive && path.starts_with(&one.path);
    let in_two = |path: &Path| path == two.path || two.recursive && path.starts_with(&two.path);
    if let Some((key, path)) = shelves(two).into_iter().find(|(_, path)| in_one(path)) {
        let message =
            format!("\"{}\" lies in the drop folder \"{first}\", which would upload it again", shown_path(path));
        return Some(place.problem(key, message, "choose a place that is not watched"));
    }
    if let Some((key, path)) = shelves(one).into_iter().find(|(_, path)| in_two(path)) {
        let message = format!(
            "the folder contains \"{}\", the `{key}` of \"{first}\", and would upload that again",
            shown_path(path)
        );
        return Some(place.problem("path", message, "choose a place that is not watched"));
    }
    None
}
