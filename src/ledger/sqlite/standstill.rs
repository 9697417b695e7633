//! For tests of the watchdog: a writer that stands still when it is told to. Not documented for users.

use super::writer::{Deed, Request};
use crate::ledger::{STANDSTILL, Write};

/// Whether the writer does what it is told: the environment has to say so too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standstill(bool);

impl Standstill {
    /// What the environment says.
    pub(super) fn of_test() -> Self {
        Self(std::env::var_os("PIXCHUTE_TEST_FREEZE").is_some_and(|part| part == "ledger"))
    }

    /// Never returns if the batch has the word.
    pub(super) fn perhaps(self, batch: &[Request]) {
        let word = |write: &Write| matches!(write, Write::Keep(memo) if memo.kind == STANDSTILL);
        let told = |request: &Request| matches!(&request.deed, Deed::Write(writes) if writes.iter().any(word));
        while self.0 && batch.iter().any(told) {
            std::thread::park();
        }
    }
}
