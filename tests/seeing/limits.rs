//! The kernel's limits: watches, instances, its queue of events.

use std::fs;
use std::process::Command;

use crate::namespace::{quietly, start_under};
use crate::support::host::FakeHost;
use crate::support::{Home, png, wait_for};

/// What starts the agent in a user namespace with these limits of its own; `None`, with the reason said, where that is
/// not allowed.
fn with_limits(test: &str, limits: &str) -> Option<Vec<String>> {
    let line = format!("{limits}; exec \"$0\" \"$@\"");
    let prefix = ["unshare", "--user", "--map-root-user", "sh", "-ec", &line].map(str::to_owned).to_vec();
    let mut can = Command::new(&prefix[0]);
    can.args(&prefix[1..]).arg("true");
    if !quietly(can) {
        eprintln!("SKIPPED: {test}: limits of one's own need Linux and user namespaces");
        return None;
    }
    Some(prefix)
}

fn start(home: &Home, prefix: &[String]) -> crate::support::Agent {
    start_under(home, &prefix.iter().map(String::as_str).collect::<Vec<_>>()).ready()
}

#[test]
fn r4_directories_beyond_the_limit_are_polled_and_one_line_says_what_to_set() {
    let Some(prefix) = with_limits("r4_directories", "echo 10 > /proc/sys/user/max_inotify_watches") else { return };
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_folder(&host, "", "poll_interval = \"1s\"");
    for n in 0..30 {
        fs::create_dir(home.drop().join(n.to_string())).expect("a folder");
    }
    let _agent = start(&home, &prefix);
    for n in 0..30 {
        fs::write(home.drop().join(n.to_string()).join("x.png"), png(n)).expect("writes");
    }
    home.wait_for_finals(30);
    let told = home.events("watch-limit");
    let message = told[0]["message"].as_str().expect("a message");
    assert!(message.contains("is reached: 10") && message.contains("sysctl -w user.max_inotify_watches="), "{message}");
    assert_eq!(told.len(), 1, "once, although many scans have gone by");
    let (_, status, _) = home.run(&["--config", "config.toml", "status"]);
    assert!(status.contains("poll because 21 directories are polled"), "{status}");
}

#[test]
fn r4_without_any_watcher_everything_is_polled() {
    let Some(prefix) = with_limits("r4_without", "echo 0 > /proc/sys/user/max_inotify_instances") else { return };
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_folder(&host, "", "poll_interval = \"1s\"");
    let _agent = start(&home, &prefix);
    home.drop_file("a.png", &png(1));
    home.wait_for_finals(1);
    let told = home.events("watch-limit");
    let message = told[0]["message"].as_str().expect("a message");
    assert!(message.contains("sysctl -w user.max_inotify_instances="), "{message}");
}

#[test]
fn r3_what_happens_while_the_agent_stands_still_overflows_the_queue_and_is_found_by_a_scan() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").ok();
    let Some(limit) = limit.and_then(|text| text.trim().parse::<usize>().ok()).filter(|limit| *limit <= 32_768) else {
        eprintln!("SKIPPED: r3_what_happens: no inotify here, or a queue too long to be filled in a test");
        return;
    };
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_folder(&host, "", "rescan = \"1h\"");
    let agent = home.start().ready();
    agent.signal("-STOP");
    // The name alternates: an event that is equal to the last one in the queue is not queued.
    for n in 0..limit {
        fs::File::create(home.drop().join(["a.txt", "b.txt"][n % 2])).expect("creates");
    }
    for n in 0..20 {
        fs::write(home.drop().join(format!("{n}.png")), png(n)).expect("writes");
    }
    agent.signal("-CONT");
    home.wait_for_finals(20);
    assert_eq!(home.events("watch-overflow").len(), 1, "one warning per burst");
    wait_for("each once", || host.received().len() == 20);
}
