//! `doctor` and `check --online`: what is well, what is not, and that asking leaves no trace.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::support::Home;
use crate::support::host::FakeHost;

/// A host like imgur: tells the time of `Date`, knows one client id, and takes no upload. Gives its address.
fn imgur(date: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines().map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let known = head.iter().any(|line| line.eq_ignore_ascii_case("authorization: Client-ID CANARY-right"));
            let (status, body) = match head.first().map(String::as_str) {
                Some("HEAD / HTTP/1.1") => (302, ""),
                Some("GET /3/credits HTTP/1.1") if known => {
                    (200, r#"{"data":{"ClientRemaining":12500},"success":true}"#)
                }
                Some("GET /3/credits HTTP/1.1") => (403, r#"{"data":{"error":"Invalid client_id"},"success":false}"#),
                other => panic!("doctor asked for {other:?}"),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ndate: {date}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    url
}

fn now() -> String {
    httpdate::fmt_http_date(fs::metadata("/proc/self").and_then(|it| it.modified()).unwrap_or_else(|_| {
        tempfile::NamedTempFile::new()
            .expect("a file")
            .as_file()
            .metadata()
            .expect("its times")
            .modified()
            .expect("one")
    }))
}

fn config(home: &Home, hosts: &str, folder: &str) {
    let (drop, ledger) = (home.drop(), home.path("ledger.sqlite"));
    home.write_config(&format!(
        "[server]\nlisten = 'off'\n[pool]\nrequest_timeout = '1s'\n[ledger]\nurl = 'sqlite://{}'\n\
         [[folder]]\npath = {drop:?}\n{folder}\n{hosts}",
        ledger.display()
    ));
}

/// Exit code and findings: check, subject, state, message with remedy.
fn doctor(home: &Home) -> (i32, Vec<[String; 4]>) {
    let (code, out, err) = home.run(&["--config", "config.toml", "doctor", "--json"]);
    assert!(!format!("{out}{err}").contains("CANARY"), "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().expect("findings").iter();
    let findings = findings.map(|it| {
        [
            text(&it["check"]),
            text(&it["subject"]),
            text(&it["state"]),
            format!("{} -> {}", text(&it["message"]), text(&it["remedy"])),
        ]
    });
    (code, findings.collect())
}

#[track_caller]
fn has(findings: &[[String; 4]], check: &str, subject: &str, state: &str, message: &str) {
    let fits =
        |it: &&[String; 4]| it[0] == check && it[1].contains(subject) && it[2] == state && it[3].contains(message);
    assert!(findings.iter().any(|it| fits(&it)), "no {check} {subject} {state} {message} in {findings:#?}");
}

#[test]
fn r8_a_machine_that_is_well_gets_a_clean_bill_and_keeps_no_trace() {
    let (home, url) = (Home::new(), imgur(now()));
    config(&home, &format!("[host.imgur]\nclient_id = 'CANARY-right'\nbase_url = '{url}'\n"), "host = 'imgur'");
    let (code, findings) = doctor(&home);
    assert_eq!(code, 0, "{findings:#?}");
    let drop = home.drop().display().to_string();
    has(&findings, "config", "", "ok", "1 folders, 1 hosts");
    has(&findings, "agent", "", "note", "no agent is running");
    has(&findings, "ledger", "ledger.sqlite", "note", "does not exist yet");
    has(&findings, "events", &drop, "ok", "a new file was reported after");
    has(&findings, "places", &drop, "ok", "done, retry and failed can be written");
    has(&findings, "files", "", "ok", "may open");
    has(&findings, "disk", "", "ok", "are free");
    has(&findings, "reach", "imgur", "ok", "answered in plain http");
    has(&findings, "account", "imgur", "ok", "takes the account");
    has(&findings, "clock", "", "ok", "agrees with that of imgur");
    assert_eq!(home.files(), [""; 0], "nothing is left, and nothing was made");
    assert!(!home.drop().join("done").exists() && !home.path("ledger.sqlite").exists());
    let (code, out, _) = home.run(&["--config", "config.toml", "check", "--online"]);
    assert!(code == 0 && out.contains("takes the account") && !out.contains("CANARY"), "{out}");
}

#[test]
fn r8_a_running_agent_is_recognised_and_does_not_take_what_doctor_makes() {
    let (home, host) = (Home::new(), FakeHost::well());
    home.configure(&host, "");
    let agent = home.start().ready();
    for _ in 0..3 {
        let (code, out, err) = home.run(&["--config", "config.toml", "doctor", "--offline"]);
        assert_eq!(code, 0, "{out}{err}");
        for line in [
            "ok       agent     process",
            "is held by the running agent",
            "a new file was reported",
            "the agent may open",
        ] {
            let told = cfg!(target_os = "linux") || !line.contains("may open");
            assert!(!told || out.contains(line), "{line}\n{out}");
        }
        if cfg!(target_os = "linux") {
            assert!(out.contains("the running agent sees it as we do"), "{out}");
        }
    }
    home.drop_file("after.png", &crate::support::png(1));
    home.wait_for_line("after.png", 1);
    assert_eq!((home.manifest_lines(), host.received().len()), (1, 1));
    assert!(agent.stop().success());
}

#[test]
fn what_is_wrong_is_told_with_its_remedy() {
    let home = Home::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (wrong, late) = (imgur(now()), imgur("Tue, 01 Jul 2008 00:00:00 GMT".into()));
    let plain = imgur(now()).replace("http:", "https:");
    let silent_at = silent.local_addr().expect("an address");
    let hosts = format!(
        "[host.wrong]\nrecipe = 'imgur'\nclient_id = 'CANARY-wrong'\nbase_url = '{wrong}'\n\
         [host.closed]\nrecipe = 'imgur'\nclient_id = 'CANARY-right'\nbase_url = 'http://{closed}'\n\
         [host.silent]\nrecipe = 'imgur'\nclient_id = 'CANARY-right'\nbase_url = 'http://{silent_at}'\n\
         [host.plain]\nrecipe = 'imgur'\nclient_id = 'CANARY-right'\nbase_url = '{plain}'\n\
         [host.nowhere]\nrecipe = 'imgur'\nclient_id = 'CANARY-right'\nbase_url = 'https://pixchute.invalid'\n\
         [[folder]]\npath = '/no/such/folder'\nhost = 'wrong'\n"
    );
    config(&home, &hosts, "host = 'closed'\ndone = '/proc/no/place'");
    fs::write(home.path("ledger.sqlite"), b"SQLite format 3\0 and then nothing of the kind").expect("a ledger");
    let (code, findings) = doctor(&home);
    assert_eq!(code, 1, "{findings:#?}");
    has(&findings, "account", "wrong", "failed", "Invalid client_id");
    has(&findings, "reach", "closed", "failed", "cannot be connected to");
    has(&findings, "reach", "silent", "failed", "gives no answer");
    has(&findings, "tls", "plain", "failed", "no encryption could be agreed on");
    has(&findings, "dns", "nowhere", "failed", "the name pixchute.invalid cannot be looked up");
    has(&findings, "folder", "/no/such/folder", "warning", "mkdir -p '/no/such/folder'");
    has(&findings, "ledger", "ledger.sqlite", "warning", "is damaged");
    if cfg!(target_os = "linux") {
        has(&findings, "places", "drop", "failed", "no file can be made in /proc/no/place");
    }
    has(&findings, "clock", "", "ok", "agrees with that of wrong");
    let kept = fs::read(home.path("ledger.sqlite")).expect("still there");
    assert_eq!(kept, b"SQLite format 3\0 and then nothing of the kind");
    assert!(findings.iter().all(|it| !matches!(it[2].as_str(), "failed" | "warning") || !it[3].ends_with("-> ")));

    config(&home, &format!("[host.imgur]\nclient_id = 'CANARY-right'\nbase_url = '{late}'\n"), "host = 'imgur'");
    has(&doctor(&home).1, "clock", "", "failed", "from that of imgur");
}

#[test]
fn doctor_works_without_a_configuration_and_with_a_broken_one() {
    let home = Home::new();
    let (code, out, err) = home.run(&["doctor"]);
    assert!(code == 0 && out.contains("there is none") && out.contains("disk"), "{out}{err}");
    home.write_config("[pool]\nworkers = 0\n");
    let (code, findings) = doctor(&home);
    assert_eq!(code, 78);
    has(&findings, "config", "", "failed", "it cannot be used: ");
    has(&findings, "files", "", "ok", "may open");
}
