//! `lenet schedule`, held to the rates of PyTorch's schedulers, and what it refuses.

use super::*;

/// The values of tests/golden/schedules.py.
fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/schedules.json")).unwrap()
}

/// A schedule of the golden file as options, its kind first.
fn options(schedule: &Value) -> Vec<String> {
    let mut options = Vec::new();
    for (key, value) in schedule.as_object().unwrap() {
        // An optimizer's eps takes the short name.
        let option = if key == "eps" { "--scheduler-eps".to_owned() } else { format!("--{}", key.replace('_', "-")) };
        let text = value.as_str().map_or_else(|| value.to_string(), |text| text.replace('_', "-"));
        match (key.as_str(), value) {
            ("kind", _) => options.splice(0..0, ["--scheduler".to_owned(), text]).for_each(drop),
            ("cycle_momentum", Value::Bool(false)) => options.push("--no-cycle-momentum".to_owned()),
            ("three_phase", Value::Bool(true)) => options.push(option),
            (_, Value::Bool(_)) => {}
            (_, Value::Array(_)) => options.extend([option, text.trim_matches(['[', ']']).to_owned()]),
            _ => options.extend([option, text]),
        }
    }
    // What has no effect beside this is refused.
    if options.iter().any(|option| option == "--no-cycle-momentum") {
        for other in ["--base-momentum", "--max-momentum"] {
            let place = options.iter().position(|option| option == other).unwrap();
            options.drain(place..place + 2);
        }
    }
    options
}

fn rows(place: &Place, lr: &Value, steps: usize, more: &[String]) -> Vec<Value> {
    let (lr, steps) = (lr.to_string(), steps.to_string());
    let mut args = vec!["schedule", "--json", "--lr", &lr, "--steps", &steps];
    args.extend(more.iter().map(String::as_str));
    let stdout = succeeds(place.lenet(&args));
    assert_eq!(stdout.lines().count(), 1, "one JSON list and nothing else: {stdout}");
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    assert!(rows.iter().enumerate().all(|(step, row)| row["step"] == step), "{stdout}");
    rows
}

#[track_caller]
fn assert_column(rows: &[Value], column: &str, want: &[Value], name: &str) {
    assert_eq!(rows.len(), want.len(), "{name}");
    for (row, want) in rows.iter().zip(want) {
        let (got, want) = (row[column].as_f64().unwrap(), want.as_f64().unwrap());
        assert!((got - want).abs() <= 1e-12 * want.abs().max(1e-3), "{name}: {row}, {column} is not {want:?}");
    }
}

#[test]
fn every_scheduler_gives_pytorchs_rates() {
    let place = Place::new();
    let golden = golden();
    let mut kinds = std::collections::BTreeSet::new();
    for case in golden["schedules"].as_array().unwrap() {
        let (name, schedule) = (case["name"].as_str().unwrap(), &case["schedule"]);
        let more = match (schedule["kind"].as_str().unwrap(), schedule["schedules"].as_array().map(Vec::as_slice)) {
            ("sequential", Some([rise, then])) if rise["kind"] == "linear" => {
                let (steps, factor) = (rise["total_iters"].to_string(), rise["start_factor"].to_string());
                let warm_up = ["--warmup".to_owned(), steps, "--warmup-factor".to_owned(), factor];
                kinds.insert("warm-up".to_owned());
                [&options(then)[..], &warm_up].concat()
            }
            // Not for the command line.
            ("sequential", _) => continue,
            (kind, _) => {
                kinds.insert(kind.to_owned());
                options(schedule)
            }
        };
        let lr = case["lr"].as_array().unwrap();
        let rows = rows(&place, &case["base_lr"], lr.len(), &more);
        assert_column(&rows, "lr", lr, name);
        match case["momentum"].as_array() {
            Some(momentum) => assert_column(&rows, "momentum", momentum, name),
            None => assert!(rows.iter().all(|row| row.get("momentum").is_none()), "{name}"),
        }
    }
    assert_eq!(kinds.len(), 10, "{kinds:?}");
}

#[test]
fn a_plateau_follows_the_metric_as_pytorchs_does() {
    let place = Place::new();
    for case in golden()["plateaus"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        // JSON has null for what is not a number.
        let text = |value: &Value| if value.is_null() { "nan".to_owned() } else { value.to_string() };
        let metrics: Vec<String> = case["metrics"].as_array().unwrap().iter().map(text).collect();
        let mut more = options(&case["options"]);
        more.extend(["--scheduler=plateau".to_owned(), format!("--metric={}", metrics.join(","))]);
        let rows = rows(&place, &case["base_lr"], metrics.len() + 1, &more);
        assert_eq!(rows[0]["lr"], case["base_lr"], "{name}");
        assert_column(&rows[1..], "lr", case["lr_after"].as_array().unwrap(), name);
    }
}

