//! A model on a device, with the data for training and evaluation: the graphs of a training step and of evaluation,
//! compiled together so that they share the weights, and the data sets resident beside them.
//!
//! A last batch that is shorter has graphs of its own, of exactly its size. So every op means what it says (a mean is
//! over the batch, batch statistics are of the batch) and no kernel has to know of rows that do not count.

mod graphs;
mod part;
mod ranks;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests;

use std::ops::{ControlFlow, Range};

use web_time::{Duration, Instant};

use super::Evaluation;
use super::diagnostics::{DiagnosticEntries, DiagnosticsOptions, DiagnosticsReport};
use super::metrics::Metrics;
use crate::data::{ChannelStats, Dataset, Normalize};
use crate::dist::{Alone, Comm};
use crate::exec::profile::{OpTime, StageProfile};
use crate::exec::{Device, MODEL_KINDS, Program, Progress, Snapshot, StateDict, StepTable, verify};
use crate::graph::StateKind;
use crate::graph::plan::Plan;
use crate::nn::Model;
use crate::ops::Augment;
use crate::ops::data::metrics::COLUMNS;
use crate::optim::{BatchOf, Optimizer, StepRates, Update, UpdateOptions, is_gradient_sum};
use crate::tensor::Tensor;
use crate::{Error, Result};
use graphs::{Entry, FOLLOW, Objective, forward};
pub(super) use graphs::{Forward, Recipe};
pub(super) use part::{MAX_SHARD_BYTES, Part};
use part::{batches, metrics_of};
pub use ranks::RankTime;
use ranks::Ranks;

/// The state that batches write their metrics to.
const TABLE: &str = "metrics";
/// The output of an evaluation.
const LOGITS: &str = "logits";

/// What a session is made of.
pub struct SessionOptions<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// The images to learn from.
    pub train: &'a Dataset,
    /// The images that decide which weights are best; `None` takes the test images.
    pub validation: Option<&'a Dataset>,
    /// The images for the final evaluation.
    pub test: &'a Dataset,
    /// Images in a step.
    pub batch_size: usize,
    /// Images in a step of evaluation.
    pub eval_batch_size: usize,
    /// What is subtracted from pixels, and what they are divided by.
    pub normalize: ChannelStats,
    /// How parameters follow their gradients.
    pub optimizer: Optimizer,
    /// Gradient transforms before the update (regularization, clipping, accumulation), and parameter groups. Default:
    /// none.
    pub update: UpdateOptions,
    /// The share of the target distributed uniformly over all classes in training (`label_smoothing` of
    /// `torch.nn.CrossEntropyLoss`), from 0 to below 1. Evaluation does not use it, so its losses are comparable.
    pub label_smoothing: f64,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// The key of initial weights, orders, dropout and augmentation.
    pub seed: u64,
    /// Random changes to training images, applied after normalisation; evaluation does not use them.
    pub augment: Option<Augment>,
    /// What [`Session::diagnose`] computes; `None` for nothing. Training steps do not depend on it. It costs two copies
    /// of the states that the optimizer changes, one more copy per epoch, and a graph to compile.
    pub diagnostics: Option<DiagnosticsOptions>,
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

/// The sets of images of a session.
struct Parts {
    train: Part,
    validation: Part,
    test: Part,
}

/// A model on a device. See the [module](self).
pub struct Session {
    program: Program,
    train: Part,
    validation: Part,
    test: Part,
    update: Update,
    diagnostics: Option<DiagnosticEntries>,
    /// What the training images are told from others by.
    images: String,
    ranks: Ranks,
}

impl<'a> SessionOptions<'a> {
    /// SGD with momentum 0.9 on shuffled batches of 64 images, normalized by the training images' statistics. The
    /// validation images are others than the test images, as [`Dataset::hold_out`] gives them. Other fields can be set.
    ///
    /// # Errors
    /// As [`Normalize::stats`].
    pub fn new(model: &'a dyn Model, train: &'a Dataset, validation: &'a Dataset, test: &'a Dataset) -> Result<Self> {
        let normalize = Normalize::Dataset.stats(train)?;
        let options = SessionOptions::validated_on_test(model, train, test, normalize);
        Ok(SessionOptions { validation: Some(validation), ..options })
    }

