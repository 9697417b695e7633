//! The scheduler against tables, a simulation of silent hosts in virtual time, and random inputs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::flow::Limits;

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn fixed(workers: usize) -> Scale {
    Scale::new(workers, workers, workers)
}

pub(super) fn flows(ceiling: usize, hosts: usize) -> Vec<Flow> {
    (0..hosts).map(|_| Flow::new(ceiling, Limits::default())).collect()
}

pub(super) fn pool(workers: usize, hosts: usize) -> Scheduler {
    Scheduler::new(fixed(workers), 50, flows(workers, hosts))
}

pub(super) fn ready(host: usize) -> Ready {
    ready_for(&[host], Choice::First)
}

fn ready_for(hosts: &[usize], choice: Choice) -> Ready {
    let hosts = hosts.iter().copied().map(HostId).collect();
    Ready { job: JobId::generate(), hosts, choice, content: None, bytes: 100_000 }
}

pub(super) fn starts(commands: &[Command]) -> Vec<JobId> {
    commands.iter().filter_map(|c| if let Command::Start { job, .. } = c { Some(*job) } else { None }).collect()
}

/// The hosts that were given a job.
fn hosts_started(commands: &[Command]) -> Vec<usize> {
    commands.iter().filter_map(|c| if let Command::Start { host, .. } = c { Some(host.0) } else { None }).collect()
}

#[test]
fn a_job_starts_at_once_when_a_worker_is_free_and_waits_when_none_is() {
    let now = Instant::now();
    let mut pool = pool(1, 1);
    let (a, b) = (ready(0), ready(0));
    let start = |ready: &Ready| [Command::Start { job: ready.job, host: HostId(0), worker: 1, probe: false }];
    assert_eq!(pool.handle(now, Input::Ready(a.clone())), start(&a));
    assert_eq!(pool.handle(now, Input::Ready(b.clone())), []);
    let commands = pool.handle(now, Input::Ended { job: a.job, end: End::Other });
    assert_eq!(commands, start(&b));
}

#[test]
fn hosts_take_turns() {
    let now = Instant::now();
    let mut pool = pool(1, 3);
    let blocker = ready(0);
    let _ = pool.handle(now, Input::Ready(blocker.clone()));
    let jobs: Vec<Ready> = [0, 0, 1, 1, 2, 2].map(ready).to_vec();
    for job in &jobs {
        let _ = pool.handle(now, Input::Ready(job.clone()));
    }
    let mut order = Vec::new();
    let mut running = blocker.job;
    for _ in 0..6 {
        let started = starts(&pool.handle(now, Input::Ended { job: running, end: End::Succeeded }));
        running = started[0];
        order.push(jobs.iter().find(|j| j.job == running).expect("ours").hosts[0].0);
    }
    assert_eq!(order, [1, 2, 0, 1, 2, 0]);
}

#[test]
fn a_twin_waits_until_the_first_is_on_record() {
    let now = Instant::now();
    let mut pool = pool(4, 1);
    let content = Some(ContentHash([7; 32]));
    let (a, b) = (Ready { content, ..ready(0) }, Ready { content, ..ready(0) });
    let other = ready(0);
    let _ = pool.handle(now, Input::Ready(a.clone()));
    assert_eq!(pool.handle(now, Input::Ready(b.clone())), []);
    assert_eq!(starts(&pool.handle(now, Input::Ready(other.clone()))), [other.job], "others pass the twin");
    assert_eq!(pool.handle(now, Input::Ended { job: a.job, end: End::Other }), []);
    assert_eq!(starts(&pool.handle(now, Input::Recorded(a.job))), [b.job]);
}

#[test]
fn a_resting_host_gets_nothing_and_the_scheduler_knows_when_to_look_again() {
    let now = Instant::now();
    let mut pool = pool(4, 2);
    let _ = pool.handle(now, Input::Rest { host: HostId(0), until: now + ms(900) });
    assert_eq!(pool.handle(now, Input::Ready(ready(0))), []);
    assert_eq!(starts(&pool.handle(now, Input::Ready(ready(1)))).len(), 1);
    assert_eq!(pool.next_wake(now), Some(now + ms(900)));
    assert_eq!(starts(&pool.handle(now + ms(900), Input::Tick)).len(), 1);
}

