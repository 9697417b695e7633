use reqwest::header::HeaderMap;
use secrecy::ExposeSecret;

use super::expression;
use super::syntax::{Findings, Place, Text, parse};
use super::*;
use crate::host::recipe::template::{RenderError, Scope};
use crate::host::recipe::{Answer, BodySpec};

fn text_at(place: Place, text: &str) -> (Text, Findings) {
    let mut found = Findings::default();
    let parsed = parse("URL", text, place, &mut found);
    (parsed, found)
}

fn scope(name: &str) -> Scope {
    let mut scope = Scope { base_url: "https://h.example".into(), ..Scope::default() };
    scope.file.insert("name".into(), name.into());
    scope.file.insert("mime".into(), "image/png".into());
    scope.options.insert("token".into(), "s3cret".into());
    scope.content = Some("QUJD".into());
    scope
}

fn answer(body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("location", "https://h.example/moved".parse().expect("a value"));
    headers.append("x-two", "a".parse().expect("a value"));
    headers.append("x-two", "b".parse().expect("a value"));
    let mut answer = Answer::new(200, headers, body.as_bytes());
    answer.url = "https://h.example/final?x=1".into();
    answer
}

/// What `text` is in the field `URL` after an answer of `body`, before it is taken for a link.
fn after(text: &str, body: &str) -> Result<String, RenderError> {
    let (parsed, found) = text_at(Place::Response, text);
    assert_eq!(found.mistakes, [""; 0], "{text}");
    expression::value("URL", parsed).render_after(&scope("a b.png"), Some(&answer(body)))
}

fn before(text: &str) -> String {
    let (parsed, found) = text_at(Place::Argument, text);
    assert_eq!(found.mistakes, [""; 0], "{text}");
    expression::value("Arguments.x", parsed).render(&scope("a b.png")).expect(text)
}

