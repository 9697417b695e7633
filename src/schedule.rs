//! Who is sent next, and when: pure. An input comes in, commands come out; no I/O, no tokio tasks, no clock of its own.
//!
//! **Fair by host.** Hosts take turns for the workers; each host has a window ([`crate::flow`]) and cannot have more
//! attempts in flight than that.
//!
//! **No slot for standing still.** A worker is held only while bytes move. An attempt that was idle for [`PATIENCE`]
//! while another host could use its worker is *parked*: it goes on, but holds no worker any more, only its place in its
//! host's window. An attempt that is *late* (idle for several times what its host usually takes) gives up that place
//! too, so that eight files that hang do not hold up the two hundred behind them on the same host. Both are bounded: a
//! host has at most its window plus [`Scheduler::late_limit`] attempts in flight, all hosts together at most
//! `workers + `[`LOUNGE`]. Once a host has that many late ones, the next that hang keep their places in its window.
//!
//! **No more than the line carries.** A body begins only if it and those under way can be expected to be through in time
//! ([`crate::flow::uplink`]).
//!
//! **Who is unknown waits.** A host that has not answered yet gets one probe at a time while others have work. So silent
//! hosts cost the others a worker each for [`PATIENCE`], and hardly more.
//!
//! **Several hosts.** A job may name more than one host. It waits at each of them and is bound to one only when it starts, by
//! its [`Choice`]: so a host that rests, or hangs with a full window, holds up nothing that another one may take.
//!
//! **Twins.** Of two jobs with the same content for the same host the second waits until the first is on record; then it
//! can be linked instead of sent. A job with several hosts counts at all of them, until it is on record.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::flow::{Cause, Changes, Flow, PIECE, Quota, Sample, Scale, Spent, Trouble};
use crate::job::{ContentHash, JobId};
pub use message::{Choice, Command, End, HostId, Input, Ready};

mod dispatch;
mod looks;
mod message;

/// How long an attempt may stand still before its worker is given to another host's job. Longer than a host nearby
/// takes to answer, short enough that even several silent hosts cost the others only a few per cent of the first second.
pub const PATIENCE: Duration = Duration::from_millis(20);

/// How many attempts without a worker there may be in all: each holds a socket and at most
/// [`crate::job::WHOLE_FILE_LIMIT`] of memory. When it is full, attempts keep their workers.
pub const LOUNGE: usize = 128;

/// After the machine has slept, each host is met at some moment within so long.
pub const RESUME_SPREAD: Duration = Duration::from_secs(3);

/// By how many jobs a host may be behind when jobs are spread evenly: one that comes back is not met by all it has missed.
pub const MOST_BEHIND: u64 = 4;

/// What an attempt in flight holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A worker and a place in the window.
    Active { worker: usize },
    /// A place in the window.
    Parked,
    /// Nothing.
    Late,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    host: HostId,
    standing: Standing,
    began: Instant,
    bytes: u64,
    /// How many of them have still to go.
    left: u64,
    /// Nothing moves: they do not count as under way.
    still: bool,
}

impl Attempt {
    /// Bytes that are on their way.
    fn under_way(&self) -> u64 {
        if self.still { 0 } else { self.left }
    }

    /// How many the line has carried since the last look, when only `left` are left: what the system took at once is not
    /// among them.
    fn carried(&self, left: u64) -> u64 {
        let in_all = |left: u64| self.bytes.saturating_sub(left).saturating_sub(PIECE);
        in_all(left).saturating_sub(in_all(self.left))
    }
}

#[derive(Debug)]
struct Lane {
    flow: Flow,
    /// The user paused it.
    held: bool,
    /// Jobs that may come here; one with several hosts stands in the line of each.
    ready: VecDeque<Ready>,
    /// Attempts that are active or parked.
    in_window: usize,
    late: usize,
    /// Bytes of all attempts that are on their way.
    under_way: u64,
}

impl Lane {
    fn new(flow: Flow) -> Self {
        Self { flow, held: false, ready: VecDeque::new(), in_window: 0, late: 0, under_way: 0 }
    }

    /// It has something to start, as soon as it may.
    fn waits(&self) -> bool {
        !self.held && !self.ready.is_empty()
    }
}

