//! The real binary against hosts on loopback: from a picture in a folder to its link, and what must hold when hosts,
//! disks and processes fail. Real time: everything waits for a condition with a deadline.

#[path = "../support/mod.rs"]
mod support;

mod albums;
mod commands;
mod crash;
mod doctor;
mod door;
mod files;
mod hangs;
mod hooks;
mod in_folders;
mod links;
mod live;
mod outages;
mod outcomes;
mod private;
mod proxied;
mod put;
mod reload;
mod rests;
mod secrets;
mod service;
mod several;
mod steering;
mod symlinks;
mod undo;
mod uploaders;
