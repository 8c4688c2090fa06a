//! Training: runs of the library, begun and resumed, and what the page shows of one that came to its end.

use std::path::{Path, PathBuf};

use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;
use wgrad::data::Dataset;
use wgrad::report::{Confusion, csv};
use wgrad::run::{Finished, Run, RunConfig, RunData, Saved, folder};
use wgrad::train::predict::Prediction;
use wgrad::{Result, files};

use crate::answer::answer;
use crate::device::device;
use crate::options;
use crate::page::Page;

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
        let data = saved.config()?.data.map(|data| data.display().to_string());
        let history = folder::read_history(Path::new(folder)).map(|history| history.epochs).unwrap_or_default();
        Ok(json!({
            "settings": config.flat_settings()?,
            "data": data,
            "epochs": config.epochs,
            "done": saved.checkpoint.state.epochs,
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
