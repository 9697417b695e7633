//! Panics in what the agent cannot do without: they end the process.
//!
//! A panic in the work on one file is that file's failure, see [`crate::upload`]. One in the pool, the recorder, the ledger or the
//! watch of a folder would leave an agent that runs and does nothing. Everything survives a crash at any point, and a
//! service manager starts the agent anew, so ending at once is the safe way on.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

thread_local! {
    /// Whether this thread is at work that the agent cannot do without.
    static ESSENTIAL: Cell<bool> = const { Cell::new(false) };
}

/// Leaves essential work, also when a panic ends it.
struct Scope {
    before: bool,
}

impl Scope {
    fn enter() -> Self {
        Self { before: ESSENTIAL.replace(true) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        ESSENTIAL.set(self.before);
    }
}

/// A future that the agent cannot do without.
pub async fn essential<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _scope = Scope::enter();
        future.as_mut().poll(context)
    })
    .await
}

/// Work on a thread of its own that the agent cannot do without.
pub fn essential_work<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        let _scope = Scope::enter();
        work()
    }
}

/// From now on a panic in essential work ends the process, after it was told as before.
pub fn end_on_essential() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if ESSENTIAL.get() {
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_mark_ends_with_the_work_however_that_ends() {
        assert!(essential_work(|| ESSENTIAL.get())());
        let broken = catch_unwind(AssertUnwindSafe(essential_work(|| panic!("a bug"))));
        assert!(broken.is_err() && !ESSENTIAL.get());
        let broken = AssertUnwindSafe(essential(async { panic!("a bug") })).catch_unwind().await;
        assert!(broken.is_err() && !ESSENTIAL.get());
        let waits = essential(async {
            tokio::task::yield_now().await;
            ESSENTIAL.get()
        });
        let (inside, outside) = tokio::join!(waits, async { ESSENTIAL.get() });
        assert_eq!((inside, outside), (true, false), "nothing else on the thread is meant while it waits");
    }
}
