use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config;
use crate::record::Status;

/// A record with a link.
pub(in crate::render) fn record(file: &str) -> Record {
    let line = format!(
        r#"{{"v":1,"seq":1,"job":"01JDAXTQ9Z0000000000000000","at":"2026-11-23T12:00:00.123Z","status":"uploaded",
        "file":"x","folder":"/home/a/Drop","host":"pixhost","url":"https://h.example/show/1","thumb":"https://t.example/1.jpg",
        "image":null,"delete_url":"https://h.example/delete/1","album":null,"album_url":null,"bytes":100,"mime":"image/jpeg",
        "width":1600,"height":1067,"blake3":null,"attempts":1,"requeues":0,"duration_ms":812,"moved_to":"done/{}"}}"#,
        "x"
    );
    let mut record = Record::parse(line.replace('\n', "").as_bytes()).expect("a record");
    record.file = file.to_owned();
    record
}

fn without_thumb(file: &str, image: Option<&str>) -> Record {
    Record { thumb: None, image: image.map(ToOwned::to_owned), ..record(file) }
}

pub(in crate::render) fn list(files: Vec<Record>) -> List {
    List {
        files: files.into_iter().map(Arc::new).collect(),
        album: Album::default(),
        folder: "/home/a/Drop".into(),
        failed: 0,
        now: WallTime::from_millis(1_764_000_000_000),
    }
}

/// The format of a template in a configuration.
fn formats(tables: &str) -> Result<Formats, String> {
    let config = config::parse(tables, Some(Path::new("/c.toml"))).map_err(|error| error.to_string())?;
    Formats::from_config(&config).map_err(|problems| config.rejected(problems).to_string())
}

/// What a template makes of a list.
fn rendered(keys: &str, list: &List) -> String {
    let formats = formats(&format!("[template.t]\n{keys}\n")).expect("a good template");
    formats.find("t").expect("known").list(list).expect("rendered")
}

/// Why a template is refused.
fn refused(keys: &str) -> String {
    formats(&format!("[template.t]\n{keys}\n")).expect_err("a bad template")
}

#[test]
fn the_built_in_formats_are_the_usual_ones() {
    let formats = Formats::builtin();
    let one = |name: &str, record: &Record| formats.one(name, record, WallTime::from_millis(0)).expect("built in");
    let full = record("trip/IMG_1.jpg");
    assert_eq!(one("bbcode", &full), "[url=https://h.example/show/1][img]https://t.example/1.jpg[/img][/url]\n");
    assert_eq!(one("markdown", &full), "[![IMG_1.jpg](https://t.example/1.jpg)](https://h.example/show/1)\n");
    assert_eq!(
        one("html", &full),
        "<a href=\"https://h.example/show/1\"><img src=\"https://t.example/1.jpg\" alt=\"IMG_1.jpg\"></a>\n"
    );
    assert_eq!((one("urls", &full).as_str(), one("url", &full)), ("https://h.example/show/1\n", one("urls", &full)));
    assert_eq!(one("json", &full), full.line());

    let bare = without_thumb("a.jpg", None);
    assert_eq!(one("bbcode", &bare), "[url]https://h.example/show/1[/url]\n");
    assert_eq!(
        one("bbcode", &without_thumb("a.jpg", Some("https://i.example/1.jpg"))),
        "[img]https://i.example/1.jpg[/img]\n"
    );
    assert_eq!(one("markdown", &bare), "[a.jpg](https://h.example/show/1)\n");
    assert_eq!(one("html", &bare), "<a href=\"https://h.example/show/1\">a.jpg</a>\n");

    let failed = Record { url: None, status: Status::Failed, ..record("a.jpg") };
    assert_eq!((one("bbcode", &failed).as_str(), one("json", &failed)), ("", failed.line()));
}

