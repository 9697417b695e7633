//! Each host's protocol: method, path, headers, every field in its order, the file, and how its answers are read.

use pixchute::job::{ErrorClass, Links};

use crate::fake::{Fake, Part, Request, answer, parts};
use crate::{Image, a_host};

const JSON: &str = "Content-Type: application/json\r\n";

fn field(name: &str, value: &str) -> Part {
    Part { disposition: format!("name=\"{name}\""), content_type: None, data: value.into() }
}

fn file(name: &str, image: &Image) -> Part {
    let disposition = format!("name=\"{name}\"; filename=\"x.png\"");
    Part { disposition, content_type: Some("image/png".into()), data: image.bytes.clone() }
}

/// Uploads one image to `recipe`, answered by `body`; gives the request and the links.
async fn exchange(recipe: &str, options: &[(&str, &str)], body: &str) -> (Request, Image, Links) {
    let fake = Fake::start(vec![answer("200 OK", JSON, body)]).await;
    let image = Image::new(1234);
    let links = image.send(&a_host(recipe, fake.url(), options)).await.expect("an upload");
    let requests = fake.requests();
    assert_eq!(requests.len(), 1);
    let request = requests[0].clone();
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("host"), Some(fake.addr.to_string().as_str()));
    assert!(request.header("user-agent").unwrap().starts_with("pixchute/"));
    (request, image, links)
}

fn links(url: &str, thumb: Option<&str>, image: Option<&str>, delete_url: Option<&str>) -> Links {
    let own = |text: Option<&str>| text.map(str::to_owned);
    Links { url: url.into(), thumb: own(thumb), image: own(image), delete_url: own(delete_url), ..Links::default() }
}

#[tokio::test]
async fn pixhost_is_spoken_as_its_api_page_says() {
    let body = r#"{"name":"x.png","show_url":"https:\/\/pixhost.to\/show\/1\/2_x.png","th_url":"https:\/\/t9.pixhost.to\/thumbs\/1\/2_x.png"}"#;
    let (request, image, got) = exchange("pixhost", &[("content_type", "nsfw"), ("thumb_size", "300")], body).await;
    assert_eq!(request.target, "/images");
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(parts(&request), [field("content_type", "1"), field("max_th_size", "300"), file("img", &image)]);
    let expected = links(
        "https://pixhost.to/show/1/2_x.png",
        Some("https://t9.pixhost.to/thumbs/1/2_x.png"),
        Some("https://img9.pixhost.to/images/1/2_x.png"),
        None,
    );
    assert_eq!(got, expected);
}

#[tokio::test]
async fn pixhost_without_a_thumbnail_gives_no_made_up_links() {
    let body = r#"{"show_url":"https://pixhost.to/show/1/2_x.png","th_url":"/thumbs/1"}"#;
    let (request, _, got) = exchange("pixhost", &[], body).await;
    assert_eq!(parts(&request)[..2], [field("content_type", "0"), field("max_th_size", "200")]);
    assert_eq!(got, links("https://pixhost.to/show/1/2_x.png", None, None, None));
}

#[tokio::test]
async fn imgbb_takes_its_key_as_a_field_and_tells_all_links() {
    let body = r#"{"data":{"id":"2","url_viewer":"https://ibb.co/2","url":"https://i.ibb.co/w/x.png",
        "image":{"url":"https://i.ibb.co/w/x.png"},"thumb":{"url":"https://i.ibb.co/2/x.png"},
        "delete_url":"https://ibb.co/2/670"},"success":true,"status":200}"#;
    let (request, image, got) = exchange("imgbb", &[("api_key", "K1"), ("expiration", "600")], body).await;
    assert_eq!(request.target, "/1/upload");
    assert_eq!(parts(&request), [field("key", "K1"), field("expiration", "600"), file("image", &image)]);
    let direct = "https://i.ibb.co/w/x.png";
    let expected =
        links("https://ibb.co/2", Some("https://i.ibb.co/2/x.png"), Some(direct), Some("https://ibb.co/2/670"));
    assert_eq!(got, expected);
}

#[tokio::test]
async fn catbox_answers_with_the_bare_link() {
    let (request, image, got) = exchange("catbox", &[], "https://files.catbox.moe/abc123.png\n").await;
    assert_eq!(request.target, "/user/api.php");
    assert_eq!(parts(&request), [field("reqtype", "fileupload"), file("fileToUpload", &image)]);
    let url = "https://files.catbox.moe/abc123.png";
    assert_eq!(got, links(url, None, Some(url), None));
    let (request, ..) = exchange("catbox", &[("userhash", "u1")], url).await;
    assert_eq!(parts(&request)[1], field("userhash", "u1"));
}

