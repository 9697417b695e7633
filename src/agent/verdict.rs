//! What follows from how an attempt ended: pure. The only place that knows about requeues, rests and giving up.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::WallTime;
use crate::config::Cooldown;
use crate::job::{Disposition, ErrorClass, Event, Failure, IllegalEvent, Job, Links, Outcome, Stage};
use crate::record::Status;

/// The longest rest that a host can ask for: the longest known limits are daily.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);

/// How long a file waits for the network of this machine to come back: spread by ±10 %, so that not all come at once.
const NETWORK_REST: Duration = Duration::from_secs(30);

/// The shortest rest, whatever the host says: a host that answers `Retry-After: 0` must not be asked in a tight loop.
pub(super) const SHORTEST_REST: Duration = Duration::from_secs(1);

/// How the life of a job in memory ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// The attempt ran to its outcome.
    Outcome(Outcome),
    /// The same content is on this host already: these are its links.
    Known(Links),
    /// The agent stops: the attempt was cut; the image may be on the host if everything was sent.
    Interrupted {
        /// Every byte was sent.
        all_sent: bool,
    },
    /// The file was refused before anything was sent.
    Refused(Failure),
}

/// What to write down.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// A line for the manifest; the job's new state.
    Record(Box<Recorded>),
    /// The row goes: the file settles anew (`look_again`), or its owner took it away.
    Forget {
        /// Look at the path again.
        look_again: bool,
    },
    /// The job is queued again at the next start.
    GiveBack(Box<Job>),
}

/// A job after its attempt, with what the manifest shall say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recorded {
    /// The job as it is now; `record` and `pending` are the recorder's business.
    pub(super) job: Job,
    /// Requeues before this outcome, for the line.
    pub(super) requeues: u32,
    /// The word of the line.
    pub(super) status: Status,
    /// The links, if it has them.
    pub(super) links: Option<Links>,
    /// Why it has none.
    pub(super) failure: Option<Failure>,
    /// How long the host shall rest.
    pub(super) rest: Option<Duration>,
}

/// Decides. `jitter` in 0.0..=1.0 spreads the cooldown.
///
/// # Errors
/// When the job's stage does not admit the end: a bug of ours.
pub(super) fn decide(
    mut job: Job,
    end: End,
    now: WallTime,
    cooldown: &Cooldown,
    jitter: f64,
) -> Result<Verdict, IllegalEvent> {
    let requeues = job.requeues;
    let recorded = |job, status, links, failure, rest| {
        Ok(Verdict::Record(Box::new(Recorded { job, requeues, status, links, failure, rest })))
    };
    match end {
        End::Outcome(Outcome::Uploaded(links)) => {
            job.advance(Event::Succeed)?;
            recorded(job, Status::Uploaded, Some(links), None, None)
        }
        End::Known(links) => {
            job.advance(Event::Succeed)?;
            recorded(job, Status::Linked, Some(links), None, None)
        }
        End::Outcome(Outcome::Changed { .. }) => Ok(Verdict::Forget { look_again: true }),
        End::Outcome(Outcome::Vanished) => Ok(Verdict::Forget { look_again: false }),
        End::Interrupted { all_sent } => {
            job.advance(Event::GiveBack)?;
            job.not_before = Some(now);
            job.unknown_outcomes += u32::from(all_sent);
            Ok(Verdict::GiveBack(Box::new(job)))
        }
        End::Refused(failure) | End::Outcome(Outcome::Failed(failure)) => {
            job.unknown_outcomes += u32::from(failure.class == ErrorClass::UnknownOutcome);
            let mut rest = None;
            match failure.disposition() {
                Disposition::Reject => job.advance(Event::Reject)?,
                Disposition::CoolDown if job.requeues >= cooldown.requeues => job.advance(Event::Reject)?,
                Disposition::CoolDown => {
                    job.requeues += 1;
                    job.advance(Event::CoolDown)?;
                    job.not_before = Some(now.after(cooldown.backoff.delay(job.requeues, jitter)));
                }
                Disposition::AwaitNetwork => {
                    job.advance(Event::CoolDown)?;
                    job.attempts = job.attempts.saturating_sub(1);
                    job.not_before = Some(now.after(NETWORK_REST.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))));
                }
                Disposition::PauseHost => {
                    // The host has not looked at the file: it was no attempt.
                    job.attempts = job.attempts.saturating_sub(1);
                    let length = rest_after(&failure, &cooldown.backoff).unwrap_or(SHORTEST_REST);
                    job.advance(Event::CoolDown)?;
                    job.not_before = Some(now.after(length));
                    rest = Some(length);
                }
            }
            let status = match job.stage {
                Stage::Failed => Status::Failed,
                _ if failure.timed_out => Status::Timeout,
                _ => Status::Deferred,
            };
            recorded(job, status, None, Some(failure), rest)
        }
    }
}

