//! A model on a device, with the data it is trained and judged on: the graphs of a training step and of evaluation,
//! compiled together so that they share the weights, and the data sets resident beside them.
//!
//! A last batch that is shorter has graphs of its own, of exactly its size. So every op means what it says (a mean is
//! over the batch, batch statistics are of the batch) and no kernel has to know of rows that do not count.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::health::{Health, HealthOptions, HealthReport};
use super::metrics::Metrics;
use crate::data::{ChannelStats, DataLoader, Dataset};
use crate::exec::profile::OpTime;
use crate::exec::{Device, MODEL_KINDS, Program, StateDict, StepTable, verify};
use crate::graph::plan::Plan;
use crate::graph::{Graph, StateKind, Value};
use crate::nn::{Mode, Model};
use crate::ops::metrics::COLUMNS;
use crate::ops::{Augment, BatchSource, CrossEntropy, GatherBatch};
use crate::optim::{Optimizer, Update, UpdateOptions};
use crate::tensor::{DType, Tensor, TensorType};
use crate::{Error, Result};

/// The least binding that every WebGPU device takes; a data set beyond it lies in two.
pub(super) const MAX_SHARD_BYTES: usize = 128 << 20;

/// The state that batches write their metrics to.
const TABLE: &str = "metrics";

/// What a session is made of.
pub struct SessionOptions<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// The images to learn from.
    pub train: &'a Dataset,
    /// The images that decide which weights are best; `None` takes the test images.
    pub validation: Option<&'a Dataset>,
    /// The images to judge the result by.
    pub test: &'a Dataset,
    /// Images in a step.
    pub batch_size: usize,
    /// Images in a step of evaluation.
    pub eval_batch_size: usize,
    /// What is subtracted from pixels, and what they are divided by.
    pub normalize: ChannelStats,
    /// How parameters follow their gradients.
    pub optimizer: Optimizer,
    /// What happens to gradients before: penalties, clipping, accumulation; and groups of parameters. The default is
    /// nothing.
    pub update: UpdateOptions,
    /// The share of the target that is spread over all classes in training (`label_smoothing` of
    /// `torch.nn.CrossEntropyLoss`), from 0 to below 1. Losses of evaluation are without it, and so comparable.
    pub label_smoothing: f64,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// The key of initial weights, orders, dropout and augmentation.
    pub seed: u64,
    /// Random changes to training images, behind their normalisation; evaluation sees them as they are.
    pub augment: Option<Augment>,
    /// Whether [`Session::health`] can look into the network, and what at. Training steps are the same either way; it
    /// costs two copies of what an optimizer changes, one more of it an epoch, and a graph to compile.
    pub health: Option<HealthOptions>,
}

/// Learning rate and, where a schedule cycles it, momentum of a step.
pub type Rates<'a> = &'a dyn Fn(u64) -> (f64, Option<f64>);

/// What one epoch gave.
#[derive(Clone, Copy, Debug)]
pub struct EpochMetrics {
    /// Over the training images, while the weights changed.
    pub train: Metrics,
    /// Over the validation images, under the weights at the end.
    pub validation: Metrics,
    /// How long training took, without validation.
    pub train_time: Duration,
}

/// One set of images on the device and the entries that go over it.
pub(super) struct Part {
    name: &'static str,
    pub(super) loader: DataLoader,
    /// The first row of the metrics table that its batches write.
    first_row: usize,
}

/// The sets of images of a session.
struct Parts {
    train: Part,
    validation: Part,
    test: Part,
}

/// What the graphs of all entries have in common.
pub(super) struct Recipe<'a> {
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
pub(super) struct Objective<'a> {
    update: &'a Update,
    label_smoothing: f64,
}

/// A model on a device. See the [module](self).
pub struct Session {
    program: Program,
    train: Part,
    validation: Part,
    test: Part,
    update: Update,
    health: Option<Health>,
}

