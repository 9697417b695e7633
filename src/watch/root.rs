//! Is the drop folder there, and is it the one it was?
//!
//! An unmount, and another file system mounted over the folder, make no event, and what appears then is a folder like any
//! other. So its identity is compared: device, inode, and the mount it is seen through, which is another one even if the
//! same disk comes back.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::mounts::{self, Mounts};
use super::native::DirectoryId;
use crate::config::Folder;

/// What tells one drop folder from another at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RootId {
    pub(super) directory: DirectoryId,
    /// The mount, where the system tells.
    mount: Option<u64>,
}

/// The drop folder as it is now, or what is there instead. Makes it if it is to be made. Blocking.
pub(super) fn find(folder: &Folder) -> Result<RootId, String> {
    let path = &folder.path;
    let mut metadata = fs::metadata(path);
    if folder.create && metadata.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        metadata = fs::create_dir_all(path).and_then(|()| fs::metadata(path));
    }
    let metadata = checked(folder, metadata)?;
    Ok(RootId { directory: (metadata.dev(), metadata.ino()), mount: mount_of(path) })
}

/// The number of the device that the drop folder lies on, if it is there and what it requires is so. Blocking.
#[must_use]
pub fn device(folder: &Folder) -> Option<u64> {
    checked(folder, fs::metadata(&folder.path)).ok().map(|metadata| metadata.dev())
}

fn checked(folder: &Folder, metadata: io::Result<Metadata>) -> Result<Metadata, String> {
    let path = &folder.path;
    let metadata = match metadata {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return Err("it is not a folder".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("it does not exist; it is used as soon as it does".to_owned());
        }
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    if metadata.nlink() == 0 && shows_what_was_removed(path) {
        return Err(
            "it was removed, and its mount still shows what was removed, as in the sandbox of a service: restart that when \
             the folder is there again"
                .to_owned(),
        );
    }
    if folder.require_mount && !is_mount_point(path, &metadata) {
        return Err(
            "nothing is mounted there, and `require_mount` is set; it is used as soon as something is".to_owned()
        );
    }
    if let Some(marker) = &folder.require_marker
        && path.join(marker).symlink_metadata().is_err()
    {
        return Err(format!("`require_marker` is set, and there is no {marker} in it; it is used as soon as there is"));
    }
    Ok(metadata)
}

/// Whether something is mounted there whose source was removed: then nothing that is made in its place can be seen. Some
/// file systems count no links, so that their number alone does not tell.
fn shows_what_was_removed(path: &Path) -> bool {
    of_mounts(path, Mounts::shows_what_was_removed)
}

/// The sandbox of a service makes a mount point of each folder that it lets in.
fn is_over_itself(path: &Path) -> bool {
    of_mounts(path, Mounts::is_over_itself)
}

fn of_mounts(path: &Path, ask: impl Fn(&Mounts, &Path) -> bool) -> bool {
    mounts::of_process("self").zip(path.canonicalize().ok()).is_some_and(|(mounts, path)| ask(&mounts, &path))
}

fn is_mount_point(path: &Path, metadata: &Metadata) -> bool {
    let Some(parent) = path.parent() else { return true };
    let mount = mount_of(path);
    if fs::metadata(parent).is_ok_and(|parent| parent.dev() != metadata.dev()) {
        return true;
    }
    mount.is_some() && mount != mount_of(parent) && !is_over_itself(path)
}

/// The number of the mount that `path` is seen through: never used again if the kernel can say so (Linux 6.8).
#[cfg(target_os = "linux")]
fn mount_of(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    // STATX_MNT_ID_UNIQUE of linux/stat.h. Kernels that do not know it answer the other question.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID | UNIQUE).ok()?;
    let told = StatxFlags::from_bits_retain(found.stx_mask).intersects(StatxFlags::MNT_ID | UNIQUE);
    told.then_some(found.stx_mnt_id)
}

#[cfg(not(target_os = "linux"))]
fn mount_of(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn folder(path: PathBuf) -> Folder {
        Folder::new(path, "local")
    }

    #[test]
    fn r6_a_folder_without_its_marker_is_not_there() {
        let top = tempfile::TempDir::new().expect("a folder");
        let folder = Folder { require_marker: Some(".mine".to_owned()), ..folder(top.path().to_owned()) };
        let reason = find(&folder).expect_err("no marker");
        assert!(reason.contains("no .mine in it"), "{reason}");
        fs::write(top.path().join(".mine"), "").expect("writes");
        assert!(find(&folder).is_ok() && device(&folder).is_some());
    }

    #[test]
    fn r6_a_folder_that_must_be_a_mount_point_is_not_there_while_nothing_is_mounted() {
        let top = tempfile::TempDir::new().expect("a folder");
        let plain = Folder { require_mount: true, ..folder(top.path().to_owned()) };
        assert!(find(&plain).expect_err("no mount").contains("nothing is mounted"));
        if cfg!(target_os = "linux") {
            let mounted = Folder { require_mount: true, ..folder(PathBuf::from("/proc")) };
            assert!(find(&mounted).is_ok());
        }
    }

    #[test]
    fn r6_looking_makes_no_folder() {
        let top = tempfile::TempDir::new().expect("a folder");
        let missing = Folder { create: true, ..folder(top.path().join("drop")) };
        assert!(device(&missing).is_none() && !missing.path.exists());
        assert!(find(&missing).is_ok() && missing.path.exists());
    }
}