#[test]
fn sxcu_6_2_escaping() {
    let table = [
        (r"\{\}\|", "{}|"),
        (r"\\", r"\"),
        (r"\a", "a"),
        (r"x\", "x"),
        (r"{base64:user:pass}", "dXNlcjpwYXNz"),
        (r"{base64:a\|b}", "YXxi"),
        ("  {base64: a }  ", "  IGEg  "),
        (r"100\%discount", "100%discount"),
        (r"\\%n", "\\\n"),
    ];
    for (text, expected) in table {
        assert_eq!(before(text), expected, "{text}");
    }
    let body = "v=12 a=345 b";
    for (text, expected) in [(r"{regex:\\d+}", "12"), (r"{regex:b\|a}", "a"), (r"{regex:[0-9]\{3\}}", "345")] {
        assert_eq!(after(text, body).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn sxcu_6_3_corner_cases_do_what_sharex_does_and_are_noted() {
    let json = r#"{"x":"1","a":"A"}"#;
    let table = [
        ("a|b", "a", 1),
        ("a}b{json:x}", "a", 1),
        ("{json:a", "A", 1),
        ("{responseurl|response}c", "https://h.example/final?x=1{\"x\":\"1\",\"a\":\"A\"}", 1),
        ("{json:}", "", 0),
        ("{json:{response}|x}", "1", 0),
        ("{json:nope}", "", 0),
        ("{header:None}", "", 0),
    ];
    for (text, expected, notes) in table {
        assert_eq!(after(text, json).as_deref(), Ok(expected), "{text}");
        assert_eq!(text_at(Place::Response, text).1.notes.len(), notes, "{text}");
    }
    let (parsed, _) = text_at(Place::Response, "{random:a|}");
    let drawn = expression::value("URL", parsed).render_after(&scope("x"), Some(&answer(""))).expect("drawn");
    assert!(drawn == "a" || drawn.is_empty(), "two parameters, one empty");
}

#[test]
fn sxcu_6_3_mistakes_are_found_when_the_file_is_read() {
    let table = [
        ("{}", "column 1: Function name cannot be empty"),
        ("ab{unknown:x}", "column 3: Invalid function name: unknown"),
        ("{regex:[0-9]{3}}", "column 13: Invalid function name: 3"),
        ("{ json:x}", "column 1: Invalid function name:  json"),
        ("{json}", "column 1: Minimum parameter count for function \"json\" is 1"),
        ("{random:a}", "column 1: Minimum parameter count for function \"random\" is 2"),
        ("{{random:json|xml}:a}", "column 1: a function's name cannot be worked out by another function"),
        ("{secret:}", "column 1: `{secret:NAME}` needs a plain name"),
        ("{base64file}", "column 1: `{base64file}` can stand in Data and Arguments only"),
    ];
    for (text, expected) in table {
        assert_eq!(text_at(Place::Response, text).1.mistakes, [format!("URL: {expected}")], "{text}");
    }
    for text in [
        "{response}",
        "{responseurl}",
        "{header:X}",
        "{json:x}",
        "{xml:/x}",
        "{regex:x}",
        "{regex:x|1}",
        "{outputbox:x}",
    ] {
        for place in [Place::Url, Place::Request, Place::Argument] {
            let mistakes = text_at(place, text).1.mistakes;
            assert!(mistakes.len() == 1 && mistakes[0].contains("reads the answer"), "{text}: {mistakes:?}");
        }
    }
    for text in [r#"{json:{base64:e30=}|x}"#, "{xml:a|/x}", "{regex:a|b|1}", "{inputbox}", "{select:a}"] {
        assert_eq!(text_at(Place::Request, text).1.mistakes, [""; 0], "{text}");
    }
    let deep = "{base64:".repeat(40) + "x" + &"}".repeat(40);
    assert!(text_at(Place::Request, &deep).1.mistakes[0].contains("too deep"));
}

#[test]
fn sxcu_6_4_functions_after_the_answer() {
    let json = r#"{"success":true,"n":12,"date":"2024-05-01T10:00:00Z","files":[{"url":"u"}],"o":{"k":null}}"#;
    let table = [
        ("{filename}", "a b.png"),
        ("{input}", ""),
        ("{response}", json),
        ("{responseurl}", "https://h.example/final?x=1"),
        ("{header:Location}", "https://h.example/moved"),
        ("{HEADER:location}", "https://h.example/moved"),
        ("{header:X-Two}", "a,b"),
        ("{json:files[0].url}", "u"),
        ("{json:success}", "true"),
        ("{json:n}", "12"),
        ("{json:date}", "2024-05-01T10:00:00Z"),
        ("{json:o.k}", ""),
        ("{regex:\"n\":(\\\\d+)}", "\"n\":12"),
        ("{regex:\"n\":(\\\\d+)|1}", "12"),
        ("{regex:\"n\":(?<n>\\\\d+)|n}", "12"),
        ("{regex:nope|1}", ""),
        ("{regex:{json:date}|\\\\d+-\\\\d+|}", "2024-05"),
        ("{regex:abc|b(c)|1}", "c"),
        ("{secret:token}", "s3cret"),
        ("{outputbox:Title|text}", ""),
    ];
    for (text, expected) in table {
        assert_eq!(after(text, json).as_deref(), Ok(expected), "{text}");
    }
    assert_eq!(after("{xml:/r/u[2]}", "<r><u>1</u><u>2</u></r>").as_deref(), Ok("2"));
    assert_eq!(after("{xml:<r><u>x</u></r>|//u}", "").as_deref(), Ok("x"));
    for (text, body) in [("{json:o}", json), ("{json:files}", json), ("{json:a}", "<html>"), ("{xml://a}", "no xml")] {
        assert!(matches!(after(text, body), Err(RenderError::Failed(key, _)) if key == "URL"), "{text}");
    }
}

#[test]
fn sxcu_6_4_functions_before_the_answer() {
    let table = [
        ("{filename}", "a b.png"),
        ("{input}", ""),
        ("{base64:{filename}}", "YSBiLnBuZw=="),
        ("{secret:token}", "s3cret"),
        ("{base64file}", "QUJD"),
        ("{DataURI}", "data:image/png;base64,QUJD"),
        ("{random:a|a}", "a"),
    ];
    for (text, expected) in table {
        assert_eq!(before(text), expected, "{text}");
    }
    let draws: std::collections::BTreeSet<String> = (0..40)
        .map(|seed| {
            let draw = crate::host::recipe::Draw::fixed([seed; 16], crate::clock::WallTime::from_millis(0));
            let template = expression::value("Arguments.x", text_at(Place::Argument, "{random:a|b|c}").0);
            let scope = Scope { draw, ..scope("x") };
            assert_eq!(template.render(&scope), template.render(&scope), "once for each attempt");
            template.render(&scope).expect("drawn")
        })
        .collect();
    assert_eq!(draws.len(), 3, "every one is drawn");
}

fn sxcu(text: &str) -> Sxcu {
    Sxcu::read(text).expect(text)
}

fn recipe(text: &str) -> Recipe {
    sxcu(text).recipe("mine", &BTreeMap::new()).expect(text)
}

fn address(text: &str, name: &str) -> String {
    let recipe = recipe(text);
    let base_url = recipe.base_url.clone().expect("a site");
    recipe.steps[0].url.render(&Scope { base_url, ..scope(name) }).expect("an address")
}

#[test]
fn sxcu_4_the_address_and_its_query() {
    let file = |fields: &str| format!(r#"{{ "Version": "17.0.0", "Body": "Binary", {fields} }}"#);
    let table = [
        (r#""RequestURL": "https://h.example/in/{filename}""#, "https://h.example/in/%C3%A4%20%26.png"),
        (r#""RequestURL": "h.example/up""#, "https://h.example/up"),
        (
            r#""RequestURL": "https://h.example/up?k=1", "Parameters": { "n": "{filename}", "e": "", "z": "a b/c~(1)!" }"#,
            "https://h.example/up?n=%c3%a4+%26.png&e&z=a+b%2fc%7e(1)!&k=1",
        ),
        (r#""RequestURL": "https://h.example/%y/{base64:%y}""#, "https://h.example/%y/JXk="),
        (r#""RequestURL": "https://h.example/up", "Parameters": { "y": "%y" }"#, "https://h.example/up?y=1970"),
    ];
    for (fields, expected) in table {
        assert_eq!(address(&file(fields), "ä &.png"), expected, "{fields}");
    }
    let moved = recipe(&file(r#""RequestURL": "https://h.example/in/{filename}?a=1""#));
    let there = Scope { base_url: "http://127.0.0.1:9/sub".into(), ..scope("x.png") };
    assert_eq!(
        moved.steps[0].url.render(&there).as_deref(),
        Ok("http://127.0.0.1:9/sub/in/x.png?a=1"),
        "base_url wins"
    );
    let drawn = recipe(&file(r#""RequestURL": "https://{random:u1|u2}.h.example/up""#));
    assert_eq!((drawn.base_url.as_deref(), drawn.sites.len()), (Some("https://u1.h.example"), 1));
}

#[test]
fn sxcu_4_special_headers() {
    let read = sxcu(
        r#"{ "Version": "17.0.0", "RequestURL": "https://alice:p%40ss1@h.example/up", "Body": "MultipartFormData",
             "FileFormName": "f", "Headers": { "Content-Type": "application/json", "Content-Length": "5", "Host": "evil.example",
             "User-Agent": "Mine/1.0", "Referer": "https://h.example/", "X-Empty": "" } }"#,
    );
    let recipe = read.recipe("mine", &BTreeMap::new()).expect("a recipe");
    let names: Vec<&str> = recipe.steps[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["User-Agent", "Referer", "X-Empty", "Authorization"]);
    assert_eq!(read.notes.len(), 4, "{:?}", read.notes);
    let secrets: Vec<&str> = read.secrets.values().map(ExposeSecret::expose_secret).collect();
    assert_eq!(secrets, ["alice:p@ss1"]);
    let wrong = Sxcu::read(r#"{ "RequestURL": "https://h/", "Headers": { "a b": "x" } }"#).expect_err("no name");
    assert_eq!(wrong, ["Headers.a b: that is no name of a header"]);
    let binary = recipe_headers(r#""Body": "Binary", "Headers": { "Content-Type": "image/x" }"#);
    assert_eq!(binary, ["Content-Type"], "a raw body may say what it is");
}

fn recipe_headers(fields: &str) -> Vec<String> {
    let recipe = recipe(&format!(r#"{{ "Version": "17.0.0", "RequestURL": "https://h.example/", {fields} }}"#));
    recipe.steps[0].headers.iter().map(|(name, _)| name.clone()).collect()
}

#[test]
fn sxcu_2_what_was_not_made_for_pictures_is_said() {
    let notes = |destinations: &str| {
        let read = sxcu(&format!(
            r#"{{ "Version": "17.0.0", "RequestURL": "https://h.example/", "Body": "MultipartFormData", "FileFormName": "f", "DestinationType": "{destinations}" }}"#
        ));
        assert_eq!(read.no_host_for_images(), None);
        read.notes
    };
    assert_eq!(notes("TextUploader"), ["DestinationType: made for TextUploader, not for images or files"]);
    for fine in ["ImageUploader", "TextUploader, FileUploader", "None", ""] {
        assert_eq!(notes(fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn sxcu_5_kinds_of_bodies() {
    let refused = [
        (
            r#""Body": "JSON", "Data": "{\"url\":\"{input}\"}", "DestinationType": "URLShortener""#,
            "Body JSON: its Data does not carry the image",
        ),
        (r#""Body": "FormURLEncoded", "Arguments": { "a": "{input}" }"#, "Body FormURLEncoded: its Arguments do not"),
        (r#""Body": "None""#, "Body None: its request has no body"),
        (r#""RequestMethod": "GET""#, "Body None: its request has no body"),
        (r#""Body": "MultipartFormData""#, "Body MultipartFormData: FileFormName is empty"),
        (r#""RequestMethod": "GET", "Body": "Binary""#, "Body Binary: RequestMethod is GET"),
    ];
    for (fields, expected) in refused {
        let read = sxcu(&format!(r#"{{ "Version": "17.0.0", "RequestURL": "https://h.example/", {fields} }}"#));
        let reason = read.no_host_for_images().expect(fields);
        assert!(reason.starts_with(expected), "{reason}");
        assert_eq!(read.recipe("x", &BTreeMap::new()).expect_err(fields), [reason]);
    }
    let table = [
        (
            r#""Body": "JSON", "Data": "{\"n\":\"{filename}\",\"i\":\"{base64file}\"}""#,
            r#"{"n":"a\"b.png","i":"QUJD"}"#,
            "application/json",
        ),
        (
            r#""Body": "JSON", "Data": { "i": "{datauri}" }"#,
            r#"{"i":"data:image/png;base64,QUJD"}"#,
            "application/json",
        ),
        (
            r#""Body": "XML", "Data": "<n>{filename}</n><i>{base64file}</i>""#,
            "<n>a&quot;b.png</n><i>QUJD</i>",
            "application/xml",
        ),
        (
            r#""Body": "FormURLEncoded", "Arguments": { "n": "{filename}", "e": "", "i": "{datauri}" }"#,
            "n=a%22b.png&e&i=data%3aimage%2fpng%3bbase64%2cQUJD",
            "application/x-www-form-urlencoded",
        ),
    ];
    for (fields, expected, mime) in table {
        let recipe = recipe(&format!(r#"{{ "Version": "17.0.0", "RequestURL": "https://h.example/", {fields} }}"#));
        let BodySpec::Text { content_type, text } = &recipe.steps[0].body else { panic!("a text") };
        assert_eq!((text.render(&scope("a\"b.png")).as_deref(), *content_type), (Ok(expected), mime), "{fields}");
        assert!(recipe.steps[0].sends_file() && recipe.limits.max_bytes == Some(16 << 20));
    }
}

#[test]
fn sxcu_7_links() {
    let link = |fields: &str, body: &str| {
        let text =
            format!(r#"{{ "Version": "17.0.0", "RequestURL": "https://h.example/", "Body": "Binary", {fields} }}"#);
        recipe(&text).result.url[0].render_after(&scope("a b.png"), Some(&answer(body)))
    };
    let table = [
        (r#""Name": "x""#, " https://h.example/1\n", "https://h.example/1"),
        (r#""URL": "https://h.example/{filename}""#, "", "https://h.example/a%20b.png"),
        (r#""URL": "{json:u}""#, r#"{"u":"/i/1"}"#, "https://h.example/i/1"),
        (r#""URL": "{responseurl}""#, "x", "https://h.example/final?x=1"),
        (r#""URL": "{json:a}{json:b}""#, r#"{"b":"https://h.example/b"}"#, "https://h.example/b"),
        (r#""URL": "{json:u}""#, r#"{"u":"/a page of text"}"#, "/a page of text"),
    ];
    for (fields, body, expected) in table {
        assert_eq!(link(fields, body).as_deref(), Ok(expected), "{fields}");
    }
    for (fields, body) in [
        (r#""URL": "https://h.example/{json:id}""#, r#"{"error":"x"}"#),
        (r#""URL": "https://h.example/{json:id}""#, "<html>"),
        (r#""Name": "x""#, ""),
    ] {
        assert!(link(fields, body).is_err(), "{fields}: an address around nothing");
    }
}

/// A file with a canary at every place where a secret can stand.
const CANARIES: &str = r#"{ "Version": "17.0.0", "Name": "n",
  "RequestURL": "https://CANARYuser1:CANARYpass1@h.example/hooks/42/CANARY0x1a2b3c4d?api_key=CANARYquery1&t=CANARY0q9b2c3d4e5",
  "Parameters": { "token": "CANARYparam", "x": "{base64:CANARYdeep0123456}" },
  "Headers": { "X-Api-Key": "CANARYheader", "Cookie": "sid=CANARYcookie1; theme=dark", "X-Odd": "CANARY-odd-0a1b2c3d" },
  "Body": "JSON", "Arguments": { "password": "{random:CANARYone|CANARYtwo}" },
  "Data": "{\"apikey\":\"CANARYdata\",\"n\":\"{filename}\",\"image\":\"{base64file}\",\"o\":\"CANARY0d1e2f3a4b5c\"}",
  "URL": "https://h.example/{json:id}", "DeletionURL": "https://h.example/d/{json:id}?token=CANARYdelete",
  "ThumbnailURL": "https://h.example/CANARY0t1h2u3m4b/{json:id}", "ErrorMessage": "{json:e} CANARY0e1r2r3o4r5" }"#;

#[test]
fn r26_every_secret_is_taken_out_and_asked_for_by_name() {
    let read = sxcu(CANARIES);
    let written = read.written();
    assert!(!written.contains("CANARY"), "{written}");
    assert!(!format!("{read:?}").contains("CANARY") && !read.notes.join(" ").contains("CANARY"));
    let all: Vec<&str> = read.secrets.values().map(ExposeSecret::expose_secret).collect();
    assert_eq!(all.len(), 17, "{:?}", read.secrets.keys());
    let again = sxcu(&written);
    assert!(again.secrets.is_empty(), "{:?}", again.secrets.keys());
    assert_eq!(again.asked_secrets(), read.secrets.keys().cloned().collect::<Vec<_>>());
    assert_eq!(again.written(), written, "writing is repeatable");
    let recipe = read.recipe("mine", &BTreeMap::new()).expect("a recipe");
    assert!(!format!("{recipe:?}").contains("CANARY"));
    assert!(recipe.options.values().all(|option| option.secret));
    // With the secrets back in their places the request is what the file says.
    let mut scope = scope("x.png");
    scope.base_url = "https://h.example".into();
    for (name, secret) in &read.secrets {
        scope.options.insert(name.clone(), secret.expose_secret().to_owned());
    }
    let url = recipe.steps[0].url.render(&scope).expect("an address");
    assert_eq!(
        url,
        "https://h.example/hooks/42/CANARY0x1a2b3c4d?token=CANARYparam&x=Q0FOQVJZZGVlcDAxMjM0NTY%3d&api_key=CANARYquery1&t=CANARY0q9b2c3d4e5"
    );
    let BodySpec::Text { text, .. } = &recipe.steps[0].body else { panic!("a text") };
    assert_eq!(
        text.render(&scope).as_deref(),
        Ok(r#"{"apikey":"CANARYdata","n":"x.png","image":"QUJD","o":"CANARY0d1e2f3a4b5c"}"#)
    );
}

#[test]
fn r26_messages_about_mistakes_do_not_repeat_values() {
    let broken = [
        r#"{ "RequestURL": "https://h/", "Headers": { "X-Key": "{CANARYCANARYCANARYCANARY:x}" } }"#,
        r#"{ "RequestURL": "https://h/", "URL": "{regex:(CANARY}" }"#,
        r#"{ "RequestURL": "https://h/", "URL": "{json:[CANARY}" }"#,
        r#"{ "RequestURL": "https://h/", "Headers": { "X": ["CANARY"] } }"#,
        r#"{ "RequestURL": "CANARY" "#,
    ];
    for text in broken {
        let mistakes = Sxcu::read(text).expect_err(text).join("\n");
        assert!(!mistakes.contains("CANARY"), "{mistakes}");
    }
}

#[test]
fn sxcu_9_the_examples_round_trip() {
    let files = [
        r#"{ "Version": "17.0.0", "RequestMethod": "POST", "RequestURL": "https://pics.example.org/api/v2/items",
             "Parameters": { "album": "drop-%y-%mo", "private": "" }, "Headers": { "Accept": "application/json" },
             "Body": "MultipartFormData", "Arguments": { "title": "{filename}", "expires": "30d", "p": "100\\%d|\\|{base64:a\\}b}" },
             "FileFormName": "items[]", "URL": "https://pics.example.org/v/{json:items[0].id}" }"#,
        r#"{ "Version": "15.0.0", "RequestURL": "https://{random:u1|u2}.example.com/upload.php", "Body": "MultipartFormData",
             "FileFormName": "img", "URL": "{regex:id=\"direct\" value=\"([^\"]+)\"|1}",
             "ThumbnailURL": "{regex:{response}|<img src=\"([^\"]+_t\\\\.(?:jpg\\|png))\"|1}" }"#,
        r#"{ "Version": "12.4.1", "RequestURL": "https://h.example/", "Body": "MultipartFormData", "FileFormName": "f",
             "RegexList": ["(.+)\\n(.+)"], "URL": "https://h.example/f.php?h=$regex:1|1$&p=1" }"#,
    ];
    for file in files {
        let (first, written) = (sxcu(file), sxcu(file).written());
        let second = sxcu(&written);
        assert_eq!(second.texts.texts(), first.texts.texts(), "{written}");
        assert_eq!(second.written(), written);
    }
    let page = "<input id=\"direct\" value=\"https://h/1\"><img src=\"https://h/1_t.png\">";
    let second = recipe(files[1]).result.thumb.remove(0);
    assert_eq!(second.render_after(&scope("x"), Some(&answer(page))).as_deref(), Ok("https://h/1_t.png"));
    let third = recipe(files[2]).result.url.remove(0);
    assert_eq!(
        third.render_after(&scope("x"), Some(&answer("abc\ndef\n"))).as_deref(),
        Ok("https://h.example/f.php?h=abc&p=1")
    );
}

/// Files with the peculiarities of the public collection: what each sends to, with which body and how many parts.
#[test]
fn sxcu_11_peculiar_files_load_and_ask_for_the_right_thing() {
    let table = [
        // No version, no method, no body: the oldest ones.
        (
            r#"{ "RequestURL": "http://h.example/up.php", "FileFormName": "local_files[]", "RegexList": ["\\[img\\](?<url>.+)\\[/img\\]\\\">"], "URL": "$1,url$" }"#,
            "http://h.example/up.php",
            0,
        ),
        (
            r#"{ "RequestURL": "http://h.example/up", "FileFormName": "f[0]", "Arguments": { "a": "Your hash here" }, "URL": "http://u.h.example/$json:user$/$json:file$" }"#,
            "http://h.example/up",
            1,
        ),
        (
            r#"{ "RequestURL": "http://h.example/up", "FileFormName": "f", "ResponseType": "RedirectionURL", "RegexList": [".+"], "URL": "$regex:1$.jpeg" }"#,
            "http://h.example/up",
            0,
        ),
        // Null values, brackets in the address, paths of names in brackets.
        (
            r#"{ "Version": "13.4.0", "RequestMethod": "POST", "RequestURL": "https://h.example/channels/[ID HERE]/messages", "Body": "MultipartFormData",
              "Arguments": { "Content": null, "tts": "false" }, "FileFormName": "file", "URL": "$json:['attachments'][0]['url']$" }"#,
            "https://h.example/channels/[ID%20HERE]/messages",
            2,
        ),
        // Braces in a value, and a query that is all value.
        (
            r#"{ "Version": "13.0.2", "RequestMethod": "POST", "RequestURL": "https://h.example/s", "Parameters": { "r": "{\"b\":[{\"x\":\"y\"}]}" },
              "Body": "MultipartFormData", "FileFormName": "f", "URL": "https://h.example/s?$json:b[0].url$" }"#,
            "https://h.example/s?r=%7b%22b%22%3a%5b%7b%22x%22%3a%22y%22%7d%5d%7d",
            0,
        ),
        (
            r#"{ "Version": "12.4.0", "RequestMethod": "POST", "RequestURL": "https://postbox.example/json?q=a", "Body": "MultipartFormData", "FileFormName": "file",
              "Arguments": { "password": "%ra%ra%ra%ra", "n": "1" }, "URL": "$json:url$" }"#,
            "https://postbox.example/json?q=a",
            2,
        ),
    ];
    for (text, url, fields) in table {
        let recipe = recipe(text);
        let step = &recipe.steps[0];
        let BodySpec::Multipart { fields: found, file: Some(_) } = &step.body else { panic!("multipart: {text}") };
        assert_eq!(found.len(), fields, "{text}");
        let base_url = recipe.base_url.clone().expect("a site");
        let rendered = step.url.render(&Scope { base_url, ..scope("x.png") }).expect("an address");
        let parsed = reqwest::Url::parse(&rendered).expect("a URL").to_string();
        assert_eq!(parsed, url.to_owned(), "{text}");
    }
    // An address that the user has to put there loads, and waits for `base_url`.
    let hook = recipe(
        r#"{ "RequestURL": "Webhook URL", "FileFormName": "file", "Arguments": { "content": "**$filename$**" }, "URL": "$json:a[0].url$" }"#,
    );
    assert_eq!(hook.base_url, None);
    let here = Scope { base_url: "https://h.example/hooks/1".into(), ..scope("x.png") };
    assert_eq!(hook.steps[0].url.render(&here).as_deref(), Ok("https://h.example/hooks/1"));
}
