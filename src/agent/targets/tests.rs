//! Every end at every policy, by a table; and what holds for any sequence of ends.

use proptest::prelude::*;

use super::*;

const A: HostId = HostId(0);
const B: HostId = HostId(1);
const C: HostId = HostId(2);

fn trip(policy: Policy) -> Trip {
    Trip::new(policy, [(A, "a".to_owned()), (B, "b".to_owned()), (C, "c".to_owned())])
}

fn links(name: &str) -> Links {
    Links { url: format!("https://{name}.example/1"), ..Links::default() }
}

fn stored(name: &str) -> End {
    End::Outcome(Outcome::Uploaded(links(name)))
}

fn failure(class: ErrorClass, message: &str) -> Failure {
    Failure::new(class, Phase::Response, message)
}

fn fails(class: ErrorClass, message: &str) -> End {
    End::Outcome(Outcome::Failed(failure(class, message)))
}

fn nobody(_: HostId) -> Option<Away> {
    None
}

fn over(next: Next) -> Over {
    match next {
        Next::Over(over) => *over,
        Next::On => panic!("it goes on"),
    }
}

/// The host, class and message of a failed end.
fn failed(next: Next) -> (HostId, ErrorClass, String) {
    let Over { host, end } = over(next);
    match end {
        End::Outcome(Outcome::Failed(failure)) => (host, failure.class, failure.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn r20_what_each_failure_means_for_the_next_host() {
    use ErrorClass as E;
    for policy in [Policy::Failover, Policy::RoundRobin] {
        for class in [E::Timeout, E::Stall, E::Connect, E::RateLimited, E::Account, E::BadResponse, E::File] {
            let mut trip = trip(policy);
            assert_eq!(trip.after(A, fails(class, "a"), false, nobody), Next::On, "{policy:?} {class:?}");
            assert_eq!(*trip.open(), [B, C]);
        }
        for class in [E::UnknownOutcome, E::Io, E::Cancelled] {
            let next = trip(policy).after(A, fails(class, "a"), false, nobody);
            assert_eq!(failed(next), (A, class, "a".to_owned()), "an unknown outcome rests first: {policy:?}");
        }
        for end in [stored("a"), End::Known(links("a")), End::Outcome(Outcome::Vanished)] {
            assert_eq!(over(trip(policy).after(A, end.clone(), false, nobody)), Over { host: A, end });
        }
    }
    for class in [E::Timeout, E::UnknownOutcome, E::Account, E::File] {
        let mut trip = trip(Policy::Mirror);
        assert_eq!(trip.after(A, fails(class, "a"), false, nobody), Next::On, "the others shall have it anyway");
        assert_eq!(*trip.open(), [B, C]);
    }
}

#[test]
fn a_single_host_is_as_it_always_was() {
    for policy in [Policy::Failover, Policy::Mirror, Policy::RoundRobin] {
        let alone = || Trip::new(policy, [(A, "a".to_owned())]);
        for end in [stored("a"), fails(ErrorClass::File, "x"), fails(ErrorClass::Timeout, "y"), End::Known(links("a"))]
        {
            let mut trip = alone();
            assert_eq!(over(trip.after(A, end.clone(), true, nobody)), Over { host: A, end });
            assert_eq!(trip.mirrors(), []);
        }
    }
}

#[test]
fn the_file_rests_when_all_have_failed_and_the_record_tells_why_for_each() {
    let mut trip = trip(Policy::Failover);
    let _ = trip.after(A, fails(ErrorClass::RateLimited, "a is busy"), false, nobody);
    let _ = trip.after(B, fails(ErrorClass::BadResponse, "b is broken"), false, nobody);
    let next = trip.after(C, fails(ErrorClass::RateLimited, "c is busy"), false, nobody);
    assert_eq!(failed(next), (B, ErrorClass::BadResponse, "b is broken; a is busy; c is busy".to_owned()));
}

#[test]
fn a_host_that_turns_away_is_not_waited_for_in_the_queue() {
    let away = |host: HostId| {
        (host != A).then(|| Away { rest: Duration::from_secs(60 * host.0 as u64), reason: "429".into() })
    };
    let mut one = trip(Policy::Failover);
    assert_eq!(failed(one.after(A, fails(ErrorClass::Timeout, "slow"), false, away)).0, A);
    let mut busy = failure(ErrorClass::RateLimited, "a is busy");
    busy.retry_after = Some(Duration::from_secs(90));
    let end = |failure: &Failure| End::Outcome(Outcome::Failed(failure.clone()));
    let mut two = trip(Policy::Failover);
    let (host, class, message) = failed(two.after(A, end(&busy), false, away));
    assert_eq!((host, class), (B, ErrorClass::RateLimited), "b is back first");
    assert_eq!(message, "b is not used for now: 429; a is busy");
    busy.retry_after = Some(Duration::from_secs(30));
    assert_eq!(failed(trip(Policy::Failover).after(A, end(&busy), false, away)).0, A, "a is back first");
    let mut three = trip(Policy::Mirror);
    let (host, _, _) = failed(three.after(A, stored("a"), false, away));
    assert_eq!(host, B, "what a has is kept, the file rests until b is back");
    assert_eq!(three.mirrors()[0].url.as_deref(), Some("https://a.example/1"));
}

#[test]
fn r20_a_mirrored_file_is_done_when_each_host_has_it_or_has_refused_it() {
    let mut trip = trip(Policy::Mirror);
    assert_eq!(trip.after(B, stored("b"), false, nobody), Next::On);
    assert_eq!(trip.after(A, fails(ErrorClass::File, "too large"), false, nobody), Next::On);
    let end = over(trip.after(C, stored("c"), false, nobody));
    assert_eq!(end, Over { host: B, end: stored("b") }, "the first that has it");
    let mirrors = trip.mirrors();
    let told: Vec<_> = mirrors.iter().map(|m| (m.host.as_str(), m.url.is_some(), m.error.is_some())).collect();
    assert_eq!(told, [("a", false, true), ("b", true, false), ("c", true, false)]);
}

#[test]
fn a_mirror_that_all_refuse_has_failed_and_one_that_fails_to_the_last_round_is_done_without_it() {
    let mut refused = trip(Policy::Mirror);
    for (host, name) in [(A, "a"), (B, "b")] {
        let _ = refused.after(host, fails(ErrorClass::File, name), false, nobody);
    }
    let next = refused.after(C, fails(ErrorClass::File, "c"), false, nobody);
    assert_eq!(failed(next), (A, ErrorClass::File, "a; b; c".to_owned()));

    let mut one_fails = trip(Policy::Mirror);
    let _ = one_fails.after(A, stored("a"), false, nobody);
    let _ = one_fails.after(B, fails(ErrorClass::Timeout, "b is slow"), true, nobody);
    let end = over(one_fails.after(C, stored("c"), true, nobody));
    assert_eq!(end, Over { host: A, end: stored("a") });
    assert_eq!(one_fails.mirrors()[1].error.as_ref().map(|error| error.class), Some(ErrorClass::Timeout));

    let mut all_fail = trip(Policy::Mirror);
    let _ = all_fail.after(A, fails(ErrorClass::Timeout, "a"), true, nobody);
    let _ = all_fail.after(B, fails(ErrorClass::Timeout, "b"), true, nobody);
    let next = all_fail.after(C, fails(ErrorClass::Timeout, "c"), true, nobody);
    assert_eq!(failed(next).1, ErrorClass::Timeout, "then the file has failed");
}

#[test]
fn progress_is_taken_up_from_the_record_of_the_same_content_only() {
    let content = ContentHash([1; 32]);
    let mut before = trip(Policy::Mirror);
    let _ = before.after(A, stored("a"), false, nobody);
    let _ = before.after(B, fails(ErrorClass::File, "too large"), false, nobody);
    let _ = before.after(C, fails(ErrorClass::Timeout, "slow"), false, nobody);
    let mut record = crate::record::tests::timeout(&crate::record::tests::uploaded(1), 2);
    (record.blake3, record.mirrors) = (Some(content), before.mirrors());
    let mut after = trip(Policy::Mirror);
    after.recall(&record, content);
    assert_eq!(*after.open(), [C], "a has it, b will not take it, c may be asked again");
    let mut edited = trip(Policy::Mirror);
    edited.recall(&record, ContentHash([2; 32]));
    assert_eq!(*edited.open(), [A, B, C]);
    record.status = crate::record::Status::Failed;
    let mut again = trip(Policy::Mirror);
    again.recall(&record, content);
    assert_eq!(*again.open(), [B, C], "the user wants another try");
}

#[test]
fn links_of_another_file_with_the_same_content_count() {
    let mut record = crate::record::tests::uploaded(1);
    record.host = "b".to_owned();
    let mut mirror = trip(Policy::Mirror);
    assert_eq!(mirror.link_names(B), ["b", "a", "c"]);
    assert!(!mirror.link(&record, A), "a does not have it");
    assert_eq!(*mirror.open(), [A, C]);
    assert!(mirror.link(&record, B));
    let _ = mirror.after(A, stored("a"), false, nobody);
    assert!(matches!(over(mirror.after(C, stored("c"), false, nobody)).end, End::Outcome(Outcome::Uploaded(_))));
    let mut all = trip(Policy::Mirror);
    for (host, name) in [(A, "a"), (B, "b")] {
        let _ = all.after(host, End::Known(links(name)), false, nobody);
    }
    assert_eq!(
        over(all.after(C, End::Known(links("c")), false, nobody)),
        Over { host: A, end: End::Known(links("a")) }
    );
    assert_eq!(trip(Policy::Failover).link_names(C), ["c", "a", "b"]);
}

fn any_end() -> impl Strategy<Value = End> {
    use ErrorClass as E;
    let classes =
        [E::Timeout, E::Connect, E::RateLimited, E::Account, E::BadResponse, E::File, E::UnknownOutcome, E::Io];
    prop_oneof![
        Just(stored("x")),
        Just(End::Known(links("x"))),
        Just(End::Outcome(Outcome::Vanished)),
        prop::sample::select(classes.to_vec()).prop_map(|class| fails(class, "x")),
    ]
}

proptest! {
    /// Each host is asked at most once before the file rests, none that has the file or has refused it; the end comes
    /// after as many attempts as there are hosts, and a mirrored file with a link is never given up.
    #[test]
    fn a_round_ends_and_nothing_is_sent_twice(
        policy in prop::sample::select(vec![Policy::Failover, Policy::Mirror, Policy::RoundRobin]),
        ends in prop::collection::vec(any_end(), 3),
        picks in prop::collection::vec(0usize..3, 3),
        away in prop::collection::vec(any::<bool>(), 3),
        last_round in any::<bool>(),
    ) {
        let mut trip = trip(policy);
        let mut asked = Vec::new();
        let away = |host: HostId| away[host.0].then(|| Away { rest: Duration::from_secs(9), reason: "rest".into() });
        for (end, pick) in ends.into_iter().zip(picks) {
            let open = trip.open();
            prop_assert!(!open.is_empty(), "it went on with nobody to ask");
            let host = open[pick % open.len()];
            prop_assert!(!asked.contains(&host));
            asked.push(host);
            if let Next::Over(over) = trip.after(host, end, last_round, away) {
                let has_link = trip.mirrors().iter().any(|mirror| mirror.url.is_some());
                if let End::Outcome(Outcome::Failed(failure)) = &over.end {
                    let given_up = failure.disposition() == Disposition::Reject
                        || last_round && failure.disposition() == Disposition::CoolDown;
                    prop_assert!(!(has_link && given_up));
                }
                return Ok(());
            }
        }
        prop_assert!(false, "three hosts, three attempts, and no end");
    }
}
