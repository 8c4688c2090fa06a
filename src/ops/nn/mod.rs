//! Ops of networks: convolution, pooling, normalization, softmax, losses, and their gradients.

pub(crate) mod activation;
pub(crate) mod avg_pool2d;
pub(crate) mod batch_norm2d;
pub(crate) mod conv2d;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod fused;
pub(crate) mod loss;
pub(crate) mod max_pool2d;
pub(crate) mod pool2d;
pub(crate) mod softmax;
