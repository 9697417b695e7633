//! The pool's loop: notes, questions and time go into the [`Scheduler`], its commands come out and are carried out.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempt};
use super::cancel;
use super::once::Once;
use super::shared::{FolderId, NOTES, Note, Rest, Shared, Task};
use super::slots::FolderSlot;
use super::{claim, pulse, status, undo};
use crate::clock::WallTime;
use crate::config::Dedupe;
use crate::control::{Request, Requests};
use crate::host::Progress;
use crate::job::JobId;
use crate::ledger::{Durability, HostPause, Write};
use crate::schedule::{Command, End, HostId, Input, Ready, Scheduler};
use crate::telemetry::{Event, Fields, emit};

/// How often attempts are looked at while somebody waits for what they hold. Only then: an idle agent does not tick.
const IDLE_TICK: Duration = Duration::from_millis(5);

/// How long after an attempt idle connections are closed: a little more than they may be idle.
const TIDY: Duration = Duration::from_millis(4_500);

/// With `--once`: how often it is checked whether everything is done, besides after every event.
const ONCE_TICK: Duration = Duration::from_millis(100);

/// How long a file rests for a host of which nobody knows when it is back: one that the user has paused, or one that is just
/// being probed.
const AWAY_AGAIN: Duration = Duration::from_secs(300);

/// An attempt in flight.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) name: PathBuf,
    /// Where the file lies.
    pub(super) path: PathBuf,
    pub(super) folder: FolderId,
    pub(super) host: HostId,
    /// How large the file is.
    bytes: u64,
    /// Ends the attempt as cancelled.
    pub(super) cancel: CancellationToken,
    pub(super) progress: Arc<Progress>,
}

/// A job in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) task: Box<Task>,
    /// Not in the ledger yet.
    pub(super) fresh: bool,
}

/// How the pool ended by itself.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The agent wants to be started anew.
    pub(super) restarting: bool,
    /// What was not waited for any longer, with `once`.
    pub(super) gave_up: Option<String>,
}

/// The pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) shared: Arc<Shared>,
    pub(super) scheduler: Scheduler,
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) requests: Requests,
    blocked: watch::Receiver<Option<String>>,
    pub(super) queued: HashMap<JobId, Queued>,
    pub(super) running: HashMap<JobId, Running>,
    /// Hosts that rest, for the word when they are back.
    pub(super) resting: HashMap<HostId, (Instant, WallTime, String)>,
    scanned: HashSet<FolderId>,
    pub(super) ready: bool,
    pub(super) stopping: bool,
    /// Ends, to be started anew.
    restarting: bool,
    pub(super) started_at: WallTime,
    /// When idle connections are to be closed.
    tidy_at: Option<Instant>,
    /// Both clocks when the loop went round last.
    pub(super) clocks: (Instant, WallTime),
    pub(super) gallery: Option<String>,
    pub(super) once: Once,
}

impl Pool {
    pub(super) fn new(
        shared: Arc<Shared>,
        scheduler: Scheduler,
        notes: mpsc::Receiver<Note>,
        requests: Requests,
        gallery: Option<String>,
        once: bool,
    ) -> Self {
        let blocked = shared.blocked.subscribe();
        let started_at = shared.clock.now();
        Self {
            shared,
            scheduler,
            notes,
            requests,
            blocked,
            queued: HashMap::new(),
            running: HashMap::new(),
            resting: HashMap::new(),
            scanned: HashSet::new(),
            ready: false,
            stopping: false,
            restarting: false,
            started_at,
            tidy_at: None,
            clocks: (Instant::now(), started_at),
            gallery,
            once: Once::new(once),
        }
    }

    /// Takes up the rests that were written down before a restart; none lasts longer than it was meant to.
    pub(super) fn rest_as_before(&mut self, pauses: Vec<HostPause>) {
        let now = self.shared.clock.now();
        for pause in pauses {
            let Some(host) = self.shared.host_named(&pause.host) else { continue };
            let length = pause.until.since(now).min(pause.until.since(pause.since));
            if !length.is_zero() {
                self.rest(host, &Rest { length, reason: pause.reason });
            }
        }
    }

