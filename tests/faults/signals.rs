//! The process is told to end, is stopped for a while, or has nobody who reads what it says.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scene::{Ended, Scene, all};
use crate::support::host::Reply;
use crate::support::{png, wait_for};

fn slow_scene() -> Scene {
    Scene::with_host(|_| Reply::StoredAfter(Duration::from_millis(30)), "[pool]\ndrain = \"2s\"\n", "")
}

#[test]
fn r23_sigterm_at_any_moment_ends_soon_and_loses_nothing() {
    let moments = if all() { 120 } else { 12 };
    for moment in 0..moments {
        let scene = slow_scene();
        let agent = scene.home.start();
        std::thread::sleep(Duration::from_millis(400) * moment / moments);
        agent.stop();
        // A signal before the agent listens for signals ends it like any other program; what was under way is sent again.
        assert_eq!(scene.settle(1).map_err(|problems| (moment, problems)).map(|_| ()), Ok(()));
    }
}

#[test]
fn r23_two_sigterms_at_any_moment_end_at_once_and_lose_nothing() {
    let moments = if all() { 120 } else { 12 };
    for moment in 0..moments {
        let scene = slow_scene();
        let mut agent = scene.home.start();
        std::thread::sleep(Duration::from_millis(400) * moment / moments);
        agent.signal("-TERM");
        let _ = Command::new("kill").args(["-TERM", &agent.child.id().to_string()]).stderr(Stdio::null()).status();
        agent.wait();
        assert_eq!(scene.settle(1).map_err(|problems| (moment, problems)).map(|_| ()), Ok(()));
    }
}

#[test]
fn r28_a_process_that_was_stopped_longer_than_its_deadlines_goes_on_as_if_nothing_had_been() {
    let deadlines = "[pool]\nstall_timeout = \"2s\"\nfile_timeout = \"3s\"\nrequest_timeout = \"3s\"\n";
    let scene = Scene::with_host(|_| Reply::StoredAfter(Duration::from_millis(700)), deadlines, "");
    let agent = scene.home.start().ready();
    wait_for("files on their way", || !scene.host.received().is_empty());
    agent.signal("-STOP");
    std::thread::sleep(Duration::from_secs(4));
    agent.signal("-CONT");
    wait_for("everything to be recorded", || scene.problems(0).is_empty());
    assert_eq!(scene.home.events("job-timeout").len() + scene.home.events("job-deferred").len(), 0);
    assert!(agent.stop().success());
}

#[test]
fn r29_a_log_that_nobody_reads_stops_nothing() {
    let scene = Scene::empty("[log]\nlevel = \"debug\"\n", "");
    // Far more than a pipe holds.
    for index in 0..300 {
        scene.home.drop_file(format!("many-{index}.png"), &png(1000 + index));
    }
    let mut command = scene.home.command();
    command.args(["--config", "config.toml", "run"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    wait_for("all to be done", || scene.home.manifest_lines() == 300);
    assert!(Command::new("kill").arg(child.id().to_string()).status().expect("kill runs").success());
    let mut status = None;
    wait_for("its end", || {
        status = child.try_wait().expect("its state");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "it ends too");
}

#[test]
fn r29_a_dead_standard_output_stops_nothing() {
    for closed in [">&- 2>&-", "<&- >&- 2>&-", "> /dev/full 2> /dev/full", "2>&1 | true"] {
        let scene = Scene::new();
        let once = scene.once();
        let mut shell = scene.home.command();
        let words: Vec<String> = once.get_args().map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let program = once.get_program().to_string_lossy().into_owned();
        shell = {
            let mut sh = Command::new("sh");
            sh.arg("-c").arg(format!("'{program}' {} {closed}", words.join(" "))).env_clear();
            sh.envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
            sh.current_dir(scene.home.dir.path());
            sh
        };
        assert!(matches!(scene.run(&mut shell), Ended::Code(_)), "{closed}");
        let log = fs::read_to_string(scene.home.path("agent.log")).unwrap_or_default();
        assert_eq!(scene.problems(0), Vec::<String>::new(), "{closed}: {log}");
    }
}
