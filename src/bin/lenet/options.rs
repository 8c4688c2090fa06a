//! The command line. Options stand in groups that subcommands share; each group knows how to change a [`TrainConfig`],
//! so that what is not given keeps the default or what `--config` says.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use wgrad::data::{DatasetName, Normalize};
use wgrad::optim::Optimizer;
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::run_folder::CHECKPOINT;
use wgrad::train::schedule::{PlateauOptions, ReduceLrOnPlateau, Schedule};
use wgrad::train::{Checkpoint, TrainConfig};
use wgrad::{Error, Result};

use crate::data::DataCommand;
use crate::eval::EvalOptions;
use crate::export::ExportOptions;
use crate::predict::PredictOptions;
use crate::summary::SummaryOptions;

/// Trains LeNet-5 on images with a GPU compute engine of its own, or on the processor.
///
/// Without a subcommand it trains. A first run needs no files: a part of FashionMNIST comes with the program.
#[derive(Parser)]
#[command(name = "lenet", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub train: TrainOptions,
}

#[derive(Subcommand)]
pub enum Command {
    /// Train a network and leave a run folder with its settings, metrics and weights (the default)
    Train(Box<TrainOptions>),
    /// Judge a model by the test images: loss, accuracy, scores of each class, the confusion matrix
    Eval(EvalOptions),
    /// Say what a trained network takes image files for
    Predict(PredictOptions),
    /// Write a trained network as an ONNX file, for other programs to run
    Export(ExportOptions),
    /// List, fetch and show data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Set runs side by side: the settings that differ, scores, and a picture of their curves
    Compare(CompareOptions),
    /// List what can be computed on, and which of it `--device auto` takes
    Devices,
    /// Print the layers of the network, with shapes, parameters, operations and memory
    Summary(SummaryOptions),
    /// Print what a step of training and of evaluation consists of, op by op
    Plan(PlanOptions),
    /// Time every op of a training step
    Profile(StepOptions),
    /// Hold a whole training step on a device to a reference in f64, op by op
    Verify(StepOptions),
}

#[derive(Args)]
pub struct TrainOptions {
    #[command(flatten)]
    dataset: DatasetOption,
    #[command(flatten)]
    source: SourceOptions,
    #[command(flatten)]
    selection: SelectionOptions,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    init: InitOption,
    #[command(flatten)]
    batch: BatchOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    stopping: StoppingOptions,
    #[command(flatten)]
    scheduler: SchedulerOptions,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    pub output: OutputOptions,
    /// Settings to start from: the config.toml of a run folder, or a part of one; options given here go before it
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// Go on with an interrupted run, as if it had never stopped: its folder. Of its settings only --epochs, what early
    /// stopping waits for, --data and --device can be changed
    #[arg(long, value_name = "RUN", help_heading = "Run", conflicts_with_all = ["config", "out"])]
    resume: Option<PathBuf>,
}

/// What `lenet train` was asked for.
pub struct TrainRequest {
    pub config: TrainConfig,
    pub output: OutputOptions,
    /// The run to go on with.
    pub resume: Option<Resume>,
}

/// A run to go on with.
pub struct Resume {
    pub folder: PathBuf,
    pub checkpoint: Checkpoint,
}

/// Settings that a run may change when it goes on: they do not affect the epochs that are done.
const CHANGEABLE: [&str; 5] = ["epochs", "early_stopping.patience", "early_stopping.min_delta", "data", "device"];

#[derive(Args)]
pub struct PlanOptions {
    #[command(flatten)]
    dataset: DatasetOption,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    batch: BatchOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
}

