//! The images of a run: read, divided into what is trained on and what is held out, and cut to the limits.

use super::{RunConfig, setup};
use crate::Result;
use crate::data::{self, Dataset, Split, Splits};
use crate::exec::{Device, num_cores};
use crate::graph::plan::Plan;

/// The images of a run.
#[derive(Clone, Debug)]
pub struct RunData {
    /// To learn from.
    pub train: Dataset,
    /// To choose weights and settings by; `None` takes the test images.
    pub validation: Option<Dataset>,
    /// To evaluate the result on.
    pub test: Dataset,
    /// Where they came from, to print.
    pub source: String,
}

impl RunData {
    /// Reads the data set and divides it.
    ///
    /// # Errors
    /// As [`data::load`] and [`Dataset::hold_out`].
    pub fn load(config: &RunConfig) -> Result<RunData> {
        RunData::divide(config, data::load(&config.dataset, config.data.as_deref())?)
    }

    /// [`RunData::load`], while the device compiles the kernels of a training step where there is a core for it: they depend
    /// on the settings, and not on the images. [`setup::session`] finds them done.
    ///
    /// # Errors
    /// As [`RunData::load`]. What is wrong with a kernel is left to [`setup::session`].
    pub fn load_for(config: &RunConfig, device: &Device) -> Result<RunData> {
        // Without a known number of images there is no plan before they are read.
        let is_ahead = device.gpu_traits().is_some() && num_cores() > 1 && config.dataset.get().num_images().is_some();
        if !is_ahead {
            return RunData::load(config);
        }
        std::thread::scope(|scope| {
            let compiling = scope.spawn(|| {
                // A fault of the settings is found again, and reported, by the session.
                if let Some(plan) = setup::plans(config).ok().as_deref().and_then(<[Plan]>::first) {
                    device.compile_ahead(plan);
                }
            });
            let data = RunData::load(config);
            drop(compiling.join());
            data
        })
    }

    /// Takes the validation images out of the training images, and keeps of each what the limits leave.
    ///
    /// # Errors
    /// As [`Dataset::hold_out`].
    pub fn divide(config: &RunConfig, splits: Splits) -> Result<RunData> {
        let Splits { mut train, mut test, source } = splits;
        let mut validation = None;
        if config.val_split > 0.0 {
            let (kept, held_out) = train.hold_out(config.val_split, config.seed)?;
            (train, validation) = (kept, Some(held_out));
        }
        if let Some(limit) = config.test_limit {
            test.limit(limit);
        }
        if let Some(limit) = config.train_limit {
            train.limit(limit);
        }
        if let Some(limit) = config.val_limit {
            let test = || test.clone().with_split(Split::Validation);
            validation.get_or_insert_with(test).limit(limit);
        }
        Ok(RunData { train, validation, test, source })
    }

    /// What tells these images and labels, and what each is for, from others: their number and checksums.
    pub fn fingerprint(&self) -> String {
        let sets = [Some(&self.train), self.validation.as_ref(), Some(&self.test)];
        sets.into_iter().flatten().map(Dataset::fingerprint).collect::<Vec<_>>().join(", ")
    }

    /// Images of the right number and shape, all black: enough to plan with.
    ///
    /// # Errors
    /// As the data set's description and [`RunData::divide`].
    pub fn blank(config: &RunConfig) -> Result<RunData> {
        RunData::divide(config, data::blank(&config.dataset, config.data.as_deref())?)
    }
}
