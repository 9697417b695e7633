//! State that was damaged while nobody ran: the ledger cut and flipped, the manifest torn, rotated, deleted, read-only.

use std::fs;
use std::path::PathBuf;

use crate::scene::{Ended, Scene, all};
use crate::support::{png, wait_for};

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn ledger(scene: &Scene, name: &str) -> PathBuf {
    scene.home.path("xdg-state/pixchute").join(name)
}

/// Cuts or flips something in one of the ledger's files.
fn damage(scene: &Scene, dice: &mut Dice) -> String {
    let name = ["ledger.sqlite", "ledger.sqlite", "ledger.sqlite-wal"][usize::try_from(dice.throw(3)).expect("small")];
    let path = ledger(scene, name);
    let Ok(mut bytes) = fs::read(&path) else { return format!("{name} is not there") };
    if bytes.is_empty() {
        return format!("{name} is empty");
    }
    let place = usize::try_from(dice.throw(bytes.len() as u64)).expect("fits");
    let what = if dice.throw(2) == 0 {
        bytes.truncate(place);
        "cut"
    } else {
        let bit = dice.throw(8);
        bytes[place] ^= 1 << bit;
        "flipped"
    };
    fs::write(&path, bytes).expect("writes");
    format!("{name} {what} at {place}")
}

#[test]
fn r22_r23_a_ledger_cut_or_flipped_anywhere_sends_nothing_again_and_takes_new_files() {
    let rounds = if all() { 300 } else { 12 };
    let mut dice = Dice(5);
    for round in 0..rounds {
        let scene = Scene::with("", if round % 2 == 0 { "" } else { "after = \"keep\"\n" });
        let first = if round % 3 == 0 {
            // Killed, so that the log still holds something.
            let agent = scene.home.start();
            wait_for("all lines", || scene.home.manifest_lines() == 5);
            agent.kill();
            Ended::Killed
        } else {
            scene.run(&mut scene.once())
        };
        let before = scene.host.received().len();
        let damaged = damage(&scene, &mut dice);
        scene.home.drop_file("new.png", &png(77));
        let ended = scene.run(&mut scene.once());
        let log = fs::read_to_string(scene.home.path("agent.log")).unwrap_or_default();
        assert!(matches!(ended, Ended::Code(0 | 1)), "round {round}, {first:?}, {damaged}: {ended:?}\n{log}");
        let again = scene.host.received().iter().filter(|got| got.file_name != "new.png").count();
        assert_eq!(again, before, "round {round}, {damaged}: sent again\n{log}");
        assert_eq!(scene.home.lines_of("new.png").len(), 1, "round {round}, {damaged}\n{log}");
        let finals = scene.home.manifest().len();
        assert_eq!(finals, 6, "round {round}, {damaged}: one line each\n{log}");
    }
}

#[test]
fn r22_a_manifest_that_is_rotated_deleted_or_torn_under_a_running_agent_gets_each_line_once() {
    for how in ["rotated", "deleted", "torn", "read-only"] {
        let scene = Scene::empty("", "");
        let agent = scene.home.start().ready();
        scene.home.drop_file("one.png", &png(50));
        scene.home.wait_for_line("one.png", 1);
        let manifest = scene.home.drop().join("manifest.jsonl");
        let aside = scene.home.path("aside");
        match how {
            #[expect(clippy::disallowed_methods, reason = "what logrotate does")]
            "rotated" => fs::rename(&manifest, &aside).expect("renames"),
            #[expect(clippy::disallowed_methods, reason = "what a user does")]
            "deleted" => fs::remove_file(&manifest).expect("removes"),
            "torn" => {
                let whole = fs::read_to_string(&manifest).expect("reads");
                fs::write(&manifest, &whole[..whole.len() - 20]).expect("writes");
            }
            _ => {
                let mut mode = fs::metadata(&manifest).expect("there").permissions();
                mode.set_readonly(true);
                fs::set_permissions(&manifest, mode).expect("read-only");
            }
        }
        scene.home.drop_file("two.png", &png(51));
        wait_for(&format!("the second line ({how})"), || {
            fs::read_to_string(&manifest).unwrap_or_default().matches("\"file\":\"two.png\"").count() == 1
        });
        assert!(agent.stop().success());
        scene.home.drop_file("three.png", &png(52));
        assert_eq!(scene.run(&mut scene.once()), Ended::Code(0), "{how}");
        assert_eq!(scene.host.received().len(), 3, "{how}: each was sent once");
        let text = fs::read_to_string(&manifest).expect("reads");
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{how}: {text}");
    }
}
