//! Looking up names: one look-up at a time for each site, shared by all who wait for it.
//!
//! The C library looks a name up on a thread of its own and cannot be interrupted: whoever gives up leaves that thread
//! behind until the library gives up too, half a minute later. With a name server that never answers each new attempt would
//! add one. So a look-up outlives those who wait for it, and the next attempt waits for the same one.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::net::lookup_host;
use tokio::time::Instant;

/// Nobody joins a look-up that is older: the C library has given up by now (its defaults: two tries of 5 s at each of up to
/// three name servers), and what it said then is of the past.
const LIFE: Duration = Duration::from_secs(60);

/// What a look-up gives; an error as its kind and words, for everybody who waits.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

type Running = Shared<BoxFuture<'static, Found>>;

/// The addresses of one site.
pub(super) struct Names {
    look_up: Box<dyn Fn() -> BoxFuture<'static, Found> + Send + Sync>,
    /// The latest, and when it was begun.
    latest: Mutex<Option<(Instant, Running)>>,
}

impl Names {
    /// Of the site `name`.
    pub(super) fn of(name: &str, port: u16) -> Self {
        let name = name.to_owned();
        Self::with(move || {
            let name = name.clone();
            async move {
                let found = lookup_host((name.as_str(), port)).await;
                found.map(Iterator::collect).map_err(|error| (error.kind(), error.to_string()))
            }
            .boxed()
        })
    }

    fn with(look_up: impl Fn() -> BoxFuture<'static, Found> + Send + Sync + 'static) -> Self {
        Self { look_up: Box::new(look_up), latest: Mutex::new(None) }
    }

    /// The addresses as the system knows them now.
    ///
    /// # Errors
    /// What the system says. May take as long as the system's name servers let it: the caller has a deadline.
    pub(super) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let (joined, running) = self.running();
        let found = match running.await {
            // It may have failed long before anybody asked again.
            Err(_) if joined => self.running().1.await,
            found => found,
        };
        found.map_err(|(kind, words)| io::Error::new(kind, words))
    }

    /// The look-up to wait for, and whether somebody else has begun it.
    fn running(&self) -> (bool, Running) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match latest.as_ref().filter(|(begun, running)| running.peek().is_none() && begun.elapsed() < LIFE) {
            Some((_, running)) => (true, running.clone()),
            None => (false, latest.insert((Instant::now(), (self.look_up)().shared())).1.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;

    /// Names whose look-ups end when a permit is given, and how many were begun.
    fn names(permits: usize) -> (Names, Arc<Semaphore>, Arc<AtomicUsize>) {
        let (gate, begun) = (Arc::new(Semaphore::new(permits)), Arc::new(AtomicUsize::new(0)));
        let (door, count) = (Arc::clone(&gate), Arc::clone(&begun));
        let names = Names::with(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let door = Arc::clone(&door);
            async move {
                door.acquire().await.expect("never closed").forget();
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], 80))])
            }
            .boxed()
        });
        (names, gate, begun)
    }

    #[tokio::test(start_paused = true)]
    async fn r13_a_thousand_attempts_leave_one_look_up_behind_when_the_name_server_is_silent() {
        let (names, gate, begun) = names(0);
        for _ in 0..1_000 {
            assert!(timeout(Duration::from_millis(10), names.addresses()).await.is_err(), "nobody answers");
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1, "within the minute that the C library takes to give up");
        gate.add_permits(1);
        names.addresses().await.expect("the same look-up, answered at last");
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_not_kept() {
        let (names, _gate, begun) = names(2);
        for times in 1..=2 {
            names.addresses().await.expect("answered");
            assert_eq!(begun.load(Ordering::SeqCst), times);
        }
    }

    #[tokio::test]
    async fn what_the_system_says_is_told() {
        let found = Names::of("localhost", 80).addresses().await.expect("every machine knows itself");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        assert!(Names::of("no such name", 80).addresses().await.is_err());
    }
}
