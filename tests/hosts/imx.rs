//! imx.to: the API with its key, the web session for galleries, cookies that must not mix galleries.

use std::collections::BTreeMap;
use std::sync::Arc;

use pixchute::host::{Gallery, Host};
use pixchute::job::ErrorClass;

use crate::fake::{Request, text};
use crate::site::{
    PASSWORD, Site, USER, cookies, field, form, html, json, line, multipart, not_found, pairs, redirect,
};
use crate::{Image, a_host, no_canary};

const KEY: &str = "CANARY-key/1";

#[derive(Default)]
struct Imx {
    logins: usize,
    uploads: usize,
    /// The gallery that each API session was used for.
    sessions: BTreeMap<String, Option<String>>,
    galleries: usize,
    /// Web sessions before this one are over.
    valid_from: usize,
    instead: Option<String>,
    last: Vec<(String, String)>,
    names: Vec<String>,
    ids_in_url: bool,
}

fn imx(request: &Request, site: &mut Imx) -> String {
    let (line, query) = line(request);
    let home = format!("http://{}", request.header("host").unwrap());
    let web = cookies(request).get("user_key").and_then(|value| value.rsplit('-').next()?.parse::<usize>().ok());
    let logged_in = web.is_some_and(|session| session > site.valid_from);
    match line.as_str() {
        "POST /v1/upload.php" => api(request, site),
        "GET /login.php" => {
            text("200 OK", "Set-Cookie: PHPSESSID=CANARY-web; path=/\r\n", r#"<form><input name="usr_email"></form>"#)
        }
        "POST /login.php" => {
            assert_eq!(request.header("referer"), Some(format!("{home}/login.php").as_str()));
            assert_eq!(cookies(request).get("PHPSESSID").map(String::as_str), Some("CANARY-web"));
            site.logins += 1;
            let right = [("usr_email", USER), ("pwd", PASSWORD), ("doLogin", "Login"), ("remember", "1")];
            if form(request) != pairs(&right) {
                return html(r#"Incorrect username <form class="login_form"><input name="usr_email"></form> Sign Up"#);
            }
            redirect("/user/dashboard", &format!("Set-Cookie: user_key=CANARY-uk-{}; path=/\r\n", site.logins))
        }
        "GET /user/dashboard" if logged_in => html("Balance: 0 <a href=/logout>logout</a> <a>Sign Up</a>"),
        "POST /user/gallery/add" if logged_in => {
            assert_eq!(request.header("referer"), Some(format!("{home}/user/gallery/add").as_str()));
            let fields = form(request);
            assert_eq!(fields.len(), 2);
            assert_eq!(field(&fields, "submit_new_gallery"), Some("Add"));
            site.galleries += 1;
            site.names.push(field(&fields, "gallery_name").unwrap().to_owned());
            let id = if site.ids_in_url { format!("?id=g{}", site.galleries) } else { String::new() };
            redirect(&format!("/user/gallery/edit{id}"), "")
        }
        "GET /user/gallery/edit" if logged_in => html("<form></form>"),
        "GET /user/galleries" if logged_in => {
            assert_eq!((query["page"].as_str(), query["limit"].as_str()), ("1", "200"));
            let row =
                |(n, name): (usize, &String)| format!("<a href=\"https://imx.to/g/g{}\"><i>{name}</i></a>", n + 1);
            html(&site.names.iter().enumerate().map(row).collect::<String>())
        }
        "POST /user/gallery/add" | "GET /user/dashboard" => redirect("/login.php", ""),
        "POST /" if logged_in && query.get("mode").map(String::as_str) == Some("cover") => {
            let (fields, file) = multipart(request);
            assert_eq!(file.expect("a file").field, "uploaded");
            site.last = fields;
            html(
                "<textarea class=\"imageallcodes\">[url=https://imx.to/i/cov][img]https://i.imx.to/t/cov.jpg[/img][/url]</textarea>",
            )
        }
        _ => not_found(request),
    }
}

fn api(request: &Request, site: &mut Imx) -> String {
    if request.header("x-api-key") != Some(KEY) {
        return text("403 Forbidden", "", r#"{"status":"error","message":"Invalid API key"}"#);
    }
    assert_eq!(request.header("accept"), Some("application/json"));
    let (fields, file) = multipart(request);
    let file = file.expect("a file");
    assert_eq!(file.field, "image");
    if let Some(instead) = &site.instead {
        return instead.clone();
    }
    site.uploads += 1;
    let gallery = field(&fields, "gallery_id").map(str::to_owned);
    // Whoever comes with a known session gets its gallery, whatever the fields say: the trap.
    let session = cookies(request).get("PHPSESSID").cloned();
    let cookie = match &session {
        Some(session) => {
            assert_eq!(site.sessions[session], gallery, "a session of another gallery");
            String::new()
        }
        None => {
            let fresh = format!("CANARY-php-{}", site.sessions.len());
            site.sessions.insert(fresh.clone(), gallery);
            format!("Set-Cookie: PHPSESSID={fresh}; path=/\r\n")
        }
    };
    site.last = fields;
    site.names.push(file.name);
    let n = site.uploads;
    let body = format!(
        r#"{{"status":"success","data":{{"image_url":"https:\/\/imx.to\/i\/a{n}","thumbnail_url":"https:\/\/i.imx.to\/t\/2026\/a{n}.png"}}}}"#
    );
    text("200 OK", &cookie, &body)
}

fn host(url: String, more: &[(&str, &str)]) -> Arc<dyn Host> {
    let mut options = vec![("api_key", KEY)];
    options.extend(more);
    a_host("imx", url, &options)
}

#[tokio::test]
async fn imx_is_sent_the_ids_of_size_and_format_and_an_ascii_name() {
    let site = Site::start(Imx::default(), imx).await;
    let host = host(site.url(), &[("thumbnail_size", "600"), ("thumbnail_format", "square"), ("gallery", "abc")]);
    let links = Image::named("Crème.png", 300).send(&host).await.expect("an upload");
    assert_eq!(links.url, "https://imx.to/i/a1");
    assert_eq!(links.thumb.as_deref(), Some("https://i.imx.to/t/2026/a1.png"));
    assert_eq!(links.image.as_deref(), Some("https://i.imx.to/i/2026/a1.png"));
    let fields = [("format", "json"), ("thumbnail_size", "5"), ("thumbnail_format", "3"), ("gallery_id", "abc")];
    assert_eq!(site.with(|site| (site.last.clone(), site.names.clone())), (pairs(&fields), vec!["Creme.png".into()]));
    assert_eq!(site.with(|site| site.logins), 0);
}

#[tokio::test]
async fn the_cookies_of_two_galleries_of_imx_never_mix() {
    let site = Site::start(Imx::default(), imx).await;
    let host = host(site.url(), &[]);
    for round in 0..3 {
        for id in ["g1", "g2", ""] {
            let mut image = Image::new(10 + round);
            let gallery = Gallery { id: id.into(), ..Gallery::default() };
            image.upload.gallery = Some(gallery).filter(|gallery| !gallery.id.is_empty());
            image.send(&host).await.expect("an upload");
        }
    }
    let sessions = site.with(|site| site.sessions.values().cloned().collect::<Vec<_>>());
    assert_eq!(sessions.iter().filter(|gallery| gallery.as_deref() == Some("g1")).count(), 1, "{sessions:?}");
    assert_eq!(sessions.iter().filter(|gallery| gallery.is_none()).count(), 3, "none without a gallery is kept");
}

#[tokio::test]
async fn galleries_of_imx_are_made_in_one_web_session_that_is_renewed() {
    for ids_in_url in [true, false] {
        let site = Site::start(Imx { ids_in_url, ..Imx::default() }, imx).await;
        assert!(host(site.url(), &[]).galleries().is_none(), "only with an account");
        let host = host(site.url(), &[("user", USER), ("password", PASSWORD)]);
        let deadline = Image::new(1).upload.deadline;
        let galleries = host.galleries().unwrap();
        let first = galleries.create("Trip: Rome", deadline).await.expect("a gallery");
        assert_eq!((first.id.as_str(), first.name.as_str()), ("g1", "Trip_ Rome"));
        assert_eq!(first.url.as_deref(), Some("https://imx.to/g/g1"));
        site.with(|site| site.valid_from = site.logins);
        let second = galleries.create("Two", deadline).await.expect("after a new login");
        assert_eq!(second.id, "g2");
        assert_eq!(site.with(|site| site.logins), 2);
        assert_eq!(galleries.finish(&second, &[], deadline).await.expect("nothing to do"), second);
    }
}

#[tokio::test]
async fn a_cover_of_imx_goes_through_the_web_form() {
    let site = Site::start(Imx::default(), imx).await;
    let options = [("user", USER), ("password", PASSWORD), ("cover", "true"), ("thumbnail_size", "600")];
    let mut image = Image::named("Cover.png", 10);
    image.upload.gallery = Some(Gallery { id: "g7".into(), ..Gallery::default() });
    let links = image.send(&host(site.url(), &options)).await.expect("a cover");
    assert_eq!(links.url, "https://imx.to/i/cov");
    assert_eq!(links.thumb.as_deref(), Some("https://i.imx.to/t/cov.jpg"));
    let fields =
        [("thumb_size_contaner", "5"), ("thumbnail_format", "1"), ("simple_upload", "submit"), ("set_gallery", "g7")];
    assert_eq!(site.with(|site| (site.last.clone(), site.uploads)), (pairs(&fields), 0));
}

#[tokio::test(start_paused = true)]
async fn what_imx_refuses_is_told_apart() {
    let table = [
        (json(r#"{"status":"error","message":"Invalid API key"}"#), ErrorClass::Account, "Invalid API key"),
        (json(r#"{"status":"error","message":"File too large"}"#), ErrorClass::File, "too large"),
        (json(r#"{"status":"error","message":"strange"}"#), ErrorClass::BadResponse, "strange"),
        (json(r#"{"status":"success","data":{}}"#), ErrorClass::BadResponse, "without a link"),
        (html("<title>DDoS-Guard</title>"), ErrorClass::BadResponse, "DDoS-Guard"),
        (html(""), ErrorClass::BadResponse, "200"),
        (text("413 Payload Too Large", "", "big"), ErrorClass::File, "413"),
        (text("415 Unsupported Media Type", "", ""), ErrorClass::File, "415"),
        (text("429 Too Many Requests", "Retry-After: 9\r\n", ""), ErrorClass::RateLimited, "429"),
        (text("500 Internal Server Error", "", "CANARY-key/1 CANARY-key\\/1"), ErrorClass::BadResponse, "500"),
    ];
    for (instead, class, message) in table {
        let site = Site::start(Imx { instead: Some(instead.clone()), ..Imx::default() }, imx).await;
        let failure = Image::new(100).send(&host(site.url(), &[])).await.expect_err(&instead);
        assert_eq!(failure.class, class, "{instead}\n{failure:?}");
        assert!(failure.message.contains(message), "{}", failure.message);
        no_canary(&failure);
    }
    let site = Site::start(Imx::default(), imx).await;
    let wrong = a_host("imx", site.url(), &[("api_key", "CANARY-other"), ("user", USER), ("password", "CANARY-no")]);
    let failure = Image::new(1).send(&wrong).await.expect_err("a wrong key");
    assert_eq!(failure.class, ErrorClass::Account);
    no_canary(&failure);
    let deadline = Image::new(1).upload.deadline;
    let failure = wrong.galleries().unwrap().create("Trip", deadline).await.expect_err("a wrong password");
    assert_eq!(failure.class, ErrorClass::Account);
    no_canary(&failure);
    assert_eq!(site.with(|site| site.logins), 1);
}
