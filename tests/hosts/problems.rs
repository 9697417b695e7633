//! What is said about hosts that are configured wrongly, and about recipes that cannot be used.

use pixchute::host::recipe::{self, Origin};
use pixchute::host::{self, recipes};
use pixchute::job::ErrorClass;

use crate::fake::{Fake, answer};
use crate::{Image, build_one, config, host_config};

fn problems(recipe: &str, base_url: Option<&str>, options: &[(&str, &str)]) -> Vec<(String, String)> {
    let config = config([host_config(recipe, base_url.map(str::to_owned), options)]);
    let problems = build_one(&config).err().unwrap_or_default();
    problems.into_iter().map(|p| (p.key, format!("{} ({})", p.message, p.help.unwrap_or_default()))).collect()
}

#[test]
fn every_mistake_is_told_at_once_with_its_key_and_what_is_accepted() {
    let options = [("content_type", "sfv"), ("thumb_size", "1000"), ("thumbsize", "1")];
    let found = problems("pixhost", Some("http://pixhost.example"), &options);
    let expected = [
        ("host.pixhost.base_url", "plain http"),
        ("host.pixhost.content_type", "`sfv` is not one of \"nsfw\", \"sfw\""),
        ("host.pixhost.thumb_size", "`1000` is not a whole number from 150 to 500"),
        ("host.pixhost.thumbsize", "has no option `thumbsize` (did you mean `thumb_size`?)"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((key, message), (expected_key, part)) in found.iter().zip(expected) {
        assert_eq!(key, expected_key);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn what_is_missing_is_asked_for() {
    let table = [
        ("imgbb", None, "host.imgbb.api_key", "recipe `imgbb` needs it (the key from https://api.imgbb.com/)"),
        ("imgur", None, "host.imgur", "needs one of `client_id`, `token`"),
        ("chevereto", None, "host.chevereto.base_url", "recipe `chevereto` needs it"),
        ("pixhst", None, "host.pixhst.recipe", "there is no recipe `pixhst` (did you mean `pixhost`?"),
        ("local", None, "host.local", "the server is off"),
        ("pixhost", Some("https://u:p@h.example"), "host.pixhost.base_url", "must not contain a user"),
        ("pixhost", Some("ftp://h.example"), "host.pixhost.base_url", "must begin with https://"),
        ("pixhost", Some("pixhost"), "host.pixhost.base_url", "no URL"),
        ("/nowhere/x.toml", None, "host.x.recipe", "/nowhere/x.toml: cannot be read"),
    ];
    for (recipe, base_url, key, part) in table {
        let found = problems(recipe, base_url, &[]);
        assert!(found.iter().any(|(k, message)| k == key && message.contains(part)), "{recipe}: {found:?}");
    }
    assert_eq!(problems("imgbb", None, &[("api_key", "")]).len(), 1, "an empty key is a missing key");
}

#[test]
fn r26_a_wrong_secret_is_not_repeated() {
    let found = format!("{:?}", problems("imgbb", None, &[("api_key", "CANARY\n")]));
    assert!(found.contains("line breaks") && !found.contains("CANARY"), "{found}");
}

#[test]
fn plain_http_needs_loopback_or_permission() {
    let mut host = host_config("pixhost", Some("http://h.example".into()), &[]);
    host.allow_http = true;
    assert!(build_one(&config([host])).is_ok());
    for loopback in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
        assert_eq!(problems("pixhost", Some(loopback), &[]), []);
    }
}

#[test]
fn every_built_in_recipe_is_listed_and_valid() {
    let listed = recipes(None);
    let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
    let expected = [
        "catbox",
        "chevereto",
        "freeimage",
        "imagebam",
        "imgbb",
        "imgur",
        "imx",
        "litterbox",
        "pixhost",
        "s3",
        "turboimagehost",
        "vipr",
        "webdav",
    ];
    assert_eq!(names, expected);
    for listed in listed {
        let recipe = listed.recipe.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((recipe.name.as_str(), listed.origin), (listed.name.as_str(), Origin::BuiltIn));
        assert!(recipe.options.values().all(|option| !option.doc.is_empty()));
    }
}

const OWN: &str = r#"
name = "mine"
about = "two steps"
site = "https://mine.example"
[option.title]
doc = "the title"
default = "a & b"
[[step]]
name = "page"
method = "GET"
url = "{{ base_url }}/new"
query = { t = "{{ option.title }}", empty = "{{ '' }}" }
extract = { token = "css:input[name=token]@value", to = "header:X-Upload" }
[[step]]
name = "put"
method = "PUT"
url = "{{ step.page.to }}"
headers = { X-Token = "{{ step.page.token }}", X-Size = "{{ file.width }}x{{ file.height }}" }
body = "raw"
extract = { id = 'regex:id=(\w+)' }
[result]
url = "https://mine.example/{{ step.put.id }}"
"#;

#[tokio::test]
async fn a_recipe_of_the_user_runs_its_steps_with_values_of_earlier_answers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("hosts")).unwrap();
    std::fs::write(folder.path().join("hosts/mine.toml"), OWN).unwrap();
    let page = r#"<form><input name=token value="t&amp;1"></form>"#;
    let fake =
        Fake::start(vec![answer("200 OK", "X-Upload: /put/7\r\n", page), answer("201 Created", "", "ok id=Q9")]).await;
    let mut config = config([host_config("mine", Some(fake.url()), &[])]);
    config.file = Some(folder.path().join("config.toml"));
    assert_eq!(host::recipe_folder(&config), Some(folder.path().join("hosts")));
    let image = Image::new(2 << 20);
    let links = image.send(&build_one(&config).unwrap()).await.expect("an upload");
    assert_eq!(links.url, "https://mine.example/Q9");
    let requests = fake.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("GET", "/new?t=a+%26+b"));
    assert_eq!((requests[1].method.as_str(), requests[1].target.as_str()), ("PUT", "/put/7"));
    assert_eq!(requests[1].header("x-token"), Some("t&1"));
    assert_eq!(requests[1].header("x-size"), Some("3x2"));
    assert_eq!(requests[1].header("content-type"), Some("image/png"));
    assert!(requests[1].body == image.bytes);
}