impl<'a> SessionOptions<'a> {
    /// SGD with momentum 0.9 on shuffled batches of 64 images, validated on the test images; fields that are to
    /// be otherwise can be set.
    pub fn new(model: &'a dyn Model, train: &'a Dataset, test: &'a Dataset, normalize: ChannelStats) -> Self {
        SessionOptions {
            model,
            train,
            validation: None,
            test,
            batch_size: 64,
            eval_batch_size: 500,
            normalize,
            optimizer: Optimizer::sgd_momentum(0.9),
            update: UpdateOptions::default(),
            label_smoothing: 0.0,
            shuffle: true,
            seed: 0,
            augment: None,
            health: None,
        }
    }

    fn update(&self) -> Result<Update> {
        Update::new(self.optimizer, self.update.clone())
    }
}

impl Parts {
    fn new(options: &SessionOptions<'_>) -> Result<Parts> {
        let mut train = Part::new("train", options.train, options.batch_size, 0)?;
        if options.shuffle {
            train.loader = train.loader.shuffled(options.seed);
        }
        let eval_row = train.num_rows();
        let test = Part::new("test", options.test, options.eval_batch_size, eval_row)?;
        let validation = match options.validation {
            Some(data) => Part::new("validation", data, options.eval_batch_size, eval_row)?,
            None => Part::new("test", options.test, options.eval_batch_size, eval_row)?,
        };
        Ok(Parts { train, validation, test })
    }

    /// Each set once, with its images.
    fn sets<'a>(&'a self, options: &SessionOptions<'a>) -> Vec<(&'a Part, &'a Dataset)> {
        let mut sets = vec![(&self.train, options.train), (&self.test, options.test)];
        sets.extend(options.validation.map(|data| (&self.validation, data)));
        sets
    }

    fn num_rows(&self) -> usize {
        self.train.num_rows() + self.test.num_rows().max(self.validation.num_rows())
    }

    fn plans(&self, options: &SessionOptions<'_>, max_shard_bytes: usize) -> Result<(Vec<Plan>, Option<Health>)> {
        let recipe = Recipe {
            model: options.model,
            normalize: &options.normalize,
            seed: options.seed,
            num_rows: self.num_rows(),
            augment: options.augment.as_ref(),
            max_shard_bytes,
        };
        if !(0.0..1.0).contains(&options.label_smoothing) {
            return Err(Error::config("--label-smoothing", "a number from 0 to below 1", options.label_smoothing));
        }
        let update = options.update()?;
        let objective = Objective { update: &update, label_smoothing: options.label_smoothing };
        let mut plans = Vec::new();
        for (part, data) in self.sets(options) {
            let objective = (part.name == self.train.name).then_some(&objective);
            plans.extend(part.plans(data, &recipe, objective)?);
        }
        let Some(health) = &options.health else { return Ok((plans, None)) };
        let batch_size = self.train.entries()[0].1;
        let entry = Entry { name: Health::ENTRY, part: &self.train, data: options.train, batch_size };
        let forward = forward(&entry, &recipe, Some(&objective))?;
        let (health, more) = Health::new(forward, batch_size, &plans[0], health)?;
        plans.extend(more);
        Ok((plans, Some(health)))
    }
}

impl Part {
    pub(super) fn new(name: &'static str, data: &Dataset, batch_size: usize, first_row: usize) -> Result<Part> {
        let size =
            |option: &str, size: usize| u32::try_from(size).map_err(|_| Error::config(option, "less than 2^32", size));
        let loader = DataLoader::new(size("images", data.len())?, size("--batch-size", batch_size)?)?;
        Ok(Part { name, loader, first_row })
    }

    pub(super) fn num_rows(&self) -> usize {
        self.loader.num_batches() as usize
    }

