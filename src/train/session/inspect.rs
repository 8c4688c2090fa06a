//! A look inside a session: a step checked op by op, its diagnostics, where its numbers stop being finite, and its time.

use std::ops::ControlFlow;

use web_time::Duration;

use super::super::diagnostics::{DiagnosticEntries, DiagnosticsReport};
use super::graphs::FOLLOW;
use super::part::{MAX_SHARD_BYTES, Part, batches};
use super::{Parts, Rates, Session, SessionOptions, fill};
use crate::exec::profile::{OpTime, StageProfile};
use crate::exec::{Device, MODEL_KINDS, Program, StateDict, StepTable, verify};
use crate::graph::plan::Plan;
use crate::optim::{BatchOf, StepRates, Update};
use crate::{Error, Result};

impl Session {
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

    /// Diagnostics of a batch: statistics of activations, gradients and parameters, and of the parameter update that
    /// training on it would make at its learning rate, under accumulation as a step of this batch alone. Gradients are
    /// those of the batch's loss, before regularization and clipping. Weights, optimizer states and running statistics
    /// are unchanged afterwards. `batch` is counted over all epochs from 0; its images are taken from the order of the
    /// epoch that ran last, and an epoch's last batch, where it is shorter, is filled up with images from before it.
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
    pub(in crate::train) fn first_non_finite(
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
        let mut carry_on = |_| ControlFlow::Continue(());
        // Every rank by itself: as all do the same, none needs the others.
        self.train_alone(epoch, 0..suspect, rates, &mut carry_on)?;
        for batch in suspect..=batch {
            let report = self.diagnose(batches_before + batch as u64, rates)?;
            if let Some(row) = report.first_non_finite() {
                return Ok(Some(format!("{} {} of step {}", row.kind, row.name, batch + 1)));
            }
            self.train_alone(epoch, batch..batch + 1, rates, &mut carry_on)?;
        }
        Ok(None)
    }

    /// The first tensor of the model with an element that is infinite or not a number, such as "parameter
    /// conv1.weight".
    pub(in crate::train) fn first_non_finite_weight(&mut self) -> Result<Option<String>> {
        let model = self.model()?;
        let broken = model.iter().find(|(_, tensor)| !tensor.to_f64_vec().iter().all(|x| x.is_finite()));
        Ok(broken.map(|(name, _)| format!("parameter {name}")))
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

    /// Runs a training step under a learning rate of 0 and waits for it: the first takes as long as the driver needs to
    /// finish compiling.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn warm_up(&mut self) -> Result<()> {
        let (entry, batch_size, ..) = self.train.entries().swap_remove(0);
        let table = first_step(&self.train, &self.update, batch_size, 0.0);
        self.program.run(&entry, &table)
    }

    /// What the host takes to record a training step for a GPU ([`Program::profile_encoding`]).
    ///
    /// # Errors
    /// As [`Session::profile`].
    pub fn profile_encoding(&mut self, repeats: usize) -> Result<Option<Duration>> {
        let (entry, batch_size, ..) = self.train.entries().swap_remove(0);
        let table = first_step(&self.train, &self.update, batch_size, 0.0);
        self.program.profile_encoding(&entry, &table, repeats)
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
}

/// The scalars of a first step over the first images.
pub(super) fn first_step(part: &Part, update: &Update, batch_size: usize, lr: f64) -> StepTable {
    let mut table = batches(part, batch_size, 0, 1).constant("step", 0.0).constant(FOLLOW, 1.0);
    let at = StepRates { step: 0, lr, momentum: None };
    let of = BatchOf { batch: 0, batch_size, num_images: part.loader.num_images() as usize };
    table = table.columns(&update.columns(), |_, row| fill(row, update.values(&at)));
    table.columns(&update.batch_columns(), |_, row| fill(row, update.batch_values(of).into_iter()))
}
