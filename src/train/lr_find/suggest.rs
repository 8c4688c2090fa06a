//! What the losses of a range test suggest: rates on the way down to the lowest loss, if there is a way down that is more
//! than noise.
//!
//! A running mean lags behind the losses, the more so the fewer steps there are. Here each loss is averaged with those
//! before and after it instead, over a window that grows with the number of steps.

use super::LrPoint;

/// Points without which nothing is suggested.
const FEWEST: usize = 10;
/// Losses are smoothed with a Gaussian whose standard deviation is the number of points divided by this: with 100 steps
/// over eight powers of ten, 2.5 steps, a fifth of a power of ten.
const POINTS_PER_DEVIATION: f64 = 40.0;
/// A descent must be at least `LEAST_OVER_NOISE + MORE_OF_FEW / points` times the noise of the smoothed loss: with few
/// points the noise itself is poorly known. Where the loss is nothing but noise, one test in a thousand shows a descent of
/// 6.7 with 400 points, 7.6 with 100, 8.4 with 50, 11.6 with 20 and 17 with 10.
const LEAST_OVER_NOISE: f64 = 8.0;
const MORE_OF_FEW: f64 = 100.0;
/// A descent must be at least this share of the loss: a smaller one says nothing about rates.
const LEAST_SHARE: f64 = 0.015;

/// Rates to train with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Suggestions {
    pub steepest: Option<f64>,
    pub minimum_over_10: Option<f64>,
}

/// Smooths the losses, and says what they suggest.
pub(super) fn suggestions(points: &mut [LrPoint]) -> Suggestions {
    // A number of steps, far below 2^53.
    let deviation = (points.len() as f64 / POINTS_PER_DEVIATION).max(1.0);
    smooth(points, deviation);
    let smoothed = |index: usize| points[index].smoothed;
    let Some(lowest) = (0..points.len()).min_by(|&a, &b| smoothed(a).total_cmp(&smoothed(b))) else {
        return Suggestions::default();
    };
    let Some(highest) = (0..=lowest).max_by(|&a, &b| smoothed(a).total_cmp(&smoothed(b))) else {
        return Suggestions::default();
    };
    let descent = smoothed(highest) - smoothed(lowest);
    // Over half of the points at least: a few before an early minimum may be close together by chance.
    let early = points.len().min((lowest + 1).max(points.len() / 2).max(FEWEST));
    // A Gaussian mean divides the noise of independent losses by √(2·√π·deviation).
    let noise = noise(&points[..early]) / (2.0 * std::f64::consts::PI.sqrt() * deviation).sqrt();
    let least = LEAST_OVER_NOISE + MORE_OF_FEW / points.len() as f64;
    let is_clear = descent > least * noise && descent > LEAST_SHARE * smoothed(highest);
    if points.len() < FEWEST || !is_clear {
        return Suggestions::default();
    }
    // Rates grow by the same factor from step to step.
    let slope = |index: usize| smoothed(index + 1) - smoothed(index.saturating_sub(1));
    let steepest = (highest..lowest).min_by(|&a, &b| slope(a).total_cmp(&slope(b)));
    Suggestions {
        steepest: steepest.map(|index| points[index].lr),
        minimum_over_10: Some(points[lowest].lr / 10.0).filter(|lr| *lr >= points[0].lr),
    }
}

/// Smooths the losses with a Gaussian; `deviation` is in steps.
fn smooth(points: &mut [LrPoint], deviation: f64) {
    let first = &points[..points.len().div_ceil(10)];
    let most = 2.0 * first.iter().map(|point| point.loss).sum::<f64>() / first.len().max(1) as f64;
    let losses: Vec<f64> = points.iter().map(|point| point.loss.min(most)).collect();
    // Three standard deviations on either side: beyond them is a four-hundredth of the weight.
    let reach = (3.0 * deviation).ceil() as usize;
    for (index, point) in points.iter_mut().enumerate() {
        let around = index.saturating_sub(reach)..losses.len().min(index + reach + 1);
        let weight = |other: usize| libm::exp(-0.5 * (index.abs_diff(other) as f64 / deviation).powi(2));
        let total: f64 = around.clone().map(weight).sum();
        point.smoothed = around.map(|other| weight(other) * losses[other]).sum::<f64>() / total;
    }
}

