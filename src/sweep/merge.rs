//! One sweep's folder out of those of its shares.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::config::{Sweep, SweepConfig};
use super::images::Images;
use super::ledger::{Ledger, TrialRecord, trial_folder};
use super::run::{SweepFolder, write_config};
use crate::run::folder::{fill_unique_folder, lock};
use crate::{Error, Result, files};

/// A share's folder, which no other process works on meanwhile.
struct Part {
    path: PathBuf,
    config: SweepConfig,
    records: Vec<TrialRecord>,
    _lock: files::Lock,
}

impl Part {
    fn open(path: &Path) -> Result<Part> {
        let config = SweepConfig::load(&path.join("sweep.toml"))?;
        let lock = lock(path)?;
        let ledger = Ledger::open(path, &Sweep::new(config.clone())?)?;
        Ok(Part { path: path.to_owned(), config, records: ledger.records().to_vec(), _lock: lock })
    }
}

impl SweepFolder {
    /// Merges the folders of a sweep's shares into a new one below `parent`, with copies of their trials. It is the
    /// folder that one process would have made: of a grid or random search the ranking is the same, and
    /// [`SweepFolder::open`] and [`SweepFolder::run`] train what is still missing.
    ///
    /// # Errors
    /// [`Error::Setting`] where folders are of different sweeps, have a trial in common, or are in use; [`Error::Data`],
    /// [`Error::Io`] where one cannot be read.
    pub fn merge(parent: &Path, folders: &[PathBuf]) -> Result<SweepFolder> {
        let parts = folders.iter().map(|folder| Part::open(folder)).collect::<Result<Vec<_>>>()?;
        let first = parts.first().ok_or_else(|| Error::setting("merge", "folders of a sweep's shares", "none"))?;
        let config = whole(&first.config);
        if let Some(other) = parts.iter().find(|part| whole(&part.config) != config) {
            let expected = format!("shares of the sweep in {}", first.path.display());
            return Err(Error::setting("merge", expected, format!("another sweep in {}", other.path.display())));
        }
        let sweep = Sweep::new(config)?;
        let trials = trials(&parts)?;
        fill_unique_folder(parent, &name(&first.path), |path| {
            let lock = lock(path)?;
            for (part, record) in trials.values() {
                copy_folder(&part.path.join(&record.folder), &path.join(trial_folder(record.trial - 1)))?;
            }
            // Last, so that no unfinished copy can be taken for a sweep.
            let ledger = Ledger::with(path, trials.into_values().map(|(_, record)| record.clone()).collect())?;
            write_config(path, &sweep.config)?;
            Ok(SweepFolder { path: path.to_owned(), sweep, ledger, images: Images::default(), _lock: lock })
        })
    }
}

/// The sweep that a share is of. How many trials ran at a time made no difference.
fn whole(config: &SweepConfig) -> SweepConfig {
    let mut config = config.clone();
    (config.search.only, config.search.jobs) = (None, None);
    config
}

/// All trials by number, each with the part that it is in.
fn trials(parts: &[Part]) -> Result<BTreeMap<usize, (&Part, &TrialRecord)>> {
    let mut trials: BTreeMap<usize, (&Part, &TrialRecord)> = BTreeMap::new();
    for part in parts {
        for record in &part.records {
            if let Some((other, _)) = trials.insert(record.trial, (part, record)) {
                let expected = "shares that have no trial in common";
                let (one, two) = (other.path.display(), part.path.display());
                return Err(Error::setting("merge", expected, format!("trial {} in {one} and {two}", record.trial)));
            }
        }
    }
    Ok(trials)
}

/// The sweep's name out of that of a share's folder: `space` of `20261125-213000-space-2-of-8`.
fn name(folder: &Path) -> String {
    let name = folder.file_name().map_or("sweep".into(), |name| name.to_string_lossy());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut words: Vec<&str> = name.split('-').collect();
    if words.len() > 2 && is_number(words[0]) && is_number(words[1]) {
        words.drain(..2);
    }
    if let [_, .., part, "of", of] = words.as_slice()
        && is_number(part)
        && is_number(of)
    {
        words.truncate(words.len() - 3);
    }
    words.join("-")
}

/// Copies a folder with everything in it. A trial that was noted but had not begun has none.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", from)(error)),
    };
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for entry in entries {
        let entry = entry.map_err(Error::io("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(Error::io("write", &target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_sweep_is_called_as_its_shares_are() {
        for (folder, expected) in [
            ("sweeps/20261125-213000-space-2-of-8", "space"),
            ("sweeps/20261125-213000-my-space-12-of-16", "my-space"),
            ("20261125-213000-space", "space"),
            ("space-2", "space-2"),
            ("2-of-8", "2-of-8"),
        ] {
            assert_eq!(name(Path::new(folder)), expected);
        }
    }
}
