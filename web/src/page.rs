//! The page as the observer of a run: it is told of batches, epochs and events, and asked whether to continue.

use std::path::Path;
use std::time::Duration;

use js_sys::{Function, Promise};
use serde::Serialize;
use serde_json::json;
use wasm_bindgen::{JsCast, JsValue};
use web_time::Instant;
use wgrad::nn::weights::{self, Metadata};
use wgrad::train::{EpochReport, Event, LatestBatches, Observer, Session};
use wgrad::{Result, files};

/// How often the page is told of batches: as often as a curve needs, and no more than costs little.
const BATCHES_EVERY: Duration = Duration::from_millis(200);
/// How often the page gets the weights within an epoch.
const WEIGHTS_EVERY: Duration = Duration::from_millis(1500);
/// How often the page is told how far an epoch is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Where the weights within an epoch are left.
const LIVE_MODEL: &str = "/live/model.safetensors";

/// The page, as the observer of a run.
pub struct Page {
    emit: Function,
    control: Function,
    stops: bool,
    /// Whether an epoch has ended and its checkpoint is about to be written.
    is_saving: bool,
    progress_at: Instant,
    weights_at: Instant,
    /// What the weights within an epoch are saved with.
    pub metadata: Metadata,
}

impl Page {
    /// `emit` and `control` are as in [`train`](crate::train::train).
    pub fn new(emit: Function, control: Function) -> Page {
        let now = Instant::now();
        let metadata = Metadata::default();
        Page { emit, control, stops: false, is_saving: false, progress_at: now, weights_at: now, metadata }
    }

    /// Tells the page of something.
    pub fn emit(&self, event: &impl Serialize) {
        let text = serde_json::to_string(event).expect("events have string keys");
        // What the page throws is its own fault, and no reason to lose a run.
        let _ = self.emit.call1(&JsValue::UNDEFINED, &JsValue::from_str(&text));
    }

    /// Asks the page whether to continue, and waits while it says so.
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
