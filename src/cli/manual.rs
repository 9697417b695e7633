//! `pixchute completions` and `pixchute man`: made of the same declarations as the arguments themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Exit;
use super::out::{Out, Stop};

/// The name that everything is about.
const NAME: &str = "pixchute";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// Whose completions
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The page of this command, such as `run` or `host test`; the program's own without it
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write every page into this folder, for packages
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs, mut command: Command, out: &mut Out) -> Result<Exit, Stop> {
    // Into memory first: the generator knows no closed pipe.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, NAME, &mut text);
    out.print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}

pub(super) fn man(args: &ManArgs, command: Command, out: &mut Out) -> Result<Exit, Stop> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    if let Some(folder) = &args.dir {
        let cannot =
            |error: io::Error| Stop::said(Exit::Failed, format!("cannot write to {}: {error}", folder.display()));
        fs::create_dir_all(folder).and_then(|()| write_all(&command, NAME, folder)).map_err(cannot)?;
        return Ok(Exit::Done);
    }
    let mut wanted = &command;
    for word in &args.command {
        wanted = wanted.find_subcommand(word).ok_or_else(|| {
            let known: Vec<&str> = wanted.get_subcommands().map(Command::get_name).collect();
            Stop::said(
                Exit::Usage,
                format!("there is no command `{}`, expected one of {}", word.escape_debug(), known.join(", ")),
            )
        })?;
    }
    let name = [NAME].into_iter().chain(args.command.iter().map(String::as_str)).collect::<Vec<_>>().join("-");
    out.print(&String::from_utf8_lossy(&page(wanted, &name)?))?;
    Ok(Exit::Done)
}

/// The page of `command` and those below it.
fn write_all(command: &Command, name: &str, folder: &Path) -> io::Result<()> {
    fs::write(folder.join(format!("{name}.1")), page(command, name)?)?;
    command.get_subcommands().try_for_each(|inner| write_all(inner, &format!("{name}-{}", inner.get_name()), folder))
}

fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .title(name.to_uppercase())
        .source(concat!("pixchute ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands")
        .render(&mut text)?;
    Ok(text)
}
