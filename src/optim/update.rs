//! From a loss to new parameters: gradients, accumulated over batches where asked for, with the penalties' gradients
//! added, clipped, and handed to the optimizer, group by group. All of it is appended to the training graph, so nothing
//! waits for the host.
//!
//! The order is PyTorch's where a loop adds the penalty to the loss: penalty, `loss.backward()`,
//! `clip_grad_value_`, `clip_grad_norm_`, `optimizer.step()`. An optimizer's weight decay comes after clipping.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Learned, Optimizer, ParamGroup};
use crate::graph::Init;
use crate::graph::plan::packed_elems;
use crate::graph::{Gradients, Graph, NodeKind, StateKind, StateSpec, Value};
use crate::ops::Operation;
use crate::ops::update::accumulate::Accumulate;
use crate::ops::update::clip_gradients::{ClipGradNorm, ClipGradValue};
use crate::ops::update::penalty::{Penalty, PenaltyGradient};
use crate::tensor::{DType, TensorType};
use crate::{Error, Result};

/// Bytes that one update walks over in one buffer at most: the least binding that every WebGPU device takes. More
/// parameters are updated by several dispatches.
const MAX_PACK_BYTES: usize = 128 << 20;

/// The scalar (u32) that is 1 in the last batch of a step and 0 in the others, under gradient accumulation.
const IS_LAST: &str = "accumulate.is_last";
/// The scalar (u32) that is 1 in the first batch of a step.
const IS_FIRST: &str = "accumulate.is_first";
/// The scalar that a batch's gradients are weighted by: its share of the images of the step.
const WEIGHT: &str = "accumulate.weight";

/// The state that keeps the norm of all gradients before clipping, shape (1), where they are clipped by norm.
pub const GRADIENT_NORM: &str = "gradient_norm";

/// Penalties on the size of weights, as part of the loss: l1·Σ|w| + l2·Σw².
///
/// The training loss that is reported is the one that is minimised, with the penalty, as a hand-written PyTorch loop
/// prints it; validation and test losses are without. The sub-gradient of |w| at 0 is 0. With plain SGD `l2` is the
/// same as a weight decay of 2·l2; adaptive optimizers divide the penalty's gradient as any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Regularization {
    /// Weight of the sum of magnitudes.
    pub l1: f64,
    /// Weight of the sum of squares.
    pub l2: f64,
    /// Whether parameters of fewer than two dimensions count as well: biases, and the scales and shifts of batch norm.
    pub include_biases: bool,
}

impl Regularization {
    /// An L1 penalty on weights, not on biases.
    pub fn l1(l1: f64) -> Self {
        Regularization { l1, ..Regularization::default() }
    }

    /// An L2 penalty on weights, not on biases.
    pub fn l2(l2: f64) -> Self {
        Regularization { l2, ..Regularization::default() }
    }

    fn is_on(&self) -> bool {
        self.l1 != 0.0 || self.l2 != 0.0
    }
}

/// What happens to gradients before the optimizer sees them, and which parameters it treats in their own way. The
/// default is nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateOptions {
    /// The largest norm of all gradients together (`torch.nn.utils.clip_grad_norm_`); beyond it they are all scaled by
    /// `clip_norm / (norm + 1e-6)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// The largest magnitude of any element of a gradient (`torch.nn.utils.clip_grad_value_`); applied before
    /// `clip_norm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Batches in a step of the optimizer. The step follows the mean gradient over all images of its batches, as one
    /// large batch would give it (batch norm apart, whose statistics are of each batch).
    pub accumulate: usize,
    /// Penalties on the size of weights.
    pub regularization: Regularization,
    /// Parameters with a learning rate or weight decay of their own.
    pub groups: Vec<ParamGroup>,
}

impl Default for UpdateOptions {
    fn default() -> Self {
        UpdateOptions {
            groups: Vec::new(),
            regularization: Regularization::default(),
            clip_norm: None,
            clip_value: None,
            accumulate: 1,
        }
    }
}

