//! Learning-rate schedules as pure functions of the step, in f64: PyTorch's `torch.optim.lr_scheduler` in closed form.
//! The trainer asks for the rate of a step and writes a table of them to the device; nothing here knows an optimizer, a
//! clock or a device. Powers and cosines come from `libm`, so a schedule has the same bits on every platform.
//!
//! The tables show the rate *used in* each step, from step 0, with a base rate of 0.1.

mod kind;
mod one_cycle;
mod plateau;
mod run;
mod sequence;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use kind::Description;

pub use kind::{Factor, Kind};
pub use one_cycle::{Anneal, OneCycle};
pub use plateau::{Mode, PlateauOptions, PlateauState, ReduceLrOnPlateau, ThresholdMode};

/// A learning-rate schedule. Valid by construction: every constructor, and reading one from a file, checks the
/// arguments and names the one that is wrong as PyTorch calls it.
///
/// Serialised it is its description, such as `{"kind": "step", "step_size": 30, "gamma": 0.1, "interval": "epoch"}`.
/// What a plateau has seen is state, kept apart in [`plateau_states`](Self::plateau_states).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Description", into = "Description")]
pub struct Schedule {
    kind: Kind,
    interval: Interval,
}

/// How often a schedule steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Once an epoch: step t is epoch t, counted from 0.
    Epoch,
    /// Once a batch: step t is the t-th optimizer step of the run, counted from 0.
    Batch,
}

impl Schedule {
    /// A schedule of this kind, stepping per batch for one-cycle and per epoch for all others.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) naming the argument that the kind's constructor does not allow.
    pub fn new(kind: Kind) -> Result<Self> {
        kind.validate()?;
        let interval = kind.default_interval();
        Ok(Schedule { kind, interval })
    }

    /// The base rate throughout.
    pub fn constant() -> Self {
        Schedule { kind: Kind::Constant {}, interval: Interval::Epoch }
    }

    /// `base · gamma^⌊t / step_size⌋` (`StepLR`).
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
    /// |---|---|---|---|---|---|---|---|
    /// | `step(2, 0.5)` | 0.1 | 0.1 | 0.05 | 0.05 | 0.025 | 0.025 | 0.0125 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `step_size` is at least 1 and `gamma` is finite and above 0.
    pub fn step(step_size: u64, gamma: f64) -> Result<Self> {
        Schedule::new(Kind::Step { step_size, gamma })
    }

    /// `base · gamma^n`, n the number of milestones up to and including t; one given twice counts twice
    /// (`MultiStepLR`).
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
    /// |---|---|---|---|---|---|---|---|
    /// | `multi_step([2, 5], 0.1)` | 0.1 | 0.1 | 0.01 | 0.01 | 0.01 | 0.001 | 0.001 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless every milestone is at least 1 and `gamma` is finite and above 0.
    pub fn multi_step(milestones: impl Into<Vec<u64>>, gamma: f64) -> Result<Self> {
        Schedule::new(Kind::MultiStep { milestones: milestones.into(), gamma })
    }

    /// `base · gamma^t` (`ExponentialLR`).
    ///
    /// | t | 0 | 1 | 2 | 3 |
    /// |---|---|---|---|---|
    /// | `exponential(0.9)` | 0.1 | 0.09 | 0.081 | 0.0729 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `gamma` is finite and above 0.
    pub fn exponential(gamma: f64) -> Result<Self> {
        Schedule::new(Kind::Exponential { gamma })
    }

    /// `base · (start_factor + (end_factor − start_factor) · min(t, T) / T)` with `T = total_iters` (`LinearLR`).
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 |
    /// |---|---|---|---|---|---|---|
    /// | `linear(0.2, 1.0, 4)` | 0.02 | 0.04 | 0.06 | 0.08 | 0.1 | 0.1 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `start_factor` is in (0, 1], `end_factor` in [0, 1] and `total_iters` at least 1.
    pub fn linear(start_factor: f64, end_factor: f64, total_iters: u64) -> Result<Self> {
        Schedule::new(Kind::Linear { start_factor, end_factor, total_iters })
    }

    /// `base · factor` while t is below `total_iters`, then `base` (`ConstantLR`).
    ///
    /// | t | 0 | 1 | 2 | 3 |
    /// |---|---|---|---|---|
    /// | `constant_factor(0.25, 2)` | 0.025 | 0.025 | 0.1 | 0.1 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `factor` is in [0, 1].
    pub fn constant_factor(factor: f64, total_iters: u64) -> Result<Self> {
        Schedule::new(Kind::ConstantFactor { factor, total_iters })
    }

