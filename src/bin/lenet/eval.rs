//! `lenet eval`: judges a model file by the test images.

use std::process::ExitCode;

use serde::Serialize;
use wgrad::train::config::RunData;
use wgrad::{Device, Result};

use crate::console::{self, count, percent};
use crate::options::EvalOptions;

pub fn run(options: EvalOptions) -> Result<ExitCode> {
    let config = options.config()?;
    let (device, reason) = Device::select(&config.device)?;
    let RunData { validation, test, source, .. } = config.load_data()?;
    // With nothing held out, the validation images are those test images that the limit leaves.
    let data = validation.unwrap_or(test);
    let metrics = config.evaluate(&device, &options.model, &data)?;
    if options.json {
        let (test_loss, test_accuracy, images) = (metrics.loss, metrics.accuracy, metrics.num_images);
        console::json(&Score { test_loss, test_accuracy, images })?;
        return Ok(ExitCode::SUCCESS);
    }
    console::line(format!("device    {device}: {reason}"))?;
    console::line(format!("data      {} from {source}", config.dataset))?;
    let (loss, accuracy) = (metrics.loss, percent(metrics.accuracy));
    console::line(format!("test      loss {loss:.4}, accuracy {accuracy} on {} images", count(data.len())))?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Score {
    test_loss: f64,
    test_accuracy: f64,
    images: u64,
}
