//! The Debian package: made of what Cargo.toml says, as `cargo deb` does it, without asking for `cargo deb`; and what it does
//! where it is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pixchute::telemetry::Event;

use crate::booted::Booted;

/// `[package.metadata.deb]`.
struct Metadata(toml::Table);

impl Metadata {
    fn read() -> Self {
        let text = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
        let all: toml::Table = text.parse().expect("TOML");
        let metadata =
            ["package", "metadata", "deb"].iter().fold(toml::Value::Table(all), |table, key| table[key].clone());
        Self(metadata.as_table().expect("a table").clone())
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("a text")
    }

    /// Source, target, mode; a target that ends with `/` is a folder.
    fn assets(&self) -> impl Iterator<Item = [&str; 3]> {
        self.0["assets"].as_array().expect("assets").iter().map(|asset| three(asset).expect("three texts"))
    }
}

fn three(asset: &toml::Value) -> Option<[&str; 3]> {
    let words: Vec<&str> = asset.as_array()?.iter().filter_map(toml::Value::as_str).collect();
    words.try_into().ok()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Makes what is made of the program, once.
pub(crate) fn prepare(dir: &Path) {
    let made = dir.join("made");
    let script = root().join(".ci/package");
    let program = env!("CARGO_BIN_EXE_pixchute");
    let status = Command::new("bash").arg(script).arg("--made-of").arg(program).arg(&made).status();
    assert!(status.expect("bash runs").success());
}

/// A package of this version, in `dir`, which is prepared; and the places of its files.
pub(crate) fn build(dir: &Path, version: &str) -> (PathBuf, Vec<String>) {
    let metadata = Metadata::read();
    let stage = dir.join("stage");
    let _ = fs::remove_dir_all(&stage);
    let mut places = Vec::new();
    for [source, target, mode] in metadata.assets() {
        for file in sources(dir, source) {
            let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
            let place = if target.ends_with('/') { format!("{target}{name}") } else { target.to_owned() };
            copy(&file, &stage.join(&place), mode);
            places.push(format!("/{place}"));
        }
    }
    let scripts = root().join(metadata.text("maintainer-scripts"));
    for script in fs::read_dir(scripts).expect("scripts") {
        let script = script.expect("a script").path();
        copy(&script, &stage.join("DEBIAN").join(script.file_name().expect("a name")), "755");
    }
    let (name, maintainer) = (metadata.text("name"), metadata.text("maintainer"));
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: {maintainer}\nDescription: {}\n",
        env!("CARGO_PKG_DESCRIPTION")
    );
    fs::write(stage.join("DEBIAN/control"), control).expect("writes");
    let package = dir.join(format!("{name}-{version}.deb"));
    // Not compressed: that would take longer than all else.
    let built =
        Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&stage).arg(&package).output();
    let built = built.expect("dpkg-deb runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    (package, places)
}

/// The files that a source of an asset means: one, or all with an ending.
fn sources(dir: &Path, source: &str) -> Vec<PathBuf> {
    let path = match source.strip_prefix("target/package/") {
        Some(rest) => dir.join("made").join(rest),
        None => root().join(source),
    };
    let Some(ending) = source.rsplit_once("/*.").map(|(_, ending)| ending) else { return vec![path] };
    let folder = fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let files: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    let files: Vec<PathBuf> =
        files.into_iter().filter(|file| file.extension().is_some_and(|found| found == ending)).collect();
    assert!(!files.is_empty(), "{source} names no file");
    files
}

fn copy(from: &Path, to: &Path, mode: &str) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    let mode = u32::from_str_radix(mode, 8).expect("a mode");
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// The package makes the user and the places, lets the catalog be read, and neither enables nor starts anything.
pub(crate) fn installed(inside: &Booted) {
    assert!(inside.sh("getent passwd pixchute").ends_with(":/var/lib/pixchute:/usr/sbin/nologin"));
    assert_eq!(inside.sh("stat -c %a:%U /etc/pixchute/credentials"), "700:root");
    let id = Event::JobFailed.entry().message_id;
    assert!(inside.sh(&format!("journalctl --list-catalog {id}")).contains("was given up"));
    for unit in ["pixchute.service", "pixchute@.service"] {
        assert!(inside.tried(&format!("systemctl is-enabled {unit}")).1.starts_with("disabled"), "{unit}");
    }
    assert_eq!(inside.tried("systemctl is-active pixchute").0, 3);
    // Without a configuration it says so, once.
    let (code, said) = inside.tried("pixchute service install --system");
    assert!(code == 78 && said.contains("/etc/pixchute/config.toml"), "{code}: {said}");
}

/// A newer package: the service runs it, as it was configured.
pub(crate) fn upgraded(inside: &Booted) {
    let process = inside.property("pixchute", "MainPID");
    inside.sh("sha256sum /etc/pixchute/config.toml /etc/systemd/system/pixchute.service.d/*.conf >/srv/sums");
    inside.install_package(concat!(env!("CARGO_PKG_VERSION"), "+next"));
    assert_ne!(inside.property("pixchute", "MainPID"), process);
    assert_eq!(inside.property("pixchute", "ActiveState"), "active");
    inside.sh("sha256sum --check --quiet /srv/sums");
}

/// Removing the package ends the service and keeps what is the user's; purging takes everything but pictures.
pub(crate) fn removed(inside: &Booted) {
    inside.sh("pixchute service install --system && install -d -o pixchute /var/lib/pixchute/local/images");
    inside.sh(
        "install -o pixchute /srv/pictures/few/1.png /var/lib/pixchute/local/images/x.png && touch /srv/drop/mine.png",
    );
    // What the hook of an earlier step has left.
    inside.sh("rm /var/lib/pixchute/x /var/lib/pixchute/suid /var/lib/pixchute/probe");
    inside.sh("dpkg --no-triggers --force-unsafe-io -r pixchute");
    assert_eq!(inside.tried("systemctl is-active pixchute").0, 3);
    inside.sh("test ! -e /usr/bin/pixchute && test ! -e /etc/systemd/system/multi-user.target.wants/pixchute.service");
    inside.sh("test -e /etc/pixchute/config.toml && test -e /var/lib/pixchute/ledger.sqlite");
    inside.sh("dpkg --no-triggers --force-unsafe-io -P pixchute");
    let left = "find /etc/pixchute /etc/systemd/system/pixchute* /var/lib/pixchute* -type f";
    assert_eq!(inside.tried(&format!("{left} 2>/dev/null")).1.trim(), "/var/lib/pixchute/local/images/x.png");
    inside.sh("test -e /srv/drop/mine.png && test -e /srv/drop/manifest.jsonl && test -e /srv/drop/done/10.png");
}
