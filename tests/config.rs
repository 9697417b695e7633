//! The configuration as users meet it: values, messages letter by letter, and any input without a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pixchute::config::{self, Config, ConfigError, Dedupe, Draft, FailureRule, Listen, Problem, Quota, WatchMode};
use pixchute::job::{ErrorClass, FailureKind};
use proptest::prelude::*;

/// The file users copy.
const SHIPPED: &str = include_str!("../config/pixchute.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    config::parse(text, Some(Path::new("/c.toml")))
}

/// The first problem of `text`: key, message, help.
fn first(text: &str) -> (String, String, Option<String>) {
    let error = parse(text).expect_err(text);
    let problem = error.problems.into_iter().next().expect("at least one");
    (problem.key, problem.message, problem.help)
}

/// The messages of every problem of `text`.
fn messages(text: &str) -> Vec<String> {
    let problems = parse(text).err().map(|error| error.problems).unwrap_or_default();
    problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = include_str!("config/mistakes.toml");
    let expected = include_str!("config/mistakes.txt");
    assert_eq!(format!("{}\n", parse(text).expect_err("it is full of mistakes")), expected);
}

#[test]
fn syntax_errors_are_reported_at_once_without_guesses_about_the_rest() {
    let text = include_str!("config/syntax.toml");
    let expected = include_str!("config/syntax.txt");
    assert_eq!(format!("{}\n", parse(text).expect_err("it is no TOML")), expected);
}

#[test]
fn values_are_taken_over() {
    let config = parse(
        "[pool]\nworkers = 0x10\nqueue = 9\nfile_timeout = '1h30m'\n\
         [cooldown]\nfactor = 3\n[ledger]\nurl = 'sqlite:///x/y.db'\n[server]\nlisten = '[::1]:0'\n\
         [control]\nsocket = '/run/p.sock'\n\
         [[folder]]\npath = '/d'\nhost = 'pixhost'\nwatch = 'poll'\ndone = '/elsewhere'\nmax_bytes = '8MiB'\ndedupe = 'skip'\n\
         album = 'off'\nrender = []\nstrip_metadata = true\nfollow_symlinks = true\n\
         [host.mine]\nrecipe = 'recipes/mine.toml'\nrate = '30/m'\nkey = 'x'\n",
    )
    .expect("valid");
    assert_eq!((config.pool.workers, config.pool.queue, config.pool.queue_warn), (16, 9, 5));
    assert_eq!(config.pool.file_timeout, Duration::from_secs(5_400));
    assert_eq!(config.cooldown.backoff.factor(), 3.0);
    assert_eq!(config.ledger, Path::new("/x/y.db"));
    assert_eq!(config.listen, Listen::Tcp("[::1]:0".parse().expect("an address")));
    assert_eq!(config.control_socket.as_deref(), Some(Path::new("/run/p.sock")));
    let folder = &config.folders[0];
    assert_eq!((folder.watch, folder.dedupe, folder.max_bytes), (WatchMode::Poll, Dedupe::Skip, 8 << 20));
    assert!(folder.strip_metadata && folder.follow_symlinks);
    assert_eq!((folder.done.as_path(), folder.retry.as_path()), (Path::new("/elsewhere"), Path::new("/d/retry")));
    assert_eq!(config.hosts["pixhost"].recipe, "pixhost");
    let mine = &config.hosts["mine"];
    assert_eq!(mine.recipe, "/recipes/mine.toml");
    assert_eq!(mine.rate.map(|rate| (rate.every, rate.burst)), Some((Duration::from_secs(2), 1)));
    let key = &mine.options["key"];
    assert_eq!((&config.text[key.key_span.clone()], &config.text[key.span.clone()]), ("key", "'x'"));
}

