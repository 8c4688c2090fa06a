#![expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]

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
fn plateaus_are_pytorchs() {
    let golden = golden();
    assert!(golden.plateaus.len() >= 10, "{} cases", golden.plateaus.len());
    for PlateauCase { name, options, base_lr, metrics, lr_after } in golden.plateaus {
        let mut plateau = plateau(options);
        for (index, (metric, want)) in metrics.iter().zip(lr_after).enumerate() {
            plateau.observe(index as u64, metric.unwrap_or(f64::NAN));
            // The same products in the same order, so the same bits but for how the file's digits are read.
            assert_close(plateau.lr(base_lr, index as u64 + 1), want, &format!("{name}, after observation {index}"));
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
fn plateau_table_in_the_documentation_is_right() {
    let mut plateau = plateau(Plateau { patience: 2, cooldown: 1, ..Plateau::default() });
    let metrics = [1.0, 0.9, 0.89995, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9];
    let want = [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001];
    for (metric, want) in metrics.into_iter().zip(want) {
        plateau.observe(0, metric);
        assert_close(plateau.lr(0.1, 1), want, &format!("after {metric}"));
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
fn plateau_decides_as_documented() {
    let nan = f64::NAN;
    let base = || Plateau { factor: 0.5, patience: 1, ..Plateau::default() };
    let absolute = |threshold| Plateau { threshold_mode: ThresholdMode::Abs, threshold, ..base() };
    // (options, metrics, the observations that cut, counted from 1, why)
    let cases: [(Plateau, &[f64], &[usize], &str); 11] = [
        (base(), &[1.0; 6], &[3, 5], "flat: one sets the best, patience + 1 are bad; then patience + 1 again"),
        (Plateau { patience: 10, ..base() }, &[1.0; 13], &[12], "flat: the first cut is at patience + 2"),
        (Plateau { patience: 0, ..base() }, &[1.0; 4], &[2, 3, 4], "without patience each bad one cuts"),
        (base(), &[1.0, 2.0, 0.5, 2.0, 0.4], &[], "an improvement starts the count again"),
        (base(), &[1.0, 0.99995, 0.9999], &[3], "better by less than the relative threshold is bad; by just it, too"),
        (absolute(0.25), &[1.0, 0.75, 0.75], &[3], "better by the absolute threshold itself is bad"),
        (absolute(0.25), &[1.0, 0.5, 0.125, 0.0], &[], "better by more than the absolute threshold"),
        (Plateau { mode: Mode::Max, ..base() }, &[0.5, 0.6, 0.6, 0.6], &[4], "larger is better"),
        (base(), &[1.0, nan, nan], &[3], "not a number is bad"),
        (base(), &[nan, nan, 1.0, 1.0, 1.0], &[2, 5], "also before there is a best"),
        (Plateau { cooldown: 2, ..base() }, &[1.0; 9], &[3, 7], "bad ones do not count in the cooldown"),
    ];
    for (options, metrics, want, why) in cases {
        let mut plateau = plateau(options);
        let cuts: Vec<usize> =
            (1..).zip(metrics).filter(|&(_, &metric)| plateau.observe(0, metric)).map(|(n, _)| n).collect();
        assert_eq!(cuts, want, "{why}");
        assert_close(plateau.lr(0.1, 1), 0.1 * 0.5f64.powi(want.len() as i32), why);
    }
}

#[test]
fn plateau_scales_every_base_rate_down_to_its_bound() {
    let mut plateau = plateau(Plateau { patience: 0, min_lr: 0.02, ..Plateau::default() });
    for _ in 0..5 {
        plateau.observe(0, 1.0);
    }
    assert_eq!(
        [0.1, 0.5, 0.01].map(|base_lr| plateau.lr(base_lr, 1)),
        [0.02, 0.02, 0.01],
        "a rate below the bound stays"
    );
    assert!(plateau.lr(f64::NAN, 1).is_nan(), "and a base rate that is none ends the loop");
}

#[test]
fn plateau_state_survives_saving_at_every_observation() {
    let metrics = [1.0, 0.9, 0.95, f64::NAN, 0.8, 0.8, 0.85, 0.8, 0.8, 0.7, 0.75, 0.75, 0.75];
    let options = Plateau { patience: 1, cooldown: 1, ..Plateau::default() };
    let fresh = || Schedule::warm_up(0.1, 3, plateau(options.clone())).unwrap();
    let run = |schedule: &mut Schedule, from: usize, to: usize| -> Vec<(bool, f64)> {
        let step = |step: usize| (schedule.observe(step as u64, metrics[step]), schedule.lr(0.1, step as u64 + 1));
        (from..to).map(step).collect()
    };
    let whole = run(&mut fresh(), 0, metrics.len());
    assert!(whole.iter().filter(|(cuts, _)| *cuts).count() >= 2, "the run gets as far as a second cut");
    for cut in 0..metrics.len() {
        let mut first = fresh();
        run(&mut first, 0, cut);
        let saved = serde_json::to_string(&first.plateau_states()).unwrap();
        let mut second = fresh();
        second.restore_plateau_states(&serde_json::from_str::<Vec<PlateauState>>(&saved).unwrap()).unwrap();
        assert_eq!(run(&mut second, cut, metrics.len()), whole[cut..], "resumed after {cut} observations");
    }
    assert!(fresh().restore_plateau_states(&[]).unwrap_err().is_usage());
}

#[test]
fn a_plateau_in_a_sequence_sees_only_its_own_steps() {
    let options = Plateau { patience: 0, ..Plateau::default() };
    let mut schedule = Schedule::warm_up(0.5, 3, plateau(options)).unwrap();
    for step in 0..3 {
        assert!(!schedule.observe(step, 1.0), "the warm-up takes no notice");
    }
    assert_eq!(schedule.lr(0.1, 3), 0.1, "the plateau starts at the base rate");
    assert!(!schedule.observe(3, 1.0), "its first value is its best");
    assert!(schedule.observe(4, 1.0));
    assert_close(schedule.lr(0.1, 5), 0.01, "the cut");
    assert_close(schedule.lr(0.1, 1), 0.1 * (0.5 + 0.5 / 3.0), "the warm-up is as it was");
}

#[test]
fn one_cycle_stays_at_its_last_values() {
    let schedule = Schedule::one_cycle(OneCycle::new(0.1, 10)).unwrap();
    assert_eq!(schedule.lr(0.1, 10), schedule.lr(0.1, 9));
    assert_eq!(schedule.lr(0.1, u64::MAX), schedule.lr(0.1, 9));
    assert_eq!(schedule.momentum(1000), schedule.momentum(9));
}

#[test]
fn a_run_longer_than_its_one_cycle_is_rejected() {
    let one_cycle = || Schedule::one_cycle(OneCycle::new(0.1, 10)).unwrap();
    let constant = Schedule::constant();
    let last = Schedule::sequential([constant.clone(), one_cycle()], [5]).unwrap();
    let first = Schedule::sequential([one_cycle(), constant.clone()], [10]).unwrap();
    let too_long = Schedule::sequential([one_cycle(), constant.clone()], [11]).unwrap();
    // (schedule, steps of the run, whether it fits, why)
    let cases = [
        (one_cycle(), 10, true, "exactly the cycle"),
        (one_cycle(), 11, false, "one more"),
        (one_cycle(), 3, true, "a shorter run never meets the end"),
        (last.clone(), 15, true, "its own steps count from the milestone"),
        (last.clone(), 16, false, "one more"),
        (last, 4, true, "a run that never reaches it"),
        (first, 1000, true, "it is over at the milestone"),
        (too_long.clone(), 1000, false, "the milestone is past its end"),
        (too_long, 10, true, "but the run is not"),
        (constant, u64::MAX, true, "no end"),
    ];
    for (schedule, num_steps, fits, why) in cases {
        let result = schedule.for_run(num_steps, 1);
        assert_eq!(result.is_ok(), fits, "{why}");
        assert!(
            result.err().is_none_or(|error| error.is_usage() && error.to_string().starts_with("total_steps")),
            "{why}"
        );
    }
}

#[test]
fn lengths_left_open_become_those_of_the_run() {
    let cosine = || Schedule::cosine(None, 0.001).unwrap();
    let one_cycle = || Schedule::one_cycle(OneCycle::new(0.1, None)).unwrap();
    let after_warm_up = |then: Schedule| Schedule::warm_up(0.1, 3, then).unwrap();
    let per_batch = |schedule: Schedule| schedule.stepping(Interval::Batch);
    // (schedule, the same with its lengths named for 8 epochs of 5 steps, why)
    let cases = [
        (cosine(), Schedule::cosine(8, 0.001), "per epoch, all epochs"),
        (cosine().stepping(Interval::Batch), Schedule::cosine(40, 0.001).map(per_batch), "per batch, all steps"),
        (one_cycle(), Schedule::one_cycle(OneCycle::new(0.1, 40)), "one-cycle is per batch"),
        (
            one_cycle().stepping(Interval::Epoch),
            Schedule::one_cycle(OneCycle::new(0.1, 8)).map(|cycle| cycle.stepping(Interval::Epoch)),
            "unless told otherwise",
        ),
        (Schedule::linear(1.0, 0.1, None).unwrap(), Schedule::linear(1.0, 0.1, 8), "of a line"),
        (Schedule::polynomial(None, 2.0).unwrap(), Schedule::polynomial(8, 2.0), "and of a power"),
        (after_warm_up(cosine()), Ok(after_warm_up(Schedule::cosine(5, 0.001).unwrap())), "what the warm-up leaves"),
        (Schedule::cosine(3, 0.0).unwrap(), Schedule::cosine(3, 0.0), "a length that is named stays"),
    ];
    for (open, want, why) in cases {
        let (filled, want) = (open.for_run(8, 5).expect(why), want.unwrap());
        let num_steps = if want.interval() == Interval::Epoch { 8 } else { 40 };
        assert_eq!(lrs(&filled, 0.1, num_steps), lrs(&want, 0.1, num_steps), "{why}");
        assert_eq!(filled.to_string(), want.to_string(), "{why}");
        assert_eq!(filled.for_run(8, 5).unwrap().to_string(), filled.to_string(), "a second time changes nothing");
    }
    assert_eq!(lrs(&cosine(), 0.1, 3), [0.1; 3], "without an end a cosine does not fall");
    lrs(&one_cycle(), 0.1, 2).iter().for_each(|&lr| assert_close(lr, 0.004, "nor does a cycle rise"));

    let too_short = Schedule::one_cycle(OneCycle::new(0.1, 39)).unwrap();
    // A rise of a tenth of 10 steps has no length; that shows when the run is known.
    let no_rise = Schedule::one_cycle(OneCycle { pct_start: 0.1, ..OneCycle::new(0.1, None) }).unwrap();
    let cases = [
        (too_short.for_run(8, 5), "total_steps: expected at least the 40 steps of the run"),
        (no_rise.for_run(2, 5), "pct_start"),
        (
            Schedule::warm_up(0.1, 8, cosine()).unwrap().for_run(8, 5),
            "warmup: expected fewer than the 8 epochs of the run",
        ),
        (
            Schedule::sequential([Schedule::constant(), cosine()], [8]).unwrap().for_run(8, 5),
            "t_max: expected a part of the run",
        ),
    ];
    for (result, part) in cases {
        let error = result.unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with(part), "{part}: {error}");
    }
}

#[test]
fn schedules_describe_themselves() {
    let plateau = |mode, patience| plateau(Plateau { mode, patience, ..Plateau::default() });
    let step = || Schedule::step(30, 0.1).unwrap();
    let cases = [
        (Schedule::constant(), "constant"),
        (step(), "times 0.1 every 30 epochs"),
        (Schedule::step(1, 0.5).unwrap().stepping(Interval::Batch), "times 0.5 every step"),
        (Schedule::multi_step([30, 80], 0.1).unwrap(), "times 0.1 after epochs 30, 80"),
        (Schedule::exponential(0.95).unwrap(), "times 0.95 every epoch"),
        (Schedule::linear(1.0 / 3.0, 1.0, 5).unwrap(), "linear from 0.3333 to 1 times the rate over 5 epochs"),
        (Schedule::constant_factor(0.25, 1).unwrap(), "0.25 times the rate for 1 epoch"),
        (Schedule::polynomial(8, 2.0).unwrap(), "polynomial of power 2 to 0 over 8 epochs"),
        (Schedule::cosine(30, 1e-5).unwrap(), "cosine to 1e-5 over 30 epochs"),
        (Schedule::cosine(None, 0.0).unwrap(), "cosine to 0 to the end of the run"),
        (Schedule::cosine_warm_restarts(10, 1, 0.0).unwrap(), "cosine to 0, again after 10 epochs"),
        (
            Schedule::cosine_warm_restarts(10, 2, 0.0).unwrap(),
            "cosine to 0, again after 10 epochs and then 2 times as many each time",
        ),
        (
            Schedule::one_cycle(OneCycle::new(0.1, 900)).unwrap(),
            "one cycle up to 0.1 over 900 steps, momentum from 0.95 to 0.85 and back",
        ),
        (plateau(Mode::Min, 10), "times 0.1 after 11 epochs without a better validation loss"),
        (plateau(Mode::Max, 0), "times 0.1 after 1 epoch without a better validation accuracy"),
        (
            Schedule::warm_up(0.1, 5, step()).unwrap(),
            "warm-up from 0.1 of the rate over 5 epochs, then times 0.1 every 30 epochs",
        ),
        (
            Schedule::sequential([step(), Schedule::constant()], [60]).unwrap(),
            "times 0.1 every 30 epochs; after 60 epochs constant",
        ),
        (Schedule::lambda(|_| 1.0), "a function of the epoch"),
    ];
    for (schedule, words) in cases {
        assert_eq!(schedule.to_string(), words);
    }
}

#[test]
fn arguments_out_of_range_are_named_as_pytorch_names_them() {
    let nan = f64::NAN;
    let one_cycle = |change: fn(&mut OneCycle)| {
        let mut options = OneCycle::new(0.1, 10);
        change(&mut options);
        Schedule::one_cycle(options)
    };
    let plateau = |change: fn(&mut Plateau)| {
        let mut options = Plateau::default();
        change(&mut options);
        Schedule::plateau(options)
    };
    let per_epoch = || Schedule::exponential(0.9).unwrap();
    let cases = [
        (Schedule::step(0, 0.1), "step_size"),
        (Schedule::step(1, nan), "gamma"),
        (Schedule::step(1, 0.0), "gamma"),
        (Schedule::multi_step([3, 0], 0.1), "milestones"),
        (Schedule::multi_step([3], -0.1), "gamma"),
        (Schedule::exponential(f64::INFINITY), "gamma"),
        (Schedule::linear(0.0, 1.0, 5), "start_factor"),
        (Schedule::linear(1.1, 1.0, 5), "start_factor"),
        (Schedule::linear(nan, 1.0, 5), "start_factor"),
        (Schedule::linear(0.5, -0.1, 5), "end_factor"),
        (Schedule::linear(0.5, 1.1, 5), "end_factor"),
        (Schedule::linear(0.5, 1.0, 0), "total_iters"),
        (Schedule::constant_factor(1.5, 5), "factor"),
        (Schedule::polynomial(0, 1.0), "total_iters"),
        (Schedule::polynomial(5, 0.0), "power"),
        (Schedule::cosine(0, 0.0), "t_max"),
        (Schedule::cosine(5, -0.1), "eta_min"),
        (Schedule::cosine_warm_restarts(0, 1, 0.0), "t_0"),
        (Schedule::cosine_warm_restarts(1, 0, 0.0), "t_mult"),
        (Schedule::cosine_warm_restarts(1, 1, nan), "eta_min"),
        (one_cycle(|o| o.max_lr = Some(0.0)), "max_lr"),
        (one_cycle(|o| o.total_steps = Some(0)), "total_steps"),
        (one_cycle(|o| o.pct_start = 1.1), "pct_start"),
        (one_cycle(|o| o.pct_start = f64::NAN), "pct_start"),
        (one_cycle(|o| o.pct_start = 0.1), "pct_start"),
        (one_cycle(|o| (o.pct_start, o.total_steps) = (1.0, Some(1))), "pct_start"),
        (one_cycle(|o| (o.pct_start, o.three_phase) = (0.1, true)), "pct_start"),
        (one_cycle(|o| o.base_momentum = 1.0), "base_momentum"),
        (one_cycle(|o| o.max_momentum = -0.1), "max_momentum"),
        (one_cycle(|o| o.div_factor = 0.0), "div_factor"),
        (one_cycle(|o| o.final_div_factor = f64::NAN), "final_div_factor"),
        (plateau(|o| o.factor = 1.0), "factor"),
        (plateau(|o| o.factor = 0.0), "factor"),
        (plateau(|o| o.threshold = f64::NAN), "threshold"),
        (plateau(|o| o.min_lr = -1.0), "min_lr"),
        (plateau(|o| o.eps = f64::INFINITY), "eps"),
        (Schedule::sequential([], []), "schedules"),
        (Schedule::sequential([per_epoch(), per_epoch()], []), "milestones"),
        (Schedule::sequential([per_epoch()], [1]), "milestones"),
        (Schedule::sequential([per_epoch(), per_epoch()], [0]), "milestones"),
        (Schedule::sequential([per_epoch(), per_epoch(), per_epoch()], [4, 4]), "milestones"),
        (Schedule::sequential([per_epoch(), per_epoch(), per_epoch()], [4, 3]), "milestones"),
        (Schedule::sequential([per_epoch(), per_epoch().stepping(Interval::Batch)], [4]), "schedules"),
        (Schedule::warm_up(0.0, 5, per_epoch()), "warmup_factor"),
        (Schedule::warm_up(0.1, 0, per_epoch()), "warmup"),
        (Schedule::warm_up(0.1, 5, one_cycle(|_| ()).unwrap()), "warmup"),
        (Schedule::warm_up(0.1, 5, Schedule::warm_up(0.1, 5, per_epoch()).unwrap()), "warmup"),
        (Schedule::new(Step::default()), "step_size"),
        (Schedule::new(Exponential::default()), "gamma"),
        (Schedule::new(CosineWarmRestarts::default()), "t_0"),
        (Schedule::multi_step([], 0.1), "milestones"),
        (one_cycle(|o| (o.cycle_momentum, o.base_momentum) = (false, 0.8)), "base_momentum"),
    ];
    for (result, argument) in cases {
        let error = result.expect_err(argument);
        assert!(error.is_usage() && error.to_string().starts_with(&format!("{argument}: ")), "{argument}: {error}");
    }
}

#[test]
fn intervals_follow_the_parts() {
    let cosine = || Schedule::cosine(5, 0.0).unwrap();
    let one_cycle = || Schedule::one_cycle(OneCycle::new(0.1, 10)).unwrap();
    let plateau = || plateau(Plateau::default());
    let cases = [
        (cosine(), Interval::Epoch, "most step per epoch"),
        (one_cycle(), Interval::Batch, "one-cycle steps per batch"),
        (cosine().stepping(Interval::Batch), Interval::Batch, "unless told otherwise"),
        (
            Schedule::warm_up(0.1, 3, cosine().stepping(Interval::Batch)).unwrap(),
            Interval::Batch,
            "a warm-up goes with what follows",
        ),
        (Schedule::warm_up(0.1, 3, plateau()).unwrap(), Interval::Epoch, "a plateau alone is per epoch"),
        (
            Schedule::warm_up(0.1, 3, plateau().stepping(Interval::Batch)).unwrap(),
            Interval::Batch,
            "a warm-up by batches before a plateau",
        ),
        (
            Schedule::sequential([Schedule::constant(), one_cycle()], [3]).unwrap(),
            Interval::Batch,
            "a constant goes with any",
        ),
    ];
    for (schedule, interval, why) in cases {
        assert_eq!(schedule.interval(), interval, "{why}");
    }
}

#[test]
fn a_file_may_hold_a_name_or_only_what_differs() {
    #[derive(Deserialize)]
    struct File {
        schedule: Schedule,
    }
    // (file, the same in full, why)
    let cases = [
        ("schedule = \"cosine\"", Schedule::cosine(None, 0.0), "a name"),
        ("schedule = \"one-cycle\"", Schedule::one_cycle(OneCycle::default()), "with a hyphen, as flags have it"),
        ("schedule = { kind = \"step\", step_size = 10 }", Schedule::step(10, 0.1), "PyTorch's defaults"),
        (
            "schedule = { kind = \"cosine\", warmup = 2, interval = \"batch\" }",
            Schedule::warm_up(1.0 / 3.0, 2, Schedule::cosine(None, 0.0).unwrap().stepping(Interval::Batch)),
            "what all schedules have",
        ),
        ("[schedule]\nwarmup = 2", Schedule::warm_up(1.0 / 3.0, 2, Schedule::constant()), "a warm-up alone"),
        ("schedule = { kind = \"constant\", interval = \"epoch\" }", Ok(Schedule::constant()), "its own interval"),
    ];
    for (text, want, why) in cases {
        let (got, want) = (toml::from_str::<File>(text).expect(why).schedule, want.unwrap());
        assert_eq!(format!("{got:?}"), format!("{:?}", want), "{why}");
    }
}

#[test]
fn every_schedule_lists_its_settings_with_their_defaults() {
    assert_eq!(Schedule::ENTRIES.len(), 11);
    for entry in Schedule::ENTRIES {
        let listed: Vec<&str> = entry.settings.iter().map(|setting| setting.name).collect();
        for name in entry.defaults().keys() {
            assert!(listed.contains(&name.as_str()), "{}: {name} can be set and is not listed", entry.name);
        }
        let common = Schedule::SETTINGS.iter().find(|setting| listed.contains(&setting.name));
        assert!(common.is_none(), "{}: {common:?} is every schedule's", entry.name);
        for setting in entry.settings {
            // What is listed is a field: anything else than its values is refused under its name or the registry's.
            let mut table = toml::Table::new();
            table.insert("kind".to_owned(), entry.name.into());
            table.insert(setting.name.to_owned(), toml::Value::Boolean(true));
            let error = Schedule::read(table.into()).err().map(|error| error.to_string());
            assert!(error.is_none_or(|error| !error.contains("unknown field")), "{}: {}", entry.name, setting.name);
        }
    }
}

#[test]
fn a_changed_number_of_epochs_says_what_it_changes() {
    let cosine = || Schedule::cosine(None, 0.0).unwrap();
    // (schedule, epochs before, epochs now, the sentence, why)
    let cases = [
        (cosine(), 9, 12, Some("cosine now ends at epoch 12 instead of 9"), "its length was left open"),
        (cosine(), 9, 9, None, "nothing has changed"),
        (Schedule::cosine(9, 0.0).unwrap(), 9, 12, None, "its length was given"),
        (
            Schedule::one_cycle(OneCycle::default()).unwrap(),
            9,
            12,
            Some("one_cycle now ends at step 60 instead of 45"),
            "in steps where it counts those",
        ),
        (
            Schedule::warm_up(0.1, 2, cosine()).unwrap(),
            9,
            6,
            Some("cosine now ends at epoch 6 instead of 9"),
            "a warm-up stays as long as it was",
        ),
        (
            Schedule::sequential([cosine(), Schedule::constant()], [4]).unwrap(),
            9,
            12,
            None,
            "a part that ends at its milestone is as long as before",
        ),
    ];
    for (schedule, before, now, want, why) in cases {
        assert_eq!(schedule.change_of_end(before, now, 5).as_deref(), want, "{why}");
    }
    let lr = |epochs| cosine().for_run(epochs, 5).unwrap().lr(0.1, 9);
    assert!(lr(9).abs() < 1e-15 && lr(12) > 0.01, "the rate of epoch 10 is on the way down in the longer run");
    assert!(cosine().for_run(9, 5).unwrap().lr(0.1, 11).abs() < 1e-15, "and past its end it does not climb");
}

#[test]
fn a_schedule_comes_back_from_a_file_and_is_checked() {
    let schedules = [
        Schedule::constant(),
        Schedule::multi_step([2, 5], 0.1).unwrap(),
        Schedule::cosine_warm_restarts(3, 2, 0.001).unwrap().stepping(Interval::Batch),
        Schedule::one_cycle(OneCycle::new(0.1, 10)).unwrap(),
        Schedule::cosine(None, 0.001).unwrap(),
        Schedule::one_cycle(OneCycle::new(0.1, None)).unwrap(),
        Schedule::warm_up(0.1, 3, plateau(Plateau::default())).unwrap(),
    ];
    for schedule in schedules {
        let json = serde_json::to_string(&schedule).unwrap();
        let again: Schedule = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), json);
        assert_eq!(lrs(&again, 0.1, 20), lrs(&schedule, 0.1, 20), "{json}");
        let toml = toml::to_string(&schedule).unwrap();
        let again: Schedule = toml::from_str(&toml).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), json, "{toml}");
    }
    let short: Schedule = toml::from_str("kind = \"one_cycle\"\nmax_lr = 1\ntotal_steps = 10").unwrap();
    assert_eq!(short.interval(), Interval::Batch);
    assert_eq!(short.lr(0.1, 2), 1.0, "PyTorch's defaults fill in what is left out");

    // (file, what the message must say)
    let cases = [
        (r#"{"kind": "step", "step_size": 0, "gamma": 0.1}"#, "step_size: expected at least 1"),
        (r#"{"kind": "step", "step_size": 2, "gama": 0.1}"#, "gama"),
        (r#"{"kind": "one_cycle", "max_lr": 0.1, "total_steps": 10, "pct": 0.3}"#, "pct"),
        (r#"{"kind": "plateau", "factor": 2.0}"#, "factor: expected above 0 and below 1"),
        (r#"{"kind": "lambda"}"#, "lambda"),
        (r#"{"kind": "step"}"#, "step_size: expected to be given, as it has no default"),
        (r#"{"kind": "plateau", "interval": "batch"}"#, "interval: expected a schedule that counts steps"),
        (r#"{"kind": "cosine", "interval": "day"}"#, "interval: expected epoch or batch"),
        (r#"{"kind": "cosine", "warmup_factor": 0.1}"#, "warmup_factor: expected a warmup"),
        (r#"{"kind": "one_cycle", "warmup": 3}"#, "warmup: expected 0 before a schedule that has a rise"),
        (r#"{"step_size": 3}"#, "a \"kind\""),
        (r#"{"kind": "sequential", "schedules": ["constant"], "milestones": [], "steps": 1}"#, "steps"),
        (
            r#"{"kind": "sequential", "schedules": [{"kind": "cosine", "t_max": 0, "eta_min": 0}], "milestones": []}"#,
            "t_max",
        ),
    ];
    for (json, part) in cases {
        let error = serde_json::from_str::<Schedule>(json).unwrap_err().to_string();
        assert!(error.contains(part), "{part:?} in {error}");
    }
    assert!(serde_json::to_string(&Schedule::lambda(|_| 1.0)).is_err(), "code cannot be written to a file");
}
