//! `pixchute host import`: a ShareX custom uploader becomes a host of the configuration.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::out::{Out, Stop, safe};
use super::{Exit, config_or_default};
use crate::config::paths;
use crate::host;
use crate::host::recipe::library;
use crate::host::sxcu::import::Import;

/// Arguments of `host import`.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The .sxcu file
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// What the host is called; made of the file's own name without it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Check the file and say what would be done, without doing it
    #[arg(long)]
    dry_run: bool,
    /// Add the table to the configuration file instead of printing it only
    #[arg(long)]
    write: bool,
}

pub(super) fn run(args: &ImportArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let config = config_or_default(file)?;
    let folder = host::recipe_folder(&config).unwrap_or_else(|| paths::config_dir().join("hosts"));
    let listed = library::from_sxcu("import", &args.path);
    let Some(sxcu) = listed.sxcu else {
        let message = listed.recipe.err().map(|error| error.problems.join("\n")).unwrap_or_default();
        return Err(Stop::said(Exit::Failed, format!("{} cannot be used:\n{}", show(&args.path), lines(&message))));
    };
    let import = Import::new(*sxcu, args.name.as_deref(), &folder);
    let (shown, era) = (show(&args.path), import.sxcu.era.name());
    out.print(&format!("{shown}: {}, era {era}\n", safe(&import.sxcu.name())))?;
    for note in &import.sxcu.notes {
        out.print(&format!("{} {}\n", out.paint.warn("warning:"), safe(note)))?;
    }
    if let Some(reason) = import.sxcu.no_host_for_images() {
        let message = format!("it can be read, but it cannot be a host for images: {reason}");
        if !args.dry_run {
            return Err(Stop::said(Exit::Failed, safe(&message)));
        }
        out.print(&format!("{} {}\n", out.paint.warn("warning:"), safe(&message)))?;
        return Ok(Exit::Done);
    }
    check_name(&import.name, &config, file)?;
    if let Some(path) = import.obstacle() {
        let message = format!("{} is there already: choose another name with --name", show(&path));
        return Err(Stop::said(Exit::Failed, message));
    }
    let table = import.table();
    if args.dry_run {
        out.print(&format!("\nwould write {}\n", show(&import.file())))?;
        import
            .secret_files()
            .iter()
            .try_for_each(|path| out.print(&format!("would write {} (a secret)\n", show(path))))?;
        out.print(&format!("\n{}\n{table}", lines(&import.sxcu.written())))?;
        return Ok(Exit::Done);
    }
    import
        .write()
        .map_err(|(path, error)| Stop::said(Exit::Failed, format!("cannot write {}: {error}", show(&path))))?;
    out.print(&format!("wrote {}\n", show(&import.file())))?;
    import
        .secret_files()
        .iter()
        .try_for_each(|path| out.print(&format!("wrote {} (a secret, mode 600)\n", show(path))))?;
    let target = config
        .file
        .clone()
        .or_else(|| file.map(Path::to_owned))
        .unwrap_or_else(|| paths::config_dir().join("config.toml"));
    if args.write {
        append(&target, &table)
            .map_err(|error| Stop::said(Exit::Failed, format!("cannot add to {}: {error}", show(&target))))?;
        out.print(&format!("added [host.{}] to {}\n", import.name, show(&target)))?;
    } else {
        out.print(&format!("\nadd this to {}:\n\n{table}", show(&target)))?;
    }
    out.print(&format!("\ntry it: pixchute host test {} --print-request\n", import.name))?;
    Ok(Exit::Done)
}

/// Refuses a name that is taken, or that is none.
fn check_name(name: &str, config: &crate::config::Config, file: Option<&Path>) -> Result<(), Stop> {
    let refused = |message: String| Err(Stop::said(Exit::Failed, message));
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return refused(format!("`{}` is no name for a host: letters, digits, `-` and `_`, 64 at most", safe(name)));
    }
    let built_in = name == "local" || host::recipes(None).iter().any(|listed| listed.name == name);
    if built_in {
        return refused(format!("`{name}` is a built-in recipe: choose another name with --name"));
    }
    // A folder may name the host already: the table is what is missing then.
    let table = config.text.parse::<toml::Table>().unwrap_or_default();
    let taken = table.get("host").and_then(|hosts| hosts.get(name)).is_some();
    if taken {
        let place = file.or(config.file.as_deref()).map_or_else(String::new, |file| format!(" in {}", show(file)));
        return refused(format!("there is a [host.{name}]{place} already: choose another name with --name"));
    }
    Ok(())
}

/// Adds `table` to the end of the configuration, which is made if there is none.
fn append(path: &Path, table: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("\n{table}").as_bytes())?;
    file.sync_all()
}

fn lines(text: &str) -> String {
    text.lines().map(|line| safe(line) + "\n").collect()
}

fn show(path: &Path) -> String {
    safe(&path.display().to_string())
}
