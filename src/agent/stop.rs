//! How the pool stops: what is running gets a while, then it is cut, and what was claimed is given back.

use std::time::Duration;

use tokio::time::timeout;

use super::pool::{Pool, Queued};
use super::pulse;
use crate::clock::human;
use crate::job::Job;
use crate::ledger::{Durability, Write};
use crate::schedule::Input;
use crate::telemetry::{Event, Fields, emit};

/// How long attempts that were cut may take to end: dropping a future takes no time, but its result has to be written.
const CUT_GRACE: Duration = Duration::from_secs(5);

impl Pool {
    /// No new files, no new attempts; running ones get `drain`, then they are cut.
    pub(super) async fn stop(&mut self) {
        self.stopping = true;
        pulse::stopping();
        self.shared.stopping.cancel();
        self.handle(Input::Stop);
        let drain = self.shared.config().pool.drain;
        emit(
            Event::AgentStopping,
            &Fields::default(),
            format_args!(
                "stopping: {} running attempts have {} to finish; {} queued files wait for the next start",
                self.running.len(),
                human(drain),
                self.queued.len()
            ),
        );
        if timeout(drain, self.until_idle()).await.is_err() {
            self.shared.cut.cancel();
            let _ = timeout(CUT_GRACE, self.until_idle()).await;
        }
        self.shared.cut.cancel();
        // What was claimed from the ledger is given back; fresh files lie in the drop folder and are found again.
        let now = self.shared.clock.now();
        let claimed = self.queued.drain().filter(|(_, queued)| !queued.fresh);
        let back = |queued: Queued| Write::Put(Box::new(Job { not_before: Some(now), ..queued.task.job }));
        let mut writes: Vec<Write> = claimed.map(|(_, queued)| back(queued)).collect();
        writes.extend(self.all_begun());
        if !writes.is_empty() {
            let _ = self.shared.ledger.write(writes, Durability::Process).await;
        }
        self.notes.close();
        while self.notes.try_recv().is_ok() {}
    }

    async fn until_idle(&mut self) {
        while !self.running.is_empty() {
            tokio::select! {
                note = self.notes.recv() => match note {
                    Some(note) => self.note(note),
                    None => return,
                },
                Some(request) = self.requests.recv() => self.answer(request),
            }
        }
    }
}
