//! `lenet networks`: the networks that can be trained by name.

use std::process::ExitCode;

use clap::Args;
use wgrad::Result;
use wgrad::nn::networks::{NetworkRow, table};
use wgrad::run::RunConfig;

use crate::console::{self, Side, count};
use crate::options::{Dataset, Given};

#[derive(Args)]
pub struct NetworksOptions {
    #[command(flatten)]
    settings: Given<Dataset>,
    /// Print only one JSON list
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
    let mut lines = vec![["name", "parameters", "FLOPs/image", "about"].map(str::to_owned)];
    lines.extend(rows.iter().map(|NetworkRow { name, about, num_parameters, flops }| {
        let (parameters, flops) = (count(*num_parameters).to_string(), console::big_count(*flops).to_string());
        [name.replace('_', "-"), parameters, flops, (*about).to_owned()]
    }));
    console::table([Side::Left, Side::Right, Side::Right, Side::Left], &lines)?;
    console::line("\n--network also takes a TOML file of layers, such as examples/my_network.toml")?;
    Ok(ExitCode::SUCCESS)
}