impl UpdateOptions {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that lies outside what it may be.
    pub fn validate(&self) -> Result<()> {
        self.groups.iter().try_for_each(ParamGroup::validate)?;
        for (name, value) in [("l1", self.regularization.l1), ("l2", self.regularization.l2)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::setting(name, "a finite number of at least 0", value));
            }
        }
        for (name, value) in [("clip_norm", self.clip_norm), ("clip_value", self.clip_value)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(Error::setting(name, "a finite number above 0", value));
            }
        }
        if self.accumulate == 0 {
            return Err(Error::setting("accumulate", "at least 1 batch", self.accumulate));
        }
        Ok(())
    }
}

/// An optimizer with everything around it. See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    optimizer: Optimizer,
    options: UpdateOptions,
}

/// Parameters that are treated alike and fit one binding: one dispatch of each op.
struct Chunk {
    /// The index of the group among the options', `None` for the rest.
    group: Option<usize>,
    is_penalized: bool,
    pairs: Vec<Learned>,
}

impl Chunk {
    fn params(&self) -> impl Iterator<Item = Value> + '_ {
        self.pairs.iter().map(|pair| pair.param)
    }

    fn grads(&self) -> impl Iterator<Item = Value> + '_ {
        self.pairs.iter().map(|pair| pair.grad)
    }
}

impl Update {
    /// An optimizer with what is to happen before it.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Optimizer::validate`] and [`UpdateOptions::validate`].
    pub fn new(optimizer: Optimizer, options: UpdateOptions) -> Result<Update> {
        optimizer.validate()?;
        options.validate()?;
        Ok(Update { optimizer, options })
    }

    /// Appends the gradients of `loss`, a mean over the batch of shape (), and the update of every parameter that has
    /// one. Gives the loss with the penalty, which is what is minimised. Gradients are changed in place on their way,
    /// so read one before this or not at all.
    ///
    /// # Errors
    /// As [`Graph::backward`]; [`Error::Setting`] where a group matches no parameter.
    pub fn append(&self, graph: &mut Graph, loss: Value) -> Result<Value> {
        let grads = graph.backward(loss)?;
        self.append_to(graph, loss, &grads)
    }

    /// [`Update::append`] with gradients that are there already.
    ///
    /// # Errors
    /// [`Error::Setting`] where a group matches no parameter; [`Error::Operand`] where no parameter has a gradient.
    pub fn append_to(&self, graph: &mut Graph, loss: Value, grads: &Gradients) -> Result<Value> {
        let chunks = self.chunks(graph, grads)?;
        graph.label("optimizer", |graph| {
            let total = self.append_penalty(graph, loss, &chunks)?;
            self.append_chunks(graph, chunks)?;
            Ok(total)
        })
    }

    /// The update alone, for gradients of a loss that nobody asks about.
    pub(super) fn append_gradients(&self, graph: &mut Graph, grads: &Gradients) -> Result<()> {
        let chunks = self.chunks(graph, grads)?;
        graph.label("optimizer", |graph| self.append_chunks(graph, chunks))
    }

    fn append_chunks(&self, graph: &mut Graph, mut chunks: Vec<Chunk>) -> Result<()> {
        if self.options.accumulate == 1 {
            return self.append_step(graph, &chunks);
        }
        chunks.iter_mut().try_for_each(|chunk| accumulate(graph, chunk))?;
        graph.only_if(IS_LAST, |graph| self.append_step(graph, &chunks))
    }

    /// The scalars of one step of the optimizer for the step table. `step` counts the steps done before this one;
    /// `momentum` is as in [`Optimizer::step_scalars`].
    pub fn step_scalars(&self, step: u64, lr: f64, momentum: Option<f64>) -> Vec<(String, f64)> {
        let own = |(name, value): (&str, f64)| (name.to_owned(), value);
        let mut scalars: Vec<(String, f64)> =
            self.optimizer.step_scalars(step, lr, momentum).into_iter().map(own).collect();
        for (index, group) in self.options.groups.iter().enumerate() {
            if let Some(suffix) = self.suffix(Some(index)) {
                let of_group = self.optimizer.step_scalars(step, lr * group.lr_scale, momentum);
                scalars.extend(of_group.into_iter().map(|(name, value)| (format!("{name}{suffix}"), value)));
            }
        }
        scalars
    }

