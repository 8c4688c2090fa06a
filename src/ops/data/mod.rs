//! Ops between the resident data set and the network: gathering a batch, augmentation, metrics.

pub(crate) mod augment;
pub(crate) mod gather;
pub(crate) mod metrics;
