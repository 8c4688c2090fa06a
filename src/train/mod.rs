//! Training: the state machines that decide how a run goes on.

pub mod early_stop;
pub mod schedule;
