//! Found: a conv2d, with an activation or not, whose result only a max_pool2d of 2×2 windows side by side reads. Becomes:
//! conv2d_pool. Equal bit for bit: each sum has the same terms in the same order, and the largest of a window is chosen by
//! the same rule.

use super::Uses;
use super::replace::{Replacement, replace};
use crate::graph::{Graph, NodeKind};
use crate::ops::Op;
use crate::ops::kernel::GpuTraits;
use crate::ops::nn::fused::{ConvPool, FusedKernel};

pub(super) fn fuse(graph: &Graph, gpu: GpuTraits) -> Graph {
    let uses = Uses::of(graph);
    let mut found = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let NodeKind::Op(Op::MaxPool2d(pool)) = &node.kind else { continue };
        let conv_value = node.inputs[0];
        let conv_node = graph.node(conv_value);
        let NodeKind::Op(Op::Conv2d(conv)) = &conv_node.kind else { continue };
        let (x, weight) = (graph.shape(conv_node.inputs[0]), graph.shape(conv_node.inputs[1]));
        let Some(kernel) = ConvPool::new(*conv, pool, x, weight, gpu) else { continue };
        if uses.is_single(conv_value) {
            found.push(Replacement {
                kernel: FusedKernel::ConvPool(kernel),
                inputs: conv_node.inputs.clone(),
                outputs: vec![graph.value(index, 0), graph.value(index, 1)],
                nodes: vec![conv_value.node as usize, index],
            });
        }
    }
    replace(graph, &found).unwrap_or_else(|| graph.clone())
}
