//! Who is sent next: the turn of the hosts, and which of its hosts a job goes to.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Attempt, Choice, Command, HostId, MOST_BEHIND, Ready, Scheduler, Standing};

impl Scheduler {
    /// Whether `host` could be given one more job now.
    pub(super) fn has_room(&self, now: Instant, host: HostId) -> bool {
        let lane = &self.lanes[host.0];
        // A host that has not answered yet gets one probe while others have work, so that what is silent cannot take the
        // pool.
        let alone = lane.ready.len() == self.waiting;
        let may = alone || lane.flow.is_proven() || lane.in_window == 0;
        let window = lane.in_window < lane.flow.window();
        !lane.held && may && window && lane.flow.admits() && lane.flow.open_at(now) <= now
    }

    /// Whether one more body of `bytes` would get through to `host` in time.
    fn carries(&self, now: Instant, host: HostId, bytes: u64) -> bool {
        let lane = &self.lanes[host.0];
        let under_way = self.attempts.values().filter(|attempt| attempt.host == host && attempt.under_way() > 0);
        // Mostly it is so little that nobody has to be looked for.
        let age = || under_way.map(|attempt| now.saturating_duration_since(attempt.began)).max().unwrap_or_default();
        lane.flow.uplink().carries(lane.under_way, age, bytes)
    }

    /// Whether it is `host` that `ready` goes to, if it starts now. `host` has room.
    fn chooses(&self, now: Instant, ready: &Ready, host: HostId) -> bool {
        if ready.hosts.len() == 1 {
            return true;
        }
        let best = match ready.choice {
            Choice::First => ready.hosts.iter().copied().find(|host| !self.turns_away(now, *host)),
            Choice::Even { group } => {
                let able = ready.hosts.iter().copied().filter(|host| self.has_room(now, *host));
                let given = |host: &HostId| self.given.get(&(group, *host)).copied().unwrap_or(0);
                // A full line comes last; if all are full, one of them is kept free for it.
                able.min_by_key(|host| (!self.carries(now, *host, ready.bytes), given(host)))
            }
        };
        best == Some(host)
    }

    /// A twin is in flight, or its links are not on record yet.
    fn has_twin(&self, ready: &Ready) -> bool {
        let Some(content) = ready.content else { return false };
        let taken = |host: &HostId| self.taken.get(&(*host, content)).is_some_and(|job| *job != ready.job);
        ready.hosts.iter().any(taken)
    }

    /// Whose turn it is, among the hosts that have something to start, and the job: its position in that host's line.
    pub(super) fn pick(&self, now: Instant) -> Option<(HostId, usize)> {
        let hosts = self.lanes.len();
        (0..hosts).map(|step| HostId((self.turn + step) % hosts)).filter(|host| self.has_room(now, *host)).find_map(
            |host| {
                let lane = &self.lanes[host.0];
                // A file that has rested can be back before the word that its last attempt is over.
                let over = |ready: &Ready| !self.attempts.contains_key(&ready.job);
                let startable = |ready: &Ready| over(ready) && !self.has_twin(ready) && self.chooses(now, ready, host);
                let position = lane.ready.iter().position(startable)?;
                // No smaller one goes first: the large ones would never have their turn.
                self.carries(now, host, lane.ready[position].bytes).then_some((host, position))
            },
        )
    }

    pub(super) fn dispatch(&mut self, now: Instant, commands: &mut Vec<Command>) {
        while !self.blocked && !self.stopping {
            let Some(worker) = self.free.first().copied() else { return };
            let Some((host, position)) = self.pick(now) else { return };
            let lane = self.lane(host);
            let Some(ready) = lane.ready.remove(position) else { return };
            let probe = lane.flow.begin(now, ready.job);
            lane.in_window += 1;
            if lane.under_way == 0 {
                lane.flow.uplink_mut().begin(now);
            }
            lane.under_way += ready.bytes;
            self.turn = (host.0 + 1) % self.lanes.len();
            self.free.remove(&worker);
            self.busy += 1;
            self.leave_queue(&ready, host);
            let standing = Standing::Active { worker };
            let (bytes, left) = (ready.bytes, ready.bytes);
            let attempt = Attempt { host, standing, began: now, bytes, left, still: false };
            self.attempts.insert(ready.job, attempt);
            commands.push(Command::Start { job: ready.job, host, worker, probe });
        }
    }

    /// `ready` goes to `host`: it leaves the other lines, and its twins wait.
    fn leave_queue(&mut self, ready: &Ready, host: HostId) {
        self.waiting -= 1;
        for other in ready.hosts.iter().filter(|other| **other != host) {
            self.lane(*other).ready.retain(|waiting| waiting.job != ready.job);
        }
        if let Choice::Even { group } = ready.choice
            && ready.hosts.len() > 1
        {
            let given = self.given.entry((group, host)).or_default();
            *given += 1;
            let least = given.saturating_sub(MOST_BEHIND);
            for other in ready.hosts.iter() {
                let given = self.given.entry((group, *other)).or_default();
                *given = least.max(*given);
            }
        }
        // A job that comes a second time, for its next host, holds its content already.
        if let Some(content) = ready.content
            && !self.contents.contains_key(&ready.job)
        {
            self.taken.extend(ready.hosts.iter().map(|host| ((*host, content), ready.job)));
            self.contents.insert(ready.job, (Arc::clone(&ready.hosts), content));
        }
    }
}
