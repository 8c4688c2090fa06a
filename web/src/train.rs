//! Training: a run of the library, whose observer is the page.

use std::path::{Path, PathBuf};
use std::time::Duration;

use js_sys::{Function, Promise};
use serde::Serialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use web_time::Instant;
use wgrad::data::Dataset;
use wgrad::nn::weights::{self, Metadata};
use wgrad::report::{Confusion, csv};
use wgrad::run::{Finished, Run, RunConfig, RunData, Saved, folder};
use wgrad::train::predict::Prediction;
use wgrad::train::{EpochReport, Event, LatestBatches, Observer, Session};
use wgrad::{Error, Result, files};

use crate::answer::{answer, wrong};
use crate::device::device;
use crate::options;

/// How often the page is told of batches: as often as a curve needs, and no more than costs little.
const BATCHES_EVERY: Duration = Duration::from_millis(200);
/// How often the page gets the weights within an epoch.
const WEIGHTS_EVERY: Duration = Duration::from_millis(1500);
/// How often the page is told how far an epoch is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Where the weights within an epoch are left.
const LIVE_MODEL: &str = "/live/model.safetensors";
/// Mistakes that the page shows.
const MOST_MISTAKES: usize = 24;

/// Trains a new run in a folder. `emit` gets an event as JSON; `control` answers with nothing, with `true` to stop, or
/// with a promise to wait for before it is asked again.
#[wasm_bindgen(jspi)]
pub fn train(given: String, folder: String, emit: Function, control: Function) -> String {
    answer(options::config(&given).and_then(|config| {
        let data = RunData::load(&config)?;
        files::memory::remove(Path::new(&folder));
        let device = device();
        let run = Run::at(config, &device, &data, Path::new(&folder))?;
        drive(run, &data, Page::new(emit, control))
    }))
}

/// Resumes the run in a folder from its checkpoint, to more epochs if `epochs` is not 0. `data` is the folder of the
/// images in memory, empty for the bundled ones.
#[wasm_bindgen(jspi)]
pub fn resume(folder: String, epochs: u32, data: String, emit: Function, control: Function) -> String {
    answer(resumed(&folder, epochs, &data).and_then(|(config, saved)| {
        let data = RunData::load(&config)?;
        let device = device();
        let run = Run::resume(config, &device, &data, saved)?;
        drive(run, &data, Page::new(emit, control))
    }))
}

/// What the run in a folder is, from its checkpoint.
#[wasm_bindgen]
pub fn saved_run(folder: &str) -> String {
    answer(resumed(folder, 0, "").and_then(|(config, saved)| {
        let history = folder::read_history(Path::new(folder)).map(|history| history.epochs).unwrap_or_default();
        Ok(json!({
            "toml": config.to_toml()?,
            "settings": config.flat_settings()?,
            "epochs": config.epochs,
            "done": saved.checkpoint.state.epochs,
            "batches": saved.checkpoint.state.batches,
            "images": saved.checkpoint.state.images,
            "history": history,
        }))
    }))
}

/// `metrics.csv` of the run in a folder, as far as it has come.
#[wasm_bindgen]
pub fn metrics_csv(folder: &str) -> String {
    answer(folder::read_history(Path::new(folder)).map(|history| csv::metrics_csv(&history.epochs)))
}

fn resumed(folder: &str, epochs: u32, data: &str) -> Result<(RunConfig, Saved)> {
    let saved = Saved::read(Path::new(folder))?;
    let mut config = saved.config()?;
    // Where the images were is another computer's matter.
    config.data = (!data.is_empty()).then(|| PathBuf::from(data));
    if epochs > 0 {
        config.epochs = epochs.into();
    }
    Ok((config, saved))
}

fn drive(run: Run<'_>, data: &RunData, mut page: Page) -> Result<Value> {
    page.metadata = run.config().metadata(&data.train)?;
    let session = run.session();
    page.emit(&json!({
        "type": "began",
        "images": session.images_per_epoch(),
        "batches": session.batches_per_epoch(),
        "epochs": run.config().epochs,
        "source": data.source,
        "classes": data.test.class_names(),
        "shape": data.test.shape(),
        "toml": run.config().to_toml()?,
    }));
    let finished = run.train(&mut page)?;
    ended(&finished, &data.test)
}

