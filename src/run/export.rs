//! A trained model as an ONNX file.

use std::path::Path;

use super::SavedModel;
use crate::nn::onnx::{self, OnnxOptions};
use crate::nn::weights;
use crate::{Error, Result, files};

impl SavedModel {
    /// Writes it to `to` as an ONNX file, and makes the folder where it is missing; see [`onnx`](onnx::onnx). The file's
    /// metadata has the data set, the names of the classes in their order, separated by commas, and the network's settings
    /// as JSON. Gives the file's length in bytes.
    ///
    /// # Errors
    /// As [`onnx`](onnx::onnx); [`Error::Io`]; [`Error::Data`] where the model file is of another network.
    pub fn export_onnx(&self, to: &Path) -> Result<usize> {
        let network = serde_json::to_string(&self.config.network)
            .map_err(|error| Error::setting("network", "settings that JSON can hold", error))?;
        let options = OnnxOptions {
            model: &self.network,
            weights: &self.weights,
            normalize: &self.normalize,
            shape: self.shape,
            metadata: &[
                ("dataset", self.config.dataset.to_string()),
                ("classes", self.classes.join(",")),
                ("network", network),
            ],
        };
        let bytes = onnx::onnx(&options).map_err(weights::in_file(&self.file))?;
        if let Some(folder) = to.parent() {
            files::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        files::write_whole(to, &bytes)?;
        Ok(bytes.len())
    }
}
