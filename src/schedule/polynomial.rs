//! The rate falls to 0 along a power of the steps that are left.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::{At, Curve, Steps, above_zero, at_least_one, number};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// `base · (1 − min(t, T) / T)^power` with `T = total_iters` (`PolynomialLR`): 0 from T on.
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 |
/// |---|---|---|---|---|---|---|
/// | `polynomial(4, 2.0)` | 0.1 | 0.05625 | 0.025 | 0.00625 | 0 | 0 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polynomial {
    /// The steps down to 0; at least 1. Default: the whole run (PyTorch: 5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_iters: Option<u64>,
    /// The power; above 0. Default 1.
    pub power: f64,
}

impl Schedule {
    /// `base · (1 − min(t, T) / T)^power`; see [`Polynomial`]. `total_iters` is a number of steps, or `None` for all that
    /// the run has.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `total_iters` is at least 1 and `power` is finite and above 0.
    pub fn polynomial(total_iters: impl Into<Option<u64>>, power: f64) -> Result<Self> {
        Schedule::new(Polynomial { total_iters: total_iters.into(), power })
    }
}

impl Default for Polynomial {
    fn default() -> Self {
        Polynomial { total_iters: None, power: 1.0 }
    }
}

impl Described for Polynomial {
    const NAME: &'static str = "polynomial";
    const ABOUT: &'static str = "Fall to 0 as a power of the share of steps that are left (PolynomialLR)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("total_iters", Takes::Count, "Steps down to 0; by default those of the run"),
        Setting::new("power", Takes::Number, "The exponent"),
    ];
}

impl Curve for Polynomial {
    fn validate(&self) -> Result<()> {
        self.total_iters.map_or(Ok(()), |total_iters| at_least_one("total_iters", total_iters))?;
        above_zero("power", self.power)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        base_lr * libm::pow(1.0 - at.progress(self.total_iters), self.power)
    }

    fn open_length(&self) -> Option<&'static str> {
        self.total_iters.is_none().then_some("total_iters")
    }

    fn phrase(&self, steps: Steps) -> String {
        format!("polynomial of power {} to 0 {}", number(self.power), steps.over(self.total_iters))
    }
}