#[tokio::test]
async fn litterbox_is_told_how_long_the_image_stays() {
    let (request, image, got) = exchange("litterbox", &[("time", "1h")], "https://litter.catbox.moe/a.png").await;
    assert_eq!(request.target, "/resources/internals/api.php");
    assert_eq!(parts(&request), [field("reqtype", "fileupload"), field("time", "1h"), file("fileToUpload", &image)]);
    assert_eq!(got.url, "https://litter.catbox.moe/a.png");
}

const CHEVERETO: &str = r#"{"status_code":200,"success":{"message":"file uploaded","code":200},"image":{
    "url":"https://i.site/x.png","url_viewer":"https://site/i/x","thumb":{"url":"https://i.site/x.th.png"},
    "delete_url":"https://site/i/x/delete/1"},"status_txt":"OK"}"#;

fn chevereto_links() -> Links {
    let (thumb, image) = (Some("https://i.site/x.th.png"), Some("https://i.site/x.png"));
    links("https://site/i/x", thumb, image, Some("https://site/i/x/delete/1"))
}

#[tokio::test]
async fn chevereto_takes_its_key_as_a_header() {
    let (request, image, got) = exchange("chevereto", &[("api_key", "chv_1"), ("nsfw", "true")], CHEVERETO).await;
    assert_eq!(request.target, "/api/1/upload");
    assert_eq!(request.header("x-api-key"), Some("chv_1"));
    assert_eq!(parts(&request), [field("format", "json"), field("nsfw", "1"), file("source", &image)]);
    assert_eq!(got, chevereto_links());
}

#[tokio::test]
async fn freeimage_takes_its_key_as_a_field() {
    let (request, image, got) = exchange("freeimage", &[("api_key", "k")], CHEVERETO).await;
    assert_eq!(request.target, "/api/1/upload");
    let fields = [field("key", "k"), field("action", "upload"), field("format", "json"), file("source", &image)];
    assert_eq!(parts(&request), fields);
    assert_eq!(got, chevereto_links());
}

#[tokio::test]
async fn imgur_takes_a_client_id_or_a_token() {
    let body = r#"{"data":{"id":"AbC","deletehash":"d","link":"https://i.imgur.com/AbC.png","title":"too fast"},"success":true,"status":200}"#;
    let (request, image, got) = exchange("imgur", &[("client_id", "c1"), ("thumb", "640")], body).await;
    assert_eq!(request.target, "/3/image");
    assert_eq!(request.header("authorization"), Some("Client-ID c1"));
    assert_eq!(parts(&request), [field("type", "file"), file("image", &image)]);
    let (thumb, direct) = (Some("https://i.imgur.com/AbCl.png"), Some("https://i.imgur.com/AbC.png"));
    let expected = Links { delete_token: Some("d".into()), ..links("https://imgur.com/AbC", thumb, direct, None) };
    assert_eq!(got, expected);
    let (request, ..) = exchange("imgur", &[("token", "t1"), ("album", "a1")], body).await;
    assert_eq!(request.header("authorization"), Some("Bearer t1"));
    assert_eq!(parts(&request)[1], field("album", "a1"));
}

