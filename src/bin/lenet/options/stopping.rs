//! Options about when training ends.

use clap::Args;
use wgrad::run::RunConfig;
use wgrad::train::early_stop::{EarlyStopOptions, Monitor};

use super::{choice, set};

const MONITORS: [(&str, Monitor); 3] =
    [("val-loss", Monitor::ValLoss), ("val-accuracy", Monitor::ValAccuracy), ("train-loss", Monitor::TrainLoss)];

/// What has no effect where nothing stops early.
const STOPPING: [&str; 4] =
    ["monitor", "early_stopping_patience", "early_stopping_min_delta", "early_stopping_start_epoch"];

#[derive(Args)]
#[command(next_help_heading = "Training")]
pub struct StoppingOptions {
    /// The most epochs [default: 30]
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// The metric that says which epoch's weights are best and, without a better value, when to stop
    /// [default: val-loss]
    #[arg(long, value_name = "METRIC", alias = "early-stopping-monitor", value_parser = choice(&MONITORS))]
    monitor: Option<Monitor>,
    /// Stop after N epochs in a row without a better value of it [default: 5]
    #[arg(long, value_name = "N")]
    early_stopping_patience: Option<u64>,
    /// How much better a value must be to count; of an accuracy, 0.01 is one point [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    early_stopping_min_delta: Option<f64>,
    /// The first epoch that counts for stopping; those before neither wait nor improve [default: 1]
    #[arg(long, value_name = "N")]
    early_stopping_start_epoch: Option<u64>,
    /// Train all epochs
    #[arg(long, conflicts_with_all = STOPPING)]
    no_early_stopping: bool,
}

impl StoppingOptions {
    pub fn apply(self, config: &mut RunConfig) {
        set(self.epochs, &mut config.epochs);
        if self.no_early_stopping {
            config.early_stopping = None;
        }
        let StoppingOptions { monitor, early_stopping_patience: patience, .. } = self;
        let (min_delta, start_epoch) = (self.early_stopping_min_delta, self.early_stopping_start_epoch);
        if monitor.is_some() || patience.is_some() || min_delta.is_some() || start_epoch.is_some() {
            let stopping = config.early_stopping.get_or_insert_with(EarlyStopOptions::default);
            set(monitor, &mut stopping.monitor);
            set(patience, &mut stopping.patience);
            set(min_delta, &mut stopping.min_delta);
            set(start_epoch, &mut stopping.start_epoch);
        }
    }
}
