//! Galleries, covers and deleting on the hosts without sessions: pixhost, imgur, catbox.

use std::sync::Arc;

use pixchute::host::{Gallery, Host};
use pixchute::job::{ErrorClass, Links};

use crate::fake::{Request, text};
use crate::site::{Site, field, form, json, line, multipart, not_found, pairs};
use crate::{Image, a_host, no_canary};

#[derive(Default)]
struct Pixhost {
    /// Image names in the gallery.
    images: Vec<String>,
    finalized: usize,
    fake: usize,
}

fn pixhost(request: &Request, site: &mut Pixhost) -> String {
    assert_eq!(request.header("accept"), Some("application/json"));
    match line(request).0.as_str() {
        "POST /galleries" => {
            let fields = form(request);
            assert_eq!(fields.len(), 1);
            let name = field(&fields, "gallery_name").unwrap();
            json(&format!(
                r#"{{"gallery_name":"{name}","gallery_hash":"gh1","gallery_url":"https:\/\/pixhost.to\/gallery\/gh1","gallery_upload_hash":"CANARY-upload-hash"}}"#
            ))
        }
        "POST /images" => {
            let (fields, file) = multipart(request);
            let file = file.expect("a file");
            assert_eq!(file.field, "img");
            let expected = [
                ("content_type", "0"),
                ("max_th_size", "200"),
                ("gallery_hash", "gh1"),
                ("gallery_upload_hash", "CANARY-upload-hash"),
            ];
            assert_eq!(fields, pairs(&expected));
            if site.fake > 0 {
                site.fake -= 1;
                return json(
                    r#"{"name":"x","show_url":"https:\/\/pixhost.to\/show\/1\/","th_url":"https:\/\/t1.pixhost.to\/thumbs\/1\/"}"#,
                );
            }
            site.images.push(file.name.clone());
            json(&format!(
                r#"{{"name":"{0}","show_url":"https:\/\/pixhost.to\/show\/1\/7_{0}","th_url":"https:\/\/t1.pixhost.to\/thumbs\/1\/7_{0}"}}"#,
                file.name
            ))
        }
        "POST /covers" => {
            let (fields, file) = multipart(request);
            assert_eq!(file.expect("a file").field, "img_left");
            assert_eq!(fields, pairs(&[("content_type", "0")]));
            json(
                r#"{"show_url":"https:\/\/pixhost.to\/show\/1\/8_c.png","th_url":"https:\/\/t1.pixhost.to\/thumbs\/1\/8_c.png"}"#,
            )
        }
        "POST /galleries/gh1/finalize" => {
            assert_eq!(form(request), pairs(&[("gallery_upload_hash", "CANARY-upload-hash")]));
            site.finalized += 1;
            json("{}")
        }
        _ => not_found(request),
    }
}

#[tokio::test(start_paused = true)]
async fn a_gallery_of_pixhost_is_made_filled_with_both_hashes_and_finalized() {
    let site = Site::start(Pixhost { fake: 1, ..Pixhost::default() }, pixhost).await;
    let host = a_host("pixhost", site.url(), &[]);
    let mut image = Image::new(10);
    let galleries = host.galleries().expect("galleries");
    let gallery = galleries.create("", image.upload.deadline).await.expect("a gallery");
    assert_eq!((gallery.id.as_str(), gallery.name.as_str()), ("gh1", "untitled"));
    assert_eq!(gallery.url.as_deref(), Some("https://pixhost.to/gallery/gh1"));
    image.upload.gallery = Some(gallery.clone());
    // The first answer claims success and has no file name: it was not stored, and is sent again.
    let links = image.send(&host).await.expect("an upload");
    assert_eq!(links.url, "https://pixhost.to/show/1/7_x.png");
    for _ in 0..2 {
        galleries.finish(&gallery, std::slice::from_ref(&links), image.upload.deadline).await.expect("finalized");
    }
    assert_eq!(site.with(|site| (site.images.len(), site.finalized)), (1, 2));
    assert!(host.delete(&links, image.upload.deadline).is_none(), "nothing deletes on pixhost");
}

