//! Where things lie: the platform's places, and systemd's when it gives some.
//!
//! Nothing here touches the disk, but for [`socket_of_agent`]. Without a home directory (a system service) the places of the file system hierarchy
//! apply.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use super::Config;

/// The name of the configuration file in its folder.
const CONFIG_FILE: &str = "config.toml";

/// Where the ledger lies: `$STATE_DIRECTORY`, or the platform's state folder, or its data folder where it has none.
#[must_use]
pub fn state_dir() -> PathBuf {
    given("STATE_DIRECTORY").unwrap_or_else(|| {
        let place = project().map(|dirs| dirs.state_dir().unwrap_or(dirs.data_dir()).to_owned());
        place.unwrap_or_else(|| PathBuf::from("/var/lib/pixchute"))
    })
}

/// Where the `local` host keeps its images: `$STATE_DIRECTORY`, or the platform's data folder.
#[must_use]
pub fn data_dir() -> PathBuf {
    given("STATE_DIRECTORY").unwrap_or_else(|| {
        project().map_or_else(|| PathBuf::from("/var/lib/pixchute"), |dirs| dirs.data_dir().to_owned())
    })
}

/// Where the control socket lies: `$RUNTIME_DIRECTORY`, or the platform's runtime folder, or [`state_dir`] where it has
/// none.
#[must_use]
pub fn runtime_dir() -> PathBuf {
    given("RUNTIME_DIRECTORY")
        .or_else(|| project().and_then(|dirs| dirs.runtime_dir().map(PathBuf::from)))
        .unwrap_or_else(state_dir)
}

/// Where the user's configuration and recipes lie.
#[must_use]
pub fn config_dir() -> PathBuf {
    project().map_or_else(system_config_dir, |dirs| dirs.config_dir().to_owned())
}

/// The control socket of an agent with this configuration.
#[must_use]
pub fn control_socket(config: &Config) -> PathBuf {
    config.control_socket.clone().unwrap_or_else(|| runtime_dir().join("control.sock"))
}

/// The socket of the gallery, with `listen = "unix"`: beside that of the commands.
#[must_use]
pub fn gallery_socket(config: &Config) -> PathBuf {
    control_socket(config).with_file_name("gallery.sock")
}

/// The control socket for those who talk to an agent with this configuration: it may be the service of the machine, whose
/// runtime folder systemd has chosen and a shell does not know.
#[must_use]
pub fn socket_of_agent(config: &Config) -> PathBuf {
    let own = control_socket(config);
    if config.control_socket.is_some() || is_there(&own) {
        return own;
    }
    service_socket(config.file.as_deref()).filter(|socket| is_there(socket)).unwrap_or(own)
}

/// The ledger of an agent with this configuration, for those who ask about it: as with [`socket_of_agent`], that of the
/// service of the machine is where systemd wants it.
#[must_use]
pub fn ledger_of_agent(config: &Config) -> PathBuf {
    if config.ledger != ledger() || is_there(&config.ledger) {
        return config.ledger.clone();
    }
    let service = service_name(config.file.as_deref());
    let theirs = service.map(|name| Path::new("/var/lib").join(name).join("ledger.sqlite"));
    theirs.filter(|ledger| ledger.exists()).unwrap_or_else(|| config.ledger.clone())
}

/// What cannot be looked at is there: opening it will say why it cannot be used.
fn is_there(path: &Path) -> bool {
    !path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Where `pixchute.service` listens, or `pixchute@NAME.service` for `/etc/pixchute/NAME.toml`.
fn service_socket(file: Option<&Path>) -> Option<PathBuf> {
    Some(Path::new("/run").join(service_name(file)?).join("control.sock"))
}

/// What the folders of that service are called.
fn service_name(file: Option<&Path>) -> Option<String> {
    Some(match file {
        None => "pixchute".to_owned(),
        Some(file) if file.parent() != Some(&system_config_dir()) => return None,
        Some(file) if file.ends_with(CONFIG_FILE) => "pixchute".to_owned(),
        Some(file) => format!("pixchute-{}", file.file_stem()?.to_str()?),
    })
}

/// The places where a configuration is looked for, in this order.
pub(super) fn config_files() -> Vec<PathBuf> {
    let mut places = vec![config_dir().join(CONFIG_FILE), system_config_dir().join(CONFIG_FILE)];
    places.dedup();
    places
}

/// The default ledger.
pub(super) fn ledger() -> PathBuf {
    state_dir().join("ledger.sqlite")
}

fn system_config_dir() -> PathBuf {
    PathBuf::from("/etc/pixchute")
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "pixchute")
}

fn given(variable: &str) -> Option<PathBuf> {
    first_absolute(std::env::var_os(variable)?)
}

/// systemd gives a list separated by colons; the first entry is the main one.
fn first_absolute(list: OsString) -> Option<PathBuf> {
    let first = list.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    Some(PathBuf::from(OsString::from_vec(first.to_vec()))).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_systemds_folders_is_taken() {
        let first = |list: &str| first_absolute(OsString::from(list));
        assert_eq!(first("/var/lib/pixchute:/var/lib/other"), Some(PathBuf::from("/var/lib/pixchute")));
        assert_eq!(first("/run/pixchute"), Some(PathBuf::from("/run/pixchute")));
        assert_eq!((first(""), first("relative:/x")), (None, None));
    }

    #[test]
    fn the_services_of_the_machine_listen_where_systemd_lets_them() {
        let socket = |file: &str| service_socket(Some(Path::new(file)));
        assert_eq!(service_socket(None), Some(PathBuf::from("/run/pixchute/control.sock")));
        assert_eq!(socket("/etc/pixchute/config.toml"), Some(PathBuf::from("/run/pixchute/control.sock")));
        assert_eq!(socket("/etc/pixchute/scans.toml"), Some(PathBuf::from("/run/pixchute-scans/control.sock")));
        assert_eq!(socket("/home/ada/.config/pixchute/config.toml"), None);
    }

    #[test]
    fn an_explicit_socket_wins_over_the_platforms_place() {
        let mut config = Config::default();
        assert!(control_socket(&config).ends_with("control.sock"));
        config.control_socket = Some(PathBuf::from("/tmp/x.sock"));
        assert_eq!(control_socket(&config), PathBuf::from("/tmp/x.sock"));
    }
}
