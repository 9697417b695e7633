use std::path::{Path, PathBuf};

use super::files::{self, Found};
use super::*;

fn target(scope: Scope, manager: Manager) -> Target {
    Target {
        manager,
        scope,
        instance: None,
        program: PathBuf::from("/usr/local/bin/pixchute"),
        config: None,
        home: PathBuf::from("/home/ada"),
        config_home: PathBuf::from("/home/ada/.config"),
        state: ["/home/ada/.local/state/pixchute", "/home/ada/.local/share/pixchute"].map(PathBuf::from),
        uid: 1000,
        runs_as: Some("ada".to_owned()),
    }
}

fn config(text: &str) -> Config {
    let file = Path::new("/etc/pixchute/config.toml");
    let config = crate::config::Draft::parse(text, Some(file)).finish().expect("a configuration");
    Config { ledger: "/home/ada/.local/state/pixchute/ledger.sqlite".into(), ..config }
}

fn text_of<'a>(artifacts: &'a [Artifact], ending: &str) -> &'a str {
    let artifact = artifacts.iter().find(|artifact| artifact.path.to_string_lossy().ends_with(ending));
    &artifact.unwrap_or_else(|| panic!("no {ending}: {artifacts:?}")).text
}

#[test]
fn the_drop_in_names_what_the_configuration_does() {
    let config = config(
        "[[folder]]\npath = '/srv/drop 100%'\nhost = 'one'\ndone = '/srv/done'\n\
         [[folder]]\npath = '/home/ada/Drop'\nhost = 'one'\n\
         [[folder]]\npath = '/tmp/x'\nhost = 'local'\n\
         [host.one]\nrecipe = 'imgbb'\napi_key = { credential = 'key-1' }\n",
    );
    let artifacts = target(Scope::System, Manager::Systemd).artifacts(&config, |_| false).expect("fits");
    let lines: Vec<&str> = text_of(&artifacts, "pixchute.service.d/50-folders.conf").lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "[Service]",
            "PrivateTmp=no",
            "ProtectHome=tmpfs",
            "BindPaths=\"-/home/ada/Drop\"",
            "ReadWritePaths=\"-/srv/done\"",
            "ReadWritePaths=\"-/srv/drop 100%%\"",
            "ReadWritePaths=\"-/tmp/x\"",
            "LoadCredential=key-1:/etc/pixchute/credentials/key-1",
        ]
    );
    let artifacts = target(Scope::User, Manager::Systemd).artifacts(&config, |_| false).expect("fits");
    let text = text_of(&artifacts, "/home/ada/.config/systemd/user/pixchute.service.d/50-folders.conf");
    assert!(text.contains("ReadWritePaths=\"-/home/ada/Drop\"") && !text.contains("ProtectHome"), "{text}");
    assert!(text.contains("LoadCredential=key-1:/home/ada/.config/pixchute/credentials/key-1"), "{text}");
}

#[test]
fn a_user_whose_state_lies_elsewhere_gets_it_made_and_let_in() {
    let config = config("[[folder]]\npath = '/srv/drop'\nhost = 'local'\n");
    let ada = target(Scope::User, Manager::Systemd);
    let config = Config { ledger: "/data/$a b/pixchute/ledger.sqlite".into(), ..config };
    let elsewhere = ["/data/$a b/pixchute".into(), ada.state[1].clone()];
    let artifacts = Target { state: elsewhere, ..ada }.artifacts(&config, |_| true).expect("fits");
    let lines: Vec<&str> = text_of(&artifacts, "50-folders.conf").lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "ExecStartPre=+/bin/mkdir -p -m 700 \"/data/$$a b/pixchute\"",
            "ReadWritePaths=\"-/srv/drop\"",
            "ReadWritePaths=\"-/data/$a b/pixchute\"",
        ]
    );
}

