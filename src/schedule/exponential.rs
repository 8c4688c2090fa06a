//! The rate is multiplied by a factor in every step.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::{At, Curve, Steps, above_zero, given, number};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// `base · gamma^t` (`ExponentialLR`).
///
/// | t | 0 | 1 | 2 | 3 |
/// |---|---|---|---|---|
/// | `exponential(0.9)` | 0.1 | 0.09 | 0.081 | 0.0729 |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exponential {
    /// What each step multiplies the rate by; above 0, and to be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
}

impl Schedule {
    /// `base · gamma^t`; see [`Exponential`].
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `gamma` is finite and above 0.
    pub fn exponential(gamma: f64) -> Result<Self> {
        Schedule::new(Exponential { gamma: Some(gamma) })
    }
}

impl Described for Exponential {
    const NAME: &'static str = "exponential";
    const ABOUT: &'static str = "Multiply the rate by gamma in every step (ExponentialLR)";
    const SETTINGS: &'static [Setting] =
        &[Setting::new("gamma", Takes::Number, "What each step multiplies the rate by (required)")];
}

impl Curve for Exponential {
    fn validate(&self) -> Result<()> {
        above_zero("gamma", given("gamma", self.gamma)?)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        base_lr * libm::pow(self.gamma.unwrap_or(1.0), at.t())
    }

    fn phrase(&self, steps: Steps) -> String {
        format!("times {} every {}", number(self.gamma.unwrap_or(1.0)), steps.one())
    }
}
