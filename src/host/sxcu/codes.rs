//! The `%` codes of ShareX's name parser, which request values may use: `%y` is the year, `%ra{8}` are eight random
//! letters and digits. There is no word boundary: `100%discount` contains `%d`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::ZonedDateTime;

use crate::host::recipe::Draw;

/// The longest run that `%ra{n}` and the padding of `%i{n}` may ask for.
const REPEAT_LIMIT: usize = 256;

/// Letters and digits that cannot be taken for each other.
const UNAMBIGUOUS: &str = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const ALPHANUMERIC: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const ADJECTIVES: &str = "able bold brave bright calm clever cool early fair fast fine fresh gentle glad grand happy kind \
    late light lively lucky merry mild neat new nice plain proud quick quiet rapid rare ready rich safe sharp shiny \
    silent simple slow small smart smooth soft still sunny swift warm wide wise young";
const ANIMALS: &str = "Ant Badger Bat Bear Beaver Bee Bird Bison Boar Camel Cat Crab Crane Crow Deer Dog Dolphin Dove \
    Duck Eagle Elk Falcon Fish Fox Frog Goat Goose Hare Hawk Heron Horse Ibex Jay Koala Lark Lion Lynx Mole Moose Mouse \
    Otter Owl Panda Quail Rabbit Raven Robin Seal Sheep Stork Swan Tiger Toad Turtle Walrus Whale Wolf Wren Yak Zebra";
const EMOJI: &str = "😀 😁 😂 😃 😄 😅 😆 😇 😉 😊 😋 😌 😍 😎 😏 😐 😴 🙂 🙃 🤓";

/// Counts the uses of `%i` since the start of the process: ShareX counts across restarts.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// What a code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Year,
    ShortYear,
    Month,
    MonthName,
    Day,
    WeekDay,
    Week,
    Hour,
    Minute,
    Second,
    Millisecond,
    HalfDay,
    Unix,
    NewLine,
    Counter(u32),
    Digit,
    Alphanumeric,
    Unambiguous,
    Hex,
    Guid,
    UpperGuid,
    Adjective,
    Animal,
    Emoji,
    /// The size of a screenshot, which does not exist here: empty, as in ShareX.
    Nothing,
    /// The name of the user, the domain or the computer: sent to nobody unless the configuration allows it.
    Private,
    /// A line of a file: never read.
    FileLine,
}

/// Names that begin like another one stand before it. Those of windows (`%t`, `%pn`) are left as they are: no window.
const CODES: [(&str, What); 36] = [
    ("%radjective", What::Adjective),
    ("%ranimal", What::Animal),
    ("%remoji", What::Emoji),
    ("%height", What::Nothing),
    ("%width", What::Nothing),
    ("%unix", What::Unix),
    ("%guid", What::Guid),
    ("%GUID", What::UpperGuid),
    ("%mon2", What::MonthName),
    ("%uln", What::Private),
    ("%mon", What::MonthName),
    ("%iAa", What::Counter(62)),
    ("%rna", What::Unambiguous),
    ("%yy", What::ShortYear),
    ("%mo", What::Month),
    ("%mi", What::Minute),
    ("%ms", What::Millisecond),
    ("%w2", What::WeekDay),
    ("%wy", What::Week),
    ("%pm", What::HalfDay),
    ("%un", What::Private),
    ("%cn", What::Private),
    ("%ia", What::Counter(36)),
    ("%ib", What::Counter(0)),
    ("%ix", What::Counter(16)),
    ("%rn", What::Digit),
    ("%ra", What::Alphanumeric),
    ("%rx", What::Hex),
    ("%rf", What::FileLine),
    ("%y", What::Year),
    ("%d", What::Day),
    ("%w", What::WeekDay),
    ("%h", What::Hour),
    ("%s", What::Second),
    ("%n", What::NewLine),
    ("%i", What::Counter(10)),
];

/// A code and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) what: What,
    /// The argument in braces: a repetition or a width.
    times: Option<usize>,
    /// Its spelling in the file.
    pub(super) text: String,
}

