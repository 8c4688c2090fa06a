//! `lenet train`: trains, shows how it goes and leaves a run folder.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use wgrad::optim::Optimizer;
use wgrad::train::report::{ReportOptions, write_report};
use wgrad::train::run_folder::RunFolder;
use wgrad::train::{EpochReport, Observer, Outcome, TrainConfig, fit};
use wgrad::{Device, Result};

use crate::console::{self, Console, Detail, count, percent, short};
use crate::options::{OutputOptions, TrainOptions};

pub fn run(options: TrainOptions) -> Result<ExitCode> {
    let (config, OutputOptions { out, quiet, json, no_report }) = options.config()?;
    let detail = match (quiet, json) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Json,
        _ => Detail::Full,
    };
    let console = Console::new(detail, config.epochs);
    let (device, reason) = Device::select(&config.device)?;
    console.info(format!("device    {device}: {reason}"))?;
    let data = config.load_data()?;
    let (training, test) = (count(data.train.len()), count(data.test.len()));
    let validation = match &data.validation {
        Some(data) => format!("{} validation", count(data.len())),
        None => "no validation".to_owned(),
    };
    let images = format!("{training} training, {validation} and {test} test images");
    console.info(format!("data      {} from {}: {images}", config.dataset, data.source))?;
    if data.validation.is_none() {
        console.info("          validation is on the test images, so the result is not an independent judgement")?;
    }
    let mut session = config.session(&device, &data)?;
    console.info(format!("model     LeNet-5, {} parameters{}", count(session.num_parameters()), extras(&config)))?;
    console.info(format!("training  {}", training_in_words(&config)))?;
    let mut folder = RunFolder::create(&out, &format!("lenet5-{}", config.dataset))?;
    folder.write_config(&config)?;
    console.info(format!("run       {}\n", folder.path().display()))?;

    let mut observer = Recorder { console, folder: &mut folder };
    let outcome = fit(&mut session, &config.fit_options(), &mut observer)?;
    observer.console.finish();
    // The weights first: they are what cannot be had again.
    let about = [
        ("dataset", config.dataset.to_string()),
        ("best_epoch", outcome.best_epoch.to_string()),
        ("test_accuracy", outcome.test_accuracy.to_string()),
    ];
    let weights = session.model()?;
    let model = folder.write_model(&weights, &about)?;
    folder.add_metrics(&outcome)?;
    let mut report = None;
    if !no_report {
        let (model, normalize) = (config.model(), config.normalize.stats(config.dataset));
        let options = ReportOptions {
            device: &device,
            model: &model,
            weights: &weights,
            test: &data.test,
            normalize: &normalize,
        };
        match write_report(folder.path(), &options, None) {
            Ok(written) => report = written.into_iter().next(),
            // The run itself is written by now, and is worth more than its pictures.
            Err(error) => console::complain("warning", &format!("the run is saved, but its report is not: {error}")),
        }
    }
    if detail == Detail::Json {
        console::json(&FinalLine { outcome, run: folder.path().to_owned() })?;
        return Ok(ExitCode::SUCCESS);
    }
    let Outcome { test_loss, test_accuracy, best_epoch, epochs, stopped } = outcome;
    if detail == Detail::Full {
        console::line(format!("\nstopped   {stopped}"))?;
    }
    console::line(format!("best      epoch {best_epoch} of {epochs}"))?;
    console::line(format!("test      loss {test_loss:.4}, accuracy {} on {test} images", percent(test_accuracy)))?;
    console::line(format!("run       {}", folder.path().display()))?;
    if let (Some(page), Detail::Full) = (report, detail) {
        console::line(format!("report    {}", page.display()))?;
    }
    console::line(format!("evaluate  lenet eval --model {}", model.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The last line of `--json`.
#[derive(Serialize)]
struct FinalLine {
    #[serde(flatten)]
    outcome: Outcome,
    /// The run folder.
    run: PathBuf,
}

/// Shows epochs and writes them down.
struct Recorder<'a> {
    console: Console,
    folder: &'a mut RunFolder,
}

impl Observer for Recorder<'_> {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        self.console.progress(epoch, images_done, images);
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.folder.add_metrics(report)?;
        self.console.epoch(report)
    }

    fn warn(&mut self, message: &str) {
        self.console.warn(message);
    }
}

fn extras(config: &TrainConfig) -> String {
    let mut words = String::new();
    if config.batch_norm {
        words += ", batch normalisation";
    }
    if config.dropout > 0.0 {
        words += &format!(", dropout {}", config.dropout);
    }
    if let Some(file) = &config.init {
        words += &format!(", starting from {}", file.display());
    }
    words
}

fn training_in_words(config: &TrainConfig) -> String {
    let optimizer = match config.optimizer {
        Optimizer::Sgd { momentum, nesterov, .. } => {
            format!("SGD, momentum {momentum}{}", if nesterov { " (Nesterov)" } else { "" })
        }
        Optimizer::Adam { .. } => "Adam".to_owned(),
        Optimizer::AdamW { .. } => "AdamW".to_owned(),
        Optimizer::RmsProp { momentum, .. } => format!("RMSprop, momentum {momentum}"),
        Optimizer::Adagrad { .. } => "Adagrad".to_owned(),
        Optimizer::Lion { .. } => "Lion".to_owned(),
    };
    let end = match &config.early_stopping {
        Some(stopping) => format!("; stops after {} epochs without improvement", stopping.patience),
        None => String::new(),
    };
    let (lr, batch_size, epochs) = (short(config.learning_rate()), config.batch_size, config.epochs);
    format!("{optimizer}, learning rate {lr}, batches of {batch_size}, at most {epochs} epochs{end}")
}
