//! Rests of hosts: when one follows from an attempt, and how long it is.

use std::time::Duration;

use super::shared::{Rest, Shared};
use super::verdict::{self, End};
use crate::host::Progress;
use crate::job::{FailureKind, Outcome};
use crate::ledger::{Durability, HostPause, Write};
use crate::schedule::HostId;

/// Whether the host must rest after `end`, which learns how long. The rest is written down before the attempt is over, so
/// that it survives a restart.
pub(super) async fn after(end: &mut End, shared: &Shared, host: HostId, progress: &Progress) -> Option<Rest> {
    let rest = match end {
        End::Outcome(Outcome::Failed(failure)) => {
            if failure.kind == FailureKind::Limited {
                failure.retry_after.get_or_insert_with(|| rate_limit_pause(shared, host));
            }
            let length = verdict::rest_after(failure, &shared.config().cooldown.backoff)?;
            Rest { length, reason: failure.message.clone() }
        }
        End::Outcome(Outcome::Uploaded(_)) => {
            // It took this image and says that it will not take another one.
            let length = progress.spent()?.unwrap_or_else(|| rate_limit_pause(shared, host));
            let reason = format!("{} took the last image of its limit", shared.host(host).name);
            Rest { length: length.max(verdict::SHORTEST_REST), reason }
        }
        _ => return None,
    };
    let since = shared.clock.now();
    let (name, until) = (shared.host(host).name.clone(), since.after(rest.length));
    let pause = HostPause { host: name, until, since, reason: rest.reason.clone() };
    shared.write(vec![Write::Pause(pause)], Durability::Process).await;
    Some(rest)
}

/// How long a host rests that asks for it and does not say how long.
fn rate_limit_pause(shared: &Shared, host: HostId) -> Duration {
    let config = shared.config();
    let own = config.hosts.get(&shared.host(host).name).and_then(|host| host.flow.rate_limit_pause);
    own.unwrap_or(config.flow.rate_limit_pause)
}