    /// The plans of its entries: training steps with an objective, evaluation without.
    pub(super) fn plans(
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

    /// Puts the images on the device.
    pub(super) fn upload(&self, program: &mut Program, data: &Dataset, max_shard_bytes: usize) -> Result<()> {
        self.states(data, max_shard_bytes)?.iter().try_for_each(|(name, tensor)| program.write(name, tensor))
    }

    /// Goes over all batches without changing weights.
    pub(super) fn run(&self, program: &mut Program) -> Result<()> {
        for (entry, batch_size, first, count) in self.entries() {
            program.run(&entry, &batches(self, batch_size, first, count))?;
        }
        Ok(())
    }

    /// What its batches wrote to the metrics table.
    pub(super) fn metrics(&self, program: &mut Program) -> Result<Metrics> {
        Ok(metrics_of(&program.read(TABLE)?.to_f64_vec(), self))
    }

    /// The images, their labels and their own order, under the names that graphs read them by.
    fn states(&self, data: &Dataset, max_shard_bytes: usize) -> Result<Vec<(String, Tensor)>> {
        let [channels, height, width] = data.shape;
        let mut states = Vec::new();
        let mut rest = data.images.as_slice();
        for (index, len) in shards(data, max_shard_bytes)?.into_iter().enumerate() {
            let (shard, behind) = rest.split_at(len * data.image_len_bytes());
            let tensor = Tensor::u8([len, channels, height, width], shard.to_vec())?;
            states.push((self.state(&format!("images.{index}")), tensor));
            rest = behind;
        }
        let labels = data.labels.iter().map(|&label| u32::from(label)).collect();
        states.push((self.state("labels"), Tensor::u32([data.len()], labels)?));
        let order = (0..self.loader.num_images()).collect();
        states.push((self.state("order"), Tensor::u32([data.len()], order)?));
        Ok(states)
    }

    fn state(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    /// The entries of whole batches and of the last one, as (name, batch size, first batch, batches); none is empty.
    fn entries(&self) -> Vec<(String, usize, usize, usize)> {
        let (images, batch) = (self.loader.num_images() as usize, self.loader.batch_size() as usize);
        let (whole, rest) = (images / batch, images % batch);
        let all = [(self.name.to_owned(), batch, 0, whole), (format!("{}.tail", self.name), rest, whole, 1)];
        all.into_iter().filter(|&(_, size, _, count)| size > 0 && count > 0).collect()
    }
}

impl Session {
    /// Builds the graphs, compiles them, puts the data on the device and draws initial weights.
    ///
    /// # Errors
    /// [`Error::Config`] for sizes that cannot be; [`Error::Operand`] where the model does not take the images;
    /// [`Error::Limit`] where a data set or a batch is too large for the device.
    pub fn new(device: &Device, options: &SessionOptions<'_>) -> Result<Session> {
        Session::sharded(device, options, MAX_SHARD_BYTES)
    }

    /// A session whose data sets lie in two bindings where they have more than so many bytes.
    fn sharded(device: &Device, options: &SessionOptions<'_>, max_shard_bytes: usize) -> Result<Session> {
        let parts = Parts::new(options)?;
        let (plans, health) = parts.plans(options, max_shard_bytes)?;
        let mut program = Program::compile(device, plans, options.seed)?;
        for (part, data) in parts.sets(options) {
            part.upload(&mut program, data, max_shard_bytes)?;
        }
        // Also makes the memory that later copies go to.
        program.keep_model()?;
        let Parts { train, validation, test } = parts;
        Ok(Session { program, train, validation, test, update: options.update()?, health })
    }

    /// The plans that a session with these options is compiled from: "train", a training step; "test" and, where they
    /// are images of their own, "validation", each the evaluation of a batch; and of each the ".tail" for a last batch
    /// that is shorter; behind them those of [`Session::health`], if asked for.
    ///
    /// # Errors
    /// As [`Session::new`], but for the device's limits.
    pub fn plans(options: &SessionOptions<'_>) -> Result<Vec<Plan>> {
        Ok(Parts::new(options)?.plans(options, MAX_SHARD_BYTES)?.0)
    }

    /// Holds a first training step, with the first images in their own order, op by op to the f64 reference. `weights`
    /// go in the place of initial ones where given.
    ///
    /// # Errors
    /// As [`Session::new`]; [`Error::State`] where `weights` are not the model's.
    pub fn verify_step(
        device: &Device,
        options: &SessionOptions<'_>,
        lr: f64,
        weights: Option<&StateDict>,
    ) -> Result<verify::Report> {
        let parts = Parts::new(options)?;
        let plan = parts.plans(options, MAX_SHARD_BYTES)?.0.swap_remove(0);
        let mut states: StateDict = parts.train.states(options.train, MAX_SHARD_BYTES)?.into_iter().collect();
        if let Some(weights) = weights {
            // A program checks names and shapes with the messages that any other model file gets.
            Program::compile(&Device::Cpu, vec![plan.clone()], options.seed)?.load_state_dict(weights, &MODEL_KINDS)?;
            states.extend(weights.clone());
        }
        let table = first_step(&parts.train, &options.update()?, options.batch_size, lr);
        verify::verify(device, &plan, &states, &table, options.seed)
    }

    /// Trains on all images once and judges the validation images; one readback. `rates` is asked for every step,
    /// counted over all epochs from 0, and `progress` is told the number of training images done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn run_epoch(&mut self, epoch: u64, rates: Rates<'_>, progress: &mut dyn FnMut(usize)) -> Result<EpochMetrics> {
        let order = self.train.loader.order(epoch);
        self.program.write(&self.train.state("order"), &Tensor::u32([order.len()], order)?)?;
        if self.health.is_some() {
            self.program.run(Health::MARK, &StepTable::new(1))?;
        }
        let started = Instant::now();
        let num_steps = self.train.num_rows();
        self.run_steps(epoch, 0..num_steps, rates, progress)?;
        let train_time = started.elapsed();
        self.validation.run(&mut self.program)?;
        let rows = self.program.read(TABLE)?.to_f64_vec();
        Ok(EpochMetrics {
            train: metrics_of(&rows, &self.train),
            validation: metrics_of(&rows, &self.validation),
            train_time,
        })
    }

    /// Runs some of an epoch's batches, counted within it, on the order that is on the device.
    fn run_steps(
        &mut self,
        epoch: u64,
        steps: Range<usize>,
        rates: Rates<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<()> {
        for (entry, batch_size, first, count) in self.train.entries() {
            let (from, to) = (steps.start.max(first), steps.end.min(first + count));
            if from < to {
                let table = self.training_table(epoch, rates, batches(&self.train, batch_size, from, to - from), from);
                let done_before = from * self.train.loader.batch_size() as usize;
                let mut report = |steps: usize| progress(done_before + steps * batch_size);
                self.program.run_with_progress(&entry, &table, &mut report)?;
            }
        }
        Ok(())
    }

    /// Adds the columns of training batches from `first` of an epoch on.
    fn training_table(&self, epoch: u64, rates: Rates<'_>, mut table: StepTable, first: usize) -> StepTable {
        let (update, loader) = (&self.update, &self.train.loader);
        let batches_before = epoch * u64::from(loader.num_batches());
        let steps_before = epoch * self.steps_per_epoch() as u64;
        let (batch_size, num_images) = (loader.batch_size() as usize, self.images_per_epoch());
        // Counted over all epochs: dropout draws anew in every batch.
        table = table.column("step", |batch| (batches_before + (first + batch) as u64) as f64);
        let scalars = |batch: usize| {
            let step = steps_before + ((first + batch) / update.accumulate()) as u64;
            let (lr, momentum) = rates(step);
            update.step_scalars(step, lr, momentum)
        };
        for (place, (name, _)) in update.step_scalars(0, 0.0, None).into_iter().enumerate() {
            table = table.column(&name, |batch| scalars(batch)[place].1);
        }
        let of_batch = |batch: usize| update.batch_scalars(first + batch, batch_size, num_images);
        for (place, (name, _)) in of_batch(0).into_iter().enumerate() {
            table = table.column(name, |batch| of_batch(batch)[place].1);
        }
        table
    }

    /// Looks into the network: what activations, gradients and parameters of a batch are like, and what training on
    /// it would do to the parameters under its learning rate (nothing, where gradients go on accumulating). Gradients
    /// are those of the batch's loss, before penalties and clipping. Weights, optimizer and running statistics are
    /// afterwards what they were before. `batch` is counted over all epochs from 0; its images are taken from the order
    /// of the epoch that ran last, and an epoch's last batch, where it is shorter, is filled up with images from before
    /// it.
    ///
    /// # Errors
    /// [`Error::Config`] where [`SessionOptions::health`] did not ask for it; [`Error::DeviceLost`].
    pub fn health(&mut self, batch: u64, rates: Rates<'_>) -> Result<HealthReport> {
        let Some(health) = self.health.clone() else {
            return Err(Error::config("--health", "a session that was made with health statistics", "one without"));
        };
        let batches_per_epoch = u64::from(self.train.loader.num_batches());
        // Less than the number of batches, a u32.
        let (epoch, in_epoch) = (batch / batches_per_epoch, (batch % batches_per_epoch) as usize);
        let last_start = self.train.loader.num_images() as usize - health.batch_size;
        let start = (in_epoch * self.train.loader.batch_size() as usize).min(last_start);
        // No row of the metrics table: this is no batch of the epoch's.
        let table = self
            .training_table(epoch, rates, StepTable::new(1), in_epoch)
            .constant("start", start as f64)
            .constant("row", f64::from(u32::MAX));
        let train_entry = self.train.entries()[0].0.clone();
        health.look(&mut self.program, &train_entry, &table, batch)
    }

    /// The first tensor that is not finite, after an epoch in which `batch`, counted within it, was the first with such
    /// a loss; without one the last batch is looked at. The epoch is run again from its beginning up to there, which
    /// gives the same bits. Afterwards the weights are those of that batch.
    pub(super) fn first_non_finite(
        &mut self,
        epoch: u64,
        batch: Option<usize>,
        rates: Rates<'_>,
    ) -> Result<Option<String>> {
        if self.health.is_none() {
            return Ok(None);
        }
        self.program.run(Health::REWIND, &StepTable::new(1))?;
        let batch = batch.unwrap_or(self.train.num_rows() - 1);
        let batches_before = epoch * u64::from(self.train.loader.num_batches());
        // A finite loss can have gradients that are not: the batch before is the first suspect.
        let suspect = batch.saturating_sub(1);
        self.run_steps(epoch, 0..suspect, rates, &mut |_| ())?;
        for batch in suspect..=batch {
            let report = self.health(batches_before + batch as u64, rates)?;
            if let Some(row) = report.first_non_finite() {
                return Ok(Some(format!("{} {} of step {}", row.kind, row.name, batch + 1)));
            }
            self.run_steps(epoch, batch..batch + 1, rates, &mut |_| ())?;
        }
        Ok(None)
    }

    /// Judges the test images under the weights as they are.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn test(&mut self) -> Result<Metrics> {
        self.test.run(&mut self.program)?;
        self.test.metrics(&mut self.program)
    }

    /// Trainable numbers in the model; running statistics do not count.
    pub fn num_parameters(&self) -> usize {
        let states = self.program.plans()[0].states().iter();
        states.filter(|state| state.kind == StateKind::Parameter).map(|state| state.ty.shape.num_elems()).sum()
    }

    /// Times every op of a training step on the first images, `repeats` times. The learning rate is 0, so weights stay;
    /// an optimizer's moments and running statistics do not.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn profile(&mut self, repeats: usize) -> Result<Vec<OpTime>> {
        let (entry, batch_size, ..) = self.train.entries().swap_remove(0);
        let table = first_step(&self.train, &self.update, batch_size, 0.0);
        self.program.profile(&entry, &table, repeats)
    }

