//! A power cut: the process dies at a call, and what no `fsync` had made durable by then is taken away from its files.
//! What that is tells the trace of the run: lines of the manifest, the end of the ledger's log, names in folders.
//!
//! Taken away is always everything that may be lost. A real disk keeps some of it, in any order.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::scene::{Ended, Scene, all};
use crate::strace::{Fault, missing};

/// What is not durable yet.
#[derive(Debug, Default)]
struct Volatile {
    /// By path: how long the file was when it was synced last, and how long it is.
    lengths: HashMap<PathBuf, (u64, u64)>,
    /// Names that were given since their folder was synced last: from, to.
    names: Vec<(PathBuf, PathBuf)>,
}

impl Volatile {
    fn of(trace: &str) -> Self {
        let (mut volatile, mut begun) = (Self::default(), HashMap::new());
        for line in trace.lines() {
            let Some((thread, call)) = line.split_once(char::is_whitespace) else { continue };
            let call = call.trim_start();
            if let Some(start) = call.strip_suffix("<unfinished ...>") {
                begun.insert(thread, start.to_owned());
            } else if let Some((_, end)) = call.split_once(" resumed>") {
                let whole = begun.remove(thread).unwrap_or_default() + end;
                volatile.see(&whole);
            } else {
                volatile.see(call);
            }
        }
        volatile
    }

    /// Takes in one call that was carried out.
    fn see(&mut self, call: &str) {
        let Some((name, rest)) = call.split_once('(') else { return };
        let Some(result) = call.rsplit_once(" = ").and_then(|(_, end)| end.split(' ').next()?.parse::<u64>().ok())
        else {
            return;
        };
        let path =
            || rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| PathBuf::from(path));
        match name {
            "write" => {
                let (_, length) = self.lengths.entry(path().unwrap_or_default()).or_default();
                *length += result;
            }
            "pwrite64" => {
                let offset: u64 = call
                    .rsplit_once(") = ")
                    .and_then(|(start, _)| start.rsplit_once(", "))
                    .and_then(|(_, offset)| offset.trim_end_matches(')').trim().parse().ok())
                    .unwrap_or_default();
                let (_, length) = self.lengths.entry(path().unwrap_or_default()).or_default();
                *length = (*length).max(offset + result);
            }
            "fsync" | "fdatasync" => {
                let path = path().unwrap_or_default();
                self.names.retain(|(_, to)| to.parent() != Some(&path));
                if let Some((durable, length)) = self.lengths.get_mut(&path) {
                    *durable = *length;
                }
            }
            "renameat2" => {
                let quoted: Vec<&str> = rest.split('"').skip(1).step_by(2).collect();
                if let [from, to, ..] = quoted[..] {
                    self.names.push((from.into(), to.into()));
                }
            }
            _ => {}
        }
    }

    /// Takes away what is not durable: lines of the manifest, the end of the log, and places of images.
    fn cut(&self, manifest: &Path, log: &Path) {
        for path in [manifest, log] {
            if let Some((durable, _)) = self.lengths.get(path)
                && let Ok(file) = fs::OpenOptions::new().write(true).open(path)
            {
                file.set_len(*durable).expect("cuts");
            }
        }
        for (from, to) in self.names.iter().rev().filter(|(from, _)| !from.to_string_lossy().contains(".pixchute-")) {
            if !from.exists() {
                #[expect(clippy::disallowed_methods, reason = "the name was never on disk")]
                let _ = fs::rename(to, from);
            }
        }
    }
}

const TRACED: &str = "write,pwrite64,fsync,fdatasync,renameat2";

#[test]
fn r21_r22_a_power_cut_at_any_call_loses_no_link_and_no_file() {
    if let Some(reason) = missing() {
        println!("skipped: {reason}");
        return;
    }
    let (mut tried, mut lost) = (0, Vec::new());
    for calls in ["renameat2", "fdatasync", "fsync", "pwrite64", "write"] {
        let mut when = 1;
        loop {
            let scene = Scene::new();
            let fault = Fault { calls, what: "signal=KILL", when: when.to_string() };
            if scene.run(&mut fault.around_traced(&scene, &scene.once(), TRACED)) != Ended::Killed {
                break;
            }
            tried += 1;
            let trace = fs::read(scene.home.path("trace")).expect("a trace");
            let volatile = Volatile::of(&String::from_utf8_lossy(&trace));
            let log = scene.home.path("xdg-state/pixchute/ledger.sqlite-wal");
            volatile.cut(&scene.home.drop().join("manifest.jsonl"), &log);
            // What was under way is sent again, at most; and what a lost intent had begun.
            if let Err(problems) = scene.settle(1) {
                lost.push(format!("{fault:?}: {problems:#?} after {volatile:#?}"));
            }
            when += if all() { 1 } else { 4 };
        }
    }
    println!("{tried} power cuts");
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
