//! What happens to gradients before the optimizer sees them: a list of transforms, each over all parameters at once.
//!
//! The order is that of a PyTorch loop that adds L1 and L2 penalties to the loss: gradients are summed over batches
//! (accumulation), then come the gradients of the penalties, `clip_grad_value_` and `clip_grad_norm_`; an optimizer's
//! weight decay is part of its own rule, after all of them.

use serde::{Deserialize, Serialize};

use super::tree::num_levels;
use super::update::Chunk;
use crate::graph::{Graph, Init, StateKind, StateSpec, Value};
use crate::ops::update::accumulate::SumStep;
use crate::ops::update::clip_gradients::{ClipGradNorm, ClipGradValue};
use crate::ops::update::regularization::{Regularization, RegularizationGradient};
use crate::registry::{Setting, Takes};
use crate::tensor::{DType, TensorType};
use crate::{Error, Result};

/// The scalar (u32) that is 1 in the last batch of a step and 0 in the others, under gradient accumulation.
pub(super) const IS_LAST: &str = "accumulate.is_last";
/// The scalar that a batch's gradients are weighted by: its share of the images of the step.
pub(super) const WEIGHT: &str = "accumulate.weight";

/// What stands in the names of states that keep sums of gradients over batches of one step, before the level.
const SUM: &str = "grad_sum";

/// Whether a state keeps a sum of gradients within a step; between steps it counts for nothing.
pub(crate) fn is_gradient_sum(state: &str) -> bool {
    state.rsplit_once('.').is_some_and(|(name, _)| name.ends_with(&format!(".{SUM}")))
}

/// The name of the state that keeps a parameter's sum at this level.
pub(crate) fn gradient_sum(parameter: &str, level: usize) -> String {
    format!("{parameter}.{SUM}.{level}")
}

/// The scalar (u32) that is 1 where a sum is merged with the one kept at this level.
pub(super) fn merge_at(level: usize) -> String {
    format!("accumulate.merge.{level}")
}

/// The scalar (u32) that is 1 where a sum is kept at this level.
pub(super) fn keep_at(level: usize) -> String {
    format!("accumulate.keep.{level}")
}

/// The state that keeps the norm of all gradients before clipping, shape (1), where they are clipped by norm.
pub const GRADIENT_NORM: &str = "gradient_norm";

/// What happens to gradients before the optimizer sees them, in the order of the fields. The default is nothing.
///
/// The L1 and L2 penalties l1·Σ|w| + l2·Σw² are part of the loss: the training loss that is reported is the one that is
/// minimised, as a hand-written PyTorch loop prints it; validation and test losses are without. The sub-gradient of |w|
/// at 0 is 0. With plain SGD `l2` is the same as a weight decay of 2·l2; adaptive optimizers divide the penalty's
/// gradient as any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientOptions {
    /// Batches in a step of the optimizer. The step follows the mean gradient over all images of its batches, as one
    /// large batch would give it (batch norm apart, whose statistics are of each batch).
    pub accumulate: usize,
    /// Weight of the sum of magnitudes in the loss.
    pub l1: f64,
    /// Weight of the sum of squares in the loss.
    pub l2: f64,
    /// Whether l1 and l2 include parameters of fewer than two dimensions: biases, and the scales and shifts of batch
    /// norm.
    pub regularize_biases: bool,
    /// The largest magnitude of any element of a gradient (`torch.nn.utils.clip_grad_value_`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// The largest norm of all gradients together (`torch.nn.utils.clip_grad_norm_`); beyond it they are all scaled by
    /// `clip_norm / (norm + 1e-6)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

/// One change of all gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Transform {
    Regularize { l1: f64, l2: f64 },
    ClipValue { max: f64 },
    ClipNorm { max: f64 },
}

impl Default for GradientOptions {
    fn default() -> Self {
        GradientOptions { accumulate: 1, l1: 0.0, l2: 0.0, regularize_biases: false, clip_value: None, clip_norm: None }
    }
}

