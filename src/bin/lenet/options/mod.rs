//! The command line. Options stand in groups that subcommands share; each group knows how to change a [`RunConfig`],
//! so that what is not given keeps the default or what `--config` says.

mod data;
mod network;
mod optimizer;
mod regularization;
mod run;
pub mod schedule;
mod stopping;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use wgrad::run::{RunConfig, Saved};
use wgrad::{Error, Result};

use crate::data::DataCommand;
use crate::eval::EvalOptions;
use crate::export::ExportOptions;
use crate::lr_find::RangeTestOptions;
use crate::predict::PredictOptions;
use crate::schedule::ScheduleOptions;
use crate::summary::SummaryOptions;
use crate::sweep::SweepOptions;

use data::TransformOptions;
pub use data::{DatasetOption, SelectionOptions, SourceOptions, dataset_name};
use network::InitOption;
pub use network::NetworkOptions;
pub use optimizer::BatchOptions;
use optimizer::OptimizerOptions;
use regularization::RegularizationOptions;
pub use run::{DeviceOption, OutputOptions};
use schedule::SchedulerOptions;
use stopping::StoppingOptions;

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
    /// Show the learning rate of every step under a schedule, as a table, a picture or JSON
    Schedule(Box<ScheduleOptions>),
    /// Try growing learning rates for a few steps each and suggest one (Smith's range test)
    LrFind(Box<RangeTestOptions>),
    /// Set runs side by side: the settings that differ, scores, and a picture of their curves
    Compare(CompareOptions),
    /// Search for good settings: many runs over a space of them, ranked
    Sweep(Box<SweepOptions>),
    /// List what can be computed on, and which of it `--device auto` takes
    Devices,
    /// Print the layers of the network, with shapes, parameters, operations and memory
    Summary(SummaryOptions),
    /// Print what a step of training and of evaluation consists of, op by op
    Plan(PlanOptions),
    /// Time every op of a training step
    Profile(ProfileOptions),
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
    scheduler: SchedulerOptions,
    #[command(flatten)]
    regularization: RegularizationOptions,
    #[command(flatten)]
    transforms: TransformOptions,
    #[command(flatten)]
    stopping: StoppingOptions,
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
    pub config: RunConfig,
    pub output: OutputOptions,
    /// The run to go on with.
    pub resume: Option<Saved>,
}

#[derive(Args)]
pub struct PlanOptions {
    /// Also write the WGSL of each kernel to this folder, as a GPU compiles it
    #[arg(long, value_name = "DIR")]
    pub wgsl: Option<PathBuf>,
    /// Write the kernels that a software adapter gets
    #[arg(long, requires = "wgsl")]
    pub software: bool,
    #[command(flatten)]
    dataset: DatasetOption,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    batch: BatchOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    regularization: RegularizationOptions,
    #[command(flatten)]
    transforms: TransformOptions,
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
    #[command(flatten)]
    regularization: RegularizationOptions,
    #[command(flatten)]
    transforms: TransformOptions,
    /// What to run on: `auto`, `gpu` (the best adapter), `cpu` or a part of an adapter's name [default: gpu; lr-find: auto]
    #[arg(long, value_name = "DEVICE", env = "WGRAD_DEVICE", help_heading = "Run")]
    device: Option<String>,
}

#[derive(Args)]
pub struct ProfileOptions {
    #[command(flatten)]
    pub step: StepOptions,
    /// Estimate the times on a GPU that need not be here instead of measuring them: `h100`, `4090` or `m2`
    #[cfg(feature = "sanitize")]
    #[arg(long, value_name = "GPU", help_heading = "Run")]
    pub estimate: Option<String>,
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
        let resume = self.resume.as_deref().map(Saved::read).transpose().map_err(as_option)?;
        let started_as: RunConfig = match (&resume, &self.config) {
            (Some(resume), _) => resume.config()?,
            (None, Some(file)) => RunConfig::load(file)?,
            (None, None) => RunConfig::default(),
        };
        let mut config = started_as;
        self.dataset.apply(&mut config);
        self.source.apply(&mut config)?;
        self.selection.apply(&mut config);
        self.network.apply(&mut config)?;
        self.init.apply(&mut config)?;
        self.batch.apply(&mut config);
        self.optimizer.apply(&mut config)?;
        self.scheduler.apply(&mut config)?;
        self.regularization.apply(&mut config)?;
        self.transforms.apply(&mut config)?;
        self.stopping.apply(&mut config);
        self.device.apply(&mut config);
        // Named, so that the file a run leaves says it.
        config.lr = Some(config.learning_rate());
        config.validate().map_err(as_option)?;
        if let Some(saved) = &resume {
            saved.check(&config).map_err(changed_on_resume)?;
        }
        SchedulerOptions::check(&config)?;
        Ok(TrainRequest { config, output: self.output, resume })
    }
}

