//! Which host a file goes to next: pure. A [`Trip`] is the list of a file's hosts and how each stands to it; what follows
//! from the end of an attempt at one of them is [`Trip::after`].
//!
//! | policy | a host fails | a host refuses the file | the file is done |
//! |---|---|---|---|
//! | `failover`, `round_robin` | the next one is tried, then the file rests | the next one is tried | one host has it |
//! | `mirror` | the others are tried, then the file rests | the others are tried | each has it or has refused it, and one has it |
//!
//! An attempt whose outcome is unknown may have left the image on the host: then the file rests before it goes to another
//! one, unless that is to have it anyway (`mirror`). A file never waits in the queue for a host that turns away, once
//! it was tried: it rests, on disk.

use std::sync::Arc;
use std::time::Duration;

use super::verdict::End;
use crate::config::Policy;
use crate::job::{ContentHash, Disposition, ErrorClass, Failure, Links, Outcome, Phase};
use crate::record::{Mirror, Record, RecordError};
use crate::schedule::{Choice, HostId};

/// How one host stands to a file.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// It may be asked.
    Open,
    /// It failed since the file rested last: not asked again before the next rest.
    Failed(Box<Failure>),
    /// It will never take this file.
    Refused(Box<Failure>),
    /// It has it; `linked` without an upload.
    Has { links: Box<Links>, linked: bool },
}

#[derive(Clone, Debug, PartialEq)]
struct Leg {
    host: HostId,
    name: String,
    standing: Standing,
}

impl Leg {
    fn has_failed(&self) -> bool {
        matches!(self.standing, Standing::Failed(_))
    }

    fn has_it(&self) -> bool {
        matches!(self.standing, Standing::Has { .. })
    }
}

/// The hosts of one file, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trip {
    policy: Policy,
    legs: Vec<Leg>,
}

/// A host that turns everything away at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Away {
    /// For how long at least.
    pub(super) rest: Duration,
    /// Why.
    pub(super) reason: String,
}

/// What follows from the end of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// The file goes to another host now.
    On,
    /// The file's life in memory ends.
    Over(Box<Over>),
}

/// The end of a file's life in memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Over {
    /// The host that the record names.
    pub(super) host: HostId,
    /// How it ended.
    pub(super) end: End,
}

impl Trip {
    /// A file that no host has been asked to take.
    pub(super) fn new(policy: Policy, hosts: impl IntoIterator<Item = (HostId, String)>) -> Self {
        let legs = hosts.into_iter().map(|(host, name)| Leg { host, name, standing: Standing::Open }).collect();
        Self { policy, legs }
    }

    /// Whether every host shall have the file.
    pub(super) fn mirrors_all(&self) -> bool {
        self.policy == Policy::Mirror && self.legs.len() > 1
    }

    /// Notes that `host` will never take this file.
    pub(super) fn refuse(&mut self, host: HostId, failure: Failure) {
        self.set(host, Standing::Refused(Box::new(failure)));
    }

    /// Takes up what an earlier record of the same content says about the hosts. After a final one the user wants another
    /// try, so only what is there counts.
    pub(super) fn recall(&mut self, record: &Record, content: ContentHash) {
        if !self.mirrors_all() || record.blake3 != Some(content) {
            return;
        }
        for mirror in &record.mirrors {
            let Some(leg) = self.legs.iter_mut().find(|leg| leg.name == mirror.host) else { continue };
            if let Some(links) = mirror.links() {
                leg.standing = Standing::Has { links: Box::new(links), linked: false };
            } else if let Some(error) = mirror.error.as_ref().filter(|_| !record.status.is_final())
                && error.class == ErrorClass::File
            {
                leg.standing = Standing::Refused(Box::new(failure_of(error)));
            }
        }
    }

    /// Notes the hosts that have this content already, by the record of another file. Tells whether `host` is one of them.
    pub(super) fn link(&mut self, record: &Record, host: HostId) -> bool {
        for leg in self.legs.iter_mut().filter(|leg| leg.standing == Standing::Open) {
            if let Some(links) = record.links_on(&leg.name) {
                leg.standing = Standing::Has { links: Box::new(links), linked: true };
            }
        }
        self.legs.iter().any(|leg| leg.host == host && leg.has_it())
    }

