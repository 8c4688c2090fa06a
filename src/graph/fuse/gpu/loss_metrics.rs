//! Found: metrics of logits and of their cross-entropy, whose loss nothing else reads. Becomes: loss_metrics. Equal bit for
//! bit: each thread has the same rows, and one tree adds them up.

use super::super::replace::{Replacement, replace_most};
use super::readers::Readers;
use crate::graph::{Graph, NodeKind};
use crate::ops::Op;
use crate::ops::nn::cross_entropy::Scores;
use crate::ops::nn::fused::{FusedKernel, LossMetrics};

pub(super) fn fuse(graph: &Graph) -> Graph {
    let readers = Readers::new(graph);
    let mut found = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (NodeKind::Op(Op::Metrics(_)), &[row, loss, logits, labels, table]) = (&node.kind, node.inputs.as_slice())
        else {
            continue;
        };
        let loss_node = graph.node(readers.root(loss));
        let NodeKind::Op(Op::ClassLoss(op)) = &loss_node.kind else { continue };
        let loss_index = readers.root(loss).node as usize;
        let &[scores, classes, class_weights] = loss_node.inputs.as_slice() else { continue };
        let mut results = (0..loss_node.types.len()).map(|output| graph.value(loss_index, output));
        let is_alone = results.all(|result| readers.are_only(result, &[index]));
        let dims: [usize; 2] = graph.shape(scores).dims().try_into().unwrap_or([usize::MAX; 2]);
        let has_kernel = op.scores == Scores::Logits && LossMetrics::fits(dims, &op.attributes);
        if is_alone && has_kernel && scores == logits && classes == labels {
            found.push(Replacement {
                kernel: FusedKernel::LossMetrics(LossMetrics { attributes: op.attributes }),
                inputs: vec![row, logits, labels, class_weights, table],
                outputs: Vec::new(),
                nodes: vec![loss_index, index],
            });
        }
    }
    replace_most(graph, found)
}
