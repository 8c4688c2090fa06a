//! Ops that turn gradients into new parameters, walking the flat parameter buffers.

pub(crate) mod accumulate;
pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod clip_gradients;
pub(crate) mod lion;
pub(crate) mod packed;
pub(crate) mod penalty;
pub(crate) mod rmsprop;
pub(crate) mod sgd;
