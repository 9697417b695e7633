//! How long a host wants to be left alone: `Retry-After`, the headers of rate limits, the words of its error page.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::recipe::Answer;
use crate::clock::WallTime;

/// The longest stay-away that is believed: the longest known limits are daily.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Larger numbers are moments, in seconds since 1970; smaller ones durations.
const EPOCH_SECONDS: f64 = 1e9;

/// Larger numbers are moments in milliseconds.
const EPOCH_MILLIS: f64 = 1e12;

/// What an answer says about the host's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limit {
    /// `Retry-After`.
    pub(super) retry_after: Option<Duration>,
    /// A limit is named of which nothing remains.
    pub(super) spent: bool,
    /// When a limit of which nothing remains starts anew; or one of which nothing else is said.
    pub(super) reset: Option<Duration>,
}

impl Limit {
    /// Reads the headers of `answer`. Moments are compared with its own `Date`, because our clock may be wrong; with ours
    /// if there is none.
    pub(super) fn of(answer: &Answer, now: WallTime) -> Self {
        let ours = Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
        let date = header(&answer.headers, DATE.as_str()).and_then(moment);
        let clock = date.unwrap_or(ours);
        let budgets = budgets(&answer.headers, clock);
        let spent = |budget: &&Budget| budget.remaining == Some(0);
        let silent = |budget: &&Budget| budget.remaining.is_none();
        let reset = budgets.iter().filter(spent).filter_map(|budget| budget.reset).max();
        Self {
            retry_after: header(&answer.headers, RETRY_AFTER.as_str()).and_then(|text| wait(text, clock)),
            spent: budgets.iter().any(|budget| budget.remaining == Some(0)),
            reset: reset.or_else(|| budgets.iter().filter(silent).filter_map(|budget| budget.reset).max()),
        }
    }

    /// How long to stay away, if a header says so.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.retry_after.or(self.reset)
    }
}

/// One limit that the headers speak of.
#[derive(Debug, Default)]
struct Budget {
    remaining: Option<u64>,
    reset: Option<Duration>,
}

/// `X-RateLimit-Remaining` and `-Reset` with whatever stands between (`X-RateLimit-UserReset`, `X-Post-Rate-Limit-Reset`),
/// `RateLimit-Reset`, and the structured `RateLimit` of both drafts of the IETF.
fn budgets(headers: &HeaderMap, clock: Duration) -> Vec<Budget> {
    let mut found: BTreeMap<String, Budget> = BTreeMap::new();
    let mut structured = Vec::new();
    for (name, value) in headers {
        let (name, Ok(value)) = (name.as_str(), value.to_str()) else { continue };
        if name == "ratelimit" {
            structured.extend(policies(value, clock));
        } else if name.contains("ratelimit") || name.contains("rate-limit") {
            if let Some(limit) = name.strip_suffix("remaining") {
                found.entry(limit.to_owned()).or_default().remaining = value.trim().parse().ok();
            } else if let Some(limit) = name.strip_suffix("reset") {
                found.entry(limit.to_owned()).or_default().reset = wait(value, clock);
            }
        }
    }
    structured.extend(found.into_values());
    structured
}

/// `limit=100, remaining=0, reset=50`, or `"hour";r=0;t=50, "day";r=900;t=40000`.
fn policies(text: &str, clock: Duration) -> Vec<Budget> {
    let items: Vec<&str> = if text.contains(';') { text.split(',').collect() } else { vec![text] };
    let budget = |item: &str| {
        let mut budget = Budget::default();
        for (name, value) in item.split([';', ',']).filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "remaining" | "r" => budget.remaining = value.trim().parse().ok(),
                "reset" | "t" => budget.reset = wait(value, clock),
                _ => {}
            }
        }
        budget
    };
    items.into_iter().map(budget).collect()
}

/// A number of seconds, or a moment in any of the usual spellings; at most [`LONGEST`].
fn wait(text: &str, clock: Duration) -> Option<Duration> {
    let until = |at: Duration| at.saturating_sub(clock);
    let wait = match text.trim().parse::<f64>() {
        Ok(number) if !number.is_finite() || number < 0.0 => return None,
        Ok(number) if number >= EPOCH_MILLIS => until(Duration::try_from_secs_f64(number / 1e3).ok()?),
        Ok(number) if number >= EPOCH_SECONDS => until(Duration::try_from_secs_f64(number).ok()?),
        Ok(number) => Duration::from_secs_f64(number),
        Err(_) => until(moment(text.trim())?),
    };
    Some(wait.min(LONGEST))
}

