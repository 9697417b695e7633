//! The values of a form in a page: what a browser would send if it were submitted.

use scraper::{ElementRef, Html, Selector};

/// Fields of one form, and the length of all their values: far above every form of an upload site.
const FIELDS_LIMIT: usize = 200;
const LENGTH_LIMIT: usize = 64 * 1024;

/// Name and value of each field below the first element that `ways` find and that has fields. Buttons and files are not
/// among them.
pub(super) fn fields(body: &str, ways: &[Selector]) -> Vec<(String, String)> {
    // `Html` is not Send: it must not outlive this function.
    let page = Html::parse_document(body);
    let Ok(inputs) = Selector::parse("input[name], textarea[name], select[name]") else { return Vec::new() };
    let found = ways.iter().filter_map(|way| page.select(way).next()).map(|form| {
        let mut pairs: Vec<(String, String)> =
            form.select(&inputs).filter_map(|field| Some((field.attr("name")?.to_owned(), value(field)?))).collect();
        pairs.truncate(FIELDS_LIMIT);
        pairs
    });
    let mut pairs = found.into_iter().find(|pairs| !pairs.is_empty()).unwrap_or_default();
    let mut length = 0;
    pairs.retain(|(name, value)| {
        length += name.len() + value.len();
        length <= LENGTH_LIMIT
    });
    pairs
}

fn value(field: ElementRef<'_>) -> Option<String> {
    match field.value().name() {
        "textarea" => Some(field.text().collect::<String>().trim_matches(['\r', '\n']).to_owned()),
        "select" => {
            let selected = Selector::parse("option[selected], option").ok()?;
            let option = field.select(&selected).max_by_key(|option| option.attr("selected").is_some())?;
            Some(option.attr("value").map_or_else(|| option.text().collect(), str::to_owned))
        }
        _ => match field.attr("type").unwrap_or("text").to_ascii_lowercase().as_str() {
            "submit" | "button" | "image" | "reset" | "file" => None,
            "checkbox" | "radio" if field.attr("checked").is_none() => None,
            "checkbox" | "radio" => Some(field.attr("value").unwrap_or("on").to_owned()),
            _ => Some(field.attr("value").unwrap_or_default().to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_has_the_value_that_a_browser_would_send() {
        let page = r#"<form id=search><input type=submit name=go></form><form id=f>
            <textarea name="op">upload_result</textarea><textarea name='fn'>a&amp;b</textarea>
            <input name=t value=1><input type=hidden name=h><input type=file name=file_0><input type=submit name=s>
            <input type=checkbox name=c1><input type=checkbox name=c2 checked>
            <select name=o><option value=1>one<option value=2 selected>two</select></form>"#;
        let way = |text: &str| Selector::parse(text).expect("a selector");
        let expected = [("op", "upload_result"), ("fn", "a&b"), ("t", "1"), ("h", ""), ("c2", "on"), ("o", "2")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(fields(page, &[way("form#none"), way("form#f")]), expected);
        assert_eq!(fields(page, &[way("form"), way("form:has(textarea)")]), expected, "the first has no fields");
        assert_eq!(fields("<p>", &[way("html")]), []);
    }
}
