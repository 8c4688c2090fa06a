//! A run whose network, optimizer and images are on the device, before it has a folder. Where several ranks train
//! together, each prepares for itself; then rank 0 makes the folder and the others assist.

use std::path::Path;

use super::drive::Run;
use super::folder::fill_unique_folder;
use super::{RunConfig, RunData, RunFolder, Saved, setup};
use crate::Result;
use crate::dist::{Alone, Comm};
use crate::exec::Device;
use crate::nn::weights;
use crate::train::{CheckpointOptions, FitOptions, Outcome, Session, fit, fit_from};

/// What a run trains on: a device and, where it is one of several ranks, the others.
pub struct TrainOn<'a> {
    /// The device.
    pub device: &'a Device,
    /// The other ranks; [`Alone`] where there are none.
    pub comm: Box<dyn Comm>,
}

impl<'a> From<&'a Device> for TrainOn<'a> {
    fn from(device: &'a Device) -> Self {
        TrainOn { device, comm: Box::new(Alone) }
    }
}

/// A run whose network, optimizer and images are on the device, before it has a folder. Where several ranks train
/// together, each prepares for itself; then rank 0 makes the folder ([`Prepared::create`], [`Prepared::resume`]) and the
/// others [assist](Prepared::assist).
pub struct Prepared<'a> {
    config: RunConfig,
    device: &'a Device,
    data: &'a RunData,
    session: Session,
}

impl<'a> Prepared<'a> {
    /// Sets a run up. What is wrong with its settings is found here, before there is a folder.
    ///
    /// # Errors
    /// As [`setup::session`].
    pub fn new(config: RunConfig, on: impl Into<TrainOn<'a>>, data: &'a RunData) -> Result<Prepared<'a>> {
        let TrainOn { device, comm } = on.into();
        let session = setup::session_among(&config, device, data, comm)?;
        // A schedule whose length does not fit.
        config.schedule.for_run(config.epochs, session.steps_per_epoch() as u64)?;
        Ok(Prepared { config, device, data, session })
    }

    /// The run in a new folder, `<parent>/<time>-<network>-<data set>`.
    ///
    /// # Errors
    /// As [`RunFolder::create`]; there is no folder then.
    pub fn create(self, parent: &Path) -> Result<Run<'a>> {
        let name = self.config.run_name();
        fill_unique_folder(parent, &name, |path| self.with_folder(RunFolder::at(path)?, None))
    }

    /// The run in this folder, whose files it replaces.
    ///
    /// # Errors
    /// As [`RunFolder::at`].
    pub fn at(self, folder: &Path) -> Result<Run<'a>> {
        let folder = RunFolder::at(folder)?;
        self.with_folder(folder, None)
    }

    /// The run from where it was saved, in the same folder.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) where the settings change what a resumed run cannot change, or the
    /// images are others; as [`RunFolder::open`].
    pub fn resume(self, saved: Saved) -> Result<Run<'a>> {
        saved.check(&self.config)?;
        // Before anything is written: a run that cannot go on stays as it is.
        saved.checkpoint.state.check_images(&self.session)?;
        let folder = RunFolder::open(&saved.folder, saved.checkpoint.state.epochs)?;
        self.with_folder(folder, Some(saved))
    }

    fn with_folder(self, folder: RunFolder, from: Option<Saved>) -> Result<Run<'a>> {
        let Prepared { config, device, data, session } = self;
        let config = config.named();
        folder.write_config(&config)?;
        Ok(Run { config, device, data, session, folder, from, with_report: true })
    }

    /// Trains as one of several ranks whose first has the folder: it computes its share, and writes and prints nothing.
    /// `from` is what the first rank resumes from.
    ///
    /// # Errors
    /// As [`fit`].
    pub fn assist(mut self, from: Option<Saved>) -> Result<Outcome> {
        // Where the first rank saves, all exchange what a checkpoint holds.
        let checkpoint = Some(CheckpointOptions::new(""));
        let options = FitOptions { checkpoint, ..self.config.fit_options() };
        match from {
            None => fit(&mut self.session, &options, &mut ()),
            Some(saved) => fit_from(&mut self.session, &options, &saved.checkpoint, &mut ())
                .map_err(weights::in_file(&super::folder::checkpoint_in(&saved.folder))),
        }
    }
}
