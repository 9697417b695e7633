//! Another configuration while the agent runs: read and validated first, applied whole or not at all.
//!
//! Attempts in flight are not touched: they hold the host they began with. What is queued from a folder that has changed
//! goes back and comes again, as the new configuration says. Places that are bound at the start (the ledger, the control
//! socket, the address of the server) stay as they are, and the answer says so.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::pool::Pool;
use super::shared::{Note, Shared};
use super::wiring::{self, Wired};
use super::{Loaded, claim, intake, pulse, steer};
use crate::config::{ConfigError, difference};
use crate::control::steer::Reloaded;
use crate::flow::Scale;
use crate::panics;
use crate::schedule::Input;
use crate::telemetry::{Event, Fields, emit, set_level};

/// Starts what belongs to new hosts and feeds.
pub(super) fn start_tasks(shared: &Arc<Shared>, wired: Wired) {
    for host in wired.new_hosts {
        shared.tracker.spawn(panics::essential(claim::claim_due(Arc::clone(shared), host)));
    }
    for fed in wired.fed {
        shared.tracker.spawn(panics::essential(intake::watch_folder(Arc::clone(shared), fed)));
    }
}

impl Pool {
    /// Reads the configuration on a thread that may block; what comes of it comes back as a note.
    pub(super) fn read_again(&self, reply: oneshot::Sender<Reloaded>) {
        let shared = Arc::clone(&self.shared);
        let Some(read) = shared.reload.clone() else {
            let rejected =
                Some("the agent was started without a configuration file: there is nothing to read".to_owned());
            return drop(reply.send(Reloaded { rejected, ..Reloaded::default() }));
        };
        if self.ready && !self.stopping {
            pulse::reloading();
        }
        self.shared.tracker.spawn(async move {
            if let Ok(loaded) = tokio::task::spawn_blocking(move || read()).await {
                let _ = shared.notes.send(Note::Loaded(Box::new(loaded), reply)).await;
            }
        });
    }

    /// Applies what was read, and answers. The service manager waits for the word that it is over.
    pub(super) fn loaded(&mut self, loaded: Result<Loaded, ConfigError>, reply: oneshot::Sender<Reloaded>) {
        let answer = self.reload(loaded);
        if self.ready && !self.stopping {
            pulse::ready(self);
        }
        // The one who asked may be gone.
        let _ = reply.send(answer);
    }

    /// Applies what was read, or says what is wrong with it.
    fn reload(&mut self, loaded: Result<Loaded, ConfigError>) -> Reloaded {
        if self.stopping {
            let rejected = Some("the agent is stopping".to_owned());
            return Reloaded { rejected, ..Reloaded::default() };
        }
        let applied = loaded.map_err(|error| error.to_string()).and_then(|loaded| self.apply(loaded));
        applied.unwrap_or_else(|problems| {
            emit(
                Event::ConfigRejected,
                &Fields::default(),
                format_args!("the configuration was read again and cannot be used; nothing was changed: {problems}"),
            );
            Reloaded { rejected: Some(problems), ..Reloaded::default() }
        })
    }

    fn apply(&mut self, loaded: Loaded) -> Result<Reloaded, String> {
        let old = self.shared.config();
        let config = Arc::new(loaded.config);
        let changes = difference(&old, &config);
        let wired =
            wiring::wire(&self.shared, Arc::clone(&config), &loaded.hosts).map_err(|error| error.to_string())?;
        for host in &wired.new_hosts {
            let id = self.scheduler.add_host(wiring::flow_of(&config, &self.shared.host(*host)));
            debug_assert_eq!(id, *host, "lanes and slots are counted alike");
        }
        for (host, slot) in self.shared.hosts() {
            self.scheduler.limit(host, &wiring::flow_of(&config, &slot));
        }
        let size = &config.pool;
        let scale = Scale::new(size.min_workers, size.workers, size.max_workers);
        self.scheduler.resize(scale, size.queue_warn);
        self.shared.links.look_through();
        set_level(&config.log.level);
        let moved: Vec<_> = wired.changed.iter().chain(&wired.removed).copied().collect();
        self.give_back(|folder| moved.contains(&folder));
        self.take_up(wired);
        self.handle(Input::Tick);
        Ok(self.told(changes.iter().map(ToString::to_string).collect(), changes.iter().filter(|c| c.at_start).count()))
    }

    /// Starts the tasks of what is new, and brings back what rests in folders that have changed.
    fn take_up(&mut self, wired: Wired) {
        let paths: Vec<_> = wired.changed.iter().map(|folder| self.shared.folder(*folder).path.clone()).collect();
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(async move {
            // Something may have been paused before it was configured.
            let _ = steer::restore(&shared).await;
            let _ = shared.notes.send(Note::Restored).await;
            start_tasks(&shared, wired);
            for path in paths {
                claim::make_due(&shared, &path).await;
            }
            shared.wake_claimers();
        });
    }

    fn told(&self, changes: Vec<String>, at_start: usize) -> Reloaded {
        let running = self.running.len();
        emit(
            Event::ConfigReloaded,
            &Fields::default(),
            format_args!("the configuration was read again: {} changes, {running} uploads go on", changes.len()),
        );
        for change in &changes {
            emit(Event::ConfigReloaded, &Fields::default(), format_args!("{change}"));
        }
        Reloaded { changes, at_start, running, rejected: None }
    }
}
