//! ShareX custom uploaders on the wire: the file's address, headers and body, to the letter, and how answers are read.

use pixchute::job::{ErrorClass, Failure, Links};
use tempfile::TempDir;

use crate::fake::{Fake, Part, Reply, Request, answer, parts};
use crate::{Image, a_host, build_one, config, host_config};

const JSON: &str = "Content-Type: application/json\r\n";

/// A folder with `text` as `mine.sxcu`, and the value of `recipe` for it.
fn file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.sxcu");
    std::fs::write(&path, text).unwrap();
    let recipe = format!("sxcu:{}", path.display());
    (folder, recipe)
}

/// Sends `image` with the uploader `text`, whose own site is the fake at `HOST`.
async fn exchange(text: &str, image: &Image, replies: Vec<Reply>) -> (Vec<Request>, Result<Links, Failure>) {
    let fake = Fake::start(replies).await;
    let (_folder, recipe) = file(&text.replace("HOST", &fake.addr.to_string()));
    let mut host = host_config(&recipe, None, &[]);
    host.name = "mine".into();
    let host = build_one(&config([host])).expect("a good file");
    let result = image.send(&host).await;
    (fake.requests(), result)
}

fn field(name: &str, value: &str) -> Part {
    Part { disposition: format!("name=\"{name}\""), content_type: None, data: value.into() }
}

#[tokio::test]
async fn sxcu_5_multipart_sends_its_arguments_in_order_and_the_file_last() {
    let text = r#"{ "Version": "17.0.0", "RequestMethod": "POST", "RequestURL": "http://HOST/api/v2/items?first=1",
        "Parameters": { "private": "", "name": "{filename}" },
        "Headers": { "Authorization": "Bearer abc", "Cookie": "a=1; b=x=y", "User-Agent": "Other/1.0", "Accept": "*/*",
                     "Content-Type": "application/json" },
        "Body": "MultipartFormData", "Arguments": { "z": "last", "empty": "", "title": "{filename}", "n": 1 },
        "FileFormName": "items[]", "URL": "{json:items[0].url}", "ThumbnailURL": "{json:items[0].thumb}",
        "DeletionURL": "/d/{json:items[0].del}" }"#;
    let image = Image::named("ä \"b\".png", 1234);
    let body = r#"{"items":[{"url":"https://h.example/1","thumb":"https://h.example/1t","del":"k"}]}"#;
    let (requests, links) = exchange(text, &image, vec![answer("200 OK", JSON, body)]).await;
    let request = &requests[0];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/api/v2/items?private&name=%c3%a4+%22b%22.png&first=1")
    );
    let headers =
        [("authorization", "Bearer abc"), ("cookie", "a=1; b=x=y"), ("user-agent", "Other/1.0"), ("accept", "*/*")];
    for (name, value) in headers {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert!(request.header("content-type").unwrap().starts_with("multipart/form-data; boundary="));
    let file = Part {
        disposition: "name=\"items[]\"; filename=\"ä %22b%22.png\"".into(),
        content_type: Some("image/png".into()),
        data: image.bytes.clone(),
    };
    let expected = [field("z", "last"), field("empty", ""), field("title", "ä \"b\".png"), field("n", "1"), file];
    assert_eq!(parts(request), expected);
    let links = links.expect("links");
    assert_eq!((links.url.as_str(), links.thumb.as_deref()), ("https://h.example/1", Some("https://h.example/1t")));
    assert!(links.delete_url.is_some_and(|link| link.starts_with("http://127.0.0.1:") && link.ends_with("/d/k")));
}

