//! One session for one account: who may use it, who logs in, who waits. No HTTP here.
//!
//! [`Book`] decides, without I/O; [`Sessions`] lets one upload at a time log in while the others wait. A waiting or
//! logging-in upload can be dropped at any moment: the next one in the line takes over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cookies::Jar;
use crate::job::{ErrorClass, Failure};

/// Values by step and name.
pub(super) type Values = BTreeMap<String, BTreeMap<String, String>>;

/// A jar that all requests of a session share.
pub(super) type SharedJar = Arc<Mutex<Jar>>;

/// How long a refused login is answered for without asking the host again: uploads that are on their way when a wrong
/// password is found must not repeat it. Afterwards the rest of the host decides.
const REFUSED: Duration = Duration::from_secs(30);

/// What the steps of a session found. Holds secrets in the clear, so it has no `Debug`.
pub(super) struct Session {
    /// Which login it is the fruit of.
    generation: u64,
    pub(super) values: Values,
    pub(super) jar: SharedJar,
    since: Instant,
}

/// What is to be done about a session.
pub(super) enum Entry {
    Use(Arc<Session>),
    LogIn,
    Refused(Box<Failure>),
}

/// The state of the one session.
#[derive(Default)]
struct Book {
    current: Option<Arc<Session>>,
    /// Logins that ended, well or not.
    ended: u64,
    /// How the last login failed, and when.
    failed: Option<(Box<Failure>, Instant)>,
}

impl Book {
    /// What an upload that begins to ask now may do.
    fn ask(&self, now: Instant, max_age: Option<Duration>) -> Entry {
        match (&self.current, &self.failed) {
            (Some(session), _) if max_age.is_none_or(|age| now < session.since + age) => {
                Entry::Use(Arc::clone(session))
            }
            (_, Some((failure, at))) if failure.class == ErrorClass::Account && now < *at + REFUSED => {
                Entry::Refused(failure.clone())
            }
            _ => Entry::LogIn,
        }
    }

    /// The same for one that began to wait when `seen` logins had ended: it shares how the login ended that it waited for.
    fn ask_after(&self, seen: u64, now: Instant, max_age: Option<Duration>) -> Entry {
        match (self.ask(now, max_age), &self.failed) {
            (Entry::LogIn, Some((failure, _))) if self.ended > seen => Entry::Refused(failure.clone()),
            (entry, _) => entry,
        }
    }

    fn succeed(&mut self, values: Values, jar: SharedJar, now: Instant) -> Arc<Session> {
        self.ended += 1;
        self.failed = None;
        let session = Arc::new(Session { generation: self.ended, values, jar, since: now });
        self.current = Some(Arc::clone(&session));
        session
    }

    fn fail(&mut self, failure: Box<Failure>, now: Instant) {
        self.ended += 1;
        self.current = None;
        self.failed = Some((failure, now));
    }

    /// `session` was refused by the host. An older one than the current changes nothing.
    fn expire(&mut self, session: &Session) {
        self.current.take_if(|current| current.generation == session.generation);
    }
}

/// The session of one account, shared by all its uploads.
#[derive(Default)]
pub(super) struct Sessions {
    book: Mutex<Book>,
    /// Held by the upload that logs in.
    login: tokio::sync::Mutex<()>,
}

impl Sessions {
    /// The session, made by `login` if there is none. One login runs at a time; all who waited for it share its end.
    pub(super) async fn get<L>(&self, max_age: Option<Duration>, login: L) -> Result<Arc<Session>, Box<Failure>>
    where
        L: AsyncFnOnce() -> Result<(Values, SharedJar), Box<Failure>>,
    {
        let seen = self.with(|book| book.ended);
        let turn = match self.with(|book| book.ask(Instant::now(), max_age)) {
            Entry::Use(session) => return Ok(session),
            Entry::Refused(failure) => return Err(failure),
            Entry::LogIn => self.login.lock().await,
        };
        match self.with(|book| book.ask_after(seen, Instant::now(), max_age)) {
            Entry::Use(session) => return Ok(session),
            Entry::Refused(failure) => return Err(failure),
            Entry::LogIn => {}
        }
        let ended = login().await;
        let made = self.with(|book| match ended {
            Ok((values, jar)) => Ok(book.succeed(values, jar, Instant::now())),
            Err(failure) => {
                book.fail(failure.clone(), Instant::now());
                Err(failure)
            }
        });
        drop(turn);
        made
    }

    /// The host no longer takes `session`: the next who asks logs in.
    pub(super) fn expire(&self, session: &Session) {
        self.with(|book| book.expire(session));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Book) -> T) -> T {
        act(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Phase;

    fn failure(class: ErrorClass) -> Box<Failure> {
        Box::new(Failure::new(class, Phase::Parse, "no"))
    }

    fn succeed(book: &mut Book) -> Arc<Session> {
        book.succeed(Values::new(), SharedJar::default(), Instant::now())
    }

    fn word(entry: &Entry) -> &'static str {
        match entry {
            Entry::Use(_) => "use",
            Entry::LogIn => "log in",
            Entry::Refused(_) => "refused",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_used_until_it_is_refused_or_too_old() {
        let mut book = Book::default();
        let now = Instant::now();
        assert_eq!(word(&book.ask(now, None)), "log in");
        let first = succeed(&mut book);
        assert_eq!(word(&book.ask(now, None)), "use");
        let age = Some(Duration::from_secs(60));
        assert_eq!(word(&book.ask(now + Duration::from_secs(59), age)), "use");
        assert_eq!(word(&book.ask(now + Duration::from_secs(60), age)), "log in");
        book.expire(&first);
        assert_eq!(word(&book.ask(now, None)), "log in");
        let second = succeed(&mut book);
        book.expire(&first);
        assert_eq!(word(&book.ask(now, None)), "use", "an old session that is refused says nothing about the new one");
        book.expire(&second);
        assert_eq!(word(&book.ask(now, None)), "log in");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_login_is_not_repeated_at_once_and_a_broken_one_is_shared_by_those_who_waited() {
        let now = Instant::now();
        let mut book = Book::default();
        book.fail(failure(ErrorClass::Account), now);
        assert_eq!(word(&book.ask(now, None)), "refused");
        assert_eq!(word(&book.ask(now + REFUSED, None)), "log in");
        book.fail(failure(ErrorClass::Connect), now);
        assert_eq!(word(&book.ask(now, None)), "log in");
        assert_eq!(word(&book.ask_after(1, now, None)), "refused", "it waited for this login");
        assert_eq!(word(&book.ask_after(2, now, None)), "log in", "it came afterwards");
        succeed(&mut book);
        assert_eq!(word(&book.ask_after(1, now, None)), "use");
    }

    #[tokio::test(start_paused = true)]
    async fn eight_who_ask_at_once_log_in_once_and_a_dropped_login_is_taken_over() {
        let sessions = Sessions::default();
        let logins = std::cell::Cell::new(0);
        let get = || {
            sessions.get(None, async || {
                logins.set(logins.get() + 1);
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok((Values::new(), SharedJar::default()))
            })
        };
        tokio::time::timeout(Duration::from_millis(500), get()).await.err().expect("dropped while it logs in");
        let all = futures_util::future::join_all((0..8).map(|_| get())).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(logins.get(), 2, "the dropped one, and one for all eight");
    }
}
