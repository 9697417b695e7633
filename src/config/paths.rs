//! Stand-in for the platform's places until they are merged.

use std::path::PathBuf;

use super::Config;

/// Where the images of the `local` host lie.
#[must_use]
pub fn data_dir() -> PathBuf {
    directories::BaseDirs::new().map_or_else(std::env::temp_dir, |dirs| dirs.data_dir().join("pixchute"))
}

/// The control socket.
#[must_use]
pub fn control_socket(config: &Config) -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(data_dir, PathBuf::from);
    config.control_socket.clone().unwrap_or_else(|| runtime.join("pixchute/control.sock"))
}
