//! What needs an environment of its own: this process has one, and tests cannot change it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::environment::Environment;
use super::{Config, ConfigError, Draft, Folder, Setting};

/// The file that users copy.
const SHIPPED: &str = include_str!("../../config/pixchute.toml");

/// A home directory and some variables.
struct World {
    home: TempDir,
    variables: BTreeMap<String, OsString>,
}

impl World {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary directory"), variables: BTreeMap::new() }
    }

    fn set(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    fn file(self, name: &str, content: &[u8], mode: u32) -> Self {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().expect("in the home directory")).expect("created");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
        self
    }

    /// A keyring whose program does this.
    fn keyring(self, script: &str) -> Self {
        let program = format!("#!/bin/sh\n{script}\n");
        let world =
            self.file("bin/secret-tool", program.as_bytes(), 0o755).file("bin/security", program.as_bytes(), 0o755);
        let places = format!("{}:/usr/bin:/bin", world.home.path().join("bin").display());
        world.set("PATH", places)
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        let variables = |name: &str| self.variables.get(name).cloned();
        let env = Environment::new(&variables, Some(self.home.path().to_owned()));
        Draft::parse_in(text, Some(Path::new("/etc/pixchute/config.toml")), &env).finish()
    }

    /// The option `key = VALUE` of a host.
    fn option(&self, value: &str) -> Result<Setting, String> {
        let mut config =
            self.parse(&format!("[host.h]\nkey = {value}\n")).map_err(|error| error.problems[0].message.clone())?;
        Ok(config.hosts.remove("h").expect("there").options.remove("key").expect("there"))
    }

    fn folder(&self, path: &str) -> Result<PathBuf, String> {
        let config = self.parse(&format!("[[folder]]\nhost = 'local'\npath = '{path}'\n"));
        config.map(|config| config.folders[0].path.clone()).map_err(|error| error.problems[0].message.clone())
    }
}

#[test]
fn the_shipped_file_shows_the_defaults() {
    let world = World::new();
    let config = world.parse(SHIPPED).expect("the shipped file is valid");
    let default = Config::default();
    assert_eq!(config.pool, default.pool);
    assert_eq!(config.retry, default.retry);
    assert_eq!(config.cooldown, default.cooldown);
    assert_eq!(config.ledger, default.ledger);
    assert_eq!(config.log, default.log);
    assert_eq!(config.listen, default.listen);
    assert_eq!(config.control_socket, default.control_socket);
    assert_eq!(config.folders, [Folder::new(world.home.path().join("Pictures/Drop"), "local")]);
    assert_eq!(config.hosts.into_keys().collect::<Vec<_>>(), ["local"]);
}

#[test]
fn the_shipped_examples_are_valid() {
    let world = World::new().set("IMGBB_KEY", "k1").file(".config/pixchute/freeimage.key", b"k2\n", 0o600).file(
        "credentials/imgur",
        b"k3",
        0o440,
    );
    let credentials = world.home.path().join("credentials");
    let world = world.set("CREDENTIALS_DIRECTORY", credentials).keyring("echo k4").file(
        "bin/pass",
        b"#!/bin/sh\necho k5",
        0o755,
    );
    let uncommented: Vec<&str> = SHIPPED
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty()).unwrap_or(line))
        .collect();
    let config = world.parse(&uncommented.join("\n")).expect("the examples are valid");
    let pixhost = &config.hosts["pixhost"];
    assert_eq!((pixhost.max_parallel, pixhost.rate.map(|rate| rate.burst)), (Some(4), Some(5)));
    assert_eq!(pixhost.options["content_type"].value.expose_secret(), "sfw");
    assert_eq!(config.hosts["imgur"].options["client_id"].value.expose_secret(), "k3");
    let key = |host: &str| config.hosts[host].options["api_key"].value.expose_secret().to_owned();
    assert_eq!([key("imgbb"), key("freeimage"), key("mine"), key("other")], ["k1", "k2", "k4", "k5"]);
}

#[test]
fn the_shipped_file_shows_every_key() {
    let probes = ["[pool]", "[retry]", "[cooldown]", "[ledger]", "[log]", "[server]", "[control]", "[[folder]]"];
    for probe in probes {
        let error = World::new().parse(&format!("{probe}\nzzz = 1\n")).expect_err("zzz is unknown");
        let unknown = error.problems.iter().find(|problem| problem.key.ends_with("zzz")).expect("reported");
        let known = unknown.message.strip_prefix("unknown key, expected one of ").expect("the known keys");
        for key in known.split(", ") {
            let shown = SHIPPED.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = ")));
            assert!(shown, "{probe} {key} is not in config/pixchute.toml");
        }
    }
}

