//! When the scheduler wants to be asked again, and that nothing is started before what it waits for is over.

use super::tests::{fixed, flows, ms, pool, ready, starts};
use super::*;
use crate::flow::{Limits, Rate};

/// Between the last input and the question for the next wake some time passes. A rest, a circuit or a rate that ends just
/// then must not be missed: with nothing in flight nobody would come back for those who wait.
#[test]
fn r14_what_becomes_due_after_the_last_input_is_still_a_reason_to_wake() {
    let rate = Rate { every: ms(100), burst: 1 };
    for what in ["a rest", "a circuit", "a rate"] {
        let now = Instant::now();
        let limits = Limits { rate: (what == "a rate").then_some(rate), ..Limits::default() };
        let mut pool = Scheduler::new(fixed(2), 50, vec![Flow::new(2, limits)]);
        match what {
            "a rest" => drop(pool.handle(now, Input::Rest { host: HostId(0), until: now + ms(100) })),
            "a circuit" => pool.flow(HostId(0)).take_up_circuit(now, Cause::Failures, ms(100), ms(100)),
            _ => {
                let first = ready(0);
                let _ = pool.handle(now, Input::Ready(first.clone()));
                let _ = pool.handle(now, Input::Ended { job: first.job, end: End::Succeeded });
            }
        }
        let waiting = ready(0);
        assert_eq!(pool.handle(now + ms(99), Input::Ready(waiting.clone())), [], "{what}");
        assert_eq!(pool.next_wake(now + ms(101)), Some(now + ms(100)), "{what}");
        assert_eq!(starts(&pool.handle(now + ms(101), Input::Tick)), [waiting.job], "{what}");
        assert_eq!(pool.next_wake(now + ms(101)).filter(|at| *at <= now + ms(101)), None, "{what}: it does not spin");
    }
}

#[test]
fn a_change_from_outside_is_looked_at_at_once() {
    let now = Instant::now();
    let mut pool = pool(2, 1);
    let _ = pool.handle(now, Input::Tick);
    pool.limit(HostId(0), &flows(1, 1)[0]);
    assert_eq!(pool.next_wake(now), Some(now));
    let _ = pool.handle(now, Input::Tick);
    assert_ne!(pool.next_wake(now), Some(now));
}

#[test]
fn a_job_that_is_back_before_its_attempt_has_ended_waits_for_that() {
    let now = Instant::now();
    let mut pool = pool(2, 1);
    let job = ready(0);
    assert_eq!(starts(&pool.handle(now, Input::Ready(job.clone()))), [job.job]);
    assert_eq!(pool.handle(now, Input::Ready(job.clone())), []);
    assert_eq!(starts(&pool.handle(now, Input::Ended { job: job.job, end: End::Other })), [job.job]);
    assert_eq!((pool.busy(), pool.in_flight()), (1, 1));
    let _ = pool.handle(now, Input::Ended { job: job.job, end: End::Other });
    assert_eq!((pool.busy(), pool.in_flight(), pool.lanes[0].in_window), (0, 0, 0));
}
