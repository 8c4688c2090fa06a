//! The one-cycle policy: one rise and one long fall of the learning rate, with the momentum the other way round.

use serde::{Deserialize, Serialize};

use super::curve::{At, Curve, Steps, above_zero, at_least_one, number, require};
use super::{Interval, Schedule};
use crate::registry::{Described, Setting, Takes};
use crate::{Error, Result};

/// The arguments of `OneCycleLR` (Smith and Topin, "Super-convergence", 2018), by PyTorch's names. The rate goes from
/// `max_lr / div_factor` up to `max_lr` and down to `max_lr / div_factor / final_div_factor`; the momentum from
/// `max_momentum` to `base_momentum` and back. In three phases the rate first falls to where it started, as fast as it
/// rose, and then to the end.
///
/// The first phase ends at the fractional step `pct_start · total_steps − 1`, as PyTorch's does.
///
/// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |
/// |---|---|---|---|---|---|---|---|---|---|---|
/// | lr of `OneCycle::new(0.1, 10)` | .004 | .052 | .1 | .0950485 | .0811746 | .0611262 | .0388742 | .0188258 | .00495194 | 4e-7 |
/// | momentum | .95 | .9 | .85 | .854952 | .868826 | .888874 | .911126 | .931174 | .945048 | .95 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// The highest rate; above 0. Default: the base rate (PyTorch has no default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lr: Option<f64>,
    /// The steps of the whole cycle; at least 1. Past the end the last step's values stay (PyTorch raises an error).
    /// Default: the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
    /// The share of the cycle in which the rate rises, from 0 to 1; default 0.3. Not `1 / total_steps`: the rise would
    /// have no length, where PyTorch divides by zero.
    pub pct_start: f64,
    /// The shape of rise and fall.
    pub anneal_strategy: Anneal,
    /// Whether the momentum cycles too. Default true.
    pub cycle_momentum: bool,
    /// The lowest momentum, from 0 and below 1. Default 0.85.
    pub base_momentum: f64,
    /// The highest momentum, from 0 and below 1. Default 0.95.
    pub max_momentum: f64,
    /// `max_lr` over the first rate; above 0. Default 25.
    pub div_factor: f64,
    /// The first rate over the last; above 0. Default 10,000.
    pub final_div_factor: f64,
    /// Whether the fall is in two parts. Default false.
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
    /// A cycle up to `max_lr` over so many steps, or over the whole run, with PyTorch's defaults otherwise.
    pub fn new(max_lr: f64, total_steps: impl Into<Option<u64>>) -> Self {
        OneCycle { max_lr: Some(max_lr), total_steps: total_steps.into(), ..OneCycle::default() }
    }

    /// The phase that a step is in, and how far into it: 0 to 1.
    fn position(&self, at: At) -> (Phase, f64) {
        // A cycle without an end never leaves its first step.
        let Some(total_steps) = self.total_steps.or(at.num_steps) else { return (Phase::Rise, 0.0) };
        let last_step = (total_steps - 1) as f64;
        let step = at.step.min(total_steps - 1) as f64;
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

    /// A momentum that is not cycled has no bounds.
    fn check_idle_momentum(&self) -> Result<()> {
        let usual = OneCycle::default();
        let bounds = [
            ("base_momentum", self.base_momentum, usual.base_momentum),
            ("max_momentum", self.max_momentum, usual.max_momentum),
        ];
        match bounds.into_iter().find(|(_, got, usual)| !self.cycle_momentum && got != usual) {
            Some((argument, got, _)) => Err(Error::setting(argument, "a cycle of the momentum for it to bound", got)),
            None => Ok(()),
        }
    }

    fn check_rise(&self, total_steps: u64) -> Result<()> {
        if self.pct_start * total_steps as f64 == 1.0 {
            let expected =
                "a rise longer than the first step (pct_start · total_steps above 1), or pct_start 0 for none";
            return Err(Error::setting("pct_start", expected, self.pct_start));
        }
        Ok(())
    }
}

impl Schedule {
    /// Up to `max_lr` and down to almost nothing, with the momentum the other way round; see [`OneCycle`]. Steps per
    /// batch.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the argument that [`OneCycle`] says is out of range.
    pub fn one_cycle(options: OneCycle) -> Result<Self> {
        Schedule::new(options)
    }
}

