//! `lenet train`: trains, shows how it goes and leaves a run folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use wgrad::data::Dataset;
use wgrad::nn::weights::{Metadata, in_file};
use wgrad::report::tensorboard::EventWriter;
use wgrad::report::{ReportOptions, write_report};
use wgrad::run::RunConfig;
use wgrad::run::config::RunData;
use wgrad::run::folder::{CHECKPOINT, RunFolder};
use wgrad::schedule::Schedule;
use wgrad::train::{
    CheckpointOptions, EpochReport, Event, FitOptions, HealthKind, HealthReport, Observer, Outcome, Session, fit,
    fit_from,
};
use wgrad::{Device, Error, Result, StateDict};

use crate::console::{self, Console, Detail, count, percent};
use crate::options::{OutputOptions, Resume, TrainOptions, TrainRequest, as_option};
use crate::schedule;
use crate::signals::Signals;
use crate::words;

pub fn run(options: TrainOptions) -> Result<ExitCode> {
    let TrainRequest { config, output, resume } = options.request()?;
    let OutputOptions { out, quiet, json, no_report } = output;
    let detail = match (quiet, json) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Json,
        _ => Detail::Full,
    };
    let console = Console::new(detail, config.epochs);
    let (device, reason) = Device::select(&config.device)?;
    console.info(format!("device    {device}: {reason}"))?;
    let data = config.load_data()?;
    introduce_data(&console, &config, &data)?;
    let mut session = config.session(&device, &data)?;
    // What was left open stays open in the file, so that a longer run has a longer schedule.
    let steps_per_epoch = session.steps_per_epoch() as u64;
    let schedule = config.schedule.for_run(config.epochs, steps_per_epoch).map_err(as_option)?;
    introduce_training(&console, &config, &schedule, &session)?;
    let folder = match &resume {
        Some(Resume { folder, checkpoint }) => RunFolder::open(folder, checkpoint.state.epochs)?,
        None => RunFolder::create(&out, &format!("{}-{}", config.network.name(), config.dataset))?,
    };
    folder.write_config(&config)?;
    if let Some(resume) = &resume
        && let Some(change) = config.schedule.change_of_end(resume.config()?.epochs, config.epochs, steps_per_epoch)
    {
        console.info(format!("          {change}"))?;
    }
    let onward = resume.as_ref().map_or_else(String::new, onward);
    console.info(format!("run       {}{onward}\n", folder.path().display()))?;

    let events = if no_report { None } else { Some(event_writer(&folder, resume.as_ref())?) };
    let epochs = resume.as_ref().map_or(0, |resume| resume.checkpoint.state.epochs);
    let mut recorder = Recorder { console, folder, events, signals: Signals::listen()?, epochs, dead: BTreeSet::new() };
    let metadata = config.metadata(&data.train)?;
    let outcome = match train(&mut session, &config, &mut recorder, resume.as_ref()) {
        Err(error) => return cut_short(error, &metadata, &mut session, &mut recorder),
        Ok(outcome) => outcome,
    };
    recorder.console.finish();
    let kept = keep(&mut recorder, &config, &device, &data.test, &session.model()?, &outcome)?;
    show(detail, outcome, &kept, recorder.folder.path(), data.test.len())?;
    Ok(ExitCode::SUCCESS)
}

fn introduce_data(console: &Console, config: &RunConfig, data: &RunData) -> Result<()> {
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
    Ok(())
}

fn introduce_training(console: &Console, config: &RunConfig, schedule: &Schedule, session: &Session) -> Result<()> {
    console.info(format!("network   {}", words::network(config, session.num_parameters())))?;
    console.info(format!("training  {}", words::training(config)))?;
    if !config.schedule.is_constant() {
        console.info(format!("schedule  {}", schedule::in_words(schedule, config.learning_rate())))?;
    }
    let transforms = config.transforms.to_string();
    if !transforms.is_empty() {
        console.info(format!("images    {transforms}, anew in every epoch"))?;
    }
    Ok(())
}

/// What a run that came to its end leaves in its folder.
struct Kept {
    model: PathBuf,
    report: Option<PathBuf>,
}

/// Writes down how a run ended. The weights first: they are what cannot be had again.
fn keep(
    recorder: &mut Recorder,
    config: &RunConfig,
    device: &Device,
    test: &Dataset,
    weights: &StateDict,
    outcome: &Outcome,
) -> Result<Kept> {
    let metadata = config.metadata(test)?.entry("best_epoch", outcome.best_epoch);
    let metadata = metadata.entry("test_accuracy", outcome.test_accuracy);
    let model = recorder.folder.write_model(weights, &metadata)?;
    recorder.folder.add_metrics(outcome)?;
    let mut kept = Kept { model, report: None };
    if recorder.events.is_some() {
        let (model, normalize) = (config.model()?, config.normalize.stats(test)?);
        let options = ReportOptions { device, model: &model, weights, test, normalize: &normalize };
        match write_report(recorder.folder.path(), &options, recorder.events.as_mut()) {
            Ok(written) => kept.report = written.into_iter().next(),
            // The run itself is written by now, and is worth more than its pictures.
            Err(error) => console::complain("warning", &format!("the run is saved, but its report is not: {error}")),
        }
    }
    Ok(kept)
}

