//! The plateau: what it decides, and what it keeps.

use super::*;

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