/// How long the host rests after this failure, if it must: as it asks (the caller has put in the host's `rate_limit_pause`
/// where it does not say); an account that is refused needs its owner, so it rests like a failed file.
pub(super) fn rest_after(failure: &Failure, cooldown: &Backoff) -> Option<Duration> {
    if failure.disposition() != Disposition::PauseHost {
        return None;
    }
    Some(failure.retry_after.unwrap_or(cooldown.first()).max(SHORTEST_REST).min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Fingerprint, Phase};

    const NOW: WallTime = WallTime::from_millis(1_000_000);

    fn cooldown() -> Cooldown {
        let backoff = Backoff::try_new(Duration::from_secs(300), 2.0, Duration::from_secs(21_600)).expect("valid");
        Cooldown { backoff, requeues: 8 }
    }

    fn job(requeues: u32) -> Job {
        let fingerprint = Fingerprint { dev: 1, ino: 2, len: 3, mtime_ns: 4 };
        let job = Job::new("/drop".into(), "x.jpg".into(), "h".into(), fingerprint, NOW);
        Job { stage: Stage::Started, attempts: requeues + 1, requeues, ..job }
    }

    fn fail(job: Job, failure: Failure) -> Recorded {
        let end = End::Outcome(Outcome::Failed(failure));
        match decide(job, end, NOW, &cooldown(), 0.5).expect("legal") {
            Verdict::Record(recorded) => *recorded,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_cooldown_doubles_from_five_minutes_and_ends_in_failed_after_eight_requeues() {
        let mut current = job(0);
        let mut rests = Vec::new();
        loop {
            let recorded = fail(current, Failure::new(ErrorClass::Timeout, Phase::Response, "slow"));
            if recorded.job.stage == Stage::Failed {
                assert_eq!((recorded.status, recorded.requeues), (Status::Failed, 8));
                break;
            }
            assert_eq!(recorded.status, Status::Timeout);
            rests.push(recorded.job.not_before.expect("rests").since(NOW).as_secs() / 60);
            current = Job { stage: Stage::Started, ..recorded.job };
        }
        assert_eq!(rests, [5, 10, 20, 40, 80, 160, 320, 360]);
    }

    #[test]
    fn r17_a_rate_limit_rests_host_and_file_as_long_as_asked_and_costs_no_requeue() {
        let mut failure = Failure::new(ErrorClass::RateLimited, Phase::Response, "429");
        failure.retry_after = Some(Duration::from_secs(90));
        let recorded = fail(job(3), failure);
        assert_eq!((recorded.status, recorded.job.requeues), (Status::Deferred, 3));
        assert_eq!(recorded.job.attempts, 3, "nor an attempt");
        assert_eq!(recorded.rest, Some(Duration::from_secs(90)));
        assert_eq!(recorded.job.not_before, Some(NOW.after(Duration::from_secs(90))));
        let mut for_ever = Failure::new(ErrorClass::RateLimited, Phase::Response, "429");
        for_ever.retry_after = Some(Duration::from_secs(10_000_000));
        assert_eq!(fail(job(0), for_ever).rest, Some(LONGEST_REST));
        let mut at_once = Failure::new(ErrorClass::RateLimited, Phase::Response, "429");
        at_once.retry_after = Some(Duration::ZERO);
        assert_eq!(fail(job(0), at_once).rest, Some(SHORTEST_REST));
    }

    #[test]
    fn r28_without_network_a_file_waits_and_uses_up_nothing() {
        let mut failure = Failure::new(ErrorClass::Connect, Phase::Connect, "no route");
        failure.offline = true;
        let recorded = fail(job(8), failure);
        assert_eq!((recorded.status, recorded.job.requeues, recorded.job.attempts), (Status::Deferred, 8, 8));
        assert_eq!((recorded.rest, recorded.job.not_before), (None, Some(NOW.after(NETWORK_REST))));
    }

    #[test]
    fn r15_an_unknown_outcome_is_counted_and_rests() {
        let recorded = fail(job(0), Failure::new(ErrorClass::UnknownOutcome, Phase::Response, "lost"));
        assert_eq!((recorded.status, recorded.job.unknown_outcomes), (Status::Deferred, 1));
        let cut = decide(job(0), End::Interrupted { all_sent: true }, NOW, &cooldown(), 0.5).expect("legal");
        let Verdict::GiveBack(back) = cut else { panic!("{cut:?}") };
        assert_eq!((back.stage, back.unknown_outcomes, back.not_before), (Stage::Waiting, 1, Some(NOW)));
    }

    #[test]
    fn a_file_that_no_host_will_take_fails_at_once() {
        let refused = Job { stage: Stage::Waiting, ..job(0) };
        let end = End::Refused(Failure::new(ErrorClass::File, Phase::Inspect, "text"));
        let verdict = decide(refused, end, NOW, &cooldown(), 0.5).expect("legal");
        let Verdict::Record(recorded) = verdict else { panic!("{verdict:?}") };
        assert_eq!((recorded.status, recorded.job.stage), (Status::Failed, Stage::Failed));
    }

    #[test]
    fn r12_a_changed_file_settles_anew_and_a_vanished_one_is_forgotten() {
        let changed = End::Outcome(Outcome::Changed { links: None });
        assert_eq!(decide(job(0), changed, NOW, &cooldown(), 0.5), Ok(Verdict::Forget { look_again: true }));
        let gone = End::Outcome(Outcome::Vanished);
        assert_eq!(decide(job(0), gone, NOW, &cooldown(), 0.5), Ok(Verdict::Forget { look_again: false }));
    }
}
