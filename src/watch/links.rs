//! Where the symbolic links of a drop folder lead, for folders with `follow_symlinks`.
//!
//! A link can make a file out of any name, so a name says nothing about what is opened: here it is followed to its end
//! first, and that place is judged, and that place is opened, as a name that is no link any more.
//!
//! * **Nothing of ours.** A link that leads to our own folders, to what others watch, or back into the drop folder itself,
//!   is passed over: what lies there is taken by its own name, or not at all.
//! * **One name for each directory.** The first name that led to a directory keeps it; other links to it, or to one below
//!   it, are passed over. So each directory is entered once, whatever circles the links make.
//! * **What leads nowhere is not there**, until it does: a scan looks at such links each time.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ignore::Ignore;

/// How many directories are reached by a link of their own at most: a hundred times as many as anybody makes, in a few
/// megabytes. Further links are passed over, and the scan says that it has not seen everything.
const MAX_LINKED: usize = 16_384;

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To itself: there is no link on its way.
    Here,
    /// To this place elsewhere.
    Beyond(PathBuf),
    /// Nowhere at the moment.
    Nowhere,
    /// To something that is not taken by this name.
    Closed,
}

/// What is known about the links of one drop folder.
#[derive(Debug)]
pub(super) struct Links {
    top: PathBuf,
    /// The end of `top`, and of all where no link may lead.
    real: PathBuf,
    closed: Vec<PathBuf>,
    /// The names of the links by the directories that they lead to.
    names: HashMap<PathBuf, PathBuf>,
}

impl Links {
    /// For the drop folder `top`, which is there.
    pub(super) fn new(top: PathBuf, ignore: &Ignore) -> Self {
        let mut links = Self { real: top.clone(), top, closed: Vec::new(), names: HashMap::new() };
        links.look_again(ignore);
        links
    }

    /// Follows anew what may lie elsewhere by now: folders of ours are made when they are needed.
    pub(super) fn look_again(&mut self, ignore: &Ignore) {
        self.real = end_of(&self.top);
        self.closed = ignore.closed().map(end_of).collect();
    }

    /// Where `name`, relative to the drop folder, leads. Blocking.
    ///
    /// # Errors
    /// What the system says about the way, unless that it ends.
    pub(super) fn follow(&self, name: &Path) -> io::Result<Leads> {
        let real = match self.top.join(name).canonicalize() {
            Ok(real) => real,
            Err(error) if ends(&error) => return Ok(Leads::Nowhere),
            Err(error) => return Err(error),
        };
        if real == self.real.join(name) {
            return Ok(Leads::Here);
        }
        let closed = real.starts_with(&self.real) || self.closed.iter().any(|place| real.starts_with(place));
        Ok(if closed { Leads::Closed } else { Leads::Beyond(real) })
    }

    /// Whether the directory `name` is entered by this name. Blocking.
    ///
    /// # Errors
    /// What the system says about the way, or that there are too many links.
    pub(super) fn enters(&mut self, name: &Path, ignore: &Ignore) -> io::Result<bool> {
        let real = match self.follow(name)? {
            Leads::Here => return Ok(true),
            Leads::Nowhere | Leads::Closed => return Ok(false),
            Leads::Beyond(real) => real,
        };
        if let Some(first) = self.names.get(&real) {
            if first == name {
                return Ok(true);
            }
            if self.still_leads(first, &real) {
                return Ok(false);
            }
        } else if !self.top.join(name).is_symlink() {
            // It lies in a directory that has its name.
            return Ok(true);
        }
        if self.is_reached(&real, ignore) {
            return Ok(false);
        }
        if self.names.len() >= MAX_LINKED {
            let (top, mut names) = (self.top.clone(), std::mem::take(&mut self.names));
            names.retain(|real, name| top.join(name).canonicalize().is_ok_and(|now| now == *real));
            self.names = names;
            if self.names.len() >= MAX_LINKED {
                return Err(io::Error::other("too many links"));
            }
        }
        self.names.insert(real, name.to_owned());
        Ok(true)
    }

    /// Whether a directory above has a name, and this one is entered on the way down from there.
    fn is_reached(&self, real: &Path, ignore: &Ignore) -> bool {
        real.ancestors().skip(1).any(|above| {
            let Some(name) = self.names.get(above) else { return false };
            let by_way_of = real.strip_prefix(above).map(|below| name.join(below));
            by_way_of.is_ok_and(|way| ignore.enters_all(&way)) && self.still_leads(name, above)
        })
    }

    fn still_leads(&self, name: &Path, real: &Path) -> bool {
        self.follow(name).is_ok_and(|leads| leads == Leads::Beyond(real.to_owned()))
    }
}

