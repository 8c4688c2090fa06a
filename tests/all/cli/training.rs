//! Options of `lenet train`: schedules, regularisation, transforms, stopping; what a run says of them, what its
//! configuration keeps, and what is refused.

use super::*;

/// What every scheduler needs to be asked for.
const SCHEDULERS: [(&str, &[&str]); 11] = [
    ("constant", &[]),
    ("step", &["--step-size=1", "--gamma=0.5"]),
    ("multi-step", &["--milestones=1,2"]),
    ("exponential", &["--gamma=0.9", "--warmup=1"]),
    ("linear", &["--total-iters=4", "--interval=batch"]),
    ("constant-factor", &["--factor=0.5"]),
    ("polynomial", &["--power=2"]),
    ("cosine", &["--eta-min=0.001"]),
    ("cosine-warm-restarts", &["--t-0=2", "--interval=batch"]),
    ("one-cycle", &["--max-lr=0.05"]),
    ("plateau", &["--mode=max", "--patience=0", "--warmup=1"]),
];

fn config(run: &Path) -> toml::Table {
    toml::from_str(&read(&run.join("config.toml"))).unwrap()
}

#[test]
fn every_scheduler_trains_and_its_configuration_repeats_the_run() {
    for (scheduler, more) in SCHEDULERS {
        let place = Place::new();
        let stdout = succeeds(place.train(&[&["--no-report", "--scheduler", scheduler], more].concat()));
        assert_eq!(stdout.contains("\nschedule  "), scheduler != "constant", "{stdout}");
        let first = place.runs().remove(0);
        let file = first.join("config.toml");
        succeeds(place.lenet(&["--config", file.to_str().unwrap(), "--out=again", "--no-report", "--quiet"]));
        let second = std::fs::read_dir(place.path("again")).unwrap().next().unwrap().unwrap().path();
        assert_eq!(read(&file), read(&second.join("config.toml")), "{scheduler}");
        let lrs = |run: &Path| -> Vec<Value> {
            lines(&read(&run.join("metrics.jsonl"))).iter().map(|line| line["lr"].clone()).collect()
        };
        assert_eq!(lrs(&first), lrs(&second), "{scheduler}");
    }
}

/// 128 images in batches of 50 are three steps an epoch.
#[test]
fn lengths_that_were_left_open_are_those_of_the_run_and_stay_open_in_its_file() {
    let one_cycle = ["--scheduler=one-cycle", "--max-lr=0.1"];
    let accumulated = [&one_cycle[..], &["--accumulate=2"]].concat();
    // (options, what is said, the length's name)
    let cases: [(&[&str], &str, &str); 5] = [
        (&["--scheduler=cosine"], "learning rate 0.01, cosine to 0 over 2 epochs", "t_max"),
        (&["--scheduler=cosine", "--interval=batch"], "cosine to 0 over 6 steps", "t_max"),
        (&["--scheduler=cosine", "--warmup=2", "--interval=batch"], "then cosine to 0 over 4 steps", "t_max"),
        (&one_cycle, "one cycle up to 0.1 over 6 steps, momentum", "total_steps"),
        // Two batches a step are two steps an epoch.
        (&accumulated, "one cycle up to 0.1 over 4 steps, momentum", "total_steps"),
    ];
    for (args, said, name) in cases {
        let place = Place::new();
        let stdout = succeeds(place.train(&[&["--no-report"], args].concat()));
        assert!(stdout.contains(said), "{args:?}: {said} in {stdout}");
        let schedule = config(&place.runs()[0])["schedule"].clone();
        assert!(schedule.get("kind").is_some() && schedule.get(name).is_none(), "{args:?}: {schedule}");
    }
}

