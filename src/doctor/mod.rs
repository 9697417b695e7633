//! Is this machine fit for the agent? Questions that change nothing that lasts, each with a deadline of its own, each
//! answered in one line with its remedy.
//!
//! What it makes it removes: a hidden file in each folder that must be writable. It uploads nothing, and takes no lock for
//! longer than a look. It knows no terminal: [`examine`] hands over one [`Finding`] after the other.
//!
//! **Limits.** It sees this machine as whoever runs it does. What the sandbox of a running agent allows is told from the
//! mounts of its process, and what its user may do is asked in that user's name if root asks; of an agent that does not
//! run, only a unit that runs `pixchute doctor` itself can tell.

mod agent;
mod folders;
mod hosts;
mod machine;
mod rights;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;
use tokio::time::timeout;

use crate::config::Config;
use crate::host::Host;

/// How long one check may take: a look-up, a connection and an answer each have less.
const CHECK_TIME: Duration = Duration::from_secs(20);

/// Checks that run at the same time: most of them wait for somebody else.
const AT_ONCE: usize = 16;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// The agent works, but not as well as it could.
    Warning,
    /// The agent does not work so.
    Failed,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which question: `events`, `disk`, `dns`, …
    pub check: &'static str,
    /// What it is about: a folder, a host; empty for the machine itself.
    pub subject: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding without a remedy.
    #[must_use]
    pub fn new(check: &'static str, subject: impl Into<String>, state: State, message: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), state, message: message.into(), remedy: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What is looked at.
#[derive(Clone, Copy)]
pub struct Patient<'a> {
    /// The configuration, or the defaults.
    pub config: &'a Config,
    /// Its hosts.
    pub hosts: &'a BTreeMap<String, Arc<dyn Host>>,
    /// Whether the hosts may be asked.
    pub online: bool,
}

type Check<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + 'a>>;

/// Asks everything and hands over the findings in a fixed order, each as soon as those before it are there.
///
/// # Errors
/// What `tell` says; nothing more is told then.
pub async fn examine<E>(patient: Patient<'_>, mut tell: impl FnMut(Finding) -> Result<(), E>) -> Result<(), E> {
    let Patient { config, hosts, online } = patient;
    let agent = agent::ask(config).await;
    let mut checks: Vec<Check<'_>> = vec![
        Box::pin(std::future::ready(agent.findings(config))),
        Box::pin(agent::ledger(config, agent.pid())),
        Box::pin(agent::address(config, agent.pid())),
    ];
    for folder in &config.folders {
        checks.push(Box::pin(folders::look(folder, agent.pid())));
    }
    checks.push(Box::pin(machine::inotify(config)));
    checks.push(Box::pin(machine::open_files(config, agent.pid())));
    checks.push(Box::pin(machine::disks(config)));
    checks.push(Box::pin(machine::journal(config)));
    let mut dates = Vec::new();
    let mut findings = stream::iter(checks).buffered(AT_ONCE);
    while let Some(found) = findings.next().await {
        found.into_iter().try_for_each(&mut tell)?;
    }
    if online {
        ask_hosts(config, hosts, &mut dates, &mut tell).await?;
    }
    tell(machine::clock(&dates))
}

/// Only the questions about hosts.
///
/// # Errors
/// What `tell` says.
pub async fn examine_hosts<E>(
    config: &Config,
    hosts: &BTreeMap<String, Arc<dyn Host>>,
    mut tell: impl FnMut(Finding) -> Result<(), E>,
) -> Result<(), E> {
    ask_hosts(config, hosts, &mut Vec::new(), &mut tell).await
}

async fn ask_hosts<E>(
    config: &Config,
    hosts: &BTreeMap<String, Arc<dyn Host>>,
    dates: &mut Vec<hosts::Skew>,
    tell: &mut impl FnMut(Finding) -> Result<(), E>,
) -> Result<(), E> {
    let asked = hosts.values().map(|host| hosts::ask(host.as_ref(), config));
    let mut answers = stream::iter(asked).buffered(AT_ONCE);
    while let Some((found, skew)) = answers.next().await {
        dates.extend(skew);
        found.into_iter().try_for_each(&mut *tell)?;
    }
    Ok(())
}

/// Runs what may block as long as a disk likes, up to [`CHECK_TIME`].
async fn blocking(
    check: &'static str,
    subject: String,
    look: impl FnOnce() -> Vec<Finding> + Send + 'static,
) -> Vec<Finding> {
    match timeout(CHECK_TIME, tokio::task::spawn_blocking(look)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            vec![Finding::new(check, subject, State::Failed, format!("the check itself failed: {error}"))]
        }
        Err(_) => {
            let message = format!("the file system did not answer within {} s", CHECK_TIME.as_secs());
            vec![
                Finding::new(check, subject, State::Failed, message)
                    .remedy("a network share or a disk hangs: see `mount` and the kernel's log"),
            ]
        }
    }
}
