//! pixchute as a service: its units, its plists, its catalog, the `service` command; and all of it in a real systemd.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

mod booted;
mod catalog;
mod launchd;
mod package;
mod sandbox;
mod units;
