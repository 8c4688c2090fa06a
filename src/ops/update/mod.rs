//! Ops that turn gradients into new parameters, walking the flat parameter buffers.

pub(crate) mod accumulate;
pub(crate) mod clip_gradients;
pub(crate) mod packed;
pub(crate) mod packed_update;
pub(crate) mod partial_update;
pub(crate) mod regularization;
