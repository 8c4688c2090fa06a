//! Schedules beside PyTorch's, and the tables of their documentation.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]

mod in_a_run;
mod plateau;
mod settings;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    schedules: Vec<ScheduleCase>,
    plateaus: Vec<PlateauCase>,
}

#[derive(Deserialize)]
struct ScheduleCase {
    name: String,
    schedule: Schedule,
    base_lr: f64,
    lr: Vec<f64>,
    momentum: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct PlateauCase {
    name: String,
    options: Plateau,
    base_lr: f64,
    /// `None` stands for NaN, which JSON lacks.
    metrics: Vec<Option<f64>>,
    lr_after: Vec<f64>,
}

/// Written by tests/golden/schedules.py.
fn golden() -> Golden {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/schedules.json"));
    serde_json::from_str(text).unwrap()
}

/// Within 1e-12 of the value, relative to it or, for values that should be next to 0, to a thousandth.
#[track_caller]
fn assert_close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-12 * want.abs().max(1e-3), "{what}: got {got:?}, want {want:?}");
}

fn lrs(schedule: &Schedule, base_lr: f64, num_steps: u64) -> Vec<f64> {
    (0..num_steps).map(|step| schedule.lr(base_lr, step)).collect()
}

fn plateau(options: Plateau) -> Schedule {
    Schedule::plateau(options).unwrap()
}

#[test]
fn schedules_are_pytorchs() {
    let golden = golden();
    assert!(golden.schedules.len() >= 26, "{} cases", golden.schedules.len());
    for ScheduleCase { name, schedule, base_lr, lr, momentum } in golden.schedules {
        for (step, want) in (0..).zip(&lr) {
            assert_close(schedule.lr(base_lr, step), *want, &format!("{name}, lr of step {step}"));
        }
        for step in 0..lr.len() {
            let (got, what) = (schedule.momentum(step as u64), format!("{name}, momentum of step {step}"));
            match &momentum {
                Some(want) => assert_close(got.unwrap(), want[step], &what),
                None => assert_eq!(got, None, "{what}"),
            }
        }
    }
}

#[test]
fn tables_in_the_documentation_are_right() {
    let cases: [(Schedule, f64, &[f64]); 15] = [
        (Schedule::step(2, 0.5).unwrap(), 0.1, &[0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125]),
        (Schedule::multi_step([2, 5], 0.1).unwrap(), 0.1, &[0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001]),
        (Schedule::exponential(0.9).unwrap(), 0.1, &[0.1, 0.09, 0.081, 0.0729]),
        (Schedule::linear(0.2, 1.0, 4).unwrap(), 0.1, &[0.02, 0.04, 0.06, 0.08, 0.1, 0.1]),
        (
            Schedule::linear(1.0 / 3.0, 1.0, 5).unwrap(),
            0.05,
            &[0.0166667, 0.0233333, 0.03, 0.0366667, 0.0433333, 0.05, 0.05],
        ),
        (Schedule::constant_factor(0.25, 2).unwrap(), 0.1, &[0.025, 0.025, 0.1, 0.1]),
        (Schedule::polynomial(4, 2.0).unwrap(), 0.1, &[0.1, 0.05625, 0.025, 0.00625, 0.0, 0.0]),
        (
            Schedule::cosine(4, 0.001).unwrap(),
            0.1,
            &[0.1, 0.0855018, 0.0505, 0.0154982, 0.001, 0.0154982, 0.0505, 0.0855018, 0.1],
        ),
        (
            Schedule::cosine_warm_restarts(2, 2, 0.0).unwrap(),
            0.1,
            &[0.1, 0.05, 0.1, 0.0853553, 0.05, 0.0146447, 0.1, 0.096194, 0.0853553],
        ),
        (
            Schedule::one_cycle(OneCycle::new(0.1, 10)).unwrap(),
            7.0,
            &[0.004, 0.052, 0.1, 0.0950485, 0.0811746, 0.0611262, 0.0388742, 0.0188258, 0.00495194, 4e-7],
        ),
        (Schedule::lambda(|t| 1.0 / (1.0 + t as f64)), 0.1, &[0.1, 0.05, 0.0333333, 0.025]),
        (
            Schedule::sequential([Schedule::linear(0.5, 1.0, 2).unwrap(), Schedule::exponential(0.9).unwrap()], [3])
                .unwrap(),
            0.1,
            &[0.05, 0.075, 0.1, 0.1, 0.09, 0.081],
        ),
        (
            Schedule::warm_up(0.5, 2, Schedule::exponential(0.9).unwrap()).unwrap(),
            0.1,
            &[0.05, 0.075, 0.1, 0.09, 0.081],
        ),
        (Schedule::constant(), 0.1, &[0.1, 0.1, 0.1]),
        (plateau(Plateau::default()), 0.1, &[0.1, 0.1]),
    ];
    for (schedule, base_lr, want) in cases {
        for (step, want) in (0..).zip(want) {
            let got = schedule.lr(base_lr, step);
            // The tables show six digits.
            assert!((got - want).abs() <= 5e-6 * want.abs() + 1e-17, "{schedule:?}, step {step}: {got} is not {want}");
        }
    }
    let momenta = [0.95, 0.9, 0.85, 0.854952, 0.868826, 0.888874, 0.911126, 0.931174, 0.945048, 0.95];
    for (step, want) in (0..).zip(momenta) {
        let got = Schedule::one_cycle(OneCycle::new(0.1, 10)).unwrap().momentum(step).unwrap();
        assert!((got - want).abs() <= 5e-7, "step {step}: {got} is not {want}");
    }
}

#[test]
fn closed_forms_equal_the_recurrences_they_stand_for() {
    let (gamma, eta_min, t_max) = (0.97, 0.003, 13);
    let exponential = lrs(&Schedule::exponential(gamma).unwrap(), 0.1, 300);
    for pair in exponential.windows(2) {
        assert_close(pair[1], pair[0] * gamma, "exponential");
    }
    let cosine = lrs(&Schedule::cosine(t_max, eta_min).unwrap(), 0.1, t_max);
    let wave = |t: usize| 1.0 + (std::f64::consts::PI * t as f64 / t_max as f64).cos();
    for (t, pair) in cosine.windows(2).enumerate() {
        assert_close(pair[1], wave(t + 1) / wave(t) * (pair[0] - eta_min) + eta_min, "cosine");
    }
    let polynomial = lrs(&Schedule::polynomial(20, 1.7).unwrap(), 0.1, 20);
    for (t, pair) in polynomial.windows(2).enumerate() {
        let left = |t: usize| 1.0 - t as f64 / 20.0;
        assert_close(pair[1], pair[0] * (left(t + 1) / left(t)).powf(1.7), "polynomial");
    }
}

#[test]
fn one_cycle_stays_at_its_last_values() {
    let schedule = Schedule::one_cycle(OneCycle::new(0.1, 10)).unwrap();
    assert_eq!(schedule.lr(0.1, 10), schedule.lr(0.1, 9));
    assert_eq!(schedule.lr(0.1, u64::MAX), schedule.lr(0.1, 9));
    assert_eq!(schedule.momentum(1000), schedule.momentum(9));
}
