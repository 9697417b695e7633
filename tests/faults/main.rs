//! Faults put into the real binary from outside, one per run, and the sum afterwards: what the host received, what the
//! manifest says and what lies in the folders must agree, and nothing may be lost or told twice.
//!
//! Every group needs a tool or a right of the machine (`strace`, mounts, namespaces). Where that is missing it skips and
//! says why; `.ci/run` installs what is missing. Without `PIXCHUTE_FAULTS=all` the sweeps take some of the moments of a
//! run instead of each.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

mod clocks;
mod damage;
mod disks;
mod once;
mod power;
mod scene;
mod signals;
mod strace;
mod sweeps;
