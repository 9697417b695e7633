//! What the line towards a host carries, and whether one more body would still get through in time. Pure; the time is passed
//! in.
//!
//! Attempts share a line. On a slow one, such as the uplink of a home, each that is added makes all others slower, until all of
//! them end at `request_timeout` where they would have been done one after the other. So a body begins only if it and what is
//! under way can be expected to be through in half of that time, counted from when the oldest of them began, or if nothing is
//! under way.
//!
//! What stands still does not count: it waits for the host and not for the line, and must not hold up others.

use std::time::Duration;

use tokio::time::Instant;

/// What the system takes of a body before the line has carried any of it, and the piece in which a slow line moves.
pub const PIECE: u64 = 64 << 10;

/// A body stands still when it has not moved for the time in which all that are under way would have got this many pieces.
const TURNS: f64 = 2.0;

/// But not before this; as long as nobody knows the rate, then.
const STILL: Duration = Duration::from_millis(1_500);

/// And always after this.
const STILL_AT_MOST: Duration = Duration::from_secs(10);

/// The rate is taken after so much time in which bodies moved, and then anew after so much: long enough that the pieces in
/// which a slow line moves even out.
const FIRST: Duration = Duration::from_secs(1);
const SPAN: Duration = Duration::from_secs(4);

/// A longer time without movement is none of the line's: a host did not read, or nobody looked.
const GAP: Duration = Duration::from_secs(10);

/// From less no rate is taken: small files take their time for other reasons than the line.
const ENOUGH: u64 = 2 * PIECE;

/// So much may be under way whatever is known of the rate. It is known after the first large file, or after [`FIRST`].
const FLOOR: u64 = 1 << 20;

/// The line towards one host.
#[derive(Clone, Debug)]
pub struct Uplink {
    time: Duration,
    /// Bytes per second.
    rate: Option<f64>,
    /// Since the rate was taken last.
    moved: u64,
    busy: Duration,
    /// When something moved last, or the first body began.
    moved_at: Option<Instant>,
}

