//! turboimagehost: optional login, the upload server that the page names, galleries by upload_id, the polled result page.

use std::collections::BTreeMap;
use std::sync::Arc;

use pixchute::host::Host;
use pixchute::job::ErrorClass;

use crate::fake::{Request, text};
use crate::site::{
    PASSWORD, Site, USER, cookies, field, form, html, json, line, multipart, not_found, pairs, redirect,
};
use crate::{Image, a_host, no_canary};

#[derive(Default)]
struct Turbo {
    logins: usize,
    /// The images of each upload_id: number and name.
    groups: BTreeMap<String, Vec<(usize, String)>>,
    uploads: usize,
    /// The result page is not ready for so many looks.
    not_ready: usize,
    endpoint: Option<String>,
    instead: Option<String>,
    expire_after: Option<usize>,
    last: Vec<(String, String)>,
    session: usize,
}

fn turbo(request: &Request, site: &mut Turbo) -> String {
    let (line, query) = line(request);
    let home = format!("http://{}", request.header("host").unwrap());
    match line.as_str() {
        "GET /login.tu" => html("<form>username password</form>"),
        "POST /login.tu" => {
            assert_eq!(request.header("referer"), Some(format!("{home}/login.tu?").as_str()));
            site.logins += 1;
            let right = [("username", USER), ("password", PASSWORD), ("remember", "y"), ("login", "Login")];
            if form(request) != pairs(&right) {
                return html("<form>username password</form>");
            }
            redirect("/", &format!("Set-Cookie: skey=CANARY-skey-{}; path=/\r\n", site.logins))
        }
        "GET /" => {
            site.session += 1;
            let endpoint = site.endpoint.clone().unwrap_or_else(|| format!("{home}/up/upload_html5.tu"));
            text(
                "200 OK",
                &format!("Set-Cookie: PHPSESSID=CANARY-php-{}; path=/\r\n", site.session),
                &format!("<script>new qq.FineUploader({{ request: {{ endpoint: '{endpoint}' }} }})</script>"),
            )
        }
        "POST /up/upload_html5.tu" | "POST /upload_html5.tu" => upload(request, site, &home),
        "GET /html5_upload_result.tu" => {
            if site.not_ready > 0 {
                site.not_ready -= 1;
                return html("<p>please wait</p>");
            }
            result(&site.groups[&query["upload_id"]])
        }
        _ => not_found(request),
    }
}