#[test]
fn several_hosts_are_a_list_with_a_policy() {
    let world = World::new();
    let parse = |keys: &str| {
        let parsed = world.parse(&format!("[[folder]]\npath = '/a'\n{keys}\n"));
        parsed.map_err(|error| error.problems.into_iter().map(|p| (p.key, p.message)).collect::<Vec<_>>())
    };
    let config = parse("hosts = ['pixhost', 'imx', 'mine']\npolicy = 'mirror'").expect("valid");
    let folder = &config.folders[0];
    assert_eq!(folder.hosts().collect::<Vec<_>>(), ["pixhost", "imx", "mine"]);
    assert_eq!(folder.policy, super::Policy::Mirror);
    assert_eq!(config.hosts.keys().collect::<Vec<_>>(), ["imx", "mine", "pixhost"]);
    assert_eq!(parse("hosts = ['a']").expect("valid").folders[0].policy, super::Policy::Failover);
    let cases = [
        ("host = 'a'\nhosts = ['b']", "hosts", "found both `host` and `hosts`, expected one of them"),
        ("hosts = ['a', 'b', 'a']", "hosts", "found \"a\" twice, expected each host once"),
        ("hosts = ['a', 'b/c']", "hosts", "found \"b/c\", expected a name of letters"),
        ("hosts = []", "hosts", "found no name, expected an array of host names"),
        ("hosts = 'a'", "hosts", "found \"a\", expected an array of host names"),
        ("hosts = [1]", "hosts", "found 1, expected an array of host names"),
        ("hosts = ['a', 'b']\npolicy = 'mirorr'", "policy", "found \"mirorr\", expected one of \"failover\""),
        ("host = 'a'\npolicy = 'mirror'", "policy", "means nothing with a single `host`"),
        ("", "host", "missing, expected the name of a host"),
    ];
    for (written, key, message) in cases {
        let problems = parse(written).expect_err(written);
        assert_eq!(problems.len(), 1, "{written}: {problems:?}");
        assert_eq!(problems[0].0, format!("folder[0].{key}"), "{written}");
        assert!(problems[0].1.starts_with(message), "{written}: {problems:?}");
    }
}

#[test]
fn secrets_come_from_the_environment_files_and_credentials() {
    let world = World::new().set("KEY", "from env").file("key", b"from file\r\n", 0o600).file(
        "c/mine",
        b"from systemd\n",
        0o440,
    );
    let credentials = world.home.path().join("c");
    let world = world.set("CREDENTIALS_DIRECTORY", credentials).keyring("echo \"$@\"");
    let cases = [
        ("'plain'", "plain", "config", true),
        ("{ env = 'KEY' }", "from env", "environment variable KEY", false),
        ("{ file = '~/key' }", "from file", "file ~/key", false),
        ("{ credential = 'mine' }", "from systemd", "credential mine", false),
        (
            "{ keyring = 'img bb' }",
            "lookup service pixchute account img bb",
            "keyring, service pixchute, account img bb",
            false,
        ),
        ("{ exec = ['printf', 'a b\\n%s\\r\\n', '$HOME'] }", "a b\n$HOME", "program printf", false),
        ("300", "300", "config", true),
        ("true", "true", "config", true),
        ("1.5", "1.5", "config", true),
    ];
    for (written, value, origin, plain) in cases {
        let setting = world.option(written).expect(written);
        assert_eq!(setting.value.expose_secret(), value, "{written}");
        assert_eq!((setting.origin.as_str(), setting.is_plain()), (origin, plain), "{written}");
    }
}

