//! Which names are taken: not ours, not temporary ones, not what the user excluded.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::config::Folder;

/// File and directory names that are never taken, without regard to case: what programs write while they are not done,
/// what operating systems leave behind, and records of our own.
pub const IGNORED: [&str; 29] = [
    // Hidden: also `.syncthing.x.jpg.tmp`, rsync's `.x.jpg.Ab12Cd`, `.goutputstream-…`, `.~lock.x#`, macOS' `._x.jpg`.
    ".*",
    "~syncthing~*",
    // Downloads and copies in progress.
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "*.opdownload",
    "*.download",
    "*.aria2",
    "*.!ut",
    "*.tmp",
    "*.temp",
    // Editors.
    "~$*",
    "*~",
    "#*#",
    "*.swp",
    // Operating systems and storage boxes.
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "@eadir",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__macosx",
    // Manifests and sidecars of this and other folders.
    "*.json",
    "*.jsonl",
];

/// The filter of one drop folder: which files are offered, which directories are entered.
#[derive(Debug)]
pub struct Ignore {
    recursive: bool,
    /// Absolute: our folders, the manifest.
    own: Vec<PathBuf>,
    /// `IGNORED` and `exclude`, matched against the name of each component.
    names: GlobSet,
    /// Patterns of `exclude` with a `/`, matched against the path below the drop folder.
    paths: GlobSet,
    include_names: GlobSet,
    include_paths: GlobSet,
    takes_all: bool,
    root: PathBuf,
    manifest: PathBuf,
    /// The names of the link files.
    renderings: Vec<String>,
    /// Absolute: where no symbolic link may lead, besides `own`.
    closed: Vec<PathBuf>,
}

/// A pattern of `include` or `exclude` that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be used: {reason}; expected something like \"*.jpg\" or \"private/**\"")]
pub struct BadPattern {
    /// The pattern as it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Ignore {
    /// The filter for `folder`: its own folders and manifest, its patterns, and `own`: absolute files and folders that
    /// belong to us besides.
    ///
    /// # Errors
    /// When a pattern of the folder cannot be used.
    pub fn new(folder: &Folder, own: impl IntoIterator<Item = PathBuf>) -> Result<Self, BadPattern> {
        let (exclude_paths, exclude_names): (Vec<_>, Vec<_>) =
            folder.exclude.iter().partition(|glob| glob.contains('/'));
        let (include_paths, include_names): (Vec<_>, Vec<_>) =
            folder.include.iter().partition(|glob| glob.contains('/'));
        let ours = [&folder.done, &folder.retry, &folder.failed].map(PathBuf::clone);
        Ok(Self {
            recursive: folder.recursive,
            own: ours.into_iter().chain(own).collect(),
            names: globs(IGNORED.into_iter().chain(exclude_names.into_iter().map(String::as_str)))?,
            paths: globs(exclude_paths.into_iter().map(String::as_str))?,
            include_names: globs(include_names.into_iter().map(String::as_str))?,
            include_paths: globs(include_paths.into_iter().map(String::as_str))?,
            takes_all: folder.include.is_empty(),
            root: folder.path.clone(),
            manifest: folder.manifest.clone(),
            renderings: folder.render.iter().map(|rendering| rendering.file.clone()).collect(),
            closed: Vec::new(),
        })
    }

    /// The same, and no symbolic link is followed to these files and folders (absolute).
    #[must_use]
    pub fn closed_to(mut self, places: impl IntoIterator<Item = PathBuf>) -> Self {
        self.closed.extend(places);
        self
    }

    /// Where no symbolic link may lead: to what is ours, and to what others take care of.
    pub(super) fn closed(&self) -> impl Iterator<Item = &Path> {
        [&self.manifest].into_iter().chain(&self.own).chain(&self.closed).map(PathBuf::as_path)
    }

    /// Whether a file with this name, relative to the drop folder, is offered: judges the whole path.
    #[must_use]
    pub fn takes(&self, name: &Path) -> bool {
        let directories = name.ancestors().skip(1).filter(|ancestor| !ancestor.as_os_str().is_empty());
        is_below(name) && directories.into_iter().all(|directory| self.enters(directory)) && self.takes_here(name)
    }

    /// Whether this directory, relative to the drop folder, is entered, if the one it lies in is.
    #[must_use]
    pub fn enters(&self, directory: &Path) -> bool {
        self.recursive && !self.excluded(directory)
    }

    /// Whether this directory is entered: judges the whole path. The drop folder itself, the empty path, is.
    #[must_use]
    pub fn enters_all(&self, directory: &Path) -> bool {
        let mut directories = directory.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty());
        directory.as_os_str().is_empty() || (is_below(directory) && directories.all(|directory| self.enters(directory)))
    }

    /// Whether a file with this name is offered, if the directory it lies in is entered.
    #[must_use]
    pub fn takes_here(&self, name: &Path) -> bool {
        let Some(file_name) = name.file_name() else { return false };
        let included =
            self.takes_all || self.include_names.is_match(Path::new(file_name)) || self.include_paths.is_match(name);
        let rendering = is_rendering(file_name) || self.renderings.iter().any(|file| file_name == OsStr::new(file));
        included && !self.excluded(name) && !self.is_manifest(name, file_name) && !rendering
    }

    fn excluded(&self, path: &Path) -> bool {
        let by_name = path.file_name().is_some_and(|name| self.names.is_match(Path::new(name)));
        by_name || self.paths.is_match(path) || self.is_own(path)
    }

    fn is_own(&self, path: &Path) -> bool {
        let path = self.root.join(path);
        self.own.iter().any(|own| path.starts_with(own))
    }

    /// The manifest and what log rotation makes of it: `manifest.jsonl.1`, `manifest.jsonl-20261123.gz`.
    fn is_manifest(&self, path: &Path, file_name: &OsStr) -> bool {
        let Some(manifest) = self.manifest.file_name() else { return false };
        file_name.as_bytes().starts_with(manifest.as_bytes()) && self.root.join(path).parent() == self.manifest.parent()
    }
}