#[test]
fn queue_filling_is_said_once_per_crossing_with_hysteresis() {
    let now = Instant::now();
    let mut pool = Scheduler::new(fixed(1), 4, flows(1, 1));
    let mut said = Vec::new();
    let mut running = None;
    for _ in 0..6 {
        for command in pool.handle(now, Input::Ready(ready(0))) {
            match command {
                Command::Start { job, .. } => running = Some(job),
                other => said.push(other),
            }
        }
    }
    while let Some(job) = running.take() {
        for command in pool.handle(now, Input::Ended { job, end: End::Other }) {
            match command {
                Command::Start { job, .. } => running = Some(job),
                other => said.push(other),
            }
        }
    }
    assert_eq!(said, [Command::QueueFilling { depth: 4 }, Command::QueueDrained { depth: 2 }]);
}

#[test]
fn nothing_starts_while_results_cannot_be_recorded_or_after_stop() {
    let now = Instant::now();
    let mut pool = pool(2, 1);
    let _ = pool.handle(now, Input::Blocked(true));
    assert_eq!(pool.handle(now, Input::Ready(ready(0))), []);
    assert_eq!(starts(&pool.handle(now, Input::Blocked(false))).len(), 1);
    let _ = pool.handle(now, Input::Stop);
    assert_eq!(pool.handle(now, Input::Ready(ready(0))), []);
}

/// Drops `count` jobs for these hosts into a pool with a worker for each, and gives the hosts that got them.
fn given(pool: &mut Scheduler, now: Instant, count: usize, hosts: &[usize], choice: Choice) -> Vec<usize> {
    let mut given = Vec::new();
    for _ in 0..count {
        given.extend(hosts_started(&pool.handle(now, Input::Ready(ready_for(hosts, choice)))));
    }
    given
}

#[test]
fn r20_the_first_host_gets_everything_until_it_rests_and_again_afterwards() {
    let now = Instant::now();
    let mut pool = pool(8, 3);
    assert_eq!(given(&mut pool, now, 1, &[1, 0, 2], Choice::First), [1]);
    let waiting = ready_for(&[1, 0], Choice::First);
    for _ in 0..2 {
        let _ = pool.handle(now, Input::Ready(ready(1)));
    }
    assert_eq!(pool.handle(now, Input::Ready(waiting.clone())), [], "a full window is waited for");
    let rest = Input::Rest { host: HostId(1), until: now + ms(900) };
    let commands = pool.handle(now, rest);
    assert_eq!(
        commands,
        [Command::Start { job: waiting.job, host: HostId(0), worker: 4, probe: false }],
        "a rest is not"
    );
    assert_eq!(given(&mut pool, now, 2, &[1, 2], Choice::First), [2, 2]);
    assert_eq!(given(&mut pool, now, 1, &[1], Choice::First), [0; 0]);
    assert_eq!(pool.depth(), 1);
    let _ = pool.handle(now, Input::Ended { job: waiting.job, end: End::Other });
    let _ = pool.handle(now, Input::Rest { host: HostId(0), until: now + ms(400) });
    assert_eq!(given(&mut pool, now, 1, &[1, 0], Choice::First), [0; 0], "all rest");
    assert_eq!(hosts_started(&pool.handle(now + ms(400), Input::Tick)), [0], "the first that is back");
    let later = now + ms(900);
    assert_eq!(hosts_started(&pool.handle(later, Input::Tick)), [0; 0], "the window is still full");
}

