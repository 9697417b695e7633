//! Importing a custom uploader: a copy in the syntax of today without its secrets, a file for each secret, and the
//! table for the configuration. Nothing is ever overwritten, and no secret is part of a message.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::Sxcu;

/// A secret is for its owner only.
const SECRET_MODE: u32 = 0o600;
const SECRET_FOLDER_MODE: u32 = 0o700;

/// The longest name that is made of a file's own.
const NAME_LIMIT: usize = 40;

/// What an import would do.
#[derive(Debug)]
pub struct Import {
    /// The uploader.
    pub sxcu: Sxcu,
    /// What the host will be called.
    pub name: String,
    folder: PathBuf,
}

impl Import {
    /// An import of `sxcu` as `name`, or under a name made of its own, into `folder`.
    #[must_use]
    pub fn new(sxcu: Sxcu, name: Option<&str>, folder: &Path) -> Self {
        let name = name.map_or_else(|| slug(&sxcu.name()), str::to_owned);
        Self { sxcu, name, folder: folder.to_owned() }
    }

    /// The copy.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.sxcu", self.name))
    }

    fn secret_folder(&self) -> PathBuf {
        self.folder.join(format!("{}.secrets", self.name))
    }

    /// The files of the secrets.
    #[must_use]
    pub fn secret_files(&self) -> Vec<PathBuf> {
        self.sxcu.secrets.keys().map(|name| self.secret_folder().join(name)).collect()
    }

    /// What stands in the way: files that would be overwritten or shadowed.
    #[must_use]
    pub fn obstacle(&self) -> Option<PathBuf> {
        let recipe = self.folder.join(format!("{}.toml", self.name));
        [self.file(), recipe, self.secret_folder()].into_iter().find(|path| path.symlink_metadata().is_ok())
    }

    /// The table for the configuration file, whose folder holds the folder of recipes.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines = vec![format!("[host.{}]", self.name)];
        lines.push(format!("recipe = {}", quoted(&format!("sxcu:hosts/{}.sxcu", self.name))));
        for (name, path) in self.sxcu.secrets.keys().zip(self.secret_files()) {
            lines.push(format!("{} = {{ file = {} }}", key(name), quoted(&path.display().to_string())));
        }
        for name in self.sxcu.asked_secrets().iter().filter(|name| !self.sxcu.secrets.contains_key(*name)) {
            lines.push(format!("# {} = {{ file = \"/path\" }}   # the file asks for this secret", key(name)));
        }
        for (name, offered) in self.sxcu.questions() {
            let (table, title) = name.split_once('.').unwrap_or(("prompt", &name));
            let offered = offered.unwrap_or_default();
            let what = if offered.is_empty() { "needed: ShareX would ask for it" } else { "ShareX would ask for it" };
            lines.push(format!("# {table}.{} = {}   # {what}", key(title), quoted(&offered)));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Writes the copy and the secrets.
    ///
    /// # Errors
    /// What the system says, with the path; `AlreadyExists` when something would be overwritten.
    pub fn write(&self) -> Result<(), (PathBuf, io::Error)> {
        if let Some(path) = self.obstacle() {
            return Err((path, io::ErrorKind::AlreadyExists.into()));
        }
        fs::create_dir_all(&self.folder).map_err(|error| (self.folder.clone(), error))?;
        if !self.sxcu.secrets.is_empty() {
            let folder = self.secret_folder();
            DirBuilder::new().mode(SECRET_FOLDER_MODE).create(&folder).map_err(|error| (folder, error))?;
        }
        for (secret, path) in self.sxcu.secrets.values().zip(self.secret_files()) {
            write_secret(&path, secret).map_err(|error| (path, error))?;
        }
        let path = self.file();
        write_new(&path, self.sxcu.written().as_bytes(), 0o644).map_err(|error| (path, error))
    }
}

fn write_secret(path: &Path, secret: &SecretString) -> io::Result<()> {
    write_new(path, secret.expose_secret().as_bytes(), SECRET_MODE)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// `text` as a name for a host.
fn slug(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(NAME_LIMIT);
    let name = name.trim_matches('-');
    if name.is_empty() { "uploader".to_owned() } else { name.to_owned() }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = r#"{ "Version": "12.4.1", "Name": "Pics (User)", "RequestURL": "https://h.example/up?key=CANARYkey", "Body": "MultipartFormData",
        "FileFormName": "f", "Headers": { "Authorization": "Bearer CANARYtoken" }, "Arguments": { "a": "$prompt:Your album|x$" }, "URL": "$json:u$" }"#;

    #[test]
    fn r26_secrets_go_into_files_of_their_own_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let hosts = folder.path().join("hosts");
        let import = Import::new(Sxcu::read(FILE).expect("a file"), None, &hosts);
        assert_eq!(import.name, "pics-user");
        let table = import.table();
        let secrets = hosts.join("pics-user.secrets");
        let expected = format!(
            "[host.pics-user]\nrecipe = \"sxcu:hosts/pics-user.sxcu\"\nauthorization = {{ file = \"{0}/authorization\" }}\n\
             key = {{ file = \"{0}/key\" }}\n# prompt.\"Your album\" = \"x\"   # ShareX would ask for it\n",
            secrets.display()
        );
        assert_eq!(table, expected);
        import.write().expect("written");
        let copy = fs::read_to_string(import.file()).expect("the copy");
        assert!(
            copy.contains("Bearer {secret:authorization}") && copy.contains("{json:u}") && !copy.contains("CANARY")
        );
        for (path, secret) in import.secret_files().iter().zip(["CANARYtoken", "CANARYkey"]) {
            assert_eq!(fs::read_to_string(path).expect("a secret"), secret);
            assert_eq!(fs::metadata(path).expect("a file").permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&secrets).expect("a folder").permissions().mode() & 0o777, 0o700);
        let (path, error) = import.write().expect_err("it is there");
        assert_eq!((path, error.kind()), (import.file(), io::ErrorKind::AlreadyExists));
    }

    #[test]
    fn names_are_made_of_anything() {
        for (text, name) in [("h.example", "h-example"), ("  Ü-Bild (2)!", "bild-2"), ("***", "uploader")] {
            assert_eq!(slug(text), name);
        }
        assert!(slug(&"a".repeat(99)).len() <= NAME_LIMIT);
    }
}
