//! The integration tests, as one binary.

mod accumulation;
mod cases;
mod cli;
mod data;
mod golden;
mod graph;
mod harness;
mod ops;
mod optim_more;
mod properties;
mod shaders;
