//! A run that was saved and can be resumed, and what of it may change.

use std::path::{Path, PathBuf};

use super::{RunConfig, folder};
use crate::nn::weights;
use crate::train::Checkpoint;
use crate::{Error, Result, files};

/// A saved run.
#[derive(Debug)]
pub struct Saved {
    /// Its folder.
    pub folder: PathBuf,
    /// Where it stands.
    pub checkpoint: Checkpoint,
}

/// Settings that may change when a run resumes: they do not affect the epochs that are done.
const CHANGEABLE: [&str; 6] =
    ["name", "epochs", "early_stopping.patience", "early_stopping.min_delta", "data", "device"];

impl Saved {
    /// Reads the checkpoint of the run in a folder.
    ///
    /// # Errors
    /// [`Error::Setting`] where nothing was saved in it; [`Error::Io`], [`Error::Data`] where the checkpoint cannot be read.
    pub fn read(folder: &Path) -> Result<Saved> {
        Saved::from_bytes(folder, &Saved::read_bytes(folder)?)
    }

    /// What [`Saved::from_bytes`] makes a run of, for processes that do not see the folder. Errors as [`Saved::read`].
    pub fn read_bytes(folder: &Path) -> Result<Vec<u8>> {
        let file = folder::checkpoint_in(folder);
        if files::is_dir(folder) && !files::exists(&file) {
            let expected = "the folder of a run that was saved, with a file \"checkpoint\"";
            return Err(Error::setting("resume", expected, format!("{}, which has none", folder.display())));
        }
        weights::read_bytes(&file)
    }

    /// The run whose checkpoint has these bytes; `folder` is where it lies for the process that writes it.
    ///
    /// # Errors
    /// [`Error::Data`] where they are not those of a checkpoint.
    pub fn from_bytes(folder: &Path, bytes: &[u8]) -> Result<Saved> {
        let checkpoint = Checkpoint::from_bytes(&folder::checkpoint_in(folder), bytes)?;
        Ok(Saved { folder: folder.to_owned(), checkpoint })
    }

    /// The text of the run's `config.toml`, for [`Saved::config_from`]; empty where there is none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read_settings(folder: &Path) -> Result<String> {
        Ok(folder::read_if_there(&folder::config_in(folder))?.unwrap_or_default())
    }

    /// The settings to resume with: what the text of the run's `config.toml` says, since someone may have edited the file;
    /// the checkpoint's where there is none.
    ///
    /// # Errors
    /// [`Error::Data`] where it changes what may not change, naming the first such setting, or where it cannot be read;
    /// as [`Saved::config`].
    pub fn config_from(&self, text: &str) -> Result<RunConfig> {
        if text.is_empty() {
            return self.config();
        }
        let path = folder::config_in(&self.folder);
        let checked = RunConfig::parse(text, &path).and_then(|config| self.check(&config).map(|()| config));
        checked.map_err(|error| match error {
            Error::Setting { setting, expected, got } => {
                Error::data(&path, format!("{setting} to be {expected}"), format!("{got}; change the file back"))
            }
            other => other,
        })
    }

    /// The run's settings, as the checkpoint has them.
    ///
    /// # Errors
    /// [`Error::Data`] where they are not settings that this version knows.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::parse(&self.checkpoint.settings, &folder::checkpoint_in(&self.folder))
    }

    /// Checks that only what may change has changed: another network or optimizer has no use for what was saved. The
    /// epochs cannot be fewer than are done.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting that may not change so.
    pub fn check(&self, config: &RunConfig) -> Result<()> {
        for (setting, before, now) in self.config()?.differences(&config.named())? {
            if !CHANGEABLE.contains(&setting.as_str()) {
                let [before, now] = [&before, &now].map(|value| in_words(&setting, value));
                let expected = format!("{before}, as the run began; start a new run for another");
                return Err(Error::setting(setting, expected, now));
            }
        }
        let done = self.checkpoint.state.epochs;
        if config.epochs < done {
            let expected = format!("at least {done}, which the run has done");
            return Err(Error::setting("epochs", expected, config.epochs));
        }
        Ok(())
    }
}

/// A value as a message has it: what can be switched off has no value of its own where it is on.
fn in_words<'a>(setting: &str, value: &'a str) -> &'a str {
    match (setting, value) {
        ("early_stopping" | "diagnostics", "nothing") => "on",
        ("early_stopping" | "diagnostics", "false") => "off",
        (_, "nothing") => "none",
        (_, value) => value,
    }
}
