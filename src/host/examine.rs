//! Questions that change nothing on a host: is it there, and does it know us.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::DATE;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};
use url::{Host as UrlHost, Url};

use super::engine::RecipeHost;
use super::http::{self, Received, Times, Trouble};
use super::{Doing, Progress};
use crate::clock::WallTime;
use crate::config::{HostFlow, Pool};
use crate::job::Phase;

/// How a site is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its address stands in the configuration, or a proxy looks it up.
    NoNeed,
    /// Its name has these addresses.
    Addresses(Vec<IpAddr>),
}

/// Looks up the name of `site`.
///
/// # Errors
/// Why it has no address.
pub async fn look_up(site: &Url, limit: Duration) -> Result<Found, String> {
    let Some(UrlHost::Domain(name)) = site.host() else { return Ok(Found::NoNeed) };
    if http::is_proxied(site) {
        return Ok(Found::NoNeed);
    }
    let looking = lookup_host((name, site.port_or_known_default().unwrap_or(443)));
    let found = timeout(limit, looking).await.map_err(|_| "no name server answered in time".to_owned())?;
    let mut addresses: Vec<IpAddr> = found.map_err(|error| error.to_string())?.map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(Found::Addresses(addresses)) }
}

/// An answer of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knocked {
    /// How long it took, from nothing to the answer's end.
    pub took: Duration,
    /// What time it is for the site.
    pub date: Option<WallTime>,
}

/// Why a site did not answer: how far it went, and what was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Name look-up and TCP, TLS, or the answer.
    pub phase: Phase,
    /// The system's words.
    pub reason: String,
}

/// Asks for the head of `site`, in the way of an upload. Any answer will do.
///
/// # Errors
/// [`Silent`]
pub async fn knock(site: &Url, pool: &Pool, limit: Duration) -> Result<Knocked, Silent> {
    let began = Instant::now();
    let silent = |phase, reason: String| Silent { phase, reason };
    let client = http::client(site, pool).map_err(|error| silent(Phase::Tls, error.without_url().to_string()))?;
    let progress = Arc::new(Progress::new());
    let (mut received, no_file) = (Received::default(), Arc::new(OnceLock::new()));
    let times = Times::new(pool, &HostFlow::default());
    let request = client.request(Method::HEAD, site.clone());
    let asking = http::exchange(request, &mut received, &progress, &no_file, &times);
    let Ok(done) = timeout(limit, asking).await else {
        return Err(silent(progress.phase(), "there was no answer in time".to_owned()));
    };
    match done {
        Err(trouble) if received.status == 0 => {
            let phase = if let Trouble::Connect { phase, .. } = &trouble { *phase } else { progress.phase() };
            Err(silent(phase, words(trouble)))
        }
        _ => {
            let date = received.headers.get(DATE).and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| httpdate::parse_http_date(date).ok()).map(WallTime::from);
            Ok(Knocked { took: began.elapsed(), date })
        }
    }
}

fn words(trouble: Trouble) -> String {
    match trouble {
        Trouble::Connect { timed_out: true, .. } => "there was no answer in time".to_owned(),
        Trouble::Connect { reason, .. } | Trouble::Broken(reason) => reason,
        Trouble::File(error) => error.to_string(),
        Trouble::Packed(how) => format!("its answer cannot be unpacked ({how})"),
        Trouble::TooLarge => "its answer does not end".to_owned(),
        Trouble::Stall(_) | Trouble::Timeout(_) => "there was no answer in time".to_owned(),
    }
}

impl RecipeHost {
    /// Whether the account is taken: what the recipe says about that, or else its login.
    pub(super) fn ask_about_us(&self, deadline: Instant) -> Option<Doing<'_>> {
        if let Some(steps) = &self.recipe.account {
            return Some(Box::pin(async move {
                let mut run = self.bare_run(deadline);
                self.until(deadline, self.with_session(&mut run, steps, |_, _, _| Ok(()))).await.map(drop)
            }));
        }
        let spec = self.recipe.session.as_ref().filter(|spec| !spec.account.is_empty() && self.has(&spec.account))?;
        Some(Box::pin(async move {
            let progress = Arc::new(Progress::new());
            let login = async || self.log_in(&spec.steps, &progress, deadline).await;
            self.until(deadline, self.sessions.get(spec.max_age, login)).await.map(drop)
        }))
    }
}
