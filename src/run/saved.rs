//! A model file together with what its run's `config.toml` says of it: which images it was trained on, how their
//! pixels were normalised, and which network it is. Everything that asks a trained model for something starts here.

use std::path::{Path, PathBuf};

use super::RunConfig;
use crate::{Error, Result};

/// The weights' name in a run's folder.
const MODEL: &str = "model.safetensors";
/// The settings' name in a run's folder.
const CONFIG: &str = "config.toml";

/// A model file and the settings that it is to be read with.
#[derive(Clone, Debug)]
pub struct SavedModel {
    /// The safetensors file.
    pub file: PathBuf,
    /// The run's data set, folder, normalisation and network; everything about training has its default, since limits
    /// and splits of a run say nothing about what its model is asked later. All defaults where there is no
    /// `config.toml`.
    pub config: RunConfig,
}

impl SavedModel {
    /// A run's folder, for its `model.safetensors`, or a model file; either with the `config.toml` beside the weights.
    /// The weights are read where they are used.
    ///
    /// # Errors
    /// [`Error::Data`] where a folder holds no model; as [`RunConfig::load`].
    pub fn open(path: &Path) -> Result<SavedModel> {
        let mut file = path.to_owned();
        if path.is_dir() {
            file.push(MODEL);
            if !file.is_file() {
                let expected = format!("a run's folder, with {MODEL} in it");
                return Err(Error::data(path, expected, "none, as when a run has not ended"));
            }
        }
        let beside = file.with_file_name(CONFIG);
        let run = if beside.is_file() { RunConfig::load(&beside)? } else { RunConfig::default() };
        let RunConfig { dataset, data, normalize, network, .. } = run;
        let config = RunConfig { dataset, data, normalize, network, val_split: 0.0, ..RunConfig::default() };
        Ok(SavedModel { file, config })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::data::{Cifar10, DataSource, Normalize};
    use crate::nn::LeNet5;

    #[test]
    fn a_folder_and_the_file_in_it_are_the_same_model() {
        let folder = tempfile::tempdir().unwrap();
        let error = SavedModel::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        let file = folder.path().join(MODEL);
        std::fs::write(&file, "").unwrap();
        let settings = "dataset = \"cifar10\"\nnormalize = \"half\"\ntrain_limit = 7\nval_limit = 8\n\
             network = { kind = \"lenet5\", batch_norm = true }\n";
        std::fs::write(folder.path().join(CONFIG), settings).unwrap();
        for path in [folder.path(), &file] {
            let SavedModel { file: found, config } = SavedModel::open(path).unwrap();
            assert_eq!((&found, config.dataset, config.normalize), (&file, Cifar10 {}.into(), Normalize::Half));
            let network = LeNet5 { batch_norm: true, ..LeNet5::default() };
            assert_eq!(config.network, network.into());
            assert!(config.train_limit.is_none() && config.val_limit.is_none());
        }
        std::fs::remove_file(folder.path().join(CONFIG)).unwrap();
        assert_eq!(SavedModel::open(&file).unwrap().config.dataset, DataSource::default());
    }
}
