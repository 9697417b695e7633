//! The embedded `local` host.

use super::{Host, Limits, Sending, Upload};
use crate::job::{ErrorClass, Failure, Phase};

/// Where the embedded host stores and serves.
#[derive(Clone, Debug)]
pub struct Site;

/// The embedded host.
#[derive(Debug)]
pub struct LocalHost {
    name: String,
    limits: Limits,
}

impl LocalHost {
    /// A host called `name` that stores into `site`.
    #[must_use]
    pub fn new(name: String, _site: Site) -> Self {
        Self { name, limits: Limits { max_bytes: None, kinds: Vec::new() } }
    }
}

impl Host for LocalHost {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn upload<'a>(&'a self, _upload: &'a Upload) -> Sending<'a> {
        Box::pin(async { Err(Failure::new(ErrorClass::Io, Phase::Inspect, "the local host is not there yet")) })
    }
}
