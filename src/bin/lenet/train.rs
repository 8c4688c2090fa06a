//! `lenet train`: trains a network, prints its progress and writes a run folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use wgrad::run::{Finished, Prepared, Run, RunConfig, RunData, Saved, TrainOn, folder};
use wgrad::train::{EpochReport, Event, Observer, Outcome};
use wgrad::{Device, Error, Result};

use crate::console::{self, Console, Detail, count, percent};
use crate::options::{OutputOptions, TrainOptions, TrainRequest};
use crate::ranks::Ranks;
use crate::schedule;
use crate::signals::Signals;
use crate::words;

pub fn run(options: TrainOptions) -> Result<ExitCode> {
    let mut ranks = Ranks::join()?;
    let trained = train(options, &mut ranks);
    ranks.conclude(trained)
}

fn train(options: TrainOptions, ranks: &mut Ranks) -> Result<ExitCode> {
    let kind = if options.resume.is_some() { "a run to resume" } else { "a new run" };
    ranks.agree(&[("start", kind.to_owned())])?;
    let resume = options.resume.as_deref().map(|folder| ranks.saved(folder)).transpose()?;
    let TrainRequest { config, output, resume } = ranks.all_ok(options.request(resume))?;
    let OutputOptions { out, quiet, json, no_report } = output;
    let detail = match (quiet, json) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Json,
        _ => Detail::Full,
    };
    let console = Console::new(if ranks.is_first() { detail } else { Detail::Quiet }, config.epochs);
    let (device, reason) = ranks.all_ok(Device::select_with_reason(&config.device))?;
    console.info(format!("device    {device}: {reason}"))?;
    let data = ranks.all_ok(RunData::load_for(&config, &device))?;
    introduce_ranks(&console, ranks, ranks_facts(&config, &device, &data, resume.as_ref())?)?;
    introduce_data(&console, &config, &data)?;
    let epochs_before = resume.as_ref().map(|saved| saved.config().map(|config| config.epochs)).transpose()?;
    let resumed = resume.as_ref().map(|saved| format!(", resumed after {}", saved.checkpoint.state.so_far()));
    let is_resumed = resume.is_some();
    let on = TrainOn { device: &device, comm: ranks.comm() };
    let prepared = ranks.all_ok(Prepared::new(config, on, &data))?;
    if !ranks.is_first() {
        ranks.all_ok(Ok(()))?;
        // Rank 0 decides what comes of a signal; here it must only not end the process.
        let _signals = Signals::listen()?;
        return prepared.assist(resume).map(|_| ExitCode::SUCCESS);
    }
    let run = ranks.all_ok(match resume {
        Some(saved) => prepared.resume(saved),
        None => prepared.create(&out),
    })?;
    introduce_training(&console, &run, epochs_before)?;
    console.info(format!("run       {}{}\n", run.folder().display(), resumed.unwrap_or_default()))?;

    let folder = run.folder().to_owned();
    // A run keeps what it began with; it has events from its start, or goes without a report.
    let no_report = no_report || (is_resumed && !folder::events_in(&folder).exists());
    let run = if no_report { run.without_report() } else { run };
    let mut watcher = Watcher { console, signals: Signals::listen()? };
    let trained = run.train(&mut watcher);
    watcher.console.finish();
    match trained {
        Ok(finished) => {
            show(detail, finished, &folder, &data)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => cut_short(error, &watcher, &folder),
    }
}

