//! The numbers of an optimizer's steps, as tables that a program runs. Which step comes first, the program knows: it
//! counts them, so that
//!
//! ```
//! # use wgrad::{Device, Graph, Program, Result, nn::Init, optim::Optimizer};
//! # fn main() -> Result<()> {
//! # let optimizer = Optimizer::adam();
//! # let mut graph = Graph::new("train");
//! # let w = graph.parameter("w", [1], Init::Constant(3.0))?;
//! # let squared = graph.square(w)?;
//! # let loss = graph.sum_all(squared)?;
//! # optimizer.minimize(&mut graph, loss)?;
//! # let mut program = Program::from_graphs(&Device::Cpu, [&graph], 0)?;
//! program.run("train", &optimizer.steps(500, 0.1))?;
//! program.run("train", &optimizer.steps(100, 0.01))?; // continues after the 500
//! # Ok(())
//! # }
//! ```
//!
//! trains 600 steps with the right bias corrections throughout.

use std::sync::Arc;

use super::gradients::{IS_LAST, WEIGHT, keep_at, merge_at};
use super::tree::{Climb, Node, num_levels};
use super::{Optimizer, StepRates, Update, UpdateOptions};
use crate::exec::{CountedColumns, StepTable};

/// A batch of an epoch: what its share in a step follows from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchOf {
    pub batch: usize,
    pub batch_size: usize,
    pub num_images: usize,
}

impl Optimizer {
    /// `num_steps` steps at this learning rate, after those that the program has run already. A learning rate that is
    /// negative or not finite is an error of [`Program::run`](crate::Program::run), before any step is done.
    pub fn steps(&self, num_steps: usize, lr: f64) -> StepTable {
        self.steps_with(num_steps, |_| lr)
    }

    /// Steps whose learning rates are `lr(0)`, `lr(1)` and so on, counted within the table.
    pub fn steps_with(&self, num_steps: usize, lr: impl FnMut(usize) -> f64) -> StepTable {
        Update::of(self.clone(), UpdateOptions::default()).steps_with(num_steps, lr)
    }

    /// One step at this learning rate, said to come after `step` others; see [`StepTable::starting_at`].
    pub fn step(&self, step: u64, lr: f64) -> StepTable {
        self.steps(1, lr).starting_at(step)
    }
}

impl Update {
    /// `num_batches` runs at this learning rate; a step of the optimizer is as many of them as are accumulated, each of
    /// the same weight. Under accumulation a table may end within a step, which the next one then completes.
    pub fn steps(&self, num_batches: usize, lr: f64) -> StepTable {
        self.steps_with(num_batches, |_| lr)
    }

    /// [`Update::steps`] with the learning rates `lr(0)`, `lr(1)` and so on, counted within the table.
    pub fn steps_with(&self, num_batches: usize, lr: impl FnMut(usize) -> f64) -> StepTable {
        let lrs: Vec<f64> = (0..num_batches).map(lr).collect();
        let wrong_lr = lrs.iter().copied().enumerate().find(|(_, lr)| !(lr.is_finite() && *lr >= 0.0));
        let (update, per_step) = (self.clone(), self.accumulate());
        let mut names = self.columns();
        names.extend(self.batch_columns());
        names.push("step".to_owned());
        let fill = move |first: u64, index: usize, row: &mut [f64]| {
            let run = first + index as u64;
            let at = StepRates { step: run / per_step as u64, lr: lrs[index], momentum: None };
            let batch = BatchOf { batch: (run % per_step as u64) as usize, batch_size: 1, num_images: per_step };
            let mut values = update.values(&at).chain(update.batch_values(batch));
            let (step, rest) = row.split_last_mut().expect("the column \"step\"");
            rest.fill_with(|| values.next().expect("a value for each column"));
            // Runs stay far below 2^53, up to which f64 holds every integer. Dropout reads it.
            *step = run as f64;
        };
        StepTable::counted(
            num_batches,
            CountedColumns { optimizer: self.to_string(), names, start: None, wrong_lr, fill: Arc::new(fill) },
        )
    }

    /// The names of the numbers that a step needs: those of the optimizer, and once more for each group with a learning
    /// rate of its own.
    pub(crate) fn columns(&self) -> Vec<String> {
        let suffixes = self.own_rates().map(|(index, _)| Self::suffix(index));
        let suffixes = [String::new()].into_iter().chain(suffixes);
        let names = self.rule().scalars();
        suffixes.flat_map(|suffix| names.iter().map(move |name| format!("{name}{suffix}"))).collect()
    }

    /// Their values, computed in f64.
    pub(crate) fn values(&self, at: &StepRates) -> impl Iterator<Item = f64> + use<'_> {
        let at = *at;
        let rates = [1.0].into_iter().chain(self.own_rates().map(|(_, lr_scale)| lr_scale));
        rates.flat_map(move |lr_scale| {
            let values = self.rule().scalar_values(&StepRates { lr: at.lr * lr_scale, ..at });
            values.into_iter().take(self.rule().scalars().len())
        })
    }

    /// The names of what a batch needs beside; none without accumulation.
    pub(crate) fn batch_columns(&self) -> Vec<String> {
        if self.accumulate() == 1 {
            return Vec::new();
        }
        [WEIGHT.to_owned()].into_iter().chain(self.climb_columns()).collect()
    }

    /// Their values. The last step of an epoch takes what is left of its images.
    pub(crate) fn batch_values(&self, of: BatchOf) -> Vec<f64> {
        let BatchOf { batch, .. } = of;
        let (first, num_batches) = of.step(self.accumulate());
        let climb = Node::leaf(batch - first).climb(Node::root(num_batches), num_batches);
        self.values_of_batch(of, &climb)
    }

    /// The values where the batch's sum climbs this way.
    pub(crate) fn values_of_batch(&self, of: BatchOf, climb: &Climb) -> Vec<f64> {
        if self.accumulate() == 1 {
            return Vec::new();
        }
        let (first, num_batches) = of.step(self.accumulate());
        let weight = of.images(of.batch, 1) as f64 / of.images(first, num_batches) as f64;
        [weight].into_iter().chain(self.climb_values(climb)).collect()
    }

    /// The names of what the way of a sum up the tree of a step needs.
    fn climb_columns(&self) -> Vec<String> {
        let levels = 0..num_levels(self.accumulate());
        let merges = levels.clone().map(merge_at);
        [IS_LAST.to_owned()].into_iter().chain(merges).chain(levels.map(keep_at)).collect()
    }

    /// Their values.
    fn climb_values(&self, climb: &Climb) -> Vec<f64> {
        let flag = |is_on: bool| f64::from(u8::from(is_on));
        let levels = 0..num_levels(self.accumulate());
        let merges = levels.clone().map(|level| flag(climb.merges.contains(&level)));
        let keeps = levels.map(|level| flag(climb.keep == Some(level)));
        [flag(climb.keep.is_none())].into_iter().chain(merges).chain(keeps).collect()
    }
}

impl BatchOf {
    /// The first batch of its step, and the number of the step's batches.
    pub fn step(&self, accumulate: usize) -> (usize, usize) {
        let first = self.batch - self.batch % accumulate;
        (first, accumulate.min(self.num_images.div_ceil(self.batch_size) - first))
    }

    /// Images in `count` batches from `first` on.
    fn images(&self, first: usize, count: usize) -> usize {
        self.num_images.min((first + count) * self.batch_size) - first * self.batch_size
    }
}
