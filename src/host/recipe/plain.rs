//! Templates that only put values side by side, such as `{{ base_url }}/images`: most of a recipe's. They are cut into parts
//! once. The template engine parses a text each time it is rendered and copies every value for it: measured, the fields of
//! one upload cost as much as a tenth of sending a small file.

use super::template::Scope;

/// A piece of such a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text as it stands.
    Text(String),
    /// The value with this name, in its parts: `step`, `page`, `token`.
    Value(Vec<String>),
}

/// The parts of `text`; `None` if it needs the template engine.
pub(super) fn parts(text: &str) -> Option<Vec<Part>> {
    // The engine leaves the last line feed out.
    if text.ends_with('\n') {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}")?;
        parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
        parts.push(Part::Value(name(inside.trim())?));
        rest = after;
    }
    parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
    Some(parts)
}

/// A name that [`value`] knows how to look up.
fn name(text: &str) -> Option<Vec<String>> {
    let plain = |part: &&str| {
        let rest = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        rest && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    };
    let name: Vec<&str> = text.split('.').collect();
    let known = matches!(
        name.as_slice(),
        ["base_url"] | ["option" | "file" | "site" | "random" | "gallery" | "uploaded", _] | ["step" | "session", _, _]
    );
    (known && name.iter().all(plain)).then(|| name.into_iter().map(str::to_owned).collect())
}

/// What `name` is in `scope`, if it is there.
fn value<'a>(scope: &'a Scope, name: &[String]) -> Option<&'a str> {
    let name: Vec<&str> = name.iter().map(String::as_str).collect();
    let found = match *name.as_slice() {
        ["base_url"] => Some(&scope.base_url),
        ["option", name] => scope.options.get(name),
        ["file", name] => scope.file.get(name),
        ["site", name] => scope.sites.get(name),
        ["random", name] => scope.random.get(name),
        ["gallery", name] => scope.gallery.get(name),
        ["uploaded", name] => scope.uploaded.get(name),
        ["step", step, name] => scope.steps.get(step).and_then(|values| values.get(name)),
        ["session", step, name] => scope.session.get(step).and_then(|values| values.get(name)),
        _ => None,
    };
    found.map(String::as_str)
}

/// The text of `parts`; `None` if a value is missing.
pub(super) fn render(parts: &[Part], scope: &Scope) -> Option<String> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Value(name) => text.push_str(value(scope, name)?),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::template::Template;
    use super::*;

    fn scope() -> Scope {
        let mut scope = Scope { base_url: "https://h.example".into(), ..Scope::default() };
        scope.options.insert("key".into(), "k<&\"".into());
        scope.file.insert("name".into(), String::new());
        scope.steps.insert("page".into(), BTreeMap::from([("token".into(), "t\n".into())]));
        scope
    }

    #[test]
    fn what_needs_more_than_names_is_left_to_the_engine() {
        for text in ["{{ option.key|upper }}", "{{ 'x' }}", "{{- base_url -}}", "{{ images }}", "{{ base_url", "x\n"] {
            assert_eq!(parts(text), None, "{text}");
        }
        let token = ["step", "page", "token"].map(str::to_owned).to_vec();
        assert_eq!(parts("a{{step.page.token}}"), Some(vec![Part::Text("a".into()), Part::Value(token)]));
    }

    #[test]
    fn a_missing_value_is_no_text() {
        assert_eq!(render(&parts("{{ step.page.nope }}").expect("plain"), &scope()), None);
        assert_eq!(render(&parts("{{ option.nope }}").expect("plain"), &scope()), None);
    }

    proptest! {
        /// Both ways give the same text.
        #[test]
        fn parts_say_what_the_engine_says(pieces in prop::collection::vec(0usize..7, 0..6)) {
            let vocabulary =
                ["{{ base_url }}", "{{option.key}}", "{{ file.name }}", "{{ step.page.token }}", "/a b", "}} ", "é{"];
            let text: String = pieces.into_iter().map(|piece| vocabulary[piece]).collect();
            let known = ["base_url", "option.key", "file.name", "step.page.token"].map(str::to_owned).into();
            let (Some(parts), Ok(template)) = (parts(&text), Template::new(&text, &known)) else { return Ok(()) };
            let all = ["base_url", "option", "file", "step"].map(str::to_owned).into();
            let engine = template.render_with(scope().values(&all));
            prop_assert_eq!(render(&parts, &scope()), engine.ok(), "{}", text);
        }
    }
}