impl Default for OneCycle {
    fn default() -> Self {
        OneCycle {
            max_lr: None,
            total_steps: None,
            pct_start: 0.3,
            anneal_strategy: Anneal::Cos,
            cycle_momentum: true,
            base_momentum: 0.85,
            max_momentum: 0.95,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }
}

impl Described for OneCycle {
    const NAME: &'static str = "one_cycle";
    const ABOUT: &'static str =
        "Rise to the highest rate, then fall to almost 0, and move momentum the other way (OneCycleLR)";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("max_lr", Takes::Number, "The highest rate; by default the learning rate"),
        Setting::new("total_steps", Takes::Count, "Steps of the cycle; by default those of the run"),
        Setting::new("pct_start", Takes::Number, "Share of the cycle in which the rate rises"),
        Setting::new("anneal_strategy", Takes::Word(&["cos", "linear"]), "Shape of the rise and the fall"),
        Setting::new("cycle_momentum", Takes::Switch, "Cycle the momentum (Adam: the first beta) too"),
        Setting::new("base_momentum", Takes::Number, "Momentum at the highest rate"),
        Setting::new("max_momentum", Takes::Number, "Momentum at the ends"),
        Setting::new("div_factor", Takes::Number, "Ratio of the highest rate to the first"),
        Setting::new("final_div_factor", Takes::Number, "Ratio of the first rate to the last"),
        Setting::new("three_phase", Takes::Switch, "Fall first to the rate at which the rise began, then to the end"),
    ];
}

impl Curve for OneCycle {
    fn validate(&self) -> Result<()> {
        let momentum = |argument, value| require(argument, "from 0, and below 1", value, |x| (0.0..1.0).contains(&x));
        self.max_lr.map_or(Ok(()), |max_lr| above_zero("max_lr", max_lr))?;
        require("pct_start", "from 0 to 1", self.pct_start, |x| (0.0..=1.0).contains(&x))?;
        if let Some(total_steps) = self.total_steps {
            at_least_one("total_steps", total_steps)?;
            self.check_rise(total_steps)?;
        }
        momentum("base_momentum", self.base_momentum)?;
        momentum("max_momentum", self.max_momentum)?;
        self.check_idle_momentum()?;
        above_zero("div_factor", self.div_factor)?;
        above_zero("final_div_factor", self.final_div_factor)
    }

    fn lr(&self, base_lr: f64, at: At) -> f64 {
        let max_lr = self.max_lr.unwrap_or(base_lr);
        let initial_lr = max_lr / self.div_factor;
        let min_lr = initial_lr / self.final_div_factor;
        let (phase, fraction) = self.position(at);
        let (start, end) = match (phase, self.three_phase) {
            (Phase::Rise, _) => (initial_lr, max_lr),
            (Phase::Return, _) => (max_lr, initial_lr),
            (Phase::Fall, false) => (max_lr, min_lr),
            (Phase::Fall, true) => (initial_lr, min_lr),
        };
        self.anneal_strategy.between(start, end, fraction)
    }

    fn momentum(&self, at: At) -> Option<f64> {
        let (phase, fraction) = self.position(at);
        let (start, end) = match (phase, self.three_phase) {
            (Phase::Rise, _) => (self.max_momentum, self.base_momentum),
            (Phase::Return, _) | (Phase::Fall, false) => (self.base_momentum, self.max_momentum),
            (Phase::Fall, true) => (self.max_momentum, self.max_momentum),
        };
        self.cycle_momentum.then(|| self.anneal_strategy.between(start, end, fraction))
    }

    fn interval(&self) -> Option<Interval> {
        Some(Interval::Batch)
    }

    fn open_length(&self) -> Option<&'static str> {
        self.total_steps.is_none().then_some("total_steps")
    }

    fn check_num_steps(&self, num_steps: u64) -> Result<()> {
        match self.total_steps {
            Some(total_steps) if num_steps > total_steps => {
                let expected = format!("at least the {num_steps} steps of the run, or none to follow it");
                Err(Error::setting("total_steps", expected, total_steps))
            }
            Some(_) => Ok(()),
            // The rise depends on the length.
            None => self.check_rise(num_steps),
        }
    }

    fn phrase(&self, steps: Steps) -> String {
        let max_lr = self.max_lr.map_or_else(|| "the rate".to_owned(), number);
        let (low, high) = (number(self.base_momentum), number(self.max_momentum));
        let momentum =
            if self.cycle_momentum { format!(", momentum from {high} to {low} and back") } else { String::new() };
        format!("one cycle up to {max_lr} {}{momentum}", steps.over(self.total_steps))
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