    /// The same without validation images: the test images decide which weights are best, so that the result is no
    /// longer measured on images that had no part in it.
    pub fn validated_on_test(
        model: &'a dyn Model,
        train: &'a Dataset,
        test: &'a Dataset,
        normalize: ChannelStats,
    ) -> Self {
        SessionOptions {
            model,
            train,
            validation: None,
            test,
            batch_size: 64,
            eval_batch_size: 500,
            normalize,
            optimizer: Optimizer::sgd(),
            update: UpdateOptions::default(),
            label_smoothing: 0.0,
            shuffle: true,
            seed: 0,
            augment: None,
            diagnostics: None,
        }
    }

    fn update(&self) -> Result<Update> {
        Update::new(self.optimizer.clone(), self.update.clone())
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

    fn plans(
        &self,
        options: &SessionOptions<'_>,
        max_shard_bytes: usize,
        num_ranks: usize,
    ) -> Result<(Vec<Plan>, Option<DiagnosticEntries>)> {
        let recipe = Recipe {
            model: options.model,
            normalize: &options.normalize,
            seed: options.seed,
            num_rows: self.num_rows(),
            augment: options.augment.as_ref(),
            max_shard_bytes,
        };
        if !(0.0..1.0).contains(&options.label_smoothing) {
            return Err(Error::setting("label_smoothing", "a number from 0 to below 1", options.label_smoothing));
        }
        let update = options.update()?;
        let objective = Objective { update: &update, label_smoothing: options.label_smoothing };
        let mut plans = Vec::new();
        for (part, data) in self.sets(options) {
            let objective = (part.name == self.train.name).then_some(&objective);
            plans.extend(part.plans(data, &recipe, objective)?);
        }
        if num_ranks > 1 {
            let batch_size = self.train.entries()[0].1;
            let entry = Entry { name: "train", part: &self.train, data: options.train, batch_size };
            let graph = forward(&entry, &recipe, Some(&objective))?.graph;
            plans.extend(ranks::plans(&update, &plans[0], &graph)?);
        }
        let Some(diagnostics) = &options.diagnostics else { return Ok((plans, None)) };
        let batch_size = self.train.entries()[0].1;
        let entry = Entry { name: DiagnosticEntries::ENTRY, part: &self.train, data: options.train, batch_size };
        let forward = forward(&entry, &recipe, Some(&objective))?;
        let (diagnostics, more) = DiagnosticEntries::new(forward, batch_size, &plans[0], diagnostics)?;
        plans.extend(more);
        Ok((plans, Some(diagnostics)))
    }
}

impl Session {
    /// Builds the graphs, compiles them, puts the data on the device and draws initial weights.
    ///
    /// # Errors
    /// [`Error::Setting`] for sizes that cannot be; [`Error::Operand`] where the model does not take the images;
    /// [`Error::Limit`] where a data set or a batch is too large for the device.
    pub fn new(device: &Device, options: &SessionOptions<'_>) -> Result<Session> {
        Session::sharded(device, options, MAX_SHARD_BYTES, Box::new(Alone))
    }

    /// The same as one of several ranks, which train together: with the same options each, all hold all images, and
    /// each computes a share of every step's batches. What comes out is the same, bit for bit, as from one process of
    /// the same kind of device. The methods that train and evaluate are then collective: every rank calls them alike.
    ///
    /// # Errors
    /// As [`Session::new`]; [`Error::Setting`] where steps accumulate fewer batches than there are ranks, or the network
    /// updates states that ranks do not exchange.
    pub fn among(device: &Device, options: &SessionOptions<'_>, comm: Box<dyn Comm>) -> Result<Session> {
        Session::sharded(device, options, MAX_SHARD_BYTES, comm)
    }

    /// A session that splits data sets larger than this many bytes over two bindings.
    fn sharded(
        device: &Device,
        options: &SessionOptions<'_>,
        max_shard_bytes: usize,
        comm: Box<dyn Comm>,
    ) -> Result<Session> {
        let update = options.update()?;
        Ranks::check(comm.as_ref(), &update)?;
        let parts = Parts::new(options)?;
        let (plans, diagnostics) = parts.plans(options, max_shard_bytes, comm.size())?;
        let mut program = Program::compile(device, plans, options.seed)?;
        for (part, data) in parts.sets(options) {
            part.upload(&mut program, data, max_shard_bytes)?;
        }
        // Also makes the memory that later copies go to.
        program.keep_model()?;
        let ranks = Ranks::new(comm, &mut program, &update, &parts)?;
        let Parts { train, validation, test } = parts;
        let images = images_in_a_word(options.train);
        Ok(Session { program, train, validation, test, update, diagnostics, images, ranks })
    }

