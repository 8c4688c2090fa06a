#![expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]

use super::*;
use crate::schedule::Plateau;

fn with_patience(patience: u64) -> EarlyStopOptions {
    EarlyStopOptions { patience, ..EarlyStopOptions::default() }
}

/// The epoch after which a run with these values stops, and that of the last improvement.
fn run(options: &EarlyStopOptions, values: &[f64]) -> (Option<u64>, Option<u64>) {
    let mut early_stopping = EarlyStopping::new(options.clone()).unwrap();
    let stop = (1..).zip(values).find(|&(epoch, &value)| {
        early_stopping.observe(epoch, value);
        early_stopping.reason().is_some()
    });
    (stop.map(|(epoch, _)| epoch), early_stopping.state().improved.map(|improved| improved.epoch))
}

/// Options, values from epoch 1, the epoch after which the run stops, that of the last improvement, why.
type Case<'a> = (EarlyStopOptions, &'a [f64], Option<u64>, Option<u64>, &'a str);

#[test]
fn stops_where_keras_and_lightning_do() {
    let nan = f64::NAN;
    let infinity = f64::INFINITY;
    let accuracy = |patience| EarlyStopOptions { monitor: Monitor::ValAccuracy, ..with_patience(patience) };
    let delta = |min_delta, patience| EarlyStopOptions { min_delta, ..with_patience(patience) };
    let from = |start_epoch, patience| EarlyStopOptions { start_epoch, ..with_patience(patience) };
    let slow = [0.50, 0.45, 0.447, 0.446, 0.4455, 0.4452, 0.4451, 0.4450];
    let cases: [Case; 23] = [
        (delta(0.005, 5), &slow, Some(7), Some(2), "progress within min_delta of the best accepted value never counts"),
        (delta(0.0, 5), &slow, None, Some(8), "without min_delta the same run improves every epoch"),
        (delta(0.05, 1), &[0.5, 0.45], Some(2), Some(1), "better by min_delta itself is not better by more"),
        (delta(0.25, 1), &[0.5, 0.125], None, Some(2), "better by more than min_delta"),
        (delta(0.1, 3), &[1.0, 0.95, 0.92, 0.85], None, Some(4), "small steps add up, as the best stays at 1.0"),
        (with_patience(1), &[1.0, 1.0], Some(2), Some(1), "an equal value is no improvement"),
        (with_patience(2), &[1.0, 2.0, 2.0], Some(3), Some(1), "the wait stops the run when it reaches the patience"),
        (with_patience(2), &[1.0, 2.0], None, Some(1), "and not before"),
        (with_patience(2), &[1.0, 2.0, 0.5, 2.0, 0.4, 2.0], None, Some(5), "each improvement ends the wait"),
        (with_patience(2), &[1.0, 2.0, 1.5, 1.2], Some(3), Some(1), "better than the last is not better than the best"),
        (with_patience(0), &[1.0, 1.0], Some(2), Some(1), "no patience stops at the first epoch without improvement"),
        (with_patience(0), &[1.0], None, Some(1), "the first value is an improvement over none"),
        (with_patience(0), &[3.0, 2.0, 1.0], None, Some(3), "steady improvement continues even without patience"),
        (with_patience(1), &[-1.0, -2.0, -2.0], Some(3), Some(2), "the sign of a loss does not matter"),
        (accuracy(2), &[0.1, 0.5, 0.5, 0.4], Some(4), Some(2), "larger is better for an accuracy"),
        (accuracy(2), &[0.5, 0.4, 0.6], None, Some(3), "a rise ends the wait"),
        (from(3, 1), &[0.1, 9.0, 5.0, 4.0, 4.0], Some(5), Some(4), "epochs before the start set no best and no wait"),
        (from(3, 1), &[1.0, nan, 5.0], None, Some(3), "nor do they stop the run"),
        (with_patience(1), &[1.0, -infinity], Some(2), Some(1), "minus infinity is a breakdown, not the best loss"),
        (with_patience(2), &[1.0, nan, nan], Some(3), Some(1), "a value that is none is no improvement"),
        (with_patience(3), &[nan, nan, 2.0], None, Some(3), "and any finite value is better than none"),
        (with_patience(2), &[nan, nan], Some(2), None, "a run of nothing but those stops without an improvement"),
        (with_patience(2), &[infinity, 1.0], None, Some(2), "infinity is no value to improve on"),
    ];
    for (options, values, stop, best, why) in cases {
        assert_eq!(run(&options, values), (stop, best), "{why}: {options:?} on {values:?}");
    }
}

