//! A trained model: its weights, and which network, classes and normalization they are of. Everything that asks a
//! trained model for something starts here.

use std::path::{Path, PathBuf};

use super::setup::EVAL_BATCH_SIZE;
use super::{RunConfig, folder};
use crate::data::Dataset;
use crate::exec::Device;
use crate::nn::onnx::{self, OnnxOptions};
use crate::nn::weights;
use crate::train::predict::{Prediction, Predictor, PredictorOptions};
use crate::train::{EvalOptions, Evaluation, evaluate};
use crate::{Error, Result, files};

/// A model file and the settings that it is to be read with.
#[derive(Clone, Debug)]
pub struct SavedModel {
    /// The safetensors file.
    pub file: PathBuf,
    /// The run's data set, folder, normalization and network; everything about training has its default, since limits
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
        let file = if path.is_dir() { folder::model_in(path) } else { path.to_owned() };
        if path.is_dir() && !file.is_file() {
            let expected = "a run's folder, with model.safetensors in it";
            return Err(Error::data(path, expected, "none, as when a run has not ended"));
        }
        let beside = folder::config_in(file.parent().unwrap_or(Path::new("")));
        let run = if beside.is_file() { RunConfig::load(&beside)? } else { RunConfig::default() };
        let RunConfig { dataset, data, normalize, network, .. } = run;
        let config = RunConfig { dataset, data, normalize, network, val_split: 0.0, ..RunConfig::default() };
        Ok(SavedModel { file, config })
    }

    /// Evaluates it on these images; see [`evaluate`].
    ///
    /// # Errors
    /// As [`evaluate`]; [`Error::Io`] and [`Error::Data`] where the file cannot be read or is of another network.
    pub fn evaluate(&self, device: &Device, data: &Dataset) -> Result<Evaluation> {
        let (model, weights) = (self.config.model()?, weights::load(&self.file)?);
        let normalize = self.config.normalize.stats(data)?;
        let options = EvalOptions { model: &model, weights: &weights, data, batch_size: EVAL_BATCH_SIZE, normalize };
        evaluate(device, &options).map_err(weights::in_file(&self.file))
    }

    /// Classifies each image; see [`Predictor`].
    ///
    /// # Errors
    /// As [`Predictor::new`] and [`Predictor::predict`]; [`Error::Io`] and [`Error::Data`] where the file cannot be read
    /// or is of another network.
    pub fn predict(&self, device: &Device, data: &Dataset) -> Result<Vec<Prediction>> {
        let (model, weights) = (self.config.model()?, weights::load(&self.file)?);
        let normalize = self.config.normalize.stats(data)?;
        let batch_size = EVAL_BATCH_SIZE.min(data.len()).max(1);
        let options = PredictorOptions {
            model: &model,
            weights: &weights,
            normalize: &normalize,
            shape: data.shape(),
            batch_size,
        };
        Predictor::new(device, &options).map_err(weights::in_file(&self.file))?.predict(data)
    }

    /// Writes it to `to` as an ONNX file, and makes the folder where it is missing; see [`onnx`](onnx::onnx). The file's
    /// metadata has the data set and the names of the classes, in their order, separated by commas. Gives the file's
    /// length in bytes.
    ///
    /// # Errors
    /// As [`onnx`](onnx::onnx); [`Error::Io`]; [`Error::Data`] where the model file is damaged or of another network.
    pub fn export_onnx(&self, to: &Path) -> Result<usize> {
        let (model, weights) = (self.config.model()?, weights::load(&self.file)?);
        let data = self.config.describe_data()?;
        let network = serde_json::to_string(&self.config.network)
            .map_err(|error| Error::setting("network", "settings that JSON can hold", error))?;
        let options = OnnxOptions {
            model: &model,
            weights: &weights,
            normalize: &self.config.normalize.stats(&data)?,
            shape: data.shape(),
            metadata: &[
                ("dataset", self.config.dataset.to_string()),
                ("classes", data.class_names().join(",")),
                ("network", network),
            ],
        };
        let bytes = onnx::onnx(&options).map_err(weights::in_file(&self.file))?;
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        files::write_whole(to, &bytes)?;
        Ok(bytes.len())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::data::{Cifar10, DataSource, FashionMnist, Normalize};
    use crate::nn::LeNet5;

    #[test]
    fn a_folder_and_the_file_in_it_are_the_same_model() {
        let folder = tempfile::tempdir().unwrap();
        let error = SavedModel::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        let file = folder::model_in(folder.path());
        std::fs::write(&file, "").unwrap();
        let settings =
            "dataset = \"cifar10\"\nnormalize = \"half\"\nbatch_norm = true\ntrain_limit = 7\nval_limit = 8\n";
        std::fs::write(folder::config_in(folder.path()), settings).unwrap();
        for path in [folder.path(), &file] {
            let SavedModel { file: found, config } = SavedModel::open(path).unwrap();
            assert_eq!((&found, config.dataset, config.normalize), (&file, Cifar10 {}.into(), Normalize::Half));
            let network = LeNet5 { batch_norm: true, ..LeNet5::default() };
            assert_eq!(config.network, network.into());
            assert!(config.train_limit.is_none() && config.val_limit.is_none());
        }
        std::fs::remove_file(folder::config_in(folder.path())).unwrap();
        assert_eq!(SavedModel::open(&file).unwrap().config.dataset, DataSource::from(FashionMnist {}));
    }
}