/// What the page shows of a run that came to its end.
fn ended(finished: &Finished, test: &Dataset) -> Result<Value> {
    let outcome = &finished.outcome;
    let predictions = outcome.test.as_ref().map(|evaluation| evaluation.predictions(test.labels())).unwrap_or_default();
    let pairs = predictions.iter().map(|prediction| (prediction.label, prediction.predicted));
    let confusion = Confusion::of(test.num_classes(), pairs)?;
    let wrong = predictions.iter().enumerate().filter(|(_, prediction)| prediction.label != prediction.predicted);
    let mistakes: Vec<Value> =
        wrong.take(MOST_MISTAKES).map(|(index, prediction)| mistake(test, index, prediction)).collect();
    Ok(json!({
        "outcome": outcome,
        "confusion": confusion.rows().collect::<Vec<_>>(),
        "classes": test.class_names(),
        "shape": test.shape(),
        "mistakes": mistakes,
        "has_report": finished.report.is_some(),
    }))
}

fn mistake(test: &Dataset, index: usize, prediction: &Prediction) -> Value {
    json!({
        "index": index,
        "label": prediction.label,
        "predicted": prediction.predicted,
        "probability": prediction.probability,
        "pixels": test.image(index),
    })
}

/// The page, as the observer of a run.
struct Page {
    emit: Function,
    control: Function,
    stops: bool,
    /// Whether an epoch has ended and its checkpoint is about to be written.
    is_saving: bool,
    progress_at: Instant,
    weights_at: Instant,
    metadata: Metadata,
}

impl Page {
    fn new(emit: Function, control: Function) -> Page {
        let now = Instant::now();
        let metadata = Metadata::default();
        Page { emit, control, stops: false, is_saving: false, progress_at: now, weights_at: now, metadata }
    }

    fn emit(&self, event: &impl Serialize) {
        let text = serde_json::to_string(event).expect("events have string keys");
        // What the page throws is its own fault, and no reason to lose a run.
        let _ = self.emit.call1(&JsValue::UNDEFINED, &JsValue::from_str(&text));
    }

    /// Asks the page whether to go on, and waits while it says so.
    fn listen(&mut self) {
        loop {
            let answer = self.control.call0(&JsValue::UNDEFINED).unwrap_or(JsValue::TRUE);
            match answer.dyn_into::<Promise>() {
                Ok(promise) => wait(&promise),
                Err(answer) => {
                    self.stops |= answer.is_truthy();
                    return;
                }
            }
        }
    }
}

fn wait(promise: &Promise) {
    // A promise that is rejected ends the waiting too.
    let _ = js_sys::futures::jspi_block_on_promise(promise);
}

impl Observer for Page {
    fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        self.listen();
        if self.progress_at.elapsed() >= PROGRESS_EVERY || images_done == images {
            self.progress_at = Instant::now();
            self.emit(&json!({ "type": "progress", "epoch": epoch, "done": images_done, "images": images }));
        }
    }

    fn batches_every(&self) -> Option<Duration> {
        Some(BATCHES_EVERY)
    }

    fn batches(&mut self, batches: &LatestBatches, session: &mut Session) -> Result<()> {
        let column =
            |of: fn(&wgrad::train::metrics::Metrics) -> f64| batches.metrics.iter().map(of).collect::<Vec<_>>();
        self.emit(&json!({
            "type": "batches",
            "epoch": batches.epoch,
            "first": batches.first,
            "loss": column(|metrics| metrics.loss),
            "accuracy": column(|metrics| metrics.accuracy),
            "lr": batches.lr,
        }));
        if self.weights_at.elapsed() >= WEIGHTS_EVERY {
            let path = Path::new(LIVE_MODEL);
            files::memory::put(path, &[])?;
            weights::save(path, &session.model()?, &self.metadata)?;
            self.emit(&json!({ "type": "weights", "path": LIVE_MODEL }));
            self.weights_at = Instant::now();
        }
        Ok(())
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.emit(&json!({ "type": "epoch", "report": report }));
        self.is_saving = true;
        Ok(())
    }

    /// Asked right after each checkpoint.
    fn should_stop(&mut self) -> bool {
        if std::mem::take(&mut self.is_saving) {
            self.emit(&json!({ "type": "saved" }));
            self.listen();
        }
        self.stops
    }

    fn event(&mut self, event: &Event) {
        self.emit(&json!({ "type": "event", "text": event.to_string() }));
    }

    fn warn(&mut self, message: &str) {
        self.emit(&json!({ "type": "warning", "text": message }));
    }
}

/// The ONNX file of a model.
#[wasm_bindgen]
pub fn export_onnx(model: &str, to: &str) -> String {
    answer(wgrad::run::SavedModel::open(Path::new(model), &[]).and_then(|model| model.export_onnx(Path::new(to))))
}

/// The pages of a report are large; this is one file's text.
#[wasm_bindgen]
pub fn text_file(path: &str) -> String {
    let text = files::memory::get(Path::new(path))
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| -> Error { wrong("file", "text in UTF-8", path) }));
    answer(text)
}
