//! The unit files as systemd's own judges see them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each unit, and the exposure that `systemd-analyze security` may find, in tenths.
const UNITS: [(&str, &str, &str); 3] = [
    ("systemd/pixchute.service", "pixchute.service", "12"),
    ("systemd/pixchute@.service", "pixchute@scans.service", "12"),
    ("systemd/user/pixchute.service", "pixchute.service", "19"),
];

/// Whether systemd's tools are here; says so if not.
fn analyzes() -> bool {
    let here = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !here {
        eprintln!("SKIPPED: there is no systemd-analyze on this machine");
    }
    here
}

/// The unit under the name that it is installed with, naming a program that is here.
fn installed(dir: &Path, file: &str, name: &str) -> PathBuf {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a unit");
    let path = dir.join(name);
    fs::write(&path, text.replace("/usr/bin/pixchute", env!("CARGO_BIN_EXE_pixchute"))).expect("writes");
    path
}

#[test]
fn systemd_has_nothing_to_say_about_the_units_and_little_exposes_them() {
    if !analyzes() {
        return;
    }
    for (file, name, most) in UNITS {
        let dir = tempfile::tempdir().expect("a folder");
        let unit = installed(dir.path(), file, name);
        let analyze = |arguments: &[&str]| {
            let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().expect("runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            (output.status.success(), said)
        };
        let (good, said) = analyze(&["verify", "--man=no"]);
        // What other units of this machine say about themselves is not ours.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("pixchute")).collect();
        assert!(good && ours.is_empty(), "{file}: {said}");
        let (good, said) = analyze(&["security", "--offline=true", &format!("--threshold={most}")]);
        assert!(good, "{file} is exposed to more than {most} tenths: {said}");
    }
}

#[test]
fn the_units_agree_on_what_they_promise() {
    for (file, _, _) in UNITS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a unit");
        for line in
            ["Type=notify", "NotifyAccess=main", "WatchdogSec=60s", "RestartPreventExitStatus=78 75", "KillMode=mixed"]
        {
            assert!(text.lines().any(|one| one == line), "{file} has no {line}");
        }
    }
}
