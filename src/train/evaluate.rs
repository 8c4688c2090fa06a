//! Evaluating weights: what a network makes of a set of images, without a training graph.

use super::metrics::Metrics;
use super::predict::{Prediction, prediction};
use super::session::{MAX_SHARD_BYTES, Part, Recipe};
use crate::Result;
use crate::data::{ChannelStats, Dataset};
use crate::exec::{Device, MODEL_KINDS, Program, StateDict};
use crate::nn::Model;

/// What is evaluated.
pub struct EvalOptions<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// Its parameters and running statistics.
    pub weights: &'a StateDict,
    /// The images to evaluate it on.
    pub data: &'a Dataset,
    /// Images in a step.
    pub batch_size: usize,
    /// What is subtracted from pixels, and what they are divided by.
    pub normalize: ChannelStats,
}

/// What a network makes of a set of images: loss and accuracy, and the logits they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss and accuracy.
    pub metrics: Metrics,
    /// The logits (N, classes) of the images in their order, row by row.
    pub logits: Vec<f32>,
}

impl Evaluation {
    /// The predicted class and probabilities of each image, given their labels.
    pub fn predictions(&self, labels: &[u16]) -> Vec<Prediction> {
        let num_classes = self.logits.len().checked_div(labels.len()).unwrap_or(0).max(1);
        self.logits.chunks(num_classes).zip(labels).map(|(logits, label)| prediction(logits, *label)).collect()
    }
}

/// Evaluates weights on images; the same numbers as [`Session::test`](super::Session::test) has for the same weights and
/// batch size.
///
/// # Errors
/// [`Error::State`](crate::Error::State) naming a tensor that the model lacks, has besides or has in another shape;
/// [`Error::Setting`](crate::Error::Setting), [`Error::Operand`](crate::Error::Operand) and
/// [`Error::Limit`](crate::Error::Limit) as [`Session::new`](super::Session::new).
pub fn evaluate(device: &Device, options: &EvalOptions<'_>) -> Result<Evaluation> {
    let part = Part::new("test", options.data, options.batch_size, 0)?;
    // Evaluation draws no random numbers, and all weights are given.
    let seed = 0;
    let recipe = Recipe {
        model: options.model,
        normalize: &options.normalize,
        seed,
        num_rows: part.num_rows(),
        augment: None,
        max_shard_bytes: MAX_SHARD_BYTES,
    };
    let mut program = Program::compile(device, part.plans(options.data, &recipe, None)?, seed)?;
    program.load_state_dict(options.weights, &MODEL_KINDS)?;
    part.upload(&mut program, options.data, MAX_SHARD_BYTES)?;
    part.evaluate(&mut program)
}
