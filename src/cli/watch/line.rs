//! Lines of a screen: pieces of text with a style, cut to the width that they have.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a piece looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

/// One line, left to right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<(Style, String)>);

impl Line {
    pub(super) fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    pub(super) fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// Its text without styles.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The line within `width` columns.
    pub(super) fn cut(self, width: usize) -> Self {
        let mut left = width;
        let pieces = self.0.into_iter().filter_map(|(style, text)| {
            let text = if text.width() > left { fit(&text, left).trim_end().to_owned() } else { text };
            left -= text.width();
            (!text.is_empty()).then_some((style, text))
        });
        Self(pieces.collect())
    }
}

/// `text` in exactly `width` columns, its end cut off if it is too long.
pub(super) fn fit(text: &str, width: usize) -> String {
    let mut shown = String::new();
    let too_long = text.width() > width;
    let room = if too_long { width.saturating_sub(1) } else { width };
    let mut used = 0;
    for letter in text.chars() {
        let columns = letter.width().unwrap_or(0);
        if used + columns > room {
            break;
        }
        used += columns;
        shown.push(letter);
    }
    if too_long && width > 0 {
        shown.push('…');
        used += 1;
    }
    shown.extend(std::iter::repeat_n(' ', width - used));
    shown
}

/// The same with the beginning cut off: of a path the end says more.
pub(super) fn fit_end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return fit(text, width);
    }
    let turned: String = fit(&text.chars().rev().collect::<String>(), width).trim_end().chars().rev().collect();
    fit(&turned, width)
}

/// `text` at the right of `width` columns.
pub(super) fn right(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.width());
    fit(&format!("{}{text}", " ".repeat(blanks)), width)
}

/// A bar of `width` columns that is full to `part` of `whole`, in eighths of a column.
pub(super) fn bar(part: u64, whole: u64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let columns = u64::try_from(width).unwrap_or(u64::MAX);
    let filled = part.min(whole).saturating_mul(columns.saturating_mul(8)).checked_div(whole).unwrap_or(0);
    let full = usize::try_from(filled / 8).unwrap_or(width);
    let mut shown = "█".repeat(full);
    if full < width {
        shown.push(EIGHTHS[usize::try_from(filled % 8).unwrap_or(0)]);
        shown.extend(std::iter::repeat_n(' ', width - full - 1));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_and_not_by_letters() {
        assert_eq!(
            [fit("abc", 5), fit("abcdef", 5), fit("写真写真", 5), fit("abc", 0)],
            ["abc  ", "abcd…", "写真…", ""]
        );
        assert_eq!([fit_end("/home/ada", 6), fit_end("写真写真", 6)], ["…e/ada", "…写真 "]);
        assert_eq!(right("7", 3), "  7");
    }

    #[test]
    fn a_bar_is_as_full_as_it_should_be() {
        assert_eq!(
            [bar(0, 8, 2), bar(3, 8, 2), bar(8, 8, 2), bar(9, 8, 2), bar(1, 0, 2)],
            ["  ", "▊ ", "██", "██", "  "]
        );
    }

    #[test]
    fn a_line_keeps_its_styles_when_it_is_cut() {
        let line = Line::of(Style::Bold, "abc").and(Style::Dim, "defgh").and(Style::Bad, "x");
        assert_eq!(line.cut(5), Line(vec![(Style::Bold, "abc".into()), (Style::Dim, "d…".into())]));
    }
}
