//! R18 in virtual time: a host answers 503 for ten minutes, and five hundred files wait for it.

use std::collections::BTreeMap;

use super::tests::{fixed, ms, ready};
use super::*;
use crate::flow::{Limits, Step};

const FILES: usize = 500;
const ANSWER: Duration = Duration::from_millis(50);
const OUTAGE: Duration = Duration::from_secs(600);
const COOLDOWN: Duration = Duration::from_secs(300);

/// What an attempt does next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Answer(Instant),
    Request(Instant),
}

struct Attempt {
    next: Next,
    tries: u32,
    probe: bool,
}

/// The agent and the host, as far as they matter here.
struct World {
    pool: Scheduler,
    start: Instant,
    now: Instant,
    well_at: Instant,
    tries: u32,
    running: BTreeMap<JobId, Attempt>,
    cooling: Vec<(Instant, JobId)>,
    requests: Vec<Instant>,
    done: Vec<Instant>,
    steps: Vec<(Instant, Step)>,
    most_at_once: Vec<(Instant, usize)>,
}

impl World {
    /// `well_before`: files that the host takes before the outage begins.
    fn new(workers: usize, tries: u32, seed: u64) -> Self {
        let now = Instant::now();
        let mut pool = Scheduler::new(fixed(workers), 50, vec![Flow::new(workers, Limits::default())]);
        pool.seed(seed);
        Self {
            pool,
            start: now,
            now,
            well_at: now + OUTAGE,
            tries,
            running: BTreeMap::new(),
            cooling: Vec::new(),
            requests: Vec::new(),
            done: Vec::new(),
            steps: Vec::new(),
            most_at_once: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        for command in self.pool.handle(self.now, input) {
            match command {
                Command::Start { job, probe, .. } => {
                    self.running.insert(job, Attempt { next: Next::Request(self.now), tries: 0, probe });
                    self.most_at_once.push((self.now, self.running.len()));
                }
                Command::Circuit { step, .. } => {
                    self.steps.push((self.now, step));
                    if matches!(step, Step::Opened { .. }) {
                        // No second tries while it is open.
                        for attempt in self.running.values_mut() {
                            attempt.probe = true;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn step(&mut self) {
        self.now += ms(10);
        let due: Vec<JobId> = self.cooling.iter().filter(|(at, _)| *at <= self.now).map(|(_, job)| *job).collect();
        self.cooling.retain(|(at, _)| *at > self.now);
        for job in due {
            self.input(Input::Ready(Ready { job, ..ready(0) }));
        }
        let jobs: Vec<JobId> = self.running.keys().copied().collect();
        for job in jobs {
            let Some(attempt) = self.running.get_mut(&job) else { continue };
            match attempt.next {
                Next::Request(at) if attempt.probe && attempt.tries > 0 && at > self.now => self.fail(job),
                Next::Request(at) if at <= self.now => {
                    attempt.tries += 1;
                    attempt.next = Next::Answer(self.now + ANSWER);
                    self.requests.push(self.now);
                }
                Next::Answer(at) if at <= self.now => self.answer(job),
                Next::Request(_) | Next::Answer(_) => {}
            }
        }
        self.input(Input::Tick);
    }

    fn answer(&mut self, job: JobId) {
        if self.now >= self.well_at {
            self.running.remove(&job);
            self.done.push(self.now);
            return self.input(Input::Ended { job, end: End::Succeeded });
        }
        let Some(attempt) = self.running.get_mut(&job) else { return };
        if attempt.probe || attempt.tries >= self.tries {
            return self.fail(job);
        }
        attempt.next = Next::Request(self.now + ms(1_000 << attempt.tries));
        self.input(Input::Trouble { job, trouble: Trouble::Passing });
    }

    fn fail(&mut self, job: JobId) {
        self.running.remove(&job);
        self.cooling.push((self.now + COOLDOWN, job));
        self.input(Input::Ended { job, end: End::Failed(Trouble::Passing) });
    }

    fn run(workers: usize, tries: u32, seed: u64, well_before: bool) -> Self {
        let mut world = Self::new(workers, tries, seed);
        if well_before {
            // The window is wide open when the outage begins.
            world.well_at = world.now;
            for _ in 0..100 {
                world.input(Input::Ready(ready(0)));
            }
            while world.done.len() < 100 {
                world.step();
            }
            world.well_at = world.now + OUTAGE;
            world.start = world.now;
            world.requests.clear();
            world.done.clear();
            world.most_at_once.clear();
        }
        for _ in 0..FILES {
            world.input(Input::Ready(ready(0)));
        }
        while world.done.len() < FILES && world.now < world.start + 4 * OUTAGE {
            world.step();
        }
        world
    }
}

#[test]
fn r18_ten_minutes_of_503_cost_at_most_forty_requests() {
    for seed in 1..=4 {
        for (workers, tries) in [(8, 4), (8, 1), (16, 4), (3, 20)] {
            for well_before in [false, true] {
                let world = World::run(workers, tries, seed * 7_919, well_before);
                let during = world.requests.iter().filter(|at| **at < world.well_at).count();
                assert!(
                    during <= 40,
                    "{workers} workers, {tries} tries, well before: {well_before}: {during} requests"
                );
                assert_eq!(world.done.len(), FILES, "the queue drains");
            }
        }
    }
}

#[test]
fn r18_the_gaps_follow_the_jitter_and_the_host_is_met_slowly_afterwards() {
    let world = World::run(8, 4, 4_711, true);
    let opened: Vec<&(Instant, Step)> =
        world.steps.iter().filter(|(_, step)| matches!(step, Step::Opened { .. })).collect();
    assert!(opened.len() >= 6, "{opened:?}");
    for (_, step) in &opened {
        let Step::Opened { rest, .. } = step else { continue };
        assert!((Duration::from_secs(5)..=Duration::from_secs(120)).contains(rest), "{rest:?}");
    }
    let Some((closed, _)) = world.steps.iter().find(|(at, step)| *at > world.start && *step == Step::Closed) else {
        panic!("closes: {:?}", world.steps)
    };
    assert!(*closed - world.well_at <= Duration::from_secs(121), "soon after it is well");
    // One probe, then 1, 2, 4 at once.
    let after = |millis: u64| {
        let until = *closed + ms(millis);
        world.most_at_once.iter().filter(|(at, _)| *at >= *closed && *at < until).map(|(_, most)| *most).max()
    };
    assert_eq!([after(50), after(110), after(180)], [Some(1), Some(2), Some(4)]);
}
