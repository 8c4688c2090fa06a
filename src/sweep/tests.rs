//! Spaces, what is drawn from them, and what is refused.

use std::collections::HashSet;

use toml::Value;

use super::*;
use crate::optim::{Adam, Lion, Optimizer, Sgd};
use crate::train::early_stop::Monitor;

fn space(text: &str) -> crate::Result<Space> {
    Space::parse(&toml::from_str(text).expect("TOML"))
}

fn sweep(text: &str) -> crate::Result<Sweep> {
    Sweep::new(toml::from_str(text).expect("a sweep's tables"))
}

/// The values of a setting over many random trials.
fn drawn(text: &str, name: &str) -> Vec<Value> {
    let space = space(text).unwrap();
    (0..2000).map(|trial| space.sample(5, trial).get(name).unwrap().clone()).collect()
}

fn numbers(values: &[Value]) -> Vec<f64> {
    values.iter().map(|value| value.as_float().or(value.as_integer().map(|x| x as f64)).unwrap()).collect()
}

#[test]
fn a_log_range_has_as_many_below_its_geometric_middle_as_above() {
    let lr = numbers(&drawn("lr = { min = 1e-4, max = 1.0, log = true }", "lr"));
    assert!(lr.iter().all(|x| (1e-4..=1.0).contains(x)), "{lr:?}");
    let below = lr.iter().filter(|x| **x < 1e-2).count();
    assert!((900..1100).contains(&below), "{below} of 2000 below 0.01");
    assert!(lr.iter().all(|x| format!("{x:.3e}").parse::<f64>().unwrap() == *x), "four digits are enough");
}

#[test]
fn a_uniform_range_has_its_mean_in_the_middle_and_three_decimals_or_more() {
    let momentum = numbers(&drawn("m = { min = 0, max = 1 }", "m"));
    let mean = momentum.iter().sum::<f64>() / 2000.0;
    assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
    assert!(momentum.iter().all(|x| (x * 1000.0).fract().abs() < 1e-9 || (x * 1000.0).fract() > 1.0 - 1e-9));
    let narrow: HashSet<String> =
        numbers(&drawn("m = { min = 5000.0, max = 5000.1 }", "m")).iter().map(f64::to_string).collect();
    assert!(narrow.len() > 500, "a narrow range far from 0 keeps its digits: {}", narrow.len());
}

#[test]
fn whole_numbers_and_steps_reach_both_ends_evenly() {
    for (text, all) in [
        ("n = { min = 1, max = 4, integer = true }", vec![1.0, 2.0, 3.0, 4.0]),
        ("n = { min = 16, max = 64, step = 16 }", vec![16.0, 32.0, 48.0, 64.0]),
        ("n = { min = 0.0, max = 0.35, step = 0.1 }", vec![0.0, 0.1, 0.2, 0.3]),
    ] {
        let values = drawn(text, "n");
        let is_whole = all.iter().all(|x: &f64| x.fract() == 0.0);
        assert!(values.iter().all(|value| value.is_integer() == is_whole), "{text}: a count must be written as one");
        for value in all {
            let count = numbers(&values).iter().filter(|x| **x == value).count();
            assert!((400..600).contains(&count), "{text}: {value} came {count} times of 2000");
        }
    }
    let wide = numbers(&drawn("n = { min = 1, max = 1000, integer = true, log = true }", "n"));
    // The geometric middle of 0.5 and 1000.5, which is what the whole numbers cover.
    let below = wide.iter().filter(|x| **x <= 22.0).count();
    assert!((950..1050).contains(&below), "{below} of 2000 below the geometric middle");
    assert!(wide.contains(&1.0) && wide.iter().all(|x| (1.0..=1000.0).contains(x)));
}

#[test]
fn choices_are_equally_likely_and_of_any_type() {
    let text = "x = { choices = [\"a\", 2, 0.5, true] }";
    for value in ["\"a\"", "2", "0.5", "true"] {
        let count = drawn(text, "x").iter().filter(|choice| choice.to_string() == value).count();
        assert!((400..600).contains(&count), "{value} came {count} times of 2000");
    }
}

