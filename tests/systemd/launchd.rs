//! The launchd files, as launchd.plist(5) wants them: keys that exist, with values of their types. launchd itself takes what
//! it does not understand without a word, and runs only on a Mac.

use roxmltree::{Document, Node, ParsingOptions};

const AGENT: &str = include_str!("../../launchd/org.pixchute.agent.plist");
const DAEMON: &str = include_str!("../../launchd/org.pixchute.daemon.plist");

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Text,
    Path,
    Number,
    Flag,
    Texts,
    /// A dictionary with these keys.
    Keys(&'static [(&'static str, Type)]),
}

/// What `KeepAlive` may ask for.
const KEEP_ALIVE: &[(&str, Type)] =
    &[("SuccessfulExit", Type::Flag), ("Crashed", Type::Flag), ("NetworkState", Type::Flag)];

const LIMITS: &[(&str, Type)] = &[("NumberOfFiles", Type::Number), ("Core", Type::Number)];

/// The keys of launchd.plist(5) that we use, or might.
const KEYS: &[(&str, Type)] = &[
    ("Label", Type::Text),
    ("Program", Type::Path),
    ("ProgramArguments", Type::Texts),
    ("RunAtLoad", Type::Flag),
    ("KeepAlive", Type::Keys(KEEP_ALIVE)),
    ("ThrottleInterval", Type::Number),
    ("ExitTimeOut", Type::Number),
    ("ProcessType", Type::Text),
    ("LowPriorityBackgroundIO", Type::Flag),
    ("StandardOutPath", Type::Path),
    ("StandardErrorPath", Type::Path),
    ("WorkingDirectory", Type::Path),
    ("UserName", Type::Text),
    ("GroupName", Type::Text),
    ("Umask", Type::Number),
    ("SoftResourceLimits", Type::Keys(LIMITS)),
    ("LimitLoadToSessionType", Type::Text),
    ("AssociatedBundleIdentifiers", Type::Text),
];

/// What is wrong with a plist; nothing if it can be loaded.
fn mistakes(text: &str) -> Vec<String> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = match Document::parse_with_options(text, options) {
        Ok(document) => document,
        Err(error) => return vec![format!("no XML: {error}")],
    };
    let root = document.root_element();
    let dict = root.children().find(Node::is_element);
    let Some(dict) = dict.filter(|dict| root.has_tag_name("plist") && dict.has_tag_name("dict")) else {
        return vec!["expected a plist with one dict".to_owned()];
    };
    let mut found = Vec::new();
    dictionary(dict, KEYS, "", &mut found);
    let value = |key: &str| dict.children().find(|node| node.has_tag_name("key") && node.text() == Some(key));
    if value("Label").is_none() {
        found.push("no Label".to_owned());
    }
    match value("ProgramArguments").and_then(|key| key.next_siblings().find(|node| node.has_tag_name("array"))) {
        Some(array) => {
            let program = array.children().find(Node::is_element).and_then(|first| first.text()).unwrap_or_default();
            if !program.starts_with('/') {
                found.push(format!("the program {program:?} is not absolute"));
            }
        }
        None => found.push("no ProgramArguments".to_owned()),
    }
    found
}

fn dictionary(dict: Node<'_, '_>, keys: &[(&str, Type)], place: &str, found: &mut Vec<String>) {
    let elements: Vec<_> = dict.children().filter(Node::is_element).collect();
    let mut seen = Vec::new();
    for pair in elements.chunks(2) {
        let [key, value] = pair else {
            found.push(format!("{place}: a key without a value, or a value without a key"));
            continue;
        };
        let name = key.text().unwrap_or_default();
        if !key.has_tag_name("key") {
            found.push(format!("{place}: expected a key, found <{}>", key.tag_name().name()));
        } else if seen.contains(&name) {
            found.push(format!("{place}{name} is there twice"));
        } else if let Some((_, wanted)) = keys.iter().find(|(known, _)| *known == name) {
            check(*value, *wanted, &format!("{place}{name}"), found);
        } else {
            found.push(format!("unknown key {place}{name}"));
        }
        seen.push(name);
    }
}

fn check(value: Node<'_, '_>, wanted: Type, place: &str, found: &mut Vec<String>) {
    let (tag, text) = (value.tag_name().name(), value.text().unwrap_or_default());
    let good = match wanted {
        Type::Text => tag == "string" && !text.is_empty(),
        Type::Path => tag == "string" && text.starts_with('/'),
        Type::Number => tag == "integer" && text.trim().parse::<u32>().is_ok(),
        Type::Flag => matches!(tag, "true" | "false"),
        Type::Texts => {
            tag == "array" && value.children().filter(Node::is_element).all(|word| word.has_tag_name("string"))
        }
        Type::Keys(keys) => {
            if tag == "dict" {
                dictionary(value, keys, &format!("{place}."), found);
            }
            tag == "dict"
        }
    };
    if !good {
        found.push(format!("{place} is <{tag}>{text}, expected {wanted:?}"));
    }
}

#[test]
fn both_files_have_known_keys_of_the_right_types() {
    assert_eq!(mistakes(AGENT), Vec::<String>::new());
    assert_eq!(mistakes(DAEMON), Vec::<String>::new());
}

#[test]
fn a_broken_plist_is_found() {
    for (good, bad, word) in [
        ("<key>Label</key>", "<key>Lable</key>", "unknown key Lable"),
        ("<integer>60</integer>", "<string>60</string>", "ThrottleInterval"),
        ("<integer>60</integer>", "<integer>sixty</integer>", "ThrottleInterval"),
        ("<true/>", "<string>yes</string>", "RunAtLoad"),
        ("<key>SuccessfulExit</key>", "<key>ExitCode</key>", "unknown key KeepAlive.ExitCode"),
        ("<false/>", "", "KeepAlive."),
        ("<string>/usr/local/bin/pixchute</string>", "<string>pixchute</string>", "not absolute"),
        ("</dict>\n</plist>", "</plist>", "no XML"),
        ("<dict>", "<array>", "no XML"),
    ] {
        let broken = AGENT.replacen(good, bad, 1);
        assert_ne!(broken, AGENT, "{good} is not in the file");
        let found = mistakes(&broken);
        assert!(found.iter().any(|mistake| mistake.contains(word)), "{bad}: {found:?}");
    }
}