impl Uplink {
    /// A line of which nothing is known. One file may take `time`.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { time, rate: None, moved: 0, busy: Duration::ZERO, moved_at: None }
    }

    /// Takes over the limit of `other`; what the line has shown so far stays.
    pub fn limit_like(&mut self, other: &Self) {
        self.time = other.time;
    }

    /// Whether a body of `bytes` can begin while `left` bytes of others are under way, the oldest of them for `age`.
    #[must_use]
    pub fn carries(&self, left: u64, age: impl FnOnce() -> Duration, bytes: u64) -> bool {
        let all = left.saturating_add(bytes);
        let in_time = |rate: f64| {
            // All of them are through when all their bytes are; what comes later must not delay the oldest beyond its time.
            let time = (self.time / 2).saturating_sub(age()).max(self.time / 16);
            all as f64 <= rate * time.as_secs_f64()
        };
        left == 0 || all <= FLOOR || self.rate.is_some_and(in_time)
    }

    /// How long one of so many bodies may not have moved before it stands still.
    #[must_use]
    pub fn still_after(&self, bodies: usize) -> Duration {
        let turn = |rate: f64| (bodies as f64 * PIECE as f64 / rate).min(STILL_AT_MOST.as_secs_f64());
        self.rate.map_or(STILL, |rate| Duration::from_secs_f64(TURNS * turn(rate)).clamp(STILL, STILL_AT_MOST))
    }

    /// A body begins, and nothing else is under way.
    pub fn begin(&mut self, now: Instant) {
        self.moved_at = Some(now);
    }

    /// `bytes` of bodies have moved since the last time; without the first [`PIECE`] of each, which the system took.
    pub fn moved(&mut self, now: Instant, bytes: u64) {
        let since = self.moved_at.replace(now).map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        if since > GAP {
            return;
        }
        self.busy += since;
        self.moved = self.moved.saturating_add(bytes);
        if self.busy >= self.rate.map_or(FIRST, |_| SPAN) {
            self.take();
        }
    }

    /// A body got through, and `bytes` of it have moved since the last time.
    pub fn through(&mut self, now: Instant, bytes: u64) {
        // What the system took at once tells nothing.
        if bytes > 0 {
            self.moved(now, bytes);
        }
        if self.rate.is_none() {
            self.take();
        }
    }

    /// Takes the rate, as the mean of the last two, if enough has moved to tell.
    fn take(&mut self) {
        if self.moved >= ENOUGH {
            // A file that was through before a clock could tell says that the line is fast.
            let rate = self.moved as f64 / self.busy.as_secs_f64().max(0.001);
            self.rate = Some(self.rate.map_or(rate, |before| (before + rate) / 2.0));
            (self.moved, self.busy) = (0, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const NEW: fn() -> Duration = || Duration::ZERO;

    /// For `time`, in every 10 ms, so many bytes move.
    fn run(uplink: &mut Uplink, now: &mut Instant, time: Duration, bytes: impl Fn(u64) -> u64) {
        for step in 0..time.as_millis() as u64 / 10 {
            *now += Duration::from_millis(10);
            let bytes = bytes(step);
            if bytes > 0 {
                uplink.moved(*now, bytes);
            }
        }
    }

    fn begun() -> (Uplink, Instant) {
        let now = Instant::now();
        let mut uplink = Uplink::new(Duration::from_secs(120));
        uplink.begin(now);
        (uplink, now)
    }

    #[test]
    fn nothing_under_way_lets_any_body_begin_and_an_unknown_line_gets_a_megabyte() {
        let (uplink, _) = begun();
        assert!(uplink.carries(0, NEW, u64::MAX));
        assert!(uplink.carries(700_000, NEW, 300_000));
        assert!(!uplink.carries(4 * MB, NEW, 4 * MB));
    }

    #[test]
    fn a_slow_line_carries_what_is_through_in_half_of_the_time_limit() {
        let (mut uplink, mut now) = begun();
        run(&mut uplink, &mut now, Duration::from_secs(3), |_| 1_250);
        assert!(uplink.carries(3 * MB, NEW, 4 * MB), "125 kB/s are 7.5 MB in a minute");
        assert!(!uplink.carries(4 * MB, NEW, 4 * MB));
        run(&mut uplink, &mut now, Duration::from_secs(20), |_| 12_500);
        assert!(uplink.carries(60 * MB, NEW, 10 * MB), "it has become faster");
        run(&mut uplink, &mut now, Duration::from_secs(90), |_| 300);
        assert!(!uplink.carries(2 * MB, NEW, 2 * MB), "and slower");
    }

    #[test]
    fn pieces_that_come_seldom_are_no_slower_than_many_small_ones() {
        let (mut uplink, mut now) = begun();
        run(&mut uplink, &mut now, Duration::from_secs(20), |step| if step % 100 == 99 { 65_536 } else { 0 });
        assert!(
            uplink.carries(MB, NEW, 2 * MB) && !uplink.carries(2 * MB, NEW, 2 * MB),
            "64 KiB/s are 3.9 MB in a minute"
        );
        assert_eq!([1, 2, 3].map(|bodies| uplink.still_after(bodies).as_secs()), [2, 4, 6]);
    }

    #[test]
    fn a_host_that_reads_nothing_says_nothing_about_the_line() {
        let (mut uplink, mut now) = begun();
        uplink.moved(now + Duration::from_millis(20), MB);
        now += Duration::from_secs(60);
        uplink.moved(now, MB);
        assert!(uplink.carries(MB / 2, NEW, MB / 2) && !uplink.carries(MB, NEW, MB), "nothing is known yet");
        assert_eq!(uplink.still_after(8), STILL);
    }

    #[test]
    fn one_file_tells_the_rate_of_a_fast_line() {
        let (mut uplink, now) = begun();
        uplink.through(now + Duration::from_millis(50), 5 * MB);
        assert!(uplink.carries(5_000 * MB, NEW, 5 * MB));
        assert_eq!(uplink.still_after(8), STILL);
    }

    #[test]
    fn what_comes_later_does_not_delay_the_oldest_beyond_its_time() {
        let (mut uplink, mut now) = begun();
        run(&mut uplink, &mut now, Duration::from_secs(10), |_| 1_000);
        let carries = |age, left| uplink.carries(left, || Duration::from_secs(age), MB / 2);
        assert!(carries(0, 5 * MB) && carries(20, 3 * MB), "55 s in all");
        assert!(!carries(20, 5 * MB) && !carries(50, 2 * MB));
        assert!(carries(200, MB / 4), "one that trickles does not hold up everything");
    }

    #[test]
    fn small_files_say_nothing_about_the_line_and_go_on_whatever_it_is() {
        let (mut uplink, mut now) = begun();
        for _ in 0..1_000 {
            now += Duration::from_millis(300);
            uplink.through(now, 500);
        }
        assert!(uplink.carries(300_000, NEW, 60_000));
        uplink.through(now + Duration::from_millis(10), 50 * MB);
        assert!(uplink.carries(5 * MB, NEW, 5 * MB));
    }

    #[test]
    fn what_moved_while_nobody_looked_is_not_counted() {
        let (mut uplink, mut now) = begun();
        run(&mut uplink, &mut now, Duration::from_secs(3), |_| 1_250);
        now += Duration::from_secs(600);
        uplink.moved(now, 70 * MB);
        run(&mut uplink, &mut now, Duration::from_secs(2), |_| 1_250);
        assert!(!uplink.carries(4 * MB, NEW, 4 * MB));
    }
}
