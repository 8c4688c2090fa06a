//! KMNIST: cursive Japanese characters, 28×28, grey (Clanuwat et al., "Deep Learning for Classical Japanese
//! Literature", 2018).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Published;
use super::idx_files::IdxFiles;
use super::source::{Files, Source, names};
use crate::Result;
use crate::registry::{Described, Setting};

/// Cursive Japanese characters, 60,000 and 10,000 grey images of 28×28 (Clanuwat et al., 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kmnist {}

impl Described for Kmnist {
    const NAME: &'static str = "kmnist";
    const ABOUT: &'static str = "Cursive Japanese characters (Clanuwat et al., 2018)";
    const SETTINGS: &'static [Setting] = &[];
}

impl Source for Kmnist {
    /// One hiragana for each row of the syllabary, as torchvision spells them.
    fn class_names(&self, _: Option<&Path>) -> Result<Vec<String>> {
        Ok(names(&["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]))
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 28, 28]
    }

    fn num_images(&self) -> Option<[usize; 2]> {
        Some([60_000, 10_000])
    }

    fn is_on_black(&self) -> bool {
        true
    }

    fn files(&self) -> Box<dyn Files + '_> {
        Box::new(IdxFiles::new("KMNIST"))
    }

    fn published(&self) -> Option<Published> {
        Some(Published::new(&FILES, &["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"]))
    }
}

// The publisher's server has no TLS: the checksum tells whether what came is right.
const FILES: [(&str, u64, &str); 4] = [
    ("train-images-idx3-ubyte.gz", 18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
    ("train-labels-idx1-ubyte.gz", 29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
    ("t10k-images-idx3-ubyte.gz", 3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
    ("t10k-labels-idx1-ubyte.gz", 5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
];
