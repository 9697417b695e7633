//! The `pixchute` command.

fn main() {}
