//! `trials.jsonl`: the state of each trial that started, one line per trial in the order of their numbers. It is
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

/// The state of each trial that started, in the order of their numbers.
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
        Ledger::with(folder, Vec::new())
    }

    /// A ledger of these trials, in the order of their numbers, in a sweep's folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn with(folder: &Path, records: Vec<TrialRecord>) -> Result<Ledger> {
        let ledger = Ledger { path: folder.join("trials.jsonl"), records };
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
            let before = records.last().map_or(0, |last: &TrialRecord| last.trial);
            if record.trial <= before || record.trial > sweep.trials.len() {
                return Err(wrong(format!("trial {}", record.trial)));
            }
            let num_sent = record.rungs.len() + usize::from(record.status == Status::Running);
            if num_sent == 0 || num_sent > num_rungs {
                return Err(wrong(format!("{num_sent} rungs of {num_rungs}")));
            }
            record.settings = sweep.trials[record.trial - 1].assignment.clone();
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

    /// The state of a trial, counted from 0, if it started.
    pub fn of(&self, trial: usize) -> Option<&TrialRecord> {
        self.place(trial).ok().map(|place| &self.records[place])
    }

    /// A trial's place among the records; where it did not start, the place where it belongs.
    fn place(&self, trial: usize) -> Result<usize, usize> {
        self.records.binary_search_by_key(&(trial + 1), |record| record.trial)
    }

    /// Records that a trial starts.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start(&mut self, leg: Leg, settings: &Assignment) -> Result<()> {
        match self.place(leg.trial) {
            Ok(place) => self.records[place].status = Status::Running,
            Err(place) => self.records.insert(
                place,
                TrialRecord {
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
                },
            ),
        }
        self.write()
    }

    /// Records the status of a trial that started.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn update(&mut self, trial: usize, change: impl FnOnce(&mut TrialRecord)) -> Result<&TrialRecord> {
        let place = self.place(trial).expect("a trial starts before its status changes");
        change(&mut self.records[place]);
        self.write()?;
        Ok(&self.records[place])
    }

    /// Tells a search at its beginning what the trials have reached.
    pub fn restore(&self, search: &mut Search, metric: Metric) {
        for record in &self.records {
            let cost = |score: &Option<f64>| score.map_or(f64::INFINITY, |score| metric.cost(score));
            let num_sent = record.rungs.len() + usize::from(record.status == Status::Running);
            search.restore(record.trial - 1, record.rungs.iter().map(cost).collect(), num_sent);
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
pub(super) fn trial_folder(trial: usize) -> PathBuf {
    PathBuf::from(format!("trial-{:03}", trial + 1))
}