#[test]
fn every_eight_trials_take_each_eighth_of_a_setting_once() {
    let space = space("a = { min = 0.0, max = 8.0 }\nb = { choices = [\"w\", \"x\", \"y\", \"z\"] }").unwrap();
    let mut orders = HashSet::new();
    for block in 0..20 {
        let trials: Vec<Assignment> = (8 * block..8 * block + 8).map(|trial| space.sample(0, trial)).collect();
        let eighths: Vec<u32> =
            trials.iter().map(|trial| trial.get("a").unwrap().as_float().unwrap().min(7.9) as u32).collect();
        let mut sorted = eighths.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        let mut choices: Vec<&str> = trials.iter().map(|trial| trial.get("b").unwrap().as_str().unwrap()).collect();
        choices.sort_unstable();
        assert_eq!(choices, ["w", "w", "x", "x", "y", "y", "z", "z"]);
        orders.insert(eighths);
    }
    assert_eq!(orders.len(), 20, "the order is another each time");
}

#[test]
fn a_trial_is_a_function_of_seed_and_number_and_of_nothing_else() {
    let two = space("a = { min = 0, max = 1 }\nb = { min = 0, max = 1 }").unwrap();
    let one = space("b = { min = 0, max = 1 }").unwrap();
    assert_eq!(two.sample(1, 7), two.sample(1, 7));
    assert_eq!(two.sample(1, 7).get("b"), one.sample(1, 7).get("b"), "other settings have no part in it");
    assert_ne!(two.sample(1, 7), two.sample(2, 7));
    assert_ne!(two.sample(1, 7), two.sample(1, 8));
    assert_ne!(two.sample(1, 7).get("a"), two.sample(1, 7).get("b"));
}

#[test]
fn a_grid_has_every_combination_once_and_the_last_setting_changes_fastest() {
    let text = "lr = { min = 0.01, max = 1.0, log = true, count = 3 }\n\
                optimizer.momentum = { choices = [0.0, 0.9] }\nbatch_size = { min = 1, max = 3, integer = true, count = 9 }";
    let space = space(text).unwrap();
    let names: Vec<&str> = space.settings().iter().map(|setting| setting.name.as_str()).collect();
    assert_eq!(names, ["lr", "optimizer.momentum", "batch_size"]);
    let grid = space.grid().unwrap();
    let distinct: HashSet<String> = grid.iter().map(Assignment::describe).collect();
    assert_eq!(
        (grid.len(), distinct.len()),
        (18, 18),
        "3 rates, 2 momenta, and 3 whole numbers though 9 were asked for"
    );
    assert_ne!(grid[0].get("batch_size"), grid[1].get("batch_size"));
    assert_eq!(grid[0].get("optimizer.momentum"), grid[1].get("optimizer.momentum"));
    let mut rates: Vec<f64> = grid.iter().map(|point| point.get("lr").unwrap().as_float().unwrap()).collect();
    rates.dedup();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    assert_eq!(rates, [0.01, 0.1, 1.0]);
}

#[test]
fn what_a_space_cannot_be_names_the_setting_and_what_it_may_be() {
    let cases = [
        ("", "[space]", "at least one setting"),
        ("lr = 0.1", "space.lr", "choices"),
        ("lr = {}", "space.lr", "choices"),
        ("lr = { choices = [] }", "space.lr", "no choices"),
        ("lr = { chioces = [1] }", "space.lr", "chioces"),
        ("lr = { choices = [1], log = true }", "space.lr", "choices and parts of a range"),
        ("lr = { min = 1 }", "space.lr", "both min and max"),
        ("lr = { min = 1, max = 1 }", "space.lr", "min below max"),
        ("lr = { min = 1, max = \"2\" }", "space.lr", "a number as max"),
        ("lr = { min = 1, max = nan }", "space.lr", "a number as max"),
        ("lr = { min = 0, max = 1, log = true }", "space.lr", "min above 0"),
        ("lr = { min = 0.5, max = 2, integer = true }", "space.lr", "whole numbers"),
        ("lr = { min = 0, max = 2, step = 0 }", "space.lr", "a step above 0"),
        ("lr = { min = 1, max = 2, step = 0.5, log = true }", "space.lr", "without log"),
        ("lr = { min = 0, max = 2, step = 0.5, integer = true }", "space.lr", "whole numbers as min and step"),
        ("lr = { min = 0, max = 2, count = 1 }", "space.lr", "at least 2 points"),
        ("optimizer.momentum = { min = 2, max = 1 }", "space.optimizer.momentum", "min below max"),
        ("lr = { choices = [1] }\n\"optimizer.momentum\" = 3", "space.optimizer.momentum", "choices"),
        ("\"a.b\" = { choices = [1] }\na.b = { choices = [2] }", "space.a.b", "once"),
    ];
    for (text, setting, part) in cases {
        let error = space(text).unwrap_err();
        let message = error.to_string();
        assert!(error.is_usage() && message.starts_with(&format!("{setting}:")), "{text}: {message}");
        assert!(message.contains(part), "{text}: {message}");
    }
    let error = space("lr = { min = 0, max = 1 }").unwrap().grid().unwrap_err().to_string();
    assert!(error.starts_with("space.lr:") && error.contains("count ="), "{error}");
    let hundred = "{ min = 1, max = 100, step = 1 }";
    let error = space(&format!("a = {hundred}\nb = {hundred}\nc = {hundred}")).unwrap().grid().unwrap_err();
    assert!(error.to_string().contains("at most 100000"), "{error}");
}

