//! Options about the network and the weights it starts from.

use std::path::PathBuf;

use clap::Args;
use wgrad::Result;
use wgrad::run::RunConfig;

use super::{absolute, set};

#[derive(Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// Normalise batches behind the first convolution
    #[arg(long)]
    batch_norm: bool,
    /// Drop values with probability P behind the first pooling and the first fully connected layer [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    dropout: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = "Network")]
pub struct InitOption {
    /// Start from the weights in a safetensors file instead of random ones
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
}

impl NetworkOptions {
    pub fn apply(self, config: &mut RunConfig) {
        config.batch_norm |= self.batch_norm;
        set(self.dropout, &mut config.dropout);
    }
}

impl InitOption {
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        if let Some(file) = &self.init {
            config.init = Some(absolute(file)?);
        }
        Ok(())
    }
}
