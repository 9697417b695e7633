//! What a process sees at a path: from its table of mounts (proc_pid_mountinfo(5)). Pure but for reading that.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Device, as `major:minor`.
    device: String,
    /// What of the device's file system is mounted.
    root: PathBuf,
    /// Where.
    place: PathBuf,
    read_only: bool,
}

/// How another process sees a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As we do.
    Alike,
    /// It cannot write there.
    ReadOnly,
    /// Something else is mounted over it, at this place.
    Hidden(PathBuf),
}

/// The mounts of a process, in their order; `None` where the system does not tell.
#[must_use]
pub fn of_process(pid: &str) -> Option<Mounts> {
    let text = std::fs::read(format!("/proc/{pid}/mountinfo")).ok()?;
    let mounts = text.split(|byte| *byte == b'\n').filter_map(read_line).collect();
    Some(Mounts(mounts))
}

/// A table of mounts.
#[derive(Debug)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// The mount that `path` lies on: the last one at the longest place above it.
    fn of(&self, path: &Path) -> Option<&Mount> {
        self.lowest(path, |_| true)
    }

    fn lowest(&self, path: &Path, counts: impl Fn(&Mount) -> bool) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.place) && counts(mount));
        above.max_by_key(|mount| mount.place.components().count())
    }

    /// Whether the folder that is mounted at `path`, which has no links in it, was removed where it came from.
    pub(super) fn shows_what_was_removed(&self, path: &Path) -> bool {
        self.of(path).is_some_and(|mount| mount.root.as_os_str().as_bytes().ends_with(b"//deleted"))
    }

    /// Whether what is mounted at `path`, which has no links in it, is just what lies there anyway: sandboxes mount folders
    /// over themselves to let them be written.
    pub(super) fn is_over_itself(&self, path: &Path) -> bool {
        let under = self.lowest(path, |mount| mount.place != path);
        under.is_some_and(|under| under.identity(path) == self.identity(path))
    }

    /// What is at `path`, as a place in a file system.
    fn identity(&self, path: &Path) -> Option<(&str, PathBuf)> {
        self.of(path)?.identity(path)
    }
}

impl Mount {
    /// What of the file system is at `path`, as this mount shows it.
    fn identity(&self, path: &Path) -> Option<(&str, PathBuf)> {
        let rest = path.strip_prefix(&self.place).ok()?;
        // Not `join` for the place itself: that would add a slash.
        let place = if rest.as_os_str().is_empty() { self.root.clone() } else { self.root.join(rest) };
        Some((&self.device, place))
    }
}

/// How the process with the mounts `theirs` sees `path`, which has no links in it.
#[must_use]
pub fn compare(theirs: &Mounts, ours: &Mounts, path: &Path) -> Seen {
    if theirs.identity(path) != ours.identity(path) {
        return Seen::Hidden(theirs.of(path).map_or_else(PathBuf::new, |mount| mount.place.clone()));
    }
    if theirs.of(path).is_some_and(|mount| mount.read_only) { Seen::ReadOnly } else { Seen::Alike }
}

fn read_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [_, _, device, root, place, options, ..] = fields[..] else { return None };
    Some(Mount {
        device: String::from_utf8_lossy(device).into_owned(),
        root: unescaped(root),
        place: unescaped(place),
        read_only: options.split(|byte| *byte == b',').any(|option| option == b"ro"),
    })
}

/// Blanks and the like stand as `\040`.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let octal = text
            .get(at..at + 4)
            .filter(|four| four[0] == b'\\')
            .and_then(|four| u8::from_str_radix(std::str::from_utf8(&four[1..]).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(text[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Mounts {
        Mounts(text.lines().filter_map(|line| read_line(line.as_bytes())).collect())
    }

    #[test]
    fn a_sandbox_is_told_from_its_mounts() {
        let ours = table(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n30 22 8:2 / /home rw - ext4 /dev/sda2 rw\n\
             31 22 0:5 / /mnt/my\\040pics rw - nfs server:/x rw\n",
        );
        // ProtectSystem=strict, ProtectHome=tmpfs, ReadWritePaths=/srv/pics, BindPaths=/home/a/Drop.
        let theirs = table(
            "522 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw\n523 522 0:99 / /home ro,nodev - tmpfs tmpfs ro\n\
             524 522 8:1 /srv/pics /srv/pics rw - ext4 /dev/sda1 rw\n525 523 8:2 /a/Drop /home/a/Drop rw - ext4 /dev/sda2 rw\n\
             526 522 0:5 / /mnt/my\\040pics ro - nfs server:/x rw\n",
        );
        let cases = [
            ("/srv/pics/done", Seen::Alike),
            ("/srv/other", Seen::ReadOnly),
            ("/home/a/Drop/done", Seen::Alike),
            ("/home/a/Pictures", Seen::Hidden("/home".into())),
            ("/mnt/my pics", Seen::ReadOnly),
        ];
        for (path, seen) in cases {
            assert_eq!(compare(&theirs, &ours, Path::new(path)), seen, "{path}");
        }
        assert_eq!(compare(&ours, &ours, Path::new("/home/a")), Seen::Alike);
    }

    #[test]
    fn r6_a_folder_that_a_sandbox_mounts_over_itself_is_no_mount_point() {
        let mounts = table(
            "1 0 8:1 / / ro - ext4 /dev/sda1 rw\n2 1 8:1 /mnt/empty /mnt/empty rw - ext4 /dev/sda1 rw\n\
             3 1 8:1 /data/x /mnt/bound rw - ext4 /dev/sda1 rw\n4 3 8:1 /data/x /mnt/bound rw - ext4 /dev/sda1 rw\n\
             5 1 8:2 / /mnt/disk rw - ext4 /dev/sda2 rw\n6 5 8:2 / /mnt/disk rw - ext4 /dev/sda2 rw\n",
        );
        let over_itself = |path: &str| mounts.is_over_itself(Path::new(path));
        assert!(over_itself("/mnt/empty"));
        assert!(!over_itself("/mnt/bound") && !over_itself("/mnt/disk"));
    }
}
