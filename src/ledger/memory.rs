//! A ledger in a map: nothing survives. For tests under a paused clock, where a database's own thread would let virtual
//! time run ahead: every answer is ready at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    Answer, Census, Due, Durability, HostPause, Ledger, LedgerError, Memo, RecordHead, Write, is_claimable,
    is_linkable, is_open,
};
use crate::clock::WallTime;
use crate::job::{ContentHash, Job, JobId, Stage};

/// The rows in memory, with the same answers as [`super::SqliteLedger`].
#[derive(Debug, Default)]
pub struct MemoryLedger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    jobs: BTreeMap<JobId, Job>,
    pauses: BTreeMap<String, HostPause>,
    memos: BTreeMap<(String, String), Memo>,
    seq: u64,
}

impl State {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Put(job) => {
                self.seq = self.seq.max(RecordHead::of(&job).seq);
                self.jobs.insert(job.id, *job);
            }
            Write::Remove(id) => drop(self.jobs.remove(&id)),
            Write::Pause(pause) => drop(self.pauses.insert(pause.host.clone(), pause)),
            Write::Resume(host) => drop(self.pauses.remove(&host)),
            Write::Seq(seq) => self.seq = self.seq.max(seq),
            Write::Keep(memo) => drop(self.memos.insert((memo.kind.clone(), memo.key.clone()), memo)),
            Write::Drop { kind, key } => drop(self.memos.remove(&(kind, key))),
        }
    }

    fn same_content(&self, job: &Job) -> Option<&Job> {
        let hash = job.image?.hash;
        self.known(hash, &job.host).filter(|other| other.id != job.id)
    }

    fn known(&self, content: ContentHash, host: &str) -> Option<&Job> {
        self.jobs.values().find(|job| {
            job.host == host
                && job.image.is_some_and(|image| image.hash == content)
                && is_linkable(job, &RecordHead::of(job))
        })
    }

    fn due(&self, host: &str, now: WallTime, limit: usize) -> Due {
        let mut resting: Vec<&Job> = self.jobs.values().filter(|job| job.host == host && is_claimable(job)).collect();
        resting.sort_by_key(|job| (job.not_before, job.id));
        let due = resting.iter().take_while(|job| job.not_before <= Some(now)).count().min(limit);
        let next = resting.get(due).map(|job| job.not_before.unwrap_or(now));
        Due { jobs: resting[..due].iter().map(|job| (*job).clone()).collect(), next }
    }

    fn census(&self) -> Vec<Census> {
        let mut counts: Vec<Census> = Vec::new();
        for job in self.jobs.values() {
            let known = counts
                .iter_mut()
                .find(|entry| entry.folder == job.folder && entry.host == job.host && entry.stage == job.stage);
            if let Some(entry) = known {
                entry.count += 1;
                entry.oldest = entry.oldest.map(|oldest| oldest.min(job.queued_at));
                entry.next_due = [entry.next_due, next_due(job)].into_iter().flatten().min();
            } else {
                counts.push(Census {
                    folder: job.folder.clone(),
                    host: job.host.clone(),
                    stage: job.stage,
                    count: 1,
                    oldest: (job.stage != Stage::Done).then_some(job.queued_at),
                    next_due: next_due(job),
                });
            }
        }
        counts
    }
}

/// When a resting job is due.
fn next_due(job: &Job) -> Option<WallTime> {
    job.not_before.filter(|_| job.stage == Stage::Cooling && !job.pending)
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raw(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

fn is_between(path: &Path, from: &Path, to: &Path) -> bool {
    raw(from) < raw(path) && raw(path) < raw(to)
}

fn ready<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(std::future::ready(Ok::<T, LedgerError>(value)))
}

impl Ledger for MemoryLedger {
    fn write(&self, writes: Vec<Write>, _durability: Durability) -> Answer<()> {
        let mut state = self.state();
        writes.into_iter().for_each(|write| state.apply(write));
        ready(())
    }

    fn start(&self, job: Job, link: bool) -> Answer<Option<Job>> {
        let mut state = self.state();
        let known = if link { state.same_content(&job).cloned() } else { None };
        if known.is_none() {
            state.apply(Write::Put(Box::new(job)));
        }
        ready(known)
    }

    fn at_path(&self, path: PathBuf) -> Answer<Option<Job>> {
        ready(self.state().jobs.values().rev().find(|job| job.path == path).cloned())
    }

    fn job(&self, id: JobId) -> Answer<Option<Job>> {
        ready(self.state().jobs.get(&id).cloned())
    }

    fn due(&self, host: String, now: WallTime, limit: usize) -> Answer<Due> {
        ready(self.state().due(&host, now, limit))
    }

    fn unfinished(&self, after: Option<JobId>, limit: usize) -> Answer<Vec<Job>> {
        let state = self.state();
        let later = state.jobs.values().filter(|job| after.is_none_or(|after| job.id > after));
        ready(later.filter(|job| is_open(job)).take(limit).cloned().collect())
    }

    fn jobs(&self, stage: Option<Stage>, before: Option<JobId>, limit: usize) -> Answer<Vec<Job>> {
        let state = self.state();
        let earlier = state.jobs.values().rev().filter(|job| before.is_none_or(|before| job.id < before));
        ready(earlier.filter(|job| stage.is_none_or(|stage| job.stage == stage)).take(limit).cloned().collect())
    }

    fn census(&self) -> Answer<Vec<Census>> {
        ready(self.state().census())
    }

    fn any_between(&self, from: PathBuf, to: PathBuf) -> Answer<bool> {
        ready(self.state().jobs.values().any(|job| is_between(&job.path, &from, &to)))
    }

    fn between(&self, from: PathBuf, to: PathBuf, limit: usize) -> Answer<Vec<Job>> {
        let state = self.state();
        let mut inside: Vec<&Job> = state.jobs.values().filter(|job| is_between(&job.path, &from, &to)).collect();
        inside.sort_by(|a, b| raw(&a.path).cmp(raw(&b.path)).then(a.id.cmp(&b.id)));
        ready(inside.into_iter().take(limit).cloned().collect())
    }

    fn known(&self, content: ContentHash, hosts: Vec<String>) -> Answer<Option<Job>> {
        let state = self.state();
        ready(hosts.iter().find_map(|host| state.known(content, host)).cloned())
    }

    fn complete(&self) -> Answer<()> {
        ready(())
    }

    fn last_seq(&self) -> Answer<u64> {
        ready(self.state().seq)
    }

    fn pauses(&self) -> Answer<Vec<HostPause>> {
        ready(self.state().pauses.values().cloned().collect())
    }

    fn memos(&self, kind: String) -> Answer<Vec<Memo>> {
        ready(self.state().memos.values().filter(|memo| memo.kind == kind).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::conformance;

    #[tokio::test]
    async fn the_memory_ledger_keeps_every_promise_of_the_trait() {
        conformance::every_promise(MemoryLedger::new).await;
    }
}
