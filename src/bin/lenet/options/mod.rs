//! The command line: subcommands and the options that several of them share. Flags that set something about a run are
//! made from the library's settings ([`settings`]); what is not given keeps its default or what `--config` says.

mod settings;
pub mod tips;

use std::num::IntErrorKind;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use wgrad::run::{RunConfig, Saved};
use wgrad::schedule::Interval;
use wgrad::{Error, Result};

use crate::data::DataCommand;
use crate::eval::EvalOptions;
use crate::export::ExportOptions;
use crate::lr_find::RangeTestOptions;
use crate::networks::NetworksOptions;
use crate::picture::png_file;
use crate::predict::PredictOptions;
use crate::schedule::ScheduleOptions;
use crate::summary::SummaryOptions;
use crate::sweep::SweepOptions;

use settings::{All, Step};
pub use settings::{Dataset, Given, Model, Rates, Shape, Tested, as_flag};

/// Trains convolutional networks on images, on a GPU or on the CPU.
///
/// Without a subcommand it trains LeNet-5. No files are needed for a first run: a subset of FashionMNIST
/// is bundled.
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
    /// Train a network and write a run folder with its settings, metrics and weights (the default)
    Train(Box<TrainOptions>),
    /// Evaluate a model on the test images: loss, accuracy, precision and recall per class, confusion matrix
    Eval(Box<EvalOptions>),
    /// Classify PNG and JPEG images
    Predict(Box<PredictOptions>),
    /// Write a trained network as an ONNX file
    Export(Box<ExportOptions>),
    /// List, fetch and show data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Show the learning rate of every step under a schedule, as a table, a picture or JSON
    Schedule(Box<ScheduleOptions>),
    /// Find a learning rate: try rising rates for a few steps and suggest one (Smith's range test)
    LrFind(Box<RangeTestOptions>),
    /// Compare runs: the settings that differ, their metrics, and a picture of their curves
    Compare(CompareOptions),
    /// Search for good settings: many runs over a space of them, ranked
    Sweep(Box<SweepOptions>),
    /// List the devices, and which of them `--device auto` takes
    Devices,
    /// List the networks, with parameters and FLOPs for a data set
    Networks(Box<NetworksOptions>),
    /// Print the layers of a network, with shapes, parameters, FLOPs and memory
    Summary(Box<SummaryOptions>),
    /// Print the ops of a training step and of an evaluation step
    Plan(Box<PlanOptions>),
    /// Time every op of a training step
    Profile(Box<ProfileOptions>),
    /// Check a whole training step on a device against the f64 reference, op by op
    Verify(Box<StepOptions>),
}

#[derive(Args)]
pub struct TrainOptions {
    #[command(flatten)]
    settings: Given<All>,
    #[command(flatten)]
    pub output: OutputOptions,
    /// Settings to start from: the config.toml of a run, or part of one; options given here override it
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// Resume the interrupted run in this folder. Only --epochs, early stopping's patience and min-delta, --name, --data
    /// and --device can be changed, here or in its config.toml; a run begun with --no-report stays without one
    #[arg(long, value_name = "RUN", help_heading = "Run", conflicts_with_all = ["config", "out"])]
    pub resume: Option<PathBuf>,
}

/// What `lenet train` does.
pub struct TrainRequest {
    pub config: RunConfig,
    pub output: OutputOptions,
    /// The run to resume.
    pub resume: Option<Saved>,
}

/// What is planned, and where its kernels go.
#[derive(Args)]
pub struct PlanOptions {
    /// Also write the WGSL of each kernel to this folder, as a GPU compiles it
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub wgsl: Option<PathBuf>,
    /// Plan for a software adapter, and write the kernels that it gets
    #[arg(long, help_heading = "Output")]
    pub software: bool,
    /// Predict the speed of training by up to this many ranks, from a step measured here and the network's latency
    /// and bandwidth, instead of printing plans
    #[arg(long, value_name = "N", value_parser = at_least_1, conflicts_with = "wgsl", help_heading = "Ranks")]
    pub ranks: Option<usize>,
    /// Microseconds until an empty message arrives
    #[arg(long, value_name = "X", default_value_t = 2.0, requires = "ranks", help_heading = "Ranks")]
    pub network_latency: f64,
    /// Microseconds for which a message keeps the CPU busy that sends or receives it, the overhead o of the model LogGP. Open
    /// MPI takes 0.2 in shared memory, and one to three over TCP; `benches/mpi/run` measures it
    #[arg(long, value_name = "X", default_value_t = 0.2, requires = "ranks", help_heading = "Ranks")]
    pub message_overhead: f64,
    /// Gigabytes a second over the link of each rank
    #[arg(long, value_name = "X", default_value_t = 12.5, requires = "ranks", help_heading = "Ranks")]
    pub bandwidth: f64,
    /// Draw the scaling to this file
    #[arg(long, value_name = "FILE.png", value_parser = png_file(), requires = "ranks", help_heading = "Ranks")]
    pub picture: Option<PathBuf>,
    #[command(flatten)]
    pub step: StepOptions,
}