impl PlanOptions {
    /// A run with these options.
    pub fn config(self) -> Result<RunConfig> {
        let mut config = RunConfig { health: None, ..RunConfig::default() };
        self.dataset.apply(&mut config);
        self.network.apply(&mut config)?;
        self.batch.apply(&mut config);
        self.optimizer.apply(&mut config)?;
        self.regularization.apply(&mut config)?;
        self.transforms.apply(&mut config)?;
        config.validate().map_err(as_option)?;
        Ok(config)
    }
}

impl StepOptions {
    /// A run with these options, for a step of it on a GPU.
    pub fn config(self) -> Result<RunConfig> {
        self.over(RunConfig { device: "gpu".to_owned(), health: None, ..RunConfig::default() })
    }

    /// A run with these options, for a range test: on the device that training would take, with rates of its own.
    pub fn config_of_range_test(self) -> Result<RunConfig> {
        reject("--lr", self.optimizer.lr.is_some(), "a run that trains", "lr-find, which has --start-lr and --end-lr")?;
        self.over(RunConfig { health: None, ..RunConfig::default() })
    }

    fn over(self, mut config: RunConfig) -> Result<RunConfig> {
        self.dataset.apply(&mut config);
        self.source.apply(&mut config)?;
        self.network.apply(&mut config)?;
        self.init.apply(&mut config)?;
        self.batch.apply(&mut config);
        self.optimizer.apply(&mut config)?;
        self.regularization.apply(&mut config)?;
        self.transforms.apply(&mut config)?;
        set_device(self.device, &mut config);
        config.validate().map_err(as_option)?;
        Ok(config)
    }
}

/// An environment variable that is set to nothing asks for nothing.
pub fn set_device(device: Option<String>, config: &mut RunConfig) {
    set(device.filter(|device| !device.is_empty()), &mut config.device);
}

pub fn set<T>(given: Option<T>, place: &mut T) {
    if let Some(value) = given {
        *place = value;
    }
}

/// An option that has no effect is a mistake of whoever gave it.
pub fn reject(option: &str, given: bool, only_with: &str, got: &str) -> Result<()> {
    if given { Err(usage(option, &format!("to be used only with {only_with}"), got)) } else { Ok(()) }
}

/// How the command was called is wrong.
pub fn usage(option: &str, expected: &str, got: &str) -> Error {
    Error::Setting { setting: option.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

/// Calls a setting by the option that sets it.
pub fn as_option(error: Error) -> Error {
    match error {
        Error::Setting { setting, expected, got } if !setting.starts_with("--") => {
            let option = match setting.as_str() {
                "min_delta" => "early-stopping-min-delta",
                "start_epoch" => "early-stopping-start-epoch",
                "beta1" | "beta2" => "betas",
                "schedule" => "scheduler",
                "cycle_momentum" => "no-cycle-momentum",
                "flip_probability" => "flip",
                "max_rotation_degrees" => "rotate",
                "max_shift" => "shift",
                as_it_is => as_it_is.strip_prefix("network.").unwrap_or(as_it_is),
            };
            usage(&format!("--{}", option.to_lowercase().replace('_', "-")), &expected, &got)
        }
        other => other,
    }
}

/// Says that it is about resuming, where a setting is wrong only because it changed.
fn changed_on_resume(error: Error) -> Error {
    match error {
        Error::Setting { setting, expected, got } => {
            usage(&format!("--resume with another {setting}"), &expected, &got)
        }
        other => other,
    }
}

/// "adam, adamw or lion".
pub fn alternatives(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// A run's settings must mean the same from whichever folder they are read.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Io { action: "find", path: path.to_owned(), source })
}

/// A parser for names, which `--help` and error messages list.
pub fn parser<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// A parser for names that each stand for a value.
pub fn choice<T: Clone + Send + Sync>(choices: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(choices.iter().map(|(name, _)| *name)).map(|name| {
        let (_, value) = choices.iter().find(|(other, _)| *other == name).expect("clap lets no other name through");
        value.clone()
    })
}

/// Reads a number of things.
pub fn at_least_1(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}
