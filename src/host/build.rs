//! `[host.NAME]` → [`Host`]s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use secrecy::ExposeSecret;
use url::Url;

use super::dressed::{Dressed, Thumbs};
use super::engine::RecipeHost;
use super::options::{Options, is_loopback, nearest, resolve, sites};
use super::recipe::{Listed, Protocol, Recipe, RecipeError, library};
use super::redact::Redactor;
use super::session::Sessions;
use super::thumb::Thumbnailer;
use super::verified::Verified;
use super::{Host, http, local, store};
use crate::clock::Clock;
use crate::config::{Config, HostConfig, Problem, Thumbnail, Verify};

/// The recipe name of the embedded host.
const LOCAL: &str = "local";

/// The sessions by account.
type Accounts = BTreeMap<Vec<String>, Arc<Sessions>>;

/// Builds every host of `config`. `local` is where the embedded host stores; `None` when its server is off.
///
/// # Errors
/// Everything that is wrong with the `[host.*]` tables and their recipes.
pub fn build(config: &Config, local: Option<local::Site>) -> Result<BTreeMap<String, Arc<dyn Host>>, Vec<Problem>> {
    let mut hosts: BTreeMap<String, Arc<dyn Host>> = BTreeMap::new();
    let mut accounts = Accounts::new();
    // One for all hosts: its bound is that of the machine.
    let thumbnailer = Thumbnailer::default();
    let mut problems = Vec::new();
    for (name, host) in &config.hosts {
        // A server on a Unix socket has no address.
        let local = local.as_ref().filter(|site| !site.base_url.is_empty() || host.recipe == LOCAL);
        let built = if host.recipe == LOCAL {
            build_local(host, local)
        } else {
            build_recipe(config, host, &mut accounts, &thumbnailer)
        };
        match built {
            Ok(built) => match dressed(host, built, local, &thumbnailer).and_then(|it| verified(config, host, it)) {
                Ok(built) => drop(hosts.insert(name.clone(), built)),
                Err(found) => problems.push(found),
            },
            Err(found) => problems.extend(found),
        }
    }
    problems.sort_by_key(|problem| problem.span.start);
    if problems.is_empty() { Ok(hosts) } else { Err(problems) }
}

/// Whether the recipe of `host` is the user's own, which may say something else at the next look.
#[must_use]
pub fn is_own_recipe(config: &Config, host: &HostConfig) -> bool {
    host.recipe != LOCAL && !library::recipes(None).iter().any(|listed| listed.name == host.recipe)
        || recipe_folder(config).is_some_and(|folder| folder.join(format!("{}.toml", host.recipe)).exists())
}

/// Where the user's own recipes lie: `hosts/` beside the configuration file, or in the platform's configuration folder.
#[must_use]
pub fn recipe_folder(config: &Config) -> Option<PathBuf> {
    let beside = config.file.as_ref().and_then(|file| file.parent()).map(Path::to_owned);
    let platform = || directories::ProjectDirs::from("", "", "pixchute").map(|dirs| dirs.config_dir().to_owned());
    beside.or_else(platform).map(|folder| folder.join("hosts"))
}

/// `built` with what the user wants beyond its recipe.
fn dressed(
    host: &HostConfig,
    built: Arc<dyn Host>,
    site: Option<&local::Site>,
    thumbnailer: &Thumbnailer,
) -> Result<Arc<dyn Host>, Problem> {
    let thumbs = match (host.thumbnail, site) {
        (Thumbnail::Auto | Thumbnail::Off, _) => None,
        (Thumbnail::Upload, _) => Some(Thumbs::Upload),
        (Thumbnail::Local, Some(site)) => Some(Thumbs::Local(site.clone())),
        (Thumbnail::Local, None) => {
            return Err(Problem {
                span: host.span.clone(),
                key: format!("host.{}.thumbnail", host.name),
                message: "thumbnails can be kept on this machine only while the server is on".into(),
                help: Some("set `listen = \"127.0.0.1:8421\"` in [server], or use thumbnail = \"upload\"".into()),
            });
        }
    };
    if thumbs.is_none() && !host.fix_extension {
        return Ok(built);
    }
    let thumbs = thumbs.map(|thumbs| (thumbs, thumbnailer.clone()));
    Ok(Arc::new(Dressed { inner: built, thumbs, fix_extension: host.fix_extension }))
}

