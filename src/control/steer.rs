//! The words of steering: what is asked of the running agent, and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::JobId;

/// Which jobs shall be cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelWhat {
    /// The files at these absolute paths, in `retry/` or under their dropped name.
    Paths(Vec<PathBuf>),
    /// One job.
    Job(JobId),
}

/// What became of a cancellation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// How many jobs go to `failed/`.
    pub cancelled: u64,
    /// The paths that belong to no job that could be cancelled, each with the reason.
    pub refused: Vec<String>,
}

/// What `POST /v1/cancel` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelBody {
    /// Absolute paths.
    pub paths: Vec<PathBuf>,
}

/// A host or a drop folder, as somebody named it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The word: the name of a host, or a path.
    pub name: String,
    /// The absolute path that it means if it is a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// What `POST /v1/pause` and `POST /v1/resume` take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PauseBody {
    /// Hosts and folders; none means everything.
    pub names: Vec<Named>,
}

/// Whether something shall be paused or go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Start nothing new.
    Pause,
    /// Go on.
    Resume,
}

/// What became of a pause or of its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// Hosts that are paused, or go on, now.
    pub hosts: Vec<String>,
    /// Drop folders that are paused, or go on, now.
    pub folders: Vec<PathBuf>,
    /// What was so already.
    pub unchanged: Vec<String>,
    /// Uploads of these hosts and folders that are under way and finish.
    pub running: usize,
    /// Names that are neither host nor drop folder, each with a suggestion.
    pub refused: Vec<String>,
}

/// What became of a rescan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescanned {
    /// How many folders are scanned now.
    pub folders: usize,
}

/// What became of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What differs, key by key; empty when nothing does.
    pub changes: Vec<String>,
    /// How many of these apply after the next start only.
    pub at_start: usize,
    /// Uploads that were under way and go on as they began.
    pub running: usize,
    /// Why nothing was changed: everything that is wrong with the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}