    /// Steps of the optimizer in an epoch; under accumulation the last may have fewer batches.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.num_rows().div_ceil(self.update.accumulate())
    }

    /// Training images in an epoch.
    pub fn images_per_epoch(&self) -> usize {
        self.train.loader.num_visited() as usize
    }

    /// Losses of the batches of the last epoch, each the mean of its batch, with penalties.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn step_losses(&mut self) -> Result<Vec<f64>> {
        let rows = self.program.read(TABLE)?.to_f64_vec();
        Ok(rows.chunks_exact(COLUMNS).take(self.train.num_rows()).map(|row| row[0] / row[3]).collect())
    }

    /// The model: parameters and running statistics.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn model(&mut self) -> Result<StateDict> {
        self.program.state_dict(&MODEL_KINDS)
    }

    /// Overwrites the model.
    ///
    /// # Errors
    /// [`Error::State`] where tensors are missing, unknown or of another shape; nothing is changed then.
    pub fn load_model(&mut self, model: &StateDict) -> Result<()> {
        self.program.load_state_dict(model, &MODEL_KINDS)
    }

    /// The program behind it.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// A batch of so many images out of a part.
struct Entry<'a> {
    name: &'a str,
    part: &'a Part,
    data: &'a Dataset,
    batch_size: usize,
}