fn upload(request: &Request, site: &mut Turbo, home: &str) -> String {
    assert_eq!(request.header("x-requested-with"), Some("XMLHttpRequest"));
    assert_eq!(request.header("referer"), Some(format!("{home}/").as_str()));
    let (fields, file) = multipart(request);
    let file = file.expect("a file");
    assert_eq!(file.field, "qqfile");
    if site.expire_after.take_if(|after| site.uploads >= *after).is_some() {
        site.session += 100;
    }
    let known = cookies(request).get("PHPSESSID").cloned().unwrap_or_default();
    if known != format!("CANARY-php-{}", site.session) {
        return text("403 Forbidden", "", &format!("unknown session {known}"));
    }
    if let Some(instead) = &site.instead {
        return instead.clone();
    }
    let id = field(&fields, "upload_id").unwrap().to_owned();
    assert!(id.len() == 20 && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{id}");
    assert_eq!(field(&fields, "qquuid").unwrap().len(), 20);
    assert_eq!(field(&fields, "qqfilename"), Some(file.name.as_str()));
    assert_eq!(field(&fields, "qqtotalfilesize"), Some(file.data.len().to_string().as_str()));
    site.uploads += 1;
    site.groups.entry(id.clone()).or_default().push((site.uploads, file.name));
    site.last = fields.into_iter().filter(|(name, _)| !name.starts_with("qq")).collect();
    json(&format!(r#"{{"success":true,"newUrl":"{home}/html5_upload_result.tu?upload_id={id}"}}"#))
}

fn result(images: &[(usize, String)]) -> String {
    let code = |(n, name): &(usize, String)| {
        let name = name.replace(' ', "_");
        format!(
            "[URL=https://www.turboimagehost.com/p/{n}/{name}.html][IMG]https://s8d8.turboimg.net/t1/{n}_{name}[/IMG][/URL]"
        )
    };
    let codes: Vec<String> = images.iter().map(code).collect();
    let gallery = r#"<input id="imgCodeGG" value="https://www.turboimagehost.com/album/77/Trip">"#;
    match &codes[..] {
        [one] => html(&format!(r#"<input type="text" id="imgCodeIPF" value="{one}">{gallery}"#)),
        many => html(&format!(r#"<textarea id="imgCodeURF">{}</textarea>{gallery}"#, many.join("\n"))),
    }
}

fn host(url: String, options: &[(&str, &str)]) -> Arc<dyn Host> {
    a_host("turboimagehost", url, options)
}

#[tokio::test(start_paused = true)]
async fn turbo_uploads_without_an_account_and_waits_for_the_result_page() {
    let site = Site::start(Turbo { not_ready: 3, ..Turbo::default() }, turbo).await;
    let host = host(site.url(), &[("content_type", "nsfw"), ("thumb_size", "350"), ("gallery", "42")]);
    let links = Image::named("my pic.png", 900).send(&host).await.expect("an upload");
    assert_eq!(links.url, "https://www.turboimagehost.com/p/1/my_pic.png.html");
    assert_eq!(links.thumb.as_deref(), Some("https://s8d8.turboimg.net/t1/1_my_pic.png"));
    assert_eq!(links.image, None);
    assert_eq!(site.count("GET /html5_upload_result.tu"), 4);
    assert_eq!((site.with(|site| site.logins), site.count("GET /")), (0, 1));
    let last = site.with(|site| site.last.clone());
    assert_eq!(last[1..], pairs(&[("imcontent", "adult"), ("thumb_size", "350"), ("album", "42")]));
}

#[tokio::test(start_paused = true)]
async fn a_result_page_that_is_never_ready_is_an_unknown_outcome() {
    let site = Site::start(Turbo { not_ready: 100, ..Turbo::default() }, turbo).await;
    let failure = Image::new(900).send(&host(site.url(), &[])).await.expect_err("no page");
    assert_eq!(failure.class, ErrorClass::UnknownOutcome, "{failure:?}");
    assert_eq!((site.count("GET /html5_upload_result.tu"), site.with(|site| site.uploads)), (7, 1));
    no_canary(&failure);
}

#[tokio::test]
async fn turbo_logs_in_once_for_eight_uploads_and_again_when_the_session_is_over() {
    let site = Site::start(Turbo { expire_after: Some(8), ..Turbo::default() }, turbo).await;
    let host = host(site.url(), &[("user", USER), ("password", PASSWORD)]);
    let images: Vec<Image> = (0..8).map(|n| Image::new(100 + n)).collect();
    let all = futures_util::future::join_all(images.iter().map(|image| image.send(&host))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(site.with(|site| (site.logins, site.uploads)), (1, 8));
    Image::new(9).send(&host).await.expect("after a new login");
    assert_eq!(site.with(|site| (site.logins, site.uploads)), (2, 9));
}

#[tokio::test]
async fn a_wrong_password_of_turbo_is_told() {
    let site = Site::start(Turbo::default(), turbo).await;
    let failure = Image::new(1).send(&host(site.url(), &[("user", USER), ("password", "CANARY-no")])).await;
    let failure = failure.expect_err("wrong");
    assert_eq!(failure.class, ErrorClass::Account);
    no_canary(&failure);
    assert_eq!(site.with(|site| (site.logins, site.uploads)), (1, 0));
}

#[tokio::test]
async fn the_upload_server_is_one_of_the_sites_own_or_not_asked() {
    for endpoint in ["https://evil.example/up", "http://127.0.0.1:9/up", "//evil.example/up"] {
        let site = Site::start(Turbo { endpoint: Some(endpoint.into()), ..Turbo::default() }, turbo).await;
        let failure = Image::new(1).send(&host(site.url(), &[])).await.expect_err(endpoint);
        assert!(failure.message.contains("another site"), "{}", failure.message);
    }
    // The original's own server, when the user has put the site elsewhere, is found there.
    let endpoint = Some("https://s8d8.turboimagehost.com/upload_html5.tu".to_owned());
    let site = Site::start(Turbo { endpoint, ..Turbo::default() }, turbo).await;
    Image::new(1).send(&host(site.url(), &[])).await.expect("an upload");
    assert_eq!(site.count("POST /upload_html5.tu"), 1);
}

#[tokio::test]
async fn a_gallery_of_turbo_is_one_upload_id_and_each_image_finds_its_own_links() {
    let site = Site::start(Turbo::default(), turbo).await;
    let host = host(site.url(), &[("gallery", "42")]);
    let deadline = Image::new(1).upload.deadline;
    let galleries = host.galleries().expect("galleries");
    let gallery = galleries.create("Ein sehr langer Name für alles", deadline).await.expect("a gallery");
    assert_eq!(gallery.name, "Ein sehr langer Name");
    for (n, name) in ["banana.png", "a.png", "c d.png"].into_iter().enumerate() {
        let mut image = Image::named(name, 50 + n);
        image.upload.gallery = Some(gallery.clone());
        let links = image.send(&host).await.expect("an upload");
        let n = n + 1;
        let name = name.replace(' ', "_");
        assert_eq!(links.url, format!("https://www.turboimagehost.com/p/{n}/{name}.html"));
        assert_eq!(links.thumb, Some(format!("https://s8d8.turboimg.net/t1/{n}_{name}")));
    }
    let last = site.with(|site| site.last.clone());
    let expected =
        [("imcontent", "all"), ("thumb_size", "200"), ("galleryN", "Ein sehr langer Name"), ("galleryAN", "1")];
    assert_eq!(last[1..], pairs(&expected));
    assert_eq!(site.with(|site| site.groups.len()), 1);
    let finished = galleries.finish(&gallery, &[], deadline).await.expect("finished");
    assert_eq!(finished.url.as_deref(), Some("https://www.turboimagehost.com/album/77/Trip"));
    assert_eq!(finished.id, gallery.id);
}

#[tokio::test(start_paused = true)]
async fn what_turbo_refuses_is_told_apart() {
    let table = [
        (json(r#"{"success":false,"error":"file is too large"}"#), ErrorClass::File, "too large"),
        (json(r#"{"success":false,"error":"strange"}"#), ErrorClass::BadResponse, "strange"),
        (json(r#"{"success":true}"#), ErrorClass::BadResponse, "without a link"),
        (html("<title>Oops</title>"), ErrorClass::BadResponse, "Oops"),
        (html(""), ErrorClass::BadResponse, "200"),
        (text("413 Payload Too Large", "", ""), ErrorClass::File, "413"),
        (text("415 Unsupported Media Type", "", ""), ErrorClass::File, "415"),
        (text("429 Too Many Requests", "Retry-After: 9\r\n", ""), ErrorClass::RateLimited, "429"),
        (text("503 Service Unavailable", "", "CANARY-php-1"), ErrorClass::BadResponse, "503"),
    ];
    for (instead, class, message) in table {
        let site = Site::start(Turbo { instead: Some(instead.clone()), ..Turbo::default() }, turbo).await;
        let failure = Image::new(100).send(&host(site.url(), &[])).await.expect_err(&instead);
        assert_eq!(failure.class, class, "{instead}\n{failure:?}");
        assert!(failure.message.contains(message), "{}", failure.message);
        no_canary(&failure);
    }
}

#[tokio::test]
async fn older_answers_of_turbo_are_understood() {
    let page = json(
        r#"{"success":true,"url":"https://www.turboimagehost.com/p/5/x.png.html","thumbnailUrl":"https://t.example/5"}"#,
    );
    let id = json(r#"{"success":true,"id":5}"#);
    for (instead, thumb) in [(page, Some("https://t.example/5")), (id, None)] {
        let site = Site::start(Turbo { instead: Some(instead), ..Turbo::default() }, turbo).await;
        let links = Image::new(100).send(&host(site.url(), &[])).await.expect("links");
        assert!(links.url.starts_with("https://www.turboimagehost.com/p/5/x"), "{}", links.url);
        assert_eq!(links.thumb.as_deref(), thumb);
    }
}
