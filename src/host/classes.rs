//! Error classes: what an answer, or its absence, means. From the status, from what the connection did, and from the
//! rules of the recipe; never from a search through error texts.
//!
//! | what happened | class in the manifest | what follows |
//! |---|---|---|
//! | 2xx, and the link can be used | – | uploaded |
//! | 2xx without a usable link; 3xx | `bad_response` | the file rests; [`suspect_after`](crate::config::FlowConfig) in a row make the host suspect |
//! | 401, 402, 403, 407 | `account` | the host rests, no file pays for it |
//! | 413, 415 | `file` | the file goes to `failed/` |
//! | 420, 429, 509; 4xx or 503 with `Retry-After`; 4xx or 5xx with a limit of which nothing remains | `rate_limited` | the host rests as long as it asks, no file pays for it |
//! | 408, 425, 5xx and every other status, known or not | `bad_response` | passing: the file rests; many in a row open the circuit |
//! | no connection; it broke | `connect` | passing |
//! | no byte moved for `stall_timeout` | `stall` | passing |
//! | `request_timeout` or `file_timeout` passed | `timeout` | passing |
//! | any of these three after the last byte | `unknown_outcome` | the file rests, and a possible orphan is counted |
//! | an answer of more than a megabyte | `bad_response` | as without a usable link |
//! | the file could not be read | `io` | the file rests; nothing is said about the host |
//! | this machine has no network | `connect` | the file waits, and nothing is used up |
//!
//! The recipe's `[[error]]` rules come before the table, and `fail_on` and `retry_on` of `[host.NAME]` after all of it: a
//! failure that `retry_on` names is a passing one, one that `fail_on` names is final for the file.

use crate::config::{FailureRule, HostFlow};
use crate::job::{ErrorClass, Failure, FailureKind};

/// What a status means that the recipe does not explain. `asks_to_wait`: `Retry-After` is there; `spent`: a limit is
/// named of which nothing remains.
pub(super) fn of_status(status: u16, asks_to_wait: bool, spent: bool) -> (ErrorClass, FailureKind) {
    let class = match status {
        401 | 402 | 403 | 407 if spent => ErrorClass::RateLimited,
        401 | 402 | 403 | 407 => ErrorClass::Account,
        413 | 415 => ErrorClass::File,
        420 | 429 | 509 => ErrorClass::RateLimited,
        400..=499 | 503 if asks_to_wait => ErrorClass::RateLimited,
        400..=599 if spent => ErrorClass::RateLimited,
        _ => ErrorClass::BadResponse,
    };
    let kind = match class {
        ErrorClass::BadResponse if status < 400 => FailureKind::BadResponse,
        // Everything else, known or not, may be better next time.
        ErrorClass::BadResponse => FailureKind::Transient,
        class => FailureKind::of(class),
    };
    (class, kind)
}

/// What the user says about such a failure counts more. What says nothing about the host stays as it is.
pub(super) fn overruled(failure: Failure, flow: &HostFlow) -> Failure {
    if failure.kind == FailureKind::Ours || failure.offline {
        return failure;
    }
    let named =
        |rules: &[FailureRule]| rules.iter().any(|rule| rule.applies(failure.class, failure.kind, failure.http_status));
    if named(&flow.fail_on) {
        failure.meaning(FailureKind::File)
    } else if named(&flow.retry_on) && failure.kind != FailureKind::Unknown {
        failure.meaning(FailureKind::Transient)
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Phase;

    /// The rows of the table above that come from a status.
    #[test]
    fn r19_every_status_means_what_the_table_says() {
        use ErrorClass as C;
        use FailureKind as K;
        let plain: [(&[u16], C, K); 6] = [
            (&[200, 201, 204, 301, 302, 304, 308], C::BadResponse, K::BadResponse),
            (&[401, 402, 403, 407], C::Account, K::Account),
            (&[413, 415], C::File, K::File),
            (&[420, 429, 509], C::RateLimited, K::Limited),
            (&[500, 502, 503, 504, 507, 520, 522, 524, 599], C::BadResponse, K::Transient),
            (
                &[400, 404, 405, 406, 408, 409, 410, 418, 422, 425, 431, 451, 499, 600, 999],
                C::BadResponse,
                K::Transient,
            ),
        ];
        for (statuses, class, kind) in plain {
            for status in statuses {
                assert_eq!(of_status(*status, false, false), (class, kind), "{status}");
            }
        }
        let limited = (C::RateLimited, K::Limited);
        for status in [400, 404, 408, 425, 429, 503] {
            assert_eq!(of_status(status, true, false), limited, "{status} with Retry-After");
        }
        for status in [500, 502, 504] {
            assert_eq!(of_status(status, true, false), (C::BadResponse, K::Transient), "{status} with Retry-After");
        }
        assert_eq!(of_status(403, true, false), (C::Account, K::Account), "a refused key does not get better");
        for status in [400, 403, 429, 500, 503] {
            assert_eq!(of_status(status, false, true), limited, "{status} with nothing remaining");
        }
        for status in [413, 415] {
            assert_eq!(of_status(status, true, true), (C::File, K::File), "{status} is about the file");
        }
    }

    #[test]
    fn r19_the_user_overrules_by_status_and_by_class() {
        let mut flow = HostFlow {
            retry_on: vec![FailureRule::Status(403), FailureRule::Class(ErrorClass::File)],
            fail_on: vec![FailureRule::Status(404), FailureRule::Class(ErrorClass::UnknownOutcome)],
            ..HostFlow::default()
        };
        let failure = |class, status| {
            let (_, kind) = of_status(status, false, false);
            let mut failure = Failure::new(class, Phase::Response, "x").meaning(kind);
            failure.http_status = Some(status);
            failure
        };
        let kind = |failure: Failure, flow: &HostFlow| {
            let class = failure.class;
            let after = overruled(failure, flow);
            assert_eq!(after.class, class, "the manifest still says what happened");
            after.kind
        };
        assert_eq!(kind(failure(ErrorClass::Account, 403), &flow), FailureKind::Transient);
        assert_eq!(kind(failure(ErrorClass::Account, 401), &flow), FailureKind::Account);
        assert_eq!(kind(failure(ErrorClass::File, 415), &flow), FailureKind::Transient);
        assert_eq!(kind(failure(ErrorClass::BadResponse, 404), &flow), FailureKind::File);
        let lost = Failure::new(ErrorClass::UnknownOutcome, Phase::Response, "x");
        assert_eq!(kind(lost.clone(), &flow), FailureKind::File);
        flow.fail_on.clear();
        flow.retry_on = vec![FailureRule::Class(ErrorClass::UnknownOutcome)];
        assert_eq!(kind(lost, &flow), FailureKind::Unknown, "it rests all the same, and is still counted");
        let disk = Failure::new(ErrorClass::Io, Phase::Send, "x");
        assert_eq!(kind(disk, &flow), FailureKind::Ours);
    }
}