/// The code at the beginning of `text`.
pub(super) fn code_at(text: &str) -> Option<Code> {
    let (name, what) = CODES.iter().find(|(name, _)| text.starts_with(name))?;
    let takes_argument = matches!(
        what,
        What::Counter(_) | What::Digit | What::Alphanumeric | What::Unambiguous | What::Hex | What::FileLine
    );
    let rest = &text[name.len()..];
    let argument = rest.strip_prefix('{').filter(|_| takes_argument).and_then(|rest| rest.split_once('}'));
    let (mut what, mut times, mut len) = (*what, None, name.len());
    if let Some((argument, _)) = argument {
        len += argument.len() + 2;
        let mut numbers = argument.split(',').map(|number| number.trim().parse::<usize>().ok());
        if what == What::Counter(0) {
            let base = numbers.next().flatten().and_then(|base| u32::try_from(base).ok());
            what = What::Counter(base.filter(|base| (2..=62).contains(base)).unwrap_or(10));
        }
        times = numbers.next().flatten().map(|times| times.min(REPEAT_LIMIT));
    }
    if what == What::Counter(0) {
        what = What::Counter(10);
    }
    Some(Code { what, times, text: text[..len].to_owned() })
}

impl Code {
    /// The option that says what it stands for, where only the user may: the names of user, domain and computer.
    pub(super) fn option_name(&self) -> Option<String> {
        (self.what == What::Private).then(|| format!("prompt.{}", self.text.trim_start_matches('%')))
    }

    /// What it stands for. `twelve` says that the text has `%pm`, so that hours go to 12. `n` tells apart the codes of
    /// one text, so that each has its own random value.
    pub(super) fn value(&self, draw: &Draw, n: u64, twelve: bool) -> String {
        let now = draw.local_time();
        let repeat = |alphabet: &str| random_text(alphabet, self.times.unwrap_or(1), draw, n);
        let word = |words: &str| {
            let words: Vec<&str> = words.split_whitespace().collect();
            words[draw.index(n, words.len())].to_owned()
        };
        match self.what {
            What::Year => format!("{:04}", now.year()),
            What::ShortYear => format!("{:02}", now.year().rem_euclid(100)),
            What::Month => format!("{:02}", now.month()),
            What::MonthName => now.strftime("%B").to_string(),
            What::Day => format!("{:02}", now.day()),
            What::WeekDay => now.strftime("%A").to_string(),
            What::Week => now.strftime("%V").to_string(),
            What::Hour => hour(&now, twelve),
            What::Minute => format!("{:02}", now.minute()),
            What::Second => format!("{:02}", now.second()),
            What::Millisecond => format!("{:03}", now.millisecond()),
            What::HalfDay => (if now.hour() < 12 { "AM" } else { "PM" }).to_owned(),
            What::Unix => now.timestamp().as_second().to_string(),
            What::NewLine => "\n".to_owned(),
            What::Counter(base) => {
                let count = in_base(COUNTER.fetch_add(1, Ordering::Relaxed) + 1, base);
                format!("{count:0>width$}", width = self.times.unwrap_or(0))
            }
            What::Digit => repeat("0123456789"),
            What::Alphanumeric => repeat(ALPHANUMERIC),
            What::Unambiguous => repeat(UNAMBIGUOUS),
            What::Hex => repeat("0123456789abcdef"),
            What::Guid => guid(draw, n),
            What::UpperGuid => guid(draw, n).to_uppercase(),
            What::Adjective => word(ADJECTIVES),
            What::Animal => word(ANIMALS),
            What::Emoji => word(EMOJI),
            What::Nothing | What::Private | What::FileLine => String::new(),
        }
    }
}

fn hour(now: &ZonedDateTime, twelve: bool) -> String {
    match (twelve, now.hour()) {
        (false, hour) => format!("{hour:02}"),
        (true, 0) => "12".to_owned(),
        (true, hour) => format!("{:02}", if hour > 12 { hour - 12 } else { hour }),
    }
}

fn random_text(alphabet: &str, len: usize, draw: &Draw, n: u64) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let mut place = n << 16;
    let mut letter = || {
        place += 1;
        letters[draw.index(place, letters.len())]
    };
    (0..len).map(|_| letter()).collect()
}

