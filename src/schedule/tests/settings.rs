//! Schedules as settings: their files, words and errors.

use super::*;

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