#[tokio::test]
async fn sxcu_5_binary_sends_the_file_and_takes_the_link_from_a_header() {
    let text = r#"{ "Version": "16.0.0", "RequestMethod": "PUT", "RequestURL": "http://HOST/inbox/{filename}",
        "Headers": { "Authorization": "Basic {base64:alice:s3cret}" }, "Body": "Binary", "URL": "{header:Location}" }"#;
    let image = Image::named("a b.png", 3000);
    let created = answer("201 Created", "Location: https://h.example/i/1\r\n", "");
    let (requests, links) = exchange(text, &image, vec![created]).await;
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("PUT", "/inbox/a%20b.png"));
    assert_eq!(requests[0].header("authorization"), Some("Basic YWxpY2U6czNjcmV0"));
    assert_eq!(
        (requests[0].header("content-type"), requests[0].header("content-length")),
        (Some("image/png"), Some("3000"))
    );
    assert_eq!(requests[0].body, image.bytes);
    assert_eq!(links.expect("links").url, "https://h.example/i/1");
    let typed = text.replace("\"Authorization\"", "\"Content-Type\": \"application/x-mine\", \"Authorization\"");
    let created = answer("201 Created", "Location: https://h.example/i/1\r\n", "");
    let (requests, _) = exchange(&typed, &image, vec![created]).await;
    assert_eq!(requests[0].header("content-type"), Some("application/x-mine"));
}

#[tokio::test]
async fn sxcu_5_json_carries_the_file_as_base64() {
    let text = r#"{ "Version": "17.0.0", "RequestURL": "http://HOST/api", "Body": "JSON",
        "Data": "{\"name\":\"{filename}\",\"image\":\"{base64file}\",\"also\":\"{datauri}\"}", "URL": "{json:url}" }"#;
    let image = Image::named("a\"b.png", 70_000);
    let (requests, links) =
        exchange(text, &image, vec![answer("200 OK", JSON, r#"{"url":"https://h.example/1"}"#)]).await;
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    let sent: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("JSON");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &image.bytes);
    assert_eq!(sent["name"], "a\"b.png");
    assert_eq!(sent["image"], encoded.as_str());
    assert_eq!(sent["also"], format!("data:image/png;base64,{encoded}"));
    assert!(links.is_ok());
}

#[tokio::test]
async fn sxcu_4_redirects_lead_to_the_page_and_cookies_come_along() {
    let text = r#"{ "RequestType": "POST", "RequestURL": "http://HOST/upload", "FileFormName": "f",
        "ResponseType": "RedirectionURL", "ThumbnailURL": "$response$/thumb" }"#;
    let replies = vec![
        answer("302 Found", "Location: /wait\r\nSet-Cookie: s=1; Path=/\r\n", ""),
        answer("303 See Other", "Location: /i/42?ok\r\n", ""),
        answer("200 OK", "Content-Type: text/html\r\n", "<html>the page</html>"),
    ];
    let (requests, links) = exchange(text, &Image::new(100), replies).await;
    let asked: Vec<_> = requests.iter().map(|request| (request.method.as_str(), request.target.as_str())).collect();
    assert_eq!(asked, [("POST", "/upload"), ("GET", "/wait"), ("GET", "/i/42?ok")]);
    assert_eq!(requests[2].header("cookie"), Some("s=1"));
    assert!(requests[1..].iter().all(|request| request.body.is_empty() && request.header("content-type").is_none()));
    let links = links.expect("links");
    assert!(links.url.ends_with("/i/42?ok") && links.thumb.is_some_and(|thumb| thumb.ends_with("/i/42?ok/thumb")));
}

#[tokio::test]
async fn sxcu_7_a_plain_answer_is_the_link() {
    let text = r#"{ "RequestURL": "http://HOST/user/api.php", "FileFormName": "fileToUpload", "Arguments": { "reqtype": "fileupload" } }"#;
    let (requests, links) =
        exchange(text, &Image::new(100), vec![answer("200 OK", "", "https://h.example/1.png\r\n")]).await;
    assert_eq!(parts(&requests[0])[0], field("reqtype", "fileupload"));
    assert_eq!(links.expect("links").url, "https://h.example/1.png");
}

