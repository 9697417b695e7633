use super::*;
use crate::host::sxcu::file;

fn migrated(text: &str) -> (Item, Era, Vec<String>) {
    let mut notes = Vec::new();
    let mut item = file::read(text, &mut notes).expect(text);
    let era = migrate(&mut item, &mut notes);
    (item, era, notes)
}

fn era(text: &str) -> Era {
    migrated(text).1
}

#[test]
fn sxcu_3_the_era_is_known_by_version_or_by_content() {
    let table = [
        (r#"{ "Version": "14.0.0", "URL": "{json:url}" }"#, Era::C),
        (r#"{ "Version": "17.0.0", "ErrorMessage": "$json:error$" }"#, Era::C),
        (r#"{ "Version": "12.4.1", "URL": "$json:url$", "Body": "Binary" }"#, Era::B),
        (r#"{ "Version": "13.7.1" }"#, Era::B),
        (r#"{ "Version": "12.3.1", "RequestType": "POST" }"#, Era::A),
        (
            r#"{ "RequestType": "POST", "FileFormName": "files[]", "ResponseType": "Text", "URL": "$json:files[0].url$" }"#,
            Era::A,
        ),
        (r#"{ "FileFormName": "f", "URL": "$1,url$", "RegexList": ["a"] }"#, Era::A),
        (
            r#"{ "RequestURL": "https://h/", "FileFormName": "fileToUpload", "Arguments": { "reqtype": "fileupload" } }"#,
            Era::A,
        ),
        (
            r#"{ "Version": "1.3.1", "RequestMethod": "POST", "Body": "MultipartFormData", "URL": "https://h/$json:id$" }"#,
            Era::B,
        ),
        (
            r#"{ "Version": "1.0.0", "Body": "MultipartFormData", "URL": "$json:url$", "DeletionURL": "$json:d$" }"#,
            Era::B,
        ),
        (r#"{ "Body": "MultipartFormData", "URL": "{json:url}" }"#, Era::C),
        (r#"{ "Body": "MultipartFormData", "URL": "{response}" }"#, Era::C),
        (r#"{ "Body": "MultipartFormData" }"#, Era::C),
    ];
    for (text, expected) in table {
        assert_eq!(era(text), expected, "{text}");
    }
}

#[test]
fn sxcu_3_a_to_b() {
    let (item, ..) = migrated(r#"{ "RequestType": "POST", "FileFormName": "f", "Arguments": { "a": "1" } }"#);
    assert_eq!((item.method, item.body), (Some("POST"), Some(Body::Multipart)));
    assert_eq!(item.arguments, [("a".into(), "1".into())]);
    let (item, ..) =
        migrated(r#"{ "RequestType": "GET", "RequestURL": "https://h/?b=2", "Arguments": { "a": "1", "b": "3" } }"#);
    assert_eq!((item.method, item.body), (Some("GET"), Some(Body::None)));
    assert_eq!(item.parameters, [("a".into(), "1".into()), ("b".into(), "3".into())]);
    let table = [
        (r#""ResponseType": "RedirectionURL""#, "{responseurl}"),
        (r#""ResponseType": "LocationHeader""#, "{header:Location}"),
        (r#""ResponseType": "RedirectionURL", "URL": "$response$?x""#, "{responseurl}?x"),
        (r#""ResponseType": "LocationHeader", "URL": "https://h$response$""#, "https://h{header:Location}"),
        (r#""ResponseType": "Text", "URL": "$response$""#, "{response}"),
        (r#""ResponseType": "Text""#, ""),
    ];
    for (fields, link) in table {
        let (item, ..) = migrated(&format!("{{ \"RequestType\": \"POST\", {fields} }}"));
        assert_eq!(item.link, link, "{fields}");
    }
    let (_, _, notes) = migrated(r#"{ "RequestType": "POST", "ResponseType": "Headers" }"#);
    assert!(notes[0].contains("{header:NAME}"), "{notes:?}");
}

#[test]
fn sxcu_3_the_query_string_becomes_parameters() {
    let (item, ..) = migrated(
        r#"{ "Version": "17.0.0", "Body": "Binary", "RequestURL": "https://h/up?k=1&flag&a+b=x%20y&t=100%25d&k2=v",
             "Parameters": { "k2": "wins", "z": "9" } }"#,
    );
    assert_eq!(item.url, "https://h/up");
    let parameters: Vec<_> = item.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [("k2", "wins"), ("z", "9"), ("k", "1"), ("flag", ""), ("a b", "x y"), ("t", "100\\%d")];
    assert_eq!(parameters, expected);
}

/// One field of era B and what it becomes, with two patterns in the list.
fn converted(text: &str, side: Side) -> String {
    let patterns = ["href=\"(.+)\"".to_owned(), r"\d{4}|x".to_owned()];
    Converter { patterns: &patterns, old: true }.all(text, side, &mut |_| {})
}

#[test]
fn sxcu_3_b_to_c_better_than_sharex() {
    let table = [
        ("$json:url$", "{json:url}"),
        ("https://h/$json:a.b$/$json:c$?x", "https://h/{json:a.b}/{json:c}?x"),
        ("a{b}c|d", r"a\{b\}c\|d"),
        (r"a\$b\{c\\d\e", r"a$b\{c\\de"),
        ("$regex:1|1$", "{regex:href=\"(.+)\"|1}"),
        ("$regex:1,u$", "{regex:href=\"(.+)\"|u}"),
        ("$regex:2$", r"{regex:\\d\{4\}\|x}"),
        ("$1,1$", "{regex:href=\"(.+)\"|1}"),
        ("v/$2,code$/f", r"v/{regex:\\d\{4\}\|x|code}/f"),
        ("$regex:3|1$", ""),
        ("$xml:/a/b[1]$", "{xml:/a/b[1]}"),
        ("$header:Location$", "{header:Location}"),
        ("$JSON:x$", "{json:x}"),
        ("$response$", "{response}"),
        ("$random:a|b$", "{random:a|b}"),
        ("$unknown:x$", ""),
        ("$input$", ""),
        ("$json:a", "{json:a}"),
    ];
    for (old, new) in table {
        assert_eq!(converted(old, Side::Response), new, "{old}");
    }
    let table = [
        ("$input$", "{input}"),
        ("**$filename$**", "**{filename}**"),
        ("Basic $base64:a:b|c$", r"Basic {base64:a:b\|c}"),
        ("$prompt:Title|x$", "{inputbox:Title|x}"),
        ("$prompt$", "{inputbox}"),
        ("$select:a|b$", "{select:a|b}"),
        ("$json:x$", ""),
        ("%rn{8}-%y", "%rn{8}-%y"),
        (r"\%d", r"\%d"),
        (r#"{"a":[1]}"#, r#"\{"a":[1]\}"#),
    ];
    for (old, new) in table {
        assert_eq!(converted(old, Side::Request), new, "{old}");
    }
}

#[test]
fn sxcu_3_data_keeps_its_braces_and_gets_its_tokens() {
    let (item, ..) = migrated(
        r#"{ "Version": "12.4.1", "Body": "JSON", "Data": "{\"a\":\"$Input$\",\"b\":\"$filename$\",\"c\":\"$json:x$\"}" }"#,
    );
    assert_eq!(item.data, r#"{"a":"{input}","b":"{filename}","c":"$json:x$"}"#);
}

#[test]
fn sxcu_9_the_example_of_era_b_becomes_what_it_must() {
    let (item, era, _) = migrated(
        r#"{ "Version": "12.4.1", "RequestMethod": "POST", "RequestURL": "https://old.example/up?k=1",
             "Body": "MultipartFormData", "FileFormName": "f",
             "RegexList": ["link\":\"(?<u>[^\"]+)", "\\d{4}"], "URL": "$regex:1|u$?v=$regex:2$" }"#,
    );
    assert_eq!((era, item.url.as_str()), (Era::B, "https://old.example/up"));
    assert_eq!(item.parameters, [("k".into(), "1".into())]);
    assert_eq!(item.link, r#"{regex:link":"(?<u>[^"]+)|u}?v={regex:\\d\{4\}}"#);
}

#[test]
fn sxcu_3_old_syntax_in_a_new_file_is_converted_and_noted() {
    let (item, _, notes) = migrated(
        r#"{ "Version": "17.0.0", "Body": "MultipartFormData", "FileFormName": "f", "URL": "{json:a}$json:b$ costs 5$",
             "ErrorMessage": "$json:error$", "Arguments": { "price": "$5 and $6" } }"#,
    );
    assert_eq!((item.link.as_str(), item.error.as_str()), ("{json:a}{json:b} costs 5$", "{json:error}"));
    assert_eq!(item.arguments[0].1, "$5 and $6");
    assert_eq!(notes.len(), 2, "{notes:?}");
    let (item, ..) = migrated(
        r#"{ "Version": "14.0.0", "Body": "Binary", "RegexList": ["h/(\\w+)"], "URL": "{regex:1}", "ThumbnailURL": "{regex:1|1}.t" }"#,
    );
    assert_eq!((item.link.as_str(), item.thumbnail.as_str()), (r"{regex:h/(\\w+)}", r"{regex:h/(\\w+)|1}.t"));
}

#[test]
fn a_missing_body_with_a_field_for_the_file_is_multipart() {
    let (item, _, notes) = migrated(r#"{ "Version": "12.4.1", "FileFormName": "f", "RequestURL": "https://h/" }"#);
    assert_eq!(item.body, Some(Body::Multipart));
    assert!(notes[0].starts_with("Body: missing"), "{notes:?}");
}
