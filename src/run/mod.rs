//! A run: its settings ([`RunConfig`]), its images ([`RunData`]), its folder ([`RunFolder`]), and how it is started,
//! resumed and kept ([`Run`]). What a finished run leaves can be used again as a [`SavedModel`].
//!
//! ```no_run
//! use std::path::Path;
//! use wgrad::Device;
//! use wgrad::run::{Run, RunConfig, RunData};
//!
//! # fn main() -> wgrad::Result<()> {
//! let config = RunConfig { epochs: 5, ..RunConfig::default() };
//! let device = Device::select(&config.device)?;
//! let data = RunData::load(&config)?;
//! let finished = Run::create(config, &device, &data, Path::new("runs"))?.train(&mut ())?;
//! println!("test accuracy {:.4}", finished.outcome.test_accuracy);
//! # Ok(())
//! # }
//! ```

pub mod config;
mod data;
mod drive;
#[cfg(feature = "onnx")]
mod export;
pub mod folder;
mod keep;
mod prepared;
mod recorder;
mod resume;
mod saved;
pub mod settings;
pub mod setup;

pub use config::RunConfig;
pub use data::RunData;
pub use drive::{Finished, Run};
pub use folder::RunFolder;
pub use prepared::{Prepared, TrainOn};
pub use resume::Saved;
pub use saved::SavedModel;
pub use settings::Settings;
