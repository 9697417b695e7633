//! Undoing an upload: the image is deleted on its host, and the fact is kept.
//!
//! The host comes first, the bookkeeping after it: after a crash in between the same command finds the image gone, which
//! counts as deleted, and finishes. The manifest keeps its line, because it tells what happened; that the image is gone
//! stands in the ledger (so that nothing links to it any more), in a memo of the job (which the link files read) and in
//! the sidecar. Needs no running agent: whoever holds the ledger may do it.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use super::shared::Shared;
use crate::clock::WallTime;
use crate::config::Folder;
use crate::control::undo::{DEADLINE, Target, UndoBody, UndoResult, Undone};
use crate::host::Host;
use crate::job::{Job, JobId, Links, Stage};
use crate::ledger::{Durability, Ledger, LedgerError, Memo, Write};
use crate::record::manifest::replay;
use crate::record::{Record, sidecar};
use crate::telemetry::{Event, Fields, emit, shown, trouble};

/// The kind of the memos: the key is a job, the value the moment.
const REMOVED: &str = "removed";

/// The host of a name, if it is configured.
pub type Hosts = Box<dyn Fn(&str) -> Option<Arc<dyn Host>> + Send + Sync>;

/// What undoing needs.
pub struct Undo {
    /// Where the fact is kept.
    pub ledger: Arc<dyn Ledger>,
    /// The drop folders, for their manifests.
    pub folders: Vec<Folder>,
    /// Who can delete.
    pub host: Hosts,
    /// Now.
    pub now: WallTime,
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Undo").field("folders", &self.folders.len()).finish_non_exhaustive()
    }
}

/// The jobs whose images were deleted.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn removed(ledger: &dyn Ledger) -> Result<HashSet<JobId>, LedgerError> {
    let memos = ledger.memos(REMOVED.to_owned()).await?;
    Ok(memos.iter().filter_map(|memo| memo.key.parse().ok()).collect())
}

/// Deletes for the running agent, which keeps the link files up to date.
pub(super) async fn here(shared: &Arc<Shared>, body: UndoBody) -> Result<Undone, String> {
    let hosts = Arc::clone(shared);
    let undo = Undo {
        ledger: Arc::clone(&shared.ledger),
        folders: shared.folders().iter().map(|(_, slot)| Folder::clone(&slot.config())).collect(),
        host: Box::new(move |name| hosts.host_named(name).map(|id| hosts.host(id).host())),
        now: shared.clock.now(),
    };
    let (undone, records) = undo.run(body).await?;
    for record in &records {
        if let Some(folder) = shared.folder_of(Path::new(&record.folder)) {
            shared.links.note(folder, record);
        }
    }
    if undone.result == UndoResult::Deleted {
        let (file, host) = (Path::new(&undone.file), undone.host.as_str());
        let fields = Fields { service: Some(host), file: Some(file), url: Some(&undone.url), ..Fields::default() };
        emit(Event::AgentSteered, &fields, format_args!("asked to delete {} on {host}: done", shown(file)));
    }
    Ok(undone)
}

impl Undo {
    /// Deletes what `body` names; also gives the records whose link is gone with it.
    ///
    /// # Errors
    /// Why there is nothing to be deleted, in words for the user.
    pub async fn run(self, body: UndoBody) -> Result<(Undone, Vec<Record>), String> {
        let records = self.find(&body.target).await?;
        let record = records.last().ok_or("nothing was found")?.clone();
        let links = record.links().ok_or_else(|| format!("{} has no link: nothing was uploaded", record.file))?;
        let (file, host, url) = (record.file.clone(), record.host.clone(), links.url.clone());
        let others: BTreeSet<&String> =
            records.iter().map(|other| &other.file).filter(|other| **other != file).collect();
        let also = others.into_iter().cloned().collect();
        let undone = |result| Undone { result, file, host, url, also };
        if let Some(at) = self.removed_at(record.job).await? {
            return Ok((undone(UndoResult::Already(at)), Vec::new()));
        }
        // A mirrored file is on several hosts; the first that keeps it is what there is to tell.
        let mirrored = record.mirrors.iter().filter_map(|mirror| Some((mirror.host.clone(), mirror.links()?)));
        let mut places: Vec<(String, Links)> = mirrored.collect();
        if places.is_empty() {
            places.push((record.host.clone(), links));
        }
        let mut result = UndoResult::Impossible;
        for (name, links) in &places {
            result = self.delete(name, links, body.dry_run).await;
            if !matches!(result, UndoResult::Deleted | UndoResult::Possible) {
                break;
            }
        }
        if result != UndoResult::Deleted {
            return Ok((undone(result), Vec::new()));
        }
        self.keep(&records).await?;
        Ok((undone(result), records))
    }

