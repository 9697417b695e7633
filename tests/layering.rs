//! The map in `src/lib.rs` is true: its tables are read from there and compared with every file in `src/`.
//!
//! Source text is read, not compiled: comments and tests are left out, and what stands in a string counts as code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MAP: &str = include_str!("../src/lib.rs");

/// The stages that must stay pure: the time is passed in, nothing is read, sent or waited for.
const PURE: [&str; 6] = ["job.rs", "backoff.rs", "settle.rs", "flow.rs", "schedule.rs", "agent/verdict.rs"];

/// What none of them may say.
const IMPURE: [&str; 9] =
    ["std::fs", "std::net", "std::env", "std::thread", "tokio::fs", "Instant::now", "async fn", "async move", ".await"];

/// One file of `src/`, without comments and tests.
struct Source {
    /// Below `src/`, with `/`.
    name: String,
    code: String,
}

impl Source {
    /// The module of the map that it belongs to.
    fn module(&self) -> &str {
        let first = self.name.split('/').next().expect("a name has a first part");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many `super` lead from here to the root of the crate.
    fn depth(&self) -> usize {
        let parts = self.name.split('/').count();
        if self.name.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !is_test_file(&path) {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                let code = without_tests(&without_comments(&fs::read_to_string(&path).expect("UTF-8")));
                found.push(Source { name, code });
            }
        }
    }
    found.retain(|source| !matches!(source.name.as_str(), "lib.rs" | "main.rs"));
    assert!(found.len() > 60, "the sources were not found");
    found
}

fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem == "tests" || stem.ends_with("_tests") || stem == "conformance"
}

/// Without what follows `//` on a line, but for the `//` of a URL.
fn without_comments(text: &str) -> String {
    let code = |line: &str| match line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':')) {
        Some((at, _)) => line[..at].to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Without `#[cfg(test)] mod … { … }`, which rustfmt lets end with the first `}` at the start of a line.
fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = |next: &&str| next.starts_with("mod ") && next.trim_end().ends_with('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(opens) {
            lines.by_ref().find(|line| *line == "}");
        } else {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// The rows of the table of the map under `heading`, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let lines = MAP.lines().skip_while(|line| *line != format!("//! # {heading}")).skip(1);
    let rows = lines.take_while(|line| !line.starts_with("//! # ")).filter(|line| line.starts_with("//! | "));
    let cells = |row: &str| row.trim_start_matches("//! |").trim_end_matches('|').split(" | ").map(clean).collect();
    rows.skip(1).map(cells).collect()
}

fn clean(cell: &str) -> String {
    cell.trim().to_owned()
}

/// What stands between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

/// Who may use whom, as the map says.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let name = |cell: &str| quoted(cell).into_iter().next().expect("a module has a name");
    table("Modules").iter().map(|row| (name(&row[0]), quoted(&row[2]))).collect()
}

/// The modules of the crate that `code` names: `crate::x` and `crate::{x, y::z}`.
fn named(code: &str) -> BTreeSet<String> {
    let word =
        |text: &str| text.trim().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().map(ToOwned::to_owned);
    let mut found = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            None => found.extend(word(rest)),
            Some(group) => found.extend(first_level(group).iter().filter_map(|item| word(item))),
        }
    }
    found
}

/// The items of `a, b::{c, d}, e}`.
fn first_level(group: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ if depth == 0 => items.last_mut().expect("never empty").push(letter),
            _ => {}
        }
    }
    items
}

#[test]
fn the_map_names_every_module_and_the_crate_declares_them() {
    let on_the_map: BTreeSet<String> = allowed().into_keys().collect();
    let in_src: BTreeSet<String> = sources().iter().map(|source| source.module().to_owned()).collect();
    assert_eq!(on_the_map, in_src);
    let public = MAP.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    assert_eq!(on_the_map, public.map(ToOwned::to_owned).collect());
}