#[derive(Args)]
pub struct StepOptions {
    #[command(flatten)]
    dataset: DatasetOption,
    #[command(flatten)]
    source: SourceOptions,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    init: InitOption,
    #[command(flatten)]
    batch: BatchOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    /// What to run on: `gpu` (the best adapter), `cpu` or a part of an adapter's name [default: gpu]
    #[arg(long, value_name = "DEVICE", env = "WGRAD_DEVICE", help_heading = "Run")]
    device: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Data")]
pub struct DatasetOption {
    /// The images [default: fashion-mnist]
    #[arg(long, value_name = "NAME", value_parser = parser::<DatasetName>(&["fashion-mnist", "mnist", "cifar10"]))]
    dataset: Option<DatasetName>,
}

#[derive(Args)]
#[command(next_help_heading = "Data")]
pub struct SourceOptions {
    /// The folder with the data set's files [default: the cache folder, /usr/share/datasets, or for fashion-mnist the
    /// bundled part of it]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What pixels become: `none` only scales them to 0..1, `half` to -1..1, `dataset` to the data set's mean 0 and
    /// deviation 1 [default: dataset]
    #[arg(long, value_name = "HOW", value_parser = parser::<Normalize>(&["none", "half", "dataset"]))]
    normalize: Option<Normalize>,
}

#[derive(Args)]
#[command(next_help_heading = "Data")]
struct SelectionOptions {
    /// Train on the first N images only [default: all that are not held out]
    #[arg(long, value_name = "N")]
    train_limit: Option<usize>,
    /// Validate on the first N images only [default: all that are held out]
    #[arg(long, value_name = "N")]
    val_limit: Option<usize>,
    /// Share of the training images held out to validate on; 0 validates on the official test images [default: 0.1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    val_split: Option<f64>,
    /// Take the images in the same order in every epoch
    #[arg(long)]
    no_shuffle: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// Normalise batches behind the first convolution
    #[arg(long)]
    batch_norm: bool,
    /// Drop values with probability P behind the first pooling and the first fully connected layer [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    dropout: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = "Network")]
struct InitOption {
    /// Start from the weights in a safetensors file instead of random ones
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = "Training")]
pub struct BatchOptions {
    /// Images in a step [default: 64]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// The key of everything random: initial weights, held-out images, orders, dropout [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Args)]
#[command(next_help_heading = "Training")]
struct OptimizerOptions {
    /// How weights follow their gradients [default: sgd]
    #[arg(long, value_name = "NAME", value_parser = ["sgd", "adam", "adamw", "rmsprop", "adagrad", "lion"])]
    optimizer: Option<String>,
    /// The learning rate [default: 0.01 with sgd, rmsprop and adagrad, 0.001 with adam and adamw, 0.0001 with lion]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Share of the velocity that sgd and rmsprop keep from step to step [default: 0.9 with sgd, 0 with rmsprop]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Let sgd look ahead along its velocity
    #[arg(long)]
    nesterov: bool,
    /// Pull weights towards 0 [default: 0.01 with adamw, 0 with the others]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = "Training")]
struct StoppingOptions {
    /// The most epochs [default: 30]
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Stop after N epochs in a row without a better validation loss [default: 5]
    #[arg(long, value_name = "N")]
    early_stopping_patience: Option<u64>,
    /// How much better a validation loss must be to count [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    early_stopping_min_delta: Option<f64>,
    /// Train all epochs
    #[arg(long, conflicts_with_all = ["early_stopping_patience", "early_stopping_min_delta"])]
    no_early_stopping: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Training")]
struct SchedulerOptions {
    /// How the learning rate changes: not at all, or cut when the validation loss stops falling [default: constant]
    #[arg(long, value_name = "NAME", value_parser = ["constant", "plateau"])]
    scheduler: Option<String>,
    /// What a plateau multiplies the learning rate with [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    factor: Option<f64>,
    /// How many epochs without a better validation loss a plateau puts up with [default: 10]
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
}

#[derive(Args)]
#[command(next_help_heading = "Run")]
pub struct DeviceOption {
    /// What to compute on: `auto` (a real GPU, else the processor), `cpu`, `gpu` (the best adapter, even a software one)
    /// or a part of an adapter's name [default: auto]
    #[arg(long, value_name = "DEVICE", env = "WGRAD_DEVICE")]
    device: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// The folder in which to make the run's folder
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Print the result only
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print a JSON object a line, one for each epoch and one for the result, and nothing else
    #[arg(long)]
    pub json: bool,
    /// Leave out report.html, the pictures, metrics.csv and TensorBoard's event files
    #[arg(long)]
    pub no_report: bool,
}

/// Runs to set side by side.
#[derive(Args)]
pub struct CompareOptions {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub runs: Vec<PathBuf>,
    /// Write the curves of all runs to this picture
    #[arg(long, value_name = "FILE.png")]
    pub picture: Option<PathBuf>,
}

impl TrainOptions {
    /// The run that the options describe, checked as far as it can be without data and device.
    pub fn request(self) -> Result<TrainRequest> {
        let resume = self.resume.as_deref().map(Resume::read).transpose()?;
        let started_as = match (&resume, &self.config) {
            (Some(resume), _) => resume.config()?,
            (None, Some(file)) => TrainConfig::load(file)?,
            (None, None) => TrainConfig::default(),
        };
        let mut config = started_as.clone();
        self.dataset.apply(&mut config);
        self.source.apply(&mut config)?;
        self.selection.apply(&mut config);
        self.network.apply(&mut config);
        self.init.apply(&mut config)?;
        self.batch.apply(&mut config);
        self.optimizer.apply(&mut config)?;
        self.stopping.apply(&mut config);
        self.scheduler.apply(&mut config)?;
        self.device.apply(&mut config);
        // Named, so that the file a run leaves says it.
        config.lr = Some(config.learning_rate());
        config.validate().map_err(as_option)?;
        if resume.is_some() {
            refuse_changes(&started_as, &config)?;
        }
        Ok(TrainRequest { config, output: self.output, resume })
    }
}

impl Resume {
    fn read(folder: &Path) -> Result<Resume> {
        let file = folder.join(CHECKPOINT);
        if folder.is_dir() && !file.exists() {
            let (option, expected) = ("--resume".to_owned(), format!("a run's folder with a file \"{CHECKPOINT}\""));
            let got = format!("{}, which has none: nothing was saved there yet", folder.display());
            return Err(Error::Config { option, expected, got });
        }
        Ok(Resume { folder: folder.to_owned(), checkpoint: Checkpoint::load(&file)? })
    }

