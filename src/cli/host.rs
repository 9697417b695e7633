//! `pixchute host`: the recipes.

use super::Exit;
use super::out::{Align, Out, Stop, safe, table};
use crate::config::Config;
use crate::control::human;
use crate::host::recipe::{Listed, OptionSpec, Origin};
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
    rows.push(["local", "this machine", "-", "all", "built in"].map(ToOwned::to_owned).to_vec());
    let recipes = known();
    rows.extend(recipes.iter().map(|listed| match &listed.recipe {
        Ok(recipe) => {
            let (largest, kinds) = limits(&recipe.limits);
            vec![safe(&listed.name), safe(&recipe.site), largest, kinds, origin(listed)]
        }
        Err(error) => vec![safe(&listed.name), safe(&error.to_string()), String::new(), String::new(), origin(listed)],
    }));
    out.print(&table(&[Align::Left, Align::Left, Align::Right, Align::Left, Align::Left], &rows, out.paint))?;
    Ok(if recipes.iter().all(|listed| listed.recipe.is_ok()) { Exit::Done } else { Exit::Failed })
}

/// Every recipe, the user's own before the built-in one of the same name.
fn known() -> Vec<Listed> {
    host::recipes(host::recipe_folder(&Config::default()).as_deref())
}

fn origin(listed: &Listed) -> String {
    match &listed.origin {
        Origin::BuiltIn => "built in".to_owned(),
        Origin::File(path) => safe(&path.display().to_string()),
    }
}

fn limits(limits: &Limits) -> (String, String) {
    let largest = limits.max_bytes.map_or("-".to_owned(), human::size);
    let kinds: Vec<&str> = limits.kinds.iter().map(|kind| kind.name()).collect();
    (largest, if kinds.is_empty() { "all".to_owned() } else { kinds.join(" ") })
}

fn show(name: &str, out: &mut Out) -> Result<Exit, Stop> {
    let recipes = known();
    let Some(listed) = recipes.iter().find(|listed| listed.name == name) else {
        let known: Vec<&str> = recipes.iter().map(|listed| listed.name.as_str()).collect();
        let message = format!("no recipe is called {}; known are {}", safe(name), known.join(", "));
        return Err(Stop::said(Exit::Failed, message));
    };
    let recipe = match &listed.recipe {
        Ok(recipe) => recipe,
        Err(error) => return Err(Stop::said(Exit::Failed, error.to_string())),
    };
    let (largest, kinds) = limits(&recipe.limits);
    out.print(&format!(
        "{}: {}\nsite {}, largest file {largest}, types {kinds}, {}\n\n",
        safe(&listed.name),
        safe(&recipe.about),
        safe(&recipe.site),
        origin(listed)
    ))?;
    let mut rows = vec![["OPTION", "DEFAULT", "VALUES", "MEANING"].map(ToOwned::to_owned).to_vec()];
    rows.extend(recipe.options.iter().map(|(name, option)| {
        let default = match (&option.default, option.required) {
            (Some(default), _) => safe(default),
            (None, true) => "(required)".to_owned(),
            (None, false) => "-".to_owned(),
        };
        vec![safe(name), default, values(option), safe(&option.doc)]
    }));
    if rows.len() > 1 {
        out.print(&table(&[Align::Left, Align::Left, Align::Left, Align::Left], &rows, out.paint))?;
        out.print("\n")?;
    }
    out.print(&listed.text.lines().map(|line| safe(line) + "\n").collect::<String>())?;
    Ok(Exit::Done)
}

fn values(option: &OptionSpec) -> String {
    match option.range {
        Some((least, most)) => format!("{least} to {most}"),
        None if option.secret => "a secret".to_owned(),
        None if option.values.is_empty() => "text".to_owned(),
        None => option.values.keys().map(|value| safe(value)).collect::<Vec<_>>().join(", "),
    }
}
