//! The integration tests, as one binary.

mod cases;
mod cli;
mod data;
mod golden;
mod graph;
mod harness;
mod ops;
mod properties;
mod shaders;