/// The standard deviation of the losses from batch to batch, estimated from the distance of each to the mean of its two
/// neighbours, which a steady descent does not change. That distance has √1.5 times the standard deviation of a loss, and
/// the mean of its magnitude is √(2/π) times that.
fn noise(points: &[LrPoint]) -> f64 {
    let distance = |three: &[LrPoint]| (three[1].loss - f64::midpoint(three[0].loss, three[2].loss)).abs();
    let num = points.len().saturating_sub(2).max(1) as f64;
    let mean = points.windows(3).map(distance).sum::<f64>() / num;
    mean / (std::f64::consts::FRAC_2_PI.sqrt() * 1.5_f64.sqrt())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::rng;
    use crate::train::LrFindOptions;

    /// Points whose loss is a function of the power of ten of the rate, from 1e-7 to 10 as is usual.
    fn points(num_steps: u64, loss: &dyn Fn(f64) -> f64) -> Vec<LrPoint> {
        let options = LrFindOptions { num_steps, ..LrFindOptions::default() };
        let point = |step| {
            let lr = options.lr(step);
            LrPoint { lr, loss: loss(lr.log10()), smoothed: 0.0 }
        };
        (0..num_steps).map(point).collect()
    }

    /// What a training does: nothing up to 1e-3, then a descent to 0.8 at 0.1, and an explosion.
    fn training(power: f64) -> f64 {
        match power {
            ..-3.0 => 2.3,
            -3.0..-1.0 => 2.3 - 0.75 * (power + 3.0),
            _ => 0.8 + libm::exp(5.0 * (power + 1.0)) - 1.0,
        }
    }

    /// Between ±0.05, as the losses of batches differ; another for each seed.
    fn noisy(loss: &dyn Fn(f64) -> f64, seed: u64) -> impl Fn(f64) -> f64 {
        move |power| loss(power) + 0.1 * (rng::uniform(seed, &power.to_string(), 0) - 0.5)
    }

    #[test]
    fn suggestions_are_on_the_way_down_whatever_the_number_of_steps() {
        for num_steps in [30, 50, 100, 400] {
            for seed in 0..20 {
                let suggested = suggestions(&mut points(num_steps, &noisy(&training, seed)));
                let (steepest, tenth) = (suggested.steepest.unwrap(), suggested.minimum_over_10.unwrap());
                assert!((1e-3..0.1).contains(&steepest), "{num_steps} steps, seed {seed}: {steepest}");
                // Smoothing sees the explosion some steps ahead.
                assert!((0.003..0.015).contains(&tenth), "{num_steps} steps, seed {seed}: {tenth}");
            }
        }
    }

    #[test]
    fn noise_suggests_nothing() {
        for num_steps in [10, 20, 50, 100, 400] {
            for seed in 0..50 {
                for loss in [|_| 2.3, |power: f64| 2.3 + libm::exp(power)] {
                    let suggested = suggestions(&mut points(num_steps, &noisy(&loss, seed)));
                    assert_eq!(suggested, Suggestions::default(), "{num_steps} steps, seed {seed}");
                }
            }
        }
        assert_eq!(suggestions(&mut points(100, &|power| 2.3 - 1e-3 * power)), Suggestions::default(), "too little");
        assert_eq!(suggestions(&mut points(100, &training)[40..49]), Suggestions::default(), "nine points are too few");
        assert_eq!(suggestions(&mut []), Suggestions::default());
    }

    #[test]
    fn suggestions_are_within_the_rates_that_were_tried() {
        // The loss is lowest within the first power of ten.
        let suggested = suggestions(&mut points(100, &|power| 2.3 + (power + 6.5).powi(2)));
        assert!(suggested.minimum_over_10.is_none() && suggested.steepest.unwrap() >= 1e-7, "{suggested:?}");
    }

    #[test]
    fn one_explosion_hides_no_other_loss() {
        let mut points = points(100, &training);
        let end = points.last_mut().unwrap();
        (end.loss, end.smoothed) = (1e30, 0.0);
        suggestions(&mut points);
        assert!(points.iter().all(|point| point.smoothed <= 4.6 + 1e-9), "{points:?}");
        // The first losses are their own mean.
        assert!(points[..40].iter().all(|point| (point.smoothed - 2.3).abs() < 1e-12), "{points:?}");
    }
}
