//! The integration tests, as one binary.

mod cases;
mod data;
mod harness;
mod ops;
