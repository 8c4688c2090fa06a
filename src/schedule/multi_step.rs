//! The rate is multiplied by a factor at given steps.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::{At, Curve, Steps, above_zero, at_least_one, number};
use crate::registry::{Described, Setting, Takes};
use crate::{Error, Result};

/// `base · gamma^n`, n the number of milestones up to and including t; one given twice counts twice (`MultiStepLR`).
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
/// |---|---|---|---|---|---|---|---|
/// | `multi_step([2, 5], 0.1)` | 0.1 | 0.1 | 0.01 | 0.01 | 0.01 | 0.001 | 0.001 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiStep {
    /// The steps of the cuts; at least one, each at least 1, and to be given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<u64>,
    /// What a cut multiplies the rate by; above 0. Default 0.1.
    pub gamma: f64,
}

impl Schedule {
    /// `base · gamma^n`, n the number of milestones passed; see [`MultiStep`].
    ///
    /// # Errors
    /// [`Error::Setting`] unless there is a milestone, every milestone is at least 1, and `gamma` is finite and above 0.
    pub fn multi_step(milestones: impl Into<Vec<u64>>, gamma: f64) -> Result<Self> {
        Schedule::new(MultiStep { milestones: milestones.into(), gamma })
    }
}

impl Default for MultiStep {
    fn default() -> Self {
        MultiStep { milestones: Vec::new(), gamma: 0.1 }
    }
}

impl Described for MultiStep {
    const NAME: &'static str = "multi_step";
    const ABOUT: &'static str = "Multiply the rate by gamma at each milestone (MultiStepLR)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("milestones", Takes::Counts, "Steps at which the rate is cut (required)"),
        Setting::new("gamma", Takes::Number, "What a cut multiplies the rate by"),
    ];
}

impl Curve for MultiStep {
    fn validate(&self) -> Result<()> {
        if self.milestones.is_empty() {
            return Err(Error::setting("milestones", "to be given, as they have no default", "none"));
        }
        self.milestones.iter().try_for_each(|&milestone| at_least_one("milestones", milestone))?;
        above_zero("gamma", self.gamma)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        let num_passed = self.milestones.iter().filter(|&&milestone| milestone <= at.step).count();
        base_lr * libm::pow(self.gamma, num_passed as f64)
    }

    fn phrase(&self, steps: Steps) -> String {
        let milestones: Vec<String> = self.milestones.iter().map(u64::to_string).collect();
        format!("times {} after {} {}", number(self.gamma), steps.many(), milestones.join(", "))
    }
}
