//! The integration tests, as one binary.

mod cases;
mod data;
mod golden;
mod graph;
mod harness;
mod ops;
mod optim;
mod properties;
mod shaders;
mod train;
