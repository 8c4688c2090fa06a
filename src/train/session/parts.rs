//! The sets of images of a session, and the plans over them.

use super::super::diagnostics::DiagnosticEntries;
use super::graphs::{Entry, Objective, Recipe, forward};
use super::part::Part;
use super::{SessionOptions, ranks};
use crate::data::Dataset;
use crate::graph::plan::Plan;
use crate::{Error, Result};

/// The sets of images of a session.
pub(super) struct Parts {
    pub train: Part,
    pub validation: Part,
    pub test: Part,
}

impl Parts {
    pub fn new(options: &SessionOptions<'_>) -> Result<Parts> {
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
    pub fn sets<'a>(&'a self, options: &SessionOptions<'a>) -> Vec<(&'a Part, &'a Dataset)> {
        let mut sets = vec![(&self.train, options.train), (&self.test, options.test)];
        sets.extend(options.validation.map(|data| (&self.validation, data)));
        sets
    }

    pub fn num_rows(&self) -> usize {
        self.train.num_rows() + self.test.num_rows().max(self.validation.num_rows())
    }

    pub fn plans(
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
