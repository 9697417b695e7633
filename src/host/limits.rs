//! What a host takes, judged from what the headers of a file say: before any byte is sent, and without decoding one.

use std::fmt;

use crate::job::{ImageFacts, ImageKind};

/// What a host takes. By default everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The largest file in bytes; `None` when the host does not say.
    pub max_bytes: Option<u64>,
    /// The types it takes; empty when it takes all.
    pub kinds: Vec<ImageKind>,
    /// The most pixels, width times height.
    pub max_pixels: Option<u64>,
    /// The largest width in pixels.
    pub max_width: Option<u32>,
    /// The largest height in pixels.
    pub max_height: Option<u32>,
    /// Takes no image with more than one frame.
    pub still_only: bool,
}

/// Why a host would not take an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is of a type that is not accepted.
    Kind {
        /// What it is.
        found: ImageKind,
        /// What is accepted.
        accepted: Vec<ImageKind>,
    },
    /// It has too many bytes.
    Bytes {
        /// How many it has.
        len: u64,
        /// How many are accepted.
        max: u64,
    },
    /// It has too many pixels.
    Pixels {
        /// Width and height.
        size: (u32, u32),
        /// How many pixels are accepted.
        max: u64,
    },
    /// It is too wide or too high.
    Side {
        /// Width and height.
        size: (u32, u32),
        /// The largest width and height; `None` where there is no limit.
        max: (Option<u32>, Option<u32>),
    },
    /// It is animated.
    Animated(ImageKind),
}

impl Limits {
    /// Why an image with these facts and of `len` bytes would not be taken; `None` if nothing speaks against it.
    #[must_use]
    pub fn refuses(&self, image: &ImageFacts, len: u64) -> Option<Refusal> {
        let size = (image.width, image.height);
        if !self.kinds.is_empty() && !self.kinds.contains(&image.kind) {
            return Some(Refusal::Kind { found: image.kind, accepted: self.kinds.clone() });
        }
        if let Some(max) = self.max_bytes.filter(|max| len > *max) {
            return Some(Refusal::Bytes { len, max });
        }
        if let Some(max) = self.max_pixels.filter(|max| u64::from(size.0) * u64::from(size.1) > *max) {
            return Some(Refusal::Pixels { size, max });
        }
        if self.max_width.is_some_and(|max| size.0 > max) || self.max_height.is_some_and(|max| size.1 > max) {
            return Some(Refusal::Side { size, max: (self.max_width, self.max_height) });
        }
        (self.still_only && image.animated).then_some(Refusal::Animated(image.kind))
    }
}

impl Refusal {
    /// One sentence for people, with the names of the file and of the host.
    #[must_use]
    pub fn explain(&self, file: impl fmt::Display, host: &str) -> String {
        match self {
            Self::Kind { found, accepted } => {
                let accepted: Vec<&str> = accepted.iter().map(|kind| kind.name()).collect();
                format!("{file} is {}; {host} accepts {}", found.name(), accepted.join(", "))
            }
            Self::Bytes { len, max } => format!("{file} has {len} bytes; {host} accepts at most {max}"),
            Self::Pixels { size: (width, height), max } => {
                format!("{file} has {width} × {height} pixels; {host} accepts at most {max} in all")
            }
            Self::Side { size: (width, height), max } => {
                let most = match max {
                    (Some(width), Some(height)) => format!("{width} × {height}"),
                    (Some(width), None) => format!("a width of {width}"),
                    (None, Some(height)) => format!("a height of {height}"),
                    (None, None) => "less".to_owned(),
                };
                format!("{file} has {width} × {height} pixels; {host} accepts at most {most}")
            }
            Self::Animated(kind) => format!("{file} is an animated {}; {host} accepts still images only", kind.name()),
        }
    }

    /// What its owner can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Kind { .. } | Self::Animated(_) => "convert it, or use another host for it",
            Self::Bytes { .. } | Self::Pixels { .. } | Self::Side { .. } => {
                "make it smaller, or use another host for it"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ContentHash;

    fn image(kind: ImageKind, width: u32, height: u32, animated: bool) -> ImageFacts {
        ImageFacts { kind, width, height, animated, hash: ContentHash([0; 32]) }
    }

    #[test]
    fn r30_what_a_host_would_refuse_is_known_from_the_headers() {
        let some = Limits {
            max_bytes: Some(1_000),
            kinds: vec![ImageKind::Jpeg, ImageKind::Gif],
            max_pixels: Some(60_000),
            max_width: Some(300),
            max_height: Some(400),
            still_only: true,
        };
        let wide = Limits { max_width: Some(300), ..Limits::default() };
        let jpeg = |width, height| image(ImageKind::Jpeg, width, height, false);
        let table: [(&Limits, ImageFacts, u64, Option<&str>); 11] = [
            (&Limits::default(), image(ImageKind::Heic, 65_535, 65_535, true), u64::MAX, None),
            (&some, jpeg(200, 300), 1_000, None),
            (&some, image(ImageKind::Heic, 1, 1, false), 1, Some("a.x is heic; h accepts jpeg, gif")),
            (&some, jpeg(1, 1), 1_001, Some("a.x has 1001 bytes; h accepts at most 1000")),
            (&some, jpeg(300, 200), 1, None),
            (&some, jpeg(300, 201), 1, Some("a.x has 300 × 201 pixels; h accepts at most 60000 in all")),
            (&some, jpeg(301, 1), 1, Some("a.x has 301 × 1 pixels; h accepts at most 300 × 400")),
            (&some, jpeg(1, 401), 1, Some("a.x has 1 × 401 pixels; h accepts at most 300 × 400")),
            (&wide, jpeg(301, 9_999), 1, Some("a.x has 301 × 9999 pixels; h accepts at most a width of 300")),
            (&some, image(ImageKind::Gif, 9, 9, true), 1, Some("a.x is an animated gif; h accepts still images only")),
            (&some, image(ImageKind::Gif, 9, 9, false), 1, None),
        ];
        for (limits, image, len, expected) in table {
            let refusal = limits.refuses(&image, len).map(|refusal| refusal.explain("a.x", "h"));
            assert_eq!(refusal.as_deref(), expected, "{image:?}");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_into_32_bits_are_compared_all_the_same() {
        let limits = Limits { max_pixels: Some(u64::from(u32::MAX)), ..Limits::default() };
        assert!(limits.refuses(&image(ImageKind::Png, u32::MAX, u32::MAX, false), 1).is_some());
    }
}
