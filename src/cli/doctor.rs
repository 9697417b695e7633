//! `pixchute doctor`: is this machine fit for the agent?

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::out::{Out, Paint, Stop, safe};
use super::run::{checked, expected_site};
use super::{Exit, Threads, wait};
use crate::config::{self, Config};
use crate::doctor::{self, Finding, Patient, State};
use crate::host::{self, Host};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// The findings as JSON
    #[arg(long)]
    json: bool,
    /// Ask no host
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(args: &DoctorArgs, file: Option<&Path>, out: &mut Out) -> Result<Exit, Stop> {
    let (config, hosts, first) = configuration(file);
    let unusable = first.state == State::Failed;
    let mut findings = Vec::new();
    let (paint, json) = (out.paint, args.json);
    let mut tell = |finding: Finding| -> Result<(), Stop> {
        if !json {
            out.print(&line(&finding, paint))?;
        }
        findings.push(finding);
        Ok(())
    };
    tell(first)?;
    let patient = Patient { config: &config, hosts: &hosts, online: !args.offline };
    wait(Threads::One, doctor::examine(patient, &mut tell))?;
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (failed, warnings) = (count(State::Failed), count(State::Warning));
    if json {
        let report = json!({ "version": env!("CARGO_PKG_VERSION"), "ok": failed == 0, "findings": findings });
        out.print(&format!("{report:#}\n"))?;
    } else {
        let verdict = format!("{} findings, {warnings} warnings, {failed} failed", findings.len());
        let verdict = if failed == 0 { paint.good(&verdict) } else { paint.bad(&verdict) };
        out.print(&format!("{verdict}\n"))?;
    }
    Ok(match failed {
        _ if unusable => Exit::Config,
        0 => Exit::Done,
        _ => Exit::Failed,
    })
}

/// The configuration with its hosts, or the defaults, and what there is to say about it. A mistake in it does not keep the
/// machine from being looked at.
fn configuration(file: Option<&Path>) -> (Config, BTreeMap<String, Arc<dyn Host>>, Finding) {
    let finding = |state, message: String| Finding::new("config", "", state, message);
    if file.is_none() && config::find(None).is_none() {
        let message = "there is none: `pixchute run DIR` needs none, and the defaults are looked at".to_owned();
        let remedy = "for a service copy config/pixchute.toml to the place that `pixchute check` names";
        return (Config::default(), BTreeMap::new(), finding(State::Note, message).remedy(remedy));
    }
    let read = config::draft(file).and_then(|draft| {
        let config = checked(draft, None)?;
        let hosts = host::build(&config, expected_site(config.listen)).map_err(|problems| config.rejected(problems))?;
        Ok((config, hosts))
    });
    match read {
        Ok((config, hosts)) => {
            let file = config.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
            let count = (config.folders.len(), config.hosts.len());
            let found = finding(State::Ok, format!("{file}: {} folders, {} hosts", count.0, count.1));
            (config, hosts, found)
        }
        Err(error) => {
            let first = error.problems.first();
            let what = first.map_or_else(String::new, |problem| format!("{}: {}", problem.key, problem.message));
            let more = error.problems.len().saturating_sub(1);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            let found = finding(State::Failed, format!("it cannot be used: {what}{more}"));
            (Config::default(), BTreeMap::new(), found.remedy("`pixchute check` shows every mistake and its place"))
        }
    }
}

/// One finding, in one line.
pub(super) fn line(finding: &Finding, paint: Paint) -> String {
    let word = match finding.state {
        State::Ok => paint.good("ok     "),
        State::Note => paint.dim("note   "),
        State::Warning => paint.warn("warning"),
        State::Failed => paint.bad("FAILED "),
    };
    let subject = if finding.subject.is_empty() { String::new() } else { format!("{}: ", safe(&finding.subject)) };
    let remedy = finding.remedy.as_ref().map(|remedy| format!(" → {}", safe(remedy))).unwrap_or_default();
    format!("{word}  {}  {subject}{}{remedy}\n", paint.bold(&format!("{:<8}", finding.check)), safe(&finding.message))
}