#[test]
fn reasons_are_sentences() {
    let delta = |min_delta| EarlyStopOptions { min_delta, ..with_patience(2) };
    let cases: [(EarlyStopOptions, &[f64], &str); 4] = [
        (delta(0.0), &[0.25, 0.5, 0.5], "the validation loss has not improved for 2 epochs, since 0.25 in epoch 1"),
        (
            delta(0.1),
            &[0.25, 0.2, 0.2],
            "the validation loss has not improved by more than 0.1 for 2 epochs, since 0.25 in epoch 1",
        ),
        (
            with_patience(1),
            &[0.123456, 1.0],
            "the validation loss has not improved for 1 epoch, since 0.1235 in epoch 1",
        ),
        (delta(0.0), &[f64::NAN, f64::NAN], "the validation loss has had no finite value in 2 epochs"),
    ];
    for (options, values, want) in cases {
        let mut early_stopping = EarlyStopping::new(options).unwrap();
        (1..).zip(values).for_each(|(epoch, &value)| early_stopping.observe(epoch, value));
        assert_eq!(early_stopping.reason().unwrap().to_string(), want);
    }
}

#[test]
fn state_survives_saving_at_every_epoch() {
    let values = [0.5, 0.75, 0.375, 0.4, f64::NAN, 0.36, 0.5, 0.5, 0.5];
    let run = |early_stopping: &mut EarlyStopping, from: usize, to: usize| -> Vec<Option<StopReason>> {
        let step = |index: usize| {
            early_stopping.observe(index as u64 + 1, values[index]);
            early_stopping.reason()
        };
        (from..to).map(step).collect()
    };
    let fresh = || EarlyStopping::new(with_patience(3)).unwrap();
    let whole = run(&mut fresh(), 0, values.len());
    assert!(whole.iter().any(Option::is_some), "the run gets as far as stopping");
    for cut in 0..values.len() {
        let mut first = fresh();
        run(&mut first, 0, cut);
        let saved = serde_json::to_string(first.state()).unwrap();
        let mut second = fresh();
        second.restore(serde_json::from_str(&saved).unwrap());
        assert_eq!(first, second, "{saved}");
        assert_eq!(run(&mut second, cut, values.len()), whole[cut..], "resumed after {cut} epochs");
    }
}

#[test]
fn best_so_far_is_plain_comparison() {
    let mut best = BestSoFar::new(Monitor::ValLoss);
    // (value, whether to keep the weights, why), from epoch 1.
    let cases = [
        (f64::NAN, false, "nothing is best if it is not a number"),
        (0.5, true, "the first finite value"),
        (0.5, false, "an equal value keeps the earlier weights"),
        (0.499_999_9, true, "any improvement counts, however small"),
        (f64::NEG_INFINITY, false, "an infinity is not a value"),
        (0.6, false, "worse"),
    ];
    for (epoch, (value, keep, why)) in (1..).zip(cases) {
        assert_eq!(best.observe(epoch, value), keep, "{why}");
    }
    assert_eq!(best.best(), Some(Best { epoch: 4, value: 0.499_999_9 }));
    let mut best = BestSoFar::new(Monitor::ValAccuracy);
    assert!(best.observe(1, 0.0) && best.observe(2, 0.1) && !best.observe(3, 0.05), "larger is better");
}

#[test]
fn warns_if_the_plateau_can_never_act() {
    let plateau = Schedule::plateau(Plateau { patience: 3, ..Plateau::default() }).unwrap();
    let schedule = Schedule::warm_up(0.1, 5, plateau).unwrap();
    for (patience, warns) in [(2, true), (3, true), (4, true), (5, false), (10, false)] {
        let warning = EarlyStopping::new(with_patience(patience)).unwrap().warning(&schedule);
        assert_eq!(warning.is_some(), warns, "patience {patience}: {warning:?}");
    }
    let early_stopping = EarlyStopping::new(with_patience(1)).unwrap();
    assert_eq!(early_stopping.warning(&Schedule::constant()), None, "no plateau, nothing to warn of");
}

#[test]
fn options_out_of_range_are_named() {
    for (options, name) in [
        (EarlyStopOptions { min_delta: -0.1, ..with_patience(1) }, "min_delta"),
        (EarlyStopOptions { min_delta: f64::NAN, ..with_patience(1) }, "min_delta"),
        (EarlyStopOptions { start_epoch: 0, ..with_patience(1) }, "start_epoch"),
    ] {
        let error = EarlyStopping::new(options).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with(name), "{error}");
    }
}
