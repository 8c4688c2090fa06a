//! Reading a run's folder back: its settings and what every epoch gave.

use std::path::{Path, PathBuf};

use crate::run::config::flatten;
use crate::run::folder::{EpochHealth, HEALTH};
use crate::train::{EpochReport, Outcome};
use crate::{Error, Result};

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub path: PathBuf,
    /// The folder's name.
    pub name: String,
    /// The settings of `config.toml` as (`optimizer.momentum`, `0.9`), in the order of the file.
    pub settings: Vec<(String, String)>,
    /// The epochs of `metrics.jsonl`; at least one.
    pub epochs: Vec<EpochReport>,
    /// What looks into the network found, by epoch; empty for a run without.
    pub health: Vec<EpochHealth>,
    /// How it ended; `None` while it goes on, or where it was cut off.
    pub outcome: Option<Outcome>,
}

impl Run {
    /// Reads `config.toml`, `metrics.jsonl` and, if there is one, `health.jsonl`.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder or one of the files cannot be read; [`Error::Data`] with file and line where one
    /// is damaged, or no epoch has ended yet.
    pub fn read(folder: &Path) -> Result<Run> {
        let config = folder.join("config.toml");
        let text = std::fs::read_to_string(&config).map_err(Error::io("read", &config))?;
        let table: toml::Table =
            toml::from_str(&text).map_err(|error| Error::data(&config, "settings in TOML", format!("\n{error}")))?;
        let settings = flatten(&table);
        let metrics = folder.join("metrics.jsonl");
        let text = std::fs::read_to_string(&metrics).map_err(Error::io("read", &metrics))?;
        let (epochs, outcome) = parse_metrics(&metrics, &text)?;
        let health = read_health(&folder.join(HEALTH))?;
        let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.unwrap_or_else(|| folder.display().to_string());
        Ok(Run { path: folder.to_owned(), name, settings, epochs, health, outcome })
    }

    /// The epoch whose weights are the best: the last that was better than all before.
    pub fn best(&self) -> &EpochReport {
        let best = self.epochs.iter().rev().find(|epoch| epoch.is_best);
        best.unwrap_or(&self.epochs[self.epochs.len() - 1])
    }
}

fn read_health(path: &Path) -> Result<Vec<EpochHealth>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let parse = |(index, line): (usize, &str)| {
        let got = |error| format!("line {}: {error}", index + 1);
        serde_json::from_str(line).map_err(|error| Error::data(path, "one epoch in JSON on each line", got(error)))
    };
    text.lines().enumerate().map(parse).collect()
}

fn parse_metrics(path: &Path, text: &str) -> Result<(Vec<EpochReport>, Option<Outcome>)> {
    let mut epochs: Vec<EpochReport> = Vec::new();
    let mut outcome = None;
    for (index, line) in text.lines().enumerate() {
        let damaged =
            |error: String| Error::data(path, "one epoch in JSON on each line", format!("line {}: {error}", index + 1));
        let value: serde_json::Value = serde_json::from_str(line).map_err(|error| damaged(error.to_string()))?;
        if value.get("stopped").is_some() {
            outcome = Some(serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?);
            continue;
        }
        let epoch: EpochReport = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        if let Some(last) = epochs.last().filter(|last| last.epoch >= epoch.epoch) {
            return Err(damaged(format!("epoch {} after epoch {}", epoch.epoch, last.epoch)));
        }
        epochs.push(epoch);
    }
    if epochs.is_empty() {
        return Err(Error::data(path, "at least one epoch", "none"));
    }
    Ok((epochs, outcome))
}
