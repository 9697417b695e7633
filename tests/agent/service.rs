//! What a service manager is told.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::host::FakeHost;
use crate::support::{Home, SOON, png, wait_for};

/// How long silence must last: five times as long as the agent takes for a round.
const SILENCE: Duration = Duration::from_secs(2);

/// An agent under a service manager that waits 1.2 s for a sign of life.
struct Service {
    home: Home,
    socket: UnixDatagram,
    child: Child,
    _host: FakeHost,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(freeze: &str) -> Self {
        let (home, host) = (Home::new(), FakeHost::well());
        home.configure(&host, "");
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let log = std::fs::File::create(home.path("agent.log")).expect("a log");
        let child = home
            .command()
            .args(["--config", "config.toml", "run"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "1200000")
            .env("PIXCHUTE_TEST_FREEZE", freeze)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        Self { home, socket, child, _host: host }
    }

    /// The next message within `limit`.
    fn next(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("set");
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Reads messages up to one that has this.
    fn until(&self, wanted: &str) -> String {
        loop {
            let message = self.next(SOON).unwrap_or_else(|| panic!("nobody said {wanted}"));
            if message.contains(wanted) {
                return message;
            }
        }
    }
}

#[test]
fn r29_a_service_manager_hears_ready_a_line_of_status_and_signs_of_life() {
    let service = Service::start("");
    service.until("READY=1");
    service.until("WATCHDOG=1");
    service.home.drop_file("x.png", &png(1));
    let line = service.until("; 1 uploaded");
    assert!(line.starts_with("STATUS=") && line.contains("of 8 workers busy"), "{line}");
    (0..5).for_each(|_| drop(service.until("WATCHDOG=1")));
    let ended = std::process::Command::new("kill").args(["-TERM", &service.child.id().to_string()]).status();
    assert!(ended.expect("kill runs").success());
    service.until("STOPPING=1");
    service.until("EXTEND_TIMEOUT_USEC=");
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end_whatever_comes_of_it() {
    let service = Service::start("");
    // Until it is ready the start has time as long as it makes progress.
    service.until("EXTEND_TIMEOUT_USEC=");
    service.until("READY=1");
    let hang_up = || {
        let sent = std::process::Command::new("kill").args(["-HUP", &service.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        let began = service.until("RELOADING=1");
        assert!(began.contains("MONOTONIC_USEC="), "{began}");
        service.until("READY=1");
    };
    hang_up();
    std::fs::write(service.home.path("config.toml"), "[pool]\nworkers = \"many\"").expect("writes");
    hang_up();
    wait_for("both in the log", || {
        let log = std::fs::read_to_string(service.home.path("agent.log")).expect("a log");
        log.contains("config-reloaded") && log.contains("config-rejected")
    });
}

#[test]
fn r29_whatever_stands_still_there_is_no_sign_of_life_any_more() {
    let parts = [
        ("scheduler", "the scheduler"),
        ("watcher", "the watch of"),
        ("recorder", "the recorder"),
        ("ledger", "the ledger"),
    ];
    for (freeze, named) in parts {
        let service = Service::start(freeze);
        service.until("WATCHDOG=1");
        while let Some(message) = service.next(SILENCE) {
            assert!(!message.contains("WATCHDOG=1"), "{freeze}: {message}");
        }
        let log = std::fs::read_to_string(service.home.path("agent.log")).expect("a log");
        assert!(log.contains(named) && log.contains("made no round"), "{freeze}:\n{log}");
    }
}
