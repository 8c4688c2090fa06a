//! The integration tests, as one binary.

mod cases;
mod golden;
mod harness;
mod ops;
mod shaders;
