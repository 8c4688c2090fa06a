//! The configuration of a sweep: its file, and the trials that follow from it. All trials' settings are checked here,
//! before the first one trains.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::search::Search;
use super::share::Share;
use super::space::{Assignment, Space, first_line};
use super::values::describe;
use crate::run::settings::check_name;
use crate::run::{RunConfig, Settings};
use crate::train::EpochReport;
use crate::train::early_stop::{EarlyStopOptions, Monitor};
use crate::{Error, Result};

/// The file of a sweep, and `sweep.toml` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// How to search.
    #[serde(default)]
    pub search: SearchOptions,
    /// Settings that all trials share, as in a [`RunConfig`]'s file; what is not there has its default.
    #[serde(default)]
    pub base: Table,
    /// The settings to search over; see [`Space::parse`].
    #[serde(default)]
    pub space: Table,
}

/// How to search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchOptions {
    /// Which configurations, and how long each is trained. Default: random.
    pub method: Method,
    /// Trials. Default 20; for a grid all there are, and not fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_trials: Option<usize>,
    /// The key of the random configurations; trials train with the seed in `base`. Default 0.
    pub seed: u64,
    /// What trials are ranked by. Default: the validation loss.
    pub metric: Metric,
    /// Successive halving: epochs before the first decision. Default 1.
    pub min_epochs: u64,
    /// The most epochs of a trial; under successive halving, of those that are promoted to the last rung. Default:
    /// `base.epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_epochs: Option<u64>,
    /// Successive halving: at each rung one trial in this many is promoted, to this many times as many epochs. Default
    /// 3.
    pub reduction_factor: usize,
    /// Trials trained in parallel. Default: one per thread on the CPU, one on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<usize>,
    /// The most trials side by side on a GPU, in the same dispatches. Default: as many as are expected to pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side_by_side: Option<usize>,
    /// The share of the trials that is trained, where several processes divide a grid or random search. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Share>,
}

/// Which configurations are tried, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Every combination, each in full.
    Grid,
    /// Random configurations, each in full.
    #[default]
    Random,
    /// Random configurations under asynchronous successive halving of epochs; see [`Search`].
    Asha,
}

/// What trials are ranked by: a metric of the epoch whose weights a trial keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Mean loss over the validation images; smaller is better.
    #[default]
    ValLoss,
    /// Share of validation images classified correctly; larger is better.
    ValAccuracy,
}

/// A sweep whose trials are known and checked.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The sweep's file.
    pub config: SweepConfig,
    /// The settings that are searched over.
    pub space: Space,
    /// What all trials share.
    pub base: RunConfig,
    /// The trials, in the order in which they first start.
    pub trials: Vec<Trial>,
}

/// A configuration to try.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The searched settings.
    pub assignment: Assignment,
    /// All settings.
    pub config: RunConfig,
}

/// Trials of a random search where the file does not say.
const NUM_TRIALS: usize = 20;

/// The most trials; more is a mistake, and the ledger is written whole each time.
const MAX_TRIALS: usize = 100_000;

/// Settings that are the whole sweep's.
const SHARED: [&str; 2] = ["device", "epochs"];

impl SweepConfig {
    /// Reads a file. Paths in it count from where the program runs, and are made whole so that the copy in the sweep's
    /// folder means the same anywhere.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Setting`] where it is not TOML or has tables or keys that do not exist.
    pub fn load(path: &Path) -> Result<SweepConfig> {
        SweepConfig::parse(&std::fs::read_to_string(path).map_err(Error::io("read", path))?, path)
    }

    /// Reads a sweep from text that comes from the file `path`. Errors as [`SweepConfig::load`].
    pub fn parse(text: &str, path: &Path) -> Result<SweepConfig> {
        let mut config: SweepConfig = toml::from_str(text).map_err(|error| {
            let expected = "a sweep in TOML: [search], [base] and [space]";
            Error::setting(path.display().to_string(), expected, format!("\n{error}"))
        })?;
        for key in ["data", "init"] {
            if let Some(Value::String(text)) = config.base.get_mut(key) {
                *text =
                    std::path::absolute(&*text).map_err(Error::io("find", Path::new(&*text)))?.display().to_string();
            }
        }
        Ok(config)
    }
}

