//! A host around another one: it changes how files are sent, and nothing else.

use tokio::time::Instant;
use url::Url;

use super::limits::Limits;
use super::{Doing, Galleries, Host, Preview, Sending, Upload};
use crate::job::Links;

/// Sends in its own way through the host in it, which answers everything else.
pub(super) trait Wrapper: Send + Sync + 'static {
    /// The host in it.
    fn inner(&self) -> &dyn Host;

    /// [`Host::upload`]
    fn send<'a>(&'a self, upload: &'a Upload) -> Sending<'a>;
}

impl<T: Wrapper> Host for T {
    fn upload<'a>(&'a self, upload: &'a Upload) -> Sending<'a> {
        self.send(upload)
    }

    fn name(&self) -> &str {
        self.inner().name()
    }

    fn limits(&self) -> &Limits {
        self.inner().limits()
    }

    fn max_parallel(&self) -> Option<usize> {
        self.inner().max_parallel()
    }

    fn tidy(&self) {
        self.inner().tidy();
    }

    fn previews(&self, upload: &Upload) -> Vec<Preview> {
        self.inner().previews(upload)
    }

    fn site(&self) -> Option<Url> {
        self.inner().site()
    }

    fn ask_account(&self, deadline: Instant) -> Option<Doing<'_>> {
        self.inner().ask_account(deadline)
    }

    fn galleries(&self) -> Option<&dyn Galleries> {
        self.inner().galleries()
    }

    fn delete<'a>(&'a self, uploaded: &'a Links, deadline: Instant) -> Option<Doing<'a>> {
        self.inner().delete(uploaded, deadline)
    }
}