    /// Batches in a step of the optimizer.
    pub fn accumulate(&self) -> usize {
        self.options.accumulate
    }

    /// The scalars of one batch for the step table, beside those of its step: of batch `batch` of an epoch over
    /// `num_images` images in batches of `batch_size`. The last step of an epoch takes what is left. None without
    /// accumulation.
    pub fn batch_scalars(&self, batch: usize, batch_size: usize, num_images: usize) -> Vec<(&'static str, f64)> {
        let per_step = self.options.accumulate;
        if per_step == 1 {
            return Vec::new();
        }
        let images = |first: usize, count: usize| num_images.min((first + count) * batch_size) - first * batch_size;
        let first = batch - batch % per_step;
        let is_last = (batch + 1).is_multiple_of(per_step) || (batch + 1) * batch_size >= num_images;
        vec![
            (IS_FIRST, f64::from(u8::from(batch == first))),
            (IS_LAST, f64::from(u8::from(is_last))),
            (WEIGHT, images(batch, 1) as f64 / images(first, per_step) as f64),
        ]
    }

    /// What the names of a group's scalars end in; `None` where they are those of the rest.
    fn suffix(&self, group: Option<usize>) -> Option<String> {
        group.filter(|&index| self.options.groups[index].lr_scale != 1.0).map(|index| format!(".group{index}"))
    }

    /// Parameters with their gradients, by group, by whether they are penalised, and by what fits a binding.
    fn chunks(&self, graph: &mut Graph, grads: &Gradients) -> Result<Vec<Chunk>> {
        let pairs: Vec<Learned> = graph
            .parameters()
            .into_iter()
            .filter_map(|(name, param)| grads.get(param).map(|grad| Learned { name, param, grad }))
            .collect();
        if pairs.is_empty() {
            return Err(Error::operand("optimizer", "a parameter with a gradient", "none"));
        }
        let UpdateOptions { groups, regularization, .. } = &self.options;
        if let Some(idle) = groups.iter().find(|group| !pairs.iter().any(|pair| group.matches(&pair.name))) {
            let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
            let expected = format!("names among {}", names.join(", "));
            return Err(Error::setting("parameter group", &expected, idle.matching.join(", ")));
        }
        let kind = |graph: &Graph, pair: &Learned| {
            let group = groups.iter().position(|group| group.matches(&pair.name));
            let is_weight = graph.shape(pair.param).rank() >= 2;
            (group, regularization.is_on() && (regularization.include_biases || is_weight))
        };
        let mut chunks: Vec<(Chunk, usize)> = Vec::new();
        for pair in own_gradients(graph, pairs)? {
            let (group, is_penalized) = kind(graph, &pair);
            let bytes = 4 * packed_elems(std::slice::from_ref(graph.ty(pair.param)));
            // The last chunk of a kind is the one that may have room.
            let open = chunks.iter_mut().rfind(|(chunk, _)| (chunk.group, chunk.is_penalized) == (group, is_penalized));
            match open {
                Some((chunk, size)) if *size + bytes <= MAX_PACK_BYTES => {
                    chunk.pairs.push(pair);
                    *size += bytes;
                }
                _ => chunks.push((Chunk { group, is_penalized, pairs: vec![pair] }, bytes)),
            }
        }
        Ok(chunks.into_iter().map(|(chunk, _)| chunk).collect())
    }

