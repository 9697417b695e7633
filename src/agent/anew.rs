//! A drop folder that is made while the agent runs lies outside of the sandbox of its service: that lets in what was there
//! when the service was started, and shows everything else read-only. Nothing can be asked for then; a new start gets it.

use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{StatVfsMountFlags, statvfs};
use tokio::time::{Instant, sleep_until};

use super::shared::{FolderId, Note, Shared};
use crate::config::{After, Folder};
use crate::telemetry::{Event, Fields, emit, shown};

/// Set by units that start the agent anew when it ends with an error. Without it nobody would.
const RESTARTS: &str = "PIXCHUTE_RESTARTS";

/// How long a folder has been looked after before the agent ends for it: a script that makes it anew again and again causes
/// not much more than half of the starts that the units allow (`StartLimitBurst` in `StartLimitIntervalSec`).
const AT_LEAST: Duration = Duration::from_secs(15);

/// Ends the agent if the drop folder, which is another one than before, cannot be written for the sandbox. `since`: when it
/// began to be looked after.
pub(super) async fn look(shared: Arc<Shared>, folder: FolderId, since: Instant) {
    if std::env::var_os(RESTARTS).is_none() || !is_shut_out(&shared, folder).await {
        return;
    }
    tokio::select! {
        () = sleep_until(since + AT_LEAST) => {}
        () = shared.stopping.cancelled() => return,
    }
    // It may have gone again.
    if !is_shut_out(&shared, folder).await {
        return;
    }
    let path = &shared.slot(folder).config().path;
    emit(
        Event::AgentRestarting,
        &Fields { folder: Some(path), ..Fields::default() },
        format_args!(
            "{} is new, and the sandbox of the service shows it read-only: pixchute ends, to be started anew with it",
            shown(path)
        ),
    );
    let _ = shared.notes.send(Note::Restart).await;
}

async fn is_shut_out(shared: &Shared, folder: FolderId) -> bool {
    let config = shared.slot(folder).config();
    tokio::task::spawn_blocking(move || is_read_only(&config)).await.unwrap_or_default()
}

/// Whether what has to be written is seen through a mount that is read-only. Blocking.
fn is_read_only(folder: &Folder) -> bool {
    let written = if folder.after == After::Keep { folder.manifest.parent() } else { Some(folder.path.as_path()) };
    let found = written.and_then(|place| statvfs(place).ok());
    found.is_some_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}