impl SweepConfig {
    /// Sets what all trials share.
    ///
    /// # Errors
    /// [`Error::Setting`] where the schedule is code, which no file can hold.
    pub fn set_base(&mut self, base: &RunConfig) -> Result<()> {
        self.base =
            Table::try_from(base).map_err(|error| Error::setting("[base]", "settings that TOML can hold", error))?;
        Ok(())
    }
}

impl Sweep {
    /// Makes the trials and checks each.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that is wrong and what it may be.
    pub fn new(config: SweepConfig) -> Result<Sweep> {
        let space = Space::parse(&config.space)?;
        let SearchOptions { method, seed, num_trials, jobs, side_by_side, .. } = config.search;
        if i64::try_from(seed).is_err() {
            return Err(Error::setting("search.seed", "a number below 2^63", seed));
        }
        let halving = [
            ("min_epochs", config.search.min_epochs, SearchOptions::default().min_epochs),
            // A factor of a few.
            (
                "reduction_factor",
                config.search.reduction_factor as u64,
                SearchOptions::default().reduction_factor as u64,
            ),
        ];
        for (name, value, default) in halving {
            if method != Method::Asha && value != default {
                return Err(Error::setting(format!("search.{name}"), "to be used only with method asha", value));
            }
        }
        for (name, value) in [("search.jobs", jobs), ("search.side_by_side", side_by_side)] {
            if value == Some(0) {
                return Err(Error::setting(name, "at least 1", 0));
            }
        }
        if let (Some(2..), Some(side_by_side @ 2..)) = (jobs, side_by_side) {
            let expected = "no more than 1 with several jobs, which share no dispatches";
            return Err(Error::setting("search.side_by_side", expected, side_by_side));
        }
        let base = base(&config)?;
        for setting in space.settings() {
            check_name(&setting.name).map_err(|error| prefixed("space", error))?;
        }
        let assignments = match method {
            Method::Grid => {
                let grid = space.grid()?;
                if let Some(few) = num_trials.filter(|&most| most < grid.len()) {
                    let expected = format!("at least {}, the size of the grid, or nothing", grid.len());
                    return Err(Error::setting("search.num_trials", expected, few));
                }
                grid
            }
            Method::Random | Method::Asha => {
                let num_trials = num_trials.unwrap_or(NUM_TRIALS);
                if !(1..=MAX_TRIALS).contains(&num_trials) {
                    return Err(Error::setting("search.num_trials", format!("1 to {MAX_TRIALS}"), num_trials));
                }
                (0..num_trials as u64).map(|trial| space.sample(seed, trial)).collect()
            }
        };
        for setting in space.settings() {
            if let Some(shared) = SHARED.iter().find(|shared| **shared == setting.name) {
                let expected = "to be set in [base] for all trials; they could not be compared otherwise";
                return Err(Error::setting(format!("space.{shared}"), expected, "a setting to search over"));
            }
        }
        let mut trials = Vec::with_capacity(assignments.len());
        for (index, assignment) in assignments.into_iter().enumerate() {
            let config = configure(&base, &assignment).map_err(|error| blame(&base, &assignment, index, error))?;
            trials.push(Trial { assignment, config });
        }
        let sweep = Sweep { config, space, base, trials };
        sweep.search()?;
        Ok(sweep)
    }

    /// The settings of a trial, counted from 0, as a run by itself has them.
    pub fn settings(&self, trial: usize) -> RunConfig {
        let mut config = self.trials[trial].config.clone();
        if !self.config.base.contains_key("diagnostics") {
            config.diagnostics = RunConfig::default().diagnostics;
        }
        config
    }

    /// The search at its beginning.
    ///
    /// # Errors
    /// As [`Search::halving`].
    pub fn search(&self) -> Result<Search> {
        let SearchOptions { method, min_epochs, reduction_factor, only, .. } = self.config.search;
        let search = match (method, only) {
            (Method::Asha, Some(share)) => {
                let expected = "grid or random, whose trials do not depend on each other, for a share of the trials";
                return Err(Error::setting("search.method", expected, format!("asha, for the share {share}")));
            }
            (Method::Grid | Method::Random, _) => Search::in_full(self.trials.len(), self.base.epochs),
            (Method::Asha, None) => Search::halving(self.trials.len(), min_epochs, self.base.epochs, reduction_factor)?,
        };
        Ok(match only {
            Some(share) => search.limited_to(|trial| share.has(trial)),
            None => search,
        })
    }

