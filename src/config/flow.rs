//! How much a host may be given, and what its failures mean: `[flow]`, and the keys of the same kind in `[host.NAME]`.

use std::time::Duration;

use toml::de::DeValue;

use super::draft::{DURATION, set};
use super::problem::{Problem, nearest};
use super::section::{Section, describe};
use super::value::{quota, size};
use crate::job::{ErrorClass, FailureKind};

/// `[flow]`: what holds for every host.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowConfig {
    /// So many passing failures in a row open a host's circuit.
    pub circuit_failures: u32,
    /// The shortest rest of a host whose circuit is open.
    pub circuit_min: Duration,
    /// The longest.
    pub circuit_max: Duration,
    /// So many answers without a usable link in a row make a host suspect.
    pub suspect_after: u32,
    /// How long a host rests that asks for it and does not say how long.
    pub rate_limit_pause: Duration,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            circuit_failures: 5,
            circuit_min: Duration::from_secs(5),
            circuit_max: Duration::from_secs(120),
            suspect_after: 5,
            rate_limit_pause: Duration::from_secs(60),
        }
    }
}

/// The keys of `[host.NAME]` about flow, limits and failures; what is `None` holds as for every host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFlow {
    /// At most so many uploads in any such time.
    pub quota: Option<Quota>,
    /// See [`FlowConfig::rate_limit_pause`].
    pub rate_limit_pause: Option<Duration>,
    /// See [`FlowConfig::suspect_after`].
    pub suspect_after: Option<u32>,
    /// These failures pass, whatever they would mean otherwise.
    pub retry_on: Vec<FailureRule>,
    /// These failures are final for the file.
    pub fail_on: Vec<FailureRule>,
    /// See [`super::Pool::file_timeout`].
    pub file_timeout: Option<Duration>,
    /// See [`super::Pool::request_timeout`].
    pub request_timeout: Option<Duration>,
    /// See [`super::Pool::stall_timeout`].
    pub stall_timeout: Option<Duration>,
    /// See [`super::Pool::min_rate`].
    pub min_rate: Option<u64>,
}

/// `quota = "1000/h"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many uploads.
    pub count: u32,
    /// In any stretch of so long.
    pub period: Duration,
}

/// An entry of `retry_on` or `fail_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureRule {
    /// Answers with this status.
    Status(u16),
    /// Failures of this class.
    Class(ErrorClass),
    /// Failures that mean this.
    Kind(FailureKind),
}

impl FailureRule {
    /// The words that a rule can be, besides a status.
    const WORDS: [(&'static str, Self); 9] = [
        ("transient", Self::Kind(FailureKind::Transient)),
        ("rate_limited", Self::Class(ErrorClass::RateLimited)),
        ("account", Self::Class(ErrorClass::Account)),
        ("file", Self::Class(ErrorClass::File)),
        ("bad_response", Self::Kind(FailureKind::BadResponse)),
        ("unknown_outcome", Self::Class(ErrorClass::UnknownOutcome)),
        ("timeout", Self::Class(ErrorClass::Timeout)),
        ("stall", Self::Class(ErrorClass::Stall)),
        ("connect", Self::Class(ErrorClass::Connect)),
    ];

    /// Whether it speaks of such a failure.
    #[must_use]
    pub fn applies(self, class: ErrorClass, kind: FailureKind, status: Option<u16>) -> bool {
        match self {
            Self::Status(wanted) => status == Some(wanted),
            Self::Class(wanted) => class == wanted,
            Self::Kind(wanted) => kind == wanted,
        }
    }
}

/// Reads `[flow]`.
pub(super) fn read(flow: &mut FlowConfig, mut section: Section<'_>, problems: &mut Vec<Problem>) {
    set(&mut flow.circuit_failures, section.number("circuit_failures", 1..=100));
    set(&mut flow.circuit_min, section.duration("circuit_min", DURATION));
    set(&mut flow.circuit_max, section.duration("circuit_max", DURATION));
    set(&mut flow.suspect_after, section.number("suspect_after", 1..=1_000));
    set(&mut flow.rate_limit_pause, section.duration("rate_limit_pause", DURATION));
    if flow.circuit_max < flow.circuit_min {
        let key = if section.has("circuit_max") { "circuit_max" } else { "circuit_min" };
        section.wrong(key, "the longest rest is shorter than the shortest", None);
    }
    section.finish(problems);
}

/// Reads the keys of `[host.NAME]`.
pub(super) fn read_host(section: &mut Section<'_>) -> HostFlow {
    let expected = "uploads per minute, hour or day such as \"60/m\", \"1000/h\" or \"5000/d\"";
    let quota = section.read("quota", expected, |value| value.as_str().and_then(quota));
    let flow = HostFlow {
        quota: quota.map(|(count, period)| Quota { count, period }),
        rate_limit_pause: section.duration("rate_limit_pause", DURATION),
        suspect_after: section.number("suspect_after", 1..=1_000),
        retry_on: rules(section, "retry_on"),
        fail_on: rules(section, "fail_on"),
        file_timeout: section.duration("file_timeout", DURATION),
        request_timeout: section.duration("request_timeout", DURATION),
        stall_timeout: section.duration("stall_timeout", DURATION),
        min_rate: min_rate(section),
    };
    if let Some(both) = flow.retry_on.iter().find(|rule| flow.fail_on.contains(rule)) {
        let what = match both {
            FailureRule::Status(status) => status.to_string(),
            word => FailureRule::WORDS.iter().find(|(_, rule)| rule == word).map_or("", |(name, _)| name).to_owned(),
        };
        section.wrong("fail_on", format!("{what} stands in `retry_on` too"), None);
    }
    flow
}

/// `min_rate = "64KiB"`: bytes per second.
pub(super) fn min_rate(section: &mut Section<'_>) -> Option<u64> {
    let expected = "a size per second such as \"64KiB\", or \"0\" for none";
    section.read("min_rate", expected, |value| value.as_str().and_then(size))
}

fn rules(section: &mut Section<'_>, key: &'static str) -> Vec<FailureRule> {
    const EXPECTED: &str = "statuses from 300 to 599 and classes of failures, such as [404, \"account\"]";
    let Some(array) = section.read(key, EXPECTED, DeValue::as_array) else { return Vec::new() };
    let mut rules = Vec::new();
    for element in array {
        let value = element.get_ref();
        let status = value.as_integer().and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
        let word = value.as_str();
        let named = |(name, rule): &(&str, FailureRule)| (Some(*name) == word).then_some(*rule);
        let rule = status
            .filter(|status| (300..=599).contains(status))
            .map(FailureRule::Status)
            .or_else(|| FailureRule::WORDS.iter().find_map(named));
        match rule {
            Some(rule) => rules.push(rule),
            None => {
                let names = FailureRule::WORDS.map(|(name, _)| name);
                let near = word.and_then(|word| nearest(word, names));
                let help = near.map(|near| format!("did you mean \"{near}\"?"));
                let known = names.join(", ");
                let message = format!(
                    "found {}, expected a status from 300 to 599 or one of the classes {known}",
                    describe(value)
                );
                section.problem(key, element.span(), message, help);
            }
        }
    }
    rules
}
