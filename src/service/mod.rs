//! pixchute as a service of the machine: which files its service manager needs, what stands in them, and which commands make
//! it take note. Pure but for [`files`]; nothing here runs a command.
//!
//! What is installed is stamped: a file that the user has changed since is never overwritten or removed unless that is asked
//! for.

pub mod files;
mod launchd;
mod systemd;

use std::path::{Path, PathBuf};

use crate::config::Config;

/// The home directory of the user that systemd runs the service of the machine as (`systemd/pixchute.sysusers`).
pub const SERVICE_HOME: &str = "/var/lib/pixchute";

/// Who starts services here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// Linux.
    Systemd,
    /// macOS.
    Launchd,
}

impl Manager {
    /// That of this system.
    #[must_use]
    pub fn of_system() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The user who asks.
    User,
    /// The whole machine.
    System,
}

/// What shall run where.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who starts it.
    pub manager: Manager,
    /// For whom.
    pub scope: Scope,
    /// One of several agents of a machine (systemd).
    pub instance: Option<String>,
    /// The program, absolute.
    pub program: PathBuf,
    /// The configuration, if it is not the one that the service would find by itself.
    pub config: Option<PathBuf>,
    /// The home directory of the user who asks.
    pub home: PathBuf,
    /// The folder for the configuration of that user's programs (`~/.config`).
    pub config_home: PathBuf,
    /// Where that user's agent keeps its ledger and the images of `local`.
    pub state: [PathBuf; 2],
    /// The number of that user.
    pub uid: u32,
    /// The user that a launchd daemon runs as: who has called `sudo`.
    pub runs_as: Option<String>,
}

/// A file of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Where it lies.
    pub path: PathBuf,
    /// Its content, without the stamp.
    pub text: String,
    /// Others may use it when this service is gone.
    pub shared: bool,
}

/// A command, word by word.
pub type Words = Vec<String>;

impl Target {
    /// The name that the service manager knows it by.
    #[must_use]
    pub fn name(&self) -> String {
        match (self.manager, self.scope, &self.instance) {
            (Manager::Launchd, Scope::User, _) => launchd::AGENT.to_owned(),
            (Manager::Launchd, Scope::System, _) => launchd::DAEMON.to_owned(),
            (Manager::Systemd, _, Some(instance)) => format!("pixchute@{instance}.service"),
            (Manager::Systemd, _, None) => "pixchute.service".to_owned(),
        }
    }

    /// The configuration that the service reads without being told.
    #[must_use]
    pub fn default_config(&self) -> Option<PathBuf> {
        let name = self.instance.as_deref().unwrap_or("config");
        (self.scope == Scope::System || self.instance.is_some())
            .then(|| PathBuf::from(format!("/etc/pixchute/{name}.toml")))
    }

    /// Where the secret of a `{ credential = "NAME" }` is taken from.
    #[must_use]
    pub fn credential(&self, name: &str) -> PathBuf {
        let folder = match self.scope {
            Scope::System => PathBuf::from("/etc/pixchute"),
            Scope::User => self.config_home.join("pixchute"),
        };
        folder.join("credentials").join(name)
    }

    /// Where systemd hands that secret over to the running service.
    #[must_use]
    pub fn handed_over(&self, name: &str) -> PathBuf {
        let run = match self.scope {
            Scope::System => PathBuf::from("/run"),
            Scope::User => PathBuf::from(format!("/run/user/{}", self.uid)),
        };
        run.join("credentials").join(self.name()).join(name)
    }

    /// Every file that the service needs. `is_there` tells whether a package has brought one already.
    ///
    /// # Errors
    /// A path that cannot be written into such a file, or a place from which the service could not run.
    pub fn artifacts(&self, config: &Config, is_there: impl Fn(&Path) -> bool) -> Result<Vec<Artifact>, String> {
        match self.manager {
            Manager::Systemd => systemd::artifacts(self, config, is_there),
            Manager::Launchd => launchd::artifacts(self).map(|artifact| vec![artifact]),
        }
    }

    /// Asks the service manager whether it answers; to be run before anything is changed.
    #[must_use]
    pub fn probe(&self) -> Words {
        match self.manager {
            Manager::Systemd => systemd::systemctl(self, &["show", "--property=Version"]),
            Manager::Launchd => words(&["launchctl", "version"]),
        }
    }

    /// What makes the service manager take note of new files and run the service. `running`: it does already.
    #[must_use]
    pub fn begin(&self, artifacts: &[Artifact], running: bool) -> Vec<Words> {
        match self.manager {
            Manager::Systemd => systemd::begin(self, artifacts, running),
            Manager::Launchd => launchd::begin(self, artifacts, running),
        }
    }

    /// What ends the service, before its files are removed. May fail: it may have ended already.
    #[must_use]
    pub fn end(&self) -> Vec<Words> {
        match self.manager {
            Manager::Systemd => vec![systemd::systemctl(self, &["disable", "--now", &self.name()])],
            Manager::Launchd => vec![launchd::bootout(self)],
        }
    }

    /// What makes the service manager take note that files are gone.
    #[must_use]
    pub fn forget(&self, removed: &[PathBuf]) -> Vec<Words> {
        match self.manager {
            Manager::Systemd => systemd::forget(self, removed),
            Manager::Launchd => Vec::new(),
        }
    }

    /// What tells how the service is.
    #[must_use]
    pub fn question(&self) -> Words {
        match self.manager {
            Manager::Systemd => systemd::systemctl(self, &["show", systemd::ASKED, &self.name()]),
            Manager::Launchd => launchd::question(self),
        }
    }
}

/// The names of the credentials that the configuration wants.
#[must_use]
pub fn credentials(config: &Config) -> Vec<String> {
    let settings = config.hosts.values().flat_map(|host| host.options.values());
    let mut names: Vec<String> =
        settings.filter_map(|setting| setting.origin.strip_prefix("credential ").map(ToOwned::to_owned)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Every place that the agent has to write to, apart from its own state: none of them lies in another one.
#[must_use]
pub fn places(config: &Config) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in &config.folders {
        let manifest = folder.manifest.parent().map(Path::to_path_buf);
        all.push(folder.path.clone());
        all.extend([folder.done.clone(), folder.retry.clone(), folder.failed.clone()].into_iter().chain(manifest));
    }
    all.sort_unstable();
    let mut places: Vec<PathBuf> = Vec::new();
    for place in all {
        if !places.iter().any(|outer| place.starts_with(outer)) {
            places.push(place);
        }
    }
    places
}

fn words(of: &[&str]) -> Words {
    of.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests;
