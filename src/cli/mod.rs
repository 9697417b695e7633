//! The command line: arguments in, text and an exit code out. A file per command, none with logic of its own.

mod check;
mod doctor;
mod exit;
mod find;
mod health;
mod host;
mod import;
mod manual;
mod out;
mod put;
mod put_json;
mod retry;
mod run;
mod service;
mod status;
mod steer;
mod tail;
mod template;
mod trial;
mod undo;
mod watch;

use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, paths};
use crate::control::client::Client;
pub use exit::Exit;
use out::{Out, Stop};

const EXAMPLES: &str = "\
Examples:
  pixchute run ~/Pictures/Drop          watch a folder, no account needed: the gallery is on this machine
  pixchute run ./drop --host catbox     the same, with a public host
  pixchute check                        what would the agent do with my configuration?
  pixchute tail -f                      links as they come
  pixchute retry --all                  try everything again that rests or has failed

Exit codes: 0 done, 1 something failed, 2 usage, 69 no agent is running, 75 another agent holds the ledger,
78 the configuration cannot be used.";

/// Drop a picture in a folder, get its link out.
///
/// pixchute watches folders, uploads every image that is dropped into them to an image host, and writes the links to a
/// manifest file in the folder. Uploaded files move to done/, resting ones to retry/, given-up ones to failed/.
#[derive(Debug, Parser)]
#[command(name = "pixchute", version, after_help = EXAMPLES)]
struct Args {
    /// The configuration; without it config.toml in the user's configuration folder, then /etc/pixchute/config.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: watch folders and upload what is dropped into them
    Run(run::RunArgs),
    /// Upload files now and print their links; needs no agent, and asks a running one whether the host rests
    Put(put::PutArgs),
    /// Check the configuration and say what the agent would do; touches nothing
    Check(check::CheckArgs),
    /// Find out whether this machine is fit: events, limits, disks, clock, hosts, accounts; uploads nothing
    Doctor(doctor::DoctorArgs),
    /// Show folders, hosts and workers of the running agent
    Status(status::StatusArgs),
    /// Show the latest outcomes of all folders
    Tail(tail::TailArgs),
    /// Search what was uploaded
    Find(find::FindArgs),
    /// Delete on the host what was uploaded
    Undo(undo::UndoArgs),
    /// Try resting or failed files again now
    Retry(retry::RetryArgs),
    /// Give files up: those that wait, rest or are being uploaded go to failed/
    Cancel(steer::CancelArgs),
    /// Start nothing new for a host or from a folder; without a name: at all. Survives restarts
    Pause(steer::TurnArgs),
    /// End a pause, and the rest that a host asked for
    Resume(steer::TurnArgs),
    /// Scan all folders now
    Rescan,
    /// Read the configuration again; a mistake in it changes nothing
    Reload,
    /// Show formats and templates; convert those of another program
    #[command(subcommand)]
    Template(template::TemplateCommand),
    /// Run the agent as a service of this machine: systemd or launchd
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Show what is known about hosts
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Print the completions for a shell
    Completions(manual::CompletionsArgs),
    /// Print a manual page: `pixchute man run | man -l -`
    Man(manual::ManArgs),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    keep_to_itself();
    let args = Args::parse();
    match dispatch(args, &mut Out::new()) {
        Ok(exit) => exit.into(),
        Err(Stop::NobodyReads) => Exit::Done.into(),
        Err(Stop::Said { exit, message }) => {
            // Nothing is left to be done if standard error is closed too.
            let _ = writeln!(io::stderr(), "pixchute: {message}");
            exit.into()
        }
    }
}

/// This process may hold secrets: no core file is written of it, and no other process of the same user looks into it.
/// Where the system does not know that, it is a precaution less and no reason to stop.
fn keep_to_itself() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    #[cfg(not(target_os = "linux"))]
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
}

fn dispatch(args: Args, out: &mut Out) -> Result<Exit, Stop> {
    let file = args.config.as_deref();
    match args.command {
        Command::Run(args) => wait(Threads::All, run::run(&args, file, out)),
        Command::Put(args) => wait(Threads::All, put::run(&args, file, out)),
        Command::Check(args) => check::run(&args, file, out),
        Command::Doctor(args) => doctor::run(&args, file, out),
        Command::Status(args) => status::run(&args, &client(file)?, out),
        Command::Tail(args) => tail::run(&args, file, out),
        Command::Find(args) => find::run(&args, file, out),
        Command::Undo(args) => undo::run(&args, file, out),
        Command::Retry(args) => retry::run(&args, &client(file)?, out),
        Command::Cancel(args) => steer::cancel(&args, &client(file)?, out),
        Command::Pause(args) => steer::pause(&args, &client(file)?, out),
        Command::Resume(args) => steer::resume(&args, &client(file)?, out),
        Command::Rescan => steer::rescan(&client(file)?, out),
        Command::Reload => steer::reload(&client(file)?, out),
        Command::Template(command) => template::run(&command, file, out),
        Command::Service(command) => service::run(&command, file, out),
        Command::Host(command) => host::run(&command, file, out),
        Command::Completions(args) => manual::completions(&args, Args::command(), out),
        Command::Man(args) => manual::man(&args, Args::command(), out),
    }
}

/// How long system calls that are still under way at the end may take.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// How many threads a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    /// The agent uses all processors.
    All,
    /// A question to the agent needs one.
    One,
}

/// Runs a future to its end.
fn wait<T>(threads: Threads, future: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    let mut builder = match threads {
        Threads::All => tokio::runtime::Builder::new_multi_thread(),
        Threads::One => tokio::runtime::Builder::new_current_thread(),
    };
    let cannot = |error| Stop::said(Exit::Failed, format!("cannot start the runtime: {error}"));
    let runtime = builder.enable_all().build().map_err(cannot)?;
    let result = runtime.block_on(future);
    // A system call that hangs (a dead network share) must not keep the process from ending.
    runtime.shutdown_timeout(LAST_CALLS);
    result
}

/// The configuration for talking to a running agent: with a file that is broken by now the agent can still be reached at
/// the default place, unless the user named the file. Without secrets.
fn config_or_default(file: Option<&Path>) -> Result<Config, Stop> {
    match config::outline(file).and_then(config::Draft::finish) {
        Ok(config) => Ok(config),
        Err(error) if file.is_some() => Err(error.into()),
        Err(_) => Ok(Config::default()),
    }
}

/// A client of the agent that uses this configuration. A mistake in it since the agent was started does not keep anybody
/// from talking to it.
fn client(file: Option<&Path>) -> Result<Client, Stop> {
    let config = match config::outline(file) {
        Ok(draft) => draft.config,
        Err(error) if file.is_some() => return Err(error.into()),
        Err(_) => Config::default(),
    };
    Ok(Client::new(&paths::socket_of_agent(&config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_declared_consistently() {
        Args::command().debug_assert();
    }
}
