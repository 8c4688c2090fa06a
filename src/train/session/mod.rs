//! A model on a device, with the data for training and evaluation: the graphs of a training step and of evaluation,
//! compiled together so that they share the weights, and the data sets resident beside them.
//!
//! A last batch that is shorter has graphs of its own, of exactly its size. So every op means what it says (a mean is
//! over the batch, batch statistics are of the batch) and no kernel has to know of rows that do not count.

mod graphs;
mod inspect;
mod options;
mod part;
mod parts;
mod ranks;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests;

use std::ops::{ControlFlow, Range};

use web_time::{Duration, Instant};

use super::Evaluation;
use super::diagnostics::DiagnosticEntries;
use super::metrics::Metrics;
use crate::Result;
use crate::dist::{Alone, Comm};
use crate::exec::{Device, MODEL_KINDS, Program, Progress, Snapshot, StateDict, StepTable};
use crate::graph::StateKind;
use crate::graph::plan::Plan;
use crate::ops::data::metrics::COLUMNS;
use crate::optim::{BatchOf, StepRates, Update, is_gradient_sum};
use crate::tensor::Tensor;
use graphs::FOLLOW;
pub(super) use graphs::{Forward, Recipe};
pub use options::SessionOptions;
pub(crate) use part::is_image_data;
pub(super) use part::{MAX_SHARD_BYTES, Part};
use part::{batches, metrics_of};
use parts::Parts;
pub use ranks::RankTime;
use ranks::Ranks;

/// The state that batches write their metrics to.
const TABLE: &str = "metrics";
/// The output of an evaluation.
const LOGITS: &str = "logits";

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

/// A model on a device. See the [module](self).
pub struct Session {
    program: Program,
    train: Part,
    validation: Part,
    test: Part,
    update: Update,
    diagnostics: Option<DiagnosticEntries>,
    /// The training images' fingerprint.
    images: String,
    ranks: Ranks,
}

impl Session {
    /// Builds the graphs, compiles them, puts the data on the device and draws initial weights.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for sizes that cannot be; [`crate::Error::Operand`] where the model does not take the
    /// images; [`crate::Error::Limit`] where a data set or a batch is too large for the device.
    pub fn new(device: &Device, options: &SessionOptions<'_>) -> Result<Session> {
        Session::sharded(device, options, MAX_SHARD_BYTES, Box::new(Alone))
    }

    /// The same as one of several ranks, which train together: with the same options each, all hold all images, and
    /// each computes a share of every step's batches. What comes out is the same, bit for bit, as from one process of
    /// the same kind of device. The methods that train and evaluate are then collective: every rank calls them alike.
    ///
    /// # Errors
    /// As [`Session::new`]; [`crate::Error::Setting`] where steps accumulate fewer batches than there are ranks, or the
    /// network updates states that ranks do not exchange.
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
        let buckets = ranks::parameters_by_bucket(&plans[0]);
        let mut program = Program::compile(device, plans, options.seed)?;
        for (part, data) in parts.sets(options) {
            part.upload(&mut program, data, max_shard_bytes)?;
        }
        // Also makes the memory that later copies go to.
        program.keep_model()?;
        let ranks = match comm.size() {
            1 => Ranks::alone(comm),
            _ => Ranks::new(comm, (device, &mut program), &update, (&parts, buckets))?,
        };
        let Parts { train, validation, test } = parts;
        let images = options.train.fingerprint();
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

    /// Trains on all images once and evaluates the validation set, with one readback. `rates` is asked for every step,
    /// counted over all epochs from 0, and `progress` is told the number of training images done.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
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
    /// [`crate::Error::DeviceLost`].
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
    /// [`crate::Error::DeviceLost`].
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
    /// [`crate::Error::DeviceLost`].
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
    /// [`crate::Error::DeviceLost`].
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
    /// [`crate::Error::State`] where the snapshot is of another session: another model, optimizer, number of images or
    /// batch size; nothing that training changes is written then. [`crate::Error::DeviceLost`].
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

    /// Evaluates the test images under the weights as they are.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
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
    /// [`crate::Error::DeviceLost`].
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

    /// The training images' [`fingerprint`](crate::data::Dataset::fingerprint).
    pub fn fingerprint(&self) -> &str {
        &self.images
    }

    /// The model: parameters and running statistics.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
    pub fn model(&mut self) -> Result<StateDict> {
        self.program.state_dict(&MODEL_KINDS)
    }

    /// Overwrites the model.
    ///
    /// # Errors
    /// [`crate::Error::State`] where tensors are missing, unknown or of another shape; nothing is changed then.
    pub fn load_model(&mut self, model: &StateDict) -> Result<()> {
        self.program.load_state_dict(model, &MODEL_KINDS)
    }

    /// The compiled program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

fn fill(row: &mut [f64], values: impl Iterator<Item = f64>) {
    row.iter_mut().zip(values).for_each(|(place, value)| *place = value);
}