/// A training step, for subcommands that do not train.
#[derive(Args)]
pub struct StepOptions {
    #[command(flatten)]
    settings: Given<Step>,
}

/// What is timed.
#[derive(Args)]
pub struct ProfileOptions {
    #[command(flatten)]
    pub step: StepOptions,
    /// Time compiling each kernel of the step instead of running it. Drivers keep what they compiled: set
    /// MESA_SHADER_CACHE_DIR to an empty folder to time a first run with Mesa
    #[arg(long, help_heading = "Run")]
    pub compiling: bool,
    /// Estimate the times on another GPU instead of measuring them: `h100`, `4090` or `m2`
    #[cfg(feature = "sanitize")]
    #[arg(long, value_name = "GPU", help_heading = "Run")]
    pub estimate: Option<String>,
}

/// Runs to compare.
#[derive(Args)]
pub struct CompareOptions {
    /// Folders of runs; a folder of runs, such as a sweep's, stands for all of them
    #[arg(value_name = "RUN", required = true, num_args = 1..)]
    pub runs: Vec<PathBuf>,
    /// Write the curves of all runs to this picture
    #[arg(long, value_name = "FILE.png", value_parser = png_file())]
    pub picture: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// The parent folder of the run's folder
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Print only the result
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print only JSON: one object per line for each epoch, and one for the result
    #[arg(long)]
    pub json: bool,
    /// Leave out report.html, the pictures, metrics.csv and TensorBoard's event files
    #[arg(long)]
    pub no_report: bool,
}

impl TrainOptions {
    /// The run that the options describe, checked as far as it can be without data and device.
    /// `resume` is what the run is resumed from, and with which settings where no others are given.
    pub fn request(self, resume: Option<(Saved, RunConfig)>) -> Result<TrainRequest> {
        let (resume, started_as) = match (resume, &self.config) {
            (Some((saved, config)), _) => (Some(saved), config),
            (None, Some(file)) => (None, RunConfig::load(file)?),
            (None, None) => (None, RunConfig::default()),
        };
        let config = self.settings.apply(&started_as)?.named();
        if let Some(saved) = &resume {
            saved.check(&config).map_err(changed_on_resume)?;
        }
        // A schedule that steps per batch is checked when the number of batches is known.
        if config.schedule.interval() == Interval::Epoch {
            config.schedule.for_run(config.epochs, 1)?;
        }
        Ok(TrainRequest { config, output: self.output, resume })
    }
}

impl StepOptions {
    /// A run with these options, for a step of it on `device` unless they name another.
    pub fn config(&self, device: &str) -> Result<RunConfig> {
        self.settings.apply(&RunConfig { device: device.to_owned(), diagnostics: None, ..RunConfig::default() })
    }

    /// Whether a setting was given.
    pub fn has(&self, setting: &str) -> bool {
        self.settings.settings().iter().any(|(name, _)| name == setting)
    }
}

/// An option without effect is a usage error.
pub fn reject(option: &str, given: bool, only_with: &str, got: &str) -> Result<()> {
    if given { Err(usage(option, &format!("to be used only with {only_with}"), got)) } else { Ok(()) }
}

/// How the command was called is wrong.
pub fn usage(option: &str, expected: &str, got: &str) -> Error {
    Error::Setting { setting: option.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

/// Says that it is about resuming, where a setting is wrong only because it changed. Epochs may change, if not to any
/// number.
fn changed_on_resume(error: Error) -> Error {
    match error {
        Error::Setting { setting, expected, got } if setting == "epochs" => usage("--epochs", &expected, &got),
        Error::Setting { setting, expected, got } => {
            usage(&format!("--resume with another {setting}"), &expected, &got)
        }
        other => other,
    }
}

/// Parses a count.
pub fn at_least_1(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err("expected a smaller number".to_owned()),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}
