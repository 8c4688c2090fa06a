//! The images of trials: read from disk once, and divided once for trials that divide them the same way.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Result;
use crate::data::{self, DataSource, Splits};
use crate::run::{RunConfig, RunData};

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Images {
    files: Vec<(DataSource, Option<PathBuf>, Splits)>,
    /// The last division: trials that differ in it are few, and keeping all would keep the images many times.
    divided: Option<(Division, Arc<RunData>)>,
}

/// The settings that decide which images are for what.
#[derive(Debug, PartialEq)]
struct Division {
    dataset: DataSource,
    data: Option<PathBuf>,
    val_split: f64,
    seed: u64,
    limits: [Option<usize>; 3],
}

impl Images {
    /// The images of a trial.
    ///
    /// # Errors
    /// As [`RunData::load`].
    pub fn of(&mut self, config: &RunConfig) -> Result<Arc<RunData>> {
        let RunConfig { dataset, data, val_split, seed, train_limit, val_limit, test_limit, .. } = config;
        let division = Division {
            dataset: dataset.clone(),
            data: data.clone(),
            val_split: *val_split,
            seed: *seed,
            limits: [*train_limit, *val_limit, *test_limit],
        };
        if let Some((_, data)) = self.divided.as_ref().filter(|(last, _)| *last == division) {
            return Ok(data.clone());
        }
        let place = match self.files.iter().position(|(name, folder, _)| name == dataset && folder == data) {
            Some(place) => place,
            None => {
                self.files.push((dataset.clone(), data.clone(), data::load(dataset, data.as_deref())?));
                self.files.len() - 1
            }
        };
        let divided = Arc::new(RunData::divide(config, self.files[place].2.clone())?);
        self.divided = Some((division, divided.clone()));
        Ok(divided)
    }
}
