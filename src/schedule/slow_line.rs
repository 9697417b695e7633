//! A line that all attempts towards a host share, in virtual time.

use std::collections::BTreeMap;

use super::tests::{fixed, ms, ready};
use super::*;
use crate::flow::Limits;

const LIMIT: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_millis(300);
const STEP: Duration = Duration::from_millis(10);

/// Pieces in which a connection gets its share: so much the system takes at once.
const PIECE: f64 = 65_536.0;

struct Body {
    began: Instant,
    /// On the line, and as far as the system has said.
    left: f64,
    told: f64,
    moved_at: Instant,
    hangs: bool,
}

/// A pool, a host and the line between them.
struct World {
    pool: Scheduler,
    start: Instant,
    now: Instant,
    rate: f64,
    /// Files that hang: the host reads one piece of them.
    hanging: Vec<JobId>,
    bodies: BTreeMap<JobId, Body>,
    sizes: HashMap<JobId, u64>,
    answers: Vec<(Instant, JobId)>,
    done: Vec<Instant>,
    late: usize,
    most: usize,
}

impl World {
    fn new(rate: f64, sizes: &[u64], hanging: usize) -> Self {
        let now = Instant::now();
        let pool = Scheduler::new(fixed(8), 50, vec![Flow::new(8, Limits::default())]);
        let mut world = Self {
            pool,
            start: now,
            now,
            rate,
            hanging: Vec::new(),
            bodies: BTreeMap::new(),
            sizes: HashMap::new(),
            answers: Vec::new(),
            done: Vec::new(),
            late: 0,
            most: 0,
        };
        for (index, bytes) in sizes.iter().enumerate() {
            let ready = Ready { bytes: *bytes, ..ready(0) };
            if index < hanging {
                world.hanging.push(ready.job);
            }
            world.sizes.insert(ready.job, *bytes);
            world.input(Input::Ready(ready));
        }
        world
    }

    fn input(&mut self, input: Input) {
        for command in self.pool.handle(self.now, input) {
            if let Command::Start { job, .. } = command {
                let left = self.sizes[&job] as f64;
                let hangs = self.hanging.contains(&job);
                self.bodies.insert(job, Body { began: self.now, left, told: left, moved_at: self.now, hangs });
            }
        }
        self.most = self.most.max(self.bodies.len());
    }

    /// The line carries a little of each, then everything is looked at.
    fn step(&mut self) {
        self.now += STEP;
        let moving = self.bodies.values().filter(|body| !body.hangs && body.left > 0.0).count().max(1);
        let share = self.rate * STEP.as_secs_f64() / moving as f64;
        for (job, body) in &mut self.bodies {
            if body.left <= 0.0 || (body.hangs && body.told < self.sizes[job] as f64) {
                continue;
            }
            body.left = if body.hangs { body.left - PIECE } else { (body.left - share).max(0.0) };
            if body.told - body.left >= PIECE || body.left <= 0.0 {
                (body.told, body.moved_at) = (body.left, self.now);
            }
            if body.left <= 0.0 {
                self.answers.push((self.now + ANSWER, *job));
            }
        }
        self.look();
        self.end();
    }

    fn look(&mut self) {
        let seen: Vec<Input> = self
            .bodies
            .iter()
            .map(|(job, body)| Input::Seen {
                job: *job,
                idle: self.now - body.moved_at,
                left: body.told.max(0.0) as u64,
            })
            .collect();
        if self.pool.wants_looks() {
            seen.into_iter().for_each(|seen| self.input(seen));
        }
        self.input(Input::Tick);
    }

    fn end(&mut self) {
        let now = self.now;
        for (_, job) in self.answers.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.bodies.remove(&job);
            self.done.push(now);
            self.input(Input::Ended { job, end: End::Succeeded });
        }
        let over: Vec<JobId> =
            self.bodies.iter().filter(|(_, body)| now - body.began >= LIMIT).map(|(job, _)| *job).collect();
        for job in over {
            self.late += usize::from(!self.bodies[&job].hangs);
            self.bodies.remove(&job);
            self.answers.retain(|(_, answered)| *answered != job);
            self.input(Input::Ended { job, end: End::Failed(Trouble::Passing) });
        }
    }

    /// Runs until all that do not hang are done, and gives the time that took, or `most` if that is less.
    fn run(&mut self, most: Duration) -> Duration {
        while self.done.len() + self.late < self.sizes.len() - self.hanging.len() && self.now - self.start < most {
            self.step();
        }
        self.now - self.start
    }
}

