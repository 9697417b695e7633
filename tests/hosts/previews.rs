//! What would be sent, shown without sending: every built-in recipe, and no secret of any.

use pixchute::host::recipe::Protocol;
use pixchute::host::{self, Preview};

use crate::{Image, build_one, config, host_config};

fn all_of(preview: &Preview) -> String {
    let headers = preview.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
    format!(
        "{}\n{} {}\n{}{}",
        preview.step,
        preview.method,
        preview.url,
        headers.collect::<String>(),
        preview.body.join("\n")
    )
}

#[test]
fn r26_every_recipe_shows_every_request_without_secrets_and_with_its_length() {
    let image = Image::new(1234);
    for listed in host::recipes(None) {
        let recipe = listed.recipe.expect("a built-in recipe");
        if recipe.protocol != Protocol::Steps {
            continue;
        }
        let mut options: Vec<(&str, String)> = Vec::new();
        for (name, spec) in &recipe.options {
            if spec.secret {
                options.push((name, format!("CANARY{name}")));
            } else if spec.required || recipe.require_any.iter().flatten().any(|any| any == name) {
                options.push((name, spec.values.keys().next().cloned().unwrap_or_else(|| "x".to_owned())));
            }
        }
        let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let base_url = recipe.base_url.is_none().then(|| "https://h.example".to_owned());
        let host = build_one(&config([host_config(&listed.name, base_url, &options)]));
        let host = host.unwrap_or_else(|problems| panic!("{}: {}", listed.name, problems[0].message));
        let previews = host.previews(&image.upload);
        assert!(!previews.is_empty(), "{}", listed.name);
        let text: String = previews.iter().map(all_of).collect();
        assert!(!text.contains("CANARY") && !text.contains("71903562840917"), "{}\n{text}", listed.name);
        if !options.is_empty() && recipe.options.values().any(|spec| spec.secret) {
            assert!(text.contains("[secret]"), "{}\n{text}", listed.name);
        }
        assert!(text.contains("1234 bytes of image/png"), "{}\n{text}", listed.name);
        assert!(
            previews.iter().all(|preview| preview.url.starts_with("https://") || preview.url.contains("{{")),
            "{text}"
        );
    }
}
