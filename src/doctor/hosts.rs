//! Hosts: is the name known, does the site answer, is the account taken. Nothing is uploaded.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::{CHECK_TIME, Finding, State};
use crate::clock::{Clock, WallTime};
use crate::config::Config;
use crate::host::{Found, Host, knock, look_up};
use crate::job::{ErrorClass, Phase};

/// What a site's clock says and what ours said at the same moment.
pub(super) struct Skew {
    pub(super) host: String,
    pub(super) theirs: WallTime,
    pub(super) ours: WallTime,
}

/// Everything about one host.
pub(super) async fn ask(host: &dyn Host, config: &Config) -> (Vec<Finding>, Option<Skew>) {
    let Some(site) = host.site() else { return (vec![], None) };
    let name = host.name();
    let mut findings = Vec::new();
    match look_up(&site, config.pool.connect_timeout.min(CHECK_TIME)).await {
        Err(reason) => {
            findings.push(unknown(name, &site, &reason));
            return (findings, None);
        }
        Ok(Found::NoNeed) => {}
        Ok(Found::Addresses(addresses)) => {
            let first = addresses.first().map(ToString::to_string).unwrap_or_default();
            let more = if addresses.len() > 1 { format!(" and {} more", addresses.len() - 1) } else { String::new() };
            findings.push(Finding::new("dns", name, State::Ok, format!("{} is {first}{more}", shown(&site))));
        }
    }
    let skew = match knock(&site, &config.pool, CHECK_TIME).await {
        Err(silent) => {
            findings.push(unreachable(name, &site, silent.phase, &silent.reason));
            return (findings, None);
        }
        Ok(knocked) => {
            let how = if site.scheme() == "https" { "by TLS" } else { "in plain http" };
            let message = format!("{} answered {how} in {} ms", shown(&site), knocked.took.as_millis().max(1));
            findings.push(Finding::new("reach", name, State::Ok, message));
            knocked.date.map(|theirs| Skew { host: name.to_owned(), theirs, ours: Clock::System.now() })
        }
    };
    findings.push(account(host).await);
    (findings, skew)
}

async fn account(host: &dyn Host) -> Finding {
    let finding = |state, message: String| Finding::new("account", host.name(), state, message);
    let Some(asking) = host.ask_account(Instant::now() + CHECK_TIME) else {
        return finding(
            State::Note,
            "no account is asked about: this host has no question that changes nothing".into(),
        );
    };
    match asking.await {
        Ok(()) => finding(State::Ok, "the host takes the account".into()),
        Err(failure) if failure.class == ErrorClass::Account => {
            let advice = failure.advice.unwrap_or_else(|| format!("check the keys of [host.{}]", host.name()));
            finding(State::Failed, failure.message).remedy(advice)
        }
        Err(failure) if matches!(failure.class, ErrorClass::RateLimited) => {
            finding(State::Warning, failure.message).remedy("wait: the host wants rest")
        }
        Err(failure) => {
            let remedy = failure.advice.unwrap_or_else(|| "try again; `pixchute host test` sends an image".to_owned());
            finding(State::Failed, failure.message).remedy(remedy)
        }
    }
}

fn unknown(host: &str, site: &Url, reason: &str) -> Finding {
    let name = site.host_str().unwrap_or_default();
    Finding::new("dns", host, State::Failed, format!("the name {name} cannot be looked up: {reason}"))
        .remedy(format!("is the network up? try `getent hosts {name}`; is base_url right?"))
}

fn unreachable(host: &str, site: &Url, phase: Phase, reason: &str) -> Finding {
    let site = shown(site);
    match phase {
        Phase::Tls => {
            Finding::new("tls", host, State::Failed, format!("{site}: no encryption could be agreed on: {reason}"))
                .remedy("are ca-certificates installed and is the clock right? does something in between read along?")
        }
        Phase::Connect => {
            Finding::new("reach", host, State::Failed, format!("{site} cannot be connected to: {reason}"))
                .remedy("is a firewall in between, or a proxy needed (https_proxy)? is base_url right?")
        }
        _ => Finding::new("reach", host, State::Failed, format!("{site} gives no answer: {reason}"))
            .remedy("the host may be down: the agent goes on trying"),
    }
}

/// The site without what may be private in its path.
fn shown(site: &Url) -> String {
    site.origin().ascii_serialization()
}

/// The longest difference that no host minds: S3 refuses requests that are 15 minutes off, and a `Date` has whole seconds.
pub(super) const SKEW: Duration = Duration::from_secs(120);
