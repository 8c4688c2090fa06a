//! What a model file says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::METADATA;
use crate::data::ChannelStats;
use crate::nn::Network;
use crate::{Error, Result};

/// What a model file says of itself, so that it can be used without its run's folder. Everything may be missing: files
/// of other programs say nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The network that the weights are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// C, H and W of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_shape: Option<[usize; 3]>,
    /// The name of the data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The names of the classes, in the order of the logits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What was subtracted from pixels scaled to 0..1, and what they were divided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<ChannelStats>,
    /// Anything else, such as the test accuracy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<String, String>,
}

impl Metadata {
    /// The same with one more of [`Metadata::entries`].
    pub fn entry(mut self, key: &str, value: impl ToString) -> Self {
        self.entries.insert(key.to_owned(), value.to_string());
        self
    }

    /// From the text of a file; text that is not ours is an entry called `about`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Metadata> {
        match serde_json::from_str(text) {
            Ok(metadata) => Ok(metadata),
            // JSON that is wrong was written by us, perhaps by a later version.
            Err(error) if error.is_data() && text.starts_with('{') => {
                Err(Error::data(path, "metadata of a model", error.to_string()))
            }
            Err(_) => Ok(Metadata::default().entry(METADATA, text)),
        }
    }
}