#[test]
fn settings_go_into_the_base_and_a_whole_table_before_what_is_in_it() {
    let text = "[search]\nmethod = \"grid\"\n[base]\nnetwork = { kind = \"lenet5\", dropout = 0.25 }\noptimizer = \"adam\"\n[space]\n\
                optimizer.weight_decay = { choices = [0.5] }\ngradients.l2 = { choices = [1e-3] }\n\
                gradients.clip_norm = { choices = [1] }\n\
                optimizer_ = { choices = [1] }";
    let error = sweep(text).unwrap_err().to_string();
    assert!(error.starts_with("space.optimizer_:") && error.contains("optimizer"), "{error}");
    let config = &sweep(&text.replace("optimizer_ = { choices = [1] }", "")).unwrap().trials[0].config;
    assert_eq!(
        config.optimizer,
        Optimizer::from(Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.5, amsgrad: false })
    );
    let dropout = crate::nn::LeNet5 { dropout: 0.25, ..crate::nn::LeNet5::default() };
    assert_eq!(
        (&config.network, config.lr),
        (&dropout.into(), Some(0.001)),
        "the optimizer's own learning rate, by name"
    );
    assert_eq!((config.gradients.l2, config.gradients.clip_norm), (1e-3, Some(1.0)));
}

#[test]
fn an_optimizer_is_a_word_or_a_table_of_what_is_unusual_about_it() {
    let text = "[search]\nmethod = \"grid\"\n[space]\noptimizer = { choices = [\"sgd\", \"lion\", \
                { kind = \"sgd\", nesterov = true }] }\nschedule = { choices = [\"constant\", \
                { kind = \"exponential\", gamma = 0.9 }] }";
    let sweep = sweep(text).unwrap();
    let configs: Vec<&crate::run::RunConfig> = sweep.trials.iter().map(|trial| &trial.config).collect();
    assert_eq!(configs.len(), 6);
    let optimizers: HashSet<String> = configs.iter().map(|config| format!("{:?}", config.optimizer)).collect();
    let nesterov = Optimizer::from(Sgd { momentum: 0.9, dampening: 0.0, nesterov: true, weight_decay: 0.0 });
    let expected =
        [Optimizer::sgd(0.9), Optimizer::from(Lion::default()), nesterov].map(|optimizer| format!("{optimizer:?}"));
    assert_eq!(optimizers, HashSet::from(expected));
    assert_eq!(sweep.trials[4].assignment.describe(), "optimizer = sgd, nesterov true, schedule = constant");
}