#[test]
fn defaults_are_pytorchs_and_lengths_those_that_are_shown() {
    let place = Place::new();
    let lrs = |args: &[&str]| -> Vec<f64> {
        let more: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let rows = rows(&place, &serde_json::json!(0.1), 8, &more);
        rows.iter().map(|row| row["lr"].as_f64().unwrap()).collect()
    };
    let third = "0.3333333333333333";
    let cases: [(&[&str], &[&str]); 10] = [
        (&[], &["--scheduler=step", "--step-size=100"]),
        (&["--scheduler=step", "--step-size=3"], &["--scheduler=multi-step", "--milestones=3,6", "--gamma=0.1"]),
        (
            &["--scheduler=linear"],
            &["--scheduler=linear", "--start-factor", third, "--end-factor=1", "--total-iters=8"],
        ),
        (&["--scheduler=constant-factor"], &["--scheduler=constant-factor", "--factor", third, "--total-iters=5"]),
        (&["--scheduler=polynomial"], &["--scheduler=polynomial", "--total-iters=8", "--power=1"]),
        (&["--scheduler=cosine"], &["--scheduler=cosine", "--t-max=8", "--eta-min=0"]),
        (
            &["--scheduler=cosine", "--warmup=3"],
            &["--scheduler=cosine", "--t-max=5", "--warmup=3", "--warmup-factor", third],
        ),
        (&["--scheduler=one-cycle", "--max-lr=1"], &["--scheduler=one-cycle", "--max-lr=1", "--total-steps=8"]),
        (&["--scheduler=one_cycle"], &["--scheduler=one-cycle", "--max-lr=0.1"]),
        (&["--warmup=5"], &["--scheduler=linear", "--total-iters=5"]),
    ];
    for (short, long) in cases {
        assert_eq!(lrs(short), lrs(long), "{short:?}");
    }
    assert_eq!(lrs(&[]), [0.1; 8]);
}

#[test]
fn a_schedule_is_shown_as_a_table_and_as_a_picture() {
    let place = Place::new();
    let picture = place.path("one-cycle.png");
    let args = ["schedule", "--steps", "100", "--scheduler", "one-cycle", "--max-lr", "0.1"];
    let stdout = succeeds(place.lenet(&[&args[..], &["--picture", picture.to_str().unwrap()]].concat()));
    assert!(stdout.starts_with("schedule  one cycle up to 0.1 over 100 steps, momentum from 0.95"), "{stdout}");
    let rows: Vec<Vec<&str>> = stdout.lines().skip(3).take(100).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[0][..].join(" "), rows[99][0]), ("0 0.004 0.950000".to_owned(), "99"), "a pipe gets every step");
    assert!(stdout.contains("picture   ") && !stdout.contains('\u{1b}'), "{stdout}");
    let bytes = std::fs::read(&picture).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n") && bytes.len() > 5000, "{} bytes", bytes.len());

    let stdout =
        succeeds(place.lenet(&["schedule", "--lr", "0.1", "--steps", "2", "--scheduler=exponential", "--gamma=.5"]));
    let want = "schedule  learning rate 0.1, times 0.5 every epoch\n\n   epoch  learning rate\n       0            0.1\n       \
                1           0.05\n";
    assert_eq!(stdout, want);
}

#[test]
fn a_schedule_of_a_run_is_shown_from_its_configuration() {
    let place = Place::new();
    succeeds(place.train(&["--lr", "0.2", "--scheduler", "cosine", "--warmup", "1", "--interval", "batch", "--quiet"]));
    let config = place.runs()[0].join("config.toml");
    let config = ["schedule", "--steps", "6", "--config", config.to_str().unwrap(), "--json"];
    let lrs = |done: Done| -> Vec<f64> {
        let rows: Vec<Value> = serde_json::from_str(&succeeds(done)).unwrap();
        rows.iter().map(|row| row["lr"].as_f64().unwrap()).collect()
    };
    // Two epochs of three steps, the first of which warms up.
    let by_hand = ["--lr=0.2", "--scheduler=cosine", "--warmup=1", "--t-max=5", "--interval=batch"];
    let own = lrs(place.lenet(&config));
    assert_eq!(own, lrs(place.lenet(&[&["schedule", "--steps=6", "--json"], &by_hand[..]].concat())));
    let changed = lrs(place.lenet(&[&config[..], &["--eta-min", "0.1"]].concat()));
    assert_eq!(changed[..2], own[..2], "what is not given stays as the file says");
    assert!(changed[5] > 0.1, "{changed:?}");
}

