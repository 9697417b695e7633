//! imagebam: CSRF token, upload session, three generations of answers, galleries.

use std::sync::Arc;

use pixchute::host::Host;
use pixchute::job::ErrorClass;

use crate::fake::{Request, text};
use crate::site::{
    PASSWORD, Site, USER, cookies, field, form, html, json, line, multipart, not_found, pairs, redirect,
};
use crate::{Image, a_host, no_canary};

const CSRF: &str = "CANARY-csrf";

#[derive(Default)]
struct Bam {
    logins: usize,
    homes: usize,
    sessions: Vec<Vec<(String, String)>>,
    uploads: usize,
    expire_after: Option<usize>,
    /// Which answer, or a whole one.
    generation: usize,
    instead: Option<String>,
    not_ready: usize,
    listed: bool,
}

fn bam(request: &Request, site: &mut Bam) -> String {
    let (line, query) = line(request);
    let home = format!("http://{}", request.header("host").unwrap());
    let logged_in = cookies(request).get("laravel").is_some_and(|value| value.starts_with("CANARY-in"));
    match line.as_str() {
        "GET /auth/login" => html(r#"<form><input type="hidden" name="_token" value="CANARY-login-token"></form>"#),
        "POST /auth/login" => {
            site.logins += 1;
            let right = [("_token", "CANARY-login-token"), ("email", USER), ("password", PASSWORD), ("remember", "on")];
            if form(request) != pairs(&right) {
                let credentials = r#"{"message":"These credentials do not match our records."}"#;
                return match site.generation {
                    0 => redirect("/auth/login", ""),
                    1 => text("422 Unprocessable Entity", "", credentials),
                    _ => text("401 Unauthorized", "", ""),
                };
            }
            redirect("/", "Set-Cookie: laravel=CANARY-in; path=/; httponly\r\n")
        }
        "GET /" => {
            site.homes += 1;
            let out = if logged_in { r#"<form action="/auth/logout" method=post></form>"# } else { "" };
            let list = if site.listed {
                "<select data-uploader-gallery-option-value-select><option value=\"-1\">none</option>\
                 <option value=\"815\">Trip</option><option value=\"9\">Trip 2</option></select>"
            } else {
                ""
            };
            let cookie = if logged_in { String::new() } else { "Set-Cookie: laravel=CANARY-anon; path=/\r\n".into() };
            let body = format!(r#"<head><meta name="csrf-token" content="{CSRF}-{}"></head>{out}{list}"#, site.homes);
            text("200 OK", &cookie, &body)
        }
        "POST /upload/session" => session(request, site, &home),
        "POST /upload" => upload(request, site, &home),
        "GET /upload/complete" => {
            if site.not_ready > 0 {
                site.not_ready -= 1;
                return html("<p>wait</p>");
            }
            let n = &query["n"];
            html(&format!(
                "<a id=\"gallery-name\">Trip</a>[URL=https://www.imagebam.com/view/ME{n}][IMG]https://thumbs4.imagebam.com/a/{n}_t.jpg[/IMG][/URL]"
            ))
        }
        _ => not_found(request),
    }
}

fn checked(request: &Request, site: &Bam, home: &str) -> Result<(), String> {
    assert_eq!(request.header("x-requested-with"), Some("XMLHttpRequest"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("referer"), Some(format!("{home}/").as_str()));
    assert!(cookies(request).contains_key("laravel"));
    if request.header("x-csrf-token") == Some(format!("{CSRF}-{}", site.homes).as_str()) {
        return Ok(());
    }
    Err(text("419 unknown status", "", "Page Expired"))
}

fn session(request: &Request, site: &mut Bam, home: &str) -> String {
    if let Err(expired) = checked(request, site, home) {
        return expired;
    }
    let fields = form(request);
    if field(&fields, "gallery_token") == Some("") {
        site.listed = true;
    }
    site.sessions.push(fields);
    json(&format!(r#"{{"status":"success","data":"CANARY-data-{}","session":"s1"}}"#, site.sessions.len()))
}

fn upload(request: &Request, site: &mut Bam, home: &str) -> String {
    if site.expire_after.take_if(|after| site.uploads >= *after).is_some() {
        site.homes += 10;
    }
    if let Err(expired) = checked(request, site, home) {
        return expired;
    }
    assert_eq!(request.header("cache-control"), Some("no-cache"));
    let (fields, file) = multipart(request);
    let (token, data) = (format!("{CSRF}-{}", site.homes), format!("CANARY-data-{}", site.sessions.len()));
    assert_eq!(fields, pairs(&[("_token", &token), ("data", &data)]));
    assert_eq!(file.expect("a file").field, "files[0]");
    if let Some(instead) = &site.instead {
        return instead.clone();
    }
    site.uploads += 1;
    let n = site.uploads;
    match site.generation {
        0 => json(&format!(r#"{{"success":"{}\/upload\/complete?n={n}"}}"#, home.replace('/', "\\/"))),
        1 => json(&format!(
            r#"{{"status":"success","data":[{{"url":"https://www.imagebam.com/view/ME{n}","thumb":"https://thumbs4.imagebam.com/a/{n}_t.jpg"}}]}}"#
        )),
        _ => json(&format!(
            r#"{{"files":[{{"sourceUrl":"https://www.imagebam.com/view/ME{n}","thumbUrl":"https://thumbs4.imagebam.com/a/{n}_t.jpg"}}]}}"#
        )),
    }
}

fn host(url: String, options: &[(&str, &str)]) -> Arc<dyn Host> {
    a_host("imagebam", url, options)
}

#[tokio::test(start_paused = true)]
async fn imagebam_takes_images_without_an_account_and_answers_in_three_ways() {
    for generation in 0..3 {
        let site = Site::start(Bam { generation, not_ready: 2, ..Bam::default() }, bam).await;
        let host = host(site.url(), &[("content_type", "nsfw"), ("thumbnail_size", "300")]);
        let links = Image::new(500).send(&host).await.expect("an upload");
        assert_eq!(links.url, "https://www.imagebam.com/view/ME1");
        assert_eq!(links.thumb.as_deref(), Some("https://thumbs4.imagebam.com/a/1_t.jpg"));
        let fields = [("thumbnail_size", "4"), ("content_type", "nsfw"), ("comments_enabled", "false")];
        assert_eq!(site.with(|site| site.sessions.clone()), [pairs(&fields)]);
        assert_eq!(site.with(|site| site.logins), 0);
    }
}

#[tokio::test]
async fn imagebam_logs_in_once_and_makes_a_new_session_after_419() {
    let site = Site::start(Bam { expire_after: Some(3), ..Bam::default() }, bam).await;
    let host = host(site.url(), &[("user", USER), ("password", PASSWORD)]);
    for _ in 0..5 {
        Image::new(10).send(&host).await.expect("an upload");
    }
    assert_eq!(site.with(|site| (site.logins, site.uploads)), (2, 5));
}

#[tokio::test]
async fn a_wrong_password_of_imagebam_is_told() {
    for generation in 0..3 {
        let site = Site::start(Bam { generation, ..Bam::default() }, bam).await;
        let host = host(site.url(), &[("user", USER), ("password", "CANARY-no")]);
        let failure = Image::new(10).send(&host).await.expect_err("wrong");
        assert_eq!(failure.class, ErrorClass::Account, "{failure:?}");
        no_canary(&failure);
        Image::new(10).send(&host).await.expect_err("wrong still");
        assert_eq!(site.with(|site| (site.logins, site.uploads)), (1, 0));
    }
}

#[tokio::test]
async fn a_gallery_of_imagebam_is_made_by_its_title_and_joined_by_its_number() {
    let site = Site::start(Bam::default(), bam).await;
    assert!(host(site.url(), &[]).galleries().is_none(), "only with an account");
    let host = host(site.url(), &[("user", USER), ("password", PASSWORD)]);
    let mut image = Image::new(10);
    let gallery = host.galleries().unwrap().create("Trip", image.upload.deadline).await.expect("a gallery");
    assert_eq!(gallery.id, "815");
    assert!(!format!("{gallery:?}").contains("CANARY"));
    image.upload.gallery = Some(gallery);
    image.send(&host).await.expect("an upload");
    let common = [("thumbnail_size", "2"), ("content_type", "sfw"), ("comments_enabled", "false"), ("gallery", "true")];
    let made = [&common[..], &[("gallery_token", ""), ("gallery_title", "Trip")]].concat();
    let joined = [&common[..], &[("gallery_token", "815"), ("gallery_title", "")]].concat();
    assert_eq!(site.with(|site| site.sessions.clone()), [pairs(&made), pairs(&joined)]);
}

#[tokio::test(start_paused = true)]
async fn what_imagebam_refuses_is_told_apart() {
    let table = [
        (
            json(r#"{"status":"error","message":"The file may not be greater than 25600 kilobytes."}"#),
            ErrorClass::File,
            "greater",
        ),
        (json(r#"{"status":"error","message":"strange"}"#), ErrorClass::BadResponse, "strange"),
        (html("<title>Oops</title>"), ErrorClass::BadResponse, "Oops"),
        (html(""), ErrorClass::BadResponse, "200"),
        (text("413 Payload Too Large", "", ""), ErrorClass::File, "413"),
        (
            text("422 Unprocessable Entity", "", r#"{"message":"The files.0 must be an image."}"#),
            ErrorClass::File,
            "must be",
        ),
        (text("429 Too Many Requests", "", ""), ErrorClass::RateLimited, "429"),
        (text("500 Internal Server Error", "", "CANARY-csrf-1 CANARY-data-1"), ErrorClass::BadResponse, "500"),
    ];
    for (instead, class, message) in table {
        let site = Site::start(Bam { instead: Some(instead.clone()), ..Bam::default() }, bam).await;
        let failure = Image::new(100).send(&host(site.url(), &[])).await.expect_err(&instead);
        assert_eq!(failure.class, class, "{instead}\n{failure:?}");
        assert!(failure.message.contains(message), "{}", failure.message);
        no_canary(&failure);
    }
}
