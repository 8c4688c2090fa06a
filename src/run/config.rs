//! Everything a training run is made of, as plain values: what `config.toml` in a run's folder holds and what
//! `lenet --config` reads back. It only describes: [`setup`](super::setup) and [`Run`](super::Run) do the work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{self, DataSource, Dataset, Normalize, Transforms};
use crate::nn::weights::Metadata;
use crate::nn::{Classifier, Network};
use crate::optim::{GradientOptions, Optimizer, ParamGroup, UpdateOptions};
use crate::schedule::Schedule;
use crate::train::early_stop::{EarlyStopOptions, EarlyStopping};
use crate::train::{DiagnosticsOptions, FitOptions};
use crate::{Error, Result, files};

/// A training run. The default trains LeNet-5 on FashionMNIST in a minute or two.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// What the run is called, in its folder's name and wherever runs are compared. Default: network and data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The data set.
    pub dataset: DataSource,
    /// The folder of its files; without one they are looked for as [`data::load`] says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// How pixels are scaled. Default: the data set's mean and deviation.
    pub normalize: Normalize,
    /// Only the first so many images are trained on, after the validation images were taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// Only the first so many of the validation images are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_limit: Option<usize>,
    /// Only the first so many of the test images are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// Share of the training images held out for validation; 0 validates on the test images. Default 0.1.
    pub val_split: f64,
    /// Whether every epoch has an order of its own. Default true.
    pub shuffle: bool,
    /// The key of initial weights, held-out images, orders and dropout; below 2^63, which is as far as TOML counts.
    /// Default 0.
    pub seed: u64,
    /// What to compute on, as [`Device::select`](crate::Device::select) takes it. Default "auto".
    pub device: String,
    /// The network: a name, or a table with its `kind` and settings. Default: LeNet-5.
    pub network: Network,
    /// A model file to start from instead of random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// The most epochs. Default 30.
    pub epochs: u64,
    /// Images in a step. Default 64.
    pub batch_size: usize,
    /// Share of the target that is spread over all classes in training. Default 0.
    pub label_smoothing: f64,
    /// The learning rate; without one the optimizer's usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// When to stop early: a table of options, or `false` for never. Default: after 5 epochs in which the validation
    /// loss did not improve.
    #[serde(with = "table_or_false")]
    pub early_stopping: Option<EarlyStopOptions>,
    /// How parameters follow their gradients. Default: SGD with momentum 0.9.
    pub optimizer: Optimizer,
    /// Parameters with a learning rate or weight decay of their own. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParamGroup>,
    /// Accumulation, regularization and clipping of gradients. Default: none.
    pub gradients: GradientOptions,
    /// Random changes to training images. Default: none.
    pub transforms: Transforms,
    /// How the learning rate changes. Default: not at all.
    pub schedule: Schedule,
    /// What diagnostics to record once an epoch: a table of options, or `false` for nothing. Default: all but
    /// what goes into activation functions. Training steps are the same either way.
    #[serde(with = "table_or_false")]
    pub diagnostics: Option<DiagnosticsOptions>,
}

impl RunConfig {
    /// Reads a file such as [`RunFolder::write_config`](super::RunFolder::write_config) writes; what it
    /// does not set has its default.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] where it is not TOML or has settings that do not exist; [`Error::Setting`] as
    /// [`RunConfig::validate`].
    pub fn load(path: &Path) -> Result<RunConfig> {
        RunConfig::parse(&files::read_to_string(path).map_err(Error::io("read", path))?, path)
    }

    /// Reads settings from text that comes from the file `path`. Errors as [`RunConfig::load`].
    pub fn parse(text: &str, path: &Path) -> Result<RunConfig> {
        let config: RunConfig = toml::from_str(text)
            .map_err(|error| Error::data(path, "the settings of a training run", format!("\n{error}")))?;
        config.validate()?;
        Ok(config)
    }

