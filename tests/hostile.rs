//! Bytes that others wrote, as bad as they can be (R26, R30): the bodies of the fuzz targets in `fuzz/`, over their corpus
//! and over random changes of it, for a second each or `PIXCHUTE_FUZZ_SECONDS`.

#[path = "fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// What is done with an input.
type Body = fn(&[u8]);

/// The targets by name.
const TARGETS: [(&str, Body); 8] = [
    ("recipe", bodies::recipe),
    ("sxcu", bodies::sxcu),
    ("config", bodies::config),
    ("manifest", bodies::manifest),
    ("ledger", bodies::ledger),
    ("answer", bodies::answer),
    ("image", bodies::image),
    ("names", bodies::names),
];

/// Inputs longer than this are cut: more of the same finds nothing new.
const LONGEST: usize = 64 << 10;

/// How long one input may take, on a loaded machine and without optimisation.
const PATIENCE: Duration = Duration::from_secs(20);

/// xorshift64*: enough for changes, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() % (limit.max(1) as u64)).expect("below a usize")
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The corpus of a target; it has one.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect(target).map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files.iter().map(|file| fs::read(file).expect("reads")).collect()
}

/// One of the corpus with a few changes.
fn changed(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const ODD: [&[u8]; 12] = [
        b"\0",
        b"\xFF",
        b"\xFF\xFF\xFF\xFF",
        b"\x80\0\0\0",
        b"\n",
        b"\"",
        b"\\u0000",
        b"{{",
        b"..",
        b"99999999999999999999",
        "\u{202E}".as_bytes(),
        b"\x1b[2J",
    ];
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(8) {
        let at = dice.below(bytes.len() + 1);
        let most = if dice.below(4) == 0 { bytes.len() + 1 } else { 16 };
        let length = dice.below(most).min(bytes.len() - at);
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.roll().to_le_bytes()[0],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            4 => drop(bytes.splice(at..at, ODD[dice.below(ODD.len())].iter().copied())),
            5 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                let piece = &other[from..(from + dice.below(64)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Runs one input; what falls is kept where it can be looked at.
fn check(target: &str, body: Body, input: &[u8], seed: u64) {
    let began = Instant::now();
    let fell = catch_unwind(|| body(input)).is_err();
    let took = began.elapsed();
    if fell || took > PATIENCE {
        let name = format!("pixchute-{target}-{}", &blake3::hash(input).to_hex()[..16]);
        let kept = std::env::temp_dir().join(name);
        fs::write(&kept, input).expect("keeps it");
        panic!("{target} fell over {} after {took:?} (PIXCHUTE_FUZZ_SEED={seed})", kept.display());
    }
}

fn run(target: &str) {
    let (_, body) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    let seconds = Duration::from_secs(number("PIXCHUTE_FUZZ_SECONDS").unwrap_or(1));
    let seed = number("PIXCHUTE_FUZZ_SEED").unwrap_or(0x9E37_79B9);
    let (seeds, mut dice) = (corpus(target), Dice(seed | 1));
    seeds.iter().for_each(|input| check(target, body, input, seed));
    let until = Instant::now() + seconds;
    let mut count = 0_u64;
    while Instant::now() < until {
        let input = changed(&seeds, &mut dice);
        check(target, body, &input, seed);
        count += 1;
    }
    eprintln!("{target}: {count} changes of {} inputs", seeds.len());
}

macro_rules! targets {
    ($($test:ident $target:literal),*) => {
        $(#[test]
        fn $test() {
            run($target);
        })*

        #[test]
        fn every_target_has_its_test_its_program_and_its_corpus() {
            let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
            let manifest = fs::read_to_string(here.join("Cargo.toml")).expect("reads");
            assert_eq!(TARGETS.map(|(name, _)| name), [$($target),*]);
            for (target, _) in TARGETS {
                assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
                let program = fs::read_to_string(here.join(format!("fuzz_targets/{target}.rs"))).expect("a program");
                assert!(program.contains(&format!("bodies::{target}(data)")), "{target}");
                assert!(!corpus(target).is_empty());
            }
        }
    };
}

targets! {
    any_recipe_is_read_or_refused "recipe",
    any_sxcu_is_read_or_refused "sxcu",
    any_configuration_is_read_or_refused "config",
    r23_any_manifest_is_read "manifest",
    r23_any_ledger_is_opened_or_set_aside "ledger",
    r16_any_answer_is_a_link_or_not "answer",
    r30_any_image_is_sent_or_refused "image",
    r26_any_name_is_made_safe "names"
}
