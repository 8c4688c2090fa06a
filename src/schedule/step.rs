//! The rate is multiplied by a factor every so many steps.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::{At, Curve, Steps, above_zero, at_least_one, given, number};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// `base · gamma^⌊t / step_size⌋` (`StepLR`).
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
/// |---|---|---|---|---|---|---|---|
/// | `step(2, 0.5)` | 0.1 | 0.1 | 0.05 | 0.05 | 0.025 | 0.025 | 0.0125 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// The steps between cuts; at least 1, and to be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_size: Option<u64>,
    /// What a cut multiplies the rate by; above 0. Default 0.1.
    pub gamma: f64,
}

impl Schedule {
    /// `base · gamma^⌊t / step_size⌋`; see [`Step`].
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `step_size` is at least 1 and `gamma` is finite and above 0.
    pub fn step(step_size: u64, gamma: f64) -> Result<Self> {
        Schedule::new(Step { step_size: Some(step_size), gamma })
    }
}

impl Default for Step {
    fn default() -> Self {
        Step { step_size: None, gamma: 0.1 }
    }
}

impl Described for Step {
    const NAME: &'static str = "step";
    const ABOUT: &'static str = "Multiply the rate by gamma at regular intervals (StepLR)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("step_size", Takes::Count, "Steps between cuts (required)"),
        Setting::new("gamma", Takes::Number, "What a cut multiplies the rate by"),
    ];
}

impl Curve for Step {
    fn validate(&self) -> Result<()> {
        at_least_one("step_size", given("step_size", self.step_size)?)?;
        above_zero("gamma", self.gamma)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        let num_cuts = self.step_size.map_or(0, |step_size| at.step / step_size);
        base_lr * libm::pow(self.gamma, num_cuts as f64)
    }

    fn phrase(&self, steps: Steps) -> String {
        format!("times {} every {}", number(self.gamma), steps.every(self.step_size.unwrap_or_default()))
    }
}
