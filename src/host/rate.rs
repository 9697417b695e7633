//! How fast bytes move, and how long the rest takes: pure.
//!
//! The rate is taken over the last one to two seconds, between the moment and the earlier of two marks that are set a
//! second apart. So it follows a line that becomes faster or slower, does not jump with every piece, and falls by itself
//! while nothing moves.

use std::time::Duration;

/// How far two marks are apart at least, in milliseconds.
const APART: u64 = 1_000;

/// Over less time no rate is told: the first pieces go into the system's buffer at once and say nothing about the line.
const TOO_SHORT: u64 = 100;

/// How many bytes had gone at a moment, in milliseconds since the attempt began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) sent: u64,
}

/// Two marks, the earlier one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(pub(super) Mark, pub(super) Mark);

impl Marks {
    /// The marks after `now`; `None` while the old ones hold.
    pub(super) fn next(self, now: Mark) -> Option<Self> {
        (now.at.saturating_sub(self.1.at) >= APART).then_some(Self(self.1, now))
    }

    /// Bytes per second at `now`; 0 while it is too early to tell.
    pub(super) fn rate(self, now: Mark) -> u64 {
        let (time, bytes) = (now.at.saturating_sub(self.0.at), now.sent.saturating_sub(self.0.sent));
        if time < TOO_SHORT { 0 } else { bytes.saturating_mul(1_000) / time }
    }
}

/// How long the rest of a body takes at this rate; `None` when nothing can be said.
#[must_use]
pub fn time_left(sent: u64, total: u64, bytes_per_second: u64) -> Option<Duration> {
    let left = total.checked_sub(sent)?;
    left.saturating_mul(1_000).checked_div(bytes_per_second).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `pieces` of (milliseconds, bytes) and tells the rate after each.
    fn rates(pieces: impl IntoIterator<Item = (u64, u64)>) -> Vec<u64> {
        let (mut marks, mut now) = (Marks::default(), Mark::default());
        let told = pieces.into_iter().map(|(time, bytes)| {
            now = Mark { at: now.at + time, sent: now.sent + bytes };
            marks = marks.next(now).unwrap_or(marks);
            marks.rate(now)
        });
        told.collect()
    }

    #[test]
    fn a_steady_line_has_a_steady_rate() {
        let told = rates((0..100).map(|_| (50, 5_000)));
        assert!(told[1..].iter().all(|rate| *rate == 100_000), "{told:?}");
    }

    #[test]
    fn a_line_that_changes_is_followed_within_two_seconds_and_without_jumps() {
        let told = rates((0..200).map(|n| (50, if n < 100 { 5_000 } else { 500 })));
        assert_eq!(told[99], 100_000);
        assert!(told[140] <= 10_100, "{}", told[140]);
        let steepest = told[1..].windows(2).map(|pair| pair[0].saturating_sub(pair[1])).max().expect("some");
        assert!(steepest < 50_000, "fell by {steepest} at once");
    }

    #[test]
    fn what_the_system_takes_at_once_is_no_rate_and_silence_lets_it_fall() {
        assert_eq!(rates([(0, 65_536), (10, 65_536)]), [0, 0]);
        let marks = Marks(Mark::default(), Mark { at: 1_000, sent: 100_000 });
        let later = [1_000, 2_000, 10_000].map(|at| marks.rate(Mark { at, sent: 100_000 }));
        assert_eq!(later, [100_000, 50_000, 10_000]);
    }

    #[test]
    fn the_time_left_is_told_only_when_it_is_known() {
        assert_eq!(time_left(25, 100, 50), Some(Duration::from_millis(1_500)));
        assert_eq!(time_left(100, 100, 50), Some(Duration::ZERO));
        assert_eq!((time_left(0, 100, 0), time_left(101, 100, 5)), (None, None));
        assert!(time_left(0, u64::MAX, 1).is_some(), "nothing overflows");
    }
}