/// `built`, with its links looked at if the user wants that.
fn verified(config: &Config, host: &HostConfig, built: Arc<dyn Host>) -> Result<Arc<dyn Host>, Problem> {
    if host.verify == Verify::Off {
        return Ok(built);
    }
    let base = host.base_url.as_deref().and_then(|base| Url::parse(base).ok());
    let near = host.recipe == LOCAL || host.allow_http || base.as_ref().is_some_and(is_loopback);
    let client = http::visitor(&config.pool, near).map_err(|error| Problem {
        span: host.span.clone(),
        key: format!("host.{}.verify", host.name),
        message: format!("no HTTPS client could be set up: {}", error.without_url()),
        help: Some("are the system's certificates installed (package ca-certificates)?".into()),
    })?;
    Ok(Arc::new(Verified { inner: built, how: host.verify, client, near }))
}

fn build_local(host: &HostConfig, site: Option<&local::Site>) -> Result<Arc<dyn Host>, Vec<Problem>> {
    let mut problems: Vec<Problem> = Vec::new();
    for (name, setting) in &host.options {
        problems.push(Problem {
            span: setting.span.clone(),
            key: format!("host.{}.{name}", host.name),
            message: format!("recipe `{LOCAL}` has no option `{name}`"),
            help: None,
        });
    }
    let mut problem = |key: String, message: &str, help: &str| {
        let (message, help) = (message.to_owned(), Some(help.to_owned()));
        problems.push(Problem { span: host.span.clone(), key, message, help });
    };
    let named = host.base_url.as_deref().map(|base| base.trim_end_matches('/').to_owned());
    if named.as_deref().is_some_and(|base| !is_web_address(base)) {
        let message = "is no address that begins with http:// or https://";
        let help = "say where a proxy of yours serves the gallery, or leave it out";
        problem(format!("host.{}.base_url", host.name), message, help);
    }
    let site = match site {
        None => {
            let help = "set `listen = \"127.0.0.1:8421\"` in [server]";
            problem(format!("host.{}", host.name), "the embedded host needs the server, and the server is off", help);
            None
        }
        Some(site) => Some(local::Site { base_url: named.unwrap_or_else(|| site.base_url.clone()), ..site.clone() }),
    };
    if site.as_ref().is_some_and(|site| site.base_url.is_empty()) {
        let message = "links need an address, and the server has a socket only";
        let help =
            "set `base_url` to where your proxy serves the gallery, or `listen = \"127.0.0.1:8421\"` in [server]";
        problem(format!("host.{}", host.name), message, help);
    }
    match site {
        Some(site) if problems.is_empty() => Ok(Arc::new(local::LocalHost::new(host.name.clone(), site))),
        _ => Err(problems),
    }
}

fn is_web_address(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let plain =
            url.query().is_none() && url.fragment().is_none() && url.password().is_none() && url.username().is_empty();
        plain && url.has_host() && matches!(url.scheme(), "http" | "https")
    })
}

fn build_recipe(
    config: &Config,
    host: &HostConfig,
    accounts: &mut Accounts,
    thumbnailer: &Thumbnailer,
) -> Result<Arc<dyn Host>, Vec<Problem>> {
    let problem = |key: &str, message: String, help: Option<String>| Problem {
        span: host.span.clone(),
        key: format!("host.{}{key}", host.name),
        message,
        help,
    };
    let listed = find(config, host)
        .map_err(|help| vec![problem(".recipe", format!("there is no recipe `{}`", host.recipe), Some(help))])?;
    let recipe = recipe_of(listed, host).map_err(|error| {
        error
            .problems
            .iter()
            .map(|what| problem(".recipe", format!("{}: {what}", error.origin), None))
            .collect::<Vec<_>>()
    })?;
    let options = resolve(&recipe, host);
    let endpoint = options.as_ref().ok().filter(|_| recipe.protocol == Protocol::S3).and_then(store::endpoint);
    let (sites, options) = match (sites(&recipe, host, endpoint), options) {
        (Ok(sites), Ok(options)) => (sites, options),
        (sites, options) => {
            // The address of a store is among its options: the mistake is told there.
            let sites = sites.err().filter(|_| recipe.protocol != Protocol::S3 || options.is_ok());
            let problems = sites.into_iter().chain(options.err().into_iter().flatten());
            return Err(problems.collect());
        }
    };
    let client = http::client(&sites.base, &config.pool).map_err(|error| {
        let message = format!("no HTTPS client could be set up: {}", error.without_url());
        vec![problem("", message, Some("are the system's certificates installed (package ca-certificates)?".into()))]
    })?;
    if recipe.protocol != Protocol::Steps {
        let beside = matches!(host.thumbnail, Thumbnail::Auto | Thumbnail::Upload).then(|| thumbnailer.clone());
        let built = store::build(config, host, (recipe, sites.base, &options), client, beside)?;
        return Ok(Arc::new(built));
    }
    let secrets = options.iter().filter(|(name, _)| recipe.options.get(*name).is_some_and(|spec| spec.secret));
    let redactor = Redactor::new(secrets.map(|(_, value)| value));
    let account = account(&recipe, &sites.base, &options);
    Ok(Arc::new(RecipeHost {
        name: host.name.clone(),
        recipe: Arc::new(recipe),
        sessions: Arc::clone(accounts.entry(account).or_default()),
        sites,
        options,
        redactor,
        client,
        times: http::Times::new(&config.pool, &host.flow),
        retry: config.retry.clone(),
        flow: host.flow.clone(),
        clock: Clock::System,
        jars: Mutex::default(),
    }))
}

