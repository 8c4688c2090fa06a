//! The one-cycle policy: one rise and one long fall of the learning rate, with the momentum the other way round.

use serde::{Deserialize, Serialize};

use super::kind::{above_zero, at_least_one, require};
use crate::{Error, Result};

/// The arguments of `OneCycleLR` (Smith and Topin, "Super-convergence", 2018), by PyTorch's names. The rate goes from
/// `max_lr / div_factor` up to `max_lr` and down to `max_lr / div_factor / final_div_factor`; the momentum from
/// `max_momentum` to `base_momentum` and back. In three phases the rate first comes down to where it started, at the
/// speed of its rise, and then goes on to the end.
///
/// The first phase ends at the fractional step `pct_start · total_steps − 1`, as PyTorch's does.
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |
/// |---|---|---|---|---|---|---|---|---|---|---|
/// | lr of `OneCycle::new(0.1, 10)` | .004 | .052 | .1 | .0950485 | .0811746 | .0611262 | .0388742 | .0188258 | .00495194 | 4e-7 |
/// | momentum | .95 | .9 | .85 | .854952 | .868826 | .888874 | .911126 | .931174 | .945048 | .95 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneCycle {
    /// The highest rate; above 0.
    pub max_lr: f64,
    /// The steps of the whole cycle; at least 1. Past the end the last step's values stay (PyTorch raises an error);
    /// see [`check_num_steps`](super::Schedule::check_num_steps). `None` is as long as the run turns out to be, see
    /// [`for_run`](super::Schedule::for_run).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
    /// The share of the cycle that the rate rises for, from 0 to 1. Not `1 / total_steps`: the rise would then be of no
    /// length, where PyTorch divides by zero.
    #[serde(default = "default_pct_start")]
    pub pct_start: f64,
    /// The shape of rise and fall.
    #[serde(default)]
    pub anneal_strategy: Anneal,
    /// Whether the momentum cycles too.
    #[serde(default = "default_cycle_momentum")]
    pub cycle_momentum: bool,
    /// The lowest momentum, from 0 and below 1.
    #[serde(default = "default_base_momentum")]
    pub base_momentum: f64,
    /// The highest momentum, from 0 and below 1.
    #[serde(default = "default_max_momentum")]
    pub max_momentum: f64,
    /// `max_lr` over the first rate; above 0.
    #[serde(default = "default_div_factor")]
    pub div_factor: f64,
    /// The first rate over the last; above 0.
    #[serde(default = "default_final_div_factor")]
    pub final_div_factor: f64,
    /// Whether the fall is in two parts.
    #[serde(default)]
    pub three_phase: bool,
}

/// How a one-cycle phase goes from its first value to its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Half a cosine wave.
    #[default]
    Cos,
    /// A straight line.
    Linear,
}

impl OneCycle {
    /// PyTorch's defaults: 30 % rise, cosine, momentum .85 to .95, factors 25 and 10,000, two phases.
    pub fn new(max_lr: f64, total_steps: impl Into<Option<u64>>) -> Self {
        OneCycle {
            max_lr,
            total_steps: total_steps.into(),
            pct_start: default_pct_start(),
            anneal_strategy: Anneal::Cos,
            cycle_momentum: default_cycle_momentum(),
            base_momentum: default_base_momentum(),
            max_momentum: default_max_momentum(),
            div_factor: default_div_factor(),
            final_div_factor: default_final_div_factor(),
            three_phase: false,
        }
    }

    pub(super) fn lr(&self, step: u64) -> f64 {
        let initial_lr = self.max_lr / self.div_factor;
        let min_lr = initial_lr / self.final_div_factor;
        let (phase, fraction) = self.position(step);
        let (start, end) = match (phase, self.three_phase) {
            (Phase::Rise, _) => (initial_lr, self.max_lr),
            (Phase::Return, _) => (self.max_lr, initial_lr),
            (Phase::Fall, false) => (self.max_lr, min_lr),
            (Phase::Fall, true) => (initial_lr, min_lr),
        };
        self.anneal_strategy.between(start, end, fraction)
    }

    pub(super) fn momentum(&self, step: u64) -> Option<f64> {
        let (phase, fraction) = self.position(step);
        let (start, end) = match (phase, self.three_phase) {
            (Phase::Rise, _) => (self.max_momentum, self.base_momentum),
            (Phase::Return, _) | (Phase::Fall, false) => (self.base_momentum, self.max_momentum),
            (Phase::Fall, true) => (self.max_momentum, self.max_momentum),
        };
        self.cycle_momentum.then(|| self.anneal_strategy.between(start, end, fraction))
    }

    /// The phase that a step is in, and how far into it: 0 to 1.
    fn position(&self, step: u64) -> (Phase, f64) {
        // A cycle without an end never leaves its first step.
        let Some(total_steps) = self.total_steps else { return (Phase::Rise, 0.0) };
        let last_step = (total_steps - 1) as f64;
        let step = step.min(total_steps - 1) as f64;
        let rise_steps = self.pct_start * total_steps as f64;
        let rise_end = rise_steps - 1.0;
        if step <= rise_end {
            return (Phase::Rise, step / rise_end);
        }
        if !self.three_phase {
            return (Phase::Fall, (step - rise_end) / (last_step - rise_end));
        }
        let return_end = 2.0 * rise_steps - 2.0;
        if step <= return_end {
            return (Phase::Return, (step - rise_end) / (return_end - rise_end));
        }
        (Phase::Fall, (step - return_end) / (last_step - return_end))
    }

    pub(super) fn validate(&self) -> Result<()> {
        let momentum = |argument, value| require(argument, "from 0, and below 1", value, |x| (0.0..1.0).contains(&x));
        above_zero("max_lr", self.max_lr)?;
        self.total_steps.map_or(Ok(()), |total_steps| at_least_one("total_steps", total_steps))?;
        require("pct_start", "from 0 to 1", self.pct_start, |x| (0.0..=1.0).contains(&x))?;
        if self.total_steps.is_some_and(|total_steps| self.pct_start * total_steps as f64 == 1.0) {
            let expected =
                "a rise longer than the first step (pct_start · total_steps above 1), or pct_start 0 for none";
            return Err(Error::setting("pct_start", expected, self.pct_start));
        }
        momentum("base_momentum", self.base_momentum)?;
        momentum("max_momentum", self.max_momentum)?;
        above_zero("div_factor", self.div_factor)?;
        above_zero("final_div_factor", self.final_div_factor)
    }
}

enum Phase {
    Rise,
    /// Only in three phases: from the highest rate back to the first.
    Return,
    Fall,
}

impl Anneal {
    fn between(self, start: f64, end: f64, fraction: f64) -> f64 {
        match self {
            Anneal::Cos => end + (start - end) / 2.0 * (1.0 + libm::cos(std::f64::consts::PI * fraction)),
            Anneal::Linear => start + (end - start) * fraction,
        }
    }
}

fn default_pct_start() -> f64 {
    0.3
}

fn default_cycle_momentum() -> bool {
    true
}

fn default_base_momentum() -> f64 {
    0.85
}

fn default_max_momentum() -> f64 {
    0.95
}

fn default_div_factor() -> f64 {
    25.0
}

fn default_final_div_factor() -> f64 {
    1e4
}
