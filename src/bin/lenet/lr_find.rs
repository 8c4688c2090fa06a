//! `lenet lr-find`: the learning-rate range test.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use wgrad::report::curves::lr_find_plot;
use wgrad::run::{RunData, setup};
use wgrad::train::{LrFind, LrFindOptions, lr_find};
use wgrad::{Device, Result};

use crate::console::{self, short};
use crate::options::{StepOptions, reject};
use crate::picture::{self, png_file};

/// Rows of the table.
const ROWS: usize = 25;

#[derive(Args)]
pub struct RangeTestOptions {
    /// The rate of the first step
    #[arg(long, value_name = "X", default_value_t = LrFindOptions::default().start_lr)]
    start_lr: f64,
    /// The rate of the last step
    #[arg(long, value_name = "X", default_value_t = LrFindOptions::default().end_lr)]
    end_lr: f64,
    /// Optimizer steps, each at its own rate
    #[arg(long, value_name = "N", default_value_t = LrFindOptions::default().num_steps)]
    steps: u64,
    /// Smoothing factor of the running mean of the loss that tells when it diverges
    #[arg(long, value_name = "X", default_value_t = LrFindOptions::default().smoothing)]
    smoothing: f64,
    /// Stop when the running mean exceeds its lowest by this factor
    #[arg(long, value_name = "X", default_value_t = LrFindOptions::default().diverges_at)]
    diverges_at: f64,
    /// Draw the loss over the rate to this file
    #[arg(long, value_name = "FILE.png", value_parser = png_file(), help_heading = "Output")]
    picture: Option<PathBuf>,
    /// Print only one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    step: StepOptions,
}

pub fn run(options: RangeTestOptions) -> Result<ExitCode> {
    let RangeTestOptions { start_lr, end_lr, steps: num_steps, smoothing, diverges_at, picture, json, .. } = options;
    reject("--lr", options.step.has("lr"), "a run that trains", "lr-find, which has --start-lr and --end-lr")?;
    let config = options.step.config("auto")?;
    picture::keep_images(picture.as_deref(), &config)?;
    let (device, reason) = Device::select_with_reason(&config.device)?;
    if !json {
        console::line(format!("device    {device}: {reason}"))?;
    }
    let data = RunData::load(&config)?;
    let mut session = setup::session(&config, &device, &data)?;
    let find = LrFindOptions { start_lr, end_lr, num_steps, smoothing, diverges_at };
    let found = lr_find(&mut session, &find)?;
    if let Some(path) = &picture {
        lr_find_plot(&found).save(path)?;
    }
    if json {
        console::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    console::line(table(&found))?;
    console::line(verdict(&found))?;
    if let Some(path) = picture {
        console::line(format!("picture   {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A row for every n-th step, and the last.
fn table(found: &LrFind) -> String {
    let stride = found.points.len().div_ceil(ROWS).max(1);
    let mut text = format!("\n{:>5}  {:>13}  {:>10}  {:>10}\n", "step", "learning rate", "loss", "smoothed");
    for (index, point) in found.points.iter().enumerate() {
        if index % stride == 0 || index + 1 == found.points.len() {
            // Writing to a string does not fail.
            let _ =
                writeln!(text, "{index:>5}  {:>13}  {:>10.4}  {:>10.4}", short(point.lr), point.loss, point.smoothed);
        }
    }
    text
}

fn verdict(found: &LrFind) -> String {
    let end = match (found.diverged, found.points.last()) {
        (true, Some(last)) => format!("the loss diverged at a learning rate of {}", short(last.lr)),
        _ => "the loss did not diverge; a larger --end-lr shows more".to_owned(),
    };
    let suggested = |lr: Option<f64>, why: &str| lr.map(|lr| format!("--lr {:<10}  {why}", short(lr)));
    let steepest = suggested(found.steepest, "where the smoothed loss falls fastest");
    let minimum = suggested(found.minimum_over_10, "a tenth of the rate at which it is lowest");
    let rates: Vec<String> = steepest.into_iter().chain(minimum).collect();
    match rates.as_slice() {
        [] => format!(
            "stopped   {end}\nsuggested nothing: the loss falls nowhere by clearly more than it varies from batch to batch; \
             more --steps or other rates may show more"
        ),
        rates => format!("stopped   {end}\nsuggested {}", rates.join("\n          ")),
    }
}
