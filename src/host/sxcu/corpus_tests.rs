//! What was found by reading the files of the public collection one by one: each test is a file of ours with the same
//! peculiarity.

use crate::clock::WallTime;
use crate::host::NO_ADDRESS;
use crate::host::recipe::template::Scope;
use crate::host::recipe::{Answer, BodySpec, Draw, Recipe};

use super::Sxcu;

fn read(text: &str) -> Sxcu {
    Sxcu::read(text).expect("a good file")
}

fn recipe(sxcu: &Sxcu) -> Recipe {
    sxcu.recipe("mine", &std::collections::BTreeMap::new()).expect("an uploader of images")
}

fn scope(recipe: &Recipe) -> Scope {
    let mut scope = Scope { base_url: recipe.base_url.clone().unwrap_or_default(), ..Scope::default() };
    scope.file.insert("name".into(), "x.png".into());
    scope
}

/// A field of the multipart body as it would be sent.
fn field(recipe: &Recipe, name: &str, scope: &Scope) -> String {
    let BodySpec::Multipart { fields, .. } = &recipe.steps[0].body else { panic!("multipart") };
    let field = fields.iter().find(|field| field.name == name).expect("a field");
    field.value.render(scope).expect("a value")
}

#[test]
fn sxcu_6_4_the_site_that_chance_chose_is_the_site_of_the_link() {
    let sxcu = read(
        r#"{ "Version": "13.0.0", "RequestMethod": "POST", "RequestURL": "https://$random:a.example|b.example|c.example$/up", "Body": "MultipartFormData",
             "FileFormName": "f", "Arguments": { "pair": "$random:a.example|b.example|c.example$$random:a.example|b.example|c.example$" },
             "URL": "https://$random:a.example|b.example|c.example$/$json:file$" }"#,
    );
    let recipe = recipe(&sxcu);
    let answer = Answer::new(200, reqwest::header::HeaderMap::new(), br#"{"file":"1.png"}"#);
    let (mut sites, mut pairs) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for seed in 0..40 {
        let scope = Scope { draw: Draw::fixed([seed; 16], WallTime::from_millis(0)), ..scope(&recipe) };
        let sent = recipe.steps[0].url.render(&scope).expect("an address");
        let site = sent.strip_suffix("/up").expect("the path").to_owned();
        let link = recipe.result.url[0].render_after(&scope, Some(&answer)).expect("a link");
        assert_eq!(link, format!("{site}/1.png"));
        pairs.insert(field(&recipe, "pair", &scope));
        sites.insert(site);
    }
    assert_eq!((sites.len(), pairs.len()), (3, 9), "each is chosen, and the second choice of a field is its own");
}

#[test]
fn an_address_that_its_owner_has_to_write_is_shown_as_it_stands() {
    for url in ["https://<YOUR_USERNAME>.h.example/upload", "http://[YOUR_DOMAIN]/api/files", "Webhook URL"] {
        let text = format!(r#"{{ "RequestURL": {url:?}, "FileFormName": "f", "Arguments": {{ "a": "b" }} }}"#);
        let recipe = recipe(&read(&text));
        assert_eq!(recipe.base_url, None, "{url}");
        let shown = Scope { base_url: NO_ADDRESS.to_owned(), preview: true, ..scope(&recipe) };
        let full = if url.starts_with("http") { url.to_owned() } else { format!("https://{url}") };
        assert_eq!(recipe.steps[0].url.render(&shown), Ok(full));
        let set = Scope { base_url: "https://me.example/hook".to_owned(), ..scope(&recipe) };
        assert_eq!(recipe.steps[0].url.render(&set).as_deref(), Ok("https://me.example/hook"));
    }
}

#[test]
fn r26_who_you_are_is_told_only_if_the_configuration_says_it() {
    let sxcu = read(
        r#"{ "Version": "17.0.0", "RequestURL": "https://h.example/up", "Body": "MultipartFormData", "FileFormName": "f",
             "Arguments": { "by": "%un on %cn" } }"#,
    );
    assert!(sxcu.notes.iter().any(|note| note.contains("empty unless `prompt.un` is set")), "{:?}", sxcu.notes);
    let recipe = recipe(&sxcu);
    assert!(recipe.options.keys().eq(["prompt.cn", "prompt.un"]) && recipe.options.values().all(|spec| !spec.required));
    let mut scope = scope(&recipe);
    assert_eq!(field(&recipe, "by", &scope), " on ");
    scope.options.insert("prompt.un".into(), "ada".into());
    assert_eq!(field(&recipe, "by", &scope), "ada on ");
}

#[test]
fn r26_short_secrets_under_names_that_say_nothing_are_taken_out() {
    let sxcu = read(
        r##"{ "Version": "13.1.0", "RequestMethod": "POST", "RequestURL": "https://h.example/up?k=CAN7q", "Body": "MultipartFormData", "FileFormName": "f",
             "Headers": { "X-Thing": "CAN1234", "color": "#4a7de2", "X-B": "Basic $base64:ada:CANb$" }, "Arguments": { "z": "hunter2CAN", "act": "bput", "name": "%h.%mi.%s" } }"##,
    );
    assert!(sxcu.secrets.keys().eq(["k", "x_b", "x_thing", "z"]), "{:?}", sxcu.secrets.keys());
    let written = sxcu.written();
    assert!(!written.contains("CAN") && !format!("{sxcu:?}").contains("CAN"), "{written}");
    for kept in ["#4a7de2", "bput", "%h"] {
        assert!(written.contains(kept), "{kept} in {written}");
    }
}
