//! The order of a list: by name as people count, so that img2 comes before img10. Pure.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Chars;

/// Compares two names: numbers by their value, letters without regard to case; names that are alike then by their exact
/// letters, so that the order never depends on anything else.
#[must_use]
pub fn natural(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.chars().peekable(), other.chars().peekable());
    loop {
        let order = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return one.cmp(other),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (a, b) = (number(&mut left), number(&mut right));
                a.len().cmp(&b.len()).then_with(|| a.cmp(&b))
            }
            (Some(a), Some(b)) => {
                left.next();
                right.next();
                // A folder's files stand together, before those of a folder whose name goes on.
                let rank = |c: char| if c == '/' { '\0' } else { c };
                a.to_lowercase().map(rank).cmp(b.to_lowercase().map(rank))
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits at this place, without leading zeros.
fn number(text: &mut Peekable<Chars<'_>>) -> String {
    let mut digits = String::new();
    while let Some(digit) = text.next_if(char::is_ascii_digit) {
        if digit != '0' || !digits.is_empty() {
            digits.push(digit);
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stand_as_people_count() {
        let sorted = [
            "",
            "1.jpg",
            "2.jpg",
            "02.png",
            "10.jpg",
            "a/2.jpg",
            "a/10.jpg",
            "a b.jpg",
            "a-1.jpg",
            "A1.jpg",
            "a2.jpg",
            "IMG_2.jpg",
            "img_10.jpg",
            "IMG_99999999999999999999999.jpg",
            "IMG_100000000000000000000000.jpg",
            "é.jpg",
        ];
        for (at, one) in sorted.iter().enumerate() {
            for (behind, other) in sorted.iter().enumerate() {
                assert_eq!(natural(one, other), at.cmp(&behind), "{one:?} and {other:?}");
            }
        }
        assert_eq!(natural("IMG.jpg", "img.jpg"), Ordering::Less);
    }

    proptest! {
        #[test]
        fn it_is_an_order(mut names in proptest::collection::vec("[aAbB019/ .-]{0,6}", 3)) {
            names.sort_by(|a, b| natural(a, b));
            prop_assert!(natural(&names[0], &names[2]) != Ordering::Greater);
            prop_assert_eq!(natural(&names[0], &names[1]), natural(&names[1], &names[0]).reverse());
            prop_assert_eq!(natural(&names[0], &names[1]) == Ordering::Equal, names[0] == names[1]);
        }
    }
}
