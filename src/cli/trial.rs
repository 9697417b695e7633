//! `pixchute host test`: one image to one host, or what would be sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::out::{Out, Stop, safe};
use super::run::expected_site;
use super::{Exit, Threads, wait};
use crate::clock::human;
use crate::config::{self, Config, ConfigError, HostConfig};
use crate::host::{self, Host, NO_ADDRESS, Preview, Progress, Source, Upload, wire_name};
use crate::inspect::{self, Inspected};
use crate::job::{ContentHash, Failure, ImageFacts, ImageKind, JobId, Links, Phase};

/// A white square of 16 by 16 pixels.
const SAMPLE: &[u8] = include_bytes!("sample.png");

/// Its name on the wire.
const SAMPLE_NAME: &str = "pixchute-test.png";

/// How often the phase of the upload is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Arguments of `host test`.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// A host of the configuration, a recipe, or the path of a .sxcu or .toml file
    #[arg(value_name = "NAME")]
    name: String,
    /// The image to send; a small white square without it
    #[arg(value_name = "IMAGE")]
    image: Option<PathBuf>,
    /// Show every request without sending anything; secrets are not shown
    #[arg(long)]
    print_request: bool,
}

pub(super) fn run(args: &TestArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let all = match (config::find(file), file) {
        (None, None) => Config::default(),
        _ => config::load(file)?,
    };
    let host_config = chosen(&args.name, &all)?;
    let (source, image) = image(args.image.as_deref())?;
    let (host, warnings) = build(&all, host_config, args.print_request)?;
    for warning in warnings {
        out.print(&format!("{} {}\n", out.paint.warn("warning:"), safe(&warning)))?;
    }
    let upload = Upload {
        job: JobId::generate(),
        source: Arc::new(source),
        image,
        progress: Arc::new(Progress::new()),
        doubtful: false,
        deadline: Instant::now() + all.pool.file_timeout,
        gallery: None,
    };
    let len = upload.source.len();
    if let Some(refusal) = host.limits().refuses(&image, len) {
        let message = refusal.explain(safe(upload.source.name()), &safe(host.name()));
        return Err(Stop::said(Exit::Failed, format!("{message}; {}", refusal.advice())));
    }
    if args.print_request {
        return print(host.previews(&upload), &args.name, out);
    }
    out.print(&format!(
        "{}: {len} bytes of {} to {}\n",
        safe(upload.source.name()),
        image.kind.mime(),
        safe(host.name())
    ))?;
    wait(Threads::One, send(host.as_ref(), upload, out))
}

/// The host that `name` means.
fn chosen(name: &str, config: &Config) -> Result<HostConfig, Stop> {
    if let Some(host) = config.hosts.get(name) {
        return Ok(host.clone());
    }
    let mut host = HostConfig::new(name);
    let is_path = name.contains('/') || [".sxcu", ".toml"].iter().any(|ending| name.ends_with(ending));
    if is_path {
        let path = std::path::absolute(name).unwrap_or_else(|_| PathBuf::from(name));
        host.name = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
        host.recipe = path.to_string_lossy().into_owned();
    }
    Ok(host)
}

/// The host alone. To show a request, an address that could not be used for sending is good enough.
fn build(all: &Config, mut host: HostConfig, only_shown: bool) -> Result<(Arc<dyn Host>, Vec<String>), Stop> {
    let mut warnings = Vec::new();
    let only = |host: &HostConfig| Config {
        hosts: [(host.name.clone(), host.clone())].into(),
        folders: Vec::new(),
        ..all.clone()
    };
    let built = |host: &HostConfig| host::build(&only(host), expected_site(all.listen));
    host.allow_http |= only_shown;
    let mut hosts = built(&host);
    if let Err(problems) = &hosts
        && only_shown
        && host.base_url.is_none()
        && problems.iter().any(|problem| problem.key.ends_with(".base_url"))
    {
        host.base_url = Some(NO_ADDRESS.to_owned());
        warnings.push("it does not say where to send to: set `base_url`".to_owned());
        hosts = built(&host);
    }
    let hosts = hosts.map_err(|problems| Stop::from(ConfigError::new(all.file.clone(), all.text.clone(), problems)))?;
    let host = hosts.into_values().next();
    Ok((host.ok_or_else(|| Stop::said(Exit::Failed, "there is no such host"))?, warnings))
}