impl GradientOptions {
    /// What can be set.
    pub const SETTINGS: &'static [Setting] = &[
        Setting::new(
            "accumulate",
            Takes::Count,
            "Batches whose gradients are averaged for one step, as if they were one batch",
        ),
        Setting::new("l1", Takes::Number, "Add this times the sum of the weights' magnitudes to the loss"),
        Setting::new("l2", Takes::Number, "Add this times the sum of the weights' squares to the loss"),
        Setting::new(
            "regularize_biases",
            Takes::Switch,
            "Apply l1 and l2 to biases and to the parameters of batch normalization, too",
        ),
        Setting::new("clip_value", Takes::Number, "Limit every element of the gradients to this magnitude"),
        Setting::new("clip_norm", Takes::Number, "Scale all gradients down together if their joint norm exceeds this"),
    ];

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that lies outside what it may be, or has no effect.
    pub fn validate(&self) -> Result<()> {
        if self.accumulate == 0 {
            return Err(Error::setting("accumulate", "at least 1 batch", self.accumulate));
        }
        super::rule::at_least_0("l1", self.l1)?;
        super::rule::at_least_0("l2", self.l2)?;
        if self.regularize_biases && !self.is_regularized() {
            return Err(Error::setting("regularize_biases", "l1 or l2 above 0", "neither"));
        }
        for (name, limit) in [("clip_value", self.clip_value), ("clip_norm", self.clip_norm)] {
            if let Some(limit) = limit.filter(|limit| !(limit.is_finite() && *limit > 0.0)) {
                return Err(Error::setting(name, "a finite number above 0", limit));
            }
        }
        Ok(())
    }

    /// Whether there is L1 or L2 regularization.
    pub(super) fn is_regularized(&self) -> bool {
        self.l1 != 0.0 || self.l2 != 0.0
    }

    /// What happens once a step, in order.
    fn transforms(&self) -> Vec<Transform> {
        let &GradientOptions { l1, l2, clip_value, clip_norm, .. } = self;
        let regularize = self.is_regularized().then_some(Transform::Regularize { l1, l2 });
        let clip_value = clip_value.map(|max| Transform::ClipValue { max });
        let clip_norm = clip_norm.map(|max| Transform::ClipNorm { max });
        [regularize, clip_value, clip_norm].into_iter().flatten().collect()
    }

    /// Appends all that happens once a step.
    pub(super) fn append(&self, graph: &mut Graph, chunks: &[Chunk]) -> Result<()> {
        self.transforms().iter().try_for_each(|transform| transform.append(graph, chunks))
    }

    /// The loss with the L1 and L2 penalties on the weights before the step.
    pub(super) fn regularized_loss(&self, graph: &mut Graph, loss: Value, chunks: &[Chunk]) -> Result<Value> {
        let regularized: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.is_regularized).collect();
        if regularized.is_empty() {
            return Ok(loss);
        }
        let pack_lens = regularized.iter().map(|chunk| chunk.parameters.len()).collect();
        let weights = regularized.iter().flat_map(|chunk| chunk.params());
        let inputs: Vec<Value> = [loss].into_iter().chain(weights).collect();
        graph.no_grad(|graph| graph.push1(Regularization { l1: self.l1, l2: self.l2, pack_lens }, &inputs))
    }

    /// Weights the gradients of a batch.
    pub(super) fn weigh(graph: &mut Graph, chunk: &Chunk) -> Result<()> {
        let inputs: Vec<Value> = [graph.scalar(WEIGHT, DType::F32)?].into_iter().chain(chunk.grads()).collect();
        graph.push(chunk.sum_step(SumStep::Scale), &inputs)?;
        Ok(())
    }

    /// Adds the sums of the batches before to the gradients, in place, or keeps them as such sums: the way up the tree
    /// of a step's batches ([`tree`](super::tree)), with what happens at each level as the step table says.
    pub(super) fn climb(&self, graph: &mut Graph, chunk: &Chunk) -> Result<()> {
        let num_levels = num_levels(self.accumulate);
        let mut levels = Vec::new();
        for level in 0..num_levels {
            let sums =
                chunk.parameters.iter().map(|learned| learned.state(graph, &format!("{SUM}.{level}"), Init::Zeros));
            let sums = sums.collect::<Result<Vec<Value>>>()?;
            levels.push(sums.into_iter().chain(chunk.grads()).collect::<Vec<Value>>());
        }
        for (level, inputs) in levels.iter().enumerate() {
            graph.only_if(&merge_at(level), |graph| graph.push(chunk.sum_step(SumStep::Merge), inputs))?;
        }
        for (level, inputs) in levels.iter().enumerate() {
            graph.only_if(&keep_at(level), |graph| graph.push(chunk.sum_step(SumStep::Keep), inputs))?;
        }
        Ok(())
    }
}

impl Transform {
    fn append(&self, graph: &mut Graph, chunks: &[Chunk]) -> Result<()> {
        match *self {
            Transform::Regularize { l1, l2 } => {
                for chunk in chunks.iter().filter(|chunk| chunk.is_regularized) {
                    let op = RegularizationGradient { num_params: chunk.parameters.len(), l1, l2 };
                    graph.push(op, &chunk.params().chain(chunk.grads()).collect::<Vec<_>>())?;
                }
            }
            Transform::ClipValue { max } => {
                for chunk in chunks {
                    let op = ClipGradValue { num_params: chunk.parameters.len(), max_value: max };
                    graph.push(op, &chunk.grads().collect::<Vec<_>>())?;
                }
            }
            Transform::ClipNorm { max } => {
                let (name, ty) = (GRADIENT_NORM.to_owned(), TensorType::f32([1]));
                let norm = graph.state(StateSpec { name, ty, kind: StateKind::Input, init: Init::Zeros })?;
                let pack_lens = chunks.iter().map(|chunk| chunk.parameters.len()).collect();
                let inputs: Vec<Value> = [norm].into_iter().chain(chunks.iter().flat_map(Chunk::grads)).collect();
                graph.push(ClipGradNorm { max_norm: max, pack_lens }, &inputs)?;
            }
        }
        Ok(())
    }
}