    /// `base · (1 − min(t, T) / T)^power` with `T = total_iters` (`PolynomialLR`): 0 from T on.
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 |
    /// |---|---|---|---|---|---|---|
    /// | `polynomial(4, 2.0)` | 0.1 | 0.05625 | 0.025 | 0.00625 | 0 | 0 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `total_iters` is at least 1 and `power` is finite and above 0.
    pub fn polynomial(total_iters: u64, power: f64) -> Result<Self> {
        Schedule::new(Kind::Polynomial { total_iters, power })
    }

    /// `eta_min + (base − eta_min) · (1 + cos(π · t / t_max)) / 2` (`CosineAnnealingLR`; Loshchilov and Hutter, "SGDR",
    /// 2017, eq. 5). Past `t_max` it climbs again, with period `2 · t_max`. `t_max` is a number of steps, or `None` for
    /// all that the run has left, see [`for_run`](Self::for_run).
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
    /// |---|---|---|---|---|---|---|---|
    /// | `cosine(4, 0.001)` | 0.1 | 0.0855018 | 0.0505 | 0.0154982 | 0.001 | 0.0154982 | 0.0505 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `t_max` is at least 1 and `eta_min` is finite and not negative.
    pub fn cosine(t_max: impl Into<Option<u64>>, eta_min: f64) -> Result<Self> {
        Schedule::new(Kind::Cosine { t_max: t_max.into(), eta_min })
    }

    /// Cosine annealing that starts again at the base rate, first after `t_0` steps, then each time after `t_mult`
    /// times as many (`CosineAnnealingWarmRestarts`; Loshchilov and Hutter, "SGDR", 2017).
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 |
    /// |---|---|---|---|---|---|---|---|---|
    /// | `cosine_warm_restarts(2, 2, 0.0)` | 0.1 | 0.05 | 0.1 | 0.0853553 | 0.05 | 0.0146447 | 0.1 | 0.096194 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `t_0` and `t_mult` are at least 1 and `eta_min` is finite and not negative.
    pub fn cosine_warm_restarts(t_0: u64, t_mult: u64, eta_min: f64) -> Result<Self> {
        Schedule::new(Kind::CosineWarmRestarts { t_0, t_mult, eta_min })
    }

    /// Up to `max_lr` and down to almost nothing, with the momentum the other way round; see [`OneCycle`]. It brings
    /// its own rates, so the base rate has no effect. Steps per batch.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) naming the argument that [`OneCycle`] says is out of range.
    pub fn one_cycle(options: OneCycle) -> Result<Self> {
        Schedule::new(Kind::OneCycle(options))
    }

    /// Cuts the rate whenever a metric stops improving; see [`ReduceLrOnPlateau`]. The rate depends on what was
    /// [observed](Self::observe), not on the step.
    pub fn plateau(plateau: ReduceLrOnPlateau) -> Self {
        Schedule { kind: Kind::Plateau(plateau), interval: Interval::Epoch }
    }

    /// `base · factor(t)` (`LambdaLR`). Code cannot be written to a file, so serialising this one is an error.
    ///
    /// | t | 0 | 1 | 2 | 3 |
    /// |---|---|---|---|---|
    /// | <code>lambda(&#124;t&#124; 1.0 / (1.0 + t as f64))</code> | 0.1 | 0.05 | 0.0333333 | 0.025 |
    pub fn lambda(factor: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Schedule { kind: Kind::Lambda(Factor(Arc::new(factor))), interval: Interval::Epoch }
    }

    /// One schedule after another (`SequentialLR`): the next begins at its milestone, with its own step 0 and with the
    /// *base* rate, not the one the schedule before it ended on. Unlike PyTorch's, a part may be a plateau; it sees
    /// only what is observed while it is active.
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 | 5 |
    /// |---|---|---|---|---|---|---|
    /// | `sequential([linear(0.5, 1.0, 2), exponential(0.9)], [3])` | 0.05 | 0.075 | 0.1 | 0.1 | 0.09 | 0.081 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless there is a schedule, one milestone fewer than schedules, the milestones rise from at
    /// least 1, and all schedules step at the same interval (plateaus and constants go with any).
    pub fn sequential(schedules: impl Into<Vec<Schedule>>, milestones: impl Into<Vec<u64>>) -> Result<Self> {
        Schedule::new(Kind::Sequential { schedules: schedules.into(), milestones: milestones.into() })
    }