/// Whose session it is: hosts with the same recipe, site and account share one, so that none logs the other out.
fn account(recipe: &Recipe, base: &Url, options: &Options) -> Vec<String> {
    let session = recipe.session.as_ref();
    let who = session.iter().flat_map(|session| &session.account).filter_map(|name| options.get(name));
    let who = who.map(|value| value.expose_secret().to_owned());
    [recipe.name.clone(), base.to_string()].into_iter().chain(who).collect()
}

/// The recipe, given what the user set: a custom uploader may ask where to send to.
fn recipe_of(listed: Listed, host: &HostConfig) -> Result<Recipe, RecipeError> {
    let (Some(sxcu), Ok(recipe)) = (&listed.sxcu, &listed.recipe) else { return listed.recipe };
    let answers = host.options.iter().filter(|(name, _)| name.starts_with("prompt."));
    let answers = answers.map(|(name, setting)| (name.clone(), setting.value.expose_secret().to_owned())).collect();
    let wrong = |problems| RecipeError { origin: host.recipe.clone(), problems };
    sxcu.recipe(&recipe.name, &answers).map_err(wrong)
}

/// What is odd about the recipes of `config` and keeps nothing from working, by host.
#[must_use]
pub fn notes(config: &Config) -> BTreeMap<String, Vec<String>> {
    let mut notes = BTreeMap::new();
    for (name, host) in config.hosts.iter().filter(|(_, host)| host.recipe != LOCAL) {
        let Ok(Listed { sxcu: Some(sxcu), .. }) = find(config, host) else { continue };
        let mut found = sxcu.notes.clone();
        let unreplaced: Vec<&String> = sxcu.secrets.keys().filter(|name| !host.options.contains_key(*name)).collect();
        if !unreplaced.is_empty() {
            let names = unreplaced.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            found.push(format!("holds secrets ({names}): `pixchute host import` keeps them apart"));
        }
        notes.insert(name.clone(), found);
    }
    notes
}

/// The recipe that `host` asks for, or what to do about its absence.
fn find(config: &Config, host: &HostConfig) -> Result<Listed, String> {
    let wanted = host.recipe.as_str();
    if let Some(path) = wanted.strip_prefix("sxcu:") {
        return Ok(library::from_sxcu(&host.name, &path_of(config, path)));
    }
    if wanted.contains('/') || wanted.ends_with(".toml") || wanted.ends_with(".sxcu") {
        return Ok(library::from_file(wanted, &path_of(config, wanted)));
    }
    let folder = recipe_folder(config);
    library::named(wanted, folder.as_deref()).ok_or_else(|| {
        let all = library::recipes(folder.as_deref());
        let names: Vec<&str> = all.iter().map(|listed| listed.name.as_str()).chain([LOCAL]).collect();
        let near = nearest(wanted, names.iter().copied()).map(|near| format!("did you mean `{near}`? "));
        format!("{}there are {}", near.unwrap_or_default(), names.join(", "))
    })
}

/// A recipe's path: `~/` is the home folder, other relative paths begin at the configuration file.
fn path_of(config: &Config, text: &str) -> PathBuf {
    if let (Some(rest), Some(dirs)) = (text.strip_prefix("~/"), directories::BaseDirs::new()) {
        return dirs.home_dir().join(rest);
    }
    let beside = config.file.as_ref().and_then(|file| file.parent()).unwrap_or(Path::new(""));
    beside.join(text)
}