#[test]
fn a_package_brings_everything_but_the_drop_in() {
    let packaged = Target { program: PathBuf::from("/usr/bin/pixchute"), ..target(Scope::System, Manager::Systemd) };
    let artifacts = packaged.artifacts(&Config::default(), |path| path.starts_with("/usr/lib")).expect("fits");
    assert_eq!(artifacts.len(), 1, "{artifacts:?}");
    let own = target(Scope::System, Manager::Systemd);
    let artifacts = own.artifacts(&Config::default(), |_| true).expect("fits");
    assert!(
        text_of(&artifacts, "/etc/systemd/system/pixchute.service").contains("ExecStart=/usr/local/bin/pixchute run")
    );
}

#[test]
fn instances_and_another_configuration_are_named() {
    let named = Target {
        instance: Some("scans".to_owned()),
        config: Some(PathBuf::from("/etc/pixchute/100%.toml")),
        ..target(Scope::System, Manager::Systemd)
    };
    assert_eq!(
        (named.name(), named.default_config()),
        ("pixchute@scans.service".to_owned(), Some(PathBuf::from("/etc/pixchute/scans.toml")))
    );
    let artifacts = named.artifacts(&Config::default(), |_| false).expect("fits");
    let text = text_of(&artifacts, "/etc/systemd/system/pixchute@scans.service.d/50-folders.conf");
    assert!(
        text.contains("ExecStart=\nExecStart=/usr/local/bin/pixchute run --config \"/etc/pixchute/100%%.toml\"\n"),
        "{text}"
    );
    text_of(&artifacts, "/etc/systemd/system/pixchute@.service");
}

#[test]
fn what_cannot_work_is_refused() {
    let hidden =
        Target { program: PathBuf::from("/home/ada/.cargo/bin/pixchute"), ..target(Scope::System, Manager::Systemd) };
    let error = hidden.artifacts(&Config::default(), |_| false).expect_err("hidden");
    assert!(error.contains("install -m 755") && error.contains("/usr/local/bin"), "{error}");
    let odd = config("[[folder]]\npath = '/srv/a\\b'\nhost = 'local'\n");
    let error = target(Scope::System, Manager::Systemd).artifacts(&odd, |_| false).expect_err("odd");
    assert!(error.contains("cannot stand in a unit"), "{error}");
}

#[test]
fn plists_get_the_places_of_the_machine() {
    let artifacts = target(Scope::User, Manager::Launchd).artifacts(&Config::default(), |_| false).expect("fits");
    let text = text_of(&artifacts, "/home/ada/Library/LaunchAgents/org.pixchute.agent.plist");
    assert!(text.contains("<string>/home/ada/Library/Logs/pixchute.log</string>"), "{text}");
    let daemon = Target { config: Some(PathBuf::from("/srv/a&b.toml")), ..target(Scope::System, Manager::Launchd) };
    let artifacts = daemon.artifacts(&Config::default(), |_| false).expect("fits");
    let text = text_of(&artifacts, "/Library/LaunchDaemons/org.pixchute.daemon.plist");
    assert!(text.contains("<string>ada</string>") && text.contains("/srv/a&amp;b.toml"), "{text}");
    let nobody = Target { runs_as: None, ..target(Scope::System, Manager::Launchd) };
    assert!(nobody.artifacts(&Config::default(), |_| false).is_err());
}

#[test]
fn a_file_that_was_changed_is_told_from_ours() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["x.conf", "x.plist"] {
        let mut artifact =
            Artifact { path: dir.path().join("made").join(name), text: "[A]\nb=1\n".to_owned(), shared: false };
        assert_eq!(files::look(&artifact).expect("looks"), Found::Missing);
        files::write(&artifact).expect("writes");
        assert_eq!(files::look(&artifact).expect("looks"), Found::Current);
        artifact.text = "[A]\nb=2\n".to_owned();
        assert_eq!(files::look(&artifact).expect("looks"), Found::Outdated);
        let text = std::fs::read_to_string(&artifact.path).expect("reads").replace("b=1", "b=3");
        std::fs::write(&artifact.path, text).expect("writes");
        assert_eq!(files::look(&artifact).expect("looks"), Found::Changed);
        std::fs::write(&artifact.path, "mine").expect("writes");
        assert_eq!(files::look(&artifact).expect("looks"), Found::Changed);
    }
}
