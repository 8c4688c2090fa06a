//! The integration tests, as one binary.

mod cases;
mod harness;
mod ops;
mod shaders;