#[test]
fn a_secret_that_cannot_be_had_is_a_problem_at_the_start() {
    let world = World::new()
        .set("EMPTY", "")
        .file("open", b"x", 0o644)
        .file("empty", b"\n", 0o600)
        .file("binary", b"\xff\xfe", 0o600)
        .file("large", &vec![b'x'; 70_000], 0o600);
    let home = world.home.path().display().to_string();
    let cases = [
        ("{ env = 'ABSENT' }", "the environment variable ABSENT is not set".to_owned()),
        ("{ env = 'EMPTY' }", "the environment variable EMPTY is empty".to_owned()),
        ("{ file = '~/open' }", format!("the secret file {home}/open is open to others (mode 644)")),
        ("{ file = '~/empty' }", format!("the secret file {home}/empty is empty")),
        ("{ file = '~/binary' }", format!("the secret file {home}/binary is not valid UTF-8 text")),
        ("{ file = '~/large' }", format!("the secret file {home}/large is larger than 64 KiB")),
        ("{ file = '~' }", format!("the secret file {home} is not a regular file")),
        ("{ file = 'key' }", "found the relative path \"key\", expected an absolute one".to_owned()),
        (
            "{ credential = 'absent-1' }",
            "there is no credential absent-1: $CREDENTIALS_DIRECTORY is not set, and there is no \
             /etc/pixchute/credentials/absent-1"
                .to_owned(),
        ),
    ];
    for (written, message) in cases {
        assert_eq!(world.option(written).map(|_| ()), Err(message), "{written}");
    }
    let absent = world.option("{ file = '~/absent' }").expect_err("absent");
    assert!(absent.starts_with(&format!("the secret file {home}/absent cannot be read: ")), "{absent}");
}

#[test]
fn a_keyring_or_a_program_that_gives_no_secret_is_explained_without_its_arguments() {
    let empty = World::new().keyring("exit 1");
    let locked = World::new().keyring("echo 'Cannot autolaunch D-Bus without X11' >&2; exit 1");
    let none = World::new().set("PATH", "/nowhere");
    let cases = [
        (&empty, "{ keyring = 'k' }", "the keyring has no secret k"),
        (
            &locked,
            "{ keyring = 'k' }",
            "the keyring gave no secret k: it ended with exit status: 1, saying: Cannot autolaunch D-Bus without X11",
        ),
        (
            &empty,
            "{ keyring = '-x' }",
            "found \"-x\" as the name of a secret in the keyring, expected letters, digits, blanks and any of -_.@/:",
        ),
        (
            &empty,
            "{ exec = ['sh', '-c', 'echo geheim; exit 4'] }",
            "the program sh gave no secret: it ended with exit status: 4",
        ),
        (&empty, "{ exec = ['true', 'geheim'] }", "what the program true gave is empty"),
        (&empty, "{ exec = ['printf', '\\377'] }", "what the program printf gave is not valid UTF-8 text"),
        (&none, "{ exec = ['pixchute-no-such', 'geheim'] }", "the program pixchute-no-such of a secret is not there"),
    ];
    for (world, written, message) in cases {
        assert_eq!(world.option(written).map(|_| ()), Err(message.to_owned()), "{written}");
    }
    let absent = none.option("{ keyring = 'k' }").expect_err("no program");
    assert!(absent.starts_with("the keyring is asked through the program sec"), "{absent}");
    for written in ["{ exec = [] }", "{ exec = [''] }", "{ exec = 'pass geheim' }", "{ exec = ['geheim', 1] }"] {
        let message = empty.option(written).expect_err(written);
        assert!(message.starts_with("found what is no program as the exec of a secret, expected { env"), "{message}");
        assert!(!message.contains("geheim"), "{message}");
    }
}

#[test]
fn commands_that_send_nothing_leave_secrets_where_they_are() {
    let world = World::new();
    let text =
        "[host.h]\na = { exec = ['touch', '/pixchute-ran'] }\nb = { env = 'ABSENT' }\nc = { file = '~/absent' }\n";
    let variables = |name: &str| world.variables.get(name).cloned();
    let env = Environment::new(&variables, Some(world.home.path().to_owned())).without_secrets();
    let config = Draft::parse_in(text, None, &env).finish().expect("nothing is missing");
    let origins: Vec<&str> = config.hosts["h"].options.values().map(|setting| setting.origin.as_str()).collect();
    assert_eq!(origins, ["program touch", "environment variable ABSENT", "file ~/absent"]);
    assert!(!Path::new("/pixchute-ran").exists());
    assert_eq!(config.secret_variables.iter().collect::<Vec<_>>(), ["ABSENT"]);
}

