//! What is counted of each host since the process started, for the metrics.
//!
//! One entry per host of the configuration, so it stays small. Like the log there is one for the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::job::ErrorClass;

/// Upper bounds of the classes of durations in seconds: from a file on a fast line to the default `file_timeout`.
pub const DURATIONS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0];

/// Upper bounds of the classes of sizes in bytes: from icons to what the largest host takes.
pub const SIZES: [f64; 10] = [1e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 1e7, 3e7, 1e8];

/// Over how many of the last outcomes the share of time-outs is taken: enough to be no accident, few enough to tell of now.
pub const LAST: usize = 100;

/// How many values fell into which class.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Nothing yet. The bounds rise.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// One value more.
    pub fn add(&mut self, value: f64) {
        let class = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[class] += 1;
        self.sum += value;
    }

    /// Each bound with the number of values up to it.
    #[must_use]
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut so_far = 0;
        let add = |(bound, count): (&f64, &u64)| {
            so_far += count;
            (*bound, so_far)
        };
        self.bounds.iter().zip(&self.counts).map(add).collect()
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All values together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// What is counted of one host.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// Outcomes by their word in the manifest.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Failures by their class.
    pub errors: BTreeMap<&'static str, u64>,
    /// How long attempts took, in seconds, by their outcome.
    pub durations: BTreeMap<&'static str, Histogram>,
    /// How large uploaded files were, in bytes.
    pub sizes: Histogram,
    /// Bytes of request bodies handed to connections, repeated ones included.
    pub sent_bytes: u64,
    /// Requests that were sent once more within an attempt.
    pub retries: u64,
    /// Whether each of the last outcomes was a time-out.
    last: VecDeque<bool>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            outcomes: BTreeMap::new(),
            errors: BTreeMap::new(),
            durations: BTreeMap::new(),
            sizes: Histogram::new(&SIZES),
            sent_bytes: 0,
            retries: 0,
            last: VecDeque::new(),
        }
    }
}

/// An outcome, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The word of the manifest.
    pub status: &'static str,
    /// What kind of failure, if it is one.
    pub class: Option<ErrorClass>,
    /// Length of the file.
    pub bytes: u64,
    /// How long the attempt took.
    pub took: Duration,
    /// Time ended it, whatever the outcome is called.
    pub timed_out: bool,
}

impl Tally {
    /// Counts an outcome.
    pub fn count(&mut self, outcome: &Outcome) {
        let Outcome { status, class, bytes, took, timed_out } = *outcome;
        *self.outcomes.entry(status).or_default() += 1;
        if let Some(class) = class {
            *self.errors.entry(class.name()).or_default() += 1;
        }
        self.durations.entry(status).or_insert_with(|| Histogram::new(&DURATIONS)).add(took.as_secs_f64());
        if status == "uploaded" {
            #[expect(clippy::cast_precision_loss, reason = "a sum of sizes is no exact number in Prometheus either")]
            self.sizes.add(bytes as f64);
        }
        if self.last.len() >= LAST {
            self.last.pop_front();
        }
        self.last.push_back(timed_out);
    }

    /// The share of time-outs among the last [`LAST`] outcomes; `None` before the first one.
    #[must_use]
    pub fn timeout_ratio(&self) -> Option<f64> {
        let count = |number: usize| u32::try_from(number).map_or(f64::INFINITY, f64::from);
        let timeouts = self.last.iter().filter(|timed_out| **timed_out).count();
        (!self.last.is_empty()).then(|| count(timeouts) / count(self.last.len()))
    }
}

static TALLIES: LazyLock<Mutex<BTreeMap<String, Tally>>> = LazyLock::new(Mutex::default);

fn change(host: &str, change: impl FnOnce(&mut Tally)) {
    let mut tallies = TALLIES.lock().unwrap_or_else(PoisonError::into_inner);
    match tallies.get_mut(host) {
        Some(tally) => change(tally),
        None => change(tallies.entry(host.to_owned()).or_default()),
    }
}

/// Counts an outcome.
pub fn outcome(host: &str, outcome: &Outcome) {
    change(host, |tally| tally.count(outcome));
}

/// Counts what an attempt has moved.
pub fn attempt(host: &str, sent_bytes: u64, retries: u64) {
    change(host, |tally| {
        tally.sent_bytes += sent_bytes;
        tally.retries += retries;
    });
}

/// Everything that was counted, by host.
#[must_use]
pub fn all() -> BTreeMap<String, Tally> {
    TALLIES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: &'static str, timed_out: bool) -> Outcome {
        let class = (status != "uploaded").then_some(ErrorClass::Timeout);
        Outcome { status, class, bytes: 20_000, took: Duration::from_millis(300), timed_out }
    }

    #[test]
    fn a_histogram_counts_each_value_in_every_class_above_it() {
        let mut histogram = Histogram::new(&[1.0, 2.0, 5.0]);
        [0.5, 1.0, 1.5, 9.0].into_iter().for_each(|value| histogram.add(value));
        assert_eq!(histogram.cumulative(), [(1.0, 2), (2.0, 3), (5.0, 3)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 12.0));
    }

    #[test]
    fn the_share_of_time_outs_is_that_of_the_last_hundred() {
        let mut tally = Tally::default();
        assert_eq!(tally.timeout_ratio(), None);
        (0..LAST).for_each(|_| tally.count(&ended("timeout", true)));
        assert_eq!(tally.timeout_ratio(), Some(1.0));
        (0..75).for_each(|_| tally.count(&ended("uploaded", false)));
        assert_eq!(tally.timeout_ratio(), Some(0.25));
        assert_eq!((tally.outcomes["timeout"], tally.errors["timeout"], tally.sizes.count()), (100, 100, 75));
    }
}
