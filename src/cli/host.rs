//! `pixchute host`: the recipes.

use std::path::Path;

use super::out::{Align, Out, Stop, safe, table};
use super::{Exit, config_or_default};
use crate::control::human;
use crate::host::recipe::{Listed, OptionSpec, Origin};
use crate::host::{self, Limits};

/// The name of the host that needs no recipe.
const LOCAL: &str = "local";

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
    /// Send one image to a host and say what came of it, or show its requests
    Test(super::trial::TestArgs),
    /// Bring a ShareX custom uploader (.sxcu): checks it, copies it, keeps its secrets apart
    Import(super::import::ImportArgs),
}

pub(super) fn run(command: &HostCommand, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let recipes = host::recipes(host::recipe_folder(&config_or_default(file)?).as_deref());
    match command {
        HostCommand::List => list(&recipes, out),
        HostCommand::Show { name } if name == LOCAL => local(out),
        HostCommand::Show { name } => show(name, &recipes, out),
        HostCommand::Test(args) => super::trial::run(args, file, out),
        HostCommand::Import(args) => super::import::run(args, file, out),
    }
}

fn list(recipes: &[Listed], out: &mut Out) -> Result<Exit, Stop> {
    let mut rows = vec![["NAME", "SITE", "LARGEST FILE", "TYPES", "FROM"].map(ToOwned::to_owned).to_vec()];
    rows.push([LOCAL, "this machine", "-", "all", "built in"].map(ToOwned::to_owned).to_vec());
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

fn origin(listed: &Listed) -> String {
    match &listed.origin {
        Origin::BuiltIn => "built in".to_owned(),
        Origin::File(path) if listed.sxcu.is_some() => format!("{} (ShareX)", safe(&path.display().to_string())),
        Origin::File(path) => safe(&path.display().to_string()),
    }
}

fn limits(limits: &Limits) -> (String, String) {
    let largest = limits.max_bytes.map_or("-".to_owned(), human::size);
    let kinds: Vec<&str> = limits.kinds.iter().map(|kind| kind.name()).collect();
    (largest, if kinds.is_empty() { "all".to_owned() } else { kinds.join(" ") })
}

/// The host that is code and no recipe.
fn local(out: &mut Out) -> Result<Exit, Stop> {
    out.print("local: keeps images on this machine and serves them and a gallery on `[server] listen`; no options\n")?;
    Ok(Exit::Done)
}

fn show(name: &str, recipes: &[Listed], out: &mut Out) -> Result<Exit, Stop> {
    let Some(listed) = recipes.iter().find(|listed| listed.name == name) else {
        let known: Vec<&str> = [LOCAL].into_iter().chain(recipes.iter().map(|listed| listed.name.as_str())).collect();
        let message = format!("no recipe is called {}; known are {}", safe(name), safe(&known.join(", ")));
        return Err(Stop::said(Exit::Failed, message));
    };
    let recipe = match &listed.recipe {
        Ok(recipe) => recipe,
        Err(error) => return Err(Stop::said(Exit::Failed, safe(&error.to_string()))),
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