#[test]
fn a_network_is_searched_with_a_setting_that_each_of_them_has() {
    let text = |kinds: &str| {
        let dropout = "network.dropout = { choices = [0.0, 0.2] }";
        format!("[search]\nmethod = \"grid\"\n[space]\n{dropout}\nnetwork.kind = {{ choices = {kinds} }}")
    };
    let sweep_of = sweep(&text(r#"["lenet5", "mlp"]"#)).unwrap();
    let networks: HashSet<String> = sweep_of.trials.iter().map(|trial| format!("{:?}", trial.config.network)).collect();
    assert_eq!(networks.len(), 4, "{networks:?}");
    assert!(networks.iter().any(|network| network.contains("Mlp") && network.contains("dropout: 0.2")), "{networks:?}");
    let error = sweep(&text(r#"["lenet5", "resnet"]"#)).unwrap_err().to_string();
    assert!(error.contains("network.dropout") && error.contains("network resnet"), "{error}");
}

#[test]
fn every_trial_is_checked_and_the_setting_at_fault_is_named() {
    let cases = [
        ("lr = { min = -1, max = 1 }", "space.lr:", "above 0"),
        ("lr = { choices = [0.1, \"high\"] }", "space.lr:", "high"),
        ("batch_size = { choices = [32, 0] }", "space.batch_size:", "at least 1"),
        ("batch_size = { choices = [32.5] }", "space.batch_size:", "32.5"),
        ("network.dropout = { choices = [0.5, 1] }", "space.network.dropout:", "below 1"),
        ("batchsize = { choices = [32] }", "space.batchsize:", "batch_size"),
        ("optimizer.momentun = { choices = [0.5] }", "space.optimizer.momentun:", "momentum"),
        ("optimizer = { choices = [\"adamm\"] }", "space.optimizer:", "adamw"),
        ("lr.high = { choices = [1] }", "space.lr.high:", ""),
        ("device = { choices = [\"cpu\", \"gpu\"] }", "space.device:", "[base]"),
        ("epochs = { choices = [1, 2] }", "space.epochs:", "[base]"),
        ("optimizer = { choices = [\"adam\"] }\noptimizer_x = { choices = [1] }", "space.optimizer_x:", "optimizer"),
        (
            "optimizer = { choices = [\"adam\"] }\n\"optimizer.momentum\" = { choices = [0.5] }",
            "[space]:",
            "optimizer.momentum = 0.5",
        ),
    ];
    for (text, setting, part) in cases {
        let error = sweep(&format!("[search]\nnum_trials = 50\n[space]\n{text}")).unwrap_err();
        let message = error.to_string();
        assert!(error.is_usage() && message.starts_with(setting) && message.contains(part), "{text}: {message}");
    }
}

#[test]
fn what_is_asked_of_the_search_is_checked() {
    let space = "[space]\nlr = { choices = [0.1, 0.2, 0.3] }";
    let cases = [
        ("[search]\nnum_trials = 0", "search.num_trials"),
        ("[search]\nmethod = \"grid\"\nnum_trials = 2", "search.num_trials: expected at least 3"),
        ("[search]\njobs = 0", "search.jobs"),
        ("[search]\nmethod = \"asha\"\nmin_epochs = 0", "search.min_epochs"),
        ("[search]\nmethod = \"asha\"\nmin_epochs = 10\nmax_epochs = 9", "search.min_epochs"),
        ("[search]\nmethod = \"asha\"\nreduction_factor = 1", "search.reduction_factor"),
        ("[base]\nbatch_size = 0", "base.batch_size"),
        ("[base]\nbatchsize = 3", "[base]"),
    ];
    for (text, part) in cases {
        let error = sweep(&format!("{text}\n{space}")).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with(part), "{text}: {error}");
    }
}

#[test]
fn early_stopping_goes_by_the_metric_unless_the_base_says_otherwise() {
    let monitor = |base: &str| {
        let text = format!("[search]\nmetric = \"val_accuracy\"\n{base}\n[space]\nlr = {{ choices = [0.1] }}");
        sweep(&text).unwrap().trials[0].config.early_stopping.clone().map(|stopping| stopping.monitor)
    };
    assert_eq!(monitor(""), Some(Monitor::ValAccuracy));
    assert_eq!(monitor("[base.early_stopping]\npatience = 3"), Some(Monitor::ValAccuracy));
    assert_eq!(monitor("[base.early_stopping]\nmonitor = \"val_loss\""), Some(Monitor::ValLoss));
    assert_eq!(monitor("[base]\nearly_stopping = false"), None);
}

#[test]
fn halving_trains_to_max_epochs_or_the_bases() {
    let epochs = |search: &str, base: &str| {
        let text =
            format!("[search]\nmethod = \"asha\"\n{search}\n[base]\n{base}\n[space]\nlr = {{ choices = [0.1] }}");
        let sweep = sweep(&text).unwrap();
        (sweep.trials[0].config.epochs, sweep.search().unwrap().rungs().to_vec())
    };
    assert_eq!(epochs("", "epochs = 12"), (12, vec![1, 3, 12]));
    assert_eq!(epochs("max_epochs = 9\nmin_epochs = 2", "epochs = 12"), (9, vec![2, 9]));
    assert_eq!(epochs("max_epochs = 16\nreduction_factor = 4", ""), (16, vec![1, 4, 16]));
}

#[test]
fn the_example_and_the_guides_are_sweeps_whose_settings_keep_the_order_of_the_file() {
    let guide = include_str!("../../docs/sweeps.md");
    let (_, block) = guide.split_once("```toml\n[search]").unwrap();
    let block = format!("[search]{}", block.split_once("```").unwrap().0);
    for text in [include_str!("../../examples/sweep.toml"), &block] {
        let sweep = sweep(text).unwrap();
        let names: Vec<&str> = sweep.space.settings().iter().map(|setting| setting.name.as_str()).collect();
        assert_eq!(names[..4], ["lr", "batch_size", "optimizer.momentum", "network.dropout"]);
        assert_eq!((sweep.trials.len(), sweep.search().unwrap().rungs()), (24, &[1, 3, 9][..]));
    }
}
