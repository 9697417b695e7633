//! Ages and sizes as people say them: short, one unit, never more exact than useful.

use std::time::Duration;

use bytesize::ByteSize;

use super::model::{HostStatus, QuotaStatus};
use crate::clock::WallTime;

/// `5 s`, `3 min`, `2 h`, `4 d`.
#[must_use]
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How a host is that nobody paused and that does not rest; and whether that is less than well.
#[must_use]
pub fn condition(host: &HostStatus, now: WallTime) -> (bool, String) {
    let unwell = matches!(host.state.as_str(), "circuit-open" | "half-open" | "suspect" | "quota");
    let said = match host.next_due_at {
        _ if unwell => host.state.escape_debug().to_string(),
        Some(due) => format!("next resting file in {}", age(due.since(now))),
        None => "ok".to_owned(),
    };
    (unwell, said)
}

/// ` · 12 of 1000 an hour left`, or nothing for a host without a quota.
#[must_use]
pub fn quota_left(quota: Option<QuotaStatus>) -> String {
    let Some(QuotaStatus { count, period_seconds, left }) = quota else { return String::new() };
    let period = match period_seconds {
        60 => "a minute".to_owned(),
        3_600 => "an hour".to_owned(),
        86_400 => "a day".to_owned(),
        seconds => format!("in {}", age(Duration::from_secs(seconds))),
    };
    format!(" · {left} of {count} {period} left")
}

/// `183.4 kB`, in powers of ten as in the configuration's `"10MB"`.
#[must_use]
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let said = [0, 59, 60, 3_599, 3_600, 172_799, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(said, ["0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 d"]);
    }

    #[test]
    fn quotas_are_told_with_their_period() {
        let quota = |count, period_seconds, left| quota_left(Some(QuotaStatus { count, period_seconds, left }));
        assert_eq!(quota(1_000, 3_600, 12), " · 12 of 1000 an hour left");
        assert_eq!(quota(60, 60, 0), " · 0 of 60 a minute left");
        assert_eq!(quota(5, 86_400, 5), " · 5 of 5 a day left");
        assert_eq!(quota_left(None), "");
    }

    #[test]
    fn sizes_are_in_powers_of_ten() {
        assert_eq!(size(183_422), "183.4 kB");
    }
}
