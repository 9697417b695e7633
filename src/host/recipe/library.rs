//! Where recipes come from: built in, or the user's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Recipe, RecipeError, parse};
use crate::host::sxcu::Sxcu;

/// The built-in recipes: name and text.
const BUILT_IN: [(&str, &str); 13] = [
    ("catbox", include_str!("../../../config/hosts/catbox.toml")),
    ("chevereto", include_str!("../../../config/hosts/chevereto.toml")),
    ("freeimage", include_str!("../../../config/hosts/freeimage.toml")),
    ("imagebam", include_str!("../../../config/hosts/imagebam.toml")),
    ("imgbb", include_str!("../../../config/hosts/imgbb.toml")),
    ("imgur", include_str!("../../../config/hosts/imgur.toml")),
    ("imx", include_str!("../../../config/hosts/imx.toml")),
    ("litterbox", include_str!("../../../config/hosts/litterbox.toml")),
    ("pixhost", include_str!("../../../config/hosts/pixhost.toml")),
    ("s3", include_str!("../../../config/hosts/s3.toml")),
    ("turboimagehost", include_str!("../../../config/hosts/turboimagehost.toml")),
    ("vipr", include_str!("../../../config/hosts/vipr.toml")),
    ("webdav", include_str!("../../../config/hosts/webdav.toml")),
];

/// The largest recipe file that is read: the built-in ones have 3 kB.
const FILE_LIMIT: u64 = 256 * 1024;

/// How many files of the user's recipe folder are listed: far more than anybody has hosts.
const LISTED_LIMIT: usize = 1000;

/// Where a recipe came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Part of the program.
    BuiltIn,
    /// This file.
    File(PathBuf),
}

/// One recipe as it was found.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What `recipe = "NAME"` calls it: the file's name without its ending.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// The TOML, or the custom uploader as it would be written today, without secrets.
    pub text: String,
    /// The recipe, or what is wrong with it.
    pub recipe: Result<Recipe, RecipeError>,
    /// The ShareX custom uploader that it was made of.
    pub sxcu: Option<Box<Sxcu>>,
}

/// The ending of ShareX custom uploaders.
const SXCU: &str = "sxcu";

impl Listed {
    fn new(name: &str, origin: Origin, text: String) -> Self {
        let called = match &origin {
            Origin::BuiltIn => format!("built-in recipe {name}"),
            Origin::File(path) => path.display().to_string(),
        };
        Self { name: name.to_owned(), recipe: parse(&text, &called), origin, text, sxcu: None }
    }

    /// A custom uploader. Its text is the one without secrets.
    fn sxcu(name: &str, path: &Path, text: &str) -> Self {
        let wrong = |problems| RecipeError { origin: path.display().to_string(), problems };
        let (sxcu, recipe) = match Sxcu::read(text) {
            Ok(sxcu) => {
                let recipe = sxcu.recipe(name, &BTreeMap::new()).map_err(wrong);
                (Some(Box::new(sxcu)), recipe)
            }
            Err(problems) => (None, Err(wrong(problems))),
        };
        let text = sxcu.as_ref().map_or_else(String::new, |sxcu| sxcu.written());
        Self { name: name.to_owned(), recipe, origin: Origin::File(path.to_owned()), text, sxcu }
    }

    fn unreadable(name: &str, path: PathBuf, error: &io::Error) -> Self {
        let problems = vec![format!("cannot be read: {error}")];
        let recipe = Err(RecipeError { origin: path.display().to_string(), problems });
        Self { name: name.to_owned(), origin: Origin::File(path), text: String::new(), recipe, sxcu: None }
    }
}

/// All recipes by name: the built-in ones, and the user's in `folder`, which override those of the same name.
#[must_use]
pub fn recipes(folder: Option<&Path>) -> Vec<Listed> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.extend(folder.into_iter().flat_map(own_names));
    names.sort();
    names.dedup();
    names.iter().filter_map(|name| named(name, folder)).collect()
}

/// The recipe called `name`: the user's in `folder`, else the built-in one.
#[must_use]
pub fn named(name: &str, folder: Option<&Path>) -> Option<Listed> {
    // A name is not a path: it must not lead out of the folder.
    let folder = folder.filter(|_| !name.contains('/'));
    let own = ["toml", SXCU].iter().filter_map(|ending| Some(folder?.join(format!("{name}.{ending}"))));
    if let Some(path) = own.into_iter().find(|path| path.is_file()) {
        return Some(from_file(name, &path));
    }
    let (_, text) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)?;
    Some(Listed::new(name, Origin::BuiltIn, (*text).to_owned()))
}

/// The recipe in the file at `path`: a custom uploader if it ends so.
#[must_use]
pub fn from_file(name: &str, path: &Path) -> Listed {
    if path.extension().is_some_and(|ending| ending == SXCU) {
        return from_sxcu(name, path);
    }
    match read(path) {
        Ok(text) => Listed::new(name, Origin::File(path.to_owned()), text),
        Err(error) => Listed::unreadable(name, path.to_owned(), &error),
    }
}

/// The custom uploader in the file at `path`.
#[must_use]
pub fn from_sxcu(name: &str, path: &Path) -> Listed {
    match read(path) {
        Ok(text) => Listed::sxcu(name, path, &text),
        Err(error) => Listed::unreadable(name, path.to_owned(), &error),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > FILE_LIMIT {
        return Err(io::Error::other(format!("it is larger than {FILE_LIMIT} bytes")));
    }
    std::fs::read_to_string(path)
}

fn own_names(folder: &Path) -> Vec<String> {
    // No folder, no recipes of one's own: that is the usual case.
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let name = |path: PathBuf| {
        let is_recipe = path.extension().is_some_and(|extension| extension == "toml" || extension == SXCU);
        path.file_stem().filter(|_| is_recipe).and_then(|stem| stem.to_str()).map(str::to_owned)
    };
    entries.flatten().filter_map(|entry| name(entry.path())).take(LISTED_LIMIT).collect()
}
