//! The folder that a run leaves behind: `config.toml`, `metrics.jsonl`, `health.jsonl`, `checkpoint` and
//! `model.safetensors`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::exec::StateDict;
use crate::nn::weights::{self, Metadata};
use crate::train::HealthReport;
use crate::{Error, Result, files};

/// The file to go on from.
pub const CHECKPOINT: &str = "checkpoint";
const METRICS: &str = "metrics.jsonl";
pub(crate) const HEALTH: &str = "health.jsonl";

/// A run's folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The lines of `metrics.jsonl` and `health.jsonl`, which are written whole each time.
    metrics: String,
    health: String,
}

/// A line of `health.jsonl`: what the look into the network at the end of an epoch found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochHealth {
    /// Counted from 1.
    pub epoch: u64,
    /// What it found.
    #[serde(flatten)]
    pub report: HealthReport,
}

impl RunFolder {
    /// Makes `<parent>/<time>-<name>`, with a number behind it where that is taken.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(parent: &Path, name: &str) -> Result<RunFolder> {
        Ok(RunFolder { path: unique_folder(parent, name)?, metrics: String::new(), health: String::new() })
    }

    /// The folder of a run at its beginning, made where it is missing; what an earlier run left in it is replaced as this
    /// one writes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn at(path: &Path) -> Result<RunFolder> {
        std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
        Ok(RunFolder { path: path.to_owned(), metrics: String::new(), health: String::new() })
    }

    /// Opens the folder of a run that goes on behind `epochs` epochs. What it has on later ones, or on the run's end, is
    /// left out, since it comes again.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] where the lines of those epochs are not all there.
    pub fn open(path: &Path, epochs: u64) -> Result<RunFolder> {
        let kept = |name: &str| -> Result<String> {
            let file = path.join(name);
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    Ok(text.lines().filter(|line| is_of_epoch(line, epochs)).flat_map(|line| [line, "\n"]).collect())
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
                Err(error) => Err(Error::io("read", &file)(error)),
            }
        };
        let (metrics, health) = (kept(METRICS)?, kept(HEALTH)?);
        let num_lines = metrics.lines().count() as u64;
        if num_lines != epochs {
            let expected = format!("a line for each of the {epochs} epochs that the checkpoint has");
            return Err(Error::data(&path.join(METRICS), expected, format!("{num_lines} of them")));
        }
        Ok(RunFolder { path: path.to_owned(), metrics, health })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.toml`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Setting`] where the settings cannot be written as TOML.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        let text = toml::to_string_pretty(config)
            .map_err(|error| Error::setting("configuration", "settings that TOML can hold", error))?;
        files::write_whole(&self.path.join("config.toml"), text.as_bytes())
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add_metrics(&mut self, line: &impl Serialize) -> Result<()> {
        push_line(&mut self.metrics, line)?;
        files::write_whole(&self.path.join(METRICS), self.metrics.as_bytes())
    }

    /// Adds what an epoch's look into the network found to `health.jsonl`, without histograms.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add_health(&mut self, epoch: u64, report: &HealthReport) -> Result<()> {
        let mut report = report.clone();
        report.rows.iter_mut().for_each(|row| row.histogram = None);
        push_line(&mut self.health, &EpochHealth { epoch, report })?;
        files::write_whole(&self.path.join(HEALTH), self.health.as_bytes())
    }

    /// Where [`fit`](super::fit) is to save what it takes to go on with the run.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    /// Writes `model.safetensors`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_model(&self, model: &StateDict, metadata: &Metadata) -> Result<PathBuf> {
        let path = self.path.join("model.safetensors");
        weights::save(&path, model, metadata)?;
        Ok(path)
    }
}

/// Makes `<parent>/<time>-<name>`, with a number behind it where that is taken.
pub(crate) fn unique_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let stem = format!("{}-{name}", timestamp());
    for attempt in 1.. {
        let path = parent.join(if attempt == 1 { stem.clone() } else { format!("{stem}-{attempt}") });
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
    unreachable!("attempts go on until one ends the loop")
}

fn push_line(lines: &mut String, line: &impl Serialize) -> Result<()> {
    let line =
        serde_json::to_string(line).map_err(|error| Error::setting("metrics", "values that JSON can hold", error))?;
    lines.push_str(&line);
    lines.push('\n');
    Ok(())
}

/// Whether a line is of one of the first `epochs` epochs. One that is damaged is of none.
fn is_of_epoch(line: &str, epochs: u64) -> bool {
    #[derive(serde::Deserialize)]
    struct Line {
        epoch: u64,
    }
    serde_json::from_str(line).is_ok_and(|Line { epoch }| epoch <= epochs)
}

/// The time as `20261121-214000`, UTC.
fn timestamp() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar, by counting in eras of 400 years that
/// start on 1 March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let dates = [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_778, (2026, 11, 21))];
        for (days, date) in dates {
            assert_eq!(civil(days), date, "day {days}");
        }
    }

    #[test]
    fn a_second_run_in_the_same_second_gets_a_folder_of_its_own() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let first = RunFolder::create(parent.path(), "x").expect("a folder");
        let second = RunFolder::create(parent.path(), "x").expect("another");
        assert_ne!(first.path(), second.path());
    }
}
