//! Undoing an upload: the image is deleted on its host, and the fact is kept.
//!
//! The host comes first, the bookkeeping after it: after a crash in between the same command finds the image gone, which
//! counts as deleted, and finishes. The manifest keeps its line, because it tells what happened; that the image is gone
//! stands in the ledger (so that nothing links to it any more), in a memo of the job (which the link files read) and in
//! the sidecar. Needs no running agent: whoever holds the ledger may do it.
//!
//! Files with the same content can have the same link, and nobody shall lose a link that was not named: who names a file
//! or a job gives up the link of that one, and the image goes with the last that has it; who names the link itself means
//! all of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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

/// Jobs that are read from the ledger at once.
const PAGE: usize = 500;

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
    if matches!(undone.result, UndoResult::Deleted | UndoResult::Kept) && !records.is_empty() {
        let (file, host) = (Path::new(&undone.file), undone.host.as_str());
        let fields = Fields { service: Some(host), file: Some(file), url: Some(&undone.url), ..Fields::default() };
        emit(Event::AgentSteered, &fields, format_args!("asked to undo {} on {host}: done", shown(file)));
    }
    Ok(undone)
}

impl Undo {
    /// Deletes what `body` names; also gives the records whose link is gone with it.
    ///
    /// # Errors
    /// Why there is nothing to be deleted, in words for the user.
    pub async fn run(self, body: UndoBody) -> Result<(Undone, Vec<Record>), String> {
        let mut records = self.find(&body.target).await?;
        let record = records.pop().ok_or("nothing was found")?;
        let links = record.links().ok_or_else(|| format!("{} has no link: nothing was uploaded", record.file))?;
        let gone = self.ledger.memos(REMOVED.to_owned()).await.map_err(|error| error.to_string())?;
        let gone: BTreeMap<String, String> = gone.into_iter().map(|memo| (memo.key, memo.value)).collect();
        records.retain(|other| !gone.contains_key(&other.job.to_string()));
        let (file, host, url) = (record.file.clone(), record.host.clone(), links.url.clone());
        let others: BTreeSet<String> = records.iter().map(|other| other.file.clone()).collect();
        let undone = |result| Undone { result, file, host, url, also: others.into_iter().collect() };
        if let Some(at) = gone.get(&record.job.to_string()) {
            return Ok((undone(UndoResult::Already(serde_json::from_str(at).unwrap_or(self.now))), Vec::new()));
        }
        if records.is_empty() || matches!(body.target, Target::Url(_)) {
            if let Some(twin) = self.under_way(&record).await? {
                let message = format!("the same picture is being sent as {twin}: repeat the command when that is done");
                return Ok((undone(UndoResult::Failed(message)), Vec::new()));
            }
            let result = self.delete_all(&record, links, body.dry_run).await;
            if result != UndoResult::Deleted {
                return Ok((undone(result), Vec::new()));
            }
            records.push(record);
            self.keep(&records).await?;
            return Ok((undone(UndoResult::Deleted), records));
        }
        let records = vec![record];
        if !body.dry_run {
            self.keep(&records).await?;
        }
        Ok((undone(UndoResult::Kept), records))
    }

    /// Deletes the image on each of its hosts; the first that keeps it is what there is to tell.
    async fn delete_all(&self, record: &Record, links: Links, dry_run: bool) -> UndoResult {
        let mut places = places_of(record);
        if places.is_empty() {
            places.push((record.host.clone(), links));
        }
        let mut result = UndoResult::Impossible;
        for (name, links) in &places {
            result = self.delete(name, links, dry_run).await;
            if !matches!(result, UndoResult::Deleted | UndoResult::Possible) {
                break;
            }
        }
        result
    }

