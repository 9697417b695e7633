//! Stand-in for the records until they are merged.

pub mod follow;
