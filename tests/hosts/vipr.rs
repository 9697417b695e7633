//! vipr.im: login, session page, the two halves of an upload, folders.

use pixchute::job::ErrorClass;

use crate::fake::{Request, text};
use crate::site::{
    Fields, PASSWORD, SentFile, Site, USER, cookies, field, form, html, line, multipart, not_found, pairs, redirect,
};
use crate::{Image, a_host, no_canary};

const SESS_ID: &str = "CANARY-sess-id";
const COOKIE: &str = "CANARY-xfss";

#[derive(Default)]
struct Vipr {
    logins: usize,
    uploads: usize,
    /// The session ends after so many uploads.
    expire_after: Option<usize>,
    upload_ids: Vec<String>,
    /// Sent instead of the answer to an upload.
    instead: Option<String>,
    st: Option<String>,
    folders: Vec<String>,
    saw: Vec<(Fields, SentFile)>,
}

const LOGIN_FORM: &str = r#"<form><input type=hidden name="op" value="login"><input name=login></form>"#;

fn vipr(request: &Request, site: &mut Vipr) -> String {
    let cookie = format!("{COOKIE}-{}", site.logins);
    let logged_in = cookies(request).get("xfss").is_some_and(|value| *value == cookie);
    let (line, query) = line(request);
    match line.as_str() {
        "GET /" if query.get("op").map(String::as_str) == Some("my_files") => folders(site),
        "GET /" if logged_in => html(&format!(
            r#"<a href="/?op=logout">out</a><form name="file" action="/cgi-bin/upload.cgi?upload_id=" method=post>
            <input type="hidden" name="sess_id" value="{SESS_ID}-{}"></form>"#,
            site.logins
        )),
        "GET /" => html(LOGIN_FORM),
        "POST /" => {
            let fields = form(request);
            match field(&fields, "op") {
                Some("login") => {
                    let right = pairs(&[("op", "login"), ("login", USER), ("password", PASSWORD)]);
                    site.logins += 1;
                    if fields != right {
                        return html(&format!("Incorrect Login or Password {LOGIN_FORM}"));
                    }
                    redirect("/", &format!("Set-Cookie: xfss={COOKIE}-{}; path=/\r\n", site.logins))
                }
                Some("upload_result") => {
                    assert!(logged_in);
                    let code = field(&fields, "fn").unwrap().to_owned();
                    let expected = [("op", "upload_result"), ("fn", code.as_str()), ("st", "OK"), ("per_row", "750")];
                    assert_eq!(fields, pairs(&expected));
                    html(&format!(
                        r#"<textarea>[URL=https://vipr.im/{code}][IMG]https://i7.vipr.im/th/1/{code}.jpg[/IMG][/URL]</textarea>"#
                    ))
                }
                Some("my_files") => {
                    let name = field(&fields, "create_new_folder").unwrap().to_owned();
                    let expected = [
                        ("op", "my_files"),
                        ("fld_id", "0"),
                        ("sort_field", "file_created"),
                        ("sort_order", "down"),
                        ("export_mode", ""),
                        ("domain", "vipr.im"),
                        ("create_new_folder", &name),
                    ];
                    assert_eq!(fields, pairs(&expected));
                    site.folders.push(name);
                    folders(site)
                }
                other => panic!("op {other:?}"),
            }
        }
        "POST /cgi-bin/upload.cgi" => upload(request, site, &query, logged_in),
        _ => not_found(request),
    }
}

fn folders(site: &Vipr) -> String {
    let row = |(at, name): (usize, &String)| {
        let id = 70 + at;
        format!(
            r#"<a href="?op=my_files;fld_id={id}"><b>{name}</b></a> <a href="https://vipr.im/p/me/{id}/{name}">public</a>
            <a href="?op=my_files&amp;fld_id=0&amp;del_folder={id}">delete</a>"#
        )
    };
    html(&site.folders.iter().enumerate().map(row).collect::<String>())
}

