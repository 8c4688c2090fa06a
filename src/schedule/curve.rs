//! What every schedule is made of: a curve, which gives the rate of a step, and what its arguments may be.

use super::{Interval, Plateau};
use crate::{Error, Result};

/// The curve that a learning rate follows: what each schedule of the registry implements.
pub trait Curve {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the argument that is out of the range its field documents.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The learning rate used in a step.
    fn lr(&self, base_lr: f64, at: At) -> f64;

    /// The momentum (Adam: β1) used in a step, where the schedule cycles it.
    fn momentum(&self, at: At) -> Option<f64> {
        let _ = at;
        None
    }

    /// How often it steps unless told otherwise; `None` if it counts no steps and so goes with any interval.
    fn interval(&self) -> Option<Interval> {
        Some(Interval::Epoch)
    }

    /// The argument that is a length and was left open, so that it is as long as the run.
    fn open_length(&self) -> Option<&'static str> {
        None
    }

    /// Checks that it goes with a run in which it has so many steps.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the argument that the run is too long or too short for.
    fn check_num_steps(&self, num_steps: u64) -> Result<()> {
        let _ = num_steps;
        Ok(())
    }

    /// A phrase for a line about the run: "times 0.1 every 30 epochs".
    fn phrase(&self, steps: Steps) -> String;

    /// Itself, if it depends on what was observed.
    fn as_plateau(&self) -> Option<&Plateau> {
        None
    }
}

/// Where a run stands, for the schedule that is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The step, counted from 0 where the schedule begins.
    pub step: u64,
    /// The steps that the run has for the schedule; `None` while no run is known.
    pub num_steps: Option<u64>,
    /// The cuts that a plateau has decided so far.
    pub num_cuts: u64,
}

/// How a schedule counts, for phrases about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// What a step is.
    pub interval: Interval,
    /// The steps that the run has for the schedule; `None` while no run is known.
    pub num_steps: Option<u64>,
}

impl At {
    /// The step as a number. Steps stay far below 2^53, up to which f64 holds every integer.
    pub(super) fn t(&self) -> f64 {
        self.step as f64
    }

    /// How much of a length, or of the run where it was left open, is done: 0 to 1. While no run is known, a length that
    /// was left open has no end, so nothing of it is done.
    pub(super) fn progress(&self, len: Option<u64>) -> f64 {
        len.or(self.num_steps).map_or(0.0, |len| self.step.min(len) as f64 / len as f64)
    }
}

impl Steps {
    /// "epoch" or "step".
    pub fn one(&self) -> &'static str {
        match self.interval {
            Interval::Epoch => "epoch",
            Interval::Batch => "step",
        }
    }

    /// "epochs" or "steps".
    pub fn many(&self) -> &'static str {
        match self.interval {
            Interval::Epoch => "epochs",
            Interval::Batch => "steps",
        }
    }

    /// "1 epoch", "30 epochs".
    pub fn times(&self, count: u64) -> String {
        if count == 1 { format!("1 {}", self.one()) } else { format!("{count} {}", self.many()) }
    }

    /// "epoch", "30 epochs": what follows "every".
    pub fn every(&self, count: u64) -> String {
        if count == 1 { self.one().to_owned() } else { self.times(count) }
    }

    /// "over 30 epochs", of a length that may have been left open.
    pub fn over(&self, len: Option<u64>) -> String {
        let len = len.or(self.num_steps);
        len.map_or_else(|| "to the end of the run".to_owned(), |len| format!("over {}", self.times(len)))
    }
}

/// Fails, naming the argument, unless `holds`. NaN should fail every `holds`.
pub(super) fn require(argument: &str, expected: &str, got: f64, holds: impl Fn(f64) -> bool) -> Result<()> {
    if holds(got) { Ok(()) } else { Err(Error::setting(argument, expected, got)) }
}

pub(super) fn above_zero(argument: &str, got: f64) -> Result<()> {
    require(argument, "a number above 0", got, |x| x.is_finite() && x > 0.0)
}

pub(super) fn not_negative(argument: &str, got: f64) -> Result<()> {
    require(argument, "a number of at least 0", got, |x| x.is_finite() && x >= 0.0)
}

pub(super) fn at_least_one(argument: &str, got: u64) -> Result<()> {
    if got >= 1 { Ok(()) } else { Err(Error::setting(argument, "at least 1", got)) }
}

/// The value of an argument that PyTorch has no default for either.
pub(super) fn given<T: Copy>(argument: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::setting(argument, "to be given, as it has no default", "nothing"))
}

/// To four digits.
pub(super) fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    if rounded == 0.0 || (1e-4..1e6).contains(&rounded.abs()) { rounded.to_string() } else { format!("{rounded:e}") }
}