    /// The names of the hosts whose links of the same content will do instead of an upload, best first.
    pub(super) fn link_names(&self, host: HostId) -> Vec<String> {
        let open = |leg: &&Leg| !self.mirrors_all() || leg.standing == Standing::Open;
        let mut legs: Vec<&Leg> = self.legs.iter().filter(open).collect();
        legs.sort_by_key(|leg| leg.host != host);
        legs.into_iter().map(|leg| leg.name.clone()).collect()
    }

    /// The hosts that may be asked, in order.
    pub(super) fn open(&self) -> Arc<[HostId]> {
        self.legs.iter().filter(|leg| leg.standing == Standing::Open).map(|leg| leg.host).collect()
    }

    /// How the scheduler chooses among them. `group` is the number of the folder.
    pub(super) fn choice(&self, group: usize) -> Choice {
        match self.policy {
            Policy::Failover => Choice::First,
            Policy::Mirror | Policy::RoundRobin => Choice::Even { group },
        }
    }

    /// Whether more than one host belongs to the file.
    pub(super) fn has_choice(&self) -> bool {
        self.legs.len() > 1
    }

    /// The host of this name, if it is one of the file's.
    pub(super) fn host_named(&self, name: &str) -> Option<HostId> {
        self.legs.iter().find(|leg| leg.name == name).map(|leg| leg.host)
    }

    /// What the record says about each host; empty unless each shall have the file.
    pub(super) fn mirrors(&self) -> Vec<Mirror> {
        if !self.mirrors_all() {
            return Vec::new();
        }
        let mirror = |leg: &Leg| match &leg.standing {
            Standing::Open => Mirror { host: leg.name.clone(), ..Mirror::default() },
            Standing::Failed(failure) | Standing::Refused(failure) => {
                let error = Some(RecordError::of(failure, None, 0));
                Mirror { host: leg.name.clone(), error, ..Mirror::default() }
            }
            Standing::Has { links, .. } => Mirror::with_links(&leg.name, (**links).clone()),
        };
        self.legs.iter().map(mirror).collect()
    }

    /// What follows from how the attempt at `host` ended. `away` tells which hosts turn everything away at the moment;
    /// `last_round` that the file has no rest left.
    pub(super) fn after(
        &mut self,
        host: HostId,
        end: End,
        last_round: bool,
        away: impl Fn(HostId) -> Option<Away>,
    ) -> Next {
        let here = |end| Next::Over(Box::new(Over { host, end }));
        match end {
            End::Outcome(Outcome::Uploaded(links)) if self.mirrors_all() => {
                self.set(host, Standing::Has { links: Box::new(links), linked: false });
                self.go_on(None, last_round, away)
            }
            End::Known(links) if self.mirrors_all() => {
                self.set(host, Standing::Has { links: Box::new(links), linked: true });
                self.go_on(None, last_round, away)
            }
            End::Outcome(Outcome::Failed(failure)) if self.has_choice() => {
                let standing = match failure.class {
                    ErrorClass::File => Standing::Refused(Box::new(failure.clone())),
                    ErrorClass::Cancelled => return here(End::Outcome(Outcome::Failed(failure))),
                    ErrorClass::UnknownOutcome | ErrorClass::Io if !self.mirrors_all() => {
                        return here(End::Outcome(Outcome::Failed(failure)));
                    }
                    _ => Standing::Failed(Box::new(failure.clone())),
                };
                self.set(host, standing);
                self.go_on(Some((host, failure)), last_round, away)
            }
            end => here(end),
        }
    }

    /// Where to go, or that it is over. `failed` is what has just happened, if it was no success.
    fn go_on(
        &mut self,
        failed: Option<(HostId, Failure)>,
        last_round: bool,
        away: impl Fn(HostId) -> Option<Away>,
    ) -> Next {
        let open = self.open();
        let resting: Vec<(HostId, Away)> = open.iter().filter_map(|host| Some((*host, away(*host)?))).collect();
        if open.len() > resting.len() {
            return Next::On;
        }
        if self.mirrors_all() && last_round {
            self.give_up_failed();
        }
        let passing = |host: &HostId| self.legs.iter().any(|leg| leg.host == *host && leg.has_failed());
        let failed = failed.filter(|(host, _)| passing(host));
        Next::Over(Box::new(self.finished().unwrap_or_else(|| self.rest(failed, &resting))))
    }

