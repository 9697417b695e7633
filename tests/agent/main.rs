//! The real binary against hosts on loopback: from a picture in a folder to its link, and what must hold when hosts,
//! disks and processes fail. Real time: everything waits for a condition with a deadline.

#[path = "../support/mod.rs"]
mod support;

mod albums;
mod commands;
mod crash;
mod files;
mod hangs;
mod hooks;
mod links;
mod live;
mod outages;
mod outcomes;
mod private;
mod put;
mod reload;
mod rests;
mod service;
mod several;
mod steering;
mod undo;
mod uploaders;
