//! The learning-rate range test (Smith, "Cyclical Learning Rates for Training Neural Networks", 2015, section 3.3): a
//! short training whose rate grows from step to step, and the loss at each. A good rate is where the loss
//! falls fastest; where it rises, the rate is too high. As in fastai's `lr_find`, the rate grows exponentially and the
//! loss is smoothed. Weights and optimizer states are restored afterwards.

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
    /// The share of the running mean of the loss that is kept in each step; from 0 and below 1. Default 0.98.
    pub smoothing: f64,
    /// The test ends when the smoothed loss exceeds the lowest by this factor; above 1. Default 4.
    pub diverges_at: f64,
}

/// A step of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LrPoint {
    /// The learning rate of the step.
    pub lr: f64,
    /// The mean loss of its batches, before the step.
    pub loss: f64,
    /// The running mean of losses, freed of its bias to 0 (Kingma and Ba, "Adam", 2015, section 3).
    pub smoothed: f64,
}

/// What the test found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LrFind {
    /// The steps, up to the one at which the loss diverged.
    pub points: Vec<LrPoint>,
    /// Whether the loss diverged; if not, a larger [`LrFindOptions::end_lr`] would show more.
    pub diverged: bool,
    /// The rate at which the smoothed loss falls fastest over the logarithm of the rate, among those up to the rate at
    /// which it is lowest; `None` where it never falls. Beyond its lowest point a loss only falls after it has risen.
    pub steepest: Option<f64>,
    /// A tenth of the rate at which the smoothed loss is lowest; `None` where that is the first, as the loss never falls.
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
    let (points, diverged) = found?;
    let (steepest, minimum_over_10) = suggestions(&points);
    Ok(LrFind { points, diverged, steepest, minimum_over_10 })
}

/// Trains under growing rates until the loss diverges.
fn measure(session: &mut Session, options: &LrFindOptions) -> Result<(Vec<LrPoint>, bool)> {
    let steps_per_epoch = session.steps_per_epoch() as u64;
    let rates = |step| (options.lr(step), None);
    let mut losses = Smoothed::new(options);
    let mut done = 0;
    while done < options.num_steps {
        let (epoch, first) = (done / steps_per_epoch, done % steps_per_epoch);
        if first == 0 {
            session.start_epoch(epoch)?;
        }
        let count = STEPS_PER_READING.min(steps_per_epoch - first).min(options.num_steps - done);
        for loss in session.train_steps(epoch, first..first + count, &rates)? {
            if !losses.add(options.lr(done), loss) {
                return match losses.points.is_empty() {
                    true => Err(options.broken_from_the_start()),
                    false => Ok((losses.points, true)),
                };
            }
            done += 1;
        }
    }
    Ok((losses.points, false))
}

/// The losses so far.
struct Smoothed {
    smoothing: f64,
    diverges_at: f64,
    /// The running mean, with its bias to 0.
    mean: f64,
    lowest: f64,
    points: Vec<LrPoint>,
}

impl Smoothed {
    fn new(options: &LrFindOptions) -> Self {
        let LrFindOptions { smoothing, diverges_at, .. } = *options;
        Smoothed { smoothing, diverges_at, mean: 0.0, lowest: f64::INFINITY, points: Vec::new() }
    }

    /// Takes in the loss of the next step; false if it diverges. A loss that is not finite is no point.
    fn add(&mut self, lr: f64, loss: f64) -> bool {
        if !loss.is_finite() {
            return false;
        }
        self.mean = self.smoothing * self.mean + (1.0 - self.smoothing) * loss;
        // A number of steps, far below 2^53.
        let num_points = self.points.len() as f64 + 1.0;
        let smoothed = self.mean / (1.0 - libm::pow(self.smoothing, num_points));
        self.points.push(LrPoint { lr, loss, smoothed });
        self.lowest = self.lowest.min(smoothed);
        smoothed <= self.diverges_at * self.lowest
    }
}

