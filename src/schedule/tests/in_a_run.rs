//! Schedules of a run: their lengths, and how often they step.

use super::*;

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