/// A graph from a batch of images to its loss.
pub(super) struct Forward {
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
        loss = objective.update.append(&mut graph, loss)?;
    }
    let row = graph.scalar("row", DType::U32)?;
    graph.metrics(TABLE, recipe.num_rows, row, loss, logits, labels)?;
    Plan::new(&graph)
}

fn forward(entry: &Entry<'_>, recipe: &Recipe<'_>, objective: Option<&Objective<'_>>) -> Result<Forward> {
    let Entry { name, part, data, batch_size } = *entry;
    let mut graph = Graph::new(name);
    let [channels, height, width] = data.shape;
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
    let normalize = GatherBatch { mean: recipe.normalize.mean.clone(), std: recipe.normalize.std.clone() };
    let (mut images, labels) = graph.gather_batch(normalize, source)?;
    let mut mode = Mode::Eval;
    if objective.is_some() {
        let step = graph.scalar("step", DType::U32)?;
        mode = Mode::Train { seed: recipe.seed, step };
        if let Some(augment) = recipe.augment.filter(|augment| !augment.is_identity()) {
            images = graph.augment(images, augment.clone(), recipe.seed, step)?;
        }
    }
    let before = graph.nodes.len();
    let logits = recipe.model.logits(&mut graph, images, mode)?;
    let nodes = before..graph.nodes.len();
    let label_smoothing = objective.map_or(0.0, |objective| objective.label_smoothing);
    let loss =
        graph.cross_entropy(logits, labels, None, CrossEntropy { label_smoothing, ..CrossEntropy::default() })?;
    Ok(Forward { graph, images, labels, logits, loss, nodes })
}

