//! The agent itself: does it run, is its ledger whole, is its address free.

use std::net::TcpListener;
use std::path::Path;

use super::{Finding, State, blocking};
use crate::config::{Config, Listen, paths};
use crate::control::client::{Client, ClientError};
use crate::control::model::Status;
use crate::ledger::LedgerError;
use crate::ledger::sqlite::{Look, look};

/// What the control socket said.
pub(super) struct Agent(Result<Box<Status>, ClientError>);

/// Asks whoever listens on the control socket.
pub(super) async fn ask(config: &Config) -> Agent {
    let client = Client::new(&paths::socket_of_agent(config));
    Agent(client.get::<Status>("/v1/status").await.map(Box::new))
}

impl Agent {
    /// Its process id.
    pub(super) fn pid(&self) -> Option<u32> {
        self.0.as_ref().ok().map(|status| status.pid)
    }

    pub(super) fn findings(&self, config: &Config) -> Vec<Finding> {
        let finding = |state, message: String| Finding::new("agent", "", state, message);
        match &self.0 {
            Ok(status) => running(status, config),
            Err(ClientError::NotRunning { .. }) => vec![
                finding(State::Note, "no agent is running".to_owned())
                    .remedy("`pixchute service install`, or `pixchute run` to see what it says"),
            ],
            Err(error) => vec![
                finding(State::Failed, error.to_string())
                    .remedy("run this as the user of the agent; if it hangs, restart it"),
            ],
        }
    }
}

fn running(status: &Status, config: &Config) -> Vec<Finding> {
    let finding = |state, message: String| Finding::new("agent", "", state, message);
    let mut findings =
        vec![finding(State::Ok, format!("process {} is {}, version {}", status.pid, status.state, status.version))];
    if status.version != env!("CARGO_PKG_VERSION") {
        let message = format!("it is version {}, this program is {}", status.version, env!("CARGO_PKG_VERSION"));
        findings.push(finding(State::Warning, message).remedy("restart the agent"));
    }
    if let (Some(theirs), Some(ours)) = (&status.config, &config.file)
        && theirs != ours
    {
        let message = format!("it uses another configuration: {}", theirs.display());
        findings.push(finding(State::Note, message).remedy(format!("pixchute --config '{}' doctor", theirs.display())));
    }
    if let Some(reason) = &status.blocked {
        findings.push(finding(State::Failed, format!("it sends nothing: {reason}")).remedy("see `disk` and `ledger`"));
    }
    findings
}

/// The ledger, which the agent with this process id may hold.
pub(super) async fn ledger(config: &Config, agent: Option<u32>) -> Vec<Finding> {
    let path = paths::ledger_of_agent(config);
    let name = path.display().to_string();
    blocking("ledger", name.clone(), move || vec![of_ledger(&path, name, agent)]).await
}

fn of_ledger(path: &Path, name: String, agent: Option<u32>) -> Finding {
    let finding = |state, message: String| Finding::new("ledger", name.clone(), state, message);
    match look(path) {
        Ok(Look::Absent) => finding(State::Note, "does not exist yet; the agent makes it".to_owned()),
        Ok(Look::Whole) => finding(State::Ok, "is whole".to_owned()),
        Ok(Look::Damaged(reason)) => finding(State::Warning, format!("is damaged: {reason}"))
            .remedy("nothing: the agent sets it aside at its start and fills a new one from the manifests"),
        Err(LedgerError::InUse { pid, .. }) if agent.is_some_and(|agent| agent.to_string() == pid) => {
            finding(State::Ok, format!("is held by the running agent (process {pid})"))
        }
        Err(LedgerError::InUse { pid, .. }) => {
            finding(State::Failed, format!("is held by process {pid}, which does not answer on our control socket"))
                .remedy(format!("is it another agent, or one that hangs? see `ps -fp {pid}`"))
        }
        Err(error) => finding(State::Failed, error.to_string())
            .remedy("change the permissions of its folder, or name another file in [ledger] url"),
    }
}

/// The address of the gallery, if no agent has it.
pub(super) async fn address(config: &Config, agent: Option<u32>) -> Vec<Finding> {
    let Listen::Tcp(address) = config.listen else { return Vec::new() };
    if agent.is_some() {
        return Vec::new();
    }
    let found = match TcpListener::bind(address) {
        Ok(_) => Finding::new("address", address.to_string(), State::Ok, "is free for the gallery"),
        Err(error) => {
            let state =
                if config.hosts.values().any(|host| host.recipe == "local") { State::Failed } else { State::Warning };
            Finding::new("address", address.to_string(), state, format!("cannot be used for the gallery: {error}"))
                .remedy("set `listen` in [server] to another port, or to \"off\"")
        }
    };
    vec![found]
}
