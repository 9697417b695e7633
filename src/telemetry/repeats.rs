//! The same trouble again and again: told once a minute, with how often it came.
//!
//! A disk that is ill can fail a thousand times a second with the same words. Events are never held back: each is a transition
//! of one file, host or folder.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long the same words are not told again.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// How many different troubles are remembered at a time; what comes beyond is told each time.
const REMEMBERED: usize = 256;

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    told: HashMap<String, Told>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    /// How often it came since.
    more: u64,
}

impl Repeats {
    /// Whether `words` are to be told now.
    pub(super) fn admits(&mut self, now: Instant, words: &str) -> bool {
        if let Some(told) = self.told.get_mut(words) {
            told.more += 1;
            return false;
        }
        if self.told.len() < REMEMBERED {
            self.told.insert(words.to_owned(), Told { at: now, more: 0 });
        }
        true
    }

    /// What came again since it was told, and how often, for all whose time is over at `now`; they are forgotten.
    pub(super) fn over(&mut self, now: Instant) -> Vec<(String, u64)> {
        let over = self.told.extract_if(|_, told| now.saturating_duration_since(told.at) >= WINDOW);
        let mut over: Vec<_> = over.map(|(words, told)| (words, told.more)).filter(|(_, more)| *more > 0).collect();
        over.sort();
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r29_the_same_trouble_is_told_once_a_minute_with_its_count() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert!(repeats.admits(start, "no room"));
        assert!(repeats.admits(start, "no network"));
        for _ in 0..999 {
            assert!(!repeats.admits(start + WINDOW / 2, "no room"));
        }
        assert!(repeats.over(start + WINDOW / 2).is_empty());
        assert_eq!(repeats.over(start + WINDOW), [("no room".to_owned(), 999)]);
        assert!(repeats.admits(start + WINDOW, "no room"), "a new minute");
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_hidden_by_that() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for number in 0..2 * REMEMBERED {
            assert!(repeats.admits(start, &number.to_string()));
        }
        assert_eq!(repeats.told.len(), REMEMBERED);
        assert!(repeats.admits(start, "one too many"));
        assert!(repeats.admits(start, "one too many"));
    }
}