#[test]
fn a_longer_run_has_a_longer_schedule_and_says_so() {
    for (args, said) in [
        (&["--scheduler=cosine"][..], "cosine now ends at epoch 4 instead of 2"),
        (&["--scheduler=one-cycle", "--max-lr=0.1"], "one_cycle now ends at step 12 instead of 6"),
    ] {
        let place = Place::new();
        succeeds(place.train(&[&["--no-report"], args].concat()));
        let run = place.runs()[0].clone();
        let stdout = succeeds(place.lenet(&["--resume", run.to_str().unwrap(), "--epochs=4", "--no-report"]));
        assert!(stdout.contains(said), "{said} in {stdout}");
        let whole = Place::new();
        let four =
            ["--train-limit=128", "--val-limit=64", "--epochs=4", "--batch-size=50", "--device=cpu", "--no-report"];
        succeeds(whole.lenet(&[&four[..], &["--data", DATA], args].concat()));
        let lrs = |run: &Path| -> Vec<f64> {
            let reports = lines(&read(&run.join("metrics.jsonl")));
            reports.iter().filter(|line| line["epoch"].is_u64()).map(|line| line["lr"].as_f64().unwrap()).collect()
        };
        let (resumed, want) = (lrs(&run), lrs(&whole.runs()[0]));
        assert_eq!(resumed[2..], want[2..], "{args:?}: the epochs after it are those of a run of 4");
        assert_ne!(resumed[1], want[1], "{args:?}: and those before it are not");
    }
}

#[test]
fn a_run_that_goes_on_keeps_its_schedule() {
    let place = Place::new();
    succeeds(place.train(&["--no-report", "--scheduler=one-cycle", "--max-lr=0.1", "--total-steps=6"]));
    let run = place.runs()[0].to_str().unwrap().to_owned();
    let longer = place.lenet(&["--resume", &run, "--epochs=3", "--no-report"]);
    assert_eq!(longer.code, 2, "{}", longer.stderr);
    assert!(longer.stderr.contains("--total-steps: expected at least the 9 steps"), "{}", longer.stderr);
    let other = place.lenet(&["--resume", &run, "--scheduler=constant", "--no-report"]);
    assert_eq!(other.code, 2, "{}", other.stderr);
    assert!(other.stderr.contains("--resume with another schedule."), "{}", other.stderr);
}

#[test]
fn the_file_keeps_its_schedule_unless_another_is_asked_for() {
    let place = Place::new();
    succeeds(place.train(&["--no-report", "--scheduler=step", "--step-size=1", "--gamma=0.5", "--warmup=1"]));
    let file = place.runs()[0].join("config.toml");
    let again = |more: &[&str]| -> Vec<f64> {
        let args = ["--config", file.to_str().unwrap(), "--no-report", "--json", "--epochs=3"];
        let reports = lines(&succeeds(place.lenet(&[&args[..], more].concat())));
        reports.iter().filter_map(|report| report["lr"].as_f64()).collect()
    };
    let third = 0.01 * (1.0 / 3.0);
    assert_eq!(again(&[]), [third, 0.01, 0.005]);
    assert_eq!(again(&["--gamma=0.25"]), [third, 0.01, 0.0025], "the kind and the warm-up stay");
    assert_eq!(again(&["--scheduler=step", "--warmup-factor=0.5"]), [0.005, 0.01, 0.005]);
    assert_eq!(again(&["--warmup=0"]), [0.01, 0.005, 0.0025]);
    assert_eq!(again(&["--scheduler=constant"]), [0.01; 3], "another scheduler starts anew");
}

