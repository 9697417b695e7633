//! The spellings of values: durations, sizes, rates, log filters, patterns. Pure.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use jiff::fmt::friendly::SpanParser;

/// The most uploads per unit of time that a rate can say: more is the same as no limit, and would need waits shorter
/// than timers can measure.
const MAX_RATE: f64 = 10_000.0;

/// The fewest: one in a hundred hours.
const MIN_RATE: f64 = 0.01;

/// The most uploads that a quota can say.
const MAX_QUOTA: u32 = 1_000_000;

/// The levels of [`log_filter`].
pub(super) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `"90s"`, `"3m"`, `"1h30m"`, `"250ms"`; nothing negative.
pub(super) fn duration(text: &str) -> Option<Duration> {
    SpanParser::new().parse_unsigned_duration(text).ok()
}

/// How a duration is shown: as it could be written.
pub(super) fn shown_duration(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

/// `"10MB"` (powers of 1000), `"8MiB"` (powers of 1024), `"512"`: in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    text.parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// `"2/s"`, `"30/m"`, `"100/h"`: the time between two.
pub(super) fn rate(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_once('/')?;
    let count: f64 = count.trim().parse().ok().filter(|count| (MIN_RATE..=MAX_RATE).contains(count))?;
    let unit = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(unit / count))
}

/// `"1000/h"`, `"60/m"`, `"5000/d"`: how many in which time.
pub(super) fn quota(text: &str) -> Option<(u32, Duration)> {
    let (count, unit) = text.split_once('/')?;
    let count: u32 = count.trim().parse().ok().filter(|count| (1..=MAX_QUOTA).contains(count))?;
    let seconds = match unit.trim() {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some((count, Duration::from_secs(seconds)))
}

/// `info`, or `info,pixchute::watch=debug`: a level for everything, and levels for single modules. `tracing` would take
/// a misspelt level for the name of a module, and log nothing.
pub(super) fn log_filter(text: &str) -> bool {
    text.split(',').all(|directive| match directive.trim().split_once('=') {
        None => is_level(directive.trim()),
        Some((module, level)) => {
            !module.is_empty()
                && module.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
                && is_level(level)
        }
    })
}

fn is_level(word: &str) -> bool {
    LEVELS.contains(&word)
}

/// Why `pattern` cannot be used as a pattern of names, or with a `/` of paths below the drop folder; `None` when it can.
pub(super) fn pattern_mistake(pattern: &str) -> Option<String> {
    if pattern.is_empty() {
        return Some("an empty pattern matches nothing".to_owned());
    }
    if pattern.starts_with('/') || pattern.starts_with("./") {
        return Some("a path in a pattern begins in the drop folder, without `/`".to_owned());
    }
    if pattern.ends_with('/') {
        return Some(
            "a pattern that ends with `/` matches nothing: `name` means a folder too, `name/**` what is in it"
                .to_owned(),
        );
    }
    globset::Glob::new(pattern).err().map(|error| error.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let cases =
            [("90s", 90_000), ("3m", 180_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5s", 1_500), ("0s", 0)];
        for (text, expected) in cases {
            assert_eq!(duration(text), millis(expected), "{text}");
        }
        for text in ["", "5", "-3s", "5 min ago", "3M", "1mo", "ten", "99999999999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_could_be_written() {
        assert_eq!(shown_duration(Duration::from_secs(90)), "1m 30s");
        assert_eq!(duration(&shown_duration(Duration::from_millis(3_600_250))), millis(3_600_250));
    }

    #[test]
    fn sizes_know_decimal_and_binary_units() {
        let cases = [("10MB", 10_000_000), ("8MiB", 8 << 20), ("512", 512), ("1.5 GB", 1_500_000_000)];
        for (text, expected) in cases {
            assert_eq!(size(text), Some(expected), "{text}");
        }
        assert_eq!((size("-3"), size("big"), size("")), (None, None, None));
    }

    #[test]
    fn rates_are_times_between_two() {
        assert_eq!(rate("2/s"), millis(500));
        assert_eq!(rate("30/m"), millis(2_000));
        assert_eq!(rate("100/h"), millis(36_000));
        for text in ["2", "0/s", "-1/s", "nan/s", "inf/h", "2/d", "/s", "1e9/s"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn quotas_are_so_many_in_a_time() {
        assert_eq!(quota("1000/h"), Some((1_000, Duration::from_secs(3_600))));
        assert_eq!(quota("5 / d"), Some((5, Duration::from_secs(86_400))));
        for text in ["1000", "0/h", "-1/h", "1.5/h", "10/s", "2000000/h", "/h"] {
            assert_eq!(quota(text), None, "{text}");
        }
    }

    #[test]
    fn a_misspelt_log_level_is_not_taken_for_a_module() {
        assert!(log_filter("info") && log_filter("info,pixchute::watch=debug") && log_filter("off"));
        for text in ["infoo", "", "pixchute", "pixchute=loud", "=debug", "info,"] {
            assert!(!log_filter(text), "{text}");
        }
    }

    #[test]
    fn patterns_are_names_or_paths_in_the_drop_folder() {
        for pattern in ["*.{jpg,png}", "a/*.jpg", "private/**", "**/raw/*"] {
            assert_eq!(pattern_mistake(pattern), None, "{pattern}");
        }
        for pattern in ["", "/a/*.jpg", "./a", "private/", "[a", "{a"] {
            assert!(pattern_mistake(pattern).is_some(), "{pattern}");
        }
    }
}
