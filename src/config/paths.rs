//! Where things lie: the platform's places, and systemd's when it gives some.
//!
//! Nothing here touches the disk. Without a home directory (a system service) the places of the file system hierarchy
//! apply.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

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
    fn an_explicit_socket_wins_over_the_platforms_place() {
        let mut config = Config::default();
        assert!(control_socket(&config).ends_with("control.sock"));
        config.control_socket = Some(PathBuf::from("/tmp/x.sock"));
        assert_eq!(control_socket(&config), PathBuf::from("/tmp/x.sock"));
    }
}
