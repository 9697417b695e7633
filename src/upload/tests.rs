//! Attempts against hosts that misbehave, in virtual time with real files.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::clock::WallTime;
use crate::host::{Limits, Sending};
use crate::job::{ContentHash, Fingerprint, ImageKind, Links, Stage};

type Script = fn(&Upload) -> Sending<'_>;

struct Scripted(Script, Limits);

impl Host for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }
    fn limits(&self) -> &Limits {
        &self.1
    }
    fn upload<'a>(&'a self, upload: &'a Upload) -> Sending<'a> {
        (self.0)(upload)
    }
}

const IMAGE: ImageFacts =
    ImageFacts { kind: ImageKind::Jpeg, width: 1, height: 1, animated: false, hash: ContentHash([0; 32]) };

fn job(path: PathBuf) -> Job {
    let fingerprint = Fingerprint::of(&fs::metadata(&path).expect("exists"));
    let (folder, name) = (path.parent().expect("has one"), path.file_name().expect("has one"));
    let job = Job::new(folder.into(), name.into(), "scripted".into(), fingerprint, WallTime::from_millis(0));
    Job { stage: Stage::Started, image: Some(IMAGE), attempts: 1, ..job }
}

async fn run(script: Script) -> (Outcome, Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.jpg");
    fs::write(&path, b"some bytes").expect("writes");
    let began = Instant::now();
    let host = Scripted(script, Limits::default());
    let outcome = attempt(&host, &job(path), IMAGE, None, none(), terms(180, false)).await;
    (outcome, began.elapsed())
}

fn links() -> Links {
    Links { url: "https://example.org/x".into(), ..Links::default() }
}

fn terms(seconds: u64, strip_metadata: bool) -> Terms {
    Terms { progress: Arc::default(), limit: Duration::from_secs(seconds).into(), strip_metadata }
}

async fn none() -> Result<Option<Gallery>, Failure> {
    Ok(None)
}

#[tokio::test(start_paused = true)]
async fn a_good_answer_gives_its_links() {
    let (outcome, _) = run(|_| Box::pin(async { Ok(links()) })).await;
    assert_eq!(outcome, Outcome::Uploaded(links()));
}

#[tokio::test(start_paused = true)]
async fn r13_a_silent_host_is_cut_at_the_deadline_and_the_phase_is_named() {
    let (outcome, took) = run(|upload| {
        Box::pin(async {
            upload.progress.start_body(100);
            upload.progress.add_sent(40);
            std::future::pending().await
        })
    })
    .await;
    assert_eq!(took, Duration::from_secs(180));
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        (failure.class, failure.phase, failure.timed_out, failure.sent),
        (ErrorClass::Timeout, Phase::Send, true, 40)
    );
    assert_eq!(
        failure.message,
        "not finished within file_timeout = 3m; the attempt was in phase send with 40 of 100 bytes sent"
    );
}

#[tokio::test(start_paused = true)]
async fn r15_a_deadline_after_the_last_byte_is_an_unknown_outcome() {
    let (outcome, _) = run(|upload| {
        Box::pin(async {
            upload.progress.start_body(100);
            upload.progress.add_sent(100);
            upload.progress.enter(Phase::Response);
            std::future::pending().await
        })
    })
    .await;
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failure.class, failure.phase, failure.timed_out), (ErrorClass::UnknownOutcome, Phase::Response, true));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_drops_the_hosts_future() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static DROPPED: AtomicBool = AtomicBool::new(false);
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            DROPPED.store(true, Ordering::SeqCst);
        }
    }
    let _ = run(|_| {
        Box::pin(async {
            let _guard = Guard;
            std::future::pending().await
        })
    })
    .await;
    assert!(DROPPED.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_attempt_is_that_files_failure() {
    let (outcome, _) = run(|_| Box::pin(async { panic!("boom") })).await;
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.class, ErrorClass::Io);
}

#[tokio::test]
async fn r12_a_file_that_changes_while_it_is_sent_gives_no_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.jpg");
    fs::write(&path, b"some bytes").expect("writes");
    let job = job(path.clone());
    struct Meddler(PathBuf, Limits);
    impl Host for Meddler {
        fn name(&self) -> &str {
            "meddler"
        }
        fn limits(&self) -> &Limits {
            &self.1
        }
        fn upload<'a>(&'a self, _: &'a Upload) -> Sending<'a> {
            fs::write(&self.0, b"other bytes, and more of them").expect("writes");
            Box::pin(async { Ok(links()) })
        }
    }
    let host = Meddler(path, Limits::default());
    let outcome = attempt(&host, &job, IMAGE, None, none(), terms(180, false)).await;
    assert_eq!(outcome, Outcome::Changed { links: Some(links()) });
}

#[tokio::test]
async fn a_file_that_is_gone_or_another_is_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.jpg");
    fs::write(&path, b"some bytes").expect("writes");
    let host = Scripted(|_| Box::pin(async { Ok(links()) }), Limits::default());
    let job = job(path.clone());
    fs::write(&path, b"replaced by something else").expect("writes");
    let outcome = attempt(&host, &job, IMAGE, None, none(), terms(1, false)).await;
    assert_eq!(outcome, Outcome::Changed { links: None });
    fs::write(dir.path().join("y"), b"").expect("writes");
    let gone = Job { path: dir.path().join("gone.jpg"), ..job };
    assert_eq!(attempt(&host, &gone, IMAGE, None, none(), terms(1, false)).await, Outcome::Vanished);
}

#[tokio::test(start_paused = true)]
async fn without_metadata_means_another_hash_and_the_file_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.jpg");
    // A comment, a scan, the end; and what somebody appended.
    let bytes = b"\xFF\xD8\xFF\xFE\0\x06home\xFF\xDA\0\x02data\xFF\xD9film";
    fs::write(&path, bytes).expect("writes");
    let host = Scripted(
        |upload| {
            Box::pin(async move {
                let sent = upload.source.read(0, usize::try_from(upload.source.len()).expect("small")).expect("reads");
                assert_eq!(&sent[..], b"\xFF\xD8\xFF\xDA\0\x02data\xFF\xD9");
                assert_eq!(upload.image.hash.0, *blake3::hash(&sent).as_bytes());
                Ok(links())
            })
        },
        Limits::default(),
    );
    let kept = bytes::Bytes::from_static(bytes);
    for content in [None, Some(kept)] {
        let image = ImageFacts { hash: ContentHash(*blake3::hash(bytes).as_bytes()), ..IMAGE };
        let sent = attempt(&host, &job(path.clone()), image, content, none(), terms(9, true)).await;
        assert_eq!(sent, Outcome::Uploaded(Links { stripped: true, ..links() }));
    }
    assert_eq!(fs::read(&path).expect("reads"), bytes);
    let broken = dir.path().join("broken.jpg");
    fs::write(&broken, b"\xFF\xD8 and so on").expect("writes");
    let refused = attempt(&host, &job(broken), IMAGE, None, none(), terms(9, true)).await;
    assert!(matches!(refused, Outcome::Failed(failure) if failure.class == ErrorClass::File), "nothing is sent");
}