#[test]
fn what_is_asked_for_is_said_and_kept() {
    let place = Place::new();
    let asked = [
        "--optimizer=adam",
        "--betas=0.8,0.99",
        "--amsgrad",
        "--l1=1e-5",
        "--l2=1e-4",
        "--regularize-biases",
        "--clip-norm=1.5",
        "--clip-value=0.5",
        "--accumulate=2",
        "--label-smoothing=0.1",
        "--crop-padding=2",
        "--flip=0.5",
        "--rotate=10",
        "--shift=1.5",
        "--border=edge",
        "--monitor=val-accuracy",
        "--early-stopping-start-epoch=2",
    ];
    let stdout = succeeds(place.train(&[&asked[..], &["--no-report"]].concat()));
    for part in [
        "adam, betas 0.8 and 0.99, amsgrad, learning rate 0.001, steps of 2 batches of 50",
        "L1 penalty 0.00001 (biases too), L2 penalty 0.0001 (biases too)",
        "gradients clipped to elements of 0.5, gradients clipped to norm of 1.5, label smoothing 0.1",
        "without a better validation accuracy",
        "images    crops out of 2 pixels more on each side, flips with probability 0.5, rotations up to 10°, shifts up to \
         1.5 pixels, borders of the nearest pixel",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let written = config(&place.runs()[0]);
    let want: toml::Table = toml::from_str(
        r#"
        label_smoothing = 0.1
        [optimizer]
        kind = "adam"
        betas = [0.8, 0.99]
        eps = 1e-8
        weight_decay = 0.0
        amsgrad = true
        [gradients]
        accumulate = 2
        l1 = 1e-5
        l2 = 1e-4
        regularize_biases = true
        clip_value = 0.5
        clip_norm = 1.5
        [transforms]
        crop_padding = 2
        flip_probability = 0.5
        max_rotation_degrees = 10.0
        max_shift = 1.5
        border = "edge"
        [early_stopping]
        monitor = "val_accuracy"
        min_delta = 0.0
        patience = 5
        start_epoch = 2
        "#,
    )
    .unwrap();
    for (key, value) in &want {
        assert_eq!(written.get(key), Some(value), "{key}");
    }
}

/// Each of them changes what is learned, so none is only written down.
#[test]
fn every_option_of_training_has_an_effect() {
    let losses = |more: &[&str]| -> (Value, Value) {
        let reports = lines(&succeeds(Place::new().train(&[&["--no-report", "--json"], more].concat())));
        (reports[1]["train_loss"].clone(), reports[1]["val_loss"].clone())
    };
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &["--l1=1e-3", "--l2=1e-3", "--clip-norm=0.1", "--clip-value=0.001", "--accumulate=2"]),
        (
            &[],
            &["--label-smoothing=0.2", "--dampening=0.5", "--crop-padding=2", "--flip=0.5", "--rotate=20", "--shift=2"],
        ),
        (&["--l1=1e-3"], &["--regularize-biases"]),
        (&["--optimizer=adam"], &["--betas=0.5,0.9", "--amsgrad"]),
        (&["--optimizer=rmsprop", "--lr=0.001"], &["--alpha=0.5", "--centered"]),
        (&["--optimizer=adagrad"], &["--lr-decay=0.5"]),
    ];
    for (base, options) in cases {
        let plain = losses(base);
        for option in options {
            assert_ne!(losses(&[base, &[option]].concat()), plain, "{base:?} with {option}");
        }
    }
    assert_eq!(losses(&["--flip=0"]), losses(&[]), "the same run twice is the same");
}

/// Of a crop only the border differs.
#[test]
fn plans_and_the_check_of_a_step_know_the_options_of_training() {
    let place = Place::new();
    let more = ["--flip=0.5", "--l1=1e-4", "--clip-norm=1", "--label-smoothing=0.1", "--optimizer=adamw", "--amsgrad"];
    let stdout = succeeds(place.lenet(&[&["plan"], &more[..]].concat()));
    for op in ["augment", "regularization", "clip"] {
        assert!(stdout.contains(op), "{op} in {stdout}");
    }
    let stdout =
        succeeds(place.lenet(&[&["verify", "--data", DATA, "--device=cpu", "--batch-size=8"], &more[..]].concat()));
    assert!(stdout.contains("ops agree with the f64 reference") && stdout.contains("augment"), "{stdout}");
}