/// The image to send.
fn image(path: Option<&Path>) -> Result<(Source, ImageFacts), Stop> {
    let Some(path) = path else {
        let hash = ContentHash(*blake3::hash(SAMPLE).as_bytes());
        let image = ImageFacts { kind: ImageKind::Png, width: 16, height: 16, animated: false, hash };
        return Ok((Source::in_memory(Bytes::from_static(SAMPLE), SAMPLE_NAME.to_owned(), ImageKind::Png), image));
    };
    let failed = |what: String| Stop::said(Exit::Failed, format!("{}: {what}", safe(&path.display().to_string())));
    let look = inspect::look(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let look = look.ok_or_else(|| failed("is no file".to_owned()))?;
    let inspected = inspect::inspect(path, look.look.fingerprint, u64::MAX);
    let Inspected { image, .. } = inspected.map_err(|refused| failed(refused.to_string()))?;
    let opened = Source::open(path, wire_name(path), image.kind);
    let (source, _) = opened.map_err(|error| failed(format!("cannot be read: {error}")))?;
    Ok((source, image))
}

fn print(previews: Vec<Preview>, name: &str, out: &mut Out) -> Result<Exit, Stop> {
    if previews.is_empty() {
        out.print(&format!("{}: its requests are made by its own protocol and cannot be shown\n", safe(name)))?;
        return Ok(Exit::Done);
    }
    for preview in &previews {
        out.print(&shown(preview, out.paint))?;
    }
    out.print("nothing was sent\n")?;
    Ok(Exit::Done)
}

fn shown(preview: &Preview, paint: super::out::Paint) -> String {
    let mut text = format!("{}\n", paint.dim(&format!("# {}", safe(&preview.step))));
    if let Some(when) = &preview.when {
        text.push_str(&format!("{}\n", paint.dim(&format!("# only if {}", safe(when)))));
    }
    text.push_str(&format!("{} {}\n", paint.bold(&preview.method), safe(&preview.url)));
    for (name, value) in &preview.headers {
        text.push_str(&format!("{}: {}\n", safe(name), safe(value)));
    }
    text.push('\n');
    for line in preview.body.iter().flat_map(|part| part.lines()) {
        text.push_str(&format!("{}\n", safe(line)));
    }
    if insecure(&preview.url) {
        let warning = "plain http: sending is refused unless `allow_http = true` is set";
        text.push_str(&format!("{} {warning}\n", paint.warn("warning:")));
    }
    text.push('\n');
    text
}

/// Whether `url` goes over a network without encryption.
fn insecure(url: &str) -> bool {
    let here = |url: &Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !here(&url))
}

/// Sends the image, tells what happens meanwhile, and what came of it.
async fn send(host: &dyn Host, upload: Upload, out: &mut Out) -> Result<Exit, Stop> {
    let began = Instant::now();
    let mut phases: Vec<(Phase, Instant)> = vec![(upload.progress.phase(), began)];
    let result = {
        let mut sending = host.upload(&upload);
        loop {
            tokio::select! {
                result = timeout_at(upload.deadline, &mut sending) => break result,
                () = sleep(LOOK) => {
                    let phase = upload.progress.phase();
                    if phases.last().is_none_or(|(last, _)| *last != phase) {
                        phases.push((phase, Instant::now()));
                    }
                }
            }
        }
    };
    let ended = Instant::now();
    let ends = phases.iter().skip(1).map(|(_, began)| *began).chain([ended]);
    for ((phase, from), to) in phases.iter().zip(ends) {
        out.print(&format!("  {:<9} {}\n", phase.name(), human(rounded(to - *from))))?;
    }
    let took = human(rounded(ended - began));
    match result {
        Ok(Ok(links)) => {
            out.print(&format!("{} in {took}\n", out.paint.good("uploaded")))?;
            out.print(&link_lines(&links))?;
            Ok(Exit::Done)
        }
        Ok(Err(failure)) => {
            out.print(&format!("{} after {took}: {}\n", out.paint.bad("failed"), failure_text(&failure)))?;
            Ok(Exit::Failed)
        }
        Err(_) => {
            let phase = upload.progress.phase().name();
            out.print(&format!(
                "{} after {took}: not finished within file_timeout, phase {phase}\n",
                out.paint.bad("failed")
            ))?;
            Ok(Exit::Failed)
        }
    }
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn link_lines(links: &Links) -> String {
    let rows = [
        ("url", Some(&links.url)),
        ("thumb", links.thumb.as_ref()),
        ("image", links.image.as_ref()),
        ("delete", links.delete_url.as_ref()),
    ];
    let line = |(name, link): (&str, Option<&String>)| link.map(|link| format!("  {name:<9} {}\n", safe(link)));
    rows.into_iter().filter_map(line).collect()
}

fn failure_text(failure: &Failure) -> String {
    let mut text = safe(&failure.message);
    if let Some(head) = &failure.response_head {
        text.push_str(&format!("\n  answer    {}", safe(head)));
    }
    if let Some(advice) = &failure.advice {
        text.push_str(&format!("\n  advice    {}", safe(advice)));
    }
    text
}
