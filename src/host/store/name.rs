//! What an object is called, and what its link is.

use std::collections::BTreeSet;

use super::sigv4::encoded;
use crate::host::Upload;
use crate::host::links::link;
use crate::host::recipe::Template;
use crate::job::{ContentHash, ErrorClass, Failure, ImageKind, Phase};

/// The variables of the option `key`.
const OF_KEY: [&str; 9] = ["blake3", "ext", "name", "stem", "extension", "mime", "bytes", "width", "height"];

/// The longest key: what S3 allows, in bytes.
const KEY_LIMIT: usize = 1024;

/// How much of the content's hash, in hex digits, makes a key one of its content: 64 bits, more than chance can hit.
const ADDRESS: usize = 16;

/// The templates of a store.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    key: Template,
    /// `None`: the address of the object in the store.
    public_url: Option<Template>,
}

/// The name of one object in its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Naming {
    /// Checks the options `key` and `public_url`; empty for its default.
    ///
    /// # Errors
    /// The option's name, and what is wrong with it.
    pub(super) fn new(key: &str, public_url: &str) -> Result<Self, (&'static str, String)> {
        let known: BTreeSet<String> = OF_KEY.map(str::to_owned).into();
        let key = Template::new(key, &known).map_err(|error| ("key", error.to_string()))?;
        let known = BTreeSet::from(["key".to_owned()]);
        let public_url = Some(public_url).filter(|text| !text.is_empty());
        let public_url = public_url.map(|text| Template::new(text, &known)).transpose();
        let naming = Self { key, public_url: public_url.map_err(|error| ("public_url", error.to_string()))? };
        // Mistakes show now and not with the first image.
        if naming.public_url.is_some() {
            let sample = |key: &str| naming.url(&Key(key.to_owned()), "").map_err(|error| ("public_url", error));
            if sample("ab/abcdef.jpg")? == sample("ab/abcdeg.jpg")? {
                return Err(("public_url", "it gives every image the same link; write {{ key }} into it".to_owned()));
            }
        }
        Ok(naming)
    }

    /// A key, for tests of its neighbours.
    #[cfg(test)]
    pub(super) fn sample_key(text: &str) -> Key {
        Key::new(text).expect("a key")
    }

    /// The key of the upload's image.
    ///
    /// # Errors
    /// Why this file cannot be named by the template.
    pub(super) fn key(&self, upload: &Upload) -> Result<Key, Box<Failure>> {
        let name = upload.source.name();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let image = &upload.image;
        let values = minijinja::context! {
            blake3 => image.hash.to_string(),
            ext => extension_of(image.kind),
            name, stem, extension,
            mime => image.kind.mime(),
            bytes => upload.source.len(),
            width => image.width,
            height => image.height,
        };
        let problem = |what: String| {
            let failure =
                Failure::new(ErrorClass::File, Phase::Inspect, format!("no key can be made of this file: {what}"));
            Box::new(failure.advise("change the option `key` of this host, or the file's name"))
        };
        let text = self.key.render_with(values).map_err(|error| problem(error.to_string()))?;
        Key::new(text.trim_start_matches('/')).map_err(problem)
    }

    /// The link to `key`; `address` is where it lies in the store.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn url(&self, key: &Key, address: &str) -> Result<String, String> {
        let text = match &self.public_url {
            None => address.to_owned(),
            Some(template) => {
                let values = minijinja::context! { key => key.encoded() };
                template.render_with(values).map_err(|error| error.to_string())?
            }
        };
        link(&text).map_err(|error| error.to_string())
    }
}

impl Key {
    /// # Errors
    /// What is wrong with `text` as a key.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        // Servers and proxies would fold such parts, and the object would lie elsewhere than its link says.
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("`{text}` has an empty part, or one that is only dots"));
        }
        if text.chars().any(char::is_control) {
            return Err("it contains control characters".to_owned());
        }
        if text.len() > KEY_LIMIT {
            return Err(format!("it is longer than {KEY_LIMIT} bytes"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Of the bucket or the folder itself.
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    /// Of an object that nobody has put there.
    pub(super) fn probe() -> Self {
        Self(".pixchute-doctor".to_owned())
    }

    /// As it is.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// For a URL: every byte encoded but letters, digits, `-._~` and the slash.
    pub(super) fn encoded(&self) -> String {
        encoded(&self.0)
    }

    /// Whether only this content can have this key.
    pub(super) fn is_address_of(&self, hash: &ContentHash) -> bool {
        self.0.contains(&hash.to_string()[..ADDRESS])
    }

    /// Another key beside this one: `a/x.jpg` → `a/x-1f2e….jpg`, one that only this content can have.
    pub(super) fn addressed(&self, hash: &ContentHash) -> Self {
        let (stem, dot, extension) = self.split();
        Self(format!("{stem}-{}{dot}{extension}", &hash.to_string()[..ADDRESS]))
    }

    /// The key of the thumbnail: `a/x.png` → `a/x_thumb.jpg`.
    pub(super) fn thumb(&self, kind: ImageKind) -> Self {
        let (stem, ..) = self.split();
        Self(format!("{stem}_thumb.{}", extension_of(kind)))
    }

    /// The folders above it, the outermost first: `a/b/x.jpg` → `a`, `a/b`.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    fn split(&self) -> (&str, &str, &str) {
        let name = self.0.rfind('/').map_or(0, |slash| slash + 1);
        match self.0[name..].rfind('.') {
            Some(dot) if dot > 0 => (&self.0[..name + dot], ".", &self.0[name + dot + 1..]),
            _ => (&self.0, "", ""),
        }
    }
}

/// The usual extension of this kind.
fn extension_of(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Jpeg => "jpg",
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_path_that_nothing_folds() {
        for good in ["a", "a/b.jpg", "ü ?#%/x", "...", ".x"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a//b", "a/", ".", "a/../b", "a/.", "a\nb", &"x".repeat(1025)] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_beside_a_key() {
        let hash = ContentHash([0xab; 32]);
        let table = [
            ("a/x.jpg", "a/x-abababababababab.jpg", "a/x_thumb.png"),
            ("a.b/x", "a.b/x-abababababababab", "a.b/x_thumb.png"),
            (".x", ".x-abababababababab", ".x_thumb.png"),
        ];
        for (key, addressed, thumb) in table {
            let key = Key::new(key).expect("a key");
            assert_eq!((key.addressed(&hash).0.as_str(), key.thumb(ImageKind::Png).0.as_str()), (addressed, thumb));
            assert!(!key.is_address_of(&hash) && key.addressed(&hash).is_address_of(&hash));
        }
        let folders = Key::new("a/b/x.jpg").expect("a key");
        assert_eq!(folders.folders().collect::<Vec<_>>(), ["a", "a/b"]);
    }

    #[test]
    fn mistakes_in_the_templates_show_when_the_host_is_built() {
        let wrong = |key: &str, url: &str| Naming::new(key, url).map(|_| ()).map_err(|(option, _)| option);
        assert_eq!(wrong("{{ blake3 }}.{{ ext }}", "https://h.example/{{ key }}"), Ok(()));
        assert_eq!(wrong("{{ blake3 }}", ""), Ok(()));
        assert_eq!(wrong("{{ hash }}", ""), Err("key"));
        for url in ["{{ key }}", "https://h.example/", "https://h.example/{{ name }}", "ftp://h.example/{{ key }}"] {
            assert_eq!(wrong("{{ blake3 }}", url), Err("public_url"), "{url}");
        }
    }
}
