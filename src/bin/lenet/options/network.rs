//! Options about the network and the weights it starts from.

use std::path::PathBuf;

use clap::Args;
use wgrad::Result;
use wgrad::nn::Network;
use wgrad::run::RunConfig;

use super::{absolute, set};

#[derive(Args, Clone)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// The network: a name, or a TOML file of layers [default: lenet5]
    #[arg(long, value_name = "NAME|FILE.toml", value_parser = Network::open)]
    network: Option<Network>,
    /// Normalize batches after the first convolution
    #[arg(long)]
    batch_norm: bool,
    /// Drop values with probability P [default: 0]
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
    pub fn apply(self, config: &mut RunConfig) -> Result<()> {
        set(self.network, &mut config.network);
        if self.batch_norm {
            config.network = config.network.with("batch_norm", true)?;
        }
        if let Some(dropout) = self.dropout {
            config.network = config.network.with("dropout", dropout)?;
        }
        Ok(())
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
