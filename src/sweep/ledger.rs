//! `trials.jsonl`: the state of each trial, one line per trial in the order in which they first started. It is
//! rewritten whenever a trial starts or ends, and is all that a killed sweep needs to resume.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{Metric, Sweep};
use super::search::{Leg, Search};
use super::space::Assignment;
use crate::{Error, Result, files};

/// A trial so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// Its number, counted from 1.
    pub trial: usize,
    /// Its run folder, within the sweep's.
    pub folder: PathBuf,
    /// The searched settings. They follow from the sweep's file, and so are not read back.
    #[serde(skip_deserializing)]
    pub settings: Assignment,
    /// Its status.
    pub status: Status,
    /// Completed epochs.
    pub epochs: u64,
    /// The metric it is ranked by; none before its first epoch, or if it failed.
    pub metric: Option<f64>,
    /// The epoch of that metric, whose weights are kept.
    pub best_epoch: Option<u64>,
    /// The metric at each rung that it reached; none if it failed.
    pub rungs: Vec<Option<f64>>,
    /// Why it failed or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Share of test images classified correctly, where it came to its end. Nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
}

/// The status of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is being trained, or was when the sweep was killed.
    Running,
    /// Successive halving has not promoted it.
    Halved,
    /// It was trained to its end.
    Complete,
    /// Its loss was not finite, or it could not be trained at all.
    Failed,
}

impl Status {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Halved => "halved",
            Status::Complete => "complete",
            Status::Failed => "failed",
        }
    }
}

/// The state of each trial that started.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    records: Vec<TrialRecord>,
}

impl Ledger {
    /// An empty ledger in a sweep's folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path) -> Result<Ledger> {
        let ledger = Ledger { path: folder.join("trials.jsonl"), records: Vec::new() };
        ledger.write()?;
        Ok(ledger)
    }

    /// Reads the ledger of a sweep's folder.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] with the line that is damaged or does not belong to this sweep.
    pub fn open(folder: &Path, sweep: &Sweep) -> Result<Ledger> {
        let path = folder.join("trials.jsonl");
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let num_rungs = sweep.search()?.rungs().len();
        let mut records = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |got: String| {
                Error::data(&path, "the trials of this sweep.toml, one a line", format!("line {}: {got}", index + 1))
            };
            let line: serde_json::Value = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            let settings = line.get("settings").cloned().unwrap_or_default();
            let mut record: TrialRecord = serde_json::from_value(line).map_err(|error| wrong(error.to_string()))?;
            if record.trial != index + 1 || record.trial > sweep.trials.len() {
                return Err(wrong(format!("trial {}", record.trial)));
            }
            let num_sent = record.rungs.len() + usize::from(record.status == Status::Running);
            if num_sent == 0 || num_sent > num_rungs {
                return Err(wrong(format!("{num_sent} rungs of {num_rungs}")));
            }
            record.settings = sweep.trials[index].assignment.clone();
            if serde_json::to_value(&record.settings).ok() != Some(settings) {
                return Err(wrong("other settings; sweep.toml was changed".to_owned()));
            }
            records.push(record);
        }
        Ok(Ledger { path, records })
    }

    /// The trials that started.
    pub fn records(&self) -> &[TrialRecord] {
        &self.records
    }

    /// A trial's run folder, within the sweep's.
    pub fn folder(&self, trial: usize) -> &Path {
        &self.records[trial].folder
    }

    /// Records that a trial starts.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start(&mut self, leg: Leg, settings: &Assignment) -> Result<()> {
        match self.records.get_mut(leg.trial) {
            Some(record) => record.status = Status::Running,
            None => self.records.push(TrialRecord {
                trial: leg.trial + 1,
                folder: trial_folder(leg.trial),
                settings: settings.clone(),
                status: Status::Running,
                epochs: 0,
                metric: None,
                best_epoch: None,
                rungs: Vec::new(),
                reason: None,
                test_accuracy: None,
            }),
        }
        self.write()
    }

    /// Records the status of a trial.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn update(&mut self, trial: usize, change: impl FnOnce(&mut TrialRecord)) -> Result<&TrialRecord> {
        change(&mut self.records[trial]);
        self.write()?;
        Ok(&self.records[trial])
    }

    /// Tells a search at its beginning what the trials have reached.
    pub fn restore(&self, search: &mut Search, metric: Metric) {
        for (trial, record) in self.records.iter().enumerate() {
            let cost = |score: &Option<f64>| score.map_or(f64::INFINITY, |score| metric.cost(score));
            let num_sent = record.rungs.len() + usize::from(record.status == Status::Running);
            search.restore(trial, record.rungs.iter().map(cost).collect(), num_sent);
        }
    }

    fn write(&self) -> Result<()> {
        let mut text = String::new();
        for record in &self.records {
            let line = serde_json::to_string(record)
                .map_err(|error| Error::setting("trial", "values that JSON can hold", error))?;
            text.push_str(&line);
            text.push('\n');
        }
        files::write_whole(&self.path, text.as_bytes())
    }
}

/// The run folder of a trial, counted from 0, within the sweep's.
fn trial_folder(trial: usize) -> PathBuf {
    PathBuf::from(format!("trial-{:03}", trial + 1))
}
