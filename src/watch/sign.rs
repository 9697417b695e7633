//! What an event of the operating system means for us: pure.

use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode, CreateKind, Event, EventKind, ModifyKind, RemoveKind, RenameMode};

use crate::settle::Sign;

/// What one event comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing that could bring a file to us; our own reading makes most of these.
    Nothing,
    /// Something may have happened to these paths.
    Signs(Sign, Vec<PathBuf>),
    /// These paths went away: only of interest if one is the drop folder itself.
    Left(Vec<PathBuf>),
    /// Events were lost.
    Lost,
}

/// What `event` means. A rename reports its target by itself, so the pair is not needed.
pub(super) fn meaning(event: Event) -> Meaning {
    if event.need_rescan() {
        return Meaning::Lost;
    }
    let sign = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            Sign::Closed
        }
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => Sign::Writing,
        EventKind::Create(CreateKind::File | CreateKind::Folder | CreateKind::Any | CreateKind::Other)
        | EventKind::Modify(ModifyKind::Metadata(_) | ModifyKind::Other | ModifyKind::Name(RenameMode::Any | RenameMode::Other))
        | EventKind::Any
        | EventKind::Other => Sign::Seen,
        EventKind::Remove(RemoveKind::Any | RemoveKind::File | RemoveKind::Folder | RemoveKind::Other)
        | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => return Meaning::Left(event.paths),
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return Meaning::Nothing,
    };
    Meaning::Signs(sign, event.paths)
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, MetadataKind};

    use super::*;

    #[test]
    fn every_kind_of_event_has_its_meaning() {
        let signs = |sign| Meaning::Signs(sign, vec![PathBuf::from("/d/x")]);
        let left = Meaning::Left(vec![PathBuf::from("/d/x")]);
        let table = [
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), Meaning::Nothing),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), Meaning::Nothing),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), signs(Sign::Closed)),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), signs(Sign::Closed)),
            (EventKind::Modify(ModifyKind::Name(RenameMode::Both)), Meaning::Nothing),
            (EventKind::Modify(ModifyKind::Name(RenameMode::From)), left.clone()),
            (EventKind::Modify(ModifyKind::Name(RenameMode::Any)), signs(Sign::Seen)),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), signs(Sign::Writing)),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), signs(Sign::Seen)),
            (EventKind::Create(CreateKind::File), signs(Sign::Seen)),
            (EventKind::Create(CreateKind::Folder), signs(Sign::Seen)),
            (EventKind::Remove(RemoveKind::File), left.clone()),
            (EventKind::Remove(RemoveKind::Folder), left),
            (EventKind::Any, signs(Sign::Seen)),
        ];
        for (kind, expected) in table {
            assert_eq!(meaning(Event::new(kind).add_path(PathBuf::from("/d/x"))), expected, "{kind:?}");
        }
    }

    #[test]
    fn r3_a_full_kernel_queue_means_that_events_were_lost() {
        assert_eq!(meaning(Event::new(EventKind::Other).set_flag(Flag::Rescan)), Meaning::Lost);
    }
}
