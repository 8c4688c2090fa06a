//! A trained model: its weights, and which network, classes and normalization they are of. Everything that asks a
//! trained model for something starts here.

use std::path::{Path, PathBuf};

use toml::Value;

use super::setup::EVAL_BATCH_SIZE;
use super::{RunConfig, Settings, folder};
use crate::data::{ChannelStats, DataSource, Dataset};
use crate::exec::{Device, StateDict};
use crate::nn::weights::{self, ModelFile};
use crate::nn::{Classifier, Network};
use crate::train::predict::{Prediction, Predictor, PredictorOptions};
use crate::train::{EvalOptions, Evaluation, evaluate};
use crate::{Error, Result, files};

/// A model file and what it is of.
#[derive(Clone, Debug)]
pub struct SavedModel {
    /// The safetensors file.
    pub file: PathBuf,
    /// The network.
    pub network: Classifier,
    /// Its parameters and running statistics, all of them finite.
    pub weights: StateDict,
    /// C, H and W of the images it takes.
    pub shape: [usize; 3],
    /// What is subtracted from pixels, and what they are divided by.
    pub normalize: ChannelStats,
    /// The names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Where the images of its data set are, and what to compute on. Limits and splits of its run are left out: they say
    /// nothing about what the model is asked later.
    pub config: RunConfig,
    /// What was changed as the file was read, such as a prefix that was taken off names.
    pub notes: Vec<String>,
}

impl SavedModel {
    /// A run's folder, for its `model.safetensors`, or a model file. What the weights are of is said by the file's own
    /// metadata, by the `config.toml` beside it, and above both by the settings that are `given` by their dotted names:
    /// `network`, `dataset`, `data`, `normalize`, `device`.
    ///
    /// # Errors
    /// [`Error::Data`] where a folder holds no model, a file is damaged, or weights are not finite; [`Error::Setting`]
    /// where nothing says which network or data set the weights are of; as [`RunConfig::load`] and [`Settings::set`].
    pub fn open(path: &Path, given: &[(String, Value)]) -> Result<SavedModel> {
        let file = if files::is_dir(path) { folder::model_in(path) } else { path.to_owned() };
        if files::is_dir(path) && !files::is_file(&file) {
            let expected = "a run's folder, with model.safetensors in it";
            return Err(Error::data(path, expected, "none, as when a run has not ended"));
        }
        let ModelFile { tensors: weights, metadata, notes } = weights::read(&file)?;
        weights::require_finite(&weights).map_err(weights::in_file(&file))?;
        let beside = folder::config_in(file.parent().unwrap_or(Path::new("")));
        let run = if files::is_file(&beside) { Some(RunConfig::load(&beside)?) } else { None };
        let is_given = |name: &str| given.iter().any(|(other, _)| other.split('.').next() == Some(name));

        let mut config = run_of_model(run.as_ref());
        let dataset = metadata.dataset.as_deref().and_then(|name| DataSource::named(name).ok());
        match (&run, dataset) {
            (None, Some(dataset)) => config.dataset = dataset,
            (None, None) if metadata.classes.is_empty() && !is_given("dataset") => {
                let expected = "the data set that the weights are for, since neither the file nor its folder says it";
                return Err(Error::setting("dataset", expected, file.display()));
            }
            _ => {}
        }
        match metadata.network {
            Some(network) => config.network = network,
            None if run.is_none() && !is_given("network") => {
                let expected = "the network that the weights are of, since neither the file nor its folder says it";
                return Err(Error::setting("network", expected, file.display()));
            }
            None => {}
        }
        let mut settings = Settings::of(&config)?;
        settings.set_all(given)?;
        let config = settings.config()?;

        let described = match (&metadata.normalize, metadata.image_shape, metadata.classes.is_empty()) {
            (Some(normalize), Some(shape), false) if !is_given("dataset") && !is_given("normalize") => {
                (normalize.clone(), shape, metadata.classes)
            }
            _ => {
                let data = config.describe_data()?;
                let classes = data.class_names().iter().map(|&name| name.to_owned()).collect();
                (config.normalize.stats(&data)?, data.shape(), classes)
            }
        };
        let (normalize, shape, classes) = described;
        let network = Classifier::new(config.network.clone(), classes.len());
        Ok(SavedModel { file, network, weights, shape, normalize, classes, config, notes })
    }

    /// Evaluates it on these images; see [`evaluate`].
    ///
    /// # Errors
    /// As [`evaluate`]; [`Error::Data`] where the file is of another network.
    pub fn evaluate(&self, device: &Device, data: &Dataset) -> Result<Evaluation> {
        let SavedModel { network, weights, normalize, .. } = self;
        let normalize = normalize.clone();
        let options = EvalOptions { model: network, weights, data, batch_size: EVAL_BATCH_SIZE, normalize };
        evaluate(device, &options).map_err(weights::in_file(&self.file))
    }