#[test]
fn what_comes_in_later_versions_is_refused_and_not_ignored() {
    let cases = [("[ledger]\nurl = 'postgres://db/x'\n".to_owned(), "ledger.url")];
    for (text, key) in cases {
        let error = parse(&text).expect_err(&text);
        assert_eq!(error.problems.len(), 1, "{text}\n{error}");
        assert_eq!(error.problems[0].key, key);
        assert!(error.problems[0].message.contains("not available in this version"), "{error}");
    }
}

#[test]
fn link_files_and_templates_are_read_and_their_mistakes_told() {
    let folder = "[[folder]]\npath = '/d'\nhost = 'h'\n";
    let config = parse(&format!(
        "{folder}render = ['bbcode', 'forum', 'page']\n[template.forum]\ntext = '{{{{ file.url }}}}'\n\
         [template.page]\nfile = 'page.jinja'\nextension = 'html'\n"
    ))
    .expect("valid");
    let files: Vec<&str> = config.folders[0].render.iter().map(|rendering| rendering.file.as_str()).collect();
    assert_eq!(files, ["links.bbcode.txt", "links.forum.txt", "links.page.html"]);
    let cases = [
        (
            format!("{folder}render = ['bbcod']\n"),
            "folder[0].render: there is no format \"bbcod\", expected \"bbcode\", \"markdown\", \"html\", \"urls\"",
        ),
        (format!("{folder}render = 'bbcode'\n"), "folder[0].render: found \"bbcode\", expected an array of formats"),
        (format!("{folder}render = ['urls', 'urls']\n"), "folder[0].render: \"urls\" is named twice"),
        ("[template.t]\n".to_owned(), "template.t.text: missing, expected `text` with the template"),
        ("[template.t]\ntext = 'a'\nfile = 'b'\n".to_owned(), "template.t.file: found both `text` and `file`"),
        ("[template.html]\ntext = 'a'\n".to_owned(), "template.html: `html` is a built-in format"),
        ("[template.'a/b']\ntext = 'a'\n".to_owned(), "template.a/b: found \"a/b\", expected a name of letters"),
        ("[template.t]\ntext = 'a'\nescape = 'htm'\n".to_owned(), "template.t.escape: found \"htm\", expected one of"),
        ("[template.t]\ntext = 'a'\nextension = 'png'\n".to_owned(), "template.t.extension: found \"png\", expected"),
        ("[template.t]\ntext = 'a'\nextension = '../x'\n".to_owned(), "template.t.extension: found \"../x\", expected"),
        ("[template.t]\ntext = 'a'\nextention = 'md'\n".to_owned(), "template.t.extention: unknown key"),
    ];
    for (text, expected) in cases {
        let found = messages(&text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\n{found:#?}");
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let cases = [
        ("[pool]\nqueue_warn = 200", "pool.queue_warn: found 200, expected at most 100, the value of `queue`"),
        (
            "[pool]\nfile_timeout = '1m'\nrequest_timeout = '2m'",
            "pool.request_timeout: found \"2m\", expected at most \"1m\", the `file_timeout`",
        ),
        ("[retry]\nbackoff = '2m'", "retry.backoff: the longest delay is shorter than the first one"),
        ("[cooldown]\nmax = '1m'", "cooldown.max: the longest delay is shorter than the first one"),
        ("[host.h]\nburst = 3", "host.h.burst: means nothing without `rate`"),
        ("[pool]\nworkers = 8\nmin_workers = 9", "pool.min_workers: found 9, expected at most 8"),
        ("[pool]\nworkers = 4\nmax_workers = 3", "pool.max_workers: found 3, expected at least 4"),
        ("[flow]\ncircuit_max = '1s'", "flow.circuit_max: the longest rest is shorter than the shortest"),
        ("[host.h]\nretry_on = [404]\nfail_on = [404]", "host.h.fail_on: 404 stands in `retry_on` too"),
        (
            "[host.h]\nfail_on = [200]",
            "host.h.fail_on: found 200, expected a status from 300 to 599 or one of the classes transient, \
             rate_limited, account, file, bad_response, unknown_outcome, timeout, stall, connect",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(messages(text), [message], "{text}");
    }
    // The defaults of the keys that nobody wrote give way.
    assert_eq!(messages("[pool]\nfile_timeout = '1m'\nqueue = 10"), [""; 0]);
}

#[test]
fn what_a_host_may_get_and_what_its_failures_mean() {
    let config = parse(
        "[pool]\nmin_workers = 2\nmax_workers = 32\nmin_rate = '0'\n\
         [flow]\ncircuit_failures = 3\ncircuit_min = '1s'\ncircuit_max = '9s'\nrate_limit_pause = '2m'\n\
         [host.h]\nquota = '1000/h'\nsuspect_after = 2\nrate_limit_pause = '5m'\nstall_timeout = '1m'\n\
         retry_on = [403, 'file']\nfail_on = ['transient']\nmin_rate = '1MiB'\n",
    )
    .expect("valid");
    assert_eq!((config.pool.min_workers, config.pool.workers, config.pool.max_workers), (2, 8, 32));
    assert_eq!((config.pool.min_rate, config.flow.circuit_failures), (0, 3));
    let flow = &config.hosts["h"].flow;
    assert_eq!(flow.quota, Some(Quota { count: 1_000, period: Duration::from_secs(3_600) }));
    assert_eq!((flow.suspect_after, flow.rate_limit_pause), (Some(2), Some(Duration::from_secs(300))));
    assert_eq!((flow.stall_timeout, flow.min_rate), (Some(Duration::from_secs(60)), Some(1 << 20)));
    assert_eq!(flow.retry_on, [FailureRule::Status(403), FailureRule::Class(ErrorClass::File)]);
    assert_eq!(flow.fail_on, [FailureRule::Kind(FailureKind::Transient)]);
    assert!(config.hosts["h"].options.is_empty());
    let fixed = parse("[pool]\nworkers = 3").expect("valid").pool;
    assert_eq!((fixed.min_workers, fixed.workers, fixed.max_workers), (3, 3, 3));
}

#[test]
fn folders_that_get_in_each_others_way_are_refused() {
    let two = |one: &str, two: &str| format!("[[folder]]\nhost = 'h'\n{one}\n[[folder]]\nhost = 'h'\n{two}\n");
    let cases = [
        (two("path = '/a'", "path = '/a/'"), "folder[1].path: \"/a\" is watched already"),
        (
            two("path = '/a'", "path = '/a/b'"),
            "folder[1].path: \"/a/b\" lies in \"/a\", and both would take the same files",
        ),
        (
            two("path = '/a/b'", "path = '/a'"),
            "folder[1].path: \"/a/b\" lies in \"/a\", and both would take the same files",
        ),
        (
            two("path = '/a'\nrecursive = false", "path = '/a/done/x'"),
            "folder[1].path: the folder lies in \"/a/done\", where files of \"/a\" are kept",
        ),
        (
            two("path = '/a'", "path = '/b'\ndone = '/a/b'"),
            "folder[1].done: \"/a/b\" lies in the drop folder \"/a\", which would upload it again",
        ),
        (
            two("path = '/b'\ndone = '/a/b'", "path = '/a'"),
            "folder[1].path: the folder contains \"/a/b\", the `done` of \"/b\", and would upload that again",
        ),
        (
            two("path = '/a'\nmanifest = '/m'", "path = '/b'\nmanifest = '/m'"),
            "folder[1].manifest: \"/m\" belongs to the drop folder \"/a\" already",
        ),
        (
            two("path = '/a'\nretry = '/r'", "path = '/b'\nretry = '/r'"),
            "folder[1].retry: \"/r\" belongs to the drop folder \"/a\" already",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(messages(&text), [message], "{text}");
    }
    assert_eq!(messages(&two("path = '/a'\nrecursive = false", "path = '/a/b'")), [""; 0]);
    assert_eq!(messages(&two("path = '/a'\ndone = '/d'", "path = '/b'\ndone = '/d'")), [""; 0]);
}

#[test]
fn the_places_of_one_folder_are_apart() {
    let cases = [
        ("done = 'failed'", "done: \"/a/failed\" and the place of `failed` overlap"),
        ("retry = 'done'", "retry: \"/a/done\" and the place of `done` overlap"),
        ("failed = 'done/bad'", "failed: \"/a/done/bad\" and the place of `done` overlap"),
        ("done = '.'", "done: the drop folder lies in \"/a\", which is never watched"),
        ("manifest = 'done'", "manifest: \"/a/done\" is a folder, expected a file"),
        ("done = '../x'", "done: found \"../x\", expected a path without `..`"),
    ];
    for (line, message) in cases {
        let found = messages(&format!("[[folder]]\npath = '/a'\nhost = 'h'\n{line}\n"));
        assert_eq!(found.first().map(String::as_str), Some(format!("folder[0].{message}").as_str()), "{line}");
    }
}

#[test]
fn only_loopback_addresses_are_listened_on() {
    for address in ["0.0.0.0:8421", "192.168.1.2:80", "[::]:80"] {
        let (key, message, help) = first(&format!("[server]\nlisten = '{address}'\n"));
        assert_eq!(key, "server.listen");
        assert!(message.contains("expected \"off\", \"unix\" or a loopback address"), "{message}");
        assert!(help.is_some_and(|help| help.contains("no password")));
    }
    let (_, _, help) = first("[server]\nlisten = 'localhost:99'\n");
    assert_eq!(help.as_deref(), Some("write \"127.0.0.1:99\""));
}

#[test]
fn problems_of_hosts_join_the_report_in_the_order_of_the_text() {
    let text = "[pool]\nworkers = 0\n[host.h]\nkey = 'x'\nother = { env = 'PIXCHUTE_ABSENT' }\n[retry]\nattempts = 0\n";
    let mut draft = Draft::parse(text, None);
    let options = &draft.config.hosts["h"].options;
    let problem = |key: &str, message: &str| Problem {
        span: options[key].span.clone(),
        key: format!("host.h.{key}"),
        message: message.to_owned(),
        help: None,
    };
    let found = vec![problem("other", "follows from the absent secret"), problem("key", "too short")];
    draft.add(found);
    let keys: Vec<String> =
        draft.finish().expect_err("problems").problems.into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["pool.workers", "host.h.key", "host.h.other", "retry.attempts"]);
}

#[test]
fn a_file_that_is_named_must_be_readable() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let absent = dir.path().join("absent.toml");
    let error = config::load(Some(&absent)).expect_err("absent").to_string();
    assert!(error.starts_with(&format!("{}: the configuration cannot be read: ", absent.display())), "{error}");
    let folder = config::load(Some(dir.path())).expect_err("a folder").to_string();
    assert_eq!(folder, format!("{}: the configuration is not a regular file", dir.path().display()));
    let binary = dir.path().join("binary.toml");
    fs::write(&binary, b"[pool]\nx = '\xff'\n").expect("written");
    let error = config::load(Some(&binary)).expect_err("not UTF-8").to_string();
    assert_eq!(error, format!("{}: line 2 is not valid UTF-8 text\n  help: save the file as UTF-8", binary.display()));
    let good = dir.path().join("good.toml");
    fs::write(&good, "[pool]\nworkers = 3\n").expect("written");
    assert_eq!(config::find(Some(&good)).as_deref(), Some(good.as_path()));
    assert_eq!(config::load(Some(&good)).expect("valid").pool.workers, 3);
}

#[test]
fn run_dir_needs_no_configuration() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path().canonicalize().expect("there");
    let (a, b) = (root.join("a"), root.join("x/../b"));
    let config = config::for_directories(Config::default(), &[a.clone(), b], None).expect("valid");
    let paths: Vec<&Path> = config.folders.iter().map(|folder| folder.path.as_path()).collect();
    assert_eq!(paths, [a.as_path(), &root.join("b")]);
    assert!(config.folders.iter().all(|folder| folder.create && folder.host == "local"));
    assert_eq!(config.hosts.into_keys().collect::<Vec<_>>(), ["local"]);
    assert!(!a.exists(), "only the agent makes folders");
}

#[test]
fn run_dir_uses_the_hosts_table_and_nothing_else_of_folders_and_hosts() {
    let base =
        parse("[pool]\nworkers = 2\n[host.pixhost]\ncontent_type = 'nsfw'\n[[folder]]\npath = '/z'\nhost = 'x'\n");
    let config = config::for_directories(base.expect("valid"), &["drop".into()], Some("pixhost")).expect("valid");
    assert_eq!(config.pool.workers, 2);
    assert!(config.folders.len() == 1 && config.folders[0].path.is_absolute());
    assert!(config.hosts.len() == 1 && config.hosts["pixhost"].options.contains_key("content_type"));
}

#[test]
fn run_dir_refuses_directories_that_lie_in_each_other() {
    let dirs: Vec<PathBuf> = vec!["/a".into(), "/a/b".into(), "/a".into()];
    let error = config::for_directories(Config::default(), &dirs, Some("no/host")).expect_err("three mistakes");
    assert_eq!(
        error.to_string(),
        "4 problems in the configuration\n\n\
         --host: found \"no/host\", expected a name of letters, digits, `-`, `_` and `.`, 64 at most\n\n\
         \"/a/b\" lies in \"/a\", and both would take the same files\n  \
         help: set recursive = false in the outer one, or leave one of them out\n\n\
         \"/a\" is watched already\n  help: leave one of them out\n\n\
         \"/a/b\" lies in \"/a\", and both would take the same files\n  \
         help: set recursive = false in the outer one, or leave one of them out"
    );
}

#[test]
fn lines_with_carriage_returns_and_tabs_are_shown_in_place() {
    assert_eq!(
        parse("[pool]\r\n\tworkers =\t0\r\nqueue = \r\n").expect_err("two mistakes").to_string(),
        "2 problems in the configuration\n\n\
         /c.toml:2:12: pool.workers: found 0, expected a whole number from 1 to 256\n  \
         2 |  workers = 0\n    |            ^\n\n\
         /c.toml:3:9: a text must stand in quotes\n  \
         3 | queue = \n    |         ^\n  help: write key = \"value\""
    );
}

#[test]
fn a_long_list_of_problems_ends() {
    let lines: String = (0..200).map(|n| format!("k{n} = 1\n")).collect();
    let shown = parse(&lines).expect_err("200 unknown keys").to_string();
    assert!(shown.starts_with("200 problems in the configuration\n") && shown.ends_with("\n\n… and 150 more"));
}

/// Pieces that make up nearly valid text.
fn piece() -> impl Strategy<Value = String> {
    let lines: Vec<String> = SHIPPED.lines().map(|line| format!("{}\n", line.trim_start_matches('#'))).collect();
    let odd = [
        "[", "]", "=", "'''", "\"\"\"", "{ env = ", "é", "\u{0}", "\r\n", "\t", "1e999", "-0", "\u{202e}", "$", "~",
        "..", "\\u",
    ];
    prop_oneof![
        4 => prop::sample::select(lines),
        1 => prop::sample::select(odd.map(str::to_owned).to_vec()),
        1 => "\\PC{0,8}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems.is_empty());
            let raw_control = error.to_string().contains('\u{0}');
            prop_assert!(!raw_control);
        }
    }

    #[test]
    fn no_change_of_the_shipped_file_makes_it_panic(at in 0usize..SHIPPED.len(), cut in 0usize..40, odd in piece()) {
        let start = SHIPPED.floor_char_boundary(at);
        let end = SHIPPED.floor_char_boundary((at + cut).min(SHIPPED.len()));
        let text = format!("{}{odd}{}", &SHIPPED[..start], &SHIPPED[end.max(start)..]);
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
