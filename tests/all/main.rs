//! The integration tests, as one binary.

mod by_hand;
mod cases;
mod cli;
mod data;
mod examples;
mod golden;
mod graph;
mod harness;
mod ops;
mod properties;
mod report;
mod shaders;