#[tokio::test]
async fn a_file_called_cover_is_a_cover_only_if_that_is_wanted() {
    let site = Site::start(Pixhost::default(), pixhost).await;
    let host = a_host("pixhost", site.url(), &[("cover", "true")]);
    let links = Image::named("COVER.png", 10).send(&host).await.expect("a cover");
    assert_eq!(links.url, "https://pixhost.to/show/1/8_c.png");
    assert_eq!(site.count("POST /covers"), 1);
}

#[tokio::test]
async fn r26_the_upload_hash_is_in_no_failure() {
    let site = Site::start((), |request: &Request, (): &mut ()| {
        let all = String::from_utf8_lossy(&request.body).into_owned();
        text("403 Forbidden", "", &format!(r#"{{"error_msg":"no: {}"}}"#, all.replace(['\r', '\n', '"'], " ")))
    })
    .await;
    let host = a_host("pixhost", site.url(), &[]);
    let mut image = Image::new(10);
    let gallery = Gallery { id: "gh1".into(), secret: Some("CANARY-upload-hash".into()), ..Gallery::default() };
    image.upload.gallery = Some(gallery.clone());
    no_canary(&image.send(&host).await.expect_err("refused"));
    let finished = host.galleries().unwrap().finish(&gallery, &[], image.upload.deadline).await;
    no_canary(&finished.expect_err("refused"));
}

#[tokio::test(start_paused = true)]
async fn r13_a_gallery_ends_at_its_deadline() {
    let silent = crate::fake::Fake::start(vec![crate::fake::Reply::SilentAfterRequest]).await;
    let host = a_host("pixhost", silent.url(), &[]);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(7);
    let failure = host.galleries().unwrap().create("Trip", deadline).await.expect_err("silence");
    assert!(tokio::time::Instant::now() <= deadline + std::time::Duration::from_millis(10));
    assert_eq!(failure.class, ErrorClass::Timeout);
}

#[derive(Default)]
struct Imgur {
    albums: Vec<Option<String>>,
    deleted: usize,
}

fn imgur(request: &Request, site: &mut Imgur) -> String {
    let authorization = request.header("authorization").unwrap();
    let anonymous = authorization == "Client-ID CANARY-client";
    assert!(anonymous || authorization == "Bearer CANARY-token", "{authorization}");
    match line(request).0.as_str() {
        "POST /3/album" => {
            assert_eq!(form(request), pairs(&[("title", "Trip"), ("privacy", "hidden")]));
            json(r#"{"data":{"id":"Alb1","deletehash":"CANARY-album-hash"},"success":true,"status":200}"#)
        }
        "POST /3/image" => {
            let (fields, file) = multipart(request);
            assert_eq!(file.expect("a file").field, "image");
            assert_eq!(field(&fields, "type"), Some("file"));
            site.albums.push(field(&fields, "album").map(str::to_owned));
            json(
                r#"{"data":{"id":"I1","deletehash":"CANARY-del","link":"https://i.imgur.com/I1.png"},"success":true,"status":200}"#,
            )
        }
        "DELETE /3/image/CANARY%2Ddel" => {
            assert!(request.body.is_empty());
            site.deleted += 1;
            match site.deleted {
                1 => json(r#"{"data":true,"success":true,"status":200}"#),
                2 => text("404 Not Found", "", r#"{"data":{"error":"gone"},"success":false,"status":404}"#),
                _ => text("403 Forbidden", "", r#"{"data":{"error":"CANARY-del CANARY-token"},"success":false}"#),
            }
        }
        _ => not_found(request),
    }
}

#[tokio::test]
async fn an_album_of_imgur_takes_images_by_id_or_by_its_delete_hash() {
    let table = [(("client_id", "CANARY-client"), "CANARY-album-hash"), (("token", "CANARY-token"), "Alb1")];
    for (option, album) in table {
        let site = Site::start(Imgur::default(), imgur).await;
        let host = a_host("imgur", site.url(), &[option]);
        let mut image = Image::new(10);
        let gallery = host.galleries().unwrap().create("Trip", image.upload.deadline).await.expect("an album");
        assert_eq!((gallery.id.as_str(), gallery.url.as_deref()), ("Alb1", Some("https://imgur.com/a/Alb1")));
        assert!(!format!("{gallery:?}").contains("CANARY"));
        image.upload.gallery = Some(gallery);
        image.send(&host).await.expect("an upload");
        assert_eq!(site.with(|site| site.albums.pop()), Some(Some(album.to_owned())));
    }
}

#[tokio::test]
async fn an_image_of_imgur_is_deleted_by_its_hash_and_what_is_gone_is_deleted() {
    let site = Site::start(Imgur::default(), imgur).await;
    let host = a_host("imgur", site.url(), &[("token", "CANARY-token")]);
    let image = Image::new(10);
    let links = image.send(&host).await.expect("an upload");
    assert!(!format!("{links:?}").contains("CANARY"));
    host.delete(&links, image.upload.deadline).unwrap().await.expect("deleted");
    host.delete(&links, image.upload.deadline).unwrap().await.expect("gone already");
    let failure = host.delete(&links, image.upload.deadline).unwrap().await.expect_err("not ours");
    assert_eq!(failure.class, ErrorClass::Account);
    no_canary(&failure);
    assert!(host.delete(&Links::default(), image.upload.deadline).is_none(), "nothing is known about it");
}

fn catbox(request: &Request, said: &mut Vec<Vec<(String, String)>>) -> String {
    assert_eq!(line(request).0, "POST /user/api.php");
    let (fields, file) = multipart(request);
    let reply = match field(&fields, "reqtype") {
        Some("fileupload") => {
            assert_eq!(file.expect("a file").field, "fileToUpload");
            "https://files.catbox.moe/abc123.png"
        }
        Some("createalbum") => "https://catbox.moe/c/al1234",
        Some("editalbum") => "https://catbox.moe/c/al1234",
        Some("deletefiles") => "Files successfully deleted.",
        other => panic!("{other:?}"),
    };
    said.push(fields);
    text("200 OK", "", reply)
}

fn two() -> Vec<Links> {
    let of = |name: &str| Links { url: format!("https://files.catbox.moe/{name}"), ..Links::default() };
    vec![of("abc123.png"), of("def456.jpg")]
}

async fn album(host: &Arc<dyn Host>, images: &[Links]) -> Gallery {
    let deadline = Image::new(1).upload.deadline;
    let galleries = host.galleries().unwrap();
    let gallery = galleries.create("Trip", deadline).await.expect("nothing to do yet");
    assert_eq!((gallery.id.as_str(), &gallery.url), ("", &None));
    let finished = galleries.finish(&gallery, images, deadline).await.expect("an album");
    assert_eq!((finished.id.as_str(), finished.url.as_deref()), ("al1234", Some("https://catbox.moe/c/al1234")));
    galleries.finish(&finished, images, deadline).await.expect("again")
}

#[tokio::test]
async fn an_album_of_catbox_is_made_of_its_files_and_edited_if_it_has_an_owner() {
    let album_fields = [("title", "Trip"), ("desc", "Trip"), ("files", "abc123.png def456.jpg")];
    let site = Site::start(Vec::new(), catbox).await;
    album(&a_host("catbox", site.url(), &[]), &two()).await;
    let create = pairs(&[&[("reqtype", "createalbum")], &album_fields[..]].concat());
    assert_eq!(site.with(std::mem::take), [create.clone(), create], "without an owner it is made again");

    let host = a_host("catbox", site.url(), &[("userhash", "CANARY-hash")]);
    album(&host, &two()).await;
    let owner = [("userhash", "CANARY-hash")];
    let create = pairs(&[&[("reqtype", "createalbum")], &owner[..], &album_fields[..]].concat());
    let edit = pairs(&[&[("reqtype", "editalbum")], &owner[..], &[("short", "al1234")], &album_fields[..]].concat());
    assert_eq!(site.with(std::mem::take), [create, edit]);
}

#[tokio::test]
async fn a_file_of_catbox_is_deleted_by_its_owner_only() {
    let site = Site::start(Vec::new(), catbox).await;
    let image = Image::new(10);
    let anonymous = a_host("catbox", site.url(), &[]);
    let links = image.send(&anonymous).await.expect("an upload");
    assert!(anonymous.delete(&links, image.upload.deadline).is_none());
    let host = a_host("catbox", site.url(), &[("userhash", "CANARY-hash")]);
    let links = image.send(&host).await.expect("an upload");
    host.delete(&links, image.upload.deadline).unwrap().await.expect("deleted");
    let said = site.with(std::mem::take).pop().unwrap();
    assert_eq!(said, pairs(&[("reqtype", "deletefiles"), ("userhash", "CANARY-hash"), ("files", "abc123.png")]));
}