#[test]
fn the_built_in_formats_say_the_same_as_their_templates() {
    let hostile = "a[1](2)<b>\"'&_*`\\\u{202e}\n.jpg";
    let odd = "https://h.example/a(1)[2]'\"<>?x=1&y=[2]";
    let list = list(vec![
        record("trip/IMG_1.jpg"),
        record(hostile),
        without_thumb(hostile, None),
        without_thumb("b.jpg", Some(odd)),
        Record { url: Some(odd.to_owned()), thumb: Some(odd.to_owned()), ..record("c.jpg") },
    ]);
    for name in FORMATS {
        let builtin = Formats::builtin().find(name).expect("built in");
        let source = builtin.source().expect("a template").to_owned();
        let template = Template::new(name, source, builtin.escape()).expect("a good template");
        assert_eq!(builtin.list(&list).expect("rendered"), template.render(&list).expect("rendered"), "{name}");
    }
}

#[test]
fn a_template_sees_every_field_the_album_the_folder_and_the_totals() {
    let mut list = list(vec![record("trip/IMG_1.jpg"), without_thumb("trip/IMG_2.jpg", None)]);
    list.album = Album {
        name: Some("2026/trip".into()),
        url: Some("https://h.example/g/7".into()),
        id: Some("7".into()),
        cover: None,
    };
    list.failed = 3;
    let fields = view::FILE.iter().map(|field| format!("{field}={{{{ f.{field} }}}}")).collect::<Vec<_>>().join("|");
    let text = rendered(&format!("text = '''{{% for f in files %}}{fields}\n{{% endfor %}}'''"), &list);
    assert_eq!(
        text.lines().next().expect("a line"),
        "v=1|seq=1|job=01JDAXTQ9Z0000000000000000|at=2026-11-23T12:00:00.123Z|status=uploaded|file=trip/IMG_1.jpg|file_bytes=\
         |folder=/home/a/Drop|host=pixhost|url=https://h.example/show/1|thumb=https://t.example/1.jpg|image=\
         |delete_url=https://h.example/delete/1|delete_token=|stripped=False|album=|album_url=|bytes=100|mime=image/jpeg|width=1600|height=1067|blake3=\
         |attempts=1|requeues=0|duration_ms=812|moved_to=done/x|error=|mirrors=[]|removed_at=|name=IMG_1.jpg|stem=IMG_1|extension=jpg|duration=0.812|number=1"
    );
    let text = rendered(
        "text = '''{{ album.name }} {{ album.title }} {{ album.url }} {{ album.id }} {{ album.cover }} {{ folder }} {{ folder.name }} \
         {{ totals.count }} {{ totals.bytes }} {{ totals.uploaded }} {{ totals.linked }} {{ totals.failed }} {{ now }}'''",
        &list,
    );
    assert_eq!(
        text,
        "2026/trip trip https://h.example/g/7 7 https://t.example/1.jpg /home/a/Drop Drop 2 200 2 0 3 2025-11-24T16:00:00.000Z\n"
    );
}

#[test]
fn a_template_about_one_file_is_rendered_for_each() {
    let list = list(vec![record("a.jpg"), record("b.jpg")]);
    assert_eq!(
        rendered("text = '{{ file.number }}/{{ totals.count }} {{ file.name }}'", &list),
        "1/2 a.jpg\n2/2 b.jpg\n"
    );
    let message = refused("text = '{{ file.name }} of {{ files|length }}'");
    assert!(message.contains("uses `file`") && message.contains("also `files`"), "{message}");
}

#[test]
fn values_are_escaped_for_the_language_of_the_template() {
    let list = list(vec![record("[b]<i>_x_.jpg")]);
    let body = "text = '{{ file.name }} {{ file.url }}'\n";
    let link = "https://h.example/show/1\n";
    let cases = [
        ("escape = 'html'", "[b]&lt;i&gt;_x_.jpg"),
        ("escape = 'bbcode'", "(b)<i>_x_.jpg"),
        ("escape = 'markdown'", r"\[b\]\<i\>\_x\_.jpg"),
        ("escape = 'none'", "[b]<i>_x_.jpg"),
        ("extension = 'html'", "[b]&lt;i&gt;_x_.jpg"),
        ("extension = 'md'", r"\[b\]\<i\>\_x\_.jpg"),
        ("", "[b]<i>_x_.jpg"),
    ];
    for (keys, name) in cases {
        assert_eq!(rendered(&format!("{body}{keys}"), &list), format!("{name} {link}"), "{keys}");
    }
    // By its markup.
    assert_eq!(
        rendered("text = '[url={{ file.url }}]{{ file.name }}[/url]'", &list),
        "[url=https://h.example/show/1](b)<i>_x_.jpg[/url]\n"
    );
    assert!(rendered("text = '<a href=\"{{ file.url }}\">{{ file.name }}</a>'", &list).contains("&lt;i&gt;"));
    // By hand, and once only.
    let by_hand = "escape = 'html'\ntext = '''{% set name %}{{ file.name }}{% endset %}{{ name }} {{ file.name|e }} {{ file.name|safe }} \
                   {{ file.name|bbcode }}{% autoescape false %} {{ file.name }}{% endautoescape %}'''";
    assert_eq!(
        rendered(by_hand, &list),
        "[b]&lt;i&gt;_x_.jpg [b]&lt;i&gt;_x_.jpg [b]<i>_x_.jpg (b)<i>_x_.jpg [b]<i>_x_.jpg\n"
    );
}