fn upload(
    request: &Request,
    site: &mut Vipr,
    query: &std::collections::BTreeMap<String, String>,
    logged_in: bool,
) -> String {
    assert_eq!(request.header("referer"), Some(format!("http://{}/", request.header("host").unwrap()).as_str()));
    let id = query["upload_id"].clone();
    assert!(id.len() == 12 && id.chars().all(|c| c.is_ascii_digit()), "{id}");
    assert!(!site.upload_ids.contains(&id), "an upload_id twice");
    site.upload_ids.push(id);
    assert_eq!(query.len(), 4);
    assert_eq!((query["js_on"].as_str(), query["utype"].as_str(), query["upload_type"].as_str()), ("1", "reg", "file"));
    let (fields, file) = multipart(request);
    let file = file.expect("a file");
    assert_eq!(file.field, "file_0");
    if site.expire_after.take_if(|after| site.uploads >= *after).is_some() {
        // The old cookie and sess_id are worth nothing from now on.
        return html(
            "<form><textarea name='op'>upload_result</textarea><textarea name='fn'></textarea><textarea name='st'>Session expired</textarea></form>",
        );
    }
    assert!(logged_in);
    assert_eq!(field(&fields, "sess_id"), Some(format!("{SESS_ID}-{}", site.logins).as_str()));
    if let Some(instead) = &site.instead {
        return instead.clone();
    }
    site.uploads += 1;
    site.saw.push((fields, file));
    let st = site.st.as_deref().unwrap_or("OK");
    html(&format!(
        "<HTML><BODY onLoad=\"document.F1.submit();\"><form name='F1' action='https://vipr.im/' method='POST'>\
         <textarea name='op'>upload_result</textarea><textarea name='fn'>code{}</textarea><textarea name='st'>{st}</textarea>\
         <textarea name='per_row'>750</textarea></form>",
        site.uploads
    ))
}

fn account(url: String, more: &[(&str, &str)]) -> std::sync::Arc<dyn pixchute::host::Host> {
    let mut options = vec![("user", USER), ("password", PASSWORD)];
    options.extend(more);
    a_host("vipr", url, &options)
}

#[tokio::test]
async fn vipr_logs_in_once_and_sends_both_halves_of_every_upload() {
    let site = Site::start(Vipr::default(), vipr).await;
    let host = account(site.url(), &[("thumb_size", "300x300"), ("folder", "12")]);
    assert_eq!(host.max_parallel(), Some(1));
    for n in 1..=3 {
        let image = Image::named("my pic.png", 700 + n);
        let links = image.send(&host).await.expect("an upload");
        assert_eq!(links.url, format!("https://vipr.im/code{n}"));
        assert_eq!(links.thumb, Some(format!("https://i7.vipr.im/th/1/code{n}.jpg")));
        assert_eq!(links.image, None);
        let (fields, file) = site.with(|site| site.saw.pop()).unwrap();
        let sess_id = format!("{SESS_ID}-1");
        let expected = [
            ("upload_type", "file"),
            ("sess_id", sess_id.as_str()),
            ("thumb_size", "300x300"),
            ("fld_id", "12"),
            ("per_row", "750"),
            ("sdomain", "vipr.im"),
            ("tos", "1"),
            ("submit_btn", "Upload"),
        ];
        assert_eq!(fields, pairs(&expected));
        assert_eq!(file.name, "my_pic.png");
        assert!(file.data == image.bytes);
    }
    assert_eq!(site.with(|site| site.logins), 1);
    assert_eq!(site.count("POST /cgi-bin/upload.cgi"), 3);
}