/// Numbers for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// Attempts in flight.
    pub in_flight: usize,
    /// Attempts that hold no worker: parked or late.
    pub parked: usize,
    /// Jobs in the queue.
    pub queued: usize,
    /// How many may run at once.
    pub window: usize,
    /// How far the window can open.
    pub ceiling: usize,
    /// Until when it rests because it asked for it.
    pub resting_until: Option<Instant>,
    /// Why its circuit is not closed.
    pub circuit: Option<Cause>,
    /// Until when its circuit is open; none while it is half-open.
    pub circuit_until: Option<Instant>,
    /// Until when its quota is used up.
    pub exhausted_until: Option<Instant>,
    /// Its quota, and how many uploads of it are left.
    pub quota: Option<(Quota, u32)>,
    /// It has answered well since the start or its last rest.
    pub proven: bool,
}

/// The state of the pool.
#[derive(Debug)]
pub struct Scheduler {
    scale: Scale,
    free: BTreeSet<usize>,
    /// Workers in use.
    busy: usize,
    random: u64,
    lanes: Vec<Lane>,
    attempts: HashMap<JobId, Attempt>,
    /// Jobs in the queue: each counts once, however many hosts it may go to.
    waiting: usize,
    /// Contents in flight or not yet on record, and whose they are.
    contents: HashMap<JobId, (Arc<[HostId]>, ContentHash)>,
    taken: HashMap<(HostId, ContentHash), JobId>,
    /// How many jobs of a group each host was given.
    given: HashMap<(usize, HostId), u64>,
    /// Whose turn it is.
    turn: usize,
    queue_warn: usize,
    filling: bool,
    blocked: bool,
    stopping: bool,
    /// When it was last seen who may start; `None` if something has changed since without an input.
    seen_at: Option<Instant>,
}

impl Scheduler {
    /// A pool of so many workers for these hosts, of which there must be at least one.
    #[must_use]
    pub fn new(scale: Scale, queue_warn: usize, flows: Vec<Flow>) -> Self {
        let lanes = flows.into_iter().map(Lane::new).collect();
        Self {
            free: (1..=scale.workers()).collect(),
            scale,
            busy: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            lanes,
            attempts: HashMap::new(),
            waiting: 0,
            contents: HashMap::new(),
            taken: HashMap::new(),
            given: HashMap::new(),
            turn: 0,
            queue_warn: queue_warn.max(1),
            filling: false,
            blocked: false,
            stopping: false,
            seen_at: None,
        }
    }

    /// Makes the jitter another one than that of every other agent.
    pub fn seed(&mut self, seed: u64) {
        self.random ^= seed | 1;
    }

    /// How many late attempts one host may have: as many as there are workers.
    #[must_use]
    pub fn late_limit(&self) -> usize {
        self.scale.workers()
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.scale.workers()
    }

    /// The flow towards a host, for what an earlier run has written down.
    pub fn flow(&mut self, host: HostId) -> &mut Flow {
        self.seen_at = None;
        &mut self.lanes[host.0].flow
    }

    /// What has to be written down about the uploads that a host was given, if anything.
    pub fn to_write(&mut self, now: Instant, host: HostId) -> Option<Spent> {
        self.lanes[host.0].flow.to_write(now)
    }

