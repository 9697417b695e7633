//! The real binary on file systems that come and go, and under the limits of the kernel (R4–R8). The tests need Linux,
//! root, and namespaces of their own; where that is not to be had each says so and passes.

#[expect(dead_code, reason = "these tests need a part of it")]
#[path = "../support/mod.rs"]
mod support;

mod limits;
mod mounts;
mod namespace;
