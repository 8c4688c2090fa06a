//! CIFAR-10: photographs of animals and vehicles, 32×32, colour (Krizhevsky, 2009).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cifar::{CifarFiles, Layout, TEST_FILE, TRAIN_FILES};
use super::source::{Files, Source, names, stats};
use super::{ChannelStats, Published};
use crate::Result;
use crate::registry::{Described, Setting};

/// Photographs of animals and vehicles, 50,000 and 10,000 colour images of 32×32 (Krizhevsky, 2009).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cifar10 {}

impl Described for Cifar10 {
    const NAME: &'static str = "cifar10";
    const ABOUT: &'static str = "Photographs of animals and vehicles (Krizhevsky, 2009)";
    const SETTINGS: &'static [Setting] = &[];
}

const FILES: CifarFiles =
    CifarFiles { folder: "cifar-10-batches-bin", train: &TRAIN_FILES, test: TEST_FILE, layout: Layout::CIFAR10 };

impl Source for Cifar10 {
    fn class_names(&self, _: Option<&Path>) -> Result<Vec<String>> {
        Ok(names(&["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]))
    }

    fn image_shape(&self) -> [usize; 3] {
        [3, 32, 32]
    }

    fn num_images(&self) -> Option<[usize; 2]> {
        Some([50_000, 10_000])
    }

    /// The standard deviation over all pixels. The widely copied .2023 is the mean of each image's own instead.
    fn stats(&self) -> Option<ChannelStats> {
        stats(&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616])
    }

    fn files(&self) -> Box<dyn Files + '_> {
        Box::new(FILES)
    }

    fn published(&self) -> Option<Published> {
        let archive = ("cifar-10-binary.tar.gz", 170_052_171, ARCHIVE_SHA256);
        let len = 10_000 * Layout::CIFAR10.record_len_bytes() as u64;
        let members = FILES.all().map(|name| (name, len));
        Some(Published::new(&[archive], &["https://www.cs.toronto.edu/~kriz/"]).holding(FILES.folder, members))
    }
}

const ARCHIVE_SHA256: &str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";
