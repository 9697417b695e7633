use super::*;
use crate::job::{Fingerprint, ImageFacts, ImageKind, Stage};

fn job() -> Job {
    let fingerprint = Fingerprint { dev: 1, ino: 2, len: 183_422, mtime_ns: 3 };
    let queued_at = WallTime::from_millis(0);
    Job {
        id: "01JDAXTQ9Z0000000000000000".parse().expect("a ULID"),
        stage: Stage::Started,
        image: Some(ImageFacts {
            kind: ImageKind::Jpeg,
            width: 1600,
            height: 1067,
            animated: false,
            hash: ContentHash([0xab; 32]),
        }),
        attempts: 1,
        ..Job::new("/home/a/Drop".into(), "trip/IMG_1.jpg".into(), "pixhost".to_owned(), fingerprint, queued_at)
    }
}

/// A success with a job of its own.
pub(crate) fn uploaded(seq: u64) -> Record {
    let links = Links {
        url: format!("https://img.example/{seq}"),
        thumb: Some("https://img.example/t".to_owned()),
        image: None,
        delete_url: Some("https://img.example/delete-me".to_owned()),
        delete_token: None,
        stripped: false,
    };
    let job = Job { id: JobId::generate(), ..job() };
    Record::of(&job, seq, WallTime::from_millis(1_795_435_200_123), Status::Uploaded)
        .with_links(links)
        .with_move(&job.folder, Path::new("/home/a/Drop/done/trip/IMG_1.jpg"))
}

/// A time-out of the same job as `record`.
pub(crate) fn timeout(record: &Record, seq: u64) -> Record {
    Record {
        seq,
        status: Status::Timeout,
        url: None,
        thumb: None,
        delete_url: None,
        moved_to: Some("retry/trip/IMG_1.jpg".to_owned()),
        error: Some(RecordError {
            class: ErrorClass::Timeout,
            phase: Phase::Send,
            message: "nothing after 3 min".to_owned(),
            http_status: None,
            response_head: Some("<html>\n".to_owned()),
            next_try_at: Some(WallTime::from_millis(1_795_435_500_000)),
            advice: None,
            unknown_outcomes: Some(2),
        }),
        ..record.clone()
    }
}

#[test]
fn the_line_has_exactly_the_fields_of_the_contract_in_their_order() {
    let mut record = uploaded(42);
    record.job = job().id;
    record.duration_ms = 812;
    let hash = "ab".repeat(32);
    let expected = format!(
        r#"{{"v":1,"seq":42,"job":"01JDAXTQ9Z0000000000000000","at":"2026-11-23T12:00:00.123Z","status":"uploaded","file":"trip/IMG_1.jpg","folder":"/home/a/Drop","host":"pixhost","url":"https://img.example/42","thumb":"https://img.example/t","image":null,"delete_url":"https://img.example/delete-me","album":null,"album_url":null,"bytes":183422,"mime":"image/jpeg","width":1600,"height":1067,"blake3":"{hash}","attempts":1,"requeues":0,"duration_ms":812,"moved_to":"done/trip/IMG_1.jpg"}}"#
    );
    assert_eq!(record.line(), expected + "\n");
    let error = serde_json::to_string(&timeout(&record, 43).error).expect("json");
    let expected = r#"{"class":"timeout","phase":"send","message":"nothing after 3 min","http_status":null,"response_head":"<html>\n","next_try_at":"2026-11-23T12:05:00.000Z","advice":null,"unknown_outcomes":2}"#;
    assert_eq!(error, expected);
}

#[test]
fn records_read_back_and_unknown_fields_do_not_matter() {
    for record in [uploaded(1), timeout(&uploaded(2), 3)] {
        assert_eq!(Record::parse(record.line().as_bytes()).expect("reads"), record);
        let grown = record.json().replacen('{', r#"{"new":[1,{}],"#, 1);
        assert_eq!(Record::parse(grown.as_bytes()).expect("reads"), record);
    }
}

#[test]
fn other_versions_and_lies_are_no_records() {
    let line = uploaded(1).json();
    let refused = |line: &str| Record::parse(line.as_bytes()).expect_err(line).to_string();
    assert_eq!(refused(&line.replace(r#""v":1"#, r#""v":2"#)), "a record of version 2, this program knows version 1");
    for lie in [
        line.replace(r#""url":"https://img.example/1""#, r#""url":"""#),
        line.replace(r#""url":"https://img.example/1""#, r#""url":null"#),
        line.replace(r#""url":"https://img.example/1""#, r#""url":"javascript:alert(1)""#),
        line.replace(r#""status":"uploaded""#, r#""status":"failed""#),
    ] {
        assert!(refused(&lie).contains("url does not fit"), "{lie}");
    }
    for junk in ["", "{}", "null", "\0\0\0", &line[..line.len() - 1], &line.replace("abab", "xyxy")] {
        assert!(Record::parse(junk.as_bytes()).is_err(), "{junk}");
    }
}

#[test]
fn r11_a_name_that_is_no_utf_8_is_kept_exactly_and_never_breaks_the_line() {
    let name = PathBuf::from(OsString::from_vec(b"a\nb\xff\r.jpg".to_vec()));
    let record = Record::of(&Job { name: name.clone(), ..job() }, 1, WallTime::from_millis(0), Status::Failed);
    assert_eq!(record.line().matches('\n').count(), 1);
    assert!(record.line().contains(r#""file":"a\nb�\r.jpg","file_bytes":"YQpi/w0uanBn""#), "{}", record.line());
    assert_eq!(Record::parse(record.line().as_bytes()).expect("reads").name(), Some(name));
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_none() {
    for evil in ["../x.jpg", "/etc/passwd", "a/../../x", "", "."] {
        let record = Record { file: evil.to_owned(), ..uploaded(1) };
        assert_eq!(record.name(), None, "{evil}");
    }
}

#[test]
fn the_link_that_deletes_is_not_shown_by_debug() {
    assert!(!format!("{:?}", uploaded(1)).contains("delete-me"));
}

#[test]
fn only_uploaded_linked_and_failed_are_final() {
    let finals = [Status::Uploaded, Status::Linked, Status::Failed];
    for status in [Status::Uploaded, Status::Linked, Status::Timeout, Status::Deferred, Status::Failed] {
        assert_eq!(status.is_final(), finals.contains(&status), "{status:?}");
        assert_eq!(serde_json::to_string(&status).expect("json"), format!("{:?}", status.name()));
    }
}