    /// A linear rise from `start_factor · base` over `num_steps` steps, then another schedule from its step 0:
    /// `LinearLR` and `SequentialLR`. The rise has the other schedule's interval.
    ///
    /// | t | 0 | 1 | 2 | 3 | 4 |
    /// |---|---|---|---|---|---|
    /// | `warm_up(0.5, 2, exponential(0.9))` | 0.05 | 0.075 | 0.1 | 0.09 | 0.081 |
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `start_factor` is in (0, 1] and `num_steps` at least 1.
    pub fn warm_up(start_factor: f64, num_steps: u64, then: Schedule) -> Result<Self> {
        let rise = Schedule::linear(start_factor, 1.0, num_steps)?.stepping(then.interval);
        Schedule::sequential([rise, then], [num_steps])
    }

    /// The same schedule, stepping at this interval; a sequence's parts with it. The default is per batch for one-cycle
    /// and per epoch for all others.
    pub fn stepping(mut self, interval: Interval) -> Self {
        self.interval = interval;
        if let Kind::Sequential { schedules, .. } = &mut self.kind {
            *schedules = schedules.drain(..).map(|schedule| schedule.stepping(interval)).collect();
        }
        self
    }

    /// What kind of schedule it is, with its arguments.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// How often the schedule steps.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// The learning rate used in step `step`, counted from 0 in units of [`interval`](Self::interval). For a plateau,
    /// the rate after all that was observed so far.
    pub fn lr(&self, base_lr: f64, step: u64) -> f64 {
        // Steps stay far below 2^53, up to which f64 holds every integer.
        let t = step as f64;
        match &self.kind {
            Kind::Constant {} => base_lr,
            Kind::Step { step_size, gamma } => base_lr * libm::pow(*gamma, (step / step_size) as f64),
            Kind::MultiStep { milestones, gamma } => {
                let num_passed = milestones.iter().filter(|&&milestone| milestone <= step).count();
                base_lr * libm::pow(*gamma, num_passed as f64)
            }
            Kind::Exponential { gamma } => base_lr * libm::pow(*gamma, t),
            Kind::Linear { start_factor, end_factor, total_iters } => {
                base_lr * (start_factor + (end_factor - start_factor) * progress(step, *total_iters))
            }
            Kind::ConstantFactor { factor, total_iters } => base_lr * if step < *total_iters { *factor } else { 1.0 },
            Kind::Polynomial { total_iters, power } => base_lr * libm::pow(1.0 - progress(step, *total_iters), *power),
            // Over a time without end it does not fall at all.
            Kind::Cosine { t_max, eta_min } => cosine(base_lr, *eta_min, t_max.map_or(0.0, |t_max| t / t_max as f64)),
            Kind::CosineWarmRestarts { t_0, t_mult, eta_min } => {
                let (since_restart, len) = position_in_restarts(step, *t_0, *t_mult);
                cosine(base_lr, *eta_min, since_restart as f64 / len as f64)
            }
            Kind::OneCycle(options) => options.lr(step),
            Kind::Sequential { schedules, milestones } => {
                let (active, own_step) = sequence::active(milestones, step);
                schedules[active].lr(base_lr, own_step)
            }
            Kind::Plateau(plateau) => plateau.lr(base_lr),
            Kind::Lambda(factor) => base_lr * (factor.0)(step),
        }
    }

    /// The momentum (Adam: β1) to use in step `step`, where the schedule cycles it; otherwise the optimizer's own
    /// stands.
    pub fn momentum(&self, step: u64) -> Option<f64> {
        match &self.kind {
            Kind::OneCycle(options) => options.momentum(step),
            Kind::Sequential { schedules, milestones } => {
                let (active, own_step) = sequence::active(milestones, step);
                schedules[active].momentum(own_step)
            }
            _ => None,
        }
    }
}

/// Half a cosine wave from `base_lr` at 0 down to `eta_min` at 1.
fn cosine(base_lr: f64, eta_min: f64, fraction: f64) -> f64 {
    eta_min + (base_lr - eta_min) * (1.0 + libm::cos(std::f64::consts::PI * fraction)) / 2.0
}

/// How much of `total` steps is done at `step`: 0 to 1.
fn progress(step: u64, total: u64) -> f64 {
    step.min(total) as f64 / total as f64
}

/// The steps since the last restart and the length of the current period.
fn position_in_restarts(step: u64, t_0: u64, t_mult: u64) -> (u64, u64) {
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
