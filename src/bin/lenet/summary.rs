//! `lenet summary`: the layers of the network.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanBytes;
use wgrad::Result;
use wgrad::nn::LayerSummary;
use wgrad::run::{RunConfig, setup};

use crate::console::{self, count};
use crate::options::{DatasetOption, NetworkOptions, at_least_1};

#[derive(Args)]
pub struct SummaryOptions {
    #[command(flatten)]
    dataset: DatasetOption,
    #[command(flatten)]
    network: NetworkOptions,
    /// Images in a batch, which operations and memory are for
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_1, help_heading = "Training")]
    batch_size: usize,
    /// Print one JSON object and nothing else
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub fn run(options: SummaryOptions) -> Result<ExitCode> {
    let mut config = RunConfig { batch_size: options.batch_size, ..RunConfig::default() };
    options.dataset.apply(&mut config);
    options.network.apply(&mut config)?;
    config.validate()?;
    let summary = setup::summary(&config)?;
    if options.json {
        console::json(&summary)?;
        return Ok(ExitCode::SUCCESS);
    }
    console::line(format!("{} on {}, a batch {}\n", config.network.title(), config.dataset, shape(&summary.input)))?;
    let row = |[layer, op, output, parameters, flops, memory]: [&str; 6]| {
        console::line(format!("{layer:<6}  {op:<12}  {output:<18}  {parameters:>10}  {flops:>13}  {memory:>11}"))
    };
    row(["layer", "op", "output", "parameters", "FLOPs", "activations"])?;
    for layer in &summary.layers {
        let LayerSummary { name, ops, output, num_parameters, flops, activation_bytes, .. } = layer;
        row([
            name,
            &ops.join(" "),
            &shape(output),
            &or_dash(*num_parameters as u64),
            &or_dash(*flops),
            &bytes(*activation_bytes),
        ])?;
    }
    row([
        "total",
        "",
        "",
        &or_dash(summary.num_parameters as u64),
        &or_dash(summary.flops),
        &bytes(summary.activation_bytes),
    ])?;
    let buffers = match summary.num_buffers {
        0 => String::new(),
        buffers => format!(" and {} running statistics", count(buffers)),
    };
    let parameters = format!("{} parameters{buffers}", count(summary.num_parameters));
    console::line(format!("\nweights      {parameters}, {}", bytes(summary.parameter_bytes)))?;
    let images = summary.input.first().copied().unwrap_or(1).max(1);
    let per_image = or_dash(summary.flops / images as u64);
    console::line(format!("operations   {per_image} FLOPs an image forward; a multiply-add counts as 2"))?;
    let (activations, input) = (bytes(summary.activation_bytes), bytes(summary.input_bytes));
    console::line(format!("memory       {activations} for the outputs of all layers, and {input} for the images"))?;
    Ok(ExitCode::SUCCESS)
}

fn shape(dims: &[usize]) -> String {
    format!("({})", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

fn or_dash(number: u64) -> String {
    if number == 0 { "–".to_owned() } else { indicatif::HumanCount(number).to_string() }
}

fn bytes(number: usize) -> String {
    if number == 0 { "–".to_owned() } else { HumanBytes(number as u64).to_string() }
}