    /// A number in `0.0..=1.0` (xorshift64).
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from(u16::try_from(self.random >> 48).unwrap_or(u16::MAX)) / f64::from(u16::MAX)
    }

    /// One more host.
    pub fn add_host(&mut self, flow: Flow) -> HostId {
        self.lanes.push(Lane::new(flow));
        HostId(self.lanes.len() - 1)
    }

    /// Another size of the pool. Attempts in flight keep the workers they have; surplus ones go when they are free.
    pub fn resize(&mut self, scale: Scale, queue_warn: usize) {
        self.seen_at = None;
        self.queue_warn = queue_warn.max(1);
        if self.scale.follow(scale) {
            self.free = (1..=self.scale.workers()).collect();
            let busy = self.attempts.values().filter_map(|attempt| match attempt.standing {
                Standing::Active { worker } => Some(worker),
                Standing::Parked | Standing::Late => None,
            });
            for worker in busy {
                self.free.remove(&worker);
            }
        }
    }

    /// Other limits of a host; what it has shown so far stays.
    pub fn limit(&mut self, host: HostId, flow: &Flow) {
        self.seen_at = None;
        self.lane(host).flow.limit_like(flow);
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Command> {
        let mut commands = Vec::new();
        self.seen_at = Some(now);
        self.tick(now, &mut commands);
        match input {
            Input::Ready(ready) => {
                self.waiting += 1;
                for host in ready.hosts.iter() {
                    self.lane(*host).ready.push_back(ready.clone());
                }
            }
            Input::Ended { job, end } => self.ended(now, job, end, &mut commands),
            Input::Recorded(job) => {
                if let Some((hosts, content)) = self.contents.remove(&job) {
                    for host in hosts.iter() {
                        self.taken.remove(&(*host, content));
                    }
                }
            }
            Input::Seen { job, idle, left } => {
                self.moved(now, job, idle, left);
                self.idle(now, job, idle);
            }
            Input::Trouble { job, trouble } => self.trouble(now, job, trouble, &mut commands),
            Input::Rest { host, until } => self.lane(host).flow.rest(now, until),
            Input::Wake(host) => {
                let step = self.lane(host).flow.wake();
                commands.extend(step.map(|step| Command::Circuit { host, step }));
            }
            Input::Hold { host, held } => self.lane(host).held = held,
            Input::Withdraw(job) => self.withdraw(job),
            Input::Resumed => {
                for index in 0..self.lanes.len() {
                    let pause = RESUME_SPREAD.mul_f64(self.jitter());
                    self.lanes[index].flow.resume(now, pause);
                }
            }
            Input::Blocked(blocked) => self.blocked = blocked,
            Input::Stop => self.stopping = true,
            Input::Tick => {}
        }
        self.dispatch(now, &mut commands);
        if self.rescale(now, &mut commands) {
            self.dispatch(now, &mut commands);
        }
        self.watch_depth(&mut commands);
        commands
    }

    /// What the passing of time brings.
    fn tick(&mut self, now: Instant, commands: &mut Vec<Command>) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let step = lane.flow.tick(now);
            commands.extend(step.map(|step| Command::Circuit { host: HostId(index), step }));
        }
    }

    /// More workers or fewer, by load. Tells whether there are more.
    fn rescale(&mut self, now: Instant, commands: &mut Vec<Command>) -> bool {
        let wanted = self.free.is_empty() && self.busy < self.scale.max() && self.pick(now).is_some();
        let before = self.scale.workers();
        if !self.scale.observe(now, self.busy, wanted) {
            return false;
        }
        let workers = self.scale.workers();
        self.free.retain(|worker| *worker <= workers);
        self.free.extend(before + 1..=workers);
        commands.push(Command::Workers { workers });
        workers > before
    }

    /// When something may be started that could not be started yet. It can be past at `now`: nothing that became due since the
    /// last input was seen by it, and nobody else would come back for it.
    #[must_use]
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        let Some(seen) = self.seen_at else { return Some(now) };
        let opens = self.lanes.iter().filter(|lane| lane.waits()).map(|lane| lane.flow.open_at(seen));
        let circuits = self.lanes.iter().filter_map(|lane| lane.flow.circuit().open_until());
        opens.chain(circuits).chain(self.scale.next_look()).filter(|at| *at > seen).min()
    }

    /// Whether it matters how attempts get on: somebody waits for what they hold.
    #[must_use]
    pub fn wants_looks(&self) -> bool {
        !self.attempts.is_empty() && self.depth() > 0
    }

    /// Jobs in the queue.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.waiting
    }

    /// Whether this host takes nothing at the moment, however long one waits for a place in its window.
    #[must_use]
    pub fn turns_away(&self, now: Instant, host: HostId) -> bool {
        self.lanes[host.0].held || self.lanes[host.0].flow.turns_away(now)
    }

    /// Workers in use.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.attempts.len()
    }

    /// The worker of an attempt, unless it is parked.
    #[must_use]
    pub fn worker_of(&self, job: JobId) -> Option<usize> {
        match self.attempts.get(&job)?.standing {
            Standing::Active { worker } => Some(worker),
            Standing::Parked | Standing::Late => None,
        }
    }

    /// Numbers of one host.
    #[must_use]
    pub fn view(&self, now: Instant, host: HostId) -> LaneView {
        let lane = &self.lanes[host.0];
        let parked = self.attempts.values().filter(|a| a.host == host && a.standing == Standing::Parked).count();
        LaneView {
            in_flight: lane.in_window + lane.late,
            parked: parked + lane.late,
            queued: lane.ready.len(),
            window: lane.flow.window(),
            ceiling: lane.flow.ceiling(),
            resting_until: lane.flow.resting_until(now),
            circuit: lane.flow.circuit().cause(),
            circuit_until: lane.flow.circuit().open_until(),
            exhausted_until: lane.flow.budget().exhausted_until(now),
            quota: lane.flow.budget().left(now),
            proven: lane.flow.is_proven(),
        }
    }

    fn lane(&mut self, host: HostId) -> &mut Lane {
        &mut self.lanes[host.0]
    }

    /// A worker is free, unless the pool has become smaller meanwhile.
    fn release(&mut self, worker: usize) {
        self.busy -= 1;
        if worker <= self.scale.workers() {
            self.free.insert(worker);
        }
    }

    fn withdraw(&mut self, job: JobId) {
        let before: usize = self.lanes.iter().map(|lane| lane.ready.len()).sum();
        self.lanes.iter_mut().for_each(|lane| lane.ready.retain(|ready| ready.job != job));
        let after: usize = self.lanes.iter().map(|lane| lane.ready.len()).sum();
        self.waiting -= usize::from(after < before);
    }

    fn ended(&mut self, now: Instant, job: JobId, end: End, commands: &mut Vec<Command>) {
        let Some(attempt) = self.attempts.remove(&job) else { return };
        let (host, began) = (attempt.host, attempt.began);
        let lane = &self.lanes[host.0];
        let full = lane.in_window >= lane.flow.window() && attempt.standing != Standing::Late;
        match attempt.standing {
            Standing::Active { worker } => {
                self.release(worker);
                self.lane(host).in_window -= 1;
            }
            Standing::Parked => self.lane(host).in_window -= 1,
            Standing::Late => self.lane(host).late -= 1,
        }
        let jitter = self.jitter();
        self.lane(host).under_way -= attempt.under_way();
        let flow = &mut self.lane(host).flow;
        let changes = match end {
            End::Succeeded => {
                let took = now.saturating_duration_since(began);
                flow.uplink_mut().through(now, attempt.carried(0));
                flow.succeed(now, &Sample { began, took, bytes: attempt.bytes, full })
            }
            End::Failed(trouble) => flow.fail(now, job, began, trouble, jitter),
            End::Answered => flow.answered(),
            End::Other => Changes::default(),
        };
        flow.ended(job);
        tell(host, changes, commands);
    }

    /// A request of an attempt that goes on has failed.
    fn trouble(&mut self, now: Instant, job: JobId, trouble: Trouble, commands: &mut Vec<Command>) {
        let Some(attempt) = self.attempts.get(&job).copied() else { return };
        let jitter = self.jitter();
        let changes = self.lane(attempt.host).flow.fail(now, job, attempt.began, trouble, jitter);
        tell(attempt.host, changes, commands);
    }

    fn watch_depth(&mut self, commands: &mut Vec<Command>) {
        let depth = self.depth();
        if !self.filling && depth >= self.queue_warn {
            self.filling = true;
            commands.push(Command::QueueFilling { depth });
        } else if self.filling && depth <= self.queue_warn / 2 {
            self.filling = false;
            commands.push(Command::QueueDrained { depth });
        }
    }
}

/// What has changed about the flow towards `host`.
fn tell(host: HostId, changes: Changes, commands: &mut Vec<Command>) {
    commands.extend(changes.circuit.map(|step| Command::Circuit { host, step }));
    commands.extend(changes.window.map(|window| Command::WindowChanged { host, window }));
}

#[cfg(test)]
mod outage;
#[cfg(test)]
mod slow_line;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waking;
