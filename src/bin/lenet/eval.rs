//! `lenet eval`: judges a model file by the test images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use wgrad::report::classify::ClassScores;
use wgrad::report::{Confusion, grids};
use wgrad::run::{RunConfig, RunData, SavedModel};
use wgrad::{Device, Result};

use crate::console::{self, count, percent};
use crate::options::{DatasetOption, DeviceOption, NetworkOptions, SourceOptions};

#[derive(Args)]
#[command(override_usage = "lenet eval [OPTIONS] <RUN>\n       lenet eval [OPTIONS] --model <FILE>")]
pub struct EvalOptions {
    /// A run's folder: its model.safetensors is judged, with the settings of its config.toml as the defaults of the
    /// other options
    #[arg(value_name = "RUN", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// The weights: a safetensors file with PyTorch's names, instead of a run. A config.toml beside it is read in the
    /// same way
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    dataset: DatasetOption,
    #[command(flatten)]
    source: SourceOptions,
    /// Judge by the first N test images only [default: all]
    #[arg(long, value_name = "N", help_heading = "Data")]
    val_limit: Option<usize>,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    device: DeviceOption,
    /// Draw the confusion matrix to this picture
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    picture: Option<PathBuf>,
    /// Print one JSON object and nothing else
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub fn run(options: EvalOptions) -> Result<ExitCode> {
    let model = options.model()?;
    let config = &model.config;
    let (device, reason) = Device::select(&config.device)?;
    let RunData { validation, test, source, .. } = RunData::load(config)?;
    // With nothing held out, the validation images are those test images that the limit leaves.
    let data = validation.unwrap_or(test);
    let evaluation = model.evaluate(&device, &data)?;
    let metrics = &evaluation.metrics;
    let predictions = evaluation.predictions(data.labels());
    let pairs = predictions.iter().map(|prediction| (prediction.label, prediction.predicted));
    let confusion = Confusion::of(data.num_classes(), pairs)?;
    if let Some(path) = &options.picture {
        grids::confusion_matrix(&confusion, &data.class_names()).save(path)?;
    }
    if options.json {
        console::json(&Score {
            test_loss: metrics.loss,
            test_accuracy: metrics.accuracy,
            images: metrics.num_images,
            classes: data.class_names().iter().zip(confusion.scores()).map(class_score).collect(),
            macro_average: confusion.macro_average(),
            confusion_matrix: confusion.rows().collect(),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    console::line(format!("device    {device}: {reason}"))?;
    console::line(format!("data      {} from {source}", config.dataset))?;
    let (loss, accuracy) = (metrics.loss, percent(metrics.accuracy));
    console::line(format!("test      loss {loss:.4}, accuracy {accuracy} on {} images\n", count(data.len())))?;
    console::line(confusion.table(&data.class_names()))?;
    console::line(confusion.matrix(&data.class_names()).trim_end())?;
    if let Some(path) = options.picture {
        console::line(format!("\npicture   {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl EvalOptions {
    /// The model with the settings it is evaluated under: those beside it, and what the options say instead.
    fn model(&self) -> Result<SavedModel> {
        let path = self.run.as_deref().or(self.model.as_deref()).unwrap_or(Path::new("."));
        let SavedModel { file, config: run } = SavedModel::open(path)?;
        let mut config = RunConfig { val_limit: self.val_limit, ..run };
        self.network.clone().apply(&mut config)?;
        self.dataset.apply_to_model(&mut config);
        self.source.apply(&mut config)?;
        self.device.apply(&mut config);
        config.validate()?;
        Ok(SavedModel { file, config })
    }
}

#[derive(Serialize)]
struct Score<'a> {
    test_loss: f64,
    test_accuracy: f64,
    images: u64,
    classes: Vec<ClassScore>,
    macro_average: ClassScores,
    /// A row for each true class.
    confusion_matrix: Vec<&'a [u64]>,
}

#[derive(Serialize)]
struct ClassScore {
    name: String,
    #[serde(flatten)]
    scores: ClassScores,
}

fn class_score((name, scores): (&&str, ClassScores)) -> ClassScore {
    ClassScore { name: (*name).to_owned(), scores }
}
