//! The numbers that change from step to step (learning rate, a batch's start, a step's index), for all steps of a run
//! at once. Devices read row after row themselves, so a run of many steps needs nothing from the host in between.

use super::{Named, unknown};
use crate::tensor::DType;
use crate::{Error, Result};

/// A column of numbers for each scalar, one row for each step.
#[derive(Clone, Debug, Default)]
pub struct StepTable {
    num_steps: usize,
    columns: Named<Vec<f64>>,
    /// Columns in a plan's order, once selected.
    selected: Vec<(DType, Vec<f64>)>,
}

impl StepTable {
    /// A table of `num_steps` rows and no columns yet.
    pub fn new(num_steps: usize) -> Self {
        StepTable { num_steps, ..StepTable::default() }
    }

    /// Adds a column whose value in step i is `value(i)`. Integers up to 2^53 pass through exactly.
    pub fn column(mut self, name: &str, value: impl FnMut(usize) -> f64) -> Self {
        self.columns.insert(name.to_owned(), (0..self.num_steps).map(value).collect());
        self
    }

    /// Adds a column that has the same value in every step.
    pub fn constant(self, name: &str, value: f64) -> Self {
        self.column(name, |_| value)
    }

    /// The number of steps.
    pub fn num_steps(&self) -> usize {
        self.num_steps
    }

    /// The values of a step in the order of the plan's scalars, with their element types.
    pub(crate) fn row(&self, step: usize) -> impl Iterator<Item = (DType, f64)> + '_ {
        self.selected.iter().map(move |(dtype, column)| (*dtype, column[step]))
    }

    /// Whether an op with this guard runs in a step.
    pub(crate) fn is_on(&self, guard: Option<usize>, step: usize) -> bool {
        guard.is_none_or(|scalar| self.selected[scalar].1[step] != 0.0)
    }

    /// The table with its columns in the order of `scalars`; columns that are not asked for are left out.
    pub(crate) fn select(&self, scalars: &[(String, DType)]) -> Result<StepTable> {
        let pick = |(name, dtype): &(String, DType)| {
            let column = self.columns.get(name).ok_or_else(|| unknown("scalar", name, self.columns.keys()))?;
            let is_index = |value: &f64| value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(value);
            match column.iter().find(|value| *dtype == DType::U32 && !is_index(value)) {
                Some(value) => Err(Error::State {
                    name: name.clone(),
                    expected: "whole numbers from 0 to 4294967295".to_owned(),
                    got: value.to_string(),
                }),
                None => Ok((*dtype, column.clone())),
            }
        };
        let selected = scalars.iter().map(pick).collect::<Result<_>>()?;
        Ok(StepTable { num_steps: self.num_steps, columns: Named::new(), selected })
    }
}
