//! The graphs that a session is compiled from: a training step, and the evaluation of a batch.

use std::ops::Range;

use super::part::{Part, shards};
use super::{LOGITS, TABLE};
use crate::Result;
use crate::data::{ChannelStats, Dataset};
use crate::graph::plan::Plan;
use crate::graph::{Graph, Value};
use crate::nn::{Mode, Model};
use crate::ops::{Augment, BatchSource, CrossEntropy};
use crate::optim::Update;
use crate::tensor::{DType, TensorType};

/// The scalar (u32) that is 0 where running statistics are not to follow a batch's, because other ranks have batches
/// that come before it; and the entry in which they then do. Under accumulation alone.
pub(super) const FOLLOW: &str = "follow_statistics";

/// What the graphs of all entries have in common.
pub(crate) struct Recipe<'a> {
    pub model: &'a dyn Model,
    pub normalize: &'a ChannelStats,
    pub seed: u64,
    /// Rows of the metrics table.
    pub num_rows: usize,
    /// What training does to images.
    pub augment: Option<&'a Augment>,
    /// The most bytes of images in one binding.
    pub max_shard_bytes: usize,
}

/// What training follows, beside the recipe.
pub(crate) struct Objective<'a> {
    pub(super) update: &'a Update,
    pub(super) label_smoothing: f64,
}

impl Part {
    /// The plans of its entries: training steps with an objective, evaluation without.
    pub(crate) fn plans(
        &self,
        data: &Dataset,
        recipe: &Recipe<'_>,
        objective: Option<&Objective<'_>>,
    ) -> Result<Vec<Plan>> {
        let entries = self.entries();
        entries
            .iter()
            .map(|(entry, size, ..)| {
                plan(&Entry { name: entry, part: self, data, batch_size: *size }, recipe, objective)
            })
            .collect()
    }
}

/// A batch of this many images from a part.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) part: &'a Part,
    pub(super) data: &'a Dataset,
    pub(super) batch_size: usize,
}

/// A graph from a batch of images to its loss.
pub(crate) struct Forward {
    pub graph: Graph,
    /// As the network gets them.
    pub images: Value,
    pub labels: Value,
    pub logits: Value,
    pub loss: Value,
    /// The nodes of the network itself.
    pub nodes: Range<usize>,
}

/// The plan of one entry: a training step, or evaluation of a batch where there is no objective.
fn plan(entry: &Entry<'_>, recipe: &Recipe<'_>, objective: Option<&Objective<'_>>) -> Result<Plan> {
    let Forward { mut graph, labels, logits, mut loss, .. } = forward(entry, recipe, objective)?;
    if let Some(objective) = objective {
        if let Some(deferred) = graph.deferred.clone().filter(|deferred| !deferred.is_empty()) {
            graph.only_if(FOLLOW, |graph| graph.follow_statistics(&deferred))?;
        }
        loss = objective.update.minimize(&mut graph, loss)?;
    }
    if objective.is_none() {
        graph.output(LOGITS, logits)?;
    }
    let row = graph.scalar("row", DType::U32)?;
    graph.metrics(TABLE, recipe.num_rows, row, loss, logits, labels)?;
    Plan::new(&graph)
}

pub(super) fn forward(entry: &Entry<'_>, recipe: &Recipe<'_>, objective: Option<&Objective<'_>>) -> Result<Forward> {
    let Entry { name, part, data, batch_size } = *entry;
    let mut graph = Graph::new(name);
    let [channels, height, width] = data.shape();
    let mut images = Vec::new();
    for (index, len) in shards(data, recipe.max_shard_bytes)?.into_iter().enumerate() {
        images.push(
            graph.input(&part.state(&format!("images.{index}")), TensorType::u8([len, channels, height, width]))?,
        );
    }
    let labels = graph.input(&part.state("labels"), TensorType::u32([data.len()]))?;
    let permutation = graph.input(&part.state("order"), TensorType::u32([data.len()]))?;
    let start = graph.scalar("start", DType::U32)?;
    let source = BatchSource { images: &images, labels, permutation, start, batch_size };
    let normalize = recipe.normalize.gather();
    let (mut images, labels) = graph.gather_batch(normalize, source)?;
    let mut mode = Mode::Eval;
    if objective.is_some() {
        let step = graph.scalar("step", DType::U32)?;
        mode = Mode::Train { seed: recipe.seed, step };
        if let Some(augment) = recipe.augment.filter(|augment| !augment.is_identity()) {
            images = graph.augment(images, augment.clone(), recipe.seed, step)?;
        }
    }
    if objective.is_some_and(|objective| objective.update.accumulate() > 1) {
        graph.deferred = Some(Vec::new());
    }
    let before = graph.nodes.len();
    let logits = recipe.model.logits(&mut graph, images, mode)?;
    let nodes = before..graph.nodes.len();
    let label_smoothing = objective.map_or(0.0, |objective| objective.label_smoothing);
    let loss =
        graph.cross_entropy(logits, labels, None, CrossEntropy { label_smoothing, ..CrossEntropy::default() })?;
    Ok(Forward { graph, images, labels, logits, loss, nodes })
}
