//! What follows from a look at an attempt: how far it is, and what it holds without need.

use std::time::Duration;

use tokio::time::Instant;

use super::{Attempt, LOUNGE, PATIENCE, Scheduler, Standing};
use crate::job::JobId;

impl Scheduler {
    /// Takes in how far an attempt is.
    pub(super) fn moved(&mut self, now: Instant, job: JobId, idle: Duration, left: u64) {
        let Some(attempt) = self.attempts.get_mut(&job) else { return };
        let before = *attempt;
        let lane = &mut self.lanes[before.host.0];
        let uplink = lane.flow.uplink_mut();
        (attempt.left, attempt.still) = (left, idle >= uplink.still_after(lane.in_window + lane.late));
        let bytes = before.carried(left);
        if bytes > 0 {
            uplink.moved(now, bytes);
        }
        lane.under_way = lane.under_way - before.under_way() + attempt.under_way();
    }

    /// Takes from an attempt that stands still what somebody else can use.
    pub(super) fn idle(&mut self, now: Instant, job: JobId, idle: Duration) {
        let Some(attempt) = self.attempts.get(&job).copied() else { return };
        let lane = &self.lanes[attempt.host.0];
        let without_worker = self.attempts.len() - self.busy();
        let lounge_free = without_worker < LOUNGE;
        // One short of the limit: a host whose late attempts reach it gets nothing new, and one more in the window does less
        // harm than that.
        let may_be_late = lane.late + 1 < self.late_limit();
        let is_late = idle >= lane.flow.late_after() && !lane.ready.is_empty() && may_be_late;
        let standing = match attempt.standing {
            Standing::Parked if is_late => Standing::Late,
            Standing::Active { .. } if is_late && lounge_free => Standing::Late,
            Standing::Active { .. } if idle >= PATIENCE && lounge_free && self.free.is_empty() => {
                if self.pick(now).is_none() {
                    return;
                }
                Standing::Parked
            }
            _ => return,
        };
        if let Standing::Active { worker } = attempt.standing {
            self.release(worker);
        }
        if standing == Standing::Late {
            let lane = self.lane(attempt.host);
            lane.in_window -= 1;
            lane.late += 1;
        }
        self.attempts.insert(job, Attempt { standing, ..attempt });
    }
}