#[test]
fn links_that_are_no_web_addresses_are_not_printed() {
    let evil =
        Record { thumb: Some("javascript:alert(1)".into()), image: Some("https://u:p@h/".into()), ..record("a.jpg") };
    let list = list(vec![evil]);
    assert_eq!(
        rendered("text = '{{ file.thumb }}|{{ file.image }}|{{ file.url }}'", &list),
        "||https://h.example/show/1\n"
    );
    assert_eq!(
        Formats::builtin().find("bbcode").expect("built in").list(&list).expect("text"),
        "[url]https://h.example/show/1[/url]\n"
    );
}

#[test]
fn mistakes_are_told_with_template_line_and_what_is_accepted() {
    let cases = [
        ("text = '''a\n{% for f in files %}x'''", "template.t.text: line 2: syntax error"),
        ("text = '''a\n{{ fiels }}'''", "line 2: there is no variable `fiels`, expected one of files, file, album"),
        ("text = '''a\n{{ fiels }}'''", "did you mean `files`?"),
        ("text = '{{ thumb }}'", "write `file.thumb`"),
        ("text = '{{ file.thmub }}'", "did you mean `file.thumb`?"),
        ("text = '{{ album.link }}'", "`album` has no field `link`, expected one of name, url, id, cover, title"),
        ("text = '''{% for f in files %}\n{{ f.thmub }}{% endfor %}'''", "line 2: `f.thmub` is undefined"),
        ("text = '''{% for f in files %}\n{{ f.thmub }}{% endfor %}'''", "did you mean `thumb`?"),
        ("text = '{{ file.name|nope }}'", "nope"),
        ("text = '{{ files[99].url }}'", "is undefined"),
        (
            "text = '{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}'",
            "too much time or memory",
        ),
        ("text = '{{ \"x\" * 999999999 }}'", "too much time or memory"),
        ("file = '/nowhere/x.jinja'", "template.t.file: /nowhere/x.jinja cannot be read"),
    ];
    for (keys, expected) in cases {
        let message = refused(keys);
        assert!(message.contains(expected), "{keys}\n{message}");
        assert!(message.starts_with("/c.toml:2:8: template.t."), "{message}");
    }
}

#[test]
fn a_template_may_lie_in_a_file() {
    let dir = tempfile::tempdir().expect("temp");
    std::fs::write(dir.path().join("t.jinja"), "{{ file.url }};").expect("written");
    let config = config::parse("[template.t]\nfile = 't.jinja'\n", Some(&dir.path().join("c.toml"))).expect("valid");
    let formats = Formats::from_config(&config).expect("good");
    assert_eq!(formats.one("t", &record("a"), WallTime::from_millis(0)).expect("text"), "https://h.example/show/1;\n");
}

#[test]
fn an_unknown_format_is_told_with_what_there_is() {
    let formats = formats("[template.forum]\ntext = 'x'\n").expect("good");
    assert_eq!(
        formats.find("bbcod").expect_err("unknown").to_string(),
        "there is no format \"bbcod\", expected \"bbcode\", \"markdown\", \"html\", \"urls\", \"forum\", \"url\", \"json\"; did you mean \"bbcode\"?"
    );
    assert_eq!(formats.names().collect::<Vec<_>>(), ["bbcode", "markdown", "html", "urls", "forum"]);
}
