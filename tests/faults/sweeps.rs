//! The sweeps: every call of a kind in a run, one after the other, fails; or the process dies at it.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::scene::{Ended, Scene, all};
use crate::strace::{Fault, missing};

/// Every so many moments are tried unless all are: what a push can wait for.
const SAMPLE: usize = 13;

/// Trials at a time.
const AT_ONCE: usize = 2;

/// The calls that change something, or that open something: each fails in every way that is possible for it.
const CALLS: &[(&str, &[&str])] = &[
    ("write", &["EIO", "ENOSPC", "EDQUOT"]),
    ("pwrite64", &["EIO", "ENOSPC", "EDQUOT"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("ftruncate", &["EIO", "EROFS"]),
    ("renameat2", &["EIO", "ENOSPC", "EROFS", "EXDEV"]),
    ("rename", &["EIO", "ENOSPC", "EROFS"]),
    ("unlink,unlinkat", &["EIO", "EROFS"]),
    ("mkdir", &["EIO", "ENOSPC", "EROFS"]),
    ("open,openat", &["EIO", "EMFILE", "ENOSPC", "EROFS"]),
    ("read", &["EIO"]),
    ("pread64", &["EIO"]),
    ("getdents64", &["EIO"]),
    ("statx,newfstatat", &["EIO"]),
    ("socket", &["EMFILE"]),
    ("connect", &["ECONNREFUSED", "ENETUNREACH"]),
    ("writev,sendto", &["EPIPE", "ECONNRESET"]),
    ("recvfrom", &["ECONNRESET"]),
];

/// What a sweep has seen.
#[derive(Default)]
struct Figures {
    tried: AtomicUsize,
    restarts: AtomicUsize,
    failures: Mutex<String>,
}

/// One trial; false when the fault was never met, because the run has fewer such calls.
fn trial(fault: &Fault, figures: &Figures) -> bool {
    let scene = Scene::new();
    let ended = scene.run(&mut fault.around(&scene, &scene.once()));
    let hits = Fault::hits(&scene);
    let killed = fault.what.starts_with("signal");
    if (killed && ended != Ended::Killed) || (!killed && hits.is_empty()) {
        return false;
    }
    figures.tried.fetch_add(1, Ordering::Relaxed);
    let log = std::fs::read_to_string(scene.home.path("agent.log")).unwrap_or_default();
    // Threads are woken with eventfds. That is no file, and never fails; told that it did, the process may end.
    let no_file = hits.iter().any(|hit| hit.contains("eventfd"));
    let mut problems = match ended {
        Ended::Hung => vec!["it hangs".to_owned()],
        Ended::Killed if !killed && !no_file => vec!["it died".to_owned()],
        Ended::Code(101) => vec!["it panicked".to_owned()],
        _ => Vec::new(),
    };
    let resent = if killed { 1 } else { hits.len() };
    match scene.settle(resent) {
        Ok(restarts) => {
            figures.restarts.fetch_add(restarts, Ordering::Relaxed);
            if std::env::var_os("PIXCHUTE_FAULTS_SAY").is_some() && restarts > 0 {
                println!("{fault:?}: {restarts} restarts, {ended:?}: {hits:?}");
            }
        }
        Err(more) => problems.extend(more),
    }
    if log.contains("panicked") && !no_file {
        problems.push("a panic".to_owned());
    }
    if !problems.is_empty() {
        let mut failures = figures.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = writeln!(failures, "{fault:?} ended {ended:?}: {problems:#?}\n  hit: {hits:#?}");
        if std::env::var_os("PIXCHUTE_FAULTS_SAY").is_some() {
            println!("FAIL {fault:?} ended {ended:?}: {problems:#?}\n  hit: {hits:#?}\n{log}");
        }
    }
    true
}

/// Every moment of these calls, or with `step` some.
fn sweep(calls: &'static str, what: &'static str, step: usize, figures: &Figures) {
    let mut when = 1;
    while trial(&Fault { calls, what, when: when.to_string() }, figures) {
        when += step;
    }
}

/// Works through `sweeps`, several at a time.
fn work(sweeps: Vec<(&'static str, &'static str)>, step: usize) {
    if let Some(reason) = missing() {
        println!("skipped: {reason}");
        return;
    }
    let (figures, todo) = (Figures::default(), Mutex::new(sweeps));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
                    let Some((calls, what)) = next else { return };
                    sweep(calls, what, step, &figures);
                }
            });
        }
    });
    let failures = figures.failures.into_inner().unwrap_or_default();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!("{} faults tried, {} restarts needed", count(&figures.tried), count(&figures.restarts));
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn r21_r24_every_call_that_fails_loses_nothing_and_tells_nothing_twice() {
    let only = std::env::var("PIXCHUTE_FAULTS_ONLY").unwrap_or_default();
    let mut sweeps = Vec::new();
    for (calls, errors) in CALLS {
        for error in *errors {
            let what: &'static str = String::leak(format!("error={error}"));
            if format!("{calls}:{error}").contains(&only) {
                sweeps.push((*calls, what));
            }
        }
    }
    work(sweeps, if all() { 1 } else { SAMPLE });
}

#[test]
fn r21_r22_kill_9_at_every_call_loses_nothing_and_tells_nothing_twice() {
    let only = std::env::var("PIXCHUTE_FAULTS_ONLY").unwrap_or_default();
    let calls =
        CALLS.iter().map(|(calls, _)| (*calls, "signal=KILL")).filter(|(calls, _)| calls.contains(&only)).collect();
    work(calls, if all() { 1 } else { SAMPLE });
}
