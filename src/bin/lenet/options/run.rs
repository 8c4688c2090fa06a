//! Options about what a run computes on, and what it prints and leaves behind.

use std::path::PathBuf;

use clap::Args;
use wgrad::run::RunConfig;

use super::set_device;

#[derive(Args)]
#[command(next_help_heading = "Run")]
pub struct DeviceOption {
    /// What to compute on: `auto` (a real GPU, else the processor), `cpu`, `gpu` (the best adapter, even a software one)
    /// or a part of an adapter's name [default: auto]
    #[arg(long, value_name = "DEVICE", env = "WGRAD_DEVICE")]
    device: Option<String>,
}

impl DeviceOption {
    pub fn apply(&self, config: &mut RunConfig) {
        set_device(self.device.clone(), config);
    }
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// The folder in which to make the run's folder
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Print the result only
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print a JSON object a line, one for each epoch and one for the result, and nothing else
    #[arg(long)]
    pub json: bool,
    /// Leave out report.html, the pictures, metrics.csv and TensorBoard's event files
    #[arg(long)]
    pub no_report: bool,
}
