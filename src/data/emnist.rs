//! EMNIST: handwritten letters and digits, 28×28, grey (Cohen, Afshar, Tapson and van Schaik, "EMNIST: an extension of
//! MNIST to handwritten letters", 2017). The official files hold every image with rows and columns exchanged; here they
//! stand upright.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::idx_files::IdxFiles;
use super::source::{Files, Source};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// Handwritten letters and digits, grey images of 28×28 (Cohen et al., 2017).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Emnist {
    /// Which of the six published selections. Default: balanced.
    pub selection: EmnistSelection,
}

/// The selections that EMNIST is published in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmnistSelection {
    /// 47 classes of equal size: digits, capital letters, and the small letters that differ from their capitals.
    #[default]
    Balanced,
    /// 62 classes: digits, capital and small letters.
    ByClass,
    /// The 47 classes of `balanced` with all images.
    ByMerge,
    /// 26 classes: letters, whether capital or small.
    Letters,
    /// 10 classes: digits, as many of each.
    Digits,
    /// 10 classes: digits, as many as MNIST has.
    Mnist,
}

impl Described for Emnist {
    const NAME: &'static str = "emnist";
    const ABOUT: &'static str = "Handwritten letters and digits (Cohen et al., 2017)";
    const SETTINGS: &'static [Setting] = &[Setting::new(
        "selection",
        Takes::Word(&["balanced", "byclass", "bymerge", "letters", "digits", "mnist"]),
        "Which selection of EMNIST",
    )];
}

impl EmnistSelection {
    /// The name in files' names.
    fn name(self) -> &'static str {
        match self {
            EmnistSelection::Balanced => "balanced",
            EmnistSelection::ByClass => "byclass",
            EmnistSelection::ByMerge => "bymerge",
            EmnistSelection::Letters => "letters",
            EmnistSelection::Digits => "digits",
            EmnistSelection::Mnist => "mnist",
        }
    }

    fn num_images(self) -> [usize; 2] {
        match self {
            EmnistSelection::Balanced => [112_800, 18_800],
            EmnistSelection::ByClass | EmnistSelection::ByMerge => [697_932, 116_323],
            EmnistSelection::Letters => [124_800, 20_800],
            EmnistSelection::Digits => [240_000, 40_000],
            EmnistSelection::Mnist => [60_000, 10_000],
        }
    }
}

impl Source for Emnist {
    fn class_names(&self, _: Option<&Path>) -> Result<Vec<String>> {
        let (digits, capitals, small) = ('0'..='9', 'A'..='Z', 'a'..='z');
        // The small letters that differ from their capitals (figure 2 of the paper).
        let own = |letter: &char| "abdefghnqrt".contains(*letter);
        let names: Vec<char> = match self.selection {
            EmnistSelection::Digits | EmnistSelection::Mnist => digits.collect(),
            EmnistSelection::Letters => capitals.collect(),
            EmnistSelection::ByClass => digits.chain(capitals).chain(small).collect(),
            EmnistSelection::Balanced | EmnistSelection::ByMerge => {
                digits.chain(capitals).chain(small.filter(own)).collect()
            }
        };
        Ok(names.into_iter().map(String::from).collect())
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 28, 28]
    }

    fn num_images(&self) -> Option<[usize; 2]> {
        Some(self.selection.num_images())
    }

    fn is_on_black(&self) -> bool {
        true
    }

    fn files(&self) -> Box<dyn Files + '_> {
        let name = self.selection.name();
        let files = IdxFiles::with_stems("EMNIST", &format!("emnist-{name}-train"), &format!("emnist-{name}-test"));
        // Labels of letters count from 1.
        let first_label = u8::from(self.selection == EmnistSelection::Letters);
        let files = files.offered_at("https://www.nist.gov/itl/products-and-services/emnist-dataset");
        Box::new(files.also_in("gzip").counting_from(first_label).transposed())
    }
}
