//! `pixchute host`: the recipes.

use super::Exit;
use super::out::{Align, Out, Stop, safe, table};
use crate::control::human;
use crate::host::{self, Limits};

/// The commands under `host`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum HostCommand {
    /// List every recipe: the built-in ones and those in the configuration folder
    List,
    /// Show one recipe
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(super) fn run(command: &HostCommand, out: &mut Out) -> Result<Exit, Stop> {
    match command {
        HostCommand::List => list(out),
        HostCommand::Show { name } => show(name, out),
    }
}

fn list(out: &mut Out) -> Result<Exit, Stop> {
    let mut rows = vec![["NAME", "SITE", "LARGEST FILE", "TYPES", "FROM"].map(ToOwned::to_owned).to_vec()];
    rows.extend(host::recipes().iter().map(|recipe| {
        let (largest, kinds) = limits(&recipe.limits);
        vec![safe(&recipe.name), safe(&recipe.site), largest, kinds, safe(&recipe.origin)]
    }));
    out.print(&table(&[Align::Left, Align::Left, Align::Right, Align::Left, Align::Left], &rows, out.paint))?;
    Ok(Exit::Done)
}

fn limits(limits: &Limits) -> (String, String) {
    let largest = limits.max_bytes.map_or("-".to_owned(), human::size);
    let kinds: Vec<&str> = limits.kinds.iter().map(|kind| kind.name()).collect();
    (largest, if kinds.is_empty() { "all".to_owned() } else { kinds.join(" ") })
}

fn show(name: &str, out: &mut Out) -> Result<Exit, Stop> {
    let recipes = host::recipes();
    let Some(recipe) = recipes.iter().find(|recipe| recipe.name == name) else {
        let known: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        let message = format!("no recipe is called {}; known are {}", safe(name), known.join(", "));
        return Err(Stop::said(Exit::Failed, message));
    };
    out.print(&format!(
        "# {} ({}), {}\n{}",
        safe(&recipe.name),
        safe(&recipe.site),
        safe(&recipe.origin),
        recipe.text
    ))?;
    Ok(Exit::Done)
}