    /// The plans that a session with these options is compiled from: "train", a training step; "test" and, where they
    /// are images of their own, "validation", each the evaluation of a batch; and of each the ".tail" for a last batch
    /// that is shorter; then those of [`Session::diagnose`], if requested.
    ///
    /// # Errors
    /// As [`Session::new`], but for the device's limits.
    pub fn plans(options: &SessionOptions<'_>) -> Result<Vec<Plan>> {
        Ok(Parts::new(options)?.plans(options, MAX_SHARD_BYTES, 1)?.0)
    }

    /// Checks a first training step, on the first images in their own order, op by op against the f64 reference.
    /// `weights`, if given, replace the initial ones.
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
        let plan = parts.plans(options, MAX_SHARD_BYTES, 1)?.0.swap_remove(0);
        let mut states: StateDict = parts.train.states(options.train, MAX_SHARD_BYTES)?.into_iter().collect();
        if let Some(weights) = weights {
            // A program checks names and shapes with the messages that any other model file gets.
            Program::compile(&Device::Cpu, vec![plan.clone()], options.seed)?.load_state_dict(weights, &MODEL_KINDS)?;
            states.extend(weights.clone());
        }
        let table = first_step(&parts.train, &options.update()?, options.batch_size, lr);
        verify::verify(device, &plan, &states, &table, options.seed)
    }