#[test]
fn r20_round_robin_is_even_and_passes_over_who_cannot_take_it_now() {
    let now = Instant::now();
    let even = Choice::Even { group: 0 };
    let mut pool = Scheduler::new(fixed(64), 50, flows(64, 3));
    let mut count = [0_usize; 3];
    let mut running = Vec::new();
    for turn in 0..120 {
        let rests = (40..80).contains(&turn);
        if rests {
            let _ = pool.handle(now, Input::Rest { host: HostId(2), until: now + ms(500) });
        } else {
            let _ = pool.handle(now, Input::Wake(HostId(2)));
        }
        let commands = pool.handle(now, Input::Ready(ready_for(&[0, 1, 2], even)));
        let hosts = hosts_started(&commands);
        assert_eq!(hosts.len(), 1, "there is always somebody");
        assert!(!rests || hosts[0] != 2);
        count[hosts[0]] += 1;
        running.extend(starts(&commands));
        let ended = Input::Ended { job: running.remove(0), end: End::Succeeded };
        let _ = pool.handle(now, ended);
        if turn == 39 {
            assert!(count.iter().all(|count| (13..=14).contains(count)), "even: {count:?}");
        }
    }
    assert!(count[0].abs_diff(count[1]) <= 1, "{count:?}");
    let behind = 20 - usize::try_from(MOST_BEHIND).expect("small");
    assert!(count[0] - count[2] >= behind, "what was missed is not made up for: {count:?}");
}

#[test]
fn a_job_for_several_hosts_keeps_its_twins_away_from_all_of_them_until_it_is_on_record() {
    let now = Instant::now();
    let mut pool = pool(8, 2);
    let content = Some(ContentHash([7; 32]));
    let a = Ready { content, ..ready_for(&[0, 1], Choice::First) };
    let b = Ready { content, ..ready_for(&[1], Choice::First) };
    assert_eq!(hosts_started(&pool.handle(now, Input::Ready(a.clone()))), [0]);
    assert_eq!(pool.handle(now, Input::Ready(b.clone())), []);
    assert_eq!(starts(&pool.handle(now, Input::Ended { job: a.job, end: End::Succeeded })), []);
    let next = Ready { hosts: Arc::new([HostId(1)]), ..a.clone() };
    assert_eq!(starts(&pool.handle(now, Input::Ready(next))), [a.job], "its next host");
    assert_eq!(starts(&pool.handle(now, Input::Ended { job: a.job, end: End::Succeeded })), []);
    assert_eq!(starts(&pool.handle(now, Input::Recorded(a.job))), [b.job]);
}

#[test]
fn r28_after_a_sleep_the_hosts_are_met_one_file_at_a_time_and_not_all_at_once() {
    let mut now = Instant::now();
    let mut pool = pool(8, 3);
    // Everything is well, and the windows are open; then the machine sleeps, and much is overdue.
    for host in 0..3 {
        let mut jobs = Vec::new();
        for _ in 0..40 {
            jobs.extend(starts(&pool.handle(now, Input::Ready(ready(host)))));
        }
        while let Some(job) = jobs.pop() {
            jobs.extend(starts(&pool.handle(now, Input::Ended { job, end: End::Succeeded })));
        }
    }
    let _ = pool.handle(now, Input::Resumed);
    let mut begun = Vec::new();
    for host in 0..3 {
        for _ in 0..100 {
            begun.extend(hosts_started(&pool.handle(now, Input::Ready(ready(host)))));
        }
    }
    let mut moments = Vec::new();
    while now < now + RESUME_SPREAD && moments.len() < 3 {
        begun = hosts_started(&pool.handle(now, Input::Tick));
        if !begun.is_empty() {
            assert_eq!(begun.len(), 1, "one file each: {begun:?}");
            moments.push(now);
        }
        now += ms(10);
    }
    assert!(moments[2] - moments[0] > ms(100), "spread: {moments:?}");
    assert_eq!(pool.in_flight(), 3);
}

/// A world of hosts in virtual time, each job taking `answer` or for ever. Every host always has jobs waiting.
struct World {
    pool: Scheduler,
    now: Instant,
    answers: Vec<Option<Duration>>,
    running: BTreeMap<JobId, (usize, Instant)>,
    finished: Vec<usize>,
    most_in_flight: usize,
}

impl World {
    fn new(workers: usize, answers: &[Option<u64>]) -> Self {
        let answers: Vec<_> = answers.iter().map(|answer| answer.map(ms)).collect();
        let hosts = answers.len();
        let mut world = Self {
            pool: pool(workers, hosts),
            now: Instant::now(),
            answers,
            running: BTreeMap::new(),
            finished: vec![0; hosts],
            most_in_flight: 0,
        };
        for host in 0..hosts {
            for _ in 0..20 {
                world.input(Input::Ready(ready(host)));
            }
        }
        world
    }

