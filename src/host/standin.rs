//! Stand-in for the recipes until they are merged: only `local`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::local::{LocalHost, Site};
use super::{Host, Limits};
use crate::config::{Config, Problem};

/// Builds the configured hosts.
///
/// # Errors
/// Every mistake at once.
pub fn build(config: &Config, local: Option<Site>) -> Result<BTreeMap<String, Arc<dyn Host>>, Vec<Problem>> {
    let mut hosts: BTreeMap<String, Arc<dyn Host>> = BTreeMap::new();
    for folder in &config.folders {
        let problem = |message: &str| Problem {
            span: 0..0,
            key: format!("host.{}", folder.host),
            message: message.to_owned(),
            help: None,
        };
        if folder.host != "local" {
            return Err(vec![problem("no such recipe")]);
        }
        let site = local.clone().ok_or_else(|| vec![problem("the `local` host needs `[server] listen`")])?;
        hosts.insert(folder.host.clone(), Arc::new(LocalHost::new(folder.host.clone(), site)));
    }
    Ok(hosts)
}

/// A recipe for `host list` and `host show`.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// Whose protocol it is.
    pub site: String,
    /// What it takes.
    pub limits: Limits,
    /// `built in`, or the file.
    pub origin: String,
    /// The TOML text.
    pub text: String,
}

/// Every recipe that can be named.
#[must_use]
pub fn recipes() -> Vec<Listing> {
    vec![Listing {
        name: "local".into(),
        site: "this machine".into(),
        limits: Limits { max_bytes: None, kinds: Vec::new() },
        origin: "built in".into(),
        text: String::new(),
    }]
}
