use serde_json::Value;

use super::{check_png, text};
use crate::cli::{DATA, Place, lines, succeeds};

#[test]
fn a_range_test_suggests_rates_and_shows_why() {
    let place = Place::new();
    let fixed = ["lr-find", "--device=cpu", "--data", DATA, "--train-limit=640", "--batch-size=32"];
    let picture = place.path("range.png");
    let find = |more: &[&str]| succeeds(place.lenet(&[&fixed[..], more].concat()));
    let json = find(&["--json", "--steps=60", "--picture", text(&picture)]);
    assert_eq!(find(&["--json", "--steps=60"]), json, "the same test twice is the same");
    let found = lines(&json).remove(0);
    let points = found["points"].as_array().unwrap();
    let column = |name: &str| -> Vec<f64> { points.iter().map(|point| point[name].as_f64().unwrap()).collect() };
    let (lrs, smoothed) = (column("lr"), column("smoothed"));
    assert!((lrs[0] - 1e-7).abs() < 1e-15 && lrs.is_sorted() && lrs.len() <= 60, "{lrs:?}");
    assert_eq!(found["diverged"], Value::Bool(true), "SGD does not bear a rate of 10: {smoothed:?}");
    // The training that this network is known to learn with has a rate of 0.01 to 0.1 (README).
    for name in ["steepest", "minimum_over_10"] {
        let lr = found[name].as_f64().unwrap();
        assert!((1e-4..0.5).contains(&lr), "{name}: {lr}");
    }
    check_png(&picture);
    let lowest = (0..smoothed.len()).min_by(|&a, &b| smoothed[a].total_cmp(&smoothed[b])).unwrap();
    assert!(found["steepest"].as_f64().unwrap() < lrs[lowest], "a fall after a rise suggests nothing");
    assert!(find(&["--steps=60"]).contains("\nsuggested --lr "));

    // Whatever the number of steps, what is suggested is no noise of the first ones.
    for (steps, seed) in [("--steps=50", "--seed=0"), ("--steps=50", "--seed=3"), ("--steps=100", "--seed=1")] {
        let found = lines(&find(&["--json", steps, seed])).remove(0);
        for name in ["steepest", "minimum_over_10"] {
            assert!(found[name].as_f64().is_none_or(|lr| (1e-3..0.5).contains(&lr)), "{steps} {seed} {name}: {found}");
        }
    }

    let stdout = find(&["--steps=20", "--end-lr=1e-6"]);
    assert!(stdout.contains("the loss did not diverge; a larger --end-lr shows more"), "{stdout}");
    assert!(stdout.contains("\nsuggested nothing: the loss falls nowhere by clearly more"), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.trim_start().starts_with(char::is_numeric)).count(), 20, "{stdout}");
    assert!(place.runs().is_empty(), "a test leaves no run");
}

#[test]
fn a_range_test_that_cannot_be_is_refused() {
    let place = Place::new();
    for (args, part) in [
        (&["--start-lr=0"][..], "--start-lr: expected a number above 0"),
        (&["--start-lr=1", "--end-lr=0.1"], "--end-lr: expected a number above the rate of the first step, 1"),
        (&["--steps=3"], "--steps: expected at least 10"),
        (&["--smoothing=1"], "--smoothing: "),
        (&["--diverges-at=1"], "--diverges-at: "),
        (&["--lr=0.1"], "--lr: expected to be used only with a run that trains"),
    ] {
        let failed = place.lenet(&[&["lr-find", "--device=cpu", "--data", DATA, "--train-limit=64"], args].concat());
        assert_eq!(failed.code, 2, "{args:?}: {}", failed.stderr);
        assert!(failed.stderr.contains(part), "{args:?}: {}", failed.stderr);
    }
}
