//! `pixchute status --check`: is anything wrong that somebody should look at? Pure.

use std::time::Duration;

use super::out::safe;
use crate::clock::WallTime;
use crate::control::human;
use crate::control::model::{FolderStatus, Status};

/// Everything that is wrong, a line each; nothing when all is well. A file may wait, rest or settle for `max_age`.
pub(super) fn problems(status: &Status, max_age: Duration) -> Vec<String> {
    let mut found = Vec::new();
    let up = status.now.since(status.started_at);
    match status.state.as_str() {
        "ready" => {}
        "starting" if up <= max_age => {}
        state => found.push(format!("the agent is {} since {}", safe(state), human::age(up))),
    }
    if let Some(reason) = &status.blocked {
        found.push(format!("nothing is sent: {}", safe(reason)));
    }
    for folder in &status.folders {
        of_folder(folder, status.now, max_age, &mut found);
    }
    for host in &status.hosts {
        if matches!(host.state.as_str(), "circuit-open" | "suspect") {
            let error = host.last_error.as_deref().unwrap_or("it fails again and again");
            found.push(format!("{} gets nothing for now ({}): {}", safe(&host.name), safe(&host.state), safe(error)));
        }
        let refused = host.last_error.as_deref().filter(|error| error.starts_with("account"));
        if let (Some(error), Some(_)) = (refused, host.paused_until) {
            found.push(format!("{}: {}", safe(&host.name), safe(error)));
        }
    }
    found
}

fn of_folder(folder: &FolderStatus, now: WallTime, max_age: Duration, found: &mut Vec<String>) {
    let path = safe(&folder.path.to_string_lossy());
    match (folder.watch.as_str(), folder.watch_reason.as_deref()) {
        ("absent", reason) => found.push(format!("{path} is not there: {}", safe(reason.unwrap_or("unknown")))),
        // Watched, and yet there is something to say: its manifest.
        ("native", Some(reason)) => found.push(format!("{path}: {}", safe(reason))),
        _ => {}
    }
    let times = &folder.oldest_at;
    let states = [
        ("waits", times.waiting),
        ("is being sent", times.started),
        ("is not on record", times.uploaded),
        ("rests", times.cooling),
    ];
    for (state, oldest) in states {
        let Some(age) = oldest.map(|oldest| now.since(oldest)).filter(|age| *age > max_age) else { continue };
        let error = folder.last_error.as_ref().map(|error| format!("; last error: {}", safe(&error.message)));
        found.push(format!(
            "{path}: a file has no link for {} and {state}{}",
            human::age(age),
            error.unwrap_or_default()
        ));
    }
    for file in folder.settling.iter().filter(|file| now.since(file.since) > max_age) {
        let since = human::age(now.since(file.since));
        found.push(format!("{path}: {} is settling for {since} and does not come to its end", safe(&file.file)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::control::model::{ErrorStatus, PoolStatus, SettlingStatus};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(seconds: i64) -> WallTime {
        WallTime::from_millis(1_795_435_200_000 + seconds * 1000)
    }

    /// A healthy agent with one folder, changed by `change`.
    fn status(change: impl FnOnce(&mut Status, &mut FolderStatus)) -> Status {
        let mut folder = FolderStatus {
            path: PathBuf::from("/drop"),
            host: "h".into(),
            watch: "native".into(),
            watch_reason: None,
            settling: Vec::new(),
            settling_total: 0,
            unreadable: Vec::new(),
            counts: crate::control::model::StageCounts::default(),
            oldest_open_at: None,
            oldest_at: crate::control::model::StageTimes::default(),
            last_success_at: None,
            last_error: None,
            next_due_at: None,
            overflows: 0,
            held_since: None,
            manifest: PathBuf::from("/drop/manifest.jsonl"),
        };
        let mut status = Status {
            version: "0.1.0".into(),
            pid: 1,
            state: "ready".into(),
            started_at: at(-7_200),
            now: at(0),
            config: None,
            gallery: None,
            blocked: None,
            pool: PoolStatus::default(),
            folders: Vec::new(),
            hosts: Vec::new(),
            attempts: Vec::new(),
            recent: Vec::new(),
        };
        change(&mut status, &mut folder);
        status.folders.push(folder);
        status
    }

    #[test]
    fn r29_what_is_well_is_well_and_what_is_not_is_named() {
        assert_eq!(problems(&status(|_, _| {}), HOUR), Vec::<String>::new());
        let polled = status(|_, folder| {
            folder.watch = "poll".into();
            folder.watch_reason = Some("a network share".into());
        });
        assert_eq!(problems(&polled, HOUR), Vec::<String>::new(), "polling is no error");
        let cases = [
            (status(|s, _| s.blocked = Some("disk full".into())), "nothing is sent: disk full"),
            (status(|s, _| s.state = "stopping".into()), "the agent is stopping since 2 h"),
            (status(|_, f| f.watch = "absent".into()), "/drop is not there: unknown"),
            (
                status(|_, f| f.watch_reason = Some("its manifest cannot be written".into())),
                "/drop: its manifest cannot be written",
            ),
            (
                status(|_, f| {
                    f.oldest_at.cooling = Some(at(-7_300));
                    f.last_error = Some(ErrorStatus { at: at(-60), message: "connect: refused".into() });
                }),
                "/drop: a file has no link for 2 h and rests; last error: connect: refused",
            ),
            (
                status(|_, f| {
                    f.settling.push(SettlingStatus { file: "x.jpg".into(), since: at(-3_601), last_change: at(0) });
                }),
                "/drop: x.jpg is settling for 1 h and does not come to its end",
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(problems(&status, HOUR), [expected]);
        }
        let young = status(|_, f| f.oldest_at.waiting = Some(at(-3_600)));
        assert_eq!(problems(&young, HOUR), Vec::<String>::new());
        assert_eq!(problems(&young, Duration::from_secs(60)).len(), 1);
    }
}
