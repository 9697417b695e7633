//! The service in a real systemd: `box.sh` boots one as process 1 of namespaces of its own. The Debian package is installed
//! in it, and the rest is what the README says.
//!
//! Skipped, saying so, where that cannot be done.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pixchute::telemetry::Event;
use tokio::time::Instant;

use crate::package;
use crate::sandbox;
use crate::support::host::{FakeHost, Reply};
use crate::support::{png, wait_for_within};

/// For the host inside: where it writes its address and what it got, and reads how long it takes.
const HOST_DIR: &str = "PIXCHUTE_BOX_HOST";

/// How long a step may take: far longer than it does, for a loaded machine.
const PATIENT: Duration = Duration::from_secs(120);

/// Pictures for the restarts, and for all other steps.
const MANY: u32 = 1_000;
const FEW: u32 = 700;

/// The parts that are frozen, one in each instance.
const PARTS: [&str; 4] = ["scheduler", "watcher", "recorder", "ledger"];

/// A booted box.
pub(crate) struct Booted {
    state: PathBuf,
    script: PathBuf,
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.outside(&["down"]);
        let _ = fs::remove_dir_all(place());
    }
}

/// Where files for the box are prepared. It need not see them there: its `/tmp` is its own.
fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("box")
}

impl Booted {
    /// Boots one with everything in its place; or says why not.
    fn up() -> Option<Self> {
        let skipped = |why: &str| {
            eprintln!("SKIPPED: no systemd was booted: {why}");
            None
        };
        if !rustix::process::geteuid().is_root() {
            return skipped("that takes root");
        }
        for program in ["systemctl", "dbus-daemon", "nsenter", "unshare", "setsid", "setpriv", "dpkg-deb"] {
            if Command::new(program).arg("--version").output().is_err() {
                return skipped(&format!("there is no {program}"));
            }
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/box.sh");
        let booted = Self { state: place().join("state"), script };
        // What a run that was killed has left.
        let _ = booted.outside(&["down"]);
        let _ = fs::remove_dir_all(place());
        fs::create_dir_all(place().join("few")).expect("a folder");
        fs::create_dir_all(place().join("many")).expect("a folder");
        for number in 0..FEW + MANY {
            let folder = if number < FEW { "few" } else { "many" };
            fs::write(place().join(folder).join(format!("{number}.png")), png(number)).expect("writes");
        }
        let output = booted.outside(&["up"]);
        if !output.status.success() {
            return skipped(&said(&output));
        }
        booted.lay_out();
        Some(booted)
    }

    /// Pictures, the package and a host.
    fn lay_out(&self) {
        // The box lies on an overlay, whose folders are polled; these are watched.
        self.sh("mount -t tmpfs -o mode=755 srv /srv && mount -t tmpfs -o mode=755 home /home");
        let (pictures, place) = (place().join("pictures.tar"), place());
        let packed = Command::new("tar").arg("-C").arg(&place).arg("-cf").arg(&pictures).args(["few", "many"]).status();
        assert!(packed.expect("tar runs").success());
        self.put(&pictures, "/srv/pictures.tar", "644");
        self.sh("mkdir /srv/pictures && tar -C /srv/pictures --no-same-owner -xf /srv/pictures.tar");
        package::prepare(&place);
        self.install_package(env!("CARGO_PKG_VERSION"));
        self.sh("mkdir -p /srv/host && chmod 777 /srv/host && install -d -o pixchute -g pixchute /srv/drop /srv/other /srv/disk");
        let host = std::env::current_exe().expect("this test");
        self.put(&host, "/srv/host/program", "755");
        let start = format!(
            "systemd-run --quiet --unit=host --setenv={HOST_DIR}=/srv/host \
             /srv/host/program --ignored --exact booted::the_host_inside"
        );
        self.sh(&start);
        self.until("the host", "test -s /srv/host/url");
    }

    /// Makes the package of this version and installs it; every file of it must be there.
    pub(crate) fn install_package(&self, version: &str) {
        let (package, files) = package::build(&place(), version);
        self.put(&package, "/srv/pixchute.deb", "644");
        // Images for containers leave out manuals and documentation.
        self.sh("rm -f /etc/dpkg/dpkg.cfg.d/*");
        // What other packages do after an installation, like the index of manual pages, is not ours.
        self.sh("dpkg --no-triggers --force-unsafe-io -i /srv/pixchute.deb");
        self.sh(&format!("ls {}", files.join(" ")));
    }

    fn outside(&self, words: &[&str]) -> Output {
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(&self.state).args(words).stdin(Stdio::null());
        command.output().expect("bash runs")
    }

    fn put(&self, file: &Path, target: &str, mode: &str) {
        let output = self.outside(&["put", file.to_str().expect("UTF-8"), target, mode]);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Runs a script inside: its exit code, and all that it said.
    pub(crate) fn tried(&self, script: &str) -> (i32, String) {
        let output = self.outside(&["run", "bash", "-c", script]);
        (output.status.code().unwrap_or(-1), said(&output))
    }

    /// The same; it must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let (code, said) = self.tried(script);
        assert_eq!(code, 0, "{script}\n{said}");
        said.trim_end().to_owned()
    }

    /// The same as a user with a session.
    fn sh_as(&self, user: &str, script: &str) -> (i32, String) {
        let output = self.outside(&["as", user, "bash", "-c", script]);
        (output.status.code().unwrap_or(-1), said(&output))
    }

    /// Waits until a script succeeds.
    pub(crate) fn until(&self, what: &str, script: &str) {
        let began = Instant::now();
        wait_for_within(PATIENT * 2, &format!("{what}: {script}"), || {
            let (code, _) = self.tried(script);
            assert!(code == 0 || began.elapsed() < PATIENT, "{what} in vain: {script}\n{}", self.scene());
            code == 0
        });
    }

    /// The names of what the host has got, a line each.
    fn received(&self) -> String {
        // It writes them down ten times a second; what it is writing now may be from before.
        for _ in 0..2 {
            self.sh("touch /srv/host/asked");
            self.until("the host's word", "test /srv/host/received -nt /srv/host/asked");
        }
        self.sh("cat /srv/host/received")
    }

    /// What the service and its host have done lately, for a step that failed.
    fn scene(&self) -> String {
        self.tried(
            "systemctl status --no-pager -n 0 pixchute; journalctl --no-pager -o short-precise -n 80; \
             ls -lA /srv /srv/drop; cat /srv/host/delay; tail -n 20 /srv/host/began",
        )
        .1
    }

    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show -P {name} {unit}"))
    }

