//! Stand-in for the agent until it is merged: the shape of the call only.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::control::server::People;
use crate::host::Host;
use crate::host::local::Store;

/// What the agent is given.
pub struct Setup {
    /// The configuration, with at least one folder.
    pub config: Config,
    /// The hosts by name.
    pub hosts: BTreeMap<String, Arc<dyn Host>>,
    /// The bound address for people.
    pub people: Option<People>,
    /// The images of the `local` host.
    pub store: Option<Store>,
    /// Drain and end.
    pub once: bool,
}

/// Why the agent could not run.
#[derive(Debug, thiserror::Error)]
#[error("the agent is not part of this build")]
pub struct AgentError;

/// Runs until it is told to stop.
///
/// # Errors
/// Always, in this stand-in.
pub async fn run(_setup: Setup) -> Result<(), AgentError> {
    Err(AgentError)
}
