//! A run: its settings, its folder, and how it is started, resumed and kept.

pub mod config;
pub mod folder;
mod saved;

pub use config::RunConfig;
pub use folder::RunFolder;
pub use saved::SavedModel;
