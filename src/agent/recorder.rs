//! The recorder: turns outcomes into lasting facts, in the one order that survives a crash at any point.
//!
//! ledger (result, durable) → manifest line (fsynced) → sidecar → move → ledger (`done`). Everything that has gathered
//! is written as one batch, so that one fsync serves many; no worker waits for it. The steps of [`Desk`] block and run on
//! a blocking thread.
//!
//! Trouble with the ledger blocks everything until it is well again; trouble with one folder's manifest blocks that
//! folder only, and its results, safe in the ledger, are tried again every [`AGAIN`].

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::desk::{Desk, Entry};
use super::live;
use super::recovery::Recovered;
use super::shared::{FolderId, Note, Shared};
use super::verdict::End;
use crate::clock::human;
use crate::config::Folder;
use crate::job::{ErrorClass, Event as JobEvent, Job, JobId, Stage};
use crate::ledger::{Answer, Durability, Write};
use crate::panics::essential_work;
use crate::record::{Mirror, Status};
use crate::telemetry::{Event, Fields, emit, shown, trouble};

/// Results that may wait for the recorder. When it is full the disk is slower than the network, and workers wait.
pub(super) const RESULTS: usize = 256;

/// How many results are written as one batch at most: bounds what one fsync waits for.
const BATCH: usize = 256;

/// How long after a failed write it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// After so long without a result the manifests are closed: an open file keeps a file system from being unmounted.
const IDLE: Duration = Duration::from_secs(5);

/// A job whose attempt is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) folder: FolderId,
    pub(super) end: End,
    /// How long the attempt took.
    pub(super) took: Duration,
    /// The slot it had, for the log.
    pub(super) worker: Option<usize>,
    /// What each host has, with `policy = "mirror"`.
    pub(super) mirrors: Vec<Mirror>,
    /// The answer of the host is on its way into the ledger.
    pub(super) kept: Option<Answered>,
}

/// A write to the ledger whose end nobody has looked at yet.
pub(super) struct Answered(pub(super) Answer<()>);

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answered")
    }
}

/// The recorder's task.
#[derive(Debug)]
pub(super) struct Recorder {
    shared: Arc<Shared>,
    desk: Option<Desk>,
    seq: u64,
    /// In the ledger, not yet in their folder's manifest or at their place.
    outstanding: Vec<Entry>,
    /// Answers of hosts that an earlier life wrote down and did not come to record.
    answered: Vec<Finished>,
    /// Ends of attempts whose drop folder is away. The ledger knows their answers.
    away: Vec<Finished>,
}

impl Recorder {
    /// A recorder that first takes up what was recovered.
    pub(super) fn new(shared: Arc<Shared>, recovered: Recovered) -> Self {
        let Recovered { desk, seq, outstanding, answered, .. } = recovered;
        Self { shared, desk: Some(desk), seq, outstanding, answered, away: Vec::new() }
    }

