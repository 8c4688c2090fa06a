//! `lenet summary`: the layers of the network.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanBytes;
use wgrad::Result;
use wgrad::nn::LayerSummary;
use wgrad::run::{RunConfig, setup};

use crate::console::{self, Side, count};
use crate::options::{Given, Shape, at_least_1};

#[derive(Args)]
pub struct SummaryOptions {
    #[command(flatten)]
    settings: Given<Shape>,
    /// Images per batch, for the operations and the memory
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_1, help_heading = "Training")]
    batch_size: usize,
    /// Print only one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub fn run(options: SummaryOptions) -> Result<ExitCode> {
    let config = options.settings.apply(&RunConfig { batch_size: options.batch_size, ..RunConfig::default() })?;
    let summary = setup::summary(&config)?;
    if options.json {
        console::json(&summary)?;
        return Ok(ExitCode::SUCCESS);
    }
    console::line(format!("{} on {}, a batch {}\n", config.network.title(), config.dataset, shape(&summary.input)))?;
    let mut rows = vec![["layer", "op", "output", "parameters", "FLOPs", "activations"].map(str::to_owned)];
    rows.extend(summary.layers.iter().map(|layer| {
        let LayerSummary { name, ops, output, num_parameters, flops, activation_bytes, .. } = layer;
        let numbers = (or_dash(*num_parameters as u64), or_dash(*flops), bytes(*activation_bytes));
        [name.clone(), ops.join(" "), shape(output), numbers.0, numbers.1, numbers.2]
    }));
    let totals = (or_dash(summary.num_parameters as u64), or_dash(summary.flops), bytes(summary.activation_bytes));
    rows.push(["total".to_owned(), String::new(), String::new(), totals.0, totals.1, totals.2]);
    console::table([Side::Left, Side::Left, Side::Left, Side::Right, Side::Right, Side::Right], &rows)?;
    let buffers = match summary.num_buffers {
        0 => String::new(),
        buffers => format!(" and {} running statistics", count(buffers)),
    };
    let parameters = format!("{} parameters{buffers}", count(summary.num_parameters));
    console::line(format!("\nweights      {parameters}, {}", bytes(summary.parameter_bytes)))?;
    let images = summary.input.first().copied().unwrap_or(1).max(1);
    let per_image = or_dash(summary.flops / images as u64);
    console::line(format!("operations   {per_image} FLOPs per image in the forward pass; a multiply-add counts as 2"))?;
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