    /// Trains on all images once and evaluates the validation set, with one readback. `rates` is asked for every step,
    /// counted over all epochs from 0, and `progress` is told the number of training images done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn run_epoch(&mut self, epoch: u64, rates: Rates<'_>, progress: &mut dyn FnMut(usize)) -> Result<EpochMetrics> {
        self.start_epoch(epoch)?;
        let started = Instant::now();
        let mut follow = |done| {
            progress(done);
            ControlFlow::Continue(())
        };
        self.train_batches(epoch, 0..self.batches_per_epoch(), rates, &mut follow)?;
        self.finish_epoch(started.elapsed())
    }

    /// Brings an epoch's order of images to the device: the first of the three parts of [`Session::run_epoch`], for
    /// those who want to stop within an epoch.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        let order = self.train.loader.order(epoch);
        self.program.write(&self.train.state("order"), &Tensor::u32([order.len()], order)?)?;
        if self.diagnostics.is_some() {
            self.program.run(DiagnosticEntries::MARK, &StepTable::new(1))?;
        }
        Ok(())
    }

    /// Trains on some batches, counted within the epoch that was started last. `progress` is told the number of the
    /// epoch's images that are done, and if it breaks, training ends after the steps in flight. Returns the number of
    /// the epoch's batches that are done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn train_batches(
        &mut self,
        epoch: u64,
        wanted: Range<usize>,
        rates: Rates<'_>,
        progress: Progress<'_>,
    ) -> Result<usize> {
        if self.is_alone() {
            self.train_alone(epoch, wanted, rates, progress)
        } else {
            self.train_together(epoch, wanted, rates, progress)
        }
    }

    /// [`Session::train_batches`] without the other ranks.
    fn train_alone(
        &mut self,
        epoch: u64,
        wanted: Range<usize>,
        rates: Rates<'_>,
        progress: Progress<'_>,
    ) -> Result<usize> {
        let (mut done, mut stops) = (wanted.start, false);
        for (entry, batch_size, first, count) in self.train.entries() {
            let (from, to) = (wanted.start.max(first), wanted.end.min(first + count));
            if from >= to || stops {
                continue;
            }
            let table = self.training_table(epoch, rates, batches(&self.train, batch_size, from, to - from), from);
            let images_before = from * self.train.loader.batch_size() as usize;
            let mut report = |steps: usize| {
                let flow = progress(images_before + steps * batch_size);
                stops |= flow.is_break();
                flow
            };
            done = from + self.program.run_with_progress(&entry, &table, &mut report)?;
        }
        Ok(done)
    }

    /// Trains on the batches of some of the optimizer's steps, counted within the epoch that was started last. Gives
    /// the mean loss of each step's batches.
    pub(super) fn train_steps(&mut self, epoch: u64, steps: Range<u64>, rates: Rates<'_>) -> Result<Vec<f64>> {
        let (accumulate, num_batches) = (self.update.accumulate(), self.batches_per_epoch());
        // Steps of an epoch are no more than its batches, a usize.
        let first_batch = |step: u64| (step as usize * accumulate).min(num_batches);
        let batches = first_batch(steps.start)..first_batch(steps.end);
        self.train_batches(epoch, batches, rates, &mut |_| ControlFlow::Continue(()))?;
        let losses = self.step_losses()?;
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        Ok(steps.map(|step| mean(&losses[first_batch(step)..first_batch(step + 1)])).collect())
    }

    /// Evaluates the validation set and reads the metrics of the epoch's batches. `train_time` is passed through.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn finish_epoch(&mut self, train_time: Duration) -> Result<EpochMetrics> {
        if self.is_alone() {
            self.validation.run(&mut self.program)?;
        } else {
            self.validate_together()?;
        }
        let rows = self.program.read(TABLE)?.to_f64_vec();
        Ok(EpochMetrics {
            train: metrics_of(&rows, &self.train),
            validation: metrics_of(&rows, &self.validation),
            train_time,
        })
    }

    /// Everything that training changes, within an epoch as well as between epochs: the model, the optimizer's states,
    /// what the epoch's batches were like, and the model that was kept last.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let inputs = self.changing_inputs();
        self.program.snapshot(&inputs)
    }

    /// [`Session::snapshot`] after so many batches of an epoch. Between steps nothing reads the sums of gradients;
    /// they are set to 0, so that a snapshot does not depend on the number of ranks that trained.
    pub(super) fn snapshot_after(&mut self, batches: usize) -> Result<Snapshot> {
        let mut snapshot = self.snapshot()?;
        if batches == self.batches_per_epoch() || batches.is_multiple_of(self.update.accumulate()) {
            for (_, sum) in snapshot.current.iter_mut().filter(|(name, _)| is_gradient_sum(name)) {
                *sum = Tensor::f32(sum.shape().clone(), vec![0.0; sum.shape().num_elems()])?;
            }
        }
        Ok(snapshot)
    }

    /// Puts back what [`Session::snapshot`] gave, taken after the whole epochs before `epoch`, counted from 0, and
    /// perhaps some of its batches; training resumes bit-identically.
    ///
    /// # Errors
    /// [`Error::State`] where the snapshot is of another session: another model, optimizer, number of images or batch
    /// size; nothing that training changes is written then. [`Error::DeviceLost`].
    pub fn restore(&mut self, snapshot: &Snapshot, epoch: u64) -> Result<()> {
        // Before the states: it marks the beginning of the epoch, which the snapshot knows better.
        self.start_epoch(epoch)?;
        let inputs = self.changing_inputs();
        self.program.restore_snapshot(snapshot, &inputs)
    }

    fn changing_inputs(&self) -> Vec<String> {
        let marks = self.diagnostics.iter().flat_map(|diagnostics| &diagnostics.marks).cloned();
        [TABLE.to_owned()].into_iter().chain(marks).collect()
    }

    /// Adds the columns of training batches from `first` of an epoch on.
    fn training_table(&self, epoch: u64, rates: Rates<'_>, mut table: StepTable, first: usize) -> StepTable {
        let (update, loader) = (&self.update, &self.train.loader);
        let batches_before = epoch * u64::from(loader.num_batches());
        let steps_before = epoch * self.steps_per_epoch() as u64;
        let (batch_size, num_images) = (loader.batch_size() as usize, self.images_per_epoch());
        // Counted over all epochs: dropout draws anew in every batch.
        table = table.column("step", |batch| (batches_before + (first + batch) as u64) as f64).constant(FOLLOW, 1.0);
        let table = table.columns(&update.columns(), |batch, row| {
            let step = steps_before + ((first + batch) / update.accumulate()) as u64;
            let (lr, momentum) = rates(step);
            fill(row, update.values(&StepRates { step, lr, momentum }));
        });
        table.columns(&update.batch_columns(), |batch, row| {
            fill(row, update.batch_values(BatchOf { batch: first + batch, batch_size, num_images }).into_iter());
        })
    }

    /// Diagnostics of a batch: statistics of activations, gradients and parameters, and of the parameter update that
    /// training on it would make at its learning rate, under accumulation as a step of this batch alone. Gradients are those of the
    /// batch's loss, before regularization and clipping. Weights, optimizer states and running statistics are
    /// unchanged afterwards. `batch` is counted over all epochs from 0; its images are taken from the order
    /// of the epoch that ran last, and an epoch's last batch, where it is shorter, is filled up with images from before
    /// it.
    ///
    /// # Errors
    /// [`Error::Setting`] where [`SessionOptions::diagnostics`] did not ask for it; [`Error::DeviceLost`].
    pub fn diagnose(&mut self, batch: u64, rates: Rates<'_>) -> Result<DiagnosticsReport> {
        let Some(diagnostics) = self.diagnostics.clone() else {
            return Err(Error::setting("diagnostics", "a session that was made with diagnostics", "one without"));
        };
        let batches_per_epoch = u64::from(self.train.loader.num_batches());
        // Less than the number of batches, a u32.
        let (epoch, in_epoch) = (batch / batches_per_epoch, (batch % batches_per_epoch) as usize);
        let last_start = self.train.loader.num_images() as usize - diagnostics.batch_size;
        let start = (in_epoch * self.train.loader.batch_size() as usize).min(last_start);
        // No row of the metrics table: this is no batch of the epoch's.
        let table = self
            .training_table(epoch, rates, StepTable::new(1), in_epoch)
            .constant("start", start as f64)
            .constant("row", f64::from(u32::MAX));
        // Under accumulation a step of this batch alone, so that it says the same on every rank.
        let alone = BatchOf { batch: 0, batch_size: diagnostics.batch_size, num_images: diagnostics.batch_size };
        let table = table.columns(&self.update.batch_columns(), |_, row| {
            fill(row, self.update.batch_values(alone).into_iter());
        });
        let train_entry = self.train.entries()[0].0.clone();
        diagnostics.run(&mut self.program, &train_entry, &table, batch)
    }

    /// The first tensor that is not finite, after an epoch in which `batch`, counted within it, was the first with such
    /// a loss; without one the last batch is inspected. The epoch is rerun from its beginning up to that batch, which
    /// gives the same bits. Afterwards the weights are those of that batch.
    pub(super) fn first_non_finite(
        &mut self,
        epoch: u64,
        batch: Option<usize>,
        rates: Rates<'_>,
    ) -> Result<Option<String>> {
        if self.diagnostics.is_none() {
            return Ok(None);
        }
        self.program.run(DiagnosticEntries::REWIND, &StepTable::new(1))?;
        let batch = batch.unwrap_or(self.train.num_rows() - 1);
        let batches_before = epoch * u64::from(self.train.loader.num_batches());
        // A finite loss can have gradients that are not: the batch before is the first suspect.
        let suspect = batch.saturating_sub(1);
        let mut go_on = |_| ControlFlow::Continue(());
        // Every rank by itself: as all do the same, none needs the others.
        self.train_alone(epoch, 0..suspect, rates, &mut go_on)?;
        for batch in suspect..=batch {
            let report = self.diagnose(batches_before + batch as u64, rates)?;
            if let Some(row) = report.first_non_finite() {
                return Ok(Some(format!("{} {} of step {}", row.kind, row.name, batch + 1)));
            }
            self.train_alone(epoch, batch..batch + 1, rates, &mut go_on)?;
        }
        Ok(None)
    }

    /// The first tensor of the model with an element that is infinite or not a number, such as "parameter
    /// conv1.weight".
    pub(super) fn first_non_finite_weight(&mut self) -> Result<Option<String>> {
        let model = self.model()?;
        let broken = model.iter().find(|(_, tensor)| !tensor.to_f64_vec().iter().all(|x| x.is_finite()));
        Ok(broken.map(|(name, _)| format!("parameter {name}")))
    }

    /// Evaluates the test images under the weights as they are.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn test(&mut self) -> Result<Evaluation> {
        if self.is_alone() {
            return self.test.evaluate(&mut self.program);
        }
        let logits = self.test_together()?;
        Ok(Evaluation { metrics: metrics_of(&self.program.read(TABLE)?.to_f64_vec(), &self.test), logits })
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

    /// Times the stages of a training step on the CPU, as [`Session::profile`] times ops; `None` on other devices
    /// ([`Program::profile_stages`]).
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn profile_stages(&mut self, repeats: usize) -> Result<Option<Vec<StageProfile>>> {
        let (entry, batch_size, ..) = self.train.entries().swap_remove(0);
        let table = first_step(&self.train, &self.update, batch_size, 0.0);
        self.program.profile_stages(&entry, &table, repeats)
    }

    /// The plan of a training step, the states that it starts from and its scalars under a learning rate of 0: what it
    /// takes to run the step apart from the session.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn first_step(&mut self) -> Result<(Plan, StateDict, StepTable)> {
        let (entry, batch_size, ..) = self.train.entries().swap_remove(0);
        let table = first_step(&self.train, &self.update, batch_size, 0.0);
        let plan = self.program.plans().iter().find(|plan| plan.name() == entry);
        let plan = plan.expect("the session compiled its own entries").clone();
        let mut states = StateDict::new();
        for spec in plan.states() {
            states.insert(spec.name.clone(), self.program.read(&spec.name)?);
        }
        Ok((plan, states, table))
    }

    /// Steps of the optimizer in an epoch; under accumulation the last may have fewer batches.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.num_rows().div_ceil(self.update.accumulate())
    }

    /// Batches in an epoch, a shorter last one included.
    pub fn batches_per_epoch(&self) -> usize {
        self.train.num_rows()
    }

    /// Training images in an epoch.
    pub fn images_per_epoch(&self) -> usize {
        self.train.loader.num_visited() as usize
    }

    /// Losses of the batches of the last epoch, each the mean of its batch, including L1 and L2 penalties.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn step_losses(&mut self) -> Result<Vec<f64>> {
        let rows = self.program.read(TABLE)?.to_f64_vec();
        Ok(rows.chunks_exact(COLUMNS).take(self.train.num_rows()).map(|row| row[0] / row[3]).collect())
    }

    /// Training metrics of some batches of the epoch, counted within it; each must have run.
    pub(super) fn batch_metrics(&mut self, batches: Range<usize>) -> Result<Vec<Metrics>> {
        let rows = self.program.read(TABLE)?.to_f64_vec();
        Ok(rows.chunks_exact(COLUMNS).skip(batches.start).take(batches.len()).map(Metrics::from_rows).collect())
    }

    /// The optimizer's step, counted over all epochs from 0, that a batch of an epoch belongs to.
    pub(super) fn step_of(&self, epoch: u64, batch: usize) -> u64 {
        epoch * self.steps_per_epoch() as u64 + (batch / self.update.accumulate()) as u64
    }

    /// Whether [`Session::diagnose`] can be asked.
    pub fn has_diagnostics(&self) -> bool {
        self.diagnostics.is_some()
    }

    /// The training images, told from others by their number and a checksum of pixels and labels.
    pub fn images_in_a_word(&self) -> &str {
        &self.images
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

    /// The compiled program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

pub(crate) fn images_in_a_word(data: &Dataset) -> String {
    let mut hasher = crc32fast::Hasher::new();
    data.images().for_each(|image| hasher.update(image));
    data.labels().iter().for_each(|label| hasher.update(&label.to_le_bytes()));
    format!("{} of {} with CRC-32 {:08x}", data.len(), data.name(), hasher.finalize())
}

/// The scalars of a first step over the first images.
fn first_step(part: &Part, update: &Update, batch_size: usize, lr: f64) -> StepTable {
    let mut table = batches(part, batch_size, 0, 1).constant("step", 0.0).constant(FOLLOW, 1.0);
    let at = StepRates { step: 0, lr, momentum: None };
    let of = BatchOf { batch: 0, batch_size, num_images: part.loader.num_images() as usize };
    table = table.columns(&update.columns(), |_, row| fill(row, update.values(&at)));
    table.columns(&update.batch_columns(), |_, row| fill(row, update.batch_values(of).into_iter()))
}

fn fill(row: &mut [f64], values: impl Iterator<Item = f64>) {
    row.iter_mut().zip(values).for_each(|(place, value)| *place = value);
}