fn in_base(mut number: u64, base: u32) -> String {
    let letters = ALPHANUMERIC.as_bytes();
    let mut digits = Vec::new();
    loop {
        let digit = usize::try_from(number % u64::from(base)).unwrap_or(0);
        digits.push(char::from(letters[digit]));
        number /= u64::from(base);
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

/// A random UUID (RFC 9562, version 4).
fn guid(draw: &Draw, n: u64) -> String {
    let mut hex = String::new();
    let _ = write!(hex, "{:016x}{:016x}", draw.number(n << 16), draw.number((n << 16) + 1));
    let variant = ["8", "9", "a", "b"][draw.index((n << 16) + 2, 4)];
    format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;

    /// Friday 2026-01-02, 15:04:05.006 UTC.
    fn draw() -> Draw {
        Draw::fixed([7; 16], WallTime::from_millis(1_767_366_245_006))
    }

    fn value(text: &str) -> String {
        let code = code_at(text).expect(text);
        assert_eq!(code.text, text, "all of it");
        code.value(&draw(), 1, false)
    }

    #[test]
    fn sxcu_6_5_dates_and_times() {
        let table = [
            ("%y", "2026"),
            ("%yy", "26"),
            ("%mo", "01"),
            ("%mon", "January"),
            ("%mon2", "January"),
            ("%d", "02"),
            ("%w", "Friday"),
            ("%w2", "Friday"),
            ("%wy", "01"),
            ("%h", "15"),
            ("%mi", "04"),
            ("%s", "05"),
            ("%ms", "006"),
            ("%pm", "PM"),
            ("%unix", "1767366245"),
            ("%n", "\n"),
            ("%width", ""),
            ("%height", ""),
        ];
        for (code, expected) in table {
            assert_eq!(value(code), expected, "{code}");
        }
        assert_eq!(code_at("%h").expect("a code").value(&draw(), 1, true), "03");
    }

    #[test]
    fn sxcu_6_5_random_values_have_their_length_and_alphabet() {
        for (code, len) in [("%rn{8}", 8), ("%ra", 1), ("%ra{12}", 12), ("%rna{5}", 5), ("%rx{32}", 32)] {
            assert_eq!(value(code).chars().count(), len, "{code}");
        }
        assert!(value("%rn{64}").chars().all(|c| c.is_ascii_digit()));
        assert!(!value("%rna{256}").contains(['0', 'O', '1', 'l', 'I']));
        assert_eq!(value("%rx{99999}").len(), REPEAT_LIMIT, "bounded");
        let guid = value("%guid");
        assert_eq!(guid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{guid}");
        assert_eq!(value("%GUID"), guid.to_uppercase());
        let (first, second) = (code_at("%ra{9}").expect("a code"), draw());
        assert_ne!(first.value(&second, 1, false), first.value(&second, 2, false), "each place its own");
        for code in ["%radjective", "%ranimal", "%remoji"] {
            assert!(!value(code).is_empty(), "{code}");
        }
    }

    #[test]
    fn sxcu_6_5_counters_count_in_their_base() {
        assert_eq!((in_base(35, 36), in_base(61, 62), in_base(255, 16)), ("Z".into(), "z".into(), "FF".into()));
        let (first, second) = (value("%i{6}"), value("%i{6}"));
        assert!(first.len() == 6 && first < second, "{first} {second}");
        assert_eq!(value("%ib{2,70}").len(), 70);
    }

    #[test]
    fn sxcu_6_5_codes_need_no_word_boundary_and_windows_have_none() {
        assert_eq!(code_at("%discount").map(|code| code.text), Some("%d".into()));
        for text in ["%t", "%pn", "%", "%z", "100", "%PM"] {
            assert_eq!(code_at(text), None, "{text}");
        }
        assert_eq!(code_at("%un").map(|code| code.what), Some(What::Private));
        assert_eq!(code_at("%rf{/etc/passwd}").map(|code| code.what), Some(What::FileLine));
    }
}