    fn input(&mut self, input: Input) {
        let host_of_ready = if let Input::Ready(ready) = &input { Some((ready.job, ready.hosts[0].0)) } else { None };
        if let Some((job, host)) = host_of_ready {
            self.running.insert(job, (host, self.now + Duration::from_secs(86_400)));
        }
        for job in starts(&self.pool.handle(self.now, input)) {
            let (host, ends) = self.running.get_mut(&job).expect("was ready");
            *ends = self.answers[*host].map_or(self.now + Duration::from_secs(3_600), |answer| self.now + answer);
        }
        self.most_in_flight = self.most_in_flight.max(self.pool.in_flight());
    }

    /// Moves time on by a millisecond; every ten the idle attempts are reported, as the agent does.
    fn step(&mut self, tick: u64) {
        self.now += ms(1);
        let over: Vec<_> =
            self.running.iter().filter(|(_, (_, ends))| *ends <= self.now).map(|(j, v)| (*j, v.0)).collect();
        for (job, host) in over {
            self.running.remove(&job);
            self.finished[host] += 1;
            self.input(Input::Ended { job, end: End::Succeeded });
            self.input(Input::Ready(ready(host)));
        }
        if tick.is_multiple_of(10) {
            let in_flight: Vec<_> = self.pool.attempts.iter().map(|(job, a)| (*job, self.now - a.began)).collect();
            for (job, idle) in in_flight {
                self.input(Input::Seen { job, idle, left: 0 });
            }
        }
    }

    fn run(mut self, time: Duration) -> (Vec<usize>, usize) {
        for tick in 0..u64::try_from(time.as_millis()).expect("small") {
            self.step(tick);
        }
        (self.finished, self.most_in_flight)
    }
}

/// How much of what they do alone the hosts that are well still do beside silent ones, in per cent.
fn share_kept(well: usize, silent: usize, time: Duration) -> usize {
    let alone: usize = World::new(8, &vec![Some(20); well]).run(time).0.iter().sum();
    let mut hosts = vec![None; silent];
    hosts.extend(vec![Some(20); well]);
    let (finished, most) = World::new(8, &hosts).run(time);
    let beside: usize = finished.iter().sum();
    assert!(most <= 8 + LOUNGE, "the sum stays bounded: {most}");
    beside * 100 / alone
}

#[test]
fn r13_hosts_that_are_well_keep_their_throughput_beside_silent_ones_from_the_first_second() {
    for (well, silent) in [(1, 1), (2, 3)] {
        for seconds in [1, 10] {
            let kept = share_kept(well, silent, Duration::from_secs(seconds));
            assert!(kept >= 95, "{well} well and {silent} silent hosts, {seconds} s: {kept} % kept");
        }
    }
}

#[test]
fn a_slow_host_is_not_starved_by_a_fast_one() {
    let (finished, _) = World::new(8, &[Some(20), Some(800)]).run(Duration::from_secs(10));
    assert!(finished[1] >= 80, "the slow host has its window: {finished:?}");
    assert!(finished[0] >= 3_000, "and the fast one the workers: {finished:?}");
}

#[test]
fn the_window_bounds_a_host_that_is_slow_but_alive() {
    let (_, most) = World::new(8, &[Some(700)]).run(Duration::from_secs(5));
    assert_eq!(most, 8);
}

#[test]
fn r13_as_many_files_that_hang_as_may_be_late_do_not_hold_up_the_next_ones_on_their_host() {
    let mut now = Instant::now();
    let mut pool = pool(8, 1);
    let hanging: Vec<Ready> = (0..8).map(|_| ready(0)).collect();
    let mut started = Vec::new();
    for job in hanging.iter().cloned().chain((0..200).map(|_| ready(0))) {
        started.extend(starts(&pool.handle(now, Input::Ready(job))));
    }
    let hangs = |job: &JobId| hanging.iter().any(|ready| ready.job == *job);
    let (mut in_flight, mut well) = (started, 0);
    for _ in 0..1_000 {
        now += ms(100);
        let ended: Vec<JobId> = in_flight.extract_if(.., |job| !hangs(job)).collect();
        well += ended.len();
        let mut commands = Vec::new();
        for job in in_flight.clone() {
            commands.extend(pool.handle(now, Input::Seen { job, idle: Duration::from_secs(20), left: 0 }));
        }
        for job in ended {
            commands.extend(pool.handle(now, Input::Ended { job, end: End::Succeeded }));
        }
        in_flight.extend(starts(&commands));
    }
    assert_eq!(well, 200, "all others are done while the eight hang");
}