    /// The settings as a file holds them.
    ///
    /// # Errors
    /// [`Error::Setting`] where the schedule is code, which no file can hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self)
            .map_err(|error| Error::setting("configuration", "settings that TOML can hold", error))
    }

    /// Checks every setting that can be checked without data and device.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the option as the command line has it.
    pub fn validate(&self) -> Result<()> {
        at_least_1("epochs", Some(self.epochs))?;
        at_least_1("batch_size", Some(self.batch_size))?;
        at_least_1("train_limit", self.train_limit)?;
        at_least_1("val_limit", self.val_limit)?;
        at_least_1("test_limit", self.test_limit)?;
        share("val_split", self.val_split)?;
        self.network.validate()?;
        let lr = self.learning_rate();
        if !(lr.is_finite() && lr > 0.0) {
            return Err(Error::setting("lr", "a number above 0", lr));
        }
        if i64::try_from(self.seed).is_err() {
            return Err(Error::setting("seed", "a number below 2^63", self.seed));
        }
        if self.device.is_empty() {
            return Err(Error::setting("device", "auto, cpu, gpu or a part of an adapter's name", "nothing"));
        }
        if let Some(options) = &self.early_stopping {
            EarlyStopping::new(options.clone())?;
        }
        share("label_smoothing", self.label_smoothing)?;
        self.transforms.validate(self.dataset.get().image_shape())?;
        if self.schedule.cycles_momentum() && !self.optimizer.has_momentum() {
            let expected = "an optimizer with a momentum for one-cycle to cycle, or cycle_momentum = false";
            return Err(Error::setting("schedule", expected, "one without"));
        }
        self.optimizer.validate()?;
        self.update().validate()
    }

    /// The same with everything named that has a default of its own, so that a file says it: the learning rate.
    pub fn named(&self) -> RunConfig {
        RunConfig { lr: Some(self.learning_rate()), ..self.clone() }
    }

    /// The settings as (`optimizer.momentum`, `0.9`), in their order.
    ///
    /// # Errors
    /// [`Error::Setting`] where a schedule is code, which no file can hold.
    pub fn flat_settings(&self) -> Result<Vec<(String, String)>> {
        let table = toml::Table::try_from(self)
            .map_err(|error| Error::setting("configuration", "settings that TOML can hold", error))?;
        Ok(flatten(&table))
    }

    /// What the run is called, as its folder's name has it: letters, digits, dots and hyphens.
    pub fn run_name(&self) -> String {
        let name = self.name.clone().unwrap_or_else(|| format!("{}-{}", self.network.name(), self.dataset));
        name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' }).collect()
    }

    /// The settings in which another run differs, as (`optimizer.momentum`, here, there); a setting that one of them
    /// does not have is "nothing" there.
    ///
    /// # Errors
    /// [`Error::Setting`] where a schedule is code, which cannot be compared.
    pub fn differences(&self, other: &RunConfig) -> Result<Vec<(String, String, String)>> {
        let here: BTreeMap<String, String> = self.flat_settings()?.into_iter().collect();
        let there: BTreeMap<String, String> = other.flat_settings()?.into_iter().collect();
        let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
        let value = |settings: &BTreeMap<String, String>, name| {
            settings.get(name).map_or_else(|| "nothing".to_owned(), String::clone)
        };
        let compared = names.into_iter().map(|name| (name.clone(), value(&here, name), value(&there, name)));
        Ok(compared.filter(|(_, here, there)| here != there).collect())
    }

    pub(super) fn update(&self) -> UpdateOptions {
        UpdateOptions { gradients: self.gradients.clone(), groups: self.groups.clone() }
    }

    /// The learning rate, or the optimizer's usual one.
    pub fn learning_rate(&self) -> f64 {
        self.lr.unwrap_or_else(|| self.optimizer.default_lr())
    }

    /// The network for the data set's classes.
    ///
    /// # Errors
    /// As [`Source::class_names`](data::Source::class_names).
    pub fn model(&self) -> Result<Classifier> {
        let num_classes = self.dataset.get().class_names(self.data.as_deref())?.len();
        Ok(Classifier::new(self.network.clone(), num_classes))
    }

    /// What a model file of a run on `data` says of itself.
    ///
    /// # Errors
    /// As [`Normalize::stats`].
    pub fn metadata(&self, data: &Dataset) -> Result<Metadata> {
        Ok(Metadata {
            network: Some(self.network.clone()),
            image_shape: Some(data.shape()),
            dataset: Some(self.dataset.to_string()),
            classes: data.class_names().iter().map(|&name| name.to_owned()).collect(),
            normalize: Some(self.normalize.stats(data)?),
            ..Metadata::default()
        })
    }

    /// A data set of no images that knows shape, classes and statistics of the run's.
    ///
    /// # Errors
    /// As [`data::describe`].
    pub fn describe_data(&self) -> Result<Dataset> {
        data::describe(&self.dataset, self.data.as_deref())
    }

    /// How the session is trained.
    pub fn fit_options(&self) -> FitOptions {
        FitOptions {
            epochs: self.epochs,
            lr: self.learning_rate(),
            schedule: self.schedule.clone(),
            early_stopping: self.early_stopping.clone(),
            checkpoint: None,
        }
    }
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            name: None,
            dataset: DataSource::default(),
            data: None,
            normalize: Normalize::Dataset,
            train_limit: None,
            val_limit: None,
            test_limit: None,
            val_split: 0.1,
            shuffle: true,
            seed: 0,
            device: "auto".to_owned(),
            network: Network::default(),
            init: None,
            epochs: 30,
            batch_size: 64,
            lr: None,
            early_stopping: Some(EarlyStopOptions::default()),
            groups: Vec::new(),
            gradients: GradientOptions::default(),
            transforms: Transforms::default(),
            label_smoothing: 0.0,
            optimizer: Optimizer::sgd(0.9),
            schedule: Schedule::constant(),
            diagnostics: Some(DiagnosticsOptions { histograms: true, ..DiagnosticsOptions::default() }),
        }
    }
}