    /// The name of another file with this content that is on its way to a host: on stores that name by content it may be
    /// about to get the same link.
    async fn under_way(&self, record: &Record) -> Result<Option<String>, String> {
        let mut after = None;
        loop {
            let page = self.ledger.unfinished(after, PAGE).await.map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { return Ok(None) };
            after = Some(last.id);
            let twin = page.iter().find(|job| {
                let sent = matches!(job.stage, Stage::Started | Stage::Uploaded);
                sent && job.id != record.job && job.image.is_some_and(|image| record.blake3 == Some(image.hash))
            });
            if let Some(twin) = twin {
                return Ok(Some(twin.name.display().to_string()));
            }
        }
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

    /// Every record that has the same link; the one that was meant is the last.
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
        // Folders that are not configured any more have links too.
        let known = self.ledger.census().await.map_err(unread)?.into_iter().map(|row| (row.folder, row.host));
        for (folder, host) in known.chain(job.map(|job| (job.folder, job.host))) {
            if !folders.iter().any(|known| known.path == folder) {
                folders.push(Folder::new(folder, &host));
            }
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
    let links = links_of(&meant);
    let mut records = Vec::new();
    for record in successes(folders) {
        let record = record?;
        if record.job != meant.job && links_of(&record).iter().any(|link| links.contains(link)) {
            records.push(record);
        }
    }
    records.push(meant);
    Ok(records)
}

/// Host and links of each place that has the image of a mirrored file.
fn places_of(record: &Record) -> Vec<(String, Links)> {
    record.mirrors.iter().filter_map(|mirror| Some((mirror.host.clone(), mirror.links()?))).collect()
}

/// The pages of the image on all its hosts.
fn links_of(record: &Record) -> Vec<String> {
    places_of(record).into_iter().map(|(_, links)| links.url).chain(record.url.clone()).collect()
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
    use crate::job::{ContentHash, ErrorClass, Failure, Fingerprint, ImageFacts, ImageKind, Phase};
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
            let fingerprint = Fingerprint { dev: 1, ino: self.seq, len: 1, mtime_ns: 0 };
            let (folder, queued_at) = (self.dir.path().to_owned(), WallTime::from_millis(0));
            let job = Job::new(folder, name.into(), "h".into(), fingerprint, queued_at);
            let mut job = Job { path: path.clone(), stage: Stage::Done, attempts: 1, ..job };
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

        let dry = world.undo(Target::Url(url(1)), true).await.expect("found");
        assert_eq!((dry.result, dry.also.as_slice()), (UndoResult::Possible, ["a.jpg".to_owned()].as_slice()));
        let dry = world.undo(Target::Job(job), true).await.expect("found");
        assert_eq!((dry.result, dry.also.as_slice()), (UndoResult::Kept, ["b.jpg".to_owned()].as_slice()));
        assert!(removed(&*world.ledger).await.expect("read").is_empty());

        let dropped = world.dir.path().join("a.jpg");
        let done = world.undo(Target::Path(dropped.clone()), false).await.expect("found");
        assert_eq!((done.result, done.file.as_str(), done.url), (UndoResult::Kept, "a.jpg", url(1)));
        assert_eq!(removed(&*world.ledger).await.expect("read"), [job].into());
        let again = world.undo(Target::Path(dropped), false).await.expect("found").result;
        assert!(matches!(again, UndoResult::Already(_)), "{again:?}");
        let last = world.undo(Target::Job(twin), false).await.expect("found");
        assert_eq!((last.result, last.also.len()), (UndoResult::Deleted, 0), "with the last link the image goes");
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
    async fn who_names_the_link_means_every_file_that_has_it() {
        let mut world = World::new();
        let url = "https://h.example/1";
        let jobs = [world.add("a.jpg", url, |_| {}).await, world.add("b.jpg", url, |_| {}).await];
        let done = world.undo(Target::Url(url.to_owned()), false).await.expect("found");
        assert_eq!((done.result, done.also.len()), (UndoResult::Deleted, 1));
        assert_eq!(removed(&*world.ledger).await.expect("read"), jobs.into());
    }

    #[tokio::test]
    async fn what_is_being_sent_again_is_not_deleted() {
        let mut world = World::new();
        let content = ContentHash([7; 32]);
        let job = world.add("a.jpg", "https://h.example/1", |record| record.blake3 = Some(content)).await;
        let facts = ImageFacts { kind: ImageKind::Png, width: 1, height: 1, animated: false, hash: content };
        let mut twin = world.ledger.job(job).await.expect("read").expect("there");
        (twin.id, twin.name, twin.stage, twin.image) = (JobId::generate(), "b.jpg".into(), Stage::Started, Some(facts));
        twin.record = None;
        world.ledger.write(vec![Write::Put(Box::new(twin))], Durability::Process).await.expect("written");
        let result = world.undo(Target::Job(job), false).await.expect("found").result;
        assert!(matches!(&result, UndoResult::Failed(why) if why.contains("b.jpg")), "{result:?}");
        assert!(removed(&*world.ledger).await.expect("read").is_empty());
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
