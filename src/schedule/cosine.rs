//! The rate falls along half a cosine wave.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::{At, Curve, Steps, at_least_one, not_negative, number};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// `eta_min + (base − eta_min) · (1 + cos(π · t / t_max)) / 2` (`CosineAnnealingLR`; Loshchilov and Hutter, "SGDR",
/// 2017, eq. 5). Past a `t_max` that is given it climbs again, with period `2 · t_max`, as PyTorch's does.
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
/// |---|---|---|---|---|---|---|---|
/// | `cosine(4, 0.001)` | 0.1 | 0.0855018 | 0.0505 | 0.0154982 | 0.001 | 0.0154982 | 0.0505 |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// The steps down to `eta_min`; at least 1. Default: the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_max: Option<u64>,
    /// The lowest rate; not negative. Default 0.
    pub eta_min: f64,
}

impl Schedule {
    /// Half a cosine wave down to `eta_min`; see [`Cosine`]. `t_max` is a number of steps, or `None` for all that the run
    /// has.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `t_max` is at least 1 and `eta_min` is finite and not negative.
    pub fn cosine(t_max: impl Into<Option<u64>>, eta_min: f64) -> Result<Self> {
        Schedule::new(Cosine { t_max: t_max.into(), eta_min })
    }
}

impl Described for Cosine {
    const NAME: &'static str = "cosine";
    const ABOUT: &'static str = "Fall along half a cosine wave (CosineAnnealingLR)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("t_max", Takes::Count, "Steps down to the lowest rate; by default those of the run"),
        Setting::new("eta_min", Takes::Number, "The lowest rate"),
    ];
}

impl Curve for Cosine {
    fn validate(&self) -> Result<()> {
        self.t_max.map_or(Ok(()), |t_max| at_least_one("t_max", t_max))?;
        not_negative("eta_min", self.eta_min)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        let fraction = match self.t_max {
            Some(t_max) => at.t() / t_max as f64,
            None => at.progress(None),
        };
        half_wave(base_lr, self.eta_min, fraction)
    }

    fn open_length(&self) -> Option<&'static str> {
        self.t_max.is_none().then_some("t_max")
    }

    fn phrase(&self, steps: Steps) -> String {
        format!("cosine to {} {}", number(self.eta_min), steps.over(self.t_max))
    }
}

/// Half a cosine wave from `base_lr` at 0 down to `eta_min` at 1.
pub(super) fn half_wave(base_lr: f64, eta_min: f64, fraction: f64) -> f64 {
    eta_min + (base_lr - eta_min) * (1.0 + libm::cos(std::f64::consts::PI * fraction)) / 2.0
}