/// The settings of a file by their dotted names, in its order.
pub(crate) fn flatten(table: &toml::Table) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                settings.extend(flatten(inner).into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            toml::Value::String(text) => settings.push((key.clone(), text.clone())),
            // With an exponent where it would have many zeros.
            toml::Value::Float(number) => settings.push((key.clone(), format!("{number:?}"))),
            other => settings.push((key.clone(), other.to_string())),
        }
    }
    settings
}

fn at_least_1<T: TryInto<u64>>(option: &str, value: Option<T>) -> Result<()> {
    match value.map(TryInto::try_into) {
        Some(Ok(0)) => Err(Error::setting(option, "at least 1", 0)),
        _ => Ok(()),
    }
}

fn share(option: &str, value: f64) -> Result<()> {
    let is_share = (0.0..1.0).contains(&value);
    if is_share { Ok(()) } else { Err(Error::setting(option, "a number from 0 to below 1", value)) }
}

/// TOML has no null, and leaving the table out means the default; so nothing is written as `false`.
mod table_or_false {
    use serde::de::{DeserializeOwned, Error};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a table of options with the names that a run's config.toml has, or false")]
    enum Written<T> {
        Switch(bool),
        Options(T),
    }

    pub fn serialize<T: Serialize, S: Serializer>(options: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match options {
            Some(options) => options.serialize(serializer),
            None => serializer.serialize_bool(false),
        }
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Switch(false) => Ok(None),
            Written::Switch(true) => Err(D::Error::custom("leave it out for its defaults, rather than true")),
            Written::Options(options) => Ok(Some(options)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::schedule::{OneCycle, Plateau};

    #[test]
    fn a_written_configuration_reads_back_the_same() {
        let full = RunConfig {
            data: Some("/somewhere".into()),
            init: Some("/else/where.safetensors".into()),
            train_limit: Some(7),
            val_limit: Some(8),
            lr: Some(0.1),
            early_stopping: None,
            diagnostics: None,
            optimizer: Optimizer::adamw(),
            schedule: Schedule::plateau(Plateau::default()).unwrap(),
            transforms: Transforms { crop_padding: 2, max_shift: 0.5, ..Transforms::default() },
            ..RunConfig::default()
        };
        for config in [RunConfig::default(), full] {
            let text = toml::to_string_pretty(&config).unwrap();
            let read: RunConfig = toml::from_str(&text).unwrap();
            assert_eq!(format!("{config:?}"), format!("{read:?}"), "{text}");
        }
    }

    #[test]
    fn a_partial_file_has_defaults_for_the_rest_and_a_mistyped_name_is_an_error() {
        let config: RunConfig = toml::from_str("batch_size = 32\n[early_stopping]\npatience = 9\n").unwrap();
        assert_eq!((config.batch_size, config.epochs), (32, 30));
        assert_eq!(config.early_stopping.unwrap().patience, 9);
        let error = toml::from_str::<RunConfig>("batchsize = 32").unwrap_err().to_string();
        assert!(error.contains("batchsize") && error.contains("batch_size"), "{error}");
    }

    #[test]
    fn settings_out_of_range_name_their_option() {
        let default = RunConfig::default;
        let none = Transforms::default();
        let dropout = crate::nn::LeNet5 { dropout: 1.0, ..crate::nn::LeNet5::default() };
        let one_cycle = Schedule::one_cycle(OneCycle::new(0.1, None)).unwrap();
        let cases = [
            ("epochs", RunConfig { epochs: 0, ..default() }),
            ("batch_size", RunConfig { batch_size: 0, ..default() }),
            ("train_limit", RunConfig { train_limit: Some(0), ..default() }),
            ("val_limit", RunConfig { val_limit: Some(0), ..default() }),
            ("val_split", RunConfig { val_split: 2.0, ..default() }),
            ("val_split", RunConfig { val_split: f64::NAN, ..default() }),
            ("network.dropout", RunConfig { network: dropout.into(), ..default() }),
            ("lr", RunConfig { lr: Some(0.0), ..default() }),
            ("seed", RunConfig { seed: u64::MAX, ..default() }),
            ("device", RunConfig { device: String::new(), ..default() }),
            ("momentum", RunConfig { optimizer: Optimizer::sgd(1.0), ..default() }),
            ("flip_probability", RunConfig { transforms: Transforms { flip_probability: 2.0, ..none }, ..default() }),
            ("crop_padding", RunConfig { transforms: Transforms { crop_padding: 29, ..none }, ..default() }),
            ("schedule", RunConfig { schedule: one_cycle, optimizer: Optimizer::sgd(0.0), ..default() }),
        ];
        default().validate().unwrap();
        for (option, config) in cases {
            let error = config.validate().unwrap_err();
            assert!(error.is_usage() && error.to_string().starts_with(option), "{option}: {error}");
        }
    }
}