#[tokio::test]
async fn eight_uploads_at_once_are_one_login() {
    let site = Site::start(Vipr::default(), vipr).await;
    let host = account(site.url(), &[]);
    let images: Vec<Image> = (0..8).map(|n| Image::new(100 + n)).collect();
    let all = futures_util::future::join_all(images.iter().map(|image| image.send(&host))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(site.with(|site| (site.logins, site.uploads)), (1, 8));
}

#[tokio::test]
async fn a_session_that_expires_is_renewed_once_and_no_file_is_lost() {
    let site = Site::start(Vipr { expire_after: Some(2), ..Vipr::default() }, vipr).await;
    let host = account(site.url(), &[]);
    for _ in 0..5 {
        Image::new(100).send(&host).await.expect("an upload");
    }
    assert_eq!(site.with(|site| (site.logins, site.uploads)), (2, 5));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_the_account_and_is_not_tried_again() {
    let site = Site::start(Vipr::default(), vipr).await;
    let host = a_host("vipr", site.url(), &[("user", USER), ("password", "CANARY-wrong")]);
    let images: Vec<Image> = (0..8).map(|n| Image::new(100 + n)).collect();
    for result in futures_util::future::join_all(images.iter().map(|image| image.send(&host))).await {
        let failure = result.expect_err("a wrong password");
        assert_eq!(failure.class, ErrorClass::Account);
        assert!(failure.message.contains("did not accept the login"), "{}", failure.message);
        assert!(failure.advice.as_ref().unwrap().contains("password in [host.vipr]"));
        no_canary(&failure);
    }
    Image::new(1).send(&host).await.expect_err("still wrong");
    assert_eq!(site.with(|site| site.logins), 1);
}

#[tokio::test(start_paused = true)]
async fn what_vipr_refuses_is_told_apart() {
    let refused = |st: &str| {
        html(&format!(
            "<form><textarea name='op'>upload_result</textarea><textarea name='fn'></textarea><textarea name='st'>{st}</textarea></form>"
        ))
    };
    let table = [
        (refused("unallowed extension"), ErrorClass::File, "unallowed extension"),
        (refused("File is too big"), ErrorClass::File, "too big"),
        (refused("strange"), ErrorClass::BadResponse, "strange"),
        (text("413 Payload Too Large", "", ""), ErrorClass::File, "413"),
        (text("429 Too Many Requests", "Retry-After: 60\r\n", ""), ErrorClass::RateLimited, "429"),
        (text("429 Too Many Requests", "", "<html>"), ErrorClass::RateLimited, "429"),
        (
            text("520 Unknown", "", "<title>vipr.im | 520: Web server is returning an unknown error</title>"),
            ErrorClass::BadResponse,
            "520",
        ),
        (html("<title>DDoS-Guard</title>"), ErrorClass::BadResponse, "DDoS-Guard"),
        (text("403 Forbidden", "", "<title>Just a moment...</title>"), ErrorClass::BadResponse, "Just a moment"),
        (html(""), ErrorClass::BadResponse, "200"),
        (text("503 Service Unavailable", "", CANARIES), ErrorClass::BadResponse, "503"),
    ];
    for (instead, class, message) in table {
        let site = Site::start(Vipr { instead: Some(instead.clone()), ..Vipr::default() }, vipr).await;
        let failure = Image::new(100).send(&account(site.url(), &[])).await.expect_err(&instead);
        assert_eq!(failure.class, class, "{instead}\n{failure:?}");
        assert!(failure.message.contains(message), "{}", failure.message);
        no_canary(&failure);
        assert_eq!(site.with(|site| site.logins), 1);
    }
}

/// A page that repeats every secret.
const CANARIES: &str = "CANARY-user@h CANARY-pa&amp;ss&quot;word CANARY-sess-id-1 CANARY-xfss-1";

#[tokio::test]
async fn a_folder_of_vipr_is_a_gallery() {
    let site = Site::start(Vipr { folders: vec!["other".into()], ..Vipr::default() }, vipr).await;
    let host = account(site.url(), &[]);
    let deadline = Image::new(1).upload.deadline;
    let gallery = host.galleries().unwrap().create("Trip to É", deadline).await.expect("a folder");
    assert_eq!(gallery.id, "71");
    assert_eq!(gallery.url.as_deref(), Some("https://vipr.im/p/me/71/Trip%20to%20%C3%89"));
    let mut image = Image::new(100);
    image.upload.gallery = Some(gallery.clone());
    let links = image.send(&host).await.expect("an upload");
    assert_eq!(field(&site.with(|site| site.saw.pop()).unwrap().0, "fld_id"), Some("71"));
    let finished = host.galleries().unwrap().finish(&gallery, &[links], deadline).await.expect("nothing to do");
    assert_eq!(finished, gallery);
    assert_eq!(site.with(|site| site.logins), 1);
}