fn show(detail: Detail, outcome: Outcome, kept: &Kept, run: &Path, num_test_images: usize) -> Result<()> {
    if detail == Detail::Json {
        return console::json(&FinalLine { outcome, run: run.to_owned() });
    }
    let Outcome { test_loss, test_accuracy, best_epoch, epochs, stopped } = outcome;
    if detail == Detail::Full {
        console::line(format!("\nstopped   {stopped}"))?;
    }
    console::line(format!("best      epoch {best_epoch} of {epochs}"))?;
    let (accuracy, images) = (percent(test_accuracy), count(num_test_images));
    console::line(format!("test      loss {test_loss:.4}, accuracy {accuracy} on {images} images"))?;
    console::line(format!("run       {}", run.display()))?;
    if let (Some(page), Detail::Full) = (&kept.report, detail) {
        console::line(format!("report    {}", page.display()))?;
    }
    console::line(format!("evaluate  lenet eval --model {}", kept.model.display()))
}

/// Trains from the start, or from where a run stopped.
fn train(
    session: &mut Session,
    config: &RunConfig,
    recorder: &mut Recorder,
    resume: Option<&Resume>,
) -> Result<Outcome> {
    let checkpoint =
        CheckpointOptions { settings: config.to_toml()?, ..CheckpointOptions::new(recorder.folder.checkpoint()) };
    let options = FitOptions { checkpoint: Some(checkpoint), ..config.fit_options() };
    match resume {
        None => fit(session, &options, recorder),
        Some(Resume { folder, checkpoint }) => {
            fit_from(session, &options, checkpoint, recorder).map_err(in_file(&folder.join(CHECKPOINT)))
        }
    }
}

/// Says how to go on with a run that did not come to its end, and keeps its best weights so far where there are any.
fn cut_short(error: Error, metadata: &Metadata, session: &mut Session, recorder: &mut Recorder) -> Result<ExitCode> {
    recorder.console.finish();
    let run = recorder.folder.path().to_owned();
    let go_on = format!("go on with: lenet train --resume {}", run.display());
    if matches!(error, Error::NonFinite { .. }) && recorder.epochs > 0 {
        let model = recorder.folder.write_model(&session.model()?, metadata)?;
        recorder.console.info(format!("\nbest so far  {}", model.display()))?;
    }
    let Error::Interrupted { epochs, batches, .. } = &error else {
        if recorder.folder.checkpoint().exists() {
            console::complain("note", &format!("the run is saved as it was after its last whole epoch; {go_on}"));
        }
        return Err(error);
    };
    if *epochs > 0 {
        let model = recorder.folder.write_model(&session.model()?, &metadata.clone().entry("epochs", epochs))?;
        recorder.console.info(format!("\nbest so far  {}", model.display()))?;
    }
    if recorder.console.detail() == Detail::Json {
        console::json(&Interrupted { interrupted: true, epochs: *epochs, batches: *batches, run })?;
    }
    console::complain("note", &format!("{error}; {go_on}"));
    Ok(recorder.signals.exit_code())
}

fn event_writer(folder: &RunFolder, resume: Option<&Resume>) -> Result<EventWriter> {
    let events = folder.path().join("tensorboard");
    match resume {
        None => EventWriter::create(&events),
        Some(resume) => EventWriter::resume(&events, resume.checkpoint.state.epochs + 1),
    }
}

fn onward(resume: &Resume) -> String {
    format!(", going on after {}", resume.checkpoint.state.so_far())
}

/// The last line of `--json` of a run that was interrupted.
#[derive(Serialize)]
struct Interrupted {
    interrupted: bool,
    epochs: u64,
    batches: usize,
    /// The run folder.
    run: PathBuf,
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
struct Recorder {
    console: Console,
    folder: RunFolder,
    /// For TensorBoard, where there is to be a report.
    events: Option<EventWriter>,
    signals: Signals,
    /// Epochs that are done.
    epochs: u64,
    /// Layers that were found dead.
    dead: BTreeSet<String>,
}

impl Observer for Recorder {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        self.console.progress(epoch, images_done, images);
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.folder.add_metrics(report)?;
        self.epochs = report.epoch;
        if let Some(events) = &mut self.events {
            events.epoch(report)?;
        }
        self.console.epoch(report)
    }

    fn health(&mut self, epoch: u64, report: &HealthReport) -> Result<()> {
        self.folder.add_health(epoch, report)?;
        for row in report.of_kind(HealthKind::Unit).filter(|row| row.summary.zeros == 1.0) {
            if self.dead.insert(row.name.clone()) {
                self.console.warn(&format!(
                    "after epoch {epoch} every unit of {} is dead: whatever the image, it gives 0, and what lies before it \
                     learns nothing any more; a lower learning rate may keep it alive",
                    row.name
                ));
            }
        }
        match &mut self.events {
            Some(events) => events.health(epoch, report),
            None => Ok(()),
        }
    }

    fn event(&mut self, event: &Event) {
        self.console.event(event);
    }

    fn should_stop(&mut self) -> bool {
        self.signals.any()
    }

    fn warn(&mut self, message: &str) {
        self.console.warn(message);
    }
}
