//! `lenet eval`: evaluates a model on the test images.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use wgrad::report::classify::ClassScores;
use wgrad::report::{Confusion, grids};
use wgrad::run::RunData;
use wgrad::{Device, Result};

use crate::console::{self, percent, printable};
use crate::model::open;
use crate::options::{Given, Tested};
use crate::picture::{self, png_file};
use crate::words::counted;

#[derive(Args)]
#[command(override_usage = "lenet eval [OPTIONS] <RUN>\n       lenet eval [OPTIONS] --weights <FILE>")]
pub struct EvalOptions {
    /// The folder of a run, whose best weights are evaluated
    #[arg(value_name = "RUN", required_unless_present = "weights", conflicts_with = "weights")]
    run: Option<PathBuf>,
    /// The weights: a safetensors file with PyTorch's names, instead of a run. If neither its metadata nor a config.toml
    /// beside it names the network and the data set, give --network and --dataset
    #[arg(long, value_name = "FILE", alias = "model")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    given: Given<Tested>,
    /// Draw the confusion matrix to this file
    #[arg(long, value_name = "FILE.png", value_parser = png_file(), help_heading = "Output")]
    picture: Option<PathBuf>,
    /// Print only one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub fn run(options: EvalOptions) -> Result<ExitCode> {
    let path = options.run.clone().or_else(|| options.weights.clone()).unwrap_or_default();
    let model = open(path, options.given.settings())?;
    let config = &model.config;
    picture::keep("--picture", options.picture.as_deref(), std::slice::from_ref(&model.file))?;
    picture::keep_images(options.picture.as_deref(), config)?;
    let (device, reason) = Device::select_with_reason(&config.device)?;
    let RunData { test: data, source, .. } = RunData::load(config)?;
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
    console::line(format!(
        "test      loss {loss:.4}, accuracy {accuracy} on {}\n",
        counted(data.len() as u64, "image")
    ))?;
    let class_names: Vec<String> = data.class_names().iter().map(printable).collect();
    let class_names: Vec<&str> = class_names.iter().map(String::as_str).collect();
    console::line(confusion.table(&class_names))?;
    console::line(confusion.matrix(&class_names).trim_end())?;
    if let Some(path) = options.picture {
        console::line(format!("\npicture   {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
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
