//! pixchute: drop a picture in a folder, get its link out.

pub mod agent;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod flow;
pub mod host;
pub mod inspect;
pub mod job;
pub mod ledger;
pub mod record;
pub mod schedule;
pub mod settle;
pub mod shelf;
pub mod telemetry;
pub mod upload;
pub mod watch;