#[test]
fn options_that_cannot_be_or_have_no_effect_are_refused_before_data_is_read() {
    let place = Place::new();
    let cases: [(&[&str], &str); 33] = [
        (&["--l1", "-1"], "--l1: "),
        (&["--l2", "inf"], "--l2: "),
        (&["--regularize-biases"], "--regularize-biases: expected l1 or l2 above 0"),
        (&["--clip-norm", "0"], "--clip-norm: "),
        (&["--clip-value", "-1"], "--clip-value: "),
        (&["--accumulate", "0"], "--accumulate: "),
        (&["--label-smoothing", "1"], "--label-smoothing: "),
        (&["--dampening", "nan"], "--dampening: "),
        (&["--dampening", "0.1", "--momentum", "0"], "dampening: expected a momentum above 0"),
        (&["--dampening", "0.1", "--nesterov"], "--nesterov: "),
        (&["--dampening", "0.1", "--optimizer", "lion"], "--dampening: expected to be used only with --optimizer sgd"),
        (&["--betas", "0.9,0.99"], "--betas: expected to be used only with --optimizer adam, adamw, nadam or lion"),
        (&["--betas", "0.9", "--optimizer", "adam"], "--betas: "),
        (&["--betas", "0.9,1", "--optimizer", "adam"], "--betas: "),
        (
            &["--amsgrad", "--optimizer", "rmsprop"],
            "--amsgrad: expected to be used only with --optimizer adam or adamw",
        ),
        (&["--alpha", "0.5"], "--alpha: expected to be used only with --optimizer rmsprop"),
        (&["--alpha", "1", "--optimizer", "rmsprop"], "--alpha: "),
        (&["--centered"], "--centered: "),
        (
            &["--lr-decay", "0.1", "--optimizer", "adam"],
            "--lr-decay: expected to be used only with --optimizer adagrad",
        ),
        (&["--lr-decay", "-1", "--optimizer", "adagrad"], "--lr-decay: "),
        (&["--crop-padding", "29"], "--crop-padding: expected a number from 0 to 28"),
        (&["--flip", "1.5"], "--flip: "),
        (&["--rotate", "181"], "--rotate: "),
        (&["--shift", "-1"], "--shift: "),
        (&["--border", "edge", "--flip", "0.5"], "--border: expected --crop-padding, --rotate or --shift above 0"),
        (&["--monitor", "loss"], "val-loss, val-accuracy, train-loss"),
        (&["--no-early-stopping", "--monitor", "val-accuracy"], "--no-early-stopping"),
        (&["--early-stopping-start-epoch", "0"], "--early-stopping-start-epoch: "),
        (&["--warmup", "30"], "--warmup: expected fewer than the 30 epochs of the run"),
        (
            &["--scheduler=one-cycle", "--max-lr=1", "--interval=epoch", "--total-steps=9"],
            "--total-steps: expected at least the 30 steps",
        ),
        (&["--scheduler=one-cycle", "--max-lr=1", "--momentum=0"], "--no-cycle-momentum"),
        (&["--scheduler=step", "--step-size=0"], "--step-size: "),
        (&["--scheduler=cosine", "--gamma=0.1"], "--gamma: expected to be used only with --scheduler step"),
    ];
    for (args, part) in cases {
        // There is nothing to read.
        let Done { code, stderr, .. } = place.lenet(&[&["train", "--device=cpu", "--data", "nowhere"], args].concat());
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{args:?}: {stderr}");
    }
    // Steps are counted once the images are.
    let too_short = place.train(&["--scheduler=one-cycle", "--max-lr=1", "--total-steps=5"]);
    assert_eq!(too_short.code, 2, "{}", too_short.stderr);
    assert!(too_short.stderr.contains("--total-steps: expected at least the 6 steps"), "{}", too_short.stderr);
    assert!(place.runs().is_empty());
}

#[test]
fn the_monitor_goes_by_both_of_its_names() {
    let best = |option: &str| {
        let place = Place::new();
        succeeds(place.train(&["--no-report", "--quiet", option, "val-accuracy"]));
        config(&place.runs()[0])["early_stopping"].clone()
    };
    assert_eq!(best("--monitor"), best("--early-stopping-monitor"));
}
