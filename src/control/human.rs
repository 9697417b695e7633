//! Ages and sizes as people say them: short, one unit, never more exact than useful.

use std::time::Duration;

use bytesize::ByteSize;

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
    fn sizes_are_in_powers_of_ten() {
        assert_eq!(size(183_422), "183.4 kB");
    }
}
