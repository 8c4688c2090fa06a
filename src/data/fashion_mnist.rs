//! FashionMNIST: Zalando's articles of clothing, 28×28, grey (Xiao, Rasul and Vollgraf, 2017), and the subset of it
//! that comes with the library, so that a first run needs no files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::idx_files::IdxFiles;
use super::source::{Files, Source, names, stats};
use super::{ChannelStats, Published, Splits, bundled};
use crate::Result;
use crate::registry::{Described, Setting};

/// Articles of clothing, 60,000 and 10,000 grey images of 28×28 (Xiao, Rasul and Vollgraf, 2017).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FashionMnist {}

impl Described for FashionMnist {
    const NAME: &'static str = "fashion-mnist";
    const ABOUT: &'static str = "Articles of clothing (Xiao, Rasul and Vollgraf, 2017)";
    const SETTINGS: &'static [Setting] = &[];
}

impl Source for FashionMnist {
    fn class_names(&self, _: Option<&Path>) -> Result<Vec<String>> {
        Ok(names(&[
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ]))
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 28, 28]
    }

    fn num_images(&self) -> Option<[usize; 2]> {
        Some([60_000, 10_000])
    }

    fn stats(&self) -> Option<ChannelStats> {
        stats(&[0.2860], &[0.3530])
    }

    fn is_on_black(&self) -> bool {
        true
    }

    fn files(&self) -> Box<dyn Files + '_> {
        Box::new(IdxFiles::new("FashionMNIST"))
    }

    fn published(&self) -> Option<Published> {
        Some(Published::new(&FILES, &MIRRORS))
    }

    fn bundled(&self) -> Option<fn() -> Result<Splits>> {
        Some(bundled::fashion_mnist)
    }
}

// The publisher's repository, a copy that TensorFlow keeps, and the publisher's server, which has no TLS: the checksum
// tells whether what came is right.
const MIRRORS: [&str; 3] = [
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
];
const FILES: [(&str, u64, &str); 4] = [
    ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
];
