//! The integration tests, as one binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod accumulation;
mod cases;
mod cli;
mod data;
mod golden;
mod graph;
mod harness;
mod ops;
mod optim;
mod optim_more;
mod properties;
mod shaders;
mod train;
