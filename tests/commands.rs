//! The real binary: help, exit codes, and a reader that goes away.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// A home of its own, so that no configuration and no agent of this machine's user is found.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin!("pixchute"));
        let places = ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"];
        command.args(args).env_clear().envs(places.map(|place| (place, self.path()))).current_dir(self.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().expect("the binary runs")
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn help_tells_what_it_is_and_shows_examples() {
    let home = Home::new();
    for (args, expected) in [
        (&["--help"][..], "pixchute run ~/Pictures/Drop"),
        (&["run", "--help"], "pixchute run ./drop"),
        (&["host", "--help"], "show"),
        (&["--version"], concat!("pixchute ", env!("CARGO_PKG_VERSION"))),
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text(&output.stdout).contains(expected), "{args:?}: {}", text(&output.stdout));
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let home = Home::new();
    for args in [
        &[][..],
        &["upload"],
        &["status", "--colour"],
        &["retry"],
        &["retry", "--all", "x.jpg"],
        &["run", "--host", "catbox"],
        &["run", "drop", "--listen", "0.0.0.0:8421"],
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    assert!(!home.path().join("drop").exists(), "nothing is made");
}

#[test]
fn without_an_agent_the_commands_that_need_one_end_with_69() {
    let home = Home::new();
    for args in [&["status"][..], &["status", "--json"], &["retry", "--all"], &["retry", "x.jpg"]] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(69), "{args:?}: {}", text(&output.stderr));
        let message = text(&output.stderr);
        assert!(message.starts_with("pixchute: no agent is running"), "{message}");
        assert!(message.contains("pixchute run"), "{message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_configuration_that_is_not_there_ends_with_78_and_names_it() {
    let home = Home::new();
    for command in ["check", "run", "status", "tail"] {
        let output = home.run(&[command, "--config", "/nowhere/pixchute.toml"]);
        assert_eq!(output.status.code(), Some(78), "{command}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("/nowhere/pixchute.toml"), "{}", text(&output.stderr));
    }
}

const LINE: &str = concat!(
    r#"{"v":1,"seq":1,"job":"01JD0000000000000000000000","at":"2020-01-02T12:00:00.123Z","status":"uploaded","#,
    r#""file":"a\u001b[31m.jpg","folder":"/d","host":"h","url":"https://h.example/1","thumb":null,"image":null,"#,
    r#""bytes":1,"mime":null,"width":null,"height":null,"blake3":null,"attempts":1,"requeues":0,"duration_ms":1}"#,
);

#[test]
fn tail_reads_manifests_without_an_agent() {
    let home = Home::new();
    std::fs::write(home.path().join("manifest.jsonl"), format!("{LINE}\n{LINE}\n{LINE}\n")).expect("written");
    let output = home.run(&["tail", "-n", "2", "."]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with(r"uploaded a\u{1b}[31m.jpg → https://h.example/1"), "{}", lines[0]);
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let home = Home::new();
    let many: String = std::iter::repeat_n(format!("{LINE}\n"), 20_000).collect();
    std::fs::write(home.path().join("manifest.jsonl"), many).expect("written");
    let mut child = home
        .command(&["tail", "-n", "20000", "."])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut [0; 100]).expect("some output");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn hosts_are_listed_and_an_unknown_one_is_answered_with_the_known() {
    let home = Home::new();
    let list = home.run(&["host", "list"]);
    assert!(text(&list.stdout).contains("local"), "{}", text(&list.stdout));
    let unknown = home.run(&["host", "show", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("local"), "{}", text(&unknown.stderr));
}

#[test]
fn check_says_what_would_happen_without_a_secret_and_touches_nothing() {
    let home = Home::new();
    let text_of = |host: &str| {
        format!("[[folder]]\npath = \"{0}/drop\"\nhost = \"imgbb\"\n[host.imgbb]\n{host}\n", home.path().display())
    };
    let file = home.path().join("mine.toml");
    std::fs::write(&file, text_of("api_key = \"canary-secret\"")).expect("written");
    let output = home.run(&["check", "--config", "mine.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = text(&output.stdout);
    for expected in ["mine.toml", "/drop (does not exist now", "imgbb", "api_key", "The configuration can be used."] {
        assert!(report.contains(expected), "{expected} is missing in\n{report}");
    }
    assert!(!report.contains("canary"), "{report}");
    let more = "api_key = \"canary-secret\"\nquota = \"1000/h\"\nrate = \"2/s\"\nburst = 5\nmax_parallel = 2\n\
                [[hook]]\non = [\"failed\"]\nexec = [\"notify-send\", \"canary\"]\n\
                [[hook]]\non = [\"uploaded\"]\nwebhook = \"https://h.example/canary\"";
    let folder =
        "exclude = [\"private/**\"]\nalbum = \"subfolder\"\nstrip_metadata = true\ndedupe = \"skip\"\n[host.imgbb]";
    std::fs::write(&file, text_of(more).replace("[host.imgbb]", folder)).expect("written");
    let output = home.run(&["check", "--config", "mine.toml"]);
    let report = text(&output.stdout);
    for expected in [
        "without private/**, up to 100",
        "each of its sub-folders",
        "removed before an image is sent",
        "without a line",
        "2 at a time; one every 500ms, 5 at once after a rest; 1000 uploads in 1h",
        "hook starts notify-send for failed, within 10s, tried 3 times",
        "hook tells an address for uploaded",
    ] {
        assert!(report.contains(expected), "{expected} is missing in\n{report}");
    }
    assert!(!report.contains("canary"), "{report}");

    std::fs::write(&file, text_of("api_kee = \"canary-secret\"\n[pool]\nworkers = 0")).expect("written");
    for command in ["check", "run"] {
        let output = home.run(&[command, "--config", "mine.toml"]);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output.stdout));
        let message = text(&output.stderr);
        assert!(message.contains("workers") && message.contains("api_kee"), "both mistakes at once:\n{message}");
    }
    let found: Vec<_> = std::fs::read_dir(home.path()).expect("readable").flatten().map(|entry| entry.path()).collect();
    assert_eq!(found, [file], "nothing is made");
}

#[test]
fn templates_are_listed_shown_and_converted() {
    let home = Home::new();
    std::fs::write(home.path().join("old.txt"), "[center]#all_images#[/center] #thumb_size#\n").expect("written");
    std::fs::write(home.path().join("user_templates.json"), r##"{"My list": "#image_url#", "n": 1}"##)
        .expect("written");
    let output = home.run(&["template", "list"]);
    assert!(text(&output.stdout).contains("bbcode           built in  escape bbcode"), "{}", text(&output.stdout));

    let output = home.run(&["template", "show", "urls"]);
    assert_eq!(text(&output.stdout), "{% for file in files %}{{ file.url }}\n{% endfor %}\n");
    assert_eq!(home.run(&["template", "show", "urlz"]).status.code(), Some(2));

    let output = home.run(&["template", "convert", "old.txt"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "pixchute: line 1: #thumb_size# is not known here: it is left out\n");
    let converted = text(&output.stdout);
    assert!(
        converted.starts_with("[center]{% for file in files %}") && converted.ends_with("[/center] \n"),
        "{converted}"
    );

    let output = home.run(&["template", "convert", "--format", "markdown", "user_templates.json"]);
    let expected = "[template.my-list]\ntext = '''\n{{ file.url }}'''\nescape = \"markdown\"\n\n";
    assert_eq!(text(&output.stdout), expected);
    // What was printed can be used.
    std::fs::write(home.path().join("c.toml"), expected).expect("written");
    let output = home.run(&["--config", "c.toml", "template", "show", "my-list"]);
    assert_eq!(text(&output.stdout), "{{ file.url }}\n", "{}", text(&output.stderr));
    assert_eq!(home.run(&["template", "convert", "missing"]).status.code(), Some(1));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = home.run(&["completions", shell]);
        let script = text(&output.stdout);
        for word in ["doctor", "print-request", "max-age"] {
            assert!(output.status.success() && script.contains(word), "{shell} does not know {word}");
        }
    }
    let bash = home.path().join("pixchute.bash");
    std::fs::write(&bash, home.run(&["completions", "bash"]).stdout).expect("written");
    let checked = std::process::Command::new("bash").arg("-n").arg(&bash).status().expect("bash runs");
    assert!(checked.success(), "bash cannot read it");

    let output = home.run(&["man", "--dir", "man"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(home.path().join("man").join(name)).expect("a page");
    for (page, words) in [
        ("pixchute.1", ["Exit codes: 0 done", "pixchute\\-doctor(1)"]),
        ("pixchute-host-test.1", [".TH PIXCHUTE-HOST-TEST 1", "print\\-request"]),
        ("pixchute-run.1", ["\\-\\-once", "Examples:"]),
    ] {
        words.iter().for_each(|word| assert!(read(page).contains(word), "{page} has no {word}\n{}", read(page)));
    }
    assert_eq!(text(&home.run(&["man", "host", "test"]).stdout), read("pixchute-host-test.1"));
    assert_eq!(home.run(&["man", "hots"]).status.code(), Some(2));
}

/// What the Debian package takes from this repository is there, and the README names the same places to other packagers.
#[test]
fn the_package_has_what_the_readme_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        std::fs::read_to_string(root.join("Cargo.toml")).expect("a manifest").parse().expect("TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    let readme = include_str!("../README.md");
    for asset in deb["assets"].as_array().expect("assets") {
        let (from, to) = (asset[0].as_str().expect("a text"), asset[1].as_str().expect("a text"));
        assert!(from.starts_with("target/package/") || root.join(from).is_file(), "{from} is missing");
        let packaged = from.starts_with("systemd/") || from.starts_with("target/package/");
        assert!(
            !packaged || readme.contains(from.rsplit('/').next().expect("a name")),
            "the README does not name {from}"
        );
        let folder = to.trim_end_matches('/').rsplit_once('/').expect("a folder").0;
        assert!(!from.starts_with("systemd/") || readme.contains(folder), "the README does not name {folder}");
    }
    let scripts = root.join(deb["maintainer-scripts"].as_str().expect("a folder"));
    for script in ["postinst", "prerm", "postrm"] {
        let checked = std::process::Command::new("sh").arg("-n").arg(scripts.join(script)).status().expect("sh runs");
        assert!(checked.success(), "{script}");
    }
}

/// Every action of the workflow is pinned to a commit.
#[test]
fn the_workflow_runs_what_is_run_here_with_pinned_actions() {
    let workflow = include_str!("../.github/workflows/ci.yml");
    assert!(workflow.contains("- run: .ci/run\n") && workflow.contains("macos-15"));
    let uses: Vec<&str> = workflow.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")).collect();
    assert!(!uses.is_empty());
    for action in uses {
        let commit = action.split_once('@').and_then(|(_, commit)| commit.split(' ').next()).unwrap_or_default();
        assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{action} is not pinned");
    }
}
