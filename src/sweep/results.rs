//! What a sweep leaves at its end: `best.toml` for the next run, and its page where the crate is built with reports.

use std::path::PathBuf;

use super::ranking::Ranking;
use super::run::SweepFolder;
use crate::{Result, files};

/// Writes the best configuration into the sweep's folder, and with the feature `report` a picture and a page; gives
/// their paths. Without a trial that has a score there is no `best.toml`.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn write_results(folder: &SweepFolder) -> Result<Vec<PathBuf>> {
    let ranking = Ranking::of(folder.sweep(), folder.records());
    let settings = ranking.best().map(|best| folder.sweep().settings(best.trial - 1).to_toml());
    let best_toml = settings.transpose()?;
    let mut written = Vec::new();
    if let Some(text) = &best_toml {
        written.push(folder.path().join("best.toml"));
        files::write_whole(&written[0], text.as_bytes())?;
    }
    #[cfg(feature = "report")]
    written.extend(super::page::write(folder, &ranking, best_toml.as_deref())?);
    Ok(written)
}