/// The rate of the steepest descent and a tenth of the rate of the minimum. As in fastai's, the first tenth of the points
/// and the last five are left out: the mean has hardly begun there, and the loss is on its way up here.
fn suggestions(points: &[LrPoint]) -> (Option<f64>, Option<f64>) {
    let usable = points.get(points.len() / 10..points.len().saturating_sub(5)).unwrap_or_default();
    let slope = |pair: &[LrPoint]| (pair[1].smoothed - pair[0].smoothed) / (pair[1].lr / pair[0].lr).ln();
    let lowest = (0..usable.len()).min_by(|&a, &b| usable[a].smoothed.total_cmp(&usable[b].smoothed));
    let Some(lowest) = lowest.filter(|&lowest| lowest > 0) else { return (None, None) };
    let descent = &usable[..=lowest];
    let steepest = descent.windows(2).min_by(|a, b| slope(a).total_cmp(&slope(b)));
    let steepest = steepest.filter(|pair| slope(pair) < 0.0).map(|pair| pair[0].lr);
    (steepest, Some(usable[lowest].lr / 10.0))
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

    fn smoothed(losses: &[f64], smoothing: f64) -> (Vec<f64>, usize) {
        let mut state = Smoothed::new(&LrFindOptions { smoothing, ..LrFindOptions::default() });
        let taken = losses.iter().take_while(|&&loss| state.add(1.0, loss)).count();
        (state.points.iter().map(|point| point.smoothed).collect(), taken)
    }

    #[test]
    fn losses_are_smoothed_without_bias_until_they_diverge() {
        // (losses, smoothing, what they become, how many are before the divergence, why)
        type Case<'a> = (&'a [f64], f64, &'a [f64], usize, &'a str);
        let cases: [Case; 5] = [
            (&[2.0, 2.0, 2.0], 0.98, &[2.0, 2.0, 2.0], 3, "a constant stays, from the first step on"),
            (&[2.0, 1.0, 3.0], 0.0, &[2.0, 1.0, 3.0], 3, "without smoothing each stands for itself"),
            (&[3.0, 0.0], 0.5, &[3.0, 1.0], 2, "weights 1 : 2, the older the less"),
            (&[1.0, 4.5, 1.0], 0.0, &[1.0, 4.5], 1, "more than four times the lowest is the end, and the last point"),
            (&[1.0, f64::NAN, 1.0], 0.0, &[1.0], 1, "so is a value that is none, without a point"),
        ];
        for (losses, smoothing, want, num_taken, why) in cases {
            let (got, taken) = smoothed(losses, smoothing);
            assert_eq!((got.len(), taken), (want.len(), num_taken), "{why}");
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{why}: {got:?}");
        }
    }

    #[test]
    fn suggestions_are_where_the_loss_falls_fastest_and_a_tenth_of_its_minimum() {
        let options = LrFindOptions { start_lr: 1e-5, end_lr: 1.0, num_steps: 51, ..LrFindOptions::default() };
        let points = |loss: &dyn Fn(f64) -> f64| -> Vec<LrPoint> {
            let point = |step| {
                let lr = options.lr(step);
                LrPoint { lr, loss: loss(lr.log10()), smoothed: loss(lr.log10()) }
            };
            (0..51).map(point).collect()
        };
        // A bowl around 1e-2, steepest where its parabola begins; points are a tenth of a power of ten apart.
        let bowl = |power: f64| if power < -4.0 { 4.0 } else { (power + 2.0).powi(2) };
        let (steepest, lowest) = suggestions(&points(&bowl));
        assert!((steepest.unwrap().log10() + 4.0).abs() < 0.11, "{steepest:?}");
        assert!((lowest.unwrap().log10() + 3.0).abs() < 1e-9, "{lowest:?}");
        // After a leap the loss falls back, faster than it ever fell before: no rate to train with.
        let leap = |power: f64| bowl(power) + if (-1.0..-0.9).contains(&power) { 90.0 } else { 0.0 };
        assert_eq!(suggestions(&points(&leap)), suggestions(&points(&bowl)));
        assert_eq!(suggestions(&points(&|power| power)), (None, None), "a loss that only climbs falls nowhere");
        assert_eq!(suggestions(&points(&bowl)[..5]), (None, None), "five points are all left out");
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
