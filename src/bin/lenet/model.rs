//! Options that name a trained model.

use std::path::{Path, PathBuf};

use clap::Args;
use wgrad::Result;
use wgrad::data::Normalize;
use wgrad::run::SavedModel;

use crate::options::{DatasetOption, NetworkOptions, parser};

#[derive(Args)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// The weights: a safetensors file with PyTorch's names. A config.toml beside it says which images, normalisation
    /// and network they belong to
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    model: Option<PathBuf>,
    /// A run's folder, for its model.safetensors and config.toml
    #[arg(long, value_name = "RUN", conflicts_with = "model")]
    run: Option<PathBuf>,
    #[command(flatten)]
    dataset: DatasetOption,
    /// How pixels were scaled in training: `none` to 0..1, `half` to -1..1, `dataset` to the data set's mean 0 and
    /// deviation 1 [default: as config.toml says, else dataset]
    #[arg(long, value_name = "HOW", value_parser = parser::<Normalize>(&["none", "half", "dataset"]))]
    normalize: Option<Normalize>,
    #[command(flatten)]
    network: NetworkOptions,
}

impl ModelOptions {
    /// The model with the settings beside it, and what the options say instead.
    pub fn open(&self) -> Result<SavedModel> {
        let path = self.run.as_deref().or(self.model.as_deref()).unwrap_or(Path::new("."));
        let mut model = SavedModel::open(path)?;
        self.dataset.apply_to_model(&mut model.config);
        model.config.normalize = self.normalize.unwrap_or(model.config.normalize);
        self.network.clone().apply(&mut model.config)?;
        Ok(model)
    }
}
