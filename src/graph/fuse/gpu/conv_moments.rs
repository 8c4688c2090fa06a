//! Found: a convolution whose result a batch normalization in training reads. Becomes: conv2d_moments, which takes the moments
//! of each tile from registers as it stores it, and the normalization merges these: one dispatch that waits is gone, and with
//! it a pass over the result. Equal up to rounding: the tiles are other slices of the batch than the normalization's own.

use crate::graph::{Graph, NodeKind, Value};
use crate::ops::kernel::GpuTraits;
use crate::ops::nn::activation::Activation;
use crate::ops::nn::batch_norm2d::BatchNormTrain;
use crate::ops::nn::conv2d::Conv2dMoments;
use crate::ops::{Op, Operation};

pub(super) fn fuse(graph: &Graph, gpu: GpuTraits) -> Graph {
    let mut fused = graph.clone();
    for index in 0..graph.nodes.len() {
        let Some((producer, conv, norm)) = find(graph, index, gpu) else { continue };
        let node = &mut fused.nodes[producer];
        if node.types.len() == 1 {
            let types: Vec<_> = graph.nodes[producer].inputs.iter().map(|&input| graph.ty(input).clone()).collect();
            let Ok(types) = conv.infer(&types) else { continue };
            node.types = types;
            node.kind = NodeKind::Op(conv.into());
        }
        let moments = fused.value(producer, 1);
        fused.nodes[index].kind = NodeKind::Op(norm.into());
        fused.nodes[index].inputs.push(moments);
    }
    fused
}

/// For the batch normalization at a node: the convolution before it, and what both become.
fn find(graph: &Graph, index: usize, gpu: GpuTraits) -> Option<(usize, Conv2dMoments, BatchNormTrain)> {
    let NodeKind::Op(Op::BatchNormTrain(norm)) = &graph.nodes[index].kind else { return None };
    let Value { node, output: 0, .. } = graph.nodes[index].inputs[0] else { return None };
    let producer = node as usize;
    let NodeKind::Op(Op::Conv2d(conv)) = &graph.nodes[producer].kind else { return None };
    let inputs = &graph.nodes[producer].inputs;
    if conv.activation != Activation::None {
        return None;
    }
    let (conv, num_tiles) =
        Conv2dMoments::new(*conv, graph.shape(inputs[0]), graph.shape(inputs[1]), inputs.len() == 3, gpu)?;
    Some((producer, conv, norm.with_moments(num_tiles)?))
}