/// What a link is, or that it leads nowhere at the moment. Blocking.
///
/// # Errors
/// What the system says about the way, unless that it ends.
pub(super) fn what_is_at(path: &Path) -> io::Result<Option<fs::FileType>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if ends(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether this says that a way ends before its goal: also because it goes in a circle.
fn ends(error: &io::Error) -> bool {
    const CIRCLE: i32 = rustix::io::Errno::LOOP.raw_os_error();
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(CIRCLE)
}

/// Where `path` leads, or would if it were there.
fn end_of(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    there.map_or_else(|| path.to_owned(), |(above, real)| real.join(path.strip_prefix(above).unwrap_or(Path::new(""))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::super::ignore::tests::folder;
    use super::*;

    /// A drop folder `d` and `elsewhere` beside it, with folders and links in them.
    fn links(dirs: &[&str], made: &[(&str, &str)]) -> (TempDir, Links, Ignore) {
        let top = TempDir::new().expect("a folder");
        fs::create_dir_all(top.path().join("d")).expect("a folder");
        dirs.iter().for_each(|dir| fs::create_dir_all(top.path().join(dir)).expect("a folder"));
        for (link, target) in made {
            symlink(target, top.path().join(link)).expect("a link");
        }
        let folder = folder(&top.path().join("d"));
        let closed = ["state", "other"].map(|name| top.path().join(name));
        let ignore = Ignore::new(&folder, []).expect("good patterns").closed_to(closed);
        let links = Links::new(folder.path, &ignore);
        (top, links, ignore)
    }

    fn entered(links: &mut Links, ignore: &Ignore, name: &str) -> bool {
        links.enters(Path::new(name), ignore).expect("can be followed")
    }

    #[test]
    fn links_to_what_is_ours_or_watched_or_in_the_folder_itself_are_closed() {
        let (_top, mut links, ignore) = links(
            &["d/sub", "d/done", "state/deep", "other", "x"],
            &[
                ("d/self", "."),
                ("d/in", "sub"),
                ("d/done2", "done"),
                ("d/state", "../state/deep"),
                ("d/other", "../other"),
                ("d/up", ".."),
                ("d/x", "../x"),
                ("d/hop", "x"),
            ],
        );
        for name in ["self", "in", "done2", "state", "other", "up/d", "up/d/sub", "up/state", "x/nothing"] {
            assert!(!entered(&mut links, &ignore, name), "{name}");
        }
        assert!(entered(&mut links, &ignore, "sub") && entered(&mut links, &ignore, "x"));
        assert!(entered(&mut links, &ignore, "up"), "what lies beside the drop folder is not ours");
    }

    #[test]
    fn each_directory_has_one_name_and_circles_end() {
        let (top, mut links, ignore) =
            links(&["x/deep", "y"], &[("d/a", "../x"), ("d/b", "../x"), ("d/c", "../x/deep"), ("x/y", "../y")]);
        for (link, target) in [("y/x", "../x"), ("x/self", "."), ("x/up", "deep")] {
            symlink(target, top.path().join(link)).expect("a link");
        }
        for name in ["a", "a/deep", "a/y", "a", "a/y"] {
            assert!(entered(&mut links, &ignore, name), "{name}");
        }
        for name in ["b", "c", "a/y/x", "a/self", "a/up"] {
            assert!(!entered(&mut links, &ignore, name), "{name}");
        }
    }

    #[test]
    fn a_name_is_given_away_when_its_link_leads_elsewhere() {
        let (top, mut links, ignore) = links(&["x", "y"], &[("d/a", "../x"), ("d/b", "../x")]);
        assert!(entered(&mut links, &ignore, "a") && !entered(&mut links, &ignore, "b"));
        #[expect(clippy::disallowed_methods, reason = "what a user does")]
        fs::remove_file(top.path().join("d/a")).expect("removes");
        symlink("../y", top.path().join("d/a")).expect("a link");
        assert!(entered(&mut links, &ignore, "b") && entered(&mut links, &ignore, "a"));
    }

    #[test]
    fn what_an_excluded_directory_hides_can_be_linked() {
        let (_top, mut links, ignore) = links(&["x/.hidden/y"], &[("d/a", "../x"), ("d/b", "../x/.hidden/y")]);
        assert!(entered(&mut links, &ignore, "a") && entered(&mut links, &ignore, "b"));
    }

    #[test]
    fn what_leads_nowhere_or_in_a_circle_is_not_there() {
        let (_top, links, _) = links(&[], &[("d/gone", "../nothing"), ("d/one", "two"), ("d/two", "one")]);
        for name in ["gone", "one", "gone/x.jpg"] {
            assert_eq!(links.follow(Path::new(name)).expect("followed"), Leads::Nowhere, "{name}");
        }
        assert_eq!(links.follow(Path::new("")).expect("followed"), Leads::Here);
    }
}
