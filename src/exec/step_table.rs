//! The numbers that change from step to step (learning rate, a batch's start, a step's index), for all steps of a run
//! at once. Devices read row after row themselves, so a run of many steps needs nothing from the host in between.

use std::fmt;
use std::sync::Arc;

use super::{Named, unknown};
use crate::tensor::DType;
use crate::{Error, Result};

/// A column of numbers for each scalar, one row for each step.
#[derive(Clone, Debug, Default)]
pub struct StepTable {
    num_steps: usize,
    columns: Named<Vec<f64>>,
    /// Columns whose values depend on how many steps were done before.
    counted: Option<CountedColumns>,
    /// Columns in a plan's order, once selected.
    selected: Vec<(DType, Vec<f64>)>,
}

/// The columns of an optimizer, which a program fills when it knows which step comes first.
#[derive(Clone)]
pub(crate) struct CountedColumns {
    /// The optimizer, as the graph that it updates names it.
    pub optimizer: String,
    pub names: Vec<String>,
    /// The number of steps done before, where it was said.
    pub start: Option<u64>,
    /// The first step whose learning rate no optimizer takes, with that rate.
    pub wrong_lr: Option<(usize, f64)>,
    /// Writes a row, given the number of steps done before the table and the row's index in it.
    pub fill: Arc<FillRow>,
}

pub(crate) type FillRow = dyn Fn(u64, usize, &mut [f64]) + Send + Sync;

impl fmt::Debug for CountedColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}, from {:?}", self.names, self.optimizer, self.start)
    }
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

    /// Adds several columns at once; `fill` writes their values in step i, in the order of the names.
    pub fn columns<S: AsRef<str>>(mut self, names: &[S], mut fill: impl FnMut(usize, &mut [f64])) -> Self {
        let mut values = vec![Vec::with_capacity(self.num_steps); names.len()];
        let mut row = vec![0.0; names.len()];
        for step in 0..self.num_steps {
            fill(step, &mut row);
            values.iter_mut().zip(&row).for_each(|(column, &value)| column.push(value));
        }
        self.columns.extend(names.iter().map(|name| name.as_ref().to_owned()).zip(values));
        self
    }

    /// The same steps of an optimizer, said to come after `step` others. A program counts the steps that it runs, and
    /// continues after them by itself; say it where it cannot know, after its states were loaded.
    pub fn starting_at(mut self, step: u64) -> Self {
        if let Some(counted) = &mut self.counted {
            counted.start = Some(step);
        }
        self
    }

    /// A table with the columns of an optimizer.
    pub(crate) fn counted(num_steps: usize, counted: CountedColumns) -> Self {
        StepTable { num_steps, counted: Some(counted), ..StepTable::default() }
    }

    /// The columns that wait for the number of steps done before.
    pub(crate) fn waiting(&self) -> Option<&CountedColumns> {
        self.counted.as_ref()
    }

    /// The table with the columns of its optimizer, if any, filled as after `first` steps.
    pub(crate) fn filled(&self, first: u64) -> StepTable {
        let CountedColumns { names, fill, .. } = match &self.counted {
            Some(counted) => counted,
            None => return self.clone(),
        };
        let table = StepTable { counted: None, ..self.clone() };
        table.columns(names, |row, values| fill(first, row, values))
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
            let (fits, expected): (&dyn Fn(&f64) -> bool, _) = match dtype {
                DType::U32 => (&is_index, "whole numbers from 0 to 4294967295"),
                // An infinity may be meant, as of a bound.
                DType::F32 | DType::U8 => (&|value| !value.is_nan(), "numbers"),
            };
            match column.iter().find(|value| !fits(value)) {
                Some(value) => {
                    Err(Error::State { name: name.clone(), expected: expected.to_owned(), got: value.to_string() })
                }
                None => Ok((*dtype, column.clone())),
            }
        };
        let selected = scalars.iter().map(pick).collect::<Result<_>>()?;
        Ok(StepTable { num_steps: self.num_steps, selected, ..StepTable::default() })
    }
}
