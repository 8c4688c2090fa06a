//! Rewrites for GPUs: they make ops of `ops/nn/fused`, whose kernels keep what is between the parts in a workgroup, so that
//! a step takes fewer dispatches, and fewer of them wait for each other. A file each says what it finds and why results
//! are equal. The CPU keeps most of these apart: there a hand-over costs little, and its kernels are of single ops.

mod batch_norm;
mod conv_grad_sums;
mod conv_moments;
mod conv_pool_grads;
mod gradient_sum;
mod loss_metrics;
mod mlp_chain;
mod partial_gradients;
mod readers;

use super::{Uses, conv_pool, replace};
use crate::graph::Graph;
use crate::ops::kernel::GpuTraits;

/// The graph with every rewrite for this kind of GPU applied, after those for every device.
pub(in crate::graph) fn fuse(graph: &Graph, gpu: GpuTraits) -> Graph {
    let mut fused = conv_pool::fuse(graph, Some(gpu));
    if !gpu.is_software {
        // Workgroup memory is what these gain from.
        fused = mlp_chain::fuse(&fused);
        fused = partial_gradients::fuse(&fused, gpu);
        fused = gradient_sum::fuse(&fused);
        fused = conv_moments::fuse(&fused, gpu);
        fused = conv_grad_sums::fuse(&fused, gpu);
    }
    batch_norm::fuse(&loss_metrics::fuse(&fused))
}