    /// The number of trials that this search trains: all, or those of its share.
    pub fn num_own_trials(&self) -> usize {
        let is_own = |trial: &usize| self.config.search.only.is_none_or(|share| share.has(*trial));
        (0..self.trials.len()).filter(is_own).count()
    }

    /// What trials are ranked by.
    pub fn metric(&self) -> Metric {
        self.config.search.metric
    }
}

/// The settings of `[base]` with the search's own in them.
fn base(config: &SweepConfig) -> Result<RunConfig> {
    let table = config.base.clone();
    let names_monitor = table.get("early_stopping").is_some_and(|value| value.get("monitor").is_some());
    let mut base: RunConfig = table.try_into().map_err(|error: toml::de::Error| {
        Error::setting("[base]", "the settings of a training run", first_line(&error))
    })?;
    base.epochs = config.search.max_epochs.unwrap_or(base.epochs);
    // Nobody inspects hundreds of runs one by one.
    if !config.base.contains_key("diagnostics") {
        base.diagnostics = None;
    }
    // Early stopping and the weights that are kept go by what trials are ranked by, unless told otherwise.
    if let (Some(EarlyStopOptions { monitor, .. }), false) = (&mut base.early_stopping, names_monitor) {
        *monitor = config.search.metric.monitor();
    }
    base.validate().map_err(|error| prefixed("base", error))?;
    Ok(base)
}

/// The configuration with these settings in it.
fn configure(base: &RunConfig, assignment: &Assignment) -> Result<RunConfig> {
    let mut settings = Settings::of(base)?;
    settings.set_all(&assignment.0)?;
    let config = settings.config()?;
    // A rate that all trials share is every optimizer's.
    let lr = config.lr.or(base.lr);
    Ok(RunConfig { lr, ..config }.named())
}

/// Names the setting that caused an error: the one that is wrong by itself, or else all of them together.
fn blame(base: &RunConfig, assignment: &Assignment, trial: usize, error: Error) -> Error {
    for (name, value) in &assignment.0 {
        let alone = configure(base, &Assignment(vec![(name.clone(), value.clone())]));
        if let Err(Error::Setting { expected, got, .. }) = alone {
            let expected = if got == describe(value) { expected } else { format!("{expected} ({got})") };
            return Error::setting(format!("space.{name}"), expected, describe(value));
        }
    }
    match error {
        Error::Setting { expected, got, .. } => {
            let expected = format!("settings that go together: {expected} ({got})");
            Error::setting("[space]", expected, format!("{} in trial {}", assignment.describe(), trial + 1))
        }
        other => other,
    }
}

/// Says which trial an error is about.
pub(super) fn in_trial(trial: usize, assignment: &Assignment, error: Error) -> Error {
    let expected = format!("settings that can be trained ({error})");
    Error::setting(format!("[space], trial {}", trial + 1), expected, assignment.describe())
}

/// Says which table a setting stands in.
fn prefixed(table: &str, error: Error) -> Error {
    match error {
        Error::Setting { setting, expected, got } => {
            Error::Setting { setting: format!("{table}.{setting}"), expected, got }
        }
        other => other,
    }
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions {
            method: Method::default(),
            num_trials: None,
            seed: 0,
            metric: Metric::default(),
            min_epochs: 1,
            max_epochs: None,
            reduction_factor: 3,
            jobs: None,
            side_by_side: None,
            only: None,
        }
    }
}

impl Metric {
    /// What early stopping watches for it.
    pub fn monitor(self) -> Monitor {
        match self {
            Metric::ValLoss => Monitor::ValLoss,
            Metric::ValAccuracy => Monitor::ValAccuracy,
        }
    }

    /// The metric's value in an epoch.
    pub fn of(self, report: &EpochReport) -> f64 {
        match self {
            Metric::ValLoss => report.val_loss,
            Metric::ValAccuracy => report.val_accuracy,
        }
    }

    /// The value as a cost: less is better.
    pub fn cost(self, value: f64) -> f64 {
        match self {
            Metric::ValLoss => value,
            Metric::ValAccuracy => -value,
        }
    }

    /// The value as people read it.
    pub fn text(self, value: f64) -> String {
        match self {
            Metric::ValLoss => format!("{value:.4}"),
            Metric::ValAccuracy => format!("{:.2}%", 100.0 * value),
        }
    }

    /// The name in a table's head.
    pub fn short_name(self) -> &'static str {
        match self {
            Metric::ValLoss => "val loss",
            Metric::ValAccuracy => "val acc",
        }
    }
}
