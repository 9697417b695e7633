//! How a command ends.

use std::process::ExitCode;

/// The exit codes. Scripts and service managers rely on them; the numbers above 63 are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done.
    Done = 0,
    /// Something failed.
    Failed = 1,
    /// The command line is not understood.
    Usage = 2,
    /// No agent is running.
    NotRunning = 69,
    /// Another agent holds the ledger or the control socket.
    InUse = 75,
    /// The configuration cannot be used: a service manager must not restart.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
