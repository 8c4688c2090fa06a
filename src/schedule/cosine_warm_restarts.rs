//! Half a cosine wave, again and again.

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::cosine::half_wave;
use super::curve::{At, Curve, Steps, at_least_one, given, not_negative, number};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// Cosine annealing that starts again at the base rate, first after `t_0` steps, then each time after `t_mult` times as
/// many (`CosineAnnealingWarmRestarts`; Loshchilov and Hutter, "SGDR", 2017).
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 |
/// |---|---|---|---|---|---|---|---|---|
/// | `cosine_warm_restarts(2, 2, 0.0)` | 0.1 | 0.05 | 0.1 | 0.0853553 | 0.05 | 0.0146447 | 0.1 | 0.096194 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosineWarmRestarts {
    /// The steps before the first restart; at least 1, and to be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_0: Option<u64>,
    /// How many times as long each period is as the one before; at least 1. Default 1.
    pub t_mult: u64,
    /// The lowest rate; not negative. Default 0.
    pub eta_min: f64,
}

impl Schedule {
    /// Half a cosine wave, again and again; see [`CosineWarmRestarts`].
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `t_0` and `t_mult` are at least 1 and `eta_min` is finite and not
    /// negative.
    pub fn cosine_warm_restarts(t_0: u64, t_mult: u64, eta_min: f64) -> Result<Self> {
        Schedule::new(CosineWarmRestarts { t_0: Some(t_0), t_mult, eta_min })
    }
}

impl Default for CosineWarmRestarts {
    fn default() -> Self {
        CosineWarmRestarts { t_0: None, t_mult: 1, eta_min: 0.0 }
    }
}

impl Described for CosineWarmRestarts {
    const NAME: &'static str = "cosine_warm_restarts";
    const ABOUT: &'static str = "Fall along half a cosine wave, again and again (CosineAnnealingWarmRestarts)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("t_0", Takes::Count, "Steps before the first restart (required)"),
        Setting::new("t_mult", Takes::Count, "How many times as long each period is as the one before"),
        Setting::new("eta_min", Takes::Number, "The lowest rate"),
    ];
}

impl Curve for CosineWarmRestarts {
    fn validate(&self) -> Result<()> {
        at_least_one("t_0", given("t_0", self.t_0)?)?;
        at_least_one("t_mult", self.t_mult)?;
        not_negative("eta_min", self.eta_min)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        let Some(t_0) = self.t_0 else { return base_lr };
        let (since_restart, len) = position(at.step, t_0, self.t_mult);
        half_wave(base_lr, self.eta_min, since_restart as f64 / len as f64)
    }

    fn phrase(&self, steps: Steps) -> String {
        let first = steps.times(self.t_0.unwrap_or_default());
        let more = match self.t_mult {
            1 => String::new(),
            t_mult => format!(" and then {t_mult} times as many each time"),
        };
        format!("cosine to {}, again after {first}{more}", number(self.eta_min))
    }
}

/// The steps since the last restart and the length of the current period.
fn position(step: u64, t_0: u64, t_mult: u64) -> (u64, u64) {
    if t_mult == 1 {
        return (step % t_0, t_0);
    }
    let (mut since_restart, mut len) = (step, t_0);
    while since_restart >= len {
        since_restart -= len;
        len = len.saturating_mul(t_mult);
    }
    (since_restart, len)
}
