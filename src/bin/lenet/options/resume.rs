//! Going on with a run: what it was, and what of it may change.

use std::path::{Path, PathBuf};

use wgrad::Result;
use wgrad::run::RunConfig;
use wgrad::run::folder::CHECKPOINT;
use wgrad::train::Checkpoint;

use super::usage;

/// A run to go on with.
pub struct Resume {
    pub folder: PathBuf,
    pub checkpoint: Checkpoint,
}

/// Settings that a run may change when it goes on: they do not affect the epochs that are done.
const CHANGEABLE: [&str; 5] = ["epochs", "early_stopping.patience", "early_stopping.min_delta", "data", "device"];

impl Resume {
    pub fn read(folder: &Path) -> Result<Resume> {
        let file = folder.join(CHECKPOINT);
        if folder.is_dir() && !file.exists() {
            let expected = format!("a run's folder with a file \"{CHECKPOINT}\"");
            let got = format!("{}, which has none: nothing was saved there yet", folder.display());
            return Err(usage("--resume", &expected, &got));
        }
        Ok(Resume { folder: folder.to_owned(), checkpoint: Checkpoint::load(&file)? })
    }

    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::parse(&self.checkpoint.settings, &self.folder.join(CHECKPOINT))
    }
}

/// Settings that a run began with stay as they are: another network or optimizer has no use for what was saved.
pub fn refuse_changes(before: &RunConfig, now: &RunConfig) -> Result<()> {
    for (setting, before, now) in before.differences(now)? {
        if !CHANGEABLE.contains(&setting.as_str()) {
            let expected = format!("{before}, as the run began; start a new run for another");
            return Err(usage(&format!("--resume with another {setting}"), &expected, &now));
        }
    }
    Ok(())
}
