//! How many optimizer steps a program has run. Bias corrections depend on it, so a step table is filled here, when it
//! is run. It cannot belong to another optimizer or start at another step.

use std::collections::HashMap;

use super::{Program, StepTable};
use crate::graph::UpdatedBy;
use crate::graph::plan::Plan;
use crate::{Error, Result};

/// Runs of each update done so far, by the parameters that it changes: entries for whole and for shorter batches share
/// theirs.
#[derive(Debug, Default)]
pub(crate) struct StepCounts {
    /// `None` where it cannot be known.
    done: HashMap<Vec<String>, Option<u64>>,
    /// Whether states of optimizers were written, so that nothing is known but what `done` says.
    written: bool,
}

impl StepCounts {
    /// Every state is as it was initially.
    pub fn reset(&mut self) {
        *self = StepCounts::default();
    }

    /// States of optimizers have come from elsewhere.
    pub fn forget(&mut self) {
        *self = StepCounts { written: true, ..StepCounts::default() };
    }

    /// The number of runs before the next, where it is known.
    fn before(&self, by: &UpdatedBy) -> Option<u64> {
        let fresh = if self.written { None } else { Some(0) };
        self.done.get(&by.parameters).copied().unwrap_or(fresh)
    }

    /// The number of runs before the first of a table, or what is wrong with the table.
    fn first(&self, by: &UpdatedBy, optimizer: &str, start: Option<u64>) -> Result<u64> {
        if optimizer != by.optimizer {
            let expected = format!("steps of the optimizer that the graph was built with ({})", by.optimizer);
            return Err(Error::setting("steps", expected, format!("steps of {optimizer}")));
        }
        match (self.before(by), start) {
            (Some(before), None) => Ok(before),
            (None, Some(start)) => Ok(start),
            (Some(before), Some(start)) if before == start => Ok(start),
            (Some(before), Some(start)) => {
                let expected =
                    format!("step {before} to come next, as {before} are done; leave out the start to continue");
                Err(Error::setting("steps", expected, format!("a start at step {start}")))
            }
            (None, None) => {
                let expected = "steps(…).starting_at(k), as states or tables came from elsewhere and k steps are done";
                Err(Error::setting("steps", expected, "steps without a start"))
            }
        }
    }
}

impl Program {
    /// The table as the entry's plan needs it, and the number of steps done before where the table is an optimizer's.
    pub(super) fn prepare(&self, plan: &Plan, table: &StepTable) -> Result<(StepTable, Option<u64>)> {
        if let Some((row, lr)) = table.waiting().and_then(|counted| counted.wrong_lr) {
            return Err(Error::setting(
                "lr",
                "a finite number of at least 0",
                format!("{lr} in row {row} of the table"),
            ));
        }
        let first = match (&plan.updated_by, table.waiting()) {
            (Some(by), Some(counted)) => Some(self.counts.first(by, &counted.optimizer, counted.start)?),
            _ => None,
        };
        Ok((select(plan, table, first)?, first))
    }

    /// Takes note of `num_done` runs of an entry.
    pub(super) fn count(&mut self, entry: usize, first: Option<u64>, num_done: usize) {
        if let Some(by) = &self.plans[entry].updated_by {
            // A table that was made by hand says nothing of the steps before it.
            let done = first.map(|first| first + num_done as u64);
            self.counts.done.insert(by.parameters.clone(), done);
        }
    }
}

/// The columns that the plan reads; those of an optimizer as after `first` steps, or where that is not known as the
/// table has it.
pub(super) fn select(plan: &Plan, table: &StepTable, first: Option<u64>) -> Result<StepTable> {
    let start = table.waiting().and_then(|counted| counted.start);
    let filled = table.filled(first.or(start).unwrap_or(0));
    filled.select(&plan.scalars).map_err(|error| match (&plan.updated_by, error) {
        (Some(by), Error::UnknownName { kind: "scalar", name, known }) => {
            let expected = format!(
                "a column \"{name}\"; optimizer.steps(n, lr) of the graph's optimizer ({}) gives all that it needs",
                by.optimizer
            );
            let known = if known.is_empty() { "no columns".to_owned() } else { known.join(", ") };
            Error::setting("steps", expected, known)
        }
        (_, error) => error,
    })
}