#[tokio::test]
async fn an_answer_cannot_send_the_image_to_another_site() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, OWN).unwrap();
    let thief = Fake::start(vec![answer("200 OK", "", "id=1")]).await;
    let page = answer("200 OK", &format!("X-Upload: {}/put\r\n", thief.url()), "<input name=token value=t>");
    let fake = Fake::start(vec![page]).await;
    let host = build_one(&config([host_config(path.to_str().unwrap(), Some(fake.url()), &[])])).unwrap();
    let failure = Image::new(500).send(&host).await.expect_err("another site");
    assert_eq!(failure.class, ErrorClass::BadResponse);
    assert!(failure.message.contains("another site"), "{}", failure.message);
    assert_eq!(thief.connections(), 0);
}

#[test]
fn a_bad_recipe_is_told_all_its_mistakes_with_file_and_key() {
    let text = r#"
name = "bad name"
about = "x"
site = "x"
[limits]
max_bytes = "many"
types = ["jpg"]
[option.a-b]
doc = "x"
default = 9
range = [1, 5]
[[step]]
name = "one"
method = "FETCH"
url = "{{ base }}"
headers = { Content-Length = "1" }
body = "multipart"
fields = [{ name = "f", file = true }, { name = "late", value = "{{ option.none }}" }]
extract = { x = "xml:y" }
[result]
url = "{{ step.one.nope }}"
fake = "("
[[error]]
class = "file"
"#;
    let error = recipe::parse(text, "bad.toml").expect_err("bad");
    let all = error.to_string();
    for part in [
        "bad.toml: name: ",
        "limits.max_bytes: `many` is no size",
        "limits.types: `jpg` is unknown; there are jpeg, png",
        "option.a-b: an option's name",
        "option.a-b.default: `9` is not a whole number from 1 to 5",
        "step[0].method: `FETCH`",
        "step[0].url: there is no `base` here",
        "step[0].headers.Content-Length: ",
        "step[0].fields.late: the file's field must be the last one",
        "step[0].fields.late: there is no `option.none` here",
        "step[0].extract.x: `xml:y` is no extractor",
        "result.url: there is no `step.one.nope` here",
        "result.fake: ",
        "error[0]: give `status",
    ] {
        assert!(all.contains(part), "{part}\nis missing in\n{}", all.replace("; bad", "\nbad"));
    }
    let error = recipe::parse("name = \"x\"\nabot = \"y\"\n", "own.toml").expect_err("unknown key").to_string();
    assert!(error.starts_with("own.toml: line 2: unknown field `abot`"), "{error}");
}
