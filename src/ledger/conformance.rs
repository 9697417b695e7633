//! What every ledger must do: one suite, run against each implementation.

use std::path::PathBuf;

use super::{Durability, HostPause, Ledger, Memo, Write};
use crate::clock::WallTime;
use crate::job::{ContentHash, Fingerprint, ImageFacts, ImageKind, Job, Stage};

/// A waiting job with a content of its own.
pub(super) fn some_job() -> Job {
    let fingerprint = Fingerprint { dev: u64::MAX, ino: 7, len: 9, mtime_ns: -1 };
    let queued_at = WallTime::from_millis(1_000);
    let job = Job::new("/drop".into(), "trip/x.jpg".into(), "pixhost".to_owned(), fingerprint, queued_at);
    Job {
        image: Some(ImageFacts {
            kind: ImageKind::Jpeg,
            width: 640,
            height: 480,
            animated: false,
            hash: ContentHash(*blake3::hash(job.id.to_string().as_bytes()).as_bytes()),
        }),
        attempts: 1,
        requeues: 2,
        unknown_outcomes: 3,
        ..job
    }
}

fn cooling(not_before: Option<i64>) -> Job {
    Job { stage: Stage::Cooling, not_before: not_before.map(WallTime::from_millis), ..some_job() }
}

fn recorded(stage: Stage, seq: u64, status: &str) -> Job {
    let record = format!(r#"{{"v":1,"seq":{seq},"status":"{status}"}}"#);
    Job { stage, record: Some(record), ..some_job() }
}

async fn put(ledger: &dyn Ledger, jobs: &[&Job]) {
    let writes = jobs.iter().map(|job| Write::Put(Box::new((*job).clone()))).collect();
    ledger.write(writes, Durability::Process).await.expect("written");
}

/// Runs the whole suite, each part on a ledger of its own.
pub(super) async fn every_promise<L: Ledger>(mut fresh: impl FnMut() -> L) {
    rows_read_back_and_are_replaced_and_removed(&fresh()).await;
    the_newest_job_at_a_path_is_found(&fresh()).await;
    due_jobs_come_longest_overdue_first(&fresh()).await;
    unfinished_and_listed_jobs_come_in_pages(&fresh()).await;
    a_known_content_is_linked_only_on_its_host(&fresh()).await;
    the_census_counts_and_forgets(&fresh()).await;
    the_sequence_never_goes_back(&fresh()).await;
    files_between_two_paths_are_seen(&fresh()).await;
    files_between_two_paths_come_in_order(&fresh()).await;
    a_content_is_known_on_the_first_host_that_has_it(&fresh()).await;
    pauses_are_kept_and_replaced(&fresh()).await;
    memos_are_kept_by_kind_and_key(&fresh()).await;
    writes_apply_in_order_even_if_nobody_awaits_them(&fresh()).await;
}

async fn rows_read_back_and_are_replaced_and_removed(ledger: &dyn Ledger) {
    use std::os::unix::ffi::OsStringExt;
    let odd = PathBuf::from(std::ffi::OsString::from_vec(b"/drop/\xff\n'.png".to_vec()));
    let mut job = Job { path: odd.clone(), name: odd, record: Some("{}".to_owned()), pending: true, ..some_job() };
    put(ledger, &[&job]).await;
    assert_eq!(ledger.job(job.id).await.expect("read"), Some(job.clone()));
    job.image = None;
    job.stage = Stage::Failed;
    job.not_before = Some(WallTime::from_millis(-5));
    put(ledger, &[&job]).await;
    assert_eq!(ledger.job(job.id).await.expect("read"), Some(job.clone()));
    ledger.write(vec![Write::Remove(job.id)], Durability::Power).await.expect("removed");
    assert_eq!(ledger.job(job.id).await.expect("read"), None);
    assert_eq!(ledger.at_path(job.path).await.expect("read"), None);
}

async fn the_newest_job_at_a_path_is_found(ledger: &dyn Ledger) {
    let (mut one, mut two) = (some_job(), some_job());
    if one.id > two.id {
        std::mem::swap(&mut one, &mut two);
    }
    put(ledger, &[&two, &one]).await;
    assert_eq!(ledger.at_path(one.path.clone()).await.expect("read"), Some(two));
    assert_eq!(ledger.at_path(PathBuf::from("/drop")).await.expect("read"), None);
}

async fn due_jobs_come_longest_overdue_first(ledger: &dyn Ledger) {
    let (late, early, future) = (cooling(Some(30)), cooling(Some(20)), cooling(Some(100)));
    let momentless = cooling(None);
    let pending = Job { pending: true, ..cooling(Some(1)) };
    let foreign = Job { host: "imgur".to_owned(), ..cooling(Some(1)) };
    put(ledger, &[&late, &early, &future, &momentless, &pending, &foreign, &some_job()]).await;
    let due = |now, limit| ledger.due("pixhost".to_owned(), WallTime::from_millis(now), limit);
    let all = due(50, 10).await.expect("read");
    assert_eq!(all.jobs, [momentless.clone(), early.clone(), late.clone()]);
    assert_eq!(all.next, Some(WallTime::from_millis(100)));
    let two = due(50, 2).await.expect("read");
    assert_eq!((two.jobs, two.next), (vec![momentless, early], Some(WallTime::from_millis(30))));
    let last = due(100, 10).await.expect("read");
    assert_eq!((last.jobs.len(), last.next), (4, None));
    assert_eq!(ledger.due("nobody".to_owned(), WallTime::from_millis(50), 9).await.expect("read"), Default::default());
}

async fn unfinished_and_listed_jobs_come_in_pages(ledger: &dyn Ledger) {
    let mut all: Vec<Job> = Stage::ALL.into_iter().map(|stage| Job { stage, ..some_job() }).collect();
    all.extend([Stage::Done, Stage::Failed, Stage::Cooling].map(|stage| Job { stage, pending: true, ..some_job() }));
    all.sort_by_key(|job| job.id);
    put(ledger, &all.iter().collect::<Vec<_>>()).await;
    let open: Vec<Job> = all
        .iter()
        .filter(|job| job.pending || matches!(job.stage, Stage::Waiting | Stage::Started | Stage::Uploaded))
        .cloned()
        .collect();
    assert_eq!(open.len(), 6);
    assert_eq!(ledger.unfinished(None, 100).await.expect("read"), open);
    assert_eq!(ledger.unfinished(None, 2).await.expect("read"), open[..2]);
    assert_eq!(ledger.unfinished(Some(open[1].id), 100).await.expect("read"), open[2..]);
    all.reverse();
    assert_eq!(ledger.jobs(None, None, 100).await.expect("read"), all);
    assert_eq!(ledger.jobs(None, Some(all[3].id), 2).await.expect("read"), all[4..6]);
    let done: Vec<Job> = all.iter().filter(|job| job.stage == Stage::Done).cloned().collect();
    assert_eq!(ledger.jobs(Some(Stage::Done), None, 100).await.expect("read"), done);
    assert_eq!(ledger.jobs(Some(Stage::Done), Some(done[0].id), 100).await.expect("read"), done[1..]);
}

async fn a_known_content_is_linked_only_on_its_host(ledger: &dyn Ledger) {
    let known = recorded(Stage::Done, 1, "uploaded");
    let twin = Job { stage: Stage::Started, image: known.image, ..some_job() };
    put(ledger, &[&known]).await;
    assert_eq!(ledger.start(twin.clone(), true).await.expect("asked"), Some(known.clone()), "r22");
    assert_eq!(ledger.job(twin.id).await.expect("read"), None, "nothing was written");
    let elsewhere = Job { host: "imgur".to_owned(), ..twin.clone() };
    assert_eq!(ledger.start(elsewhere.clone(), true).await.expect("asked"), None);
    assert_eq!(ledger.job(twin.id).await.expect("read"), Some(elsewhere));
    assert_eq!(ledger.start(twin.clone(), false).await.expect("asked"), None, "it was not asked for");
    assert_eq!(ledger.job(twin.id).await.expect("read"), Some(twin));
    for (stage, status) in [(Stage::Done, "linked"), (Stage::Failed, "uploaded"), (Stage::Cooling, "timeout")] {
        let other = recorded(stage, 2, status);
        let same = Job { stage: Stage::Started, image: other.image, ..some_job() };
        put(ledger, &[&other]).await;
        assert_eq!(ledger.start(same, true).await.expect("asked"), None, "{stage:?} {status}");
    }
    let uploaded = recorded(Stage::Uploaded, 3, "uploaded");
    let same = Job { stage: Stage::Started, image: uploaded.image, ..some_job() };
    put(ledger, &[&uploaded]).await;
    assert_eq!(ledger.start(same, true).await.expect("asked"), Some(uploaded));
    let faceless = Job { image: None, ..some_job() };
    assert_eq!(ledger.start(faceless, true).await.expect("asked"), None);
}

async fn the_census_counts_and_forgets(ledger: &dyn Ledger) {
    let mut first = some_job();
    let second = Job { queued_at: WallTime::from_millis(500), ..some_job() };
    let other = Job { folder: PathBuf::from("/other"), ..some_job() };
    put(ledger, &[&first, &second, &other]).await;
    put(ledger, &[&first, &second]).await;
    let count = async |folder: &str, stage| {
        let census = ledger.census().await.expect("read");
        let mut found = census.into_iter().filter(|entry| entry.folder.as_os_str() == folder && entry.stage == stage);
        let entry = found.next();
        assert!(found.next().is_none());
        entry.map(|entry| (entry.count, entry.oldest.map_or(0, WallTime::millis)))
    };
    assert_eq!(count("/drop", Stage::Waiting).await, Some((2, 500)));
    assert_eq!(count("/other", Stage::Waiting).await, Some((1, 1_000)));
    first.stage = Stage::Done;
    put(ledger, &[&first]).await;
    assert_eq!(count("/drop", Stage::Waiting).await, Some((1, 500)));
    assert_eq!(count("/drop", Stage::Done).await, Some((1, 0)), "how old finished jobs are is not asked");
    ledger.write(vec![Write::Remove(second.id)], Durability::Process).await.expect("removed");
    assert_eq!(count("/drop", Stage::Waiting).await, None);
    let resting = |due| Job { stage: Stage::Cooling, not_before: Some(WallTime::from_millis(due)), ..some_job() };
    let not_yet = Job { pending: true, ..resting(1) };
    put(ledger, &[&resting(7_000), &resting(6_000), &not_yet]).await;
    let census = ledger.census().await.expect("read");
    let due = census.iter().find(|entry| entry.stage == Stage::Cooling).and_then(|entry| entry.next_due);
    assert_eq!(due, Some(WallTime::from_millis(6_000)), "what is pending is not due");
}

async fn files_between_two_paths_are_seen(ledger: &dyn Ledger) {
    let job = Job { path: PathBuf::from("/drop/m/x.jpg"), ..some_job() };
    put(ledger, &[&job]).await;
    for (from, to, expected) in [
        ("/drop/", "/drop0", true),
        ("/drop/m", "/drop/m0", true),
        ("/drop/n", "/drop0", false),
        ("/a", "/drop/m", false),
    ] {
        let seen = ledger.any_between(PathBuf::from(from), PathBuf::from(to)).await.expect("read");
        assert_eq!(seen, expected, "{from} to {to}");
    }
}

async fn files_between_two_paths_come_in_order(ledger: &dyn Ledger) {
    let at = |path: &str| Job { path: PathBuf::from(path), ..some_job() };
    let jobs = ["/drop/a", "/drop/t.png", "/drop/t/b/y", "/drop/t/x", "/drop/t0"].map(at);
    put(ledger, &jobs.iter().rev().collect::<Vec<_>>()).await;
    let between = |from: &str, limit| ledger.between(PathBuf::from(from), PathBuf::from("/drop/t0"), limit);
    assert_eq!(between("/drop/t/", 9).await.expect("read"), jobs[2..4]);
    assert_eq!(between("/drop/t/", 1).await.expect("read"), jobs[2..3]);
    assert_eq!(between("/drop/t/b/y", 1).await.expect("read"), jobs[3..4]);
}

async fn a_content_is_known_on_the_first_host_that_has_it(ledger: &dyn Ledger) {
    let first = recorded(Stage::Done, 1, "uploaded");
    let second = Job { host: "imx".to_owned(), image: first.image, ..recorded(Stage::Uploaded, 2, "uploaded") };
    let failed = Job { host: "vipr".to_owned(), image: first.image, ..recorded(Stage::Failed, 3, "failed") };
    put(ledger, &[&first, &second, &failed]).await;
    let content = first.image.expect("an image").hash;
    let known = |hosts: &[&str]| ledger.known(content, hosts.iter().map(|host| (*host).to_owned()).collect());
    assert_eq!(known(&["vipr", "imx", "pixhost"]).await.expect("read"), Some(second.clone()));
    assert_eq!(known(&["pixhost", "imx"]).await.expect("read"), Some(first));
    assert_eq!(known(&["vipr", "other"]).await.expect("read"), None);
    assert_eq!(ledger.known(ContentHash([3; 32]), vec!["imx".to_owned()]).await.expect("read"), None);
}

async fn the_sequence_never_goes_back(ledger: &dyn Ledger) {
    assert_eq!(ledger.last_seq().await.expect("read"), 0);
    let high = recorded(Stage::Done, 42, "uploaded");
    put(ledger, &[&high, &recorded(Stage::Done, 7, "uploaded"), &some_job()]).await;
    assert_eq!(ledger.last_seq().await.expect("read"), 42);
    ledger.write(vec![Write::Remove(high.id), Write::Seq(40)], Durability::Process).await.expect("removed");
    assert_eq!(ledger.last_seq().await.expect("read"), 42);
    ledger.write(vec![Write::Seq(50)], Durability::Process).await.expect("written");
    assert_eq!(ledger.last_seq().await.expect("read"), 50);
    ledger.start(recorded(Stage::Started, 60, "timeout"), false).await.expect("started");
    assert_eq!(ledger.last_seq().await.expect("read"), 60);
}

async fn pauses_are_kept_and_replaced(ledger: &dyn Ledger) {
    let pause = |host: &str, until| HostPause {
        host: host.to_owned(),
        until: WallTime::from_millis(until),
        since: WallTime::from_millis(3),
        reason: "429".to_owned(),
    };
    let writes = vec![Write::Pause(pause("b", 10)), Write::Pause(pause("a", 20)), Write::Pause(pause("b", 30))];
    ledger.write(writes, Durability::Process).await.expect("written");
    assert_eq!(ledger.pauses().await.expect("read"), [pause("a", 20), pause("b", 30)]);
    ledger.write(vec![Write::Resume("a".to_owned())], Durability::Process).await.expect("written");
    assert_eq!(ledger.pauses().await.expect("read"), [pause("b", 30)]);
}

async fn memos_are_kept_by_kind_and_key(ledger: &dyn Ledger) {
    let memo = |kind: &str, key: &str, value: &str| Memo { kind: kind.into(), key: key.into(), value: value.into() };
    let kept = ["b", "a", "b"].map(|key| Write::Keep(memo("album", key, "{}")));
    ledger.write(kept.to_vec(), Durability::Process).await.expect("written");
    let more = vec![
        Write::Keep(memo("quota", "a", "1")),
        Write::Keep(memo("album", "b", "[2]")),
        Write::Drop { kind: "album".into(), key: "nobody".into() },
    ];
    ledger.write(more, Durability::Process).await.expect("written");
    let albums = ledger.memos("album".into()).await.expect("read");
    assert_eq!(albums, [memo("album", "a", "{}"), memo("album", "b", "[2]")]);
    let gone = Write::Drop { kind: "album".into(), key: "a".into() };
    ledger.write(vec![gone], Durability::Process).await.expect("dropped");
    assert_eq!(ledger.memos("album".into()).await.expect("read"), [memo("album", "b", "[2]")]);
    assert_eq!(ledger.memos("quota".into()).await.expect("read"), [memo("quota", "a", "1")]);
}

async fn writes_apply_in_order_even_if_nobody_awaits_them(ledger: &dyn Ledger) {
    let mut job = some_job();
    for attempts in 1..=100 {
        job.attempts = attempts;
        drop(ledger.write(vec![Write::Put(Box::new(job.clone()))], Durability::Process));
    }
    ledger.write(Vec::new(), Durability::Power).await.expect("written");
    assert_eq!(ledger.job(job.id).await.expect("read").map(|job| job.attempts), Some(100));
}