    /// Records until every sender is gone and everything is written; gives up on what cannot be written then, which the
    /// ledger knows and the next start finishes.
    pub(super) async fn run(mut self, mut results: mpsc::Receiver<Finished>) {
        let answered = std::mem::take(&mut self.answered);
        self.record(answered).await;
        let mut batch = Vec::with_capacity(BATCH);
        let (mut again, mut idle) = (Instant::now(), Instant::now() + IDLE);
        let mut closed = false;
        let mut asked = self.shared.recorder.began();
        loop {
            let (wait, nobody_away) = (self.outstanding.is_empty(), self.away.is_empty());
            tokio::select! {
                received = results.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    let finished = std::mem::take(&mut batch);
                    self.record(finished).await;
                    (idle, closed) = (Instant::now() + IDLE, false);
                }
                Ok(()) = asked.changed() => self.shared.recorder.answer(&mut asked).await,
                () = tokio::time::sleep_until(again), if !wait || !nobody_away => {
                    self.file(Vec::new()).await;
                    let away = std::mem::take(&mut self.away);
                    self.record(away).await;
                    again = Instant::now() + AGAIN;
                }
                () = tokio::time::sleep_until(idle), if !closed => {
                    self.at_the_desk(Desk::close).await;
                    closed = true;
                }
            }
        }
        self.file(Vec::new()).await;
    }

    async fn record(&mut self, mut finished: Vec<Finished>) {
        if finished.is_empty() {
            return;
        }
        let kept = kept(&mut finished).await;
        let (now, seq, cooldown) = (self.shared.clock.now(), self.seq, self.shared.config().cooldown.clone());
        let decided = self.at_the_desk(move |desk| desk.decide(finished, now, seq, &cooldown)).await;
        self.away.extend(decided.away);
        for (id, slot) in self.shared.folders() {
            slot.away.store(self.away.iter().any(|one| one.folder == id), Ordering::Relaxed);
        }
        if decided.entries.is_empty() && decided.writes.is_empty() {
            return;
        }
        self.seq = decided.entries.iter().map(|entry| entry.record.seq).max().unwrap_or(seq);
        let mut writes = decided.writes;
        // What is in the ledger already is made durable by this write too.
        let unwritten = decided.entries.iter().filter(|entry| !kept.contains(&entry.job.id));
        writes.extend(unwritten.map(|entry| Write::Put(Box::new(entry.job.clone()))));
        // No number is used twice, wherever a crash comes.
        writes.push(Write::Seq(self.seq));
        self.shared.write(writes, Durability::Power).await;
        for (job, folder, path, look_again) in decided.released {
            Self::release(&self.shared, job, folder, &path, look_again).await;
        }
        self.file(decided.entries).await;
    }

    /// Manifest, sidecars, moves, and the word `done`; first of what is outstanding, so that numbers rise in a manifest.
    async fn file(&mut self, new: Vec<Entry>) {
        let mut entries = std::mem::take(&mut self.outstanding);
        entries.extend(new);
        if entries.is_empty() {
            return;
        }
        let (entries, troubles) = self
            .at_the_desk(move |desk| {
                let mut entries = entries;
                let mut troubles = desk.write_lines(&mut entries);
                troubles.extend(desk.shelve(&mut entries));
                (entries, troubles)
            })
            .await;
        let blocked: HashSet<FolderId> = troubles.iter().map(|(folder, _)| *folder).collect();
        for (folder, error) in troubles {
            self.shared.block_folder(folder, &error.to_string());
        }
        let (mut done, waiting): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.shelved);
        self.outstanding = waiting;
        let mut writes = Vec::with_capacity(done.len());
        for entry in &mut done {
            if !blocked.contains(&entry.folder) {
                self.shared.unblock_folder(entry.folder);
            }
            entry.job.pending = false;
            if let Err(error) = entry.job.advance(JobEvent::Record) {
                trouble("a job is not where it should be (a bug)", &error);
            }
            writes.push(Write::Put(Box::new(entry.job.clone())));
        }
        self.shared.write(writes, Durability::Process).await;
        for entry in done {
            let slot = self.shared.slot(entry.folder);
            log_recorded(&slot.config(), &entry);
            self.shared.call_hooks(&entry.record);
            if entry.job.path == entry.from {
                slot.in_place.store(true, Ordering::Relaxed);
            }
            if entry.record.status.is_final() {
                self.shared.albums.stir(entry.folder, &slot.config(), &entry.job.name);
            }
            if entry.record.status.is_final() && !slot.config().render.is_empty() {
                self.shared.links.note(entry.folder, &entry.record);
            }
            self.shared.count(entry.record.status);
            self.shared.note_outcome(&entry.job, entry.failure.as_ref());
            live::recorded(&self.shared, &slot, &entry.job, &entry.record, entry.failure.as_ref());
            if entry.job.stage == Stage::Cooling {
                self.shared.wake_claimers();
            }
            Self::release(&self.shared, entry.job.id, entry.folder, &entry.from, entry.replaced).await;
        }
    }

    async fn release(shared: &Shared, job: JobId, folder: FolderId, path: &Path, look_again: bool) {
        let slot = shared.slot(folder);
        slot.busy.remove(path);
        if look_again {
            slot.hints().hint(path.to_path_buf());
        }
        // The pool ends before the recorder does: nobody to tell then.
        let _ = shared.notes.send(Note::Recorded(job)).await;
    }

    /// Runs a blocking step with the desk.
    async fn at_the_desk<T: Send + 'static>(&mut self, step: impl FnOnce(&mut Desk) -> T + Send + 'static) -> T {
        let mut desk = self.desk.take().expect("the desk is put back after each step");
        let step = essential_work(move || {
            let value = step(&mut desk);
            (desk, value)
        });
        let joined = tokio::task::spawn_blocking(step).await;
        let (desk, value) = joined.expect("steps of the desk return errors and do not panic");
        self.desk = Some(desk);
        value
    }
}

/// The jobs whose answers the ledger has by now.
async fn kept(finished: &mut [Finished]) -> HashSet<JobId> {
    let mut kept = HashSet::new();
    for job in finished {
        if let Some(Answered(answer)) = job.kept.take()
            && answer.await.is_ok()
        {
            kept.insert(job.job.id);
        }
    }
    kept
}

/// One log line per outcome.
fn log_recorded(folder: &Folder, entry: &Entry) {
    let (job, record) = (&entry.job, &entry.record);
    let failure = entry.failure.as_ref();
    let fields = Fields {
        job: Some(job.id),
        worker_id: entry.worker,
        service: Some(&job.host),
        file: Some(&job.name),
        folder: Some(&folder.path),
        attempt: Some(job.attempts),
        bytes: Some(record.bytes),
        duration: Some(entry.took),
        http_status: failure.and_then(|f| f.http_status),
        error_class: failure.map(|f| f.class),
        url: record.url.as_deref(),
        next_try_at: if job.stage == Stage::Cooling { job.not_before } else { None },
        ..Fields::default()
    };
    let name = shown(&job.name);
    let url = record.url.as_deref().unwrap_or("");
    let took = human(Duration::from_millis(record.duration_ms));
    match (record.status, failure) {
        (Status::Uploaded, _) => emit(Event::JobUploaded, &fields, format_args!("{name} → {url} ({took})")),
        (Status::Linked, _) => {
            emit(Event::JobUploaded, &fields, format_args!("{name} → {url} (the same image was uploaded before)"));
        }
        (status, Some(failure)) => {
            let event = match status {
                Status::Failed if failure.class == ErrorClass::Cancelled => Event::JobCancelled,
                Status::Failed => Event::JobFailed,
                Status::Timeout => Event::JobTimeout,
                _ => Event::JobDeferred,
            };
            let next = fields.next_try_at.map(|at| format!("; next try at {at}")).unwrap_or_default();
            let advice = failure.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
            emit(
                event,
                &fields,
                format_args!(
                    "{name} was not uploaded to {}: {} (phase {}){next}{advice}",
                    job.host,
                    failure.message,
                    failure.phase.name()
                ),
            );
            if failure.class == ErrorClass::Account {
                emit(
                    Event::AccountError,
                    &fields,
                    format_args!(
                        "{} refuses the key or account: {}; check [host.{}] with `pixchute check`",
                        job.host, failure.message, job.host
                    ),
                );
            }
        }
        (_, None) => {}
    }
}
