//! MNIST: handwritten digits, 28×28, grey (LeCun, Cortes and Burges, 1998).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::idx_files::IdxFiles;
use super::source::{Files, Source, names, stats};
use super::{ChannelStats, Published};
use crate::Result;
use crate::registry::{Described, Setting};

/// Handwritten digits, 60,000 and 10,000 grey images of 28×28 (LeCun, Cortes and Burges, 1998).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mnist {}

impl Described for Mnist {
    const NAME: &'static str = "mnist";
    const ABOUT: &'static str = "Handwritten digits (LeCun, Cortes and Burges, 1998)";
    const SETTINGS: &'static [Setting] = &[];
}

impl Source for Mnist {
    fn class_names(&self, _: Option<&Path>) -> Result<Vec<String>> {
        Ok(names(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]))
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 28, 28]
    }

    fn num_images(&self) -> Option<[usize; 2]> {
        Some([60_000, 10_000])
    }

    fn stats(&self) -> Option<ChannelStats> {
        stats(&[0.1307], &[0.3081])
    }

    fn is_on_black(&self) -> bool {
        true
    }

    fn files(&self) -> Box<dyn Files + '_> {
        Box::new(IdxFiles::new("MNIST"))
    }

    fn published(&self) -> Option<Published> {
        Some(Published::new(&FILES, &MIRRORS))
    }
}

// The publisher's own page asks to be spared; these two are copies that PyTorch and TensorFlow keep.
const MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"];
const FILES: [(&str, u64, &str); 4] = [
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
];
