//! Options that name a trained model.

use std::path::PathBuf;

use clap::Args;
use wgrad::Result;
use wgrad::run::SavedModel;

use crate::console;
use crate::options::{Given, Model};

#[derive(Args)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// The folder of a run, whose best weights are used
    #[arg(long, value_name = "RUN", required_unless_present = "weights")]
    run: Option<PathBuf>,
    /// The weights: a safetensors file with PyTorch's names. If neither its metadata nor a config.toml beside it names the
    /// network and the data set, give --network and --dataset
    #[arg(long, value_name = "FILE", alias = "model", conflicts_with = "run")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    given: Given<Model>,
}

impl ModelOptions {
    /// The model, as it says of itself and as the options say instead.
    pub fn open(&self) -> Result<SavedModel> {
        let path = self.run.clone().or_else(|| self.weights.clone()).unwrap_or_default();
        open(path, self.given.settings())
    }
}

/// Opens a model and prints notes about its file.
pub fn open(path: PathBuf, given: &[(String, toml::Value)]) -> Result<SavedModel> {
    let model = SavedModel::open(&path, given)?;
    for note in &model.notes {
        console::complain("note", note);
    }
    Ok(model)
}