#[test]
fn in_a_shell_a_credential_is_what_the_service_would_be_given() {
    let world = World::new().file("credentials/mine", b"beside\n", 0o600);
    let text = "[host.h]\nkey = { credential = 'mine' }\n";
    let value = |world: &World| {
        let variables = |name: &str| world.variables.get(name).cloned();
        let env = Environment::new(&variables, None);
        let file = world.home.path().join("config.toml");
        let config = Draft::parse_in(text, Some(&file), &env).finish();
        config.map(|config| config.hosts["h"].options["key"].value.expose_secret().to_owned())
    };
    assert_eq!(value(&world).ok().as_deref(), Some("beside"));
    let handed_over = world.home.path().join("c");
    let world = world.file("c/mine", b"handed over\n", 0o400).set("CREDENTIALS_DIRECTORY", handed_over);
    assert_eq!(value(&world).ok().as_deref(), Some("handed over"));
}

#[test]
fn a_credential_is_a_name_and_never_a_path() {
    let world = World::new().file("secret", b"x", 0o600);
    let inner = world.home.path().join("c");
    let world = world.set("CREDENTIALS_DIRECTORY", inner);
    for name in ["../secret", "..", ".", "a/b", "/etc/passwd"] {
        let message = world.option(&format!("{{ credential = '{name}' }}")).expect_err(name);
        assert_eq!(message, format!("found \"{name}\", expected the name of a credential without a path"));
    }
}

#[test]
fn tilde_and_variables_expand_in_paths() {
    let world = World::new().set("PICS", "/srv/pics").set("NAME", "a b");
    let home = world.home.path();
    let cases = [
        ("~/Drop", home.join("Drop")),
        ("~", home.to_owned()),
        ("$PICS/x", "/srv/pics/x".into()),
        ("${PICS}x/./y//", "/srv/picsx/y".into()),
        ("/a/$NAME/~", "/a/a b/~".into()),
        ("/a/$$b", "/a/$b".into()),
    ];
    for (written, path) in cases {
        assert_eq!(world.folder(written), Ok(path), "{written}");
    }
    let mistakes = [
        ("", "found an empty path"),
        ("~root/x", "found \"~root/x\": only one's own home directory can be written with `~`"),
        ("$ABSENT/x", "the environment variable ABSENT is not set"),
        ("/a/${PICS", "found `${` without `}`"),
        ("/a/$/b", "found `$` without the name of a variable; a plain `$` is written `$$`"),
        ("Drop", "found the relative path \"Drop\", expected an absolute one"),
        ("/a/../b", "found \"/a/../b\", expected a path without `..`"),
        ("/", "found the root of the file system, expected a folder in it"),
    ];
    for (written, message) in mistakes {
        assert_eq!(world.folder(written), Err(message.to_owned()), "{written}");
    }
}

#[test]
fn r26_no_secret_is_in_a_message_or_in_debug_output() {
    const CANARY: &str = "c4n4ry";
    let world = World::new().set("KEY", CANARY);
    let good = world.parse(&format!("[host.h]\na = '{CANARY}'\nb = {{ env = 'KEY' }}\n")).expect("valid");
    assert!(!format!("{good:?}").contains(CANARY));
    // Around the secret something is wrong in many ways: with the key, the header, the value, the syntax.
    let texts = [
        "[host.h]\nkey = 'CANARY'\nrate = 2\n",
        "[[folder]]\npath = '/a'\nhost = 'h'\napi_key = 'CANARY'\n",
        "api_key = 'CANARY'\n",
        "[host]\napi_key = 'CANARY'\n",
        "[host.h]\nkey = ['CANARY']\n",
        "[host.h]\nkey = { plain = 'CANARY' }\n",
        "[host.h]\nkey = { env = 'X', value = 'CANARY' }\n",
        "[host.h]\nkey = {\n  evn = 'CANARY' }\n",
        "[host.h]\nkey = CANARY\n",
        "[host.h]\nkey = 'CANARY\n",
        "[host.h]\nkey = \"CANARY\\q\"\n",
        "[host.h]\nkey = \"\"\"\n[pool]\nCANARY==\n",
        "[host.h]\nkey = 'x\nCANARY==\n'\n",
        "[host.h\nkey = 'CANARY' 5\n",
        "[ledger]\nurl = 'postgres://u:CANARY@db/x'\n",
        "[ledger]\nurl = 'mysql://u:CANARY@db/x'\n",
        "host = { h = { key = ['CANARY'] } }\n",
        "host.h.key = ['CANARY']\n",
    ];
    for text in texts {
        let error = world.parse(&text.replace("CANARY", CANARY)).expect_err(text);
        assert!(!error.to_string().contains(CANARY), "{text}\n{error}");
        assert!(!format!("{error:?}").contains(CANARY), "{text}\n{error:?}");
    }
}