    /// Writes a configuration with one folder for the host inside, and `more`.
    fn configure(&self, file: &str, folder: &str, more: &str) {
        let text = format!(
            "[server]\nlisten = \"off\"\n[[folder]]\npath = \"{folder}\"\nhost = \"pixhost\"\nsettle = \"200ms\"\n\
             [host.pixhost]\nbase_url = \"$(cat /srv/host/url)\"\n{more}"
        );
        self.sh(&format!("cat >/etc/pixchute/{file} <<END\n{text}\nEND"));
    }

    /// How many lines the manifest of a folder has.
    pub(crate) fn until_lines(&self, folder: &str, count: u32) {
        self.until("manifest lines", &format!("test $(wc -l <{folder}/manifest.jsonl) -ge {count}"));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn r29_the_service_of_the_machine_in_a_real_systemd() {
    let Some(inside) = Booted::up() else { return };
    let began = Instant::now();
    let step = |name: &str, step: fn(&Booted)| {
        step(&inside);
        eprintln!("{:>6.1} s  {name}", began.elapsed().as_secs_f64());
    };
    step("the package", package::installed);
    step("installing", installing);
    step("starting", starting);
    step("journal", journal);
    step("sandbox", sandbox::holds);
    step("a disk", sandbox::disk);
    step("reloading", reloading);
    step("stopping", stopping);
    step("freezing", freezing);
    step("a journal that stands still", silent_journal);
    step("a folder made anew", sandbox::made_anew);
    step("twenty restarts", restarting);
    step("upgrading", package::upgraded);
    step("a user", for_a_user);
    step("uninstalling", uninstalling);
    step("removing the package", package::removed);
}

/// A secret that is missing is asked for, a package's files are used, and a second time changes nothing.
fn installing(inside: &Booted) {
    inside.configure(
        "config.toml",
        "/srv/drop",
        "[host.keyed]\nrecipe = \"imgbb\"\napi_key = { credential = \"keyed\" }\n\
         [[folder]]\npath = \"/srv/absent\"\nhost = \"pixhost\"\n\
         [[folder]]\npath = \"/srv/disk\"\nhost = \"pixhost\"\nrequire_mount = true\n\
         [[hook]]\non = [\"failed\"]\nexec = [\"/bin/sh\", \"/srv/other/probe\"]\n",
    );
    let (code, said) = inside.tried("pixchute service install --system");
    assert!(code == 78 && said.contains("/etc/pixchute/credentials/keyed"), "{code}: {said}");
    inside.sh("echo very-secret | install -D -m 600 /dev/stdin /etc/pixchute/credentials/keyed");
    let said = inside.sh("pixchute service install --system --dry-run");
    assert!(said.contains("would run systemctl start pixchute.service"), "{said}");
    assert_eq!(inside.tried("systemctl is-active pixchute").0, 3);
    // Files that are there already are a part of being ready.
    inside.sh("cp /srv/pictures/few/[1-4]?.png /srv/drop");
    let said = inside.sh("pixchute service install --system");
    assert_eq!(said.matches("wrote ").count(), 1, "{said}");
    assert!(said.contains("wrote /etc/systemd/system/pixchute.service.d/50-folders.conf"), "{said}");
    let said = inside.sh("pixchute service install --system");
    assert_eq!(said, "pixchute.service runs, and its files are up to date");
    assert_eq!(inside.property("pixchute", "UnitFileState"), "enabled");
}

/// Ready comes after the first scan, an absent folder holds nothing up, and the line of status is live.
fn starting(inside: &Booted) {
    let id = Event::AgentReady.entry().message_id;
    // The log is written beside the work, so that it may come a moment later.
    inside.until("the word", &format!("test -n \"$(journalctl -q MESSAGE_ID={id} -u pixchute -o cat)\""));
    let events =
        inside.sh("journalctl -u pixchute -o json --output-fields=EVENT,FOLDER | grep -o '\"EVENT\":\"[a-z-]*'");
    let at = |name: &str| events.lines().position(|line| line.ends_with(name)).unwrap_or_else(|| panic!("{events}"));
    assert!(at("agent-started") < at("folder-watching") && at("folder-watching") < at("agent-ready"), "{events}");
    assert!(at("folder-absent") < at("agent-ready"), "{events}");
    let microseconds = |text: String| text.parse::<u64>().expect("a number");
    let ready = inside.sh(&format!("journalctl -o json MESSAGE_ID={id} | grep -o '_SOURCE_MONOTONIC_TIMESTAMP\":\"[0-9]*\\|__MONOTONIC_TIMESTAMP\":\"[0-9]*' | head -1 | grep -o '[0-9]*$'"));
    let active = microseconds(inside.property("pixchute", "ActiveEnterTimestampMonotonic"));
    let exec = microseconds(inside.property("pixchute", "ExecMainStartTimestampMonotonic"));
    assert!(exec < active && microseconds(ready).abs_diff(active) < 2_000_000, "{exec} {active}");
    for unit in ["network-online.target", "remote-fs.target"] {
        assert!(inside.property("pixchute", "After").contains(unit));
    }
    inside.until_lines("/srv/drop", 40);
    inside.until("a live line", "systemctl show -P StatusText pixchute | grep -q '; 40 uploaded'");
    // As root, with no word about where the agent listens.
    assert!(inside.sh("pixchute status").contains("/srv/drop"));
}

/// The queries of the README.
fn journal(inside: &Booted) {
    inside.sh("echo no picture >/srv/other/x.png && mv /srv/other/x.png /srv/drop/bad.png");
    let failed = Event::JobFailed.entry().message_id;
    inside.until("the failure", &format!("journalctl -u pixchute MESSAGE_ID={failed} | grep -q bad.png"));
    let uploads = inside.sh("journalctl -u pixchute SERVICE=pixhost -o cat | grep -c ' → '");
    assert_eq!(uploads, "40");
    let job = inside
        .sh("journalctl -u pixchute EVENT=job-uploaded FILE=10.png -o json | grep -o '\"JOB\":\"[A-Z0-9]*' | cut -c8-");
    let said = inside.sh(&format!("journalctl -u pixchute JOB={job} -o cat"));
    assert!(said.contains("10.png is queued for pixhost") && said.contains("10.png → http"), "{said}");
    let fields = inside.sh(&format!("journalctl JOB={job} EVENT=job-uploaded -o verbose"));
    for field in ["WORKER_ID=", "BYTES=", "DURATION_MS=", "ATTEMPT=1", "URL=http", "FOLDER=/srv/drop", "PRIORITY=6"] {
        assert!(fields.contains(field), "{field}: {fields}");
    }
    let said = inside.sh("journalctl -u pixchute -p warning -x");
    assert!(said.contains("Subject: bad.png was given up") && said.contains("What to do: read the message."), "{said}");
    assert!(said.contains("Subject: The folder /srv/absent is not there"), "{said}");
    assert!(!said.contains("10.png"), "{said}");
}

/// A reload says what has changed, or fails; SIGHUP does the same.
fn reloading(inside: &Booted) {
    let process = inside.property("pixchute", "MainPID");
    inside
        .sh("cp /etc/pixchute/config.toml /root/good && printf '[pool]\\nworkers = 5\\n' >>/etc/pixchute/config.toml");
    inside.sh("systemctl reload pixchute");
    assert!(inside.sh("journalctl -u pixchute -o cat").contains("pool.workers"), "the change is told");
    inside.sh("sed -i 's/workers = 5/workers = 0/' /etc/pixchute/config.toml");
    assert_ne!(inside.tried("systemctl reload pixchute").0, 0);
    inside.sh("cp /root/good /etc/pixchute/config.toml && systemctl kill -s HUP --kill-who=main pixchute");
    let reloaded = Event::ConfigReloaded.entry().message_id;
    inside.until("SIGHUP", &format!("test $(journalctl MESSAGE_ID={reloaded} -o cat | grep -c 'read again') -ge 2"));
    assert_eq!(inside.property("pixchute", "MainPID"), process);
    assert_eq!(inside.property("pixchute", "ActiveState"), "active");
    // A mistake is no reason to try again and again.
    inside.sh("echo '[pool' >>/etc/pixchute/config.toml");
    inside.tried("systemctl restart pixchute");
    inside.until("the end", "systemctl is-failed pixchute");
    assert_eq!(inside.property("pixchute", "ExecMainStatus"), "78");
    assert_eq!(inside.property("pixchute", "NRestarts"), "0");
    inside.sh("cp /root/good /etc/pixchute/config.toml && systemctl restart pixchute");
    // What was handed over at the start is not handed over again by a reload.
    inside.sh("echo very-secret-2 >/etc/pixchute/credentials/keyed");
    let said = inside.sh("pixchute service install --system");
    assert!(said.contains("a secret has changed") && said.contains("ran systemctl restart pixchute.service"), "{said}");
    inside.sh("grep -q very-secret-2 /run/credentials/pixchute.service/keyed");
}

/// A stop waits for running uploads, also for longer than the unit's own limit.
fn stopping(inside: &Booted) {
    inside.sh("mkdir -p /run/systemd/system/pixchute.service.d && \
         printf '[Service]\\nTimeoutStopSec=2\\n' >/run/systemd/system/pixchute.service.d/90-short.conf && \
         systemctl daemon-reload && systemctl restart pixchute && echo 5000 >/srv/host/delay");
    inside.sh("cp /srv/pictures/few/20[0-3].png /srv/drop");
    inside.until("running uploads", "test \"$(cat /srv/host/began 2>/dev/null | grep -c '^20[0-3].png')\" = 4");
    inside.sh("systemctl stop pixchute");
    assert_eq!(inside.property("pixchute", "Result"), "success");
    assert_eq!(inside.sh("ls /srv/drop/done | grep -c '^20[0-3].png$'"), "4");
    inside.sh("rm -r /run/systemd/system/pixchute.service.d && systemctl daemon-reload");
    inside.sh("echo 0 >/srv/host/delay && systemctl start pixchute");
    let received: Vec<String> = inside.received().lines().map(ToOwned::to_owned).collect();
    assert_eq!(received.iter().collect::<BTreeSet<_>>().len(), received.len(), "nothing is sent twice");
}

/// Each part stands still in an agent of its own, and is started anew; one in which none does goes on.
fn freezing(inside: &Booted) {
    inside.sh(
        "mkdir -p /etc/systemd/system/pixchute@.service.d && printf '%s\\n' '[Service]' WatchdogSec=3 RestartSec=1h \
         Environment=PIXCHUTE_TEST_FREEZE=%i >/etc/systemd/system/pixchute@.service.d/90-test.conf",
    );
    let all: Vec<&str> = PARTS.into_iter().chain(["nothing"]).collect();
    for part in &all {
        inside.sh(&format!("install -d -o pixchute /srv/{part}"));
        inside.configure(&format!("{part}.toml"), &format!("/srv/{part}"), "");
        inside.sh(&format!("pixchute service install --system --instance {part}"));
    }
    for part in PARTS {
        inside.until(part, &format!("test $(systemctl show -P Result pixchute@{part}) = watchdog"));
        inside.until(part, &format!("test $(systemctl show -P SubState pixchute@{part}) = auto-restart"));
        let named = if part == "watcher" { "the watch of /srv/watcher" } else { part };
        let said = inside.sh(&format!("journalctl -u pixchute@{part} -o cat"));
        assert!(said.contains(named) && said.contains("made no round"), "{part}: {said}");
    }
    assert_eq!(inside.property("pixchute@nothing", "ActiveState"), "active");
    assert_eq!(inside.property("pixchute@nothing", "NRestarts"), "0");
    assert!(inside.sh("pixchute --config /etc/pixchute/nothing.toml status").contains("/srv/nothing"));
    for part in &all {
        inside.sh(&format!("pixchute service uninstall --system --instance {part}"));
    }
    inside.sh("rm -r /etc/systemd/system/pixchute@.service.d && systemctl daemon-reload && systemctl reset-failed");
}

/// A journal that stands still holds up no upload, and gets the lines when it goes on.
fn silent_journal(inside: &Booted) {
    inside.sh("systemctl kill -s STOP systemd-journald");
    let lines: u32 = inside.sh("wc -l </srv/drop/manifest.jsonl").trim().parse().expect("a number");
    inside.sh("cp /srv/pictures/few/[3-6]??.png /srv/drop");
    inside.until_lines("/srv/drop", lines + 400);
    inside.sh("systemctl kill -s CONT systemd-journald");
    inside.until(
        "a line for each",
        "test $(journalctl EVENT=job-uploaded -o json | grep -o '\"FILE\":\"[3-6][0-9][0-9].png' | sort -u | wc -l) = 400",
    );
}

/// Twenty restarts in the middle of a thousand uploads.
fn restarting(inside: &Booted) {
    inside.sh(
        "echo 30 >/srv/host/delay && cp -r /srv/pictures/many /srv/other && chown -R pixchute /srv/other/many && mv /srv/other/many /srv/drop",
    );
    for restart in 1..=20 {
        let done = restart * 25;
        inside.until("uploads", &format!("test $(ls /srv/drop/done/many 2>/dev/null | grep -c 'png$') -ge {done}"));
        inside.sh("systemctl restart pixchute");
    }
    inside.sh("echo 0 >/srv/host/delay");
    inside.until("all of them", &format!("test $(ls /srv/drop/done/many | grep -c 'png$') -ge {MANY}"));
    inside.sh("systemctl stop pixchute");
    let received = inside.received();
    let of_many =
        |name: &&str| name.strip_suffix(".png").is_some_and(|number| number.parse().is_ok_and(|n: u32| n >= FEW));
    let names: Vec<&str> = received.lines().filter(of_many).collect();
    assert_eq!(names.len(), MANY as usize, "each was sent once");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "none twice");
    let lines = inside.sh("grep -c '\"file\":\"many/[0-9]*.png\".*\"url\":\"http' /srv/drop/manifest.jsonl; grep -o '\"file\":\"many/[0-9]*.png\"' /srv/drop/manifest.jsonl | sort | uniq -d");
    assert_eq!(lines, MANY.to_string(), "each has one line");
    inside.sh("systemctl start pixchute");
}

/// `systemctl --user`, with a package's unit and with the program in a place of the user's own.
fn for_a_user(inside: &Booted) {
    inside.sh("useradd -m -u 1777 ada && systemctl start user@1777 && rm -rf /srv/own && mkdir -p /srv/own && cp /usr/bin/pixchute /srv/own");
    let script = "set -e; cd; mkdir -p Drop .config/pixchute/credentials; umask 077
        cat >.config/pixchute/config.toml <<END
[server]
listen = \"off\"
[[folder]]
path = \"~/Drop\"
host = \"local\"
[host.x]
recipe = \"imgbb\"
api_key = { credential = \"x\" }
END
        sed -i 's/listen = \"off\"/listen = \"127.0.0.1:8499\"/' .config/pixchute/config.toml
        echo secret >.config/pixchute/credentials/x
        pixchute service install
        test ! -e .config/systemd/user/pixchute.service
        pixchute service status";
    let (code, said) = inside.sh_as("ada", script);
    assert!(code == 0 && said.contains("ActiveState=active"), "{code}: {said}");
    assert_eq!(inside.sh_as("ada", "cp /srv/pictures/few/150.png ~/Drop").0, 0);
    inside.until("the user's upload", "grep -q 150.png /home/ada/Drop/manifest.jsonl");
    let (code, said) = inside.sh_as("ada", "pixchute status && systemctl --user reload pixchute && journalctl --user -u pixchute EVENT=job-uploaded -o cat");
    assert!(code == 0 && said.contains("150.png → "), "{said}");
    let main = inside.sh_as("ada", "systemctl --user show -P MainPID pixchute").1;
    let touch = format!("nsenter -t {} -m touch /home/ada/x", main.trim());
    let (code, said) = inside.tried(&touch);
    assert!(code != 0 && said.contains("Read-only file system"), "{said}");
    // Another program takes the place of the package's, and a changed file is left alone.
    let (code, said) =
        inside.sh_as("ada", "/srv/own/pixchute service install && systemctl --user show -P ExecStart pixchute");
    assert!(code == 0 && said.contains("path=/srv/own/pixchute"), "{said}");
    let (code, said) = inside.sh_as(
        "ada",
        "echo '# mine' >>~/.config/systemd/user/pixchute.service; /srv/own/pixchute service install && exit 9
         /srv/own/pixchute service uninstall && exit 9; tail -1 ~/.config/systemd/user/pixchute.service
         /srv/own/pixchute service uninstall --force && /srv/own/pixchute service uninstall",
    );
    assert!(code == 0 && said.contains("# mine") && said.contains("nothing is installed"), "{code}: {said}");
}

fn uninstalling(inside: &Booted) {
    let said = inside.sh("pixchute service uninstall --system");
    assert!(said.contains("removed /etc/systemd/system/pixchute.service.d/50-folders.conf"), "{said}");
    assert_eq!(inside.tried("systemctl is-active pixchute").0, 3);
    assert_eq!(
        inside.sh("test -e /etc/pixchute/config.toml && test -e /var/lib/pixchute/ledger.sqlite && echo kept"),
        "kept"
    );
    assert!(inside.tried("pixchute service status --system").0 == 69);
}

#[test]
#[ignore = "the host that runs inside the box; not a test"]
fn the_host_inside() {
    let Some(dir) = std::env::var_os(HOST_DIR).map(PathBuf::from) else { return };
    let state = Arc::new(dir.clone());
    let host = FakeHost::start(move |name| {
        let delay = fs::read_to_string(state.join("delay")).unwrap_or_default();
        if !name.is_empty() {
            use std::io::Write;
            let began = fs::OpenOptions::new().create(true).append(true).open(state.join("began"));
            // In one piece: uploads begin at once, and lines written in two are mixed up.
            let _ = began.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
        }
        match delay.trim().parse() {
            Ok(milliseconds) if milliseconds > 0 => Reply::StoredAfter(Duration::from_millis(milliseconds)),
            _ => Reply::Stored,
        }
    });
    fs::write(dir.join("url"), host.url()).expect("writes");
    loop {
        let names: Vec<String> = host.received().into_iter().map(|received| received.file_name + "\n").collect();
        fs::write(dir.join("received.new"), names.concat()).expect("writes");
        #[expect(clippy::disallowed_methods, reason = "replaces a file whole")]
        fs::rename(dir.join("received.new"), dir.join("received")).expect("renames");
        std::thread::sleep(Duration::from_millis(100));
    }
}
