//! A share of the base rate at first, then all of it.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::{At, Curve, Steps, number, require};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// `base · factor` while t is below `total_iters`, then `base` (`ConstantLR`).
///
/// | t | 0 | 1 | 2 | 3 |
/// |---|---|---|---|---|
/// | `constant_factor(0.25, 2)` | 0.025 | 0.025 | 0.1 | 0.1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantFactor {
    /// The share of the rate at first; from 0 to 1. Default 1/3.
    pub factor: f64,
    /// The steps that it is used for. Default 5.
    pub total_iters: u64,
}

impl Schedule {
    /// `base · factor` for `total_iters` steps, then `base`; see [`ConstantFactor`].
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `factor` is in [0, 1].
    pub fn constant_factor(factor: f64, total_iters: u64) -> Result<Self> {
        Schedule::new(ConstantFactor { factor, total_iters })
    }
}

impl Default for ConstantFactor {
    fn default() -> Self {
        ConstantFactor { factor: 1.0 / 3.0, total_iters: 5 }
    }
}

impl Described for ConstantFactor {
    const NAME: &'static str = "constant_factor";
    const ABOUT: &'static str = "Use a share of the rate at first, then all of it (ConstantLR)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("factor", Takes::Number, "Share of the rate that is used at first"),
        Setting::new("total_iters", Takes::Count, "Steps that it is used for"),
    ];
}

impl Curve for ConstantFactor {
    fn validate(&self) -> Result<()> {
        require("factor", "from 0 to 1", self.factor, |x| (0.0..=1.0).contains(&x))
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        base_lr * if at.step < self.total_iters { self.factor } else { 1.0 }
    }

    fn phrase(&self, steps: Steps) -> String {
        format!("{} times the rate for {}", number(self.factor), steps.times(self.total_iters))
    }
}