/// What all ranks must have in common, and what they should.
struct Facts {
    shared: Vec<(&'static str, String)>,
    device: String,
    batches: usize,
}

fn ranks_facts(config: &RunConfig, device: &Device, data: &RunData, resume: Option<&Saved>) -> Result<Facts> {
    // Where a rank computes and finds its files is its own.
    let shared = RunConfig { device: "auto".to_owned(), data: None, init: None, ..config.clone() };
    let settings: Vec<String> =
        shared.flat_settings()?.into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    let resumed = resume.map_or("none".to_owned(), |saved| saved.checkpoint.state.so_far());
    let shared = vec![("settings", settings.join(", ")), ("images", data.fingerprint()), ("checkpoint", resumed)];
    Ok(Facts { shared, device: device.to_string(), batches: config.gradients.accumulate })
}

/// Checks that ranks go together, and says how they share the work.
fn introduce_ranks(console: &Console, ranks: &mut Ranks, facts: Facts) -> Result<()> {
    let Facts { shared, device, batches } = facts;
    if ranks.size() == 1 {
        return Ok(());
    }
    ranks.agree(&shared)?;
    console.info(format!("ranks     {}, which share the {batches} batches of each step", ranks.size()))?;
    if ranks.differ("device", device) && ranks.is_first() {
        console.warn("the ranks compute on different devices, so results agree up to rounding only, not bit for bit");
    }
    Ok(())
}

fn introduce_data(console: &Console, config: &RunConfig, data: &RunData) -> Result<()> {
    let (training, test) = (count(data.train.len()), words::counted(data.test.len() as u64, "test image"));
    let validation = match &data.validation {
        Some(data) => format!("{} validation", count(data.len())),
        None => "no validation".to_owned(),
    };
    let images = format!("{training} training, {validation} and {test}");
    console.info(format!("data      {} from {}: {images}", config.dataset, data.source))?;
    if config.val_split == 0.0 {
        console.info("          validation is on test images, so the test result is not independent of training")?;
    }
    Ok(())
}

/// Prints the network and the settings; for a resumed run with another number of epochs, also how its schedule changed.
fn introduce_training(console: &Console, run: &Run<'_>, epochs_before: Option<u64>) -> Result<()> {
    let config = run.config();
    console.info(format!("network   {}", words::network(config, run.session().num_parameters())))?;
    console.info(format!("training  {}", words::training(config)))?;
    if !config.schedule.is_constant() {
        let steps_per_epoch = run.session().steps_per_epoch() as u64;
        let schedule = config.schedule.for_run(config.epochs, steps_per_epoch)?;
        console.info(format!("schedule  {}", schedule::describe(&schedule, config.learning_rate())))?;
        let change =
            epochs_before.and_then(|before| config.schedule.change_of_end(before, config.epochs, steps_per_epoch));
        if let Some(change) = change {
            console.info(format!("          {change}"))?;
        }
    }
    let transforms = config.transforms.to_string();
    if !transforms.is_empty() {
        console.info(format!("images    {transforms}, anew in every epoch"))?;
    }
    Ok(())
}

fn show(detail: Detail, finished: Finished, run: &Path, data: &RunData) -> Result<()> {
    let Finished { outcome, report, epochs: reports, .. } = finished;
    if detail == Detail::Json {
        return console::json(&FinalLine { outcome, run: run.to_owned() });
    }
    let Outcome { test_loss, test_accuracy, best_epoch, epochs, stopped, .. } = outcome;
    if detail == Detail::Full {
        console::line(format!("\nstopped   {stopped}"))?;
    }
    let best = reports.iter().find(|report| report.epoch == best_epoch).map_or(String::new(), |best| {
        format!(", validation loss {:.4}, accuracy {}", best.val_loss, percent(best.val_accuracy))
    });
    console::line(format!("best      epoch {best_epoch} of {epochs}{best}"))?;
    let (accuracy, images) = (percent(test_accuracy), words::counted(data.test.len() as u64, "image"));
    let chosen = if data.validation.is_none() { ", which also chose the epoch" } else { "" };
    console::line(format!("test      loss {test_loss:.4}, accuracy {accuracy} on {images}{chosen}"))?;
    console::line(format!("run       {}", run.display()))?;
    if let (Some(page), Detail::Full) = (&report, detail) {
        console::line(format!("report    {}", page.display()))?;
    }
    console::line(format!("evaluate  lenet eval {}", run.display()))
}

/// Prints how to resume a run that did not finish.
fn cut_short(error: Error, watcher: &Watcher, run: &Path) -> Result<ExitCode> {
    let resume = format!("resume with: lenet train --resume {}", run.display());
    if let Error::NonFinite { epoch: 2.., .. } = &error {
        watcher.console.info(format!("\nbest so far  {}", folder::model_in(run).display()))?;
    }
    let Error::Interrupted { epochs, batches, .. } = &error else {
        if folder::checkpoint_in(run).exists() {
            console::complain("note", &format!("the run is saved as it was after its last whole epoch; {resume}"));
        }
        return Err(error);
    };
    if *epochs > 0 {
        watcher.console.info(format!("\nbest so far  {}", folder::model_in(run).display()))?;
    }
    if watcher.console.detail() == Detail::Json {
        console::json(&Interrupted { interrupted: true, epochs: *epochs, batches: *batches, run: run.to_owned() })?;
    }
    console::complain("note", &format!("{error}; {resume}"));
    Ok(watcher.signals.exit_code())
}

/// The last line of `--json` of a run that was interrupted.
#[derive(Serialize)]
struct Interrupted {
    interrupted: bool,
    epochs: u64,
    batches: usize,
    /// The run folder.
    #[serde(serialize_with = "console::path")]
    run: PathBuf,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct FinalLine {
    #[serde(flatten)]
    outcome: Outcome,
    /// The run folder.
    #[serde(serialize_with = "console::path")]
    run: PathBuf,
}

/// Shows epochs, and stops the run on a signal.
struct Watcher {
    console: Console,
    signals: Signals,
}

impl Observer for Watcher {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        self.console.progress(epoch, images_done, images);
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.console.epoch(report)
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