    async fn delete(&self, name: &str, links: &Links, dry_run: bool) -> UndoResult {
        let Some(host) = (self.host)(name) else {
            return UndoResult::Failed(format!("{name} is not configured any more"));
        };
        let deadline = Instant::now() + DEADLINE;
        let Some(deleting) = host.delete(links, deadline) else {
            return links.delete_url.clone().map_or(UndoResult::Impossible, UndoResult::Page);
        };
        if dry_run {
            return UndoResult::Possible;
        }
        match tokio::time::timeout_at(deadline, deleting).await {
            Ok(Ok(())) => UndoResult::Deleted,
            Ok(Err(failure)) => UndoResult::Failed(failure.message),
            Err(_) => UndoResult::Failed(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    async fn removed_at(&self, job: JobId) -> Result<Option<WallTime>, String> {
        let memos = self.ledger.memos(REMOVED.to_owned()).await.map_err(|error| error.to_string())?;
        let memo = memos.into_iter().find(|memo| memo.key == job.to_string());
        Ok(memo.map(|memo| serde_json::from_str(&memo.value).unwrap_or(self.now)))
    }

    /// Every record of the same image on the same host; the one that was meant is the last.
    async fn find(&self, target: &Target) -> Result<Vec<Record>, String> {
        let unread = |error: LedgerError| error.to_string();
        let job = match target {
            Target::Job(id) => self.ledger.job(*id).await.map_err(unread)?,
            Target::Path(path) => self.ledger.at_path(path.clone()).await.map_err(unread)?,
            Target::Url(_) => None,
        };
        let meant = job.as_ref().and_then(|job| Record::parse(job.record.as_deref()?.as_bytes()).ok());
        if let (Some(job), None) = (&job, meant.as_ref().and_then(Record::links)) {
            return Err(format!("{} is {}: nothing was uploaded", job.name.display(), job.stage.name()));
        }
        let mut folders = self.folders.clone();
        if let Some(job) = &job
            && !folders.iter().any(|folder| folder.path == job.folder)
        {
            folders.push(Folder::new(job.folder.clone(), &job.host));
        }
        let target = target.clone();
        let reading = tokio::task::spawn_blocking(move || search(&folders, &target, meant));
        reading.await.map_err(|error| error.to_string())?
    }

    /// Writes down that these are gone.
    async fn keep(&self, records: &[Record]) -> Result<(), String> {
        let value = serde_json::to_string(&self.now).map_err(|error| error.to_string())?;
        let mut writes = Vec::new();
        let mut places: Vec<(PathBuf, JobId)> = Vec::new();
        for record in records {
            let key = record.job.to_string();
            writes.push(Write::Keep(Memo { kind: REMOVED.to_owned(), key, value: value.clone() }));
            if let Ok(Some(job)) = self.ledger.job(record.job).await
                && let Some(marked) = self.marked(&job)
            {
                places.push((job.path.clone(), job.id));
                writes.push(Write::Put(Box::new(marked)));
            }
        }
        self.ledger.write(writes, Durability::Power).await.map_err(|error| {
            format!("the image is deleted, but that could not be written down ({error}); repeat the command")
        })?;
        let now = self.now;
        let beside =
            tokio::task::spawn_blocking(move || places.iter().for_each(|(path, job)| mark_sidecar(path, *job, now)));
        if let Err(error) = beside.await {
            trouble("sidecars were not marked (a bug)", &error);
        }
        Ok(())
    }

    /// The finished job with the fact in its record: nothing links to it any more.
    fn marked(&self, job: &Job) -> Option<Job> {
        let mut record = Record::parse(job.record.as_deref()?.as_bytes()).ok()?;
        record.removed_at = Some(self.now);
        let finished = job.stage == Stage::Done && !job.pending;
        finished.then(|| Job { record: Some(record.json()), ..job.clone() })
    }
}

fn mark_sidecar(path: &Path, job: JobId, now: WallTime) {
    let Some(record) = sidecar::read(path).filter(|record| record.job == job) else { return };
    if let Err(error) = sidecar::write(path, &Record { removed_at: Some(now), ..record }) {
        trouble("a sidecar does not tell that its image was deleted", &error);
    }
}

/// Looks through the manifests. Blocking.
fn search(folders: &[Folder], target: &Target, mut meant: Option<Record>) -> Result<Vec<Record>, String> {
    if meant.is_none() {
        for record in successes(folders) {
            let record = record?;
            if is_meant(&record, target) && meant.as_ref().is_none_or(|known| known.seq <= record.seq) {
                meant = Some(record);
            }
        }
    }
    let meant = meant.ok_or_else(|| match target {
        Target::Job(id) => format!("{id}: no such job"),
        Target::Url(url) => format!("{url}: no manifest has this link"),
        Target::Path(path) => format!("{}: no upload of this name is known", path.display()),
    })?;
    let mut records = Vec::new();
    for record in successes(folders) {
        let record = record?;
        if record.job != meant.job && record.host == meant.host && record.url == meant.url {
            records.push(record);
        }
    }
    records.push(meant);
    Ok(records)
}

fn successes(folders: &[Folder]) -> impl Iterator<Item = Result<Record, String>> {
    let read = |folder: &Folder| {
        let cannot = |error: std::io::Error, manifest: &Path| format!("{} cannot be read: {error}", manifest.display());
        let manifest = folder.manifest.clone();
        match replay(&manifest) {
            Ok(records) => Box::new(records.map(move |record| record.map_err(|error| cannot(error, &manifest))))
                as Box<dyn Iterator<Item = Result<Record, String>>>,
            Err(error) => Box::new(std::iter::once(Err(cannot(error, &manifest)))),
        }
    };
    let wanted = |record: &Result<Record, String>| record.as_ref().map_or(true, |record| record.status.is_success());
    folders.iter().flat_map(read).filter(wanted)
}

fn is_meant(record: &Record, target: &Target) -> bool {
    match target {
        Target::Job(id) => record.job == *id,
        Target::Url(url) => {
            let links = [&record.url, &record.image, &record.thumb, &record.delete_url];
            links.into_iter().flatten().any(|link| link == url)
        }
        Target::Path(path) => {
            let folder = Path::new(&record.folder);
            let dropped = record.name().map(|name| folder.join(name));
            let moved = record.moved_to.as_ref().map(|moved| folder.join(moved));
            [dropped, moved].into_iter().flatten().any(|place| place == *path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::host::{Doing, Limits, Sending, Upload};
    use crate::job::{ErrorClass, Failure, Fingerprint, Phase};
    use crate::ledger::MemoryLedger;
    use crate::record::Status;

    /// A host that deletes what has a token.
    #[derive(Debug)]
    struct Deleting(Limits);

    impl Host for Deleting {
        fn name(&self) -> &str {
            "h"
        }

        fn limits(&self) -> &Limits {
            &self.0
        }

        fn upload<'a>(&'a self, _upload: &'a Upload) -> Sending<'a> {
            Box::pin(async { Err(Failure::new(ErrorClass::File, Phase::Send, "not here")) })
        }

        fn delete<'a>(&'a self, uploaded: &'a Links, _deadline: Instant) -> Option<Doing<'a>> {
            let token = uploaded.delete_token.as_deref()?;
            let answer =
                if token == "good" { Ok(()) } else { Err(Failure::new(ErrorClass::Account, Phase::Response, "no")) };
            Some(Box::pin(async move { answer }))
        }
    }

    struct World {
        dir: tempfile::TempDir,
        ledger: Arc<MemoryLedger>,
        seq: u64,
    }

    impl World {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().expect("a folder"), ledger: Arc::new(MemoryLedger::default()), seq: 0 }
        }

        /// A finished upload in ledger, manifest and sidecar.
        async fn add(&mut self, name: &str, url: &str, change: impl FnOnce(&mut Record)) -> JobId {
            self.seq += 1;
            let path = self.dir.path().join("done").join(name);
            std::fs::create_dir_all(path.parent().expect("done")).expect("made");
            let mut job = Job {
                id: JobId::generate(),
                folder: self.dir.path().to_owned(),
                name: name.into(),
                path: path.clone(),
                host: "h".into(),
                stage: Stage::Done,
                fingerprint: Fingerprint { dev: 1, ino: self.seq, len: 1, mtime_ns: 0 },
                image: None,
                attempts: 1,
                requeues: 0,
                unknown_outcomes: 0,
                queued_at: WallTime::from_millis(0),
                not_before: None,
                record: None,
                pending: false,
            };
            let mut record = Record::of(&job, self.seq, WallTime::from_millis(0), Status::Uploaded);
            record.url = Some(url.to_owned());
            record.delete_token = Some("good".to_owned());
            record.moved_to = Some(format!("done/{name}"));
            change(&mut record);
            job.record = Some(record.json());
            let manifest = self.dir.path().join("manifest.jsonl");
            let old = std::fs::read_to_string(&manifest).unwrap_or_default();
            std::fs::write(manifest, old + &record.line()).expect("written");
            sidecar::write(&path, &record).expect("written");
            let id = job.id;
            self.ledger.write(vec![Write::Put(Box::new(job))], Durability::Process).await.expect("written");
            id
        }

        async fn undo(&self, target: Target, dry_run: bool) -> Result<Undone, String> {
            let undo = Undo {
                ledger: self.ledger.clone(),
                folders: vec![Folder::new(self.dir.path().to_owned(), "h")],
                host: Box::new(|name| (name == "h").then(|| Arc::new(Deleting(Limits::default())) as Arc<dyn Host>)),
                now: Clock::System.now(),
            };
            undo.run(UndoBody { target, dry_run }).await.map(|(undone, _)| undone)
        }
    }

    #[tokio::test]
    async fn an_upload_is_found_by_each_of_its_names_and_the_fact_is_kept() {
        let mut world = World::new();
        let url = |n: u32| format!("https://h.example/{n}");
        let job = world.add("a.jpg", &url(1), |_| {}).await;
        let twin = world.add("b.jpg", &url(1), |record| record.status = Status::Linked).await;
        let other = world.add("c.jpg", &url(2), |_| {}).await;

        let dry = world.undo(Target::Job(job), true).await.expect("found");
        assert_eq!((dry.result, dry.also.as_slice()), (UndoResult::Possible, ["b.jpg".to_owned()].as_slice()));
        assert!(removed(&*world.ledger).await.expect("read").is_empty());

        let dropped = world.dir.path().join("a.jpg");
        let done = world.undo(Target::Path(dropped), false).await.expect("found");
        assert_eq!((done.result, done.file.as_str(), done.url), (UndoResult::Deleted, "a.jpg", url(1)));
        assert_eq!(removed(&*world.ledger).await.expect("read"), [job, twin].into());
        let kept = world.ledger.job(job).await.expect("read").expect("there").record.expect("a record");
        assert!(Record::parse(kept.as_bytes()).expect("a record").removed_at.is_some());
        let place = |name: &str| world.dir.path().join("done").join(name);
        assert!(sidecar::read(&place("a.jpg")).expect("there").removed_at.is_some());
        assert!(sidecar::read(&place("c.jpg")).expect("there").removed_at.is_none());

        assert!(matches!(world.undo(Target::Url(url(1)), false).await.expect("found").result, UndoResult::Already(_)));
        assert_eq!(world.undo(Target::Path(place("c.jpg")), true).await.expect("found").result, UndoResult::Possible);
        assert_eq!(world.undo(Target::Job(other), false).await.expect("found").result, UndoResult::Deleted);
    }

    #[tokio::test]
    async fn what_cannot_be_deleted_is_told_with_what_is_left_to_do() {
        let mut world = World::new();
        let page = "https://h.example/delete/1";
        let with_page = world.add("page.jpg", "https://h.example/1", |record| {
            record.delete_token = None;
            record.delete_url = Some(page.to_owned());
        });
        let with_page = with_page.await;
        let nothing = world.add("none.jpg", "https://h.example/2", |record| record.delete_token = None).await;
        let refused =
            world.add("bad.jpg", "https://h.example/3", |record| record.delete_token = Some("bad".into())).await;
        let gone = world.add("gone.jpg", "https://h.example/4", |record| record.host = "other".into()).await;
        for (job, expected) in [
            (with_page, UndoResult::Page(page.to_owned())),
            (nothing, UndoResult::Impossible),
            (refused, UndoResult::Failed("no".to_owned())),
            (gone, UndoResult::Failed("other is not configured any more".to_owned())),
        ] {
            assert_eq!(world.undo(Target::Job(job), false).await.expect("found").result, expected);
        }
        assert!(removed(&*world.ledger).await.expect("read").is_empty());
        let unknown = world.undo(Target::Url("https://h.example/99".into()), false).await.expect_err("unknown");
        assert!(unknown.contains("no manifest has this link"), "{unknown}");
        let unknown = world.undo(Target::Path("/nowhere/x.jpg".into()), false).await.expect_err("unknown");
        assert!(unknown.contains("no upload of this name is known"), "{unknown}");
    }
}