    fn config(&self) -> Result<TrainConfig> {
        TrainConfig::parse(&self.checkpoint.settings, &self.folder.join(CHECKPOINT))
    }
}

/// Settings that a run began with stay as they are: another network or optimizer has no use for what was saved.
fn refuse_changes(before: &TrainConfig, now: &TrainConfig) -> Result<()> {
    for (setting, before, now) in before.differences(now)? {
        if !CHANGEABLE.contains(&setting.as_str()) {
            let option = format!("--resume with another {setting}");
            let expected = format!("{before}, as the run began; start a new run for another");
            return Err(Error::Config { option, expected, got: now });
        }
    }
    Ok(())
}

impl PlanOptions {
    /// A run with these options.
    pub fn config(self) -> Result<TrainConfig> {
        let mut config = TrainConfig { health: None, ..TrainConfig::default() };
        self.dataset.apply(&mut config);
        self.network.apply(&mut config);
        self.batch.apply(&mut config);
        self.optimizer.apply(&mut config)?;
        config.validate()?;
        Ok(config)
    }
}

impl StepOptions {
    /// A run with these options.
    pub fn config(self) -> Result<TrainConfig> {
        let mut config = TrainConfig { device: "gpu".to_owned(), health: None, ..TrainConfig::default() };
        self.dataset.apply(&mut config);
        self.source.apply(&mut config)?;
        self.network.apply(&mut config);
        self.init.apply(&mut config)?;
        self.batch.apply(&mut config);
        self.optimizer.apply(&mut config)?;
        set_device(self.device, &mut config);
        config.validate()?;
        Ok(config)
    }
}

impl DatasetOption {
    pub fn apply(&self, config: &mut TrainConfig) {
        set(self.dataset, &mut config.dataset);
    }