    /// Runs until `shutdown`, then until running attempts have ended or were cut.
    pub(super) async fn run(&mut self, shutdown: impl Future<Output = ()>) -> Ended {
        let mut shutdown = pin!(shutdown);
        loop {
            if self.restarting || self.is_over() {
                break;
            }
            self.notice_sleep();
            let wake = self.next_wake();
            tokio::select! {
                () = &mut shutdown => break,
                note = self.notes.recv() => match note {
                    Some(first) => self.all_notes(first).await,
                    None => break,
                },
                Some(request) = self.requests.recv() => self.answer(request),
                changed = self.blocked.changed() => {
                    if changed.is_ok() {
                        let blocked = self.blocked.borrow_and_update().is_some();
                        self.handle(Input::Blocked(blocked));
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.tick(),
            }
        }
        self.stop().await;
        Ended { restarting: self.restarting, gave_up: self.once.gave_up() }
    }

    /// Everything that was said by now: asking all sources anew for each word would cost more than the words.
    async fn all_notes(&mut self, first: Note) {
        let mut next = Some(first);
        for _ in 0..NOTES {
            match next.take().or_else(|| self.notes.try_recv().ok()) {
                Some(Note::Freeze) => std::future::pending().await,
                Some(note) => self.note(note),
                None => return,
            }
        }
    }

    /// Since when the oldest job in the queue is known.
    pub(super) fn oldest_queued_at(&self) -> Option<WallTime> {
        self.queued.values().map(|queued| queued.task.job.queued_at).min()
    }

    /// Jobs of this folder in the queue that the ledger does not know, and since when the oldest of them is known.
    pub(super) fn fresh_of(&self, folder: FolderId) -> (u64, Option<WallTime>) {
        let fresh = || self.queued.values().filter(|queued| queued.fresh && queued.task.folder == folder);
        (fresh().count() as u64, fresh().map(|queued| queued.task.job.queued_at).min())
    }

    pub(super) fn note(&mut self, note: Note) {
        match note {
            Note::Arrived { task, fresh } => self.arrived(Queued { task, fresh }),
            Note::Ended { job, end, rest, again } => {
                self.ended(job, end, rest);
                if let Some(task) = again {
                    self.arrived(Queued { task, fresh: false });
                }
            }
            Note::Trouble { job, trouble } => self.handle(Input::Trouble { job, trouble }),
            Note::Recorded(job) => {
                self.shared.open.fetch_sub(1, Ordering::Relaxed);
                self.handle(Input::Recorded(job));
            }
            Note::Scanned(folder) => {
                self.scanned.insert(folder);
                self.perhaps_ready();
            }
            Note::Restart => self.restarting = true,
            Note::Checkpoint | Note::Freeze => {}
            Note::Pulse(reply) => drop(reply.send(pulse::said(self))),
            Note::Restored => self.hold_as_before(),
            Note::Loaded(loaded, reply) => self.loaded(*loaded, reply),
            Note::Cancel(sought, reply) => drop(reply.send(self.cancel(&sought))),
        }
    }

    fn arrived(&mut self, queued: Queued) {
        let Task { job, folder, trip, .. } = &*queued.task;
        let slot = self.shared.slot(*folder);
        let dedupe = slot.config().dedupe;
        let content = job.image.map(|image| image.hash).filter(|_| dedupe != Dedupe::Upload);
        let bytes = job.fingerprint.len;
        let ready = Ready { job: job.id, hosts: trip.open(), choice: trip.choice(folder.number()), content, bytes };
        let (folder, held) = (*folder, slot.held.borrow().is_some());
        self.queued.insert(ready.job, queued);
        if held {
            // It was on its way when its folder was paused.
            return self.give_back(|queued| queued == folder);
        }
        self.handle(Input::Ready(ready));
    }

    /// Takes jobs of these folders out of the queue: fresh ones are found in their folder again, the others wait in the
    /// ledger.
    pub(super) fn give_back(&mut self, of: impl Fn(FolderId) -> bool) {
        let ids: Vec<JobId> =
            self.queued.iter().filter(|(_, queued)| of(queued.task.folder)).map(|(id, _)| *id).collect();
        let mut claimed = Vec::new();
        for id in ids {
            let Some(queued) = self.queued.remove(&id) else { continue };
            self.handle(Input::Withdraw(id));
            if queued.fresh {
                let Task { job, folder, .. } = *queued.task;
                let slot = self.shared.slot(folder);
                slot.busy.remove(&job.path);
                slot.hints().hint(job.path);
                self.shared.open.fetch_sub(1, Ordering::Relaxed);
            } else {
                claimed.push((queued.task.folder, queued.task.job));
            }
        }
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(async move {
            for (folder, job) in claimed {
                claim::set_aside(&shared, folder, job).await;
            }
        });
    }

    fn ended(&mut self, job: JobId, end: End, rest: Option<Rest>) {
        self.tidy_at.get_or_insert_with(|| Instant::now() + TIDY);
        if let Some(running) = self.running.remove(&job)
            && let Some(rest) = rest
        {
            self.rest(running.host, &rest);
        }
        self.handle(Input::Ended { job, end });
        if end != End::Succeeded {
            self.tell_who_is_away();
        }
    }

    fn rest(&mut self, host: HostId, rest: &Rest) {
        let (now, wall) = (Instant::now(), self.shared.clock.now().after(rest.length));
        let until = now + rest.length;
        let known = self.resting.get(&host).map(|(known, _, _)| *known);
        self.no_more_tries(host);
        self.handle(Input::Rest { host, until });
        if known.is_some_and(|known| until <= known + Duration::from_secs(1)) {
            return;
        }
        self.resting.insert(host, (until, wall, rest.reason.clone()));
        let name = &self.shared.host(host).name;
        emit(
            Event::HostPaused,
            &Fields { service: Some(name), next_try_at: Some(wall), ..Fields::default() },
            format_args!("{name} rests until {wall}: {}", rest.reason),
        );
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.tidy_at.is_some_and(|at| at <= now) {
            self.shared.hosts().iter().for_each(|(_, slot)| slot.host().tidy());
            self.tidy_at = (!self.running.is_empty()).then(|| now + TIDY);
        }
        self.tell_who_is_away();
        let over: Vec<HostId> =
            self.resting.iter().filter(|(_, (until, _, _))| *until <= now).map(|(host, _)| *host).collect();
        for host in over {
            self.resting.remove(&host);
            let name = self.shared.host(host).name.clone();
            emit(
                Event::HostResumed,
                &Fields { service: Some(&name), ..Fields::default() },
                format_args!("{name} may be used again"),
            );
            let shared = Arc::clone(&self.shared);
            self.shared
                .tracker
                .spawn(async move { shared.write(vec![Write::Resume(name)], Durability::Process).await });
            self.shared.host(host).due.notify_one();
        }
        if self.scheduler.wants_looks() {
            let seen = |(job, running): (&JobId, &Running)| {
                let Running { progress, bytes, .. } = running;
                Input::Seen { job: *job, idle: progress.idle_sending(), left: progress.left(*bytes) }
            };
            let seen: Vec<Input> = self.running.iter().map(seen).collect();
            seen.into_iter().for_each(|seen| self.handle(seen));
        }
        self.handle(Input::Tick);
        self.perhaps_ready();
    }

    /// Lets those who choose a host know which ones turn everything away.
    fn tell_who_is_away(&self) {
        let now = Instant::now();
        for (host, slot) in self.shared.hosts() {
            let away = self.scheduler.turns_away(now, host).then(|| self.away(now, host, slot.held.borrow().is_some()));
            slot.set_away(away);
        }
    }

    /// Until when this host turns everything away, and why.
    fn away(&self, now: Instant, host: HostId, held: bool) -> (Instant, String) {
        let view = self.scheduler.view(now, host);
        let (until, reason) = if held {
            (None, "the user has paused it")
        } else if view.resting_until.is_some() {
            // After a sleep all hosts rest for a moment, and nobody has asked for that.
            let reason = self.resting.get(&host).map_or("this machine has slept", |(_, _, reason)| reason);
            (view.resting_until, reason)
        } else if view.exhausted_until.is_some() {
            (view.exhausted_until, "its quota is used up")
        } else {
            (view.circuit_until, "it has failed")
        };
        (until.unwrap_or(now + AWAY_AGAIN), reason.to_owned())
    }

    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let idle = self.scheduler.wants_looks().then(|| now + IDLE_TICK);
        let rests = self.resting.values().map(|(until, _, _)| *until).min();
        let once = (self.once.is_wanted() || !self.ready).then(|| now + ONCE_TICK);
        [self.scheduler.next_wake(now), idle, rests, once, self.tidy_at].into_iter().flatten().min()
    }

    pub(super) fn handle(&mut self, input: Input) {
        let now = Instant::now();
        let mut moves = matches!(input, Input::Rest { .. } | Input::Wake(_) | Input::Hold { .. });
        for command in self.scheduler.handle(now, input) {
            match command {
                Command::Start { job, host, worker, probe } => {
                    self.note_begun(host);
                    self.start(job, host, worker, probe);
                    // It may have been the last one of a quota.
                    moves |= self.scheduler.turns_away(now, host);
                }
                Command::Circuit { host, step } => self.circuit(host, step),
                Command::Workers { workers } => {
                    emit(Event::WindowChanged, &Fields::default(), format_args!("the pool has {workers} workers"));
                }
                Command::QueueFilling { depth } => emit(
                    Event::QueueFilling,
                    &Fields { queue_depth: Some(depth), ..Fields::default() },
                    format_args!(
                        "{depth} files wait for a worker; the rest of the backlog waits on disk (queue_warn = {})",
                        self.shared.config().pool.queue_warn
                    ),
                ),
                Command::QueueDrained { depth } => emit(
                    Event::QueueDrained,
                    &Fields { queue_depth: Some(depth), ..Fields::default() },
                    format_args!("the queue is down to {depth} files"),
                ),
                Command::WindowChanged { host, window } => {
                    let name = &self.shared.host(host).name;
                    emit(
                        Event::WindowChanged,
                        &Fields { service: Some(name), ..Fields::default() },
                        format_args!("{name} may get {window} files at once"),
                    );
                }
            }
        }
        if moves {
            self.tell_who_is_away();
        }
    }

    fn start(&mut self, id: JobId, host: HostId, worker: usize, probe: bool) {
        let Some(Queued { mut task, .. }) = self.queued.remove(&id) else { return };
        if !task.trip.has_choice() {
            task.place = None;
        }
        let progress = Arc::new(Progress::new());
        if probe {
            progress.probe();
        }
        let cancel = CancellationToken::new();
        let running = Running {
            name: task.job.name.clone(),
            path: task.job.path.clone(),
            folder: task.folder,
            host,
            bytes: task.job.fingerprint.len,
            cancel: cancel.clone(),
            progress: Arc::clone(&progress),
        };
        self.running.insert(id, running);
        let attempt = Attempt { task, host, worker, progress, cancel };
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(attempt::run(shared, attempt));
    }

    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Status(reply) => status::answer(self, reply),
            // The one who asked may be gone.
            Request::Attempts(reply) => drop(reply.send(status::attempts(self))),
            Request::Retry(what, reply) => {
                let shared = Arc::clone(&self.shared);
                self.shared.tracker.spawn(async move {
                    let _ = reply.send(status::retry(&shared, what).await);
                });
            }
            Request::Rescan(reply) => drop(reply.send(self.rescan())),
            Request::Undo(body, reply) => {
                let shared = Arc::clone(&self.shared);
                self.shared.tracker.spawn(async move {
                    let _ = reply.send(undo::here(&shared, body).await);
                });
            }
            Request::Cancel(what, reply) => {
                let shared = Arc::clone(&self.shared);
                self.shared.tracker.spawn(async move {
                    let _ = reply.send(cancel::cancel(&shared, what).await);
                });
            }
            Request::Reload(reply) => self.read_again(reply),
            Request::Turn(turn, names, reply) => self.turn(turn, &names, reply),
        }
    }

    /// Ready: every folder that is there has been scanned once.
    fn perhaps_ready(&mut self) {
        if self.ready || !self.all_scanned() {
            return;
        }
        self.ready = true;
        pulse::ready(self);
        emit(
            Event::AgentReady,
            &Fields::default(),
            format_args!("ready: {} folders are watched", self.shared.folders().len()),
        );
    }

    /// How many folders were scanned, or are not there.
    pub(super) fn scanned(&self) -> usize {
        self.shared.folders().iter().filter(|(id, _)| self.scanned.contains(id)).count()
    }

    /// This one was scanned, or is not there.
    pub(super) fn was_scanned(&self, folder: FolderId) -> bool {
        self.scanned.contains(&folder)
    }

    /// Every folder was scanned once, or is not there.
    pub(super) fn all_scanned(&self) -> bool {
        self.shared.folders().iter().all(|(id, slot)| self.scanned.contains(id) || self.is_held(slot))
    }

    /// The user paused the folder or its host.
    pub(super) fn is_held(&self, slot: &FolderSlot) -> bool {
        slot.held.borrow().is_some() || slot.hosts().iter().all(|host| self.shared.host(*host).held.borrow().is_some())
    }
}
