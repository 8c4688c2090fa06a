//! What `--help` says.

use super::{Place, succeeds};

#[test]
fn help_explains_every_option_with_its_default() {
    let help = succeeds(Place::new().lenet(&["--help"]));
    let options = [
        "--dataset",
        "--data",
        "--epochs",
        "--batch-size",
        "--optimizer",
        "--lr",
        "--momentum",
        "--nesterov",
        "--weight-decay",
        "--dropout",
        "--batch-norm",
        "--seed",
        "--device",
        "--train-limit",
        "--val-limit",
        "--val-split",
        "--normalize",
        "--no-shuffle",
        "--init",
        "--out",
        "--early-stopping-patience",
        "--early-stopping-min-delta",
        "--no-early-stopping",
        "--scheduler",
        "--warmup",
        "--interval",
        "--total-steps",
        "--threshold-mode",
        "--l1",
        "--clip-norm",
        "--accumulate",
        "--label-smoothing",
        "--betas",
        "--crop-padding",
        "--flip",
        "--monitor",
        "--early-stopping-start-epoch",
        "--config",
        "--json",
        "--quiet",
    ];
    for option in options {
        let (_, text) = help.split_once(&format!(" {option}")).unwrap_or_else(|| panic!("no {option} in {help}"));
        assert!(text.lines().nth(1).is_some_and(|line| line.trim().len() > 10), "{option} is not explained");
    }
    assert!(help.contains("WGRAD_DEVICE") && help.contains("[default: 0.01 with sgd"));
    for odd in ["multi_step", "all_conv", "one_cycle", "0.00000001", "0.3333333333", " 1.0]"] {
        assert!(!help.contains(odd), "{odd} is in {help}");
    }
}
