//! `pixchute run`: the agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::out::Stop;
use super::{Exit, config};
use crate::agent::{self, Setup};
use crate::config::{Config, ConfigError, Listen, Problem, paths};
use crate::control::server;
use crate::host;
use crate::host::local::{Site, Store};

const EXAMPLES: &str = "\
Examples:
  pixchute run ./drop                 watch ./drop (made if missing) with the embedded `local` host
  pixchute run a b --host imgbb       two folders, the `imgbb` host of the configuration
  pixchute run                        everything as the configuration says
  pixchute run --once                 upload what is there, then end";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// Folders to watch instead of the configured ones; made if missing
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Where the images of these folders go [default: local]
    #[arg(long, value_name = "NAME", requires = "dirs")]
    host: Option<String>,
    /// End when everything that can be uploaded now is uploaded
    #[arg(long)]
    once: bool,
    /// Where the gallery is served: a loopback address, or `off`
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    listen: Option<Listen>,
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    let address: SocketAddr =
        text.parse().map_err(|_| "expected `off` or an address with port, such as 127.0.0.1:8421".to_owned())?;
    if !address.ip().is_loopback() {
        return Err("expected a loopback address, such as 127.0.0.1:8421: the gallery has no password".to_owned());
    }
    Ok(Listen::Tcp(address))
}

pub(super) async fn run(args: &RunArgs, file: Option<&Path>) -> Result<Exit, Stop> {
    let config = configuration(args, file)?;
    let people = match config.listen {
        Listen::Off => None,
        Listen::Tcp(address) => Some(bind(address).await?),
    };
    let site = people.as_ref().map(|people| Site { store: Store::at(&paths::data_dir()), base_url: people.base_url() });
    let hosts = host::build(&config, site.clone()).map_err(|problems| config.rejected(problems))?;
    let setup = Setup { config, hosts, people, store: site.map(|site| site.store), once: args.once };
    agent::run(setup).await.map_err(|error| Stop::said(Exit::Failed, error.to_string()))?;
    Ok(Exit::Done)
}

async fn bind(address: SocketAddr) -> Result<server::People, Stop> {
    server::bind_people(address).await.map_err(|error| Stop::said(Exit::Failed, error.to_string()))
}

/// What applies: the file, and above it the command line. Hosts are tried out before anything is touched, so that their
/// mistakes are reported with all others.
fn configuration(args: &RunArgs, file: Option<&Path>) -> Result<Config, ConfigError> {
    if args.dirs.is_empty() {
        let mut draft = config::draft(file)?;
        draft.config.listen = args.listen.unwrap_or(draft.config.listen);
        draft.add(host_problems(&draft.config));
        return draft.finish();
    }
    let base = match config::find(file) {
        Some(_) => config::load(file)?,
        None => Config::default(),
    };
    let mut config = config::for_directories(base, &args.dirs, args.host.as_deref())?;
    config.listen = args.listen.unwrap_or(config.listen);
    match host_problems(&config) {
        problems if problems.is_empty() => Ok(config),
        problems => Err(config.rejected(problems)),
    }
}

/// What the hosts find wrong, without binding anything: the gallery's address is taken as it is written.
pub(super) fn host_problems(config: &Config) -> Vec<Problem> {
    let site = match config.listen {
        Listen::Off => None,
        Listen::Tcp(address) => {
            Some(Site { store: Store::at(&paths::data_dir()), base_url: format!("http://{address}") })
        }
    };
    host::build(config, site).err().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gallery_is_for_this_machine_only() {
        assert_eq!(listen("off"), Ok(Listen::Off));
        assert_eq!(listen("127.0.0.1:0"), Ok(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))));
        assert!(listen("[::1]:8421").is_ok());
        for refused in ["0.0.0.0:8421", "192.168.1.5:80", "localhost:80", "8421", ""] {
            assert!(listen(refused).is_err(), "{refused}");
        }
    }
}