proptest! {
    /// Whatever comes in which order: workers, windows and the lounge hold, nothing runs twice, nothing is lost.
    #[test]
    fn bounds_hold_for_any_order_of_inputs(inputs in prop::collection::vec((0u8..8, 0usize..3, 0usize..40), 1..400)) {
        let mut now = Instant::now();
        let mut pool = Scheduler::new(fixed(4), 6, flows(3, 3));
        let (mut queued, mut running): (Vec<Ready>, Vec<Ready>) = (Vec::new(), Vec::new());
        for (kind, host, pick) in inputs {
            let wake = pool.next_wake(now + ms(pick as u64 * 5));
            now += ms(pick as u64 * 10);
            let chosen = (!running.is_empty()).then(|| running[pick % running.len()].clone());
            let input = match (kind, chosen) {
                (0..=2, _) => {
                    let hosts = [vec![host], vec![host, (host + 1) % 3], vec![2, 0, 1]];
                    let choice = if pick % 2 == 0 { Choice::First } else { Choice::Even { group: pick % 4 } };
                    let content = (pick < 10).then_some(ContentHash([pick as u8; 32]));
                    let ready = Ready { content, ..ready_for(&hosts[pick % 3], choice) };
                    queued.push(ready.clone());
                    Input::Ready(ready)
                }
                (3 | 4, Some(ready)) => {
                    running.retain(|r| r.job != ready.job);
                    let _ = pool.handle(now, Input::Recorded(ready.job));
                    Input::Ended { job: ready.job, end: if kind == 3 { End::Succeeded } else { End::Other } }
                }
                (5, Some(ready)) => Input::Seen { job: ready.job, idle: ms(pick as u64 * 100), left: pick as u64 * 10 },
                (6, _) => Input::Rest { host: HostId(host), until: now + ms(pick as u64 * 10) },
                _ => Input::Tick,
            };
            let by_time = input == Input::Tick;
            for job in starts(&pool.handle(now, input)) {
                prop_assert!(!by_time || wake.is_some_and(|at| at <= now), "nobody would have woken for it");
                let position = queued.iter().position(|r| r.job == job);
                prop_assert!(position.is_some(), "started what was not queued");
                running.push(queued.remove(position.expect("checked")));
            }
            // `Recorded` above may have started a twin already; ask the pool itself.
            queued.retain(|r| {
                let started = pool.attempts.contains_key(&r.job);
                if started { running.push(r.clone()); }
                !started
            });
            prop_assert!(pool.busy() <= 4);
            prop_assert_eq!(pool.in_flight(), running.len());
            prop_assert_eq!(pool.depth(), queued.len());
            for host in 0..3 {
                let lane = &pool.lanes[host];
                prop_assert!(lane.in_window <= 3 && lane.late <= pool.late_limit());
            }
        }
    }
}

#[test]
fn a_held_host_gets_nothing_until_it_is_let_go_and_the_others_do_not_wait_for_it() {
    let now = Instant::now();
    let mut pool = pool(4, 2);
    let _ = pool.handle(now, Input::Hold { host: HostId(0), held: true });
    let kept: Vec<Ready> = [0, 0].map(ready).to_vec();
    for job in &kept {
        assert_eq!(pool.handle(now, Input::Ready(job.clone())), []);
    }
    assert_eq!(starts(&pool.handle(now, Input::Ready(ready(1)))).len(), 1);
    assert_eq!(starts(&pool.handle(now, Input::Wake(HostId(0)))), [], "the end of a rest does not end a pause");
    assert_eq!(pool.next_wake(now), None, "nothing to wait for");
    assert_eq!(pool.handle(now, Input::Withdraw(kept[0].job)), []);
    assert_eq!(pool.depth(), 1);
    assert_eq!(starts(&pool.handle(now, Input::Hold { host: HostId(0), held: false })), [kept[1].job]);
    assert_eq!((pool.depth(), pool.in_flight()), (0, 2));
}
