//! The learning-rate range test (Smith, "Cyclical Learning Rates for Training Neural Networks", 2015, section 3.3): a
//! short training whose rate grows from step to step, and the loss at each. A good rate is where the loss
//! falls fastest; where it rises, the rate is too high. As in fastai's `lr_find`, the rate grows exponentially. Weights and
//! optimizer states are restored afterwards. What the losses suggest is in `suggest`.

mod suggest;

use serde::Serialize;

use super::Session;
use crate::{Error, Result};

/// How far and how finely rates are tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrFindOptions {
    /// The rate of the first step; above 0. Default 1e-7.
    pub start_lr: f64,
    /// The rate of the last step; above the first. Default 10.
    pub end_lr: f64,
    /// Steps of the optimizer; at least 10. Default 100.
    pub num_steps: u64,
    /// The share of the running mean of the loss that is kept in each step; from 0 and below 1. The running mean decides
    /// when the test ends. Default 0.98.
    pub smoothing: f64,
    /// The test ends when the running mean exceeds its lowest by this factor; above 1. Default 4.
    pub diverges_at: f64,
}

/// A step of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LrPoint {
    /// The learning rate of the step.
    pub lr: f64,
    /// The mean loss of its batches, before the step.
    pub loss: f64,
    /// The losses smoothed with a Gaussian whose width grows with the number of steps. Losses above twice the first ones
    /// count as that much, since one that explodes would hide all others.
    pub smoothed: f64,
}

/// What the test found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LrFind {
    /// The steps, up to the one at which the loss diverged.
    pub points: Vec<LrPoint>,
    /// Whether the loss diverged; if not, a larger [`LrFindOptions::end_lr`] would show more.
    pub diverged: bool,
    /// The rate at which the smoothed loss falls fastest over the logarithm of the rate, on its way to its lowest;
    /// `None` where it does not fall by clearly more than the losses vary from batch to batch.
    pub steepest: Option<f64>,
    /// A tenth of the rate at which the smoothed loss is lowest; `None` for the same reason, or where that is below the
    /// rates that were tried.
    pub minimum_over_10: Option<f64>,
}

/// How many steps are dispatched between two readings of the loss.
const STEPS_PER_READING: u64 = 10;

/// Runs the test on a session's training images, from its present weights.
///
/// # Errors
/// [`Error::Setting`] naming the option that is out of range; [`Error::NonFinite`] where the loss is not finite from the
/// first step on; [`Error::DeviceLost`].
pub fn lr_find(session: &mut Session, options: &LrFindOptions) -> Result<LrFind> {
    options.validate()?;
    let snapshot = session.snapshot()?;
    let found = measure(session, options);
    session.restore(&snapshot, 0)?;
    let (mut points, diverged) = found?;
    let suggest::Suggestions { steepest, minimum_over_10 } = suggest::suggestions(&mut points);
    Ok(LrFind { points, diverged, steepest, minimum_over_10 })
}

/// Trains under growing rates until the loss diverges. The losses are not smoothed yet.
fn measure(session: &mut Session, options: &LrFindOptions) -> Result<(Vec<LrPoint>, bool)> {
    let steps_per_epoch = session.steps_per_epoch() as u64;
    let rates = |step| (options.lr(step), None);
    let (mut points, mut running) = (Vec::new(), Running::new(options));
    let mut done = 0;
    while done < options.num_steps {
        let (epoch, first) = (done / steps_per_epoch, done % steps_per_epoch);
        if first == 0 {
            session.start_epoch(epoch)?;
        }
        let count = STEPS_PER_READING.min(steps_per_epoch - first).min(options.num_steps - done);
        for loss in session.train_steps(epoch, first..first + count, &rates)? {
            if loss.is_finite() {
                points.push(LrPoint { lr: options.lr(done), loss, smoothed: loss });
            }
            if !running.add(loss) {
                return match points.is_empty() {
                    true => Err(options.broken_from_the_start()),
                    false => Ok((points, true)),
                };
            }
            done += 1;
        }
    }
    Ok((points, false))
}

/// The running mean of losses, freed of its bias to 0 (Kingma and Ba, "Adam", 2015, section 3).
struct Running {
    smoothing: f64,
    diverges_at: f64,
    /// With its bias to 0.
    mean: f64,
    num_losses: f64,
    lowest: f64,
}

