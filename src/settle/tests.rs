//! Timelines of writers, told as tables, and the promises that hold for every timeline.

use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_secs(2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn wall(n: u64) -> WallTime {
    WallTime::from_millis(1_800_000_000_000).after(ms(n))
}

/// A file as a writer left it at some millisecond of the story: as many bytes as `len`, touched at `at`.
fn file(len: u64, at: u64, end: End) -> Seen {
    let mtime_ns = i64::try_from(at).expect("small") * 1_000_000;
    Seen::File(Look { fingerprint: Fingerprint { dev: 1, ino: 1, len, mtime_ns }, touched: wall(at), end })
}

/// What happens to the one file of a story, and when (milliseconds).
enum Then {
    /// From now on a look shows this.
    Is(Seen),
    /// An event arrives.
    Event(Sign),
}
use Then::{Event, Is};

/// Plays a story as the feed would: looks when told to, and says when and how it ended within ten minutes.
fn play(story: Vec<(u64, Then)>) -> Option<(u64, Verdict)> {
    let start = Instant::now();
    let path = Path::new("x.jpg");
    let mut settle = Settle::new(SETTLE);
    let mut seen = Seen::Gone;
    let mut story = story.into_iter().peekable();
    for now in 0..600_000 {
        let mut look = false;
        while let Some((_, then)) = story.next_if(|(at, _)| *at == now) {
            match then {
                Is(state) => seen = state,
                Event(sign) => look |= settle.sighted(start + ms(now), path, sign) == Sighted::Look,
            }
        }
        look |= settle.due(start + ms(now)).next().is_some();
        if look {
            match settle.looked(start + ms(now), wall(now), path, seen) {
                Verdict::LookAgain(at) => assert!(at > start + ms(now), "a look may not be due at once again"),
                verdict => return Some((now, verdict)),
            }
        }
    }
    None
}

#[track_caller]
fn settled_at(story: Vec<(u64, Then)>) -> u64 {
    match play(story) {
        Some((at, Verdict::Settled { warning: None, .. })) => at,
        other => panic!("not settled without a warning: {other:?}"),
    }
}

#[test]
fn a_complete_image_that_is_moved_in_or_closed_settles_at_once() {
    let story = vec![(5, Is(file(9, 0, End::Complete))), (5, Event(Sign::Closed))];
    assert_eq!(settled_at(story), 5);
}

#[test]
fn a_complete_image_found_by_a_scan_settles_at_once_if_it_is_old() {
    let story = vec![(3_000, Is(file(9, 500, End::Complete))), (3_000, Event(Sign::Seen))];
    assert_eq!(settled_at(story), 3_000);
}

#[test]
fn a_complete_image_found_by_a_scan_waits_if_it_is_fresh() {
    let story = vec![(3_000, Is(file(9, 2_900, End::Complete))), (3_000, Event(Sign::Seen))];
    let at = settled_at(story);
    assert!((4_900..=5_000).contains(&at), "{at}");
}

#[test]
fn a_time_in_the_future_proves_nothing_and_delays_by_no_more_than_the_settle_time() {
    let story = vec![(0, Is(file(9, 90_000_000, End::Complete))), (0, Event(Sign::Seen))];
    assert_eq!(settled_at(story), 2_000);
}

#[test]
fn r28_a_wall_clock_that_jumps_back_only_delays_and_one_that_jumps_forth_needs_the_end_marker() {
    let start = Instant::now();
    let mut settle = Settle::new(SETTLE);
    let path = Path::new("x.png");
    let part = file(9, 0, End::Missing);
    let _ = settle.looked(start, wall(0), path, part);
    assert!(matches!(settle.looked(start + ms(250), wall(900_000), path, part), Verdict::LookAgain(_)));
    let whole = file(19, 300, End::Complete);
    assert!(matches!(settle.looked(start + ms(500), WallTime::from_millis(0), path, whole), Verdict::LookAgain(_)));
    let verdict = settle.looked(start + ms(2_500), WallTime::from_millis(0), path, whole);
    assert!(matches!(verdict, Verdict::Settled { warning: None, .. }));
}

#[test]
fn r1_a_slow_writer_gives_one_settled_file_after_its_last_byte() {
    // 0 bytes, 8 s pause, 10 pieces 1.5 s apart, closed after the last.
    let mut story = vec![(0, Is(file(0, 0, End::Empty))), (0, Event(Sign::Seen))];
    for piece in 0..10 {
        let at = 8_000 + piece * 1_500;
        let end = if piece == 9 { End::Complete } else { End::Missing };
        story.extend([(at, Is(file((piece + 1) * 100, at, end))), (at, Event(Sign::Writing))]);
    }
    story.push((21_510, Event(Sign::Closed)));
    assert_eq!(settled_at(story), 21_510);
}

#[test]
fn r1_a_slow_writer_without_any_event_settles_soon_after_its_last_byte() {
    let mut story = vec![(0, Is(file(0, 0, End::Empty))), (0, Event(Sign::Seen))];
    for piece in 0..10 {
        let at = 8_000 + piece * 1_500;
        let end = if piece == 9 { End::Complete } else { End::Missing };
        story.push((at, Is(file((piece + 1) * 100, at, end))));
    }
    let at = settled_at(story);
    assert!((21_500..=21_500 + 4_000).contains(&at), "{at}");
}

#[test]
fn r1_an_empty_file_never_settles() {
    assert_eq!(play(vec![(0, Is(file(0, 0, End::Empty))), (0, Event(Sign::Closed))]), None);
}

#[test]
fn r1_an_image_without_its_end_settles_with_a_warning_after_the_grace() {
    let story = vec![(0, Is(file(9, 0, End::Missing))), (0, Event(Sign::Closed))];
    let Some((at, Verdict::Settled { warning: Some(Warning::NoEndMarker), .. })) = play(story) else {
        panic!("settled with a warning expected")
    };
    assert_eq!(at, 60_000);
}

#[test]
fn r2_a_file_that_changes_for_nine_minutes_settles_soon_after_it_stops() {
    let mut story = vec![(0, Event(Sign::Seen))];
    story.extend((0..540).map(|s| (s * 1_000, Is(file(s, s * 1_000, End::Unknown)))));
    story.sort_by_key(|(at, _)| *at);
    // The story begins with the file, not with the event.
    story.swap(0, 1);
    let at = settled_at(story);
    assert!((541_000..=539_000 + 2_000 + 1_000).contains(&at), "{at}");
}

#[test]
fn r2_a_file_that_cannot_be_read_for_nine_minutes_settles_soon_after_it_can() {
    let story = vec![(0, Is(Seen::Unreadable)), (0, Event(Sign::Seen)), (540_000, Is(file(9, 0, End::Complete)))];
    let at = settled_at(story);
    assert!(at <= 540_000 + 3_000, "{at}");
}

#[test]
fn what_is_not_an_image_settles_after_the_quiet_time_to_be_refused() {
    let story = vec![(0, Is(file(9, 0, End::NotImage))), (0, Event(Sign::Closed))];
    assert_eq!(settled_at(story), 2_000);
}

#[test]
fn an_image_whose_end_cannot_be_told_waits_for_the_quiet_time_even_when_closed() {
    let story = vec![(0, Is(file(9, 0, End::Unknown))), (0, Event(Sign::Closed))];
    assert_eq!(settled_at(story), 2_000);
}

#[test]
fn a_rewrite_of_a_closed_file_takes_the_closed_sign_back() {
    let story = vec![
        (0, Is(file(5, 0, End::Missing))),
        (0, Event(Sign::Closed)),
        (1_000, Event(Sign::Writing)),
        (1_000, Is(file(9, 1_000, End::Complete))),
        (1_200, Is(file(12, 1_200, End::Complete))),
    ];
    let at = settled_at(story);
    assert!((3_200..=4_200).contains(&at), "{at}");
}

#[test]
fn a_change_that_no_event_announced_takes_the_closed_sign_back() {
    let story =
        vec![(0, Is(file(5, 0, End::Missing))), (0, Event(Sign::Closed)), (1_000, Is(file(9, 1_000, End::Complete)))];
    let at = settled_at(story);
    assert!(at >= 3_000, "{at}");
}

#[test]
fn a_file_that_goes_away_is_no_longer_tracked() {
    let story = vec![(0, Is(file(5, 0, End::Missing))), (0, Event(Sign::Seen)), (700, Is(Seen::Gone))];
    let Some((at, Verdict::Gone)) = play(story) else { panic!("gone expected") };
    assert!((700..=1_700).contains(&at), "{at}");
}

#[test]
fn an_idle_file_that_is_written_to_again_is_looked_at_soon() {
    let mut story = vec![(0, Is(file(0, 0, End::Empty))), (0, Event(Sign::Seen))];
    story.extend([(100_000, Is(file(9, 100_000, End::NotImage))), (100_000, Event(Sign::Writing))]);
    let at = settled_at(story);
    assert!(at <= 103_000, "{at}");
}

#[test]
fn writes_do_not_cause_looks() {
    let now = Instant::now();
    let mut settle = Settle::new(SETTLE);
    for _ in 0..1_000 {
        assert_eq!(settle.sighted(now, Path::new("x"), Sign::Writing), Sighted::Planned);
    }
    assert_eq!(settle.len(), 1);
}

#[test]
fn a_full_table_leaves_out_idle_files_first_and_then_newcomers() {
    let now = Instant::now();
    let mut settle = Settle::new(SETTLE);
    let _ = settle.looked(now, wall(0), Path::new("empty"), file(0, 0, End::Empty));
    for n in 1..MAX_TRACKED {
        let _ = settle.sighted(now, Path::new(&format!("{n}")), Sign::Writing);
    }
    assert!(settle.has_room() && settle.take_left_out().is_empty());
    assert_eq!(settle.sighted(now, Path::new("new"), Sign::Writing), Sighted::Planned);
    assert_eq!(settle.take_left_out(), [PathBuf::from("empty")]);
    assert!(!settle.has_room());
    assert_eq!(settle.sighted(now, Path::new("newer"), Sign::Closed), Sighted::Planned);
    assert_eq!(settle.take_left_out(), [PathBuf::from("newer")]);
    assert_eq!(settle.looked(now, wall(0), Path::new("late"), file(3, 0, End::Missing)), Verdict::LeftOut);
    assert_eq!(settle.len(), MAX_TRACKED);
}

#[test]
fn the_oldest_files_are_listed_first() {
    let now = Instant::now();
    let mut settle = Settle::new(SETTLE);
    for n in 0..30u64 {
        let _ = settle.sighted(now + ms(n), Path::new(&format!("{n:02}")), Sign::Writing);
    }
    let oldest = settle.oldest(20);
    assert_eq!((oldest.len(), oldest[0].path.as_path(), oldest[0].since), (20, Path::new("00"), now));
}

#[test]
fn a_file_that_cannot_be_read_is_listed_as_such_until_it_can() {
    let (now, path) = (Instant::now(), Path::new("x"));
    let mut settle = Settle::new(SETTLE);
    let _ = settle.looked(now, wall(0), path, Seen::Unreadable);
    assert!(settle.oldest(1)[0].unreadable);
    let _ = settle.looked(now + ms(300), wall(0), path, file(9, 0, End::Missing));
    assert!(!settle.oldest(1)[0].unreadable);
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Complete), Just(End::Missing), Just(End::Unknown), Just(End::NotImage), Just(End::Empty)]
}

