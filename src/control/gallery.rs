//! The gallery page: what was uploaded, newest first, with links to copy. Pure: rows in, HTML out.
//!
//! `maud` escapes everything; URLs pass [`texts`](super::texts) first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maud::{DOCTYPE, Markup, html};

use super::human;
use super::page::head;
use super::texts::Texts;
use crate::clock::WallTime;
use crate::job::{Job, JobId, Stage};
use crate::ledger::Census;
use crate::record::Record;

/// What the page shows.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// Finished jobs, newest first.
    pub(super) jobs: Vec<Job>,
    /// How many jobs stand where.
    pub(super) census: Vec<Census>,
    /// Where the next page begins.
    pub(super) older: Option<JobId>,
    /// Whether this is the first page.
    pub(super) newest: bool,
    /// The drop folders.
    pub(super) folders: &'a [PathBuf],
    /// Now.
    pub(super) now: WallTime,
}

pub(super) fn render(page: &Page<'_>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head("pixchute", &["/gallery.css"], "/gallery.js"))
            body {
                header {
                    h1 { a href="/" { "pixchute" } }
                    (counts(&page.census))
                    a href="/status" { "Status" }
                }
                main {
                    @if !page.jobs.is_empty() {
                        ul.grid { @for job in &page.jobs { (card(job, page.now)) } }
                    } @else if page.newest {
                        (empty(page.folders))
                    } @else {
                        p.empty { "Nothing older than this." }
                    }
                }
                (pager(page))
            }
        }
    }
}

/// The line that says what has not arrived here yet.
fn counts(census: &[Census]) -> Markup {
    let count = |stages: &[Stage]| -> u64 {
        census.iter().filter(|row| stages.contains(&row.stage)).map(|row| row.count).sum()
    };
    let waiting = count(&[Stage::Waiting]);
    let sending = count(&[Stage::Started]);
    let cooling = count(&[Stage::Cooling]);
    let failed = count(&[Stage::Failed]);
    html! {
        p.counts {
            span { b { (count(&[Stage::Done, Stage::Uploaded])) } " uploaded" }
            @if waiting > 0 { span { b { (waiting) } " waiting" } }
            @if sending > 0 { span { b { (sending) } " on the way" } }
            @if cooling > 0 {
                span.warn title="In retry/, sent again when their cooldown is over" { b { (cooling) } " cooling" }
            }
            @if failed > 0 {
                span.bad title="In failed/, each with its reason; `pixchute retry` tries again" {
                    b { (failed) } " failed"
                }
            }
        }
    }
}

fn card(job: &Job, now: WallTime) -> Markup {
    let name = job.name.to_string_lossy();
    let record = job.record.as_deref().and_then(|record| Record::parse(record.as_bytes()).ok());
    let uploaded_at = record.as_ref().map_or(job.queued_at, |record| record.at);
    let removed_at = record.as_ref().and_then(|record| record.removed_at);
    // What was undone leads nowhere.
    let texts = record
        .filter(|_| removed_at.is_none())
        .and_then(|record| record.links())
        .and_then(|links| Texts::of(&name, &links));
    let picture = html! {
        @match texts.as_ref().and_then(|texts| texts.thumb.as_deref()) {
            Some(thumb) => { img src=(thumb) alt="" loading="lazy" decoding="async"; }
            None => { span.plain { (kind(job)) } }
        }
    };
    html! {
        li.card.gone[removed_at.is_some()] {
            @match &texts {
                Some(texts) => {
                    a.picture href=(texts.url) target="_blank" rel="noopener noreferrer" { (picture) }
                }
                None => { div.picture { (picture) } }
            }
            div.facts {
                p.name title=(name) { (name) }
                p.about { (about(job, now.since(uploaded_at))) }
                p.about.where title=(job.folder.display()) { (folder_name(&job.folder)) " → " (job.host) }
                @match (&texts, removed_at) {
                    (Some(texts), _) => (copies(texts)),
                    (None, Some(at)) => { p.about { "undone " (human::age(now.since(at))) " ago" } }
                    (None, None) => { p.about.bad { "no usable link in its record" } }
                }
            }
        }
    }
}

fn copies(texts: &Texts) -> Markup {
    let rows = [("URL", &texts.url), ("BBCode", &texts.bbcode), ("Markdown", &texts.markdown), ("HTML", &texts.html)];
    html! {
        details {
            summary { "Copy link" }
            @for (label, text) in rows {
                label { span { (label) } input type="text" readonly value=(text) spellcheck="false"; }
            }
        }
    }
}

fn about(job: &Job, age: Duration) -> String {
    let mut parts = vec![human::size(job.fingerprint.len)];
    if let Some(image) = job.image {
        parts.push(format!("{} × {}", image.width, image.height));
    }
    parts.push(format!("{} ago", human::age(age)));
    parts.join(" · ")
}

fn kind(job: &Job) -> &'static str {
    job.image.map_or("image", |image| image.kind.name())
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
}

fn empty(folders: &[PathBuf]) -> Markup {
    html! {
        div.empty {
            h2 { "Nothing here yet" }
            p { "Drop a picture into " @if folders.len() == 1 { "this folder" } @else { "one of these folders" } ":" }
            @for folder in folders { p { code { (folder.display()) } } }
            p.about { "Its link appears here, in the folder's manifest, and in " code { "pixchute tail -f" } "." }
        }
    }
}

fn pager(page: &Page<'_>) -> Markup {
    html! {
        @if page.older.is_some() || !page.newest {
            nav {
                @if !page.newest { a href="/" { "← Newest" } }
                @if let Some(older) = page.older { a href={ "/?before=" (older) } rel="next" { "Older →" } }
            }
        }
    }
}