/// An HTTP date (RFC 9110 §5.6.7) or a timestamp of RFC 3339, since 1970.
fn moment(text: &str) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    date.or_else(|| Duration::try_from(text.parse::<jiff::Timestamp>().ok()?.as_duration()).ok())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The time that `regex` finds in `text`: the sum of its groups `days`, `hours`, `minutes` and `seconds`.
pub(super) fn told(regex: &regex::Regex, text: &str) -> Option<Duration> {
    let found = regex.captures(text)?;
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)];
    let part = |(name, unit): (&str, u64)| Some(found.name(name)?.as_str().parse::<u64>().ok()?.saturating_mul(unit));
    let parts: Vec<u64> = units.into_iter().filter_map(part).collect();
    let sum = parts.iter().fold(0u64, |sum, part| sum.saturating_add(*part));
    (!parts.is_empty()).then(|| Duration::from_secs(sum).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24T12:00:00Z.
    const NOW: WallTime = WallTime::from_millis(1_795_521_600_000);

    fn limit(headers: &[(&'static str, &str)]) -> (Option<u64>, bool, Option<u64>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header value"));
        }
        let limit = Limit::of(&Answer::new(429, map, b""), NOW);
        let seconds = |wait: Option<Duration>| wait.map(|wait| wait.as_secs());
        (seconds(limit.retry_after), limit.spent, seconds(limit.reset))
    }

    #[test]
    fn r17_retry_after_is_read_in_seconds_and_as_a_date() {
        for (text, seconds) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("1.5", Some(1)),
            ("Tue, 24 Nov 2026 12:05:00 GMT", Some(300)),
            ("Tue, 24 Nov 2026 11:00:00 GMT", Some(0)),
            ("99999999", Some(86_400)),
            ("1795521660", Some(60)),
            ("-5", None),
            ("soon", None),
            ("NaN", None),
        ] {
            assert_eq!(limit(&[("retry-after", text)]).0, seconds, "{text}");
        }
        let both = [("retry-after", "Tue, 24 Nov 2020 12:05:00 GMT"), ("date", "Tue, 24 Nov 2020 12:00:00 GMT")];
        assert_eq!(limit(&both).0, Some(300), "by the host's own clock");
    }

    #[test]
    fn r17_reset_headers_are_read_in_seconds_and_as_moments() {
        type Case = (&'static [(&'static str, &'static str)], bool, Option<u64>);
        let cases: [Case; 12] = [
            (&[("x-ratelimit-reset", "30")], false, Some(30)),
            (&[("x-ratelimit-reset", "1795521690")], false, Some(90)),
            (&[("x-ratelimit-reset", "1795521690000")], false, Some(90)),
            (&[("x-rate-limit-reset", "2026-11-24T12:02:00Z")], false, Some(120)),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "50")], true, Some(50)),
            (&[("ratelimit", "limit=100, remaining=0, reset=50")], true, Some(50)),
            (&[("ratelimit", "\"hour\";r=0;t=50, \"day\";r=900;t=40000")], true, Some(50)),
            // What imgur sends: the limit that is spent counts, not the one that lasts longest.
            (
                &[
                    ("x-ratelimit-userremaining", "0"),
                    ("x-ratelimit-userreset", "3600"),
                    ("x-ratelimit-clientremaining", "12000"),
                    ("x-ratelimit-clientreset", "80000"),
                    ("x-post-rate-limit-remaining", "7"),
                    ("x-post-rate-limit-reset", "1648"),
                ],
                true,
                Some(3_600),
            ),
            (&[("x-post-rate-limit-remaining", "0"), ("x-post-rate-limit-reset", "1648")], true, Some(1_648)),
            (&[("x-ratelimit-remaining", "5"), ("x-ratelimit-reset", "1648")], false, None),
            (&[("x-ratelimit-remaining", "0")], true, None),
            (&[("x-request-reset", "1648")], false, None),
        ];
        for (headers, spent, reset) in cases {
            assert_eq!(limit(headers), (None, spent, reset), "{headers:?}");
        }
    }

    #[test]
    fn r17_the_words_of_a_page_say_how_long() {
        let regex = regex::Regex::new(r"wait (?:(?<hours>\d+) h )?(?<minutes>\d+) more minutes").expect("valid");
        assert_eq!(told(&regex, "please wait 37 more minutes"), Some(Duration::from_secs(37 * 60)));
        assert_eq!(told(&regex, "wait 1 h 5 more minutes"), Some(Duration::from_secs(3_900)));
        assert_eq!(told(&regex, "wait 99999999999 more minutes"), Some(LONGEST));
        assert_eq!(told(&regex, "wait a little"), None);
    }
}
