//! The folder of a run: the one place that knows the names of its files, and reads and writes them.
//!
//! | file | content |
//! | --- | --- |
//! | `config.toml` | the settings, as [`RunConfig`] writes them |
//! | `metrics.jsonl` | a line of [`EpochReport`] for each epoch; the last line is the [`Outcome`] |
//! | `diagnostics.jsonl` | a line of [`EpochDiagnostics`] for each epoch |
//! | `checkpoint` | everything that it takes to resume ([`Checkpoint`](crate::train::Checkpoint)) |
//! | `model.safetensors` | the best weights, with what they are of |
//! | `report.html`, `metrics.csv`, `pictures/`, `tensorboard/` | the report |

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use web_time::{SystemTime, UNIX_EPOCH};

use super::RunConfig;
use crate::exec::StateDict;
use crate::nn::weights::{self, Metadata};
use crate::train::{DiagnosticsReport, EpochDiagnostics, EpochReport, History, Outcome};
use crate::{Error, Result, files};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const DIAGNOSTICS: &str = "diagnostics.jsonl";
const CHECKPOINT: &str = "checkpoint";
const MODEL: &str = "model.safetensors";
const EVENTS: &str = "tensorboard";
const LOCK: &str = ".lock";

/// What a run without a report leaves, the checkpoint first: it says of which epochs the others are.
pub(crate) const FILES: [&str; 5] = [CHECKPOINT, CONFIG, METRICS, DIAGNOSTICS, MODEL];

/// A run's folder. While it lives, no other process can open it for writing.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The lines of `metrics.jsonl` and `diagnostics.jsonl`, which are written whole each time.
    metrics: String,
    diagnostics: String,
    /// Locked until it is dropped, however the process ends.
    _lock: files::Lock,
}

impl RunFolder {
    /// Makes `<parent>/<time>-<name>`, numbered where that is taken.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(parent: &Path, name: &str) -> Result<RunFolder> {
        RunFolder::at(&unique_folder(parent, name)?)
    }

    /// A folder for a run at its beginning, made where it is missing; what an earlier run left in it is replaced.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Setting`] where another process is writing to it.
    pub fn at(path: &Path) -> Result<RunFolder> {
        files::create_dir_all(path).map_err(Error::io("create", path))?;
        let lock = lock(path)?;
        Ok(RunFolder { path: path.to_owned(), metrics: String::new(), diagnostics: String::new(), _lock: lock })
    }

    /// The folder of a run that resumes after `epochs` epochs. What it holds of later ones, or of the run's end, is left
    /// out, since it comes again.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] where the lines of those epochs are not all there; [`Error::Setting`] where another
    /// process is writing to it.
    pub fn open(path: &Path, epochs: u64) -> Result<RunFolder> {
        let lock = lock(path)?;
        let kept = |name: &str| -> Result<String> {
            let text = read_if_there(&path.join(name))?.unwrap_or_default();
            Ok(text.lines().filter(|line| is_of_epoch(line, epochs)).flat_map(|line| [line, "\n"]).collect())
        };
        let (metrics, diagnostics) = (kept(METRICS)?, kept(DIAGNOSTICS)?);
        let num_lines = metrics.lines().count() as u64;
        if num_lines != epochs {
            let expected = format!("a line for each epoch of the checkpoint, {epochs} in all");
            return Err(Error::data(&path.join(METRICS), expected, format!("{num_lines} of them")));
        }
        Ok(RunFolder { path: path.to_owned(), metrics, diagnostics, _lock: lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name, which reports and comparisons show.
    pub fn name(&self) -> String {
        name_of(&self.path)
    }

    /// Where its checkpoint is, or will be.
    pub fn checkpoint(&self) -> PathBuf {
        checkpoint_in(&self.path)
    }

    /// Writes `config.toml`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Setting`] where the settings cannot be written as TOML.
    pub fn write_config(&self, config: &RunConfig) -> Result<()> {
        files::write_whole(&self.path.join(CONFIG), config.to_toml()?.as_bytes())
    }

    /// Adds a line to `metrics.jsonl`: an [`EpochReport`], or the [`Outcome`] at the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add_metrics(&mut self, line: &impl Serialize) -> Result<()> {
        push_line(&mut self.metrics, line)?;
        files::write_whole(&self.path.join(METRICS), self.metrics.as_bytes())
    }

    /// Adds an epoch's diagnostics to `diagnostics.jsonl`, without histograms.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add_diagnostics(&mut self, epoch: u64, report: &DiagnosticsReport) -> Result<()> {
        let mut report = report.clone();
        report.rows.iter_mut().for_each(|row| row.histogram = None);
        push_line(&mut self.diagnostics, &EpochDiagnostics { epoch, report })?;
        files::write_whole(&self.path.join(DIAGNOSTICS), self.diagnostics.as_bytes())
    }

    /// Writes `model.safetensors` and gives its path.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_model(&self, model: &StateDict, metadata: &Metadata) -> Result<PathBuf> {
        let path = model_in(&self.path);
        weights::save(&path, model, metadata)?;
        Ok(path)
    }
}

/// The checkpoint of the run in a folder.
pub fn checkpoint_in(folder: &Path) -> PathBuf {
    folder.join(CHECKPOINT)
}

/// The best weights of the run in a folder.
pub fn model_in(folder: &Path) -> PathBuf {
    folder.join(MODEL)
}

/// TensorBoard's events of the run in a folder, which it has from its beginning unless it goes without a report.
pub fn events_in(folder: &Path) -> PathBuf {
    folder.join(EVENTS)
}