#[tokio::test(start_paused = true)]
async fn r19_the_errors_of_each_host_mean_what_their_text_says() {
    let daily = r#"{"data":{"error":"Daily client requests exceeded"},"status":429,"success":false}"#;
    let wait =
        r#"{"data":{"error":{"code":429,"message":"You are uploading too fast. Please wait 37 more minutes."}}}"#;
    let capacity = r#"{"data":{"error":"Imgur is temporarily over capacity"},"status":403,"success":false}"#;
    let large = r#"{"data":{"error":"file is over the size limit"}}"#;
    let kind = r#"{"data":{"error":{"code":1003,"message":"File type invalid (1)"}},"success":false,"status":400}"#;
    let source = r#"{"status_code":400,"error":{"message":"Can't get target upload source info","code":310}}"#;
    let key = r#"{"status_code":400,"error":{"message":"Invalid API v1 key.","code":100},"status_txt":"Bad Request"}"#;
    let table = [
        ("imgur", "429 Too Many Requests", daily, ErrorClass::RateLimited, "Daily client requests exceeded"),
        ("imgur", "200 OK", daily, ErrorClass::RateLimited, "Daily client requests exceeded"),
        ("imgur", "400 Bad Request", wait, ErrorClass::RateLimited, "Please wait 37 more minutes"),
        ("imgur", "403 Forbidden", capacity, ErrorClass::RateLimited, "over capacity"),
        ("imgur", "403 Forbidden", "{}", ErrorClass::Account, "403 Forbidden"),
        ("imgur", "413 Payload Too Large", large, ErrorClass::File, "over the size limit"),
        ("imgur", "200 OK", kind, ErrorClass::File, "File type invalid"),
        ("imgbb", "200 OK", key, ErrorClass::Account, "Invalid API v1 key."),
        ("imgbb", "400 Bad Request", source, ErrorClass::BadResponse, "Can't get target"),
        ("pixhost", "200 OK", r#"{"error_msg":"Unsupported format"}"#, ErrorClass::File, "Unsupported format"),
        ("pixhost", "200 OK", "<html>unsupported browser</html>", ErrorClass::BadResponse, "not JSON"),
        ("catbox", "412 Precondition Failed", "That file type is not allowed", ErrorClass::File, "412"),
        ("catbox", "200 OK", "<html>This file type is not allowed</html>", ErrorClass::BadResponse, "200 OK"),
        ("imgbb", "400 Bad Request", key, ErrorClass::Account, "Invalid API v1 key."),
        ("pixhost", "415 Unsupported Media Type", "", ErrorClass::File, "415"),
        ("pixhost", "414 URI Too Long", "", ErrorClass::BadResponse, "414"),
        ("pixhost", "402 Payment Required", "", ErrorClass::Account, "402"),
        ("pixhost", "200 OK", r#"{"error_msg":"no"}"#, ErrorClass::BadResponse, "200 OK without a link: no"),
        ("catbox", "200 OK", "No files given.", ErrorClass::BadResponse, "no absolute http or https URL"),
    ];
    for (recipe, status, body, class, message) in table {
        let fake = Fake::start(vec![answer(status, JSON, body)]).await;
        let options: &[(&str, &str)] = match recipe {
            "imgur" => &[("client_id", "c1")],
            "imgbb" => &[("api_key", "k1")],
            _ => &[],
        };
        let failure = Image::new(10).send(&a_host(recipe, fake.url(), options)).await.expect_err(body);
        assert_eq!(failure.class, class, "{status} {body}");
        assert!(failure.message.contains(message), "{}", failure.message);
        assert_eq!(failure.http_status, status[..3].parse().ok());
    }
}

#[tokio::test]
async fn content_length_is_exact_for_every_size_and_the_file_arrives_unchanged() {
    let edge = 1 << 20;
    for len in [0, 1, 500, 65_536 - 300, 65_536, 200_000, edge - 1, edge, edge + 1, 5_000_000] {
        let fake = Fake::start(vec![answer("200 OK", "", "https://files.catbox.moe/a.png")]).await;
        let image = Image::new(len);
        image.send(&a_host("catbox", fake.url(), &[])).await.expect("an upload");
        let requests = fake.requests();
        let length: u64 = requests[0].header("content-length").unwrap().parse().unwrap();
        assert_eq!(image.upload.progress.total(), length, "{len}");
        assert_eq!(image.upload.progress.sent(), length, "{len}");
        assert!(parts(&requests[0]).last().unwrap().data == image.bytes, "{len} bytes differ");
    }
}

#[tokio::test]
async fn names_on_the_wire_are_safe_and_composed() {
    let table = [
        ("a\"b.png", "a%22b.png"),
        ("a\r\nX-Evil: 1\r\n.png", "a__X-Evil: 1__.png"),
        ("e\u{301} ü.png", "\u{e9} ü.png"),
        ("..\\..\\x.png", ".._.._x.png"),
    ];
    for (name, wire) in table {
        let fake = Fake::start(vec![answer("200 OK", "", "https://files.catbox.moe/a.png")]).await;
        let image = Image::named(name, 10);
        image.send(&a_host("catbox", fake.url(), &[])).await.expect("an upload");
        let sent = parts(&fake.requests()[0]).pop().unwrap();
        assert_eq!(sent.disposition, format!("name=\"fileToUpload\"; filename=\"{wire}\""));
    }
}