#[test]
fn modules_use_what_the_map_allows_and_nothing_else() {
    let mut used: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for source in sources() {
        let uses = used.entry(source.module().to_owned()).or_default();
        for other in named(&source.code).into_iter().filter(|other| other != source.module()) {
            uses.entry(other).or_default().push(source.name.clone());
        }
    }
    let allowed = allowed();
    let mut wrong = Vec::new();
    for (module, uses) in &used {
        for (other, files) in uses.iter().filter(|(other, _)| !allowed[module].contains(*other)) {
            wrong.push(format!("{module} uses {other}, which the map does not allow: {}", files.join(", ")));
        }
        for other in allowed[module].iter().filter(|other| !uses.contains_key(*other)) {
            wrong.push(format!("{module} does not use {other} any more: take it off the map"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_file_reaches_another_module_by_way_of_super() {
    for source in sources() {
        let up = "super::".repeat(source.depth());
        assert!(!source.code.contains(&up), "{}: write crate::… instead of {up}…", source.name);
    }
}

#[test]
fn the_arrows_have_no_cycle() {
    let mut left = allowed();
    while !left.is_empty() {
        let free: Vec<String> =
            left.iter().filter(|(_, uses)| uses.is_empty()).map(|(module, _)| module.clone()).collect();
        assert!(!free.is_empty(), "these modules use each other in a circle: {left:#?}");
        left.retain(|module, _| !free.contains(module));
        left.values_mut().for_each(|uses| uses.retain(|other| !free.contains(other)));
    }
}

#[test]
fn what_only_one_module_may_do_only_that_module_does() {
    let rows = table("Who alone may");
    assert_eq!(rows.len(), 10, "the table was not found");
    let sources = sources();
    let mut wrong = Vec::new();
    for row in rows {
        let owners = quoted(&row[1]);
        for what in quoted(&row[0]) {
            let doers = sources.iter().filter(|source| says(&source.code, &what));
            let strangers = doers.filter(|source| !owners.iter().any(|owner| source.name.starts_with(owner)));
            wrong.extend(strangers.map(|source| format!("{}: `{what}` is for {}", source.name, row[1])));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whether `code` contains `what`, not as the end of a longer word.
fn says(code: &str, what: &str) -> bool {
    let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(what).any(|(at, _)| begins(at))
}

#[test]
fn pure_modules_stay_pure() {
    let sources = sources();
    for name in PURE {
        let source = sources.iter().find(|source| source.name == name).expect(name);
        // What `stat` has found is data; asking for it is not.
        let code = source.code.replace("std::fs::Metadata", "");
        for word in IMPURE {
            assert!(!code.contains(word), "{name} is pure and says `{word}`");
        }
    }
}

/// Every `fn r12_…` of the sources and tests, by its number.
fn tests_by_requirement() -> BTreeMap<u32, usize> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = vec![root.join("src"), root.join("tests")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).expect("can be listed").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(path).expect("UTF-8");
            let names = text.lines().filter_map(|line| line.trim().trim_start_matches("async ").strip_prefix("fn r"));
            for number in names.filter_map(|name| name.split('_').next()?.parse().ok()) {
                *found.entry(number).or_default() += 1;
            }
        }
    }
    found
}

#[test]
fn a_promise_that_is_said_to_be_tested_has_a_test_of_its_name() {
    let text = include_str!("README.md");
    let tests = tests_by_requirement();
    let row = |line: &str| -> Option<(u32, bool)> {
        let (number, rest) = line.strip_prefix("| R")?.split_once(" | ")?;
        Some((number.parse().ok()?, rest.trim_end().ends_with("| not yet |")))
    };
    let rows: BTreeMap<u32, bool> = text.lines().filter_map(row).collect();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=33).collect::<Vec<_>>(), "every promise has its row");
    for (number, not_yet) in rows {
        match (tests.get(&number), not_yet) {
            (None, false) => panic!("tests/README.md says that R{number} is tested, and no test is called r{number}_…"),
            (Some(count), true) => eprintln!("R{number} has {count} tests now: tests/README.md may say so"),
            _ => {}
        }
    }
}

#[test]
fn the_reader_of_this_test_sees_through_groups_comments_and_tests() {
    let code = "use crate::{job::{Job, JobId}, clock};\nlet x = crate::host::Y; // crate::agent\nlet u = \"http://x\";";
    let seen: Vec<String> = named(&without_comments(code)).into_iter().collect();
    assert_eq!(seen, ["clock", "host", "job"]);
    let code = "a\n#[cfg(test)]\nmod tests {\n    use crate::agent;\n}\nb";
    assert_eq!(without_tests(code), "a\nb");
    assert!(says("x = notify::Event", "notify::") && !says("sd_notify::notify()", "notify::"));
}
