//! Symbolic links, for drop folders whose owner wants them followed.
//!
//! A link in a drop folder is an entry of it like any other, and is moved or removed like one. What it leads to lies
//! elsewhere and is somebody else's: it is read, and never moved, changed or removed.

use std::borrow::Cow;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{ShelfError, create_dirs, look, parent, refuse_detours, remove, sync_dir, system};

/// The place of the file that `path` names: with `follow` the one that its links lead to.
///
/// # Errors
/// With `follow`, what the system says about the way; `NotFound` for a link that leads nowhere.
pub fn real(path: &Path, follow: bool) -> io::Result<Cow<'_, Path>> {
    if follow { Ok(Cow::Owned(path.canonicalize()?)) } else { Ok(Cow::Borrowed(path)) }
}

/// What lies at `path`: with `follow` what a link there leads to, else the link.
///
/// # Errors
/// What the system says.
pub fn metadata(path: &Path, follow: bool) -> io::Result<Metadata> {
    if follow { path.metadata() } else { path.symlink_metadata() }
}

/// Whether the way from `root` to `name` below it goes through a link to a folder. What `name` itself is does not matter.
#[must_use]
pub fn is_beyond_link(root: &Path, name: &Path) -> bool {
    let folders = name.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
    folders.into_iter().any(|folder| root.join(folder).is_symlink())
}

/// Moves the link `from` to `to`, whose folders are created: the new one names the whole path of the file it leads to, so
/// that it leads there from anywhere. Never overwrites. May be repeated after a crash, which leaves two links at worst.
///
/// # Errors
/// [`ShelfError::Vanished`] without a link or with one that leads nowhere, [`ShelfError::Taken`] when `to` is something
/// else, else what the system says; in every case `from` is untouched.
pub fn move_link(from: &Path, to: &Path) -> Result<(), ShelfError> {
    refuse_detours(from)?;
    refuse_detours(to)?;
    let before = look(from)?;
    let target = from.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ShelfError::Vanished { path: from.to_owned() },
        _ => system("follow the link", from)(error),
    })?;
    let make = || std::os::unix::fs::symlink(&target, to);
    let mut made = make();
    if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        create_dirs(parent(to))?;
        made = make();
    }
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = look(to)?;
            if (before.dev(), before.ino()) == (there.dev(), there.ino()) {
                // Both paths lead to this one link: it is there.
                return Ok(());
            }
            if to.read_link().ok().as_ref() != Some(&target) {
                return Err(ShelfError::Taken { path: to.to_owned() });
            }
        }
        made => made.map_err(system("make the link", to))?,
    }
    sync_dir(parent(to))?;
    remove(from)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_moved_link_leads_to_the_same_file_whatever_it_said_and_the_file_is_untouched() {
        let top = tempfile::TempDir::new().expect("a folder");
        let (drop, file) = (top.path().join("drop"), top.path().join("x.jpg"));
        fs::create_dir(&drop).expect("a folder");
        fs::write(&file, "picture").expect("writes");
        let (from, to) = (drop.join("l.jpg"), drop.join("done/trip/l.jpg"));
        symlink("../x.jpg", &from).expect("links");
        move_link(&from, &to).expect("moved");
        assert!(!from.is_symlink() && to.is_symlink());
        assert_eq!(to.canonicalize().expect("leads there"), file.canonicalize().expect("is there"));
        // Half done by an earlier try.
        symlink(&file, &from).expect("links");
        move_link(&from, &to).expect("finished");
        assert!(!from.is_symlink() && to.is_symlink() && file.is_file());
        // Something else has the name.
        symlink("..", &from).expect("links");
        assert!(matches!(move_link(&from, &to), Err(ShelfError::Taken { .. })));
        assert!(from.is_symlink());
    }

    #[test]
    fn a_link_that_leads_nowhere_stays_where_it_is() {
        let top = tempfile::TempDir::new().expect("a folder");
        let (from, to) = (top.path().join("l.jpg"), top.path().join("done/l.jpg"));
        symlink("nothing", &from).expect("links");
        assert!(matches!(move_link(&from, &to), Err(ShelfError::Vanished { .. })));
        assert!(from.is_symlink() && !to.is_symlink());
    }

    #[test]
    fn only_the_folders_on_the_way_make_a_file_lie_beyond_a_link() {
        let top = tempfile::TempDir::new().expect("a folder");
        fs::create_dir_all(top.path().join("drop/sub")).expect("folders");
        symlink(top.path(), top.path().join("drop/sub/away")).expect("links");
        symlink("away", top.path().join("drop/sub/l.jpg")).expect("links");
        let beyond = |name: &str| is_beyond_link(&top.path().join("drop"), Path::new(name));
        assert!(beyond("sub/away/x.jpg") && beyond("sub/away/deep/x.jpg"));
        assert!(!beyond("sub/l.jpg") && !beyond("sub/x.jpg") && !beyond("x.jpg"));
    }
}