/// The settings of the run in a folder.
pub fn config_in(folder: &Path) -> PathBuf {
    folder.join(CONFIG)
}

/// The run in a folder, or those in its subfolders that have ended an epoch, as in `runs/` or a sweep's folder, by name.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be read; [`Error::Setting`] where there is no run in it.
pub fn runs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if files::is_file(&config_in(folder)) {
        return Ok(vec![folder.to_owned()]);
    }
    let has_run = |folder: &PathBuf| {
        let metrics = folder.join(METRICS);
        let has_epoch = files::read_to_string(metrics.as_path()).is_ok_and(|text| !text.is_empty());
        has_epoch && files::is_file(&config_in(folder))
    };
    let mut runs = files::list(folder).map_err(Error::io("read", folder))?;
    runs.retain(has_run);
    runs.sort();
    if runs.is_empty() {
        let expected = format!("the folder of a run, with its {CONFIG}, or one whose subfolders are runs");
        return Err(Error::setting("run", expected, folder.display()));
    }
    Ok(runs)
}

/// Reads what a run has reported so far: `config.toml`, `metrics.jsonl` and, if there is one, `diagnostics.jsonl`.
///
/// # Errors
/// [`Error::Io`] where the folder or one of the files cannot be read; [`Error::Data`] with file and line where one is
/// damaged, or no epoch has ended yet.
pub fn read_history(folder: &Path) -> Result<History> {
    let config = folder.join(CONFIG);
    let text = files::read_to_string(&config).map_err(Error::io("read", &config))?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|error| Error::data(&config, "settings in TOML", format!("\n{error}")))?;
    let metrics = folder.join(METRICS);
    let text = files::read_to_string(&metrics).map_err(Error::io("read", &metrics))?;
    let (epochs, outcome) = parse_metrics(&metrics, &text)?;
    let path = folder.join(DIAGNOSTICS);
    let text = read_if_there(&path)?.unwrap_or_default();
    let diagnostics =
        text.lines().enumerate().map(|(index, line)| parse_line(&path, index, line)).collect::<Result<_>>()?;
    let settings = super::config::flatten(&table);
    Ok(History { path: folder.to_owned(), name: name_of(folder), settings, epochs, diagnostics, outcome })
}

fn parse_metrics(path: &Path, text: &str) -> Result<(Vec<EpochReport>, Option<Outcome>)> {
    let mut epochs: Vec<EpochReport> = Vec::new();
    let mut outcome = None;
    for (index, line) in text.lines().enumerate() {
        let value: serde_json::Value = parse_line(path, index, line)?;
        if value.get("stopped").is_some() {
            outcome = Some(parse_line(path, index, line)?);
            continue;
        }
        let epoch: EpochReport = parse_line(path, index, line)?;
        if let Some(last) = epochs.last().filter(|last| last.epoch >= epoch.epoch) {
            return Err(damaged(path, index, format!("epoch {} after epoch {}", epoch.epoch, last.epoch)));
        }
        epochs.push(epoch);
    }
    if epochs.is_empty() {
        return Err(Error::data(path, "at least one epoch", "none"));
    }
    Ok((epochs, outcome))
}

fn parse_line<T: DeserializeOwned>(path: &Path, index: usize, line: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| damaged(path, index, error))
}

fn damaged(path: &Path, index: usize, what: impl std::fmt::Display) -> Error {
    Error::data(path, "one epoch in JSON on each line", format!("line {}: {what}", index + 1))
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<String>> {
    match files::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

fn name_of(folder: &Path) -> String {
    let name = files::canonical(folder).and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| folder.display().to_string())
}

/// Makes `<parent>/<time>-<name>`, numbered where that is taken.
pub(crate) fn unique_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    files::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let stem = format!("{}-{name}", timestamp());
    for attempt in 1.. {
        let path = parent.join(if attempt == 1 { stem.clone() } else { format!("{stem}-{attempt}") });
        match files::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
    unreachable!("attempts only end with a folder or an error")
}

/// Makes such a folder with what `fill` puts in it. Nothing of it stays where that fails.
///
/// # Errors
/// [`Error::Io`]; what `fill` returns.
pub(crate) fn fill_unique_folder<T>(parent: &Path, name: &str, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let path = unique_folder(parent, name)?;
    fill(&path).inspect_err(|_| files::remove(&path))
}

/// Locks a folder, until the lock is dropped or the process ends.
pub(crate) fn lock(folder: &Path) -> Result<files::Lock> {
    let path = folder.join(LOCK);
    files::lock(&path).map_err(Error::io("write", &path))?.ok_or_else(|| {
        let expected = "a folder that no other process is writing to";
        Error::setting("resume", expected, format!("{}, which is in use", folder.display()))
    })
}

fn push_line(lines: &mut String, line: &impl Serialize) -> Result<()> {
    let line =
        serde_json::to_string(line).map_err(|error| Error::setting("metrics", "values that JSON can hold", error))?;
    lines.push_str(&line);
    lines.push('\n');
    Ok(())
}

/// Whether a line is of one of the first `epochs` epochs. A damaged one is of none.
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

    #[test]
    fn a_folder_in_use_is_refused() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let first = RunFolder::at(parent.path()).expect("a folder");
        let error = RunFolder::at(parent.path()).expect_err("it is in use").to_string();
        assert!(error.contains("in use"), "{error}");
        drop(first);
        RunFolder::at(parent.path()).expect("it is free again");
    }
}