/// `links.bbcode.txt` and its relatives, also of formats that are not kept any more.
fn is_rendering(file_name: &OsStr) -> bool {
    let name = file_name.as_bytes();
    name.starts_with(b"links.") && name.ends_with(b".txt")
}

/// Only plain components: a relative path that stays below the drop folder.
fn is_below(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

fn globs<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<GlobSet, BadPattern> {
    let bad = |pattern: &str, error: &globset::Error| BadPattern {
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).case_insensitive(true).literal_separator(true).build();
        set.add(glob.map_err(|error| bad(pattern, &error))?);
    }
    set.build().map_err(|error| bad("all patterns together", &error))
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// A drop folder as the defaults have it.
    pub(in crate::watch) fn folder(path: &Path) -> Folder {
        Folder { max_bytes: 1 << 20, ..Folder::new(path.to_owned(), "local") }
    }

    fn ignore(change: impl FnOnce(&mut Folder)) -> Ignore {
        let mut folder = folder(Path::new("/d"));
        change(&mut folder);
        Ignore::new(&folder, [PathBuf::from("/d/state")]).expect("good patterns")
    }

    #[test]
    fn images_in_the_folder_and_below_are_taken_whatever_the_case_of_their_names() {
        let ignore = ignore(|_| ());
        for name in ["a.jpg", "A.JPG", "trip/day 1/ü.WebP", "new\nline.png", "donee/x.png", "links.txt.png"] {
            assert!(ignore.takes(Path::new(name)), "{name:?}");
        }
        assert!(ignore.takes(Path::new(OsStr::from_bytes(b"\xFF\xFE.png"))));
    }

    #[test]
    fn r7_temporary_and_hidden_names_are_not_taken() {
        let ignore = ignore(|folder| folder.include = vec!["*".to_owned()]);
        for name in [
            ".x.jpg",
            ".syncthing.x.jpg.tmp",
            ".x.jpg.Ab12Cd",
            "x.jpg.part",
            "x.jpg.PART",
            "x.jpg.crdownload",
            "x.jpg.partial",
            "x.download/x.jpg",
            "~$x.jpg",
            "x.jpg~",
            "Thumbs.db",
            "@eaDir/x.jpg",
            ".git/x.jpg",
            "a/.b/c/x.jpg",
            "../x.jpg",
            "/etc/x.jpg",
            "",
        ] {
            assert!(!ignore.takes(Path::new(name)), "{name:?}");
        }
    }

    #[test]
    fn our_own_files_are_not_taken_even_when_everything_is_included() {
        let ignore = ignore(|folder| folder.include = Vec::new());
        for name in [
            "done/x.jpg",
            "retry/trip/x.jpg",
            "failed/x.jpg",
            "manifest.jsonl",
            "manifest.jsonl.1",
            "manifest.jsonl-20261123.gz",
            "links.bbcode.txt",
            "trip/links.urls.txt",
            "x.jpg.json",
            "state/x.jpg",
        ] {
            assert!(!ignore.takes(Path::new(name)), "{name:?}");
        }
        assert!(ignore.takes(Path::new("trip/done/x.jpg")));
        assert!(!ignore.enters(Path::new("done")) && ignore.enters(Path::new("trip/done")));
    }

    #[test]
    fn include_and_exclude_narrow_by_name_or_by_path() {
        let ignore = ignore(|folder| {
            folder.include = vec!["*.png".to_owned(), "raw/*.tif".to_owned()];
            folder.exclude = vec!["draft*".to_owned(), "private/**".to_owned(), "cache".to_owned()];
        });
        let taken = ["a.png", "raw/a.tif", "b/private/a.png"];
        let left =
            ["a.jpg", "a.tif", "raw/deep/a.tif", "Draft 1.png", "drafts/a.png", "private/b/a.png", "b/cache/a.png"];
        assert!(taken.iter().all(|name| ignore.takes(Path::new(name))));
        assert!(!left.iter().any(|name| ignore.takes(Path::new(name))));
    }

    #[test]
    fn without_recursion_only_the_folder_itself_is_seen() {
        let ignore = ignore(|folder| folder.recursive = false);
        assert!(ignore.takes(Path::new("a.png")) && !ignore.takes(Path::new("b/a.png")));
        assert!(ignore.enters_all(Path::new("")) && !ignore.enters_all(Path::new("b")));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let mut folder = folder(Path::new("/d"));
        folder.exclude = vec!["[".to_owned()];
        let message = Ignore::new(&folder, []).expect_err("refused").to_string();
        assert!(message.contains("\"[\"") && message.contains("expected"), "{message}");
    }
}
