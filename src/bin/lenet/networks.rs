//! `lenet networks`: the networks that can be trained by name.

use std::process::ExitCode;

use clap::Args;
use wgrad::Result;
use wgrad::nn::networks::{NetworkRow, table};
use wgrad::run::RunConfig;

use crate::console::{self, count};
use crate::options::{Dataset, Given};

#[derive(Args)]
pub struct NetworksOptions {
    #[command(flatten)]
    settings: Given<Dataset>,
    /// Print one JSON list and nothing else
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub fn run(options: NetworksOptions) -> Result<ExitCode> {
    let config = options.settings.apply(&RunConfig::default())?;
    let data = config.describe_data()?;
    let rows = table(data.shape(), data.num_classes());
    if options.json {
        console::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let [channels, height, width] = data.shape();
    let shape = format!("({channels}, {height}, {width})");
    console::line(format!("For {}: images {shape}, {} classes\n", config.dataset, data.num_classes()))?;
    console::line(format!("{:<8}  {:>10}  {:>13}  about", "name", "parameters", "FLOPs/image"))?;
    for NetworkRow { name, about, num_parameters, flops } in &rows {
        let (parameters, flops) = (count(*num_parameters).to_string(), console::big_count(*flops).to_string());
        console::line(format!("{name:<8}  {parameters:>10}  {flops:>13}  {about}"))?;
    }
    console::line("\nA network of your own: a TOML file of layers, as examples/my_network.toml, for --network")?;
    Ok(ExitCode::SUCCESS)
}