    /// As [`apply`](Self::apply), to the settings of a run that has ended: another data set's files would not be in
    /// that run's folder of data.
    pub fn apply_to_model(&self, config: &mut TrainConfig) {
        config.data = config.data.take().filter(|_| self.dataset.is_none_or(|name| name == config.dataset));
        self.apply(config);
    }
}

impl SourceOptions {
    pub fn apply(&self, config: &mut TrainConfig) -> Result<()> {
        if let Some(dir) = &self.data {
            config.data = Some(absolute(dir)?);
        }
        set(self.normalize, &mut config.normalize);
        Ok(())
    }
}

impl SelectionOptions {
    fn apply(self, config: &mut TrainConfig) {
        config.train_limit = self.train_limit.or(config.train_limit);
        config.val_limit = self.val_limit.or(config.val_limit);
        set(self.val_split, &mut config.val_split);
        config.shuffle &= !self.no_shuffle;
    }
}

impl NetworkOptions {
    pub fn apply(self, config: &mut TrainConfig) {
        config.batch_norm |= self.batch_norm;
        set(self.dropout, &mut config.dropout);
    }
}

impl InitOption {
    fn apply(self, config: &mut TrainConfig) -> Result<()> {
        if let Some(file) = &self.init {
            config.init = Some(absolute(file)?);
        }
        Ok(())
    }
}

impl BatchOptions {
    pub fn apply(self, config: &mut TrainConfig) {
        set(self.batch_size, &mut config.batch_size);
        set(self.seed, &mut config.seed);
    }
}

impl OptimizerOptions {
    fn apply(self, config: &mut TrainConfig) -> Result<()> {
        let wanted = match self.optimizer.as_deref() {
            Some("sgd") => Optimizer::sgd_momentum(0.9),
            Some("adam") => Optimizer::adam(),
            Some("adamw") => Optimizer::adamw(),
            Some("rmsprop") => Optimizer::rmsprop(),
            Some("adagrad") => Optimizer::adagrad(),
            Some("lion") => Optimizer::lion(),
            _ => config.optimizer,
        };
        // The optimizer that a file describes stays as it is there, unless it becomes another one.
        if std::mem::discriminant(&wanted) != std::mem::discriminant(&config.optimizer) {
            config.optimizer = wanted;
            config.lr = None;
        }
        config.lr = self.lr.or(config.lr);
        match &mut config.optimizer {
            Optimizer::Sgd { momentum, nesterov, weight_decay, .. } => {
                set(self.momentum, momentum);
                *nesterov |= self.nesterov;
                set(self.weight_decay, weight_decay);
            }
            Optimizer::RmsProp { momentum, weight_decay, .. } => {
                reject("--nesterov", self.nesterov, "--optimizer sgd", "--optimizer rmsprop")?;
                set(self.momentum, momentum);
                set(self.weight_decay, weight_decay);
            }
            Optimizer::Adam { weight_decay, .. }
            | Optimizer::AdamW { weight_decay, .. }
            | Optimizer::Adagrad { weight_decay, .. }
            | Optimizer::Lion { weight_decay, .. } => {
                let got = "--optimizer adam, adamw, adagrad or lion";
                reject("--momentum", self.momentum.is_some(), "--optimizer sgd or rmsprop", got)?;
                reject("--nesterov", self.nesterov, "--optimizer sgd", got)?;
                set(self.weight_decay, weight_decay);
            }
        }
        Ok(())
    }
}

impl StoppingOptions {
    fn apply(self, config: &mut TrainConfig) {
        set(self.epochs, &mut config.epochs);
        if self.no_early_stopping {
            config.early_stopping = None;
        }
        if self.early_stopping_patience.is_some() || self.early_stopping_min_delta.is_some() {
            let stopping = config.early_stopping.get_or_insert_with(EarlyStopOptions::default);
            set(self.early_stopping_patience, &mut stopping.patience);
            set(self.early_stopping_min_delta, &mut stopping.min_delta);
        }
    }
}

impl SchedulerOptions {
    fn apply(self, config: &mut TrainConfig) -> Result<()> {
        match self.scheduler.as_deref() {
            Some("plateau") => {
                let mut options = PlateauOptions::default();
                set(self.factor, &mut options.factor);
                set(self.patience, &mut options.patience);
                config.schedule = Schedule::plateau(ReduceLrOnPlateau::new(options).map_err(as_option)?);
                return Ok(());
            }
            Some(_) => config.schedule = Schedule::constant(),
            None => {}
        }
        reject("--factor", self.factor.is_some(), "--scheduler plateau", "another scheduler")?;
        let only_with = "--scheduler plateau (early stopping has --early-stopping-patience)";
        reject("--patience", self.patience.is_some(), only_with, "another scheduler")
    }
}

impl DeviceOption {
    pub fn apply(&self, config: &mut TrainConfig) {
        set_device(self.device.clone(), config);
    }
}

/// An environment variable that is set to nothing asks for nothing.
fn set_device(device: Option<String>, config: &mut TrainConfig) {
    set(device.filter(|device| !device.is_empty()), &mut config.device);
}

fn set<T>(given: Option<T>, place: &mut T) {
    if let Some(value) = given {
        *place = value;
    }
}

/// An option that has no effect is a mistake of whoever gave it.
fn reject(option: &str, given: bool, only_with: &str, got: &str) -> Result<()> {
    if !given {
        return Ok(());
    }
    let (option, expected) = (option.to_owned(), format!("to be used only with {only_with}"));
    Err(Error::Config { option, expected, got: got.to_owned() })
}

/// Calls an argument by the name of the option that sets it.
fn as_option(error: Error) -> Error {
    match error {
        Error::Config { option, expected, got } => {
            let option = match option.as_str() {
                "factor" => "--factor".to_owned(),
                "min_delta" => "--early-stopping-min-delta".to_owned(),
                _ => option,
            };
            Error::Config { option, expected, got }
        }
        other => other,
    }
}

/// A run's settings must mean the same from whichever folder they are read.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Io { action: "find", path: path.to_owned(), source })
}

/// A parser for names, which `--help` and error messages list.
pub fn parser<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// Reads a number of things.
pub fn at_least_1(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}