    /// Failures that cost a rest are for good when there is none left, so that the hosts that have the file count.
    fn give_up_failed(&mut self) {
        if !self.legs.iter().any(Leg::has_it) {
            return;
        }
        for leg in &mut self.legs {
            if let Standing::Failed(failure) = &leg.standing
                && failure.disposition() == Disposition::CoolDown
            {
                leg.standing = Standing::Refused(failure.clone());
            }
        }
    }

    /// The end of a file that no host can still be asked about, if that is so.
    pub(super) fn finished(&self) -> Option<Over> {
        let undecided = |leg: &Leg| matches!(leg.standing, Standing::Open | Standing::Failed(_));
        if self.legs.iter().any(undecided) {
            return None;
        }
        let has = |leg: &Leg| match &leg.standing {
            Standing::Has { links, linked } => Some((leg.host, links.clone(), *linked)),
            _ => None,
        };
        let stored: Vec<_> = self.legs.iter().filter_map(has).collect();
        if let Some((host, links, _)) = stored.first() {
            let all_linked = stored.iter().all(|(_, _, linked)| *linked);
            let links = (**links).clone();
            let end = if all_linked { End::Known(links) } else { End::Outcome(Outcome::Uploaded(links)) };
            return Some(Over { host: *host, end });
        }
        let (host, failure) = self.refusal()?;
        Some(Over { host, end: End::Outcome(Outcome::Failed(failure)) })
    }

    /// Why no host takes the file: the first one's reason, and the words of the others.
    pub(super) fn refusal(&self) -> Option<(HostId, Failure)> {
        let refused = |leg: &Leg| match &leg.standing {
            Standing::Refused(failure) => Some((leg.host, (**failure).clone())),
            _ => None,
        };
        let mut refused = self.legs.iter().filter_map(refused);
        let (host, mut first) = refused.next()?;
        for (_, other) in refused {
            first.message = format!("{}; {}", first.message, other.message);
        }
        Some((host, first))
    }

    /// The file rests: for what has failed, or until the first of its resting hosts is back.
    fn rest(&self, failed: Option<(HostId, Failure)>, resting: &[(HostId, Away)]) -> Over {
        let failure_of = |leg: &Leg| match &leg.standing {
            Standing::Failed(failure) => Some((leg.host, (**failure).clone())),
            _ => None,
        };
        let costs_a_rest = |(_, failure): &(HostId, Failure)| failure.disposition() == Disposition::CoolDown;
        let all: Vec<_> = self.legs.iter().filter_map(failure_of).collect();
        let chosen = failed.clone().filter(costs_a_rest).or_else(|| all.iter().find(|one| costs_a_rest(one)).cloned());
        let soonest = resting.iter().min_by_key(|(_, away)| away.rest).map(|(host, away)| {
            let name = self.legs.iter().find(|leg| leg.host == *host).map_or("", |leg| leg.name.as_str());
            let message = format!("{name} is not used for now: {}", away.reason);
            let mut failure = Failure::new(ErrorClass::RateLimited, Phase::Wait, message);
            failure.retry_after = Some(away.rest);
            (*host, failure)
        });
        let waits = [failed, soonest].into_iter().flatten().chain(all.iter().cloned());
        let shortest = || waits.min_by_key(|(_, failure)| failure.retry_after.unwrap_or(Duration::MAX));
        let Some((host, mut failure)) = chosen.or_else(shortest) else {
            let failure = Failure::new(ErrorClass::File, Phase::Inspect, "no host is left to ask (a bug)");
            return Over { host: HostId(0), end: End::Outcome(Outcome::Failed(failure)) };
        };
        for (_, other) in all.into_iter().filter(|(other, _)| *other != host) {
            failure.message = format!("{}; {}", failure.message, other.message);
        }
        Over { host, end: End::Outcome(Outcome::Failed(failure)) }
    }

    fn set(&mut self, host: HostId, standing: Standing) {
        if let Some(leg) = self.legs.iter_mut().find(|leg| leg.host == host) {
            leg.standing = standing;
        }
    }
}

/// A refusal as a record kept it.
fn failure_of(error: &RecordError) -> Failure {
    let mut failure = Failure::new(error.class, error.phase, error.message.clone());
    failure.http_status = error.http_status;
    failure.response_head.clone_from(&error.response_head);
    failure.advice.clone_from(&error.advice);
    failure
}

#[cfg(test)]
mod tests;