#[test]
fn what_a_schedule_cannot_be_is_a_usage_error() {
    let place = Place::new();
    let cases: [(&[&str], &str); 33] = [
        (&["--scheduler", "step"], "--step-size: expected to be given, as it has no default"),
        (&["--scheduler", "multi-step"], "--milestones: expected to be given"),
        (&["--scheduler", "exponential"], "--gamma: expected to be given"),
        (&["--scheduler", "cosine-warm-restarts"], "--t-0: expected to be given"),
        (&["--scheduler", "one-cycle", "--no-cycle-momentum", "--max-momentum", "0.9"], "--max-momentum: "),
        (&["--scheduler", "unheard-of"], "cosine-warm-restarts"),
        (&["--scheduler", "step", "--step-size", "0"], "--step-size: expected at least 1"),
        (&["--scheduler", "step", "--step-size", "1", "--gamma", "-1"], "--gamma: "),
        (&["--scheduler", "multi-step", "--milestones", "0,3"], "--milestones: "),
        (&["--scheduler", "linear", "--start-factor", "0"], "--start-factor: "),
        (&["--scheduler", "linear", "--end-factor", "2"], "--end-factor: "),
        (&["--scheduler", "polynomial", "--total-iters", "0"], "--total-iters: "),
        (&["--scheduler", "polynomial", "--power", "0"], "--power: "),
        (&["--scheduler", "cosine", "--t-max", "0"], "--t-max: "),
        (&["--scheduler", "cosine", "--eta-min", "-1"], "--eta-min: "),
        (&["--scheduler", "cosine-warm-restarts", "--t-0", "0"], "--t-0: "),
        (&["--scheduler", "cosine-warm-restarts", "--t-0", "1", "--t-mult", "0"], "--t-mult: "),
        (&["--scheduler", "one-cycle", "--max-lr", "0"], "--max-lr: "),
        (&["--scheduler", "one-cycle", "--max-lr", "1", "--pct-start", "0.1"], "--pct-start: "),
        (
            &["--scheduler", "one-cycle", "--max-lr", "1", "--total-steps", "9"],
            "--total-steps: expected at least the 10",
        ),
        (&["--scheduler", "one-cycle", "--max-lr", "1", "--max-momentum", "1"], "--max-momentum: "),
        (
            &["--scheduler", "one-cycle", "--max-lr", "1", "--warmup", "2"],
            "--warmup: expected 0 before a schedule that has a rise",
        ),
        (&["--scheduler", "plateau", "--threshold", "-1"], "--threshold: "),
        (&["--scheduler", "plateau", "--min-lr", "-1"], "--min-lr: "),
        (&["--scheduler", "plateau"], "--metric: expected 9 values"),
        (&["--scheduler", "plateau", "--metric", "1,1,1"], "got 3"),
        (&["--scheduler", "cosine", "--metric", "1"], "--metric: expected to be used only with --scheduler plateau"),
        (&["--scheduler", "cosine", "--warmup", "10"], "--warmup: expected fewer than the 10 epochs of the run"),
        (&["--warmup", "2", "--warmup-factor", "0"], "--warmup-factor: "),
        (&["--warmup-factor", "0.1"], "--warmup-factor: expected a warmup of at least 1 step"),
        (
            &["--scheduler", "plateau", "--interval", "batch"],
            "--interval: expected a schedule that counts steps, or a warmup",
        ),
        (&["--lr", "0"], "--lr: "),
        (&["--steps", "0"], "--steps"),
    ];
    for (args, part) in cases {
        let steps: &[&str] = if args.contains(&"--steps") { &[] } else { &["--steps", "10"] };
        let Done { code, stdout, stderr } = place.lenet(&[&["schedule"], steps, args].concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{args:?}: {stderr}");
    }
}

/// Each argument with each scheduler that does not take it.
#[test]
fn an_argument_of_another_scheduler_is_refused_by_name() {
    let place = Place::new();
    let schedulers: [(&str, &[&str]); 11] = [
        ("constant", &[]),
        ("step", &["--step-size=1", "--gamma=0.5"]),
        ("multi-step", &["--milestones=1", "--gamma=0.5"]),
        ("exponential", &["--gamma=0.5"]),
        ("linear", &["--start-factor=0.5", "--end-factor=0.5", "--total-iters=3"]),
        ("constant-factor", &["--factor=0.5", "--total-iters=3"]),
        ("polynomial", &["--total-iters=3", "--power=2"]),
        ("cosine", &["--t-max=3", "--eta-min=0.1"]),
        ("cosine-warm-restarts", &["--t-0=3", "--t-mult=2", "--eta-min=0.1"]),
        ("one-cycle", &["--max-lr=1", "--total-steps=3", "--div-factor=2", "--three-phase"]),
        ("plateau", &["--factor=0.5", "--patience=3", "--mode=max", "--threshold-mode=abs", "--scheduler-eps=0"]),
    ];
    for (scheduler, own) in schedulers {
        let metric: &[&str] = if scheduler == "plateau" { &["--metric=1,1"] } else { &[] };
        let fixed = [&["schedule", "--steps=3", "--scheduler", scheduler], metric, own].concat();
        succeeds(place.lenet(&fixed));
        let name = |argument: &str| argument.split('=').next().unwrap().to_owned();
        let others = schedulers.iter().flat_map(|(_, others)| *others);
        for other in others.filter(|other| !own.iter().any(|own| name(own) == name(other))) {
            let Done { code, stderr, .. } = place.lenet(&[&fixed[..], &[other]].concat());
            let part = format!("error: {}: expected to be used only with --scheduler ", name(other));
            assert_eq!(code, 2, "{scheduler} with {other}: {stderr}");
            assert!(stderr.starts_with(&part) && stderr.contains(scheduler), "{scheduler} with {other}: {stderr}");
        }
    }
}
