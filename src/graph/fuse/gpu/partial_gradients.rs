//! Found: gradients of convolutions by weight and bias that only the optimizer reads. Becomes: sums over slices of the
//! batch, which the optimizer adds up as it reads them, so that nothing has to wait for them to be whole. They are those of
//! conv2d_grad_weight's first pass (conv2d_grad_slices), equal bit for bit, or of a convolution that was pooled
//! (`conv_pool_grads.rs`).

use super::super::replace::{Replacement, replace};
use super::conv_pool_grads;
use super::readers::Readers;
use crate::graph::{Graph, NodeKind, Value};
use crate::ops::kernel::GpuTraits;
use crate::ops::nn::conv2d::Conv2dGradSlices;
use crate::ops::update::partial_update::{GradientSource, PartialUpdate};
use crate::ops::{Op, Operation};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// The gradients of a convolution.
enum Found {
    Pooled(Box<conv_pool_grads::Found>),
    /// conv2d_grad_weight at this node, what it becomes, and the type of that.
    Plain {
        node: usize,
        op: Conv2dGradSlices,
        ty: TensorType,
    },
}

/// The most floats of all sums over slices, which are one binding of the update: half of what the least device binds. A
/// network of more convolutions keeps the other gradients whole.
const MAX_ALL_PARTIALS: usize = 1 << 24;

pub(super) fn fuse(graph: &Graph, gpu: GpuTraits) -> Graph {
    let readers = Readers::new(graph);
    for (update, node) in graph.nodes.iter().enumerate() {
        if !matches!(node.kind, NodeKind::Op(Op::PackedUpdate(_))) {
            continue;
        }
        let find = |node: usize| match conv_pool_grads::find(graph, &readers, node, update) {
            Some(found) => Some(Found::Pooled(Box::new(found))),
            None => find_plain(graph, &readers, node, update, gpu),
        };
        let found: Vec<Found> = (0..graph.nodes.len()).filter_map(find).collect();
        if let Ok(rewritten) = rewrite(graph, update, &found) {
            // One optimizer at a time: places move.
            return rewritten;
        }
    }
    graph.clone()
}

/// The gradients at a node, if nobody but the optimizer at `update` reads them.
fn find_plain(graph: &Graph, readers: &Readers<'_>, index: usize, update: usize, gpu: GpuTraits) -> Option<Found> {
    let node = &graph.nodes[index];
    let NodeKind::Op(Op::Conv2dGradWeight(op)) = &node.kind else { return None };
    let is_own = |output: usize| readers.are_only(graph.value(index, output), &[update]);
    let op = Conv2dGradSlices::new(op.conv, graph.shape(node.inputs[1]), &op.weight, gpu)?;
    let types: Vec<TensorType> = node.inputs.iter().map(|&input| graph.ty(input).clone()).collect();
    let ty = op.infer(&types).ok()?.pop()?;
    (0..node.types.len()).all(is_own).then_some(Found::Plain { node: index, op, ty })
}

impl Found {
    /// The gradients, by weight and, where there is one, bias.
    fn gradients(&self, graph: &Graph) -> Vec<Value> {
        match self {
            Found::Pooled(found) => found.gradients(graph),
            Found::Plain { node, .. } => {
                (0..graph.nodes[*node].types.len()).map(|output| graph.value(*node, output)).collect()
            }
        }
    }

    /// Where the gradient by the bias begins in a slice.
    fn bias_offset(&self) -> usize {
        match self {
            Found::Pooled(found) => found.bias_offset(),
            Found::Plain { op, .. } => op.bias_offset(),
        }
    }

    /// Makes the sums over slices, and says what else becomes of the graph.
    fn partials(&self, graph: &mut Graph, replacements: &mut Vec<Replacement>) -> Result<Value> {
        match self {
            Found::Pooled(found) => conv_pool_grads::apart(graph, found, replacements),
            Found::Plain { node, op, ty } => {
                // Nobody but the update, which is given these instead, reads what the node gave.
                graph.nodes[*node].types = vec![ty.clone()];
                graph.nodes[*node].kind = NodeKind::Op(op.clone().into());
                Ok(graph.value(*node, 0))
            }
        }
    }
}

/// The graph with the update reading sums over slices.
fn rewrite(graph: &Graph, update: usize, found: &[Found]) -> Result<Graph> {
    let NodeKind::Op(Op::PackedUpdate(op)) = &graph.nodes[update].kind else { panic!("fuse() saw the node") };
    let (op, num_scalars) = (op.clone(), op.rule.num_scalars);
    let inputs = graph.nodes[update].inputs.clone();
    let (params, rest) = inputs[num_scalars..].split_at(op.num_params);
    let (grads, states) = rest.split_at(op.num_params);
    let mut graph = graph.clone();
    let (mut replacements, mut partials) = (Vec::new(), Vec::new());
    let mut sources = vec![GradientSource::Whole; op.num_params];
    let is_whole = |source: &&GradientSource| **source == GradientSource::Whole;
    let mut num_floats = 0;
    for found in found {
        if matches!(found, Found::Plain { ty, .. } if num_floats + ty.shape.num_elems() > MAX_ALL_PARTIALS) {
            continue;
        }
        let place = |gradient: &Value| grads.iter().position(|grad| grad == gradient);
        let places: Option<Vec<usize>> = found.gradients(&graph).iter().map(place).collect();
        let Some(places) = places else { continue };
        if sources.iter().filter(is_whole).count() == places.len() {
            // The pack of gradients that are whole has members.
            continue;
        }
        for (place, offset) in places.into_iter().zip([0, found.bias_offset()]) {
            sources[place] = GradientSource::Partial { tensor: partials.len(), offset };
        }
        let sums = found.partials(&mut graph, &mut replacements)?;
        num_floats += graph.shape(sums).num_elems();
        partials.push(sums);
    }
    if partials.is_empty() {
        return Err(Error::operand("optimizer", "gradients in slices", "none"));
    }
    let whole: Vec<Value> =
        grads.iter().zip(&sources).filter(|(_, source)| is_whole(source)).map(|(&grad, _)| grad).collect();
    let types = |graph: &Graph, values: &[Value]| -> Vec<TensorType> {
        values.iter().map(|&value| graph.ty(value).clone()).collect()
    };
    let table = PartialUpdate::table(&types(&graph, params), &sources, &types(&graph, &partials))?;
    let table = graph.constant(table);
    let op = PartialUpdate { update: op, sources, num_partials: partials.len() };
    let inputs: Vec<Value> = [&inputs[..num_scalars], params, &whole, states, &partials, &[table]].concat();
    op.infer(&types(&graph, &inputs))?;
    graph.nodes[update].kind = NodeKind::Op(op.into());
    graph.nodes[update].inputs = inputs;
    let cyclic = || Error::operand("optimizer", "gradients that do not depend on one another", "some that do");
    replace(&graph, &replacements).ok_or_else(cyclic)
}