#[tokio::test(start_paused = true)]
async fn sxcu_7_r16_a_success_without_a_link_is_a_bad_answer_and_a_refusal_has_the_hosts_words() {
    let text = r#"{ "Version": "17.0.0", "RequestURL": "http://HOST/api?key=CANARYkey", "Body": "MultipartFormData",
        "FileFormName": "f", "URL": "https://h.example/{json:id}", "ErrorMessage": "{json:why.text} (code {json:why.code})" }"#;
    for body in ["<html>login please</html>", r#"{"id":""}"#, r#"{"other":1}"#, ""] {
        let (_, result) = exchange(text, &Image::new(100), vec![answer("200 OK", JSON, body)]).await;
        let failure = result.expect_err(body);
        assert_eq!(failure.class, ErrorClass::BadResponse, "{body}: {failure:?}");
    }
    let refusal = r#"{"why":{"text":"no room for CANARYkey","code":7}}"#;
    let (_, result) = exchange(text, &Image::new(100), vec![answer("507 Insufficient Storage", JSON, refusal)]).await;
    let failure = result.expect_err("refused");
    assert!(failure.message.contains("no room for [REDACTED] (code 7)"), "{}", failure.message);
    assert!(!format!("{failure:?}").contains("CANARY"), "r26: {failure:?}");
}

#[tokio::test]
async fn secrets_and_answers_come_from_the_configuration_and_base_url_wins() {
    let text = r#"{ "Version": "17.0.0", "RequestURL": "https://{inputbox:Your site}/api/{secret:room}", "Body": "MultipartFormData",
        "FileFormName": "f", "Headers": { "X-Key": "{secret:api_key}" },
        "Arguments": { "album": "{prompt:Album|none}", "size": "{select:small|large}" } }"#;
    let (_folder, recipe) = file(text);
    let fake = Fake::start(vec![answer("200 OK", "", "https://h.example/1")]).await;
    let options = [
        ("api_key", "k1"),
        ("room", "a/b"),
        ("prompt.Your site", "h.example"),
        ("prompt.Album", "trip"),
        ("prompt.select", "large"),
    ];
    let links = Image::new(100).send(&a_host(&recipe, fake.url(), &options)).await.expect("an upload");
    assert_eq!(links.url, "https://h.example/1");
    let request = &fake.requests()[0];
    assert_eq!((request.target.as_str(), request.header("x-key")), ("/api/a/b", Some("k1")));
    assert_eq!(parts(request)[..2], [field("album", "trip"), field("size", "large")]);
    let problems = build_one(&config([host_config(&recipe, None, &[("api_key", "k")])])).err().expect("missing");
    let text = problems.iter().map(|problem| format!("{}: {}\n", problem.key, problem.message)).collect::<String>();
    for key in ["prompt.Your site: recipe", "room: recipe"] {
        assert!(text.contains(key), "{text}");
    }
    assert!(!text.contains("prompt.Album"), "it has a default: {text}");
}

#[test]
fn plain_http_and_files_that_carry_no_image_are_refused_at_load() {
    let problem = |text: &str| {
        let (_folder, recipe) = file(text);
        let problems = build_one(&config([host_config(&recipe, None, &[])])).err().expect(text);
        format!("{}: {}", problems[0].key, problems[0].message)
    };
    let http = r#"{ "RequestURL": "http://h.example/up", "FileFormName": "f" }"#;
    assert!(problem(http).contains("plain http would show"), "{}", problem(http));
    let shortener = r#"{ "Version": "14.0.0", "RequestURL": "https://h.example/s", "Body": "JSON", "Data": "{}", "DestinationType": "URLShortener" }"#;
    assert!(problem(shortener).contains("does not carry the image"), "{}", problem(shortener));
    let wrong = r#"{ "RequestURL": "https://h.example/s", "FileFormName": "f", "Arguments": { "x": {} } }"#;
    let found = problem(wrong);
    assert!(found.contains("mine.sxcu: Arguments.x: expected string, got object"), "{found}");
}