    /// Classifies each image; see [`Predictor`].
    ///
    /// # Errors
    /// As [`Predictor::new`] and [`Predictor::predict`]; [`Error::Data`] where the file is of another network.
    pub fn predict(&self, device: &Device, data: &Dataset) -> Result<Vec<Prediction>> {
        let SavedModel { network, weights, normalize, .. } = self;
        let batch_size = EVAL_BATCH_SIZE.min(data.len()).max(1);
        let options = PredictorOptions { model: network, weights, normalize, shape: data.shape(), batch_size };
        Predictor::new(device, &options).map_err(weights::in_file(&self.file))?.predict(data)
    }

    /// Images without labels, (N, C, H, W) bytes as it takes them.
    ///
    /// # Errors
    /// [`Error::Operand`] where the bytes are not a whole number of images.
    pub fn unlabelled(&self, pixels: Vec<u8>) -> Result<Dataset> {
        Dataset::from_arrays(Vec::new(), Vec::new(), self.classes.iter().cloned(), self.shape)?.with_unlabelled(pixels)
    }
}

/// What of a run's settings says something about its model.
fn run_of_model(run: Option<&RunConfig>) -> RunConfig {
    let base = RunConfig { val_split: 0.0, ..RunConfig::default() };
    match run {
        Some(RunConfig { dataset, data, normalize, network, .. }) => RunConfig {
            dataset: dataset.clone(),
            data: data.clone(),
            normalize: *normalize,
            network: network.clone(),
            ..base
        },
        None => RunConfig { network: Network::default(), ..base },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::data::{Cifar10, Normalize};
    use crate::nn::LeNet5;
    use crate::nn::weights::Metadata;
    use crate::tensor::Tensor;

    fn write(file: &Path, metadata: &Metadata) {
        let weights: StateDict = [("w".to_owned(), Tensor::f32([1], vec![0.5]).unwrap())].into_iter().collect();
        weights::save(file, &weights, metadata).unwrap();
    }

    #[test]
    fn a_folder_and_the_file_in_it_are_the_same_model() {
        let folder = tempfile::tempdir().unwrap();
        let error = SavedModel::open(folder.path(), &[]).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        let file = folder::model_in(folder.path());
        write(&file, &Metadata::default());
        let settings = "dataset = \"cifar10\"\nnormalize = \"half\"\ntrain_limit = 7\nval_limit = 8\n\
             network = { kind = \"lenet5\", batch_norm = true }\n";
        std::fs::write(folder::config_in(folder.path()), settings).unwrap();
        for path in [folder.path(), &file] {
            let SavedModel { file: found, config, shape, classes, .. } = SavedModel::open(path, &[]).unwrap();
            assert_eq!((&found, config.dataset, config.normalize), (&file, Cifar10 {}.into(), Normalize::Half));
            let network = LeNet5 { batch_norm: true, ..LeNet5::default() };
            assert_eq!(config.network, network.into());
            assert!(config.train_limit.is_none() && config.val_limit.is_none());
            assert_eq!((shape, classes.len()), ([3, 32, 32], 10));
        }
    }

    #[test]
    fn a_file_alone_says_what_it_is_of_or_has_to_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("moved.safetensors");
        write(&file, &Metadata::default());
        let told = |names: &[(&str, &str)]| {
            let given: Vec<(String, Value)> =
                names.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            SavedModel::open(&file, &given)
        };
        assert!(told(&[]).unwrap_err().to_string().starts_with("dataset: "));
        assert!(told(&[("dataset", "mnist")]).unwrap_err().to_string().starts_with("network: "));
        let model = told(&[("dataset", "mnist"), ("network", "mlp")]).unwrap();
        assert_eq!((model.network.network.name(), model.classes[7].as_str()), ("mlp", "7"));

        let metadata = Metadata {
            network: Some(Network::named("vgg").unwrap()),
            image_shape: Some([1, 8, 8]),
            dataset: Some("somebody's own".to_owned()),
            classes: vec!["cat".to_owned(), "dog".to_owned()],
            normalize: Some(ChannelStats { mean: vec![0.25], std: vec![0.5] }),
            ..Metadata::default()
        };
        write(&file, &metadata);
        let model = told(&[]).unwrap();
        assert_eq!((model.shape, model.classes.as_slice()), ([1, 8, 8], &["cat".to_owned(), "dog".to_owned()][..]));
        assert_eq!(
            (model.network.network.name(), model.network.num_classes, model.normalize.mean[0]),
            ("vgg", 2, 0.25)
        );
    }

    #[test]
    fn weights_that_are_not_finite_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broken.safetensors");
        let weights: StateDict = [("conv1.weight".to_owned(), Tensor::f32([2], vec![0.5, f32::NAN]).unwrap())].into();
        weights::save(&file, &weights, &Metadata::default()).unwrap();
        let error = SavedModel::open(&file, &[]).unwrap_err().to_string();
        assert!(error.contains("conv1.weight"), "{error}");
    }
}