#[test]
fn on_a_slow_line_files_are_sent_in_time_one_after_the_other_and_the_line_is_never_idle() {
    for (rate, bytes, files) in [
        (40e3, 400_000, 40),
        (64e3, 3_000_000, 20),
        (125e3, 5_000_000, 20),
        (125e3, 700_000, 100),
        (1e6, 30_000_000, 12),
    ] {
        let mut world = World::new(rate, &vec![bytes; files], 0);
        let took = world.run(Duration::from_secs(3_600)).as_secs_f64();
        assert_eq!(world.late, 0, "{bytes} bytes at {rate} a second");
        let ideal = bytes as f64 * files as f64 / rate;
        assert!(took < ideal * 1.1 + 2.0, "{bytes} bytes at {rate} a second: {took} s instead of {ideal} s");
    }
}

/// Spread over two slow hosts, one that no line carries now waits for the first that is free; small ones do not pass it for
/// ever.
#[test]
fn a_large_file_is_not_passed_for_ever_by_small_ones_that_fit() {
    let now = Instant::now();
    let mut pool = Scheduler::new(fixed(8), 50, vec![Flow::new(8, Limits::default()), Flow::new(8, Limits::default())]);
    let hosts: Arc<[HostId]> = [HostId(0), HostId(1)].into();
    for host in hosts.iter() {
        let uplink = pool.flow(*host).uplink_mut();
        uplink.begin(now);
        uplink.moved(now + Duration::from_secs(4), 500_000);
    }
    let now = now + Duration::from_secs(4);
    let file = |bytes| Ready { hosts: Arc::clone(&hosts), choice: Choice::Even { group: 0 }, bytes, ..ready(0) };
    let mut started = Vec::new();
    let mut give = |pool: &mut Scheduler, input| {
        let commands = pool.handle(now, input);
        started
            .extend(commands.iter().filter_map(|c| if let Command::Start { job, .. } = c { Some(*job) } else { None }));
        started.clone()
    };
    let (first, second, large) = (file(4_000_000), file(4_000_000), file(20_000_000));
    for ready in [&first, &second, &large] {
        give(&mut pool, Input::Ready(ready.clone()));
    }
    for _ in 0..50 {
        give(&mut pool, Input::Ready(file(200_000)));
    }
    for job in [first.job, second.job] {
        assert!(!give(&mut pool, Input::Tick).contains(&large.job));
        if give(&mut pool, Input::Ended { job, end: End::Succeeded }).contains(&large.job) {
            return;
        }
    }
    panic!("both hosts were free, and the large file was not sent");
}

/// So slow that a pause between two pieces looks like a host that hangs, as long as the rate is not known.
#[test]
fn on_a_very_slow_line_only_the_first_wave_can_be_late() {
    let mut world = World::new(30e3, &[1_500_000; 40], 0);
    let took = world.run(Duration::from_secs(3_600)).as_secs_f64();
    assert!(world.late <= 2 * 8, "{} were late", world.late);
    let ideal = 1.5e6 / 30e3 * world.done.len() as f64;
    assert!(took < LIMIT.as_secs_f64() * 1.2 + ideal * 1.1, "{took} s instead of {ideal} s");
}

#[test]
fn on_a_fast_line_the_window_alone_decides() {
    let mut world = World::new(100e6, &[5_000_000; 400], 0);
    let took = world.run(Duration::from_secs(60));
    assert!(took < ms(37_000), "eight at a time, each waits for its answer: {took:?}");
    assert_eq!((world.late, world.most), (0, 8));
}

#[test]
fn large_and_small_files_take_turns_on_a_slow_line() {
    let sizes: Vec<u64> = (0..40).map(|index| if index % 4 == 0 { 6_000_000 } else { 200_000 }).collect();
    let mut world = World::new(100e3, &sizes, 0);
    let took = world.run(Duration::from_secs(3_600)).as_secs_f64();
    assert_eq!(world.late, 0);
    assert!(took < sizes.iter().sum::<u64>() as f64 / 100e3 * 1.1, "{took}");
}

#[test]
fn r14_files_that_hang_in_the_middle_do_not_count_as_a_full_line() {
    for rate in [1e6, 20e6] {
        let mut world = World::new(rate, &[2_000_000; 48], 8);
        let took = world.run(Duration::from_secs(600)).as_secs_f64();
        let ideal = 40.0 * 2e6 / rate;
        assert_eq!((world.done.len(), world.late), (40, 0));
        // Nothing is known of the line before the first that hang have been found out, one after the other.
        assert!(took < ideal * 1.2 + 8.0 * 2.0, "at {rate} a second: {took} s instead of {ideal} s");
    }
}
