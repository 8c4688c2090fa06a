//! The rate goes from one share of the base rate to another in a line.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::{At, Curve, Steps, at_least_one, number, require};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// `base · (start_factor + (end_factor − start_factor) · min(t, T) / T)` with `T = total_iters` (`LinearLR`).
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 |
/// |---|---|---|---|---|---|---|
/// | `linear(0.2, 1.0, 4)` | 0.02 | 0.04 | 0.06 | 0.08 | 0.1 | 0.1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Linear {
    /// The share of the rate to start from; above 0 and at most 1. Default 1/3.
    pub start_factor: f64,
    /// The share of the rate to end at; from 0 to 1. Default 1.
    pub end_factor: f64,
    /// The steps that the change takes; at least 1. Default: the whole run (PyTorch: 5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_iters: Option<u64>,
}

impl Schedule {
    /// From `start_factor · base` to `end_factor · base` in a line; see [`Linear`]. `total_iters` is a number of steps,
    /// or `None` for all that the run has.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `start_factor` is in (0, 1], `end_factor` in [0, 1] and
    /// `total_iters` at least 1.
    pub fn linear(start_factor: f64, end_factor: f64, total_iters: impl Into<Option<u64>>) -> Result<Self> {
        Schedule::new(Linear { start_factor, end_factor, total_iters: total_iters.into() })
    }
}

impl Default for Linear {
    fn default() -> Self {
        Linear { start_factor: 1.0 / 3.0, end_factor: 1.0, total_iters: None }
    }
}

impl Described for Linear {
    const NAME: &'static str = "linear";
    const ABOUT: &'static str = "Change linearly from one share of the rate to another (LinearLR)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("start_factor", Takes::Number, "Share of the rate to start from"),
        Setting::new("end_factor", Takes::Number, "Share of the rate to end at"),
        Setting::new("total_iters", Takes::Count, "Steps that the change takes; by default those of the run"),
    ];
}

impl Curve for Linear {
    fn validate(&self) -> Result<()> {
        require("start_factor", "above 0 and at most 1", self.start_factor, |x| x > 0.0 && x <= 1.0)?;
        require("end_factor", "from 0 to 1", self.end_factor, |x| (0.0..=1.0).contains(&x))?;
        self.total_iters.map_or(Ok(()), |total_iters| at_least_one("total_iters", total_iters))
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        base_lr * (self.start_factor + (self.end_factor - self.start_factor) * at.progress(self.total_iters))
    }

    fn open_length(&self) -> Option<&'static str> {
        self.total_iters.is_none().then_some("total_iters")
    }

    fn phrase(&self, steps: Steps) -> String {
        let (start, end) = (number(self.start_factor), number(self.end_factor));
        format!("linear from {start} to {end} times the rate {}", steps.over(self.total_iters))
    }
}
