//! The flow towards simulated hosts, in virtual time.

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn sample(now: Instant, millis: u64) -> Sample {
    Sample { began: now, took: ms(millis), bytes: 1_000, full: true }
}

#[test]
fn the_window_opens_with_every_windowful_of_successes_and_stops_at_the_ceiling() {
    let now = Instant::now();
    let mut flow = Flow::new(5, Limits::default());
    assert_eq!((flow.window(), flow.is_proven()), (3, false));
    let sizes: Vec<Option<usize>> = (0..4).map(|_| flow.succeed(now, &sample(now, 20)).window).collect();
    assert_eq!(sizes, [None, None, Some(5), None]);
    assert_eq!((flow.window(), flow.is_proven()), (5, true));
}

#[test]
fn r18_after_a_rest_the_window_opens_from_one() {
    let now = Instant::now();
    let mut flow = Flow::new(8, Limits::default());
    for _ in 0..8 {
        let _ = flow.succeed(now, &sample(now, 20));
    }
    flow.rest(now, now + ms(500));
    flow.rest(now, now + ms(300));
    assert_eq!(flow.open_at(now), now + ms(500), "the longer rest holds");
    assert_eq!((flow.window(), flow.is_proven()), (1, false));
    assert_eq!(flow.resting_until(now + ms(500)), None, "over when it is over");
    assert_eq!(flow.open_at(now + ms(600)), now + ms(600));
    let changes: Vec<usize> = (0..7).filter_map(|_| flow.succeed(now, &sample(now, 20)).window).collect();
    assert_eq!(changes, [2, 4, 8]);
}

#[test]
fn late_follows_the_usual_duration_but_has_a_floor() {
    let now = Instant::now();
    let mut flow = Flow::new(8, Limits::default());
    assert_eq!(flow.late_after(), LATE_FLOOR);
    let _ = flow.succeed(now, &sample(now, 20));
    assert_eq!(flow.late_after(), LATE_FLOOR);
    flow.rest(now, now);
    let _ = flow.succeed(now, &sample(now, 900));
    assert_eq!(flow.late_after(), ms(3_600));
}

/// How a host behaves that is given more than it bears.
#[derive(Clone, Copy, Debug)]
enum Overload {
    /// What is too much waits in a line.
    Queues,
    /// Everything becomes slower, and more so than there is more to do.
    Thrashes,
    /// What is too much is turned away at once.
    Rejects,
    /// What is too much is turned away after the usual time.
    RejectsLate,
}

/// A simulated host: so many requests at once take `latency` each; a part of them fails for no reason.
#[derive(Clone, Copy, Debug)]
struct Simulated {
    overload: Overload,
    capacity: usize,
    latency: Duration,
    /// Scatter of the latency: up to so many per cent more or less.
    scatter: u64,
    /// Per thousand.
    errors: u64,
}

/// A request under way: when it began, when it ends, and whether it will have worked.
struct Request {
    began: Instant,
    ends: Instant,
    works: bool,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The simulation looks at everything so often.
const TICK: u64 = 5;

/// How many files the host takes in each second, with this window or with one by feedback. `halves`: when the capacity
/// becomes half of what it was.
fn simulate(host: Simulated, fixed: Option<usize>, seconds: usize, halves: Option<usize>) -> Vec<usize> {
    let start = Instant::now();
    let mut window = Window::new(32);
    let mut host = host;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut requests: Vec<Request> = Vec::new();
    let mut done = vec![0; seconds];
    for tick in 0..seconds as u64 * 1_000 / TICK {
        let now = start + ms(tick * TICK);
        let second = usize::try_from(tick * TICK / 1_000).expect("small");
        if halves == Some(second) && (tick * TICK).is_multiple_of(1_000) {
            host.capacity /= 2;
        }
        let mut in_flight = requests.len();
        let (over, rest): (Vec<_>, Vec<_>) = requests.drain(..).partition(|request| request.ends <= now);
        requests = rest;
        for request in over {
            let took = now - request.began;
            let full = in_flight >= fixed.unwrap_or(window.size());
            in_flight -= 1;
            if request.works {
                done[second] += 1;
                window.succeeded(now, &Sample { began: request.began, took, bytes: 100_000, full });
            } else {
                window.failed(now, request.began);
            }
            if in_flight < fixed.unwrap_or(window.size()) {
                requests.push(begin(host, now, &requests, &mut random));
                in_flight += 1;
            }
        }
        while requests.len() < fixed.unwrap_or(window.size()) {
            requests.push(begin(host, now, &requests, &mut random));
        }
    }
    done
}

fn begin(host: Simulated, now: Instant, others: &[Request], random: &mut Random) -> Request {
    let scattered = |random: &mut Random| {
        let percent = 100 - host.scatter + random.below(2 * host.scatter + 1);
        host.latency.mul_f64(percent as f64 / 100.0)
    };
    let taken = others.iter().filter(|request| request.works).count();
    let latency = scattered(random);
    let fails = random.below(1_000) < host.errors;
    let (took, works) = match host.overload {
        Overload::Queues => {
            // The place that becomes free first, of as many as there are.
            let mut ends: Vec<Instant> = others.iter().map(|request| request.ends).collect();
            ends.sort_unstable();
            let waits = ends.len().checked_sub(host.capacity).map_or(now, |behind| ends[behind]);
            (waits.saturating_duration_since(now) + latency, true)
        }
        Overload::Thrashes => {
            let load = (others.len() + 1) as f64 / host.capacity as f64;
            (latency.mul_f64(load.max(1.0).powf(1.6)), true)
        }
        Overload::Rejects if taken >= host.capacity => (ms(5), false),
        Overload::RejectsLate if taken >= host.capacity => (latency, false),
        Overload::Rejects | Overload::RejectsLate => (latency, true),
    };
    Request { began: now, ends: now + took, works: works && !fails }
}

fn sum(done: &[usize]) -> usize {
    done.iter().sum()
}

/// The most that any fixed window gets out of it in as many seconds.
fn best(host: Simulated, seconds: usize) -> usize {
    let sizes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32].into_iter().chain([host.capacity]);
    sizes.map(|size| sum(&simulate(host, Some(size), 17, None)[2..]) * seconds / 15).max().expect("windows")
}

fn hosts() -> Vec<Simulated> {
    let mut hosts = Vec::new();
    for overload in [Overload::Queues, Overload::Thrashes, Overload::Rejects, Overload::RejectsLate] {
        for (capacity, latency, scatter, errors) in
            [(4, 100, 0, 0), (8, 200, 30, 0), (16, 400, 30, 0), (24, 150, 30, 20), (8, 500, 20, 20)]
        {
            hosts.push(Simulated { overload, capacity, latency: ms(latency), scatter, errors });
        }
    }
    hosts
}

#[test]
fn the_window_finds_nine_tenths_of_the_best_within_thirty_seconds() {
    let mut bad = Vec::new();
    for host in hosts() {
        let adaptive = sum(&simulate(host, None, 60, None)[30..]);
        let best = best(host, 30);
        if adaptive * 10 < best * 9 {
            bad.push(format!("{host:?}: {adaptive} of {best}"));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn the_window_loses_less_than_a_tenth_when_the_capacity_halves() {
    let mut bad = Vec::new();
    for host in hosts() {
        let after = sum(&simulate(host, None, 90, Some(30))[30..]);
        let halved = best(Simulated { capacity: host.capacity / 2, ..host }, 60);
        if after * 10 < halved * 9 {
            bad.push(format!("{host:?}: {after} of {halved}"));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