impl Running {
    fn new(options: &LrFindOptions) -> Self {
        let LrFindOptions { smoothing, diverges_at, .. } = *options;
        Running { smoothing, diverges_at, mean: 0.0, num_losses: 0.0, lowest: f64::INFINITY }
    }

    /// Takes in the loss of the next step; false if it diverges.
    fn add(&mut self, loss: f64) -> bool {
        self.mean = self.smoothing * self.mean + (1.0 - self.smoothing) * loss;
        self.num_losses += 1.0;
        self.lowest = self.lowest.min(self.value());
        loss.is_finite() && self.value() <= self.diverges_at * self.lowest
    }

    fn value(&self) -> f64 {
        self.mean / (1.0 - libm::pow(self.smoothing, self.num_losses))
    }
}

impl LrFindOptions {
    /// The rate of a step, counted from 0: `start · (end / start)^(step / (num_steps − 1))`.
    fn lr(&self, step: u64) -> f64 {
        let fraction = step as f64 / (self.num_steps - 1) as f64;
        self.start_lr * libm::pow(self.end_lr / self.start_lr, fraction)
    }

    fn validate(&self) -> Result<()> {
        let LrFindOptions { start_lr, end_lr, num_steps, smoothing, diverges_at } = *self;
        if !(start_lr.is_finite() && start_lr > 0.0) {
            return Err(Error::setting("start_lr", "a number above 0", start_lr));
        }
        if !(end_lr.is_finite() && end_lr > start_lr) {
            return Err(Error::setting(
                "end_lr",
                format!("a number above the rate of the first step, {start_lr}"),
                end_lr,
            ));
        }
        if num_steps < 10 {
            return Err(Error::setting("steps", "at least 10", num_steps));
        }
        if !(0.0..1.0).contains(&smoothing) {
            return Err(Error::setting("smoothing", "a number from 0, and below 1", smoothing));
        }
        if !(diverges_at.is_finite() && diverges_at > 1.0) {
            return Err(Error::setting("diverges_at", "a number above 1", diverges_at));
        }
        Ok(())
    }

    fn broken_from_the_start(&self) -> Error {
        Error::NonFinite { what: "training loss", epoch: 1, step: 1, lr: self.start_lr, layer: None }
    }
}

impl Default for LrFindOptions {
    fn default() -> Self {
        LrFindOptions { start_lr: 1e-7, end_lr: 10.0, num_steps: 100, smoothing: 0.98, diverges_at: 4.0 }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    #[test]
    fn the_test_ends_where_the_running_mean_diverges() {
        // (losses, smoothing, the running mean after each up to the end, why)
        type Case<'a> = (&'a [f64], f64, &'a [f64], &'a str);
        let cases: [Case; 5] = [
            (&[2.0, 2.0, 2.0], 0.98, &[2.0, 2.0, 2.0], "a constant stays, from the first step on"),
            (&[2.0, 1.0, 3.0], 0.0, &[2.0, 1.0, 3.0], "without smoothing each stands for itself"),
            (&[3.0, 0.0], 0.5, &[3.0, 1.0], "weights 1 : 2, the older the less"),
            (&[1.0, 4.5, 1.0], 0.0, &[1.0], "more than four times the lowest is the end"),
            (&[1.0, f64::NAN, 1.0], 0.0, &[1.0], "so is a value that is none"),
        ];
        for (losses, smoothing, want, why) in cases {
            let mut running = Running::new(&LrFindOptions { smoothing, ..LrFindOptions::default() });
            let got: Vec<f64> = losses.iter().map_while(|&loss| running.add(loss).then(|| running.value())).collect();
            assert_eq!(got.len(), want.len(), "{why}");
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{why}: {got:?}");
        }
    }

    #[test]
    fn options_out_of_range_are_named() {
        let usual = LrFindOptions::default;
        for (options, name) in [
            (LrFindOptions { start_lr: 0.0, ..usual() }, "start_lr"),
            (LrFindOptions { end_lr: 1e-7, ..usual() }, "end_lr"),
            (LrFindOptions { num_steps: 9, ..usual() }, "steps"),
            (LrFindOptions { smoothing: 1.0, ..usual() }, "smoothing"),
            (LrFindOptions { diverges_at: f64::NAN, ..usual() }, "diverges_at"),
        ] {
            let error = options.validate().unwrap_err();
            assert!(error.is_usage() && error.to_string().starts_with(name), "{error}");
        }
        usual().validate().unwrap();
    }
}