/// Images in each binding that the data set is spread over.
fn shards(data: &Dataset, max_shard_bytes: usize) -> Result<Vec<usize>> {
    let per_shard = max_shard_bytes / data.image_len_bytes().max(1);
    match data.len().div_ceil(per_shard.max(1)) {
        0 | 1 => Ok(vec![data.len()]),
        2 => Ok(vec![per_shard, data.len() - per_shard]),
        _ => Err(Error::Limit {
            what: format!("the {} images of {}", data.split, data.name),
            needed: data.images.len() as u64,
            limit: 2 * max_shard_bytes as u64,
            limit_name: "bytes in two bindings",
            device: "every device".to_owned(),
            advice: "take fewer images with --train-limit",
        }),
    }
}

/// The columns that say which batch a step takes and where its metrics go.
fn batches(part: &Part, batch_size: usize, first: usize, count: usize) -> StepTable {
    let whole = part.loader.batch_size() as usize;
    debug_assert!(batch_size <= whole);
    StepTable::new(count)
        .column("start", |step| ((first + step) * whole) as f64)
        .column("row", |step| (part.first_row + first + step) as f64)
}

fn metrics_of(rows: &[f64], part: &Part) -> Metrics {
    Metrics::from_rows(&rows[part.first_row * COLUMNS..(part.first_row + part.num_rows()) * COLUMNS])
}

#[cfg(test)]
mod tests;

/// The scalars of a first step over the first images.
fn first_step(part: &Part, update: &Update, batch_size: usize, lr: f64) -> StepTable {
    let mut table = batches(part, batch_size, 0, 1).constant("step", 0.0);
    for (name, value) in update.step_scalars(0, lr, None) {
        table = table.constant(&name, value);
    }
    for (name, value) in update.batch_scalars(0, batch_size, part.loader.num_images() as usize) {
        table = table.constant(name, value);
    }
    table
}
