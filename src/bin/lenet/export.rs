//! `lenet export`: exports a trained network to ONNX.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use wgrad::Result;
use wgrad::nn::onnx;
use wgrad::run::SavedModel;

use crate::console;
use crate::model::ModelOptions;
use crate::picture;

#[derive(Args)]
#[command(
    override_usage = "lenet export [OPTIONS] --run <RUN> --onnx <FILE.onnx>\n       lenet export [OPTIONS] --weights <FILE> --onnx <FILE.onnx>"
)]
pub struct ExportOptions {
    #[command(flatten)]
    model: ModelOptions,
    /// The file to write. The network in it takes pixels (N, C, H, W) from 0 to 255 as
    /// floats, for any N, and normalizes them itself
    #[arg(long, value_name = "FILE.onnx", required = true, help_heading = "Output")]
    onnx: PathBuf,
}

pub fn run(options: ExportOptions) -> Result<ExitCode> {
    let model = options.model.open()?;
    picture::keep("--onnx", Some(&options.onnx), std::slice::from_ref(&model.file))?;
    let num_bytes = model.export_onnx(&options.onnx)?;
    let SavedModel { file, config, shape: [channels, height, width], classes, .. } = model;
    console::line(format!("model     {} ({})", file.display(), config.dataset))?;
    let input = format!("{} (N, {channels}, {height}, {width}), float, 0 to 255, normalised inside", onnx::INPUT);
    console::line(format!("input     {input}"))?;
    let classes = classes.len();
    console::line(format!("output    {} (N, {classes}), before the softmax", onnx::OUTPUT))?;
    console::line(format!("onnx      {}, {} bytes", options.onnx.display(), console::count(num_bytes)))?;
    Ok(ExitCode::SUCCESS)
}