fn signs() -> impl Strategy<Value = Sign> {
    prop_oneof![Just(Sign::Seen), Just(Sign::Writing), Just(Sign::Closed)]
}

proptest! {
    /// Whatever happens: nothing settles empty, nor without either being complete or having been the same for the settle
    /// time between looks of ours; and a file that is neither settled nor gone always has a next look within ten seconds.
    #[test]
    fn settles_only_what_was_left_alone_and_forgets_nothing(
        steps in proptest::collection::vec((0u64..3_000, 0u64..4, ends(), proptest::option::of(signs()), 0i64..4), 1..80)
    ) {
        let start = Instant::now();
        let path = Path::new("x");
        let mut settle = Settle::new(SETTLE);
        let (mut at, mut len) = (0, 1);
        let mut history: Vec<(u64, Fingerprint)> = Vec::new();
        for (pause, grown, end, sign, clock_error) in steps {
            at += pause;
            len += grown;
            let now = start + ms(at);
            if let Some(sign) = sign {
                let _ = settle.sighted(now, path, sign);
            }
            let mtime_ns = i64::try_from(len).expect("small");
            let fingerprint = Fingerprint { dev: 1, ino: 1, len: if end == End::Empty { 0 } else { len }, mtime_ns };
            let touched = WallTime::from_millis(wall(at).millis() + (clock_error - 2) * 60_000);
            let seen = Seen::File(Look { fingerprint, touched, end });
            history.push((at, fingerprint));
            match settle.looked(now, wall(at), path, seen) {
                Verdict::Settled { fingerprint: settled, .. } => {
                    prop_assert_ne!(end, End::Empty);
                    prop_assert_eq!(settled, fingerprint);
                    let same_since = history.iter().rev().take_while(|(_, f)| *f == fingerprint).last().expect("now").0;
                    let needed = if end == End::Missing { 60_000 } else { 2_000 };
                    prop_assert!(end == End::Complete || at - same_since >= needed);
                    history.clear();
                }
                Verdict::LookAgain(next) => {
                    prop_assert!(next > now && next <= now + EMPTY_PAUSE);
                    prop_assert_eq!(settle.next_look(), Some(next));
                }
                verdict => prop_assert!(false, "{verdict:?}"),
            }
        }
    }
}