    /// The loss with the penalty on the weights as they are before the step.
    fn append_penalty(&self, graph: &mut Graph, loss: Value, chunks: &[Chunk]) -> Result<Value> {
        let penalized: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.is_penalized).collect();
        if penalized.is_empty() {
            return Ok(loss);
        }
        let Regularization { l1, l2, .. } = self.options.regularization;
        let pack_lens = penalized.iter().map(|chunk| chunk.pairs.len()).collect();
        let weights = penalized.iter().flat_map(|chunk| chunk.params());
        let inputs: Vec<Value> = [loss].into_iter().chain(weights).collect();
        graph.no_grad(|graph| graph.push1(Penalty { l1, l2, pack_lens }, &inputs))
    }

    /// What happens once a step: to the gradients, then to the parameters.
    fn append_step(&self, graph: &mut Graph, chunks: &[Chunk]) -> Result<()> {
        let UpdateOptions { groups, regularization: Regularization { l1, l2, .. }, clip_norm, clip_value, .. } =
            &self.options;
        for chunk in chunks.iter().filter(|chunk| chunk.is_penalized) {
            let op = PenaltyGradient { num_params: chunk.pairs.len(), l1: *l1, l2: *l2 };
            graph.push(op, &chunk.params().chain(chunk.grads()).collect::<Vec<_>>())?;
        }
        if let Some(max_value) = *clip_value {
            for chunk in chunks {
                let op = ClipGradValue { num_params: chunk.pairs.len(), max_value };
                graph.push(op, &chunk.grads().collect::<Vec<_>>())?;
            }
        }
        if let Some(max_norm) = *clip_norm {
            let spec = StateSpec {
                name: GRADIENT_NORM.to_owned(),
                ty: TensorType::f32([1]),
                kind: StateKind::Input,
                init: Init::Zeros,
            };
            let norm = graph.state(spec)?;
            let pack_lens = chunks.iter().map(|chunk| chunk.pairs.len()).collect();
            let inputs: Vec<Value> = [norm].into_iter().chain(chunks.iter().flat_map(Chunk::grads)).collect();
            graph.push(ClipGradNorm { max_norm, pack_lens }, &inputs)?;
        }
        for chunk in chunks {
            let own_decay = chunk.group.and_then(|index| groups[index].weight_decay);
            let optimizer = match own_decay {
                Some(decay) => self.optimizer.with("weight_decay", decay)?,
                None => self.optimizer.clone(),
            };
            let suffix = self.suffix(chunk.group).unwrap_or_default();
            append_optimizer(graph, &optimizer, &suffix, &chunk.pairs)?;
        }
        Ok(())
    }
}

/// Adds the gradients of a chunk to their sums over the batches of a step, which stand for them from here on.
fn accumulate(graph: &mut Graph, chunk: &mut Chunk) -> Result<()> {
    let mut sums = Vec::new();
    for Learned { name, param, .. } in &chunk.pairs {
        let (name, ty) = (format!("{name}.grad_sum"), graph.ty(*param).clone());
        sums.push(graph.state(StateSpec { name, ty, kind: StateKind::Optimizer, init: Init::Zeros })?);
    }
    let mut inputs = vec![graph.scalar(IS_FIRST, DType::U32)?, graph.scalar(WEIGHT, DType::F32)?];
    inputs.extend(&sums);
    inputs.extend(chunk.grads());
    graph.push(Accumulate { num_params: sums.len() }, &inputs)?;
    chunk.pairs.iter_mut().zip(sums).for_each(|(pair, sum)| pair.grad = sum);
    Ok(())
}

/// The optimizer's own update of one chunk, with states beside the parameters.
fn append_optimizer(graph: &mut Graph, optimizer: &Optimizer, suffix: &str, pairs: &[Learned]) -> Result<()> {
    let rule = optimizer.get();
    let scalar = |name: &&str| graph.scalar(&format!("{name}{suffix}"), DType::F32);
    let scalars: Vec<Value> = rule.scalars().iter().map(scalar).collect::<Result<_>>()?;
    rule.append(graph, pairs, &scalars)
}

/// Gives every gradient memory of its own, as the update needs it: a copy is taken of a value that is also something
/// else (another parameter's gradient, a value under another shape, an operand of another op).
fn own_gradients(graph: &mut Graph, pairs: Vec<Learned>) -> Result<Vec<Learned>> {
    let mut used: HashSet<Value> = graph.outputs.values().copied().collect();
    used.extend(graph.nodes.iter().flat_map(|node| node.inputs.iter().copied()));
    let mut owned = Vec::new();
    for pair in pairs {
        let is_own = matches!(&graph.node(pair.grad).kind, NodeKind::Op(op) if !op.is_alias());
        let grad = if is_own && used.insert(pair.grad) { pair.grad } else { graph.copy(pair.grad)? };
        owned.push(Learned { grad, ..pair });
    }
    Ok(owned)
}
