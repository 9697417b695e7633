//! `host import` and `host test` with the program itself: ShareX uploaders from a file to a link, and no secret on the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::Home;
use crate::support::host::FakeHost;

/// An uploader of the fake at `URL`, with canaries for secrets.
const UPLOADER: &str = r#"{ "Version": "12.4.1", "Name": "My pics", "DestinationType": "ImageUploader",
  "RequestMethod": "POST", "RequestURL": "URL/images?api_key=CANARYquery",
  "Headers": { "Authorization": "Bearer CANARYtoken" }, "Body": "MultipartFormData",
  "Arguments": { "content_type": "0", "password": "CANARYpassword" }, "FileFormName": "img",
  "URL": "$json:show_url$", "ThumbnailURL": "$json:th_url$", "Unknown": "x", }"#;

fn uploader(home: &Home, url: &str) -> String {
    let path = home.path("mine.sxcu");
    fs::write(&path, UPLOADER.replace("URL/", &format!("{url}/"))).expect("a file of this test");
    path.to_str().expect("UTF-8").to_owned()
}

/// Runs a command with the configuration of `home`, if it has one.
fn run(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    let config: &[&str] = if home.path("config.toml").exists() { &["--config", "config.toml"] } else { &[] };
    home.run(&[config, arguments].concat())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file of this test").permissions().mode() & 0o777
}

#[test]
fn r26_an_uploader_is_imported_shown_tried_and_used_without_its_secrets_in_sight() {
    let (home, host) = (Home::new(), FakeHost::well());
    let file = uploader(&home, &host.url());
    let config = home.write_config("");
    let (code, out, err) = run(&home, &["host", "import", &file, "--dry-run"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("era B") && out.contains("Unknown: unknown key") && !out.contains("CANARY"), "{out}");
    let hosts = config.parent().expect("a folder").join("hosts");
    assert!(!hosts.exists(), "a dry run writes nothing");

    let (code, out, err) = run(&home, &["host", "import", &file, "--name", "mine", "--write"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(!format!("{out}{err}").contains("CANARY"), "{out}{err}");
    let copy = fs::read_to_string(hosts.join("mine.sxcu")).expect("a file of this test");
    assert!(copy.contains("{secret:authorization}") && !copy.contains("CANARY"), "{copy}");
    for (name, secret) in [("authorization", "CANARYtoken"), ("api_key", "CANARYquery"), ("password", "CANARYpassword")]
    {
        let path = hosts.join("mine.secrets").join(name);
        assert_eq!((fs::read_to_string(&path).expect("a file of this test").as_str(), mode(&path)), (secret, 0o600));
    }
    let (code, _, err) = run(&home, &["host", "import", &file, "--name", "mine"]);
    assert!(code == 1 && err.contains("already"), "nothing is overwritten: {err}");

    let (code, out, err) = run(&home, &["host", "test", "mine", "--print-request"]);
    assert_eq!(code, 0, "{out}{err}");
    for line in [
        format!("POST {}/images?api_key=[secret]", host.url()),
        "Authorization: Bearer [secret]".to_owned(),
        "field content_type = \"0\"".to_owned(),
        "field password = \"[secret]\"".to_owned(),
        "file img = \"pixchute-test.png\": 71 bytes of image/png".to_owned(),
        "nothing was sent".to_owned(),
    ] {
        assert!(out.contains(&line), "{line}\n{out}");
    }
    assert!(!out.contains("CANARY") && host.accepted() == 0, "{out}");

    let (code, out, err) = run(&home, &["host", "test", "mine"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("uploaded in") && out.contains("https://pixhost.to/show/7/1_pixchute-test.png"), "{out}");
    let received = host.received();
    assert_eq!(received[0].headers["authorization"], "Bearer CANARYtoken");
    assert!(received[0].line.starts_with("POST /images?api_key=CANARYquery "), "{}", received[0].line);
    for command in [&["host", "show", "mine"][..], &["host", "list"], &["check"]] {
        let (_, out, err) = run(&home, command);
        assert!(!format!("{out}{err}").contains("CANARY"), "{command:?}: {out}{err}");
    }
}

#[test]
fn r26_a_file_used_where_it_lies_keeps_its_secrets_to_itself() {
    let (home, host) = (Home::new(), FakeHost::well());
    let file = uploader(&home, &host.url());
    let (code, out, err) = run(&home, &["host", "test", &file, "--print-request"]);
    assert!(code == 0 && out.contains("api_key=[secret]") && !format!("{out}{err}").contains("CANARY"), "{out}{err}");
    let drop = home.path("in");
    let folder = format!("[[folder]]\npath = {:?}\nhost = \"mine\"\n", drop.to_str().expect("UTF-8"));
    home.write_config(&format!("{folder}[host.mine]\nrecipe = \"sxcu:{file}\"\n"));
    let (code, out, err) = run(&home, &["check"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("holds secrets (api_key, authorization, password)"), "{out}");
    assert!(out.contains("Unknown: unknown key, ignored") && !out.contains("CANARY"), "{out}");
}

#[test]
fn every_recipe_shows_its_requests_and_what_cannot_be_tried_says_why() {
    let home = Home::new();
    let config = |text: &str| home.write_config(text);
    config("[host.imgbb]\napi_key = \"CANARYimgbb\"\n");
    let (code, out, err) = run(&home, &["host", "test", "imgbb", "--print-request"]);
    assert!(code == 0 && out.contains("POST https://api.imgbb.com/1/upload") && !out.contains("CANARY"), "{out}{err}");
    let (code, out, err) = run(&home, &["host", "test", "pixhost", "--print-request"]);
    assert!(code == 0 && out.contains("field content_type = \"0\"") && out.contains("Content-Length"), "{out}{err}");
    let (code, _, err) = run(&home, &["host", "test", "nothing", "--print-request"]);
    assert!(code == 78 && err.contains("there is no recipe `nothing`"), "{err}");
    let text = home.path("text.png");
    fs::write(&text, "no image").expect("a file of this test");
    let (code, _, err) = run(&home, &["host", "test", "pixhost", text.to_str().expect("UTF-8")]);
    assert!(code == 1 && err.contains("text.png"), "{err}");
    let shortener = home.path("short.sxcu");
    fs::write(
        &shortener,
        r#"{ "Version": "14.0.0", "RequestURL": "https://h.example/", "Body": "JSON", "Data": "{}" }"#,
    )
    .expect("a file of this test");
    let (code, out, _) = run(&home, &["host", "import", shortener.to_str().expect("UTF-8"), "--dry-run"]);
    assert!(code == 0 && out.contains("cannot be a host for images"), "it loads: {out}");
    let (code, _, err) = run(&home, &["host", "import", shortener.to_str().expect("UTF-8")]);
    assert!(code == 1 && err.contains("does not carry the image"), "{err}");
    fs::write(&shortener, r#"{ "RequestURL": [], "URL": "{nope}" }"#).expect("a file of this test");
    let (code, _, err) = run(&home, &["host", "import", shortener.to_str().expect("UTF-8")]);
    assert!(code == 1 && err.contains("RequestURL: expected string, got array"), "{err}");
}
