//! CIFAR-100: photographs, 32×32, colour, of 100 classes in 20 groups (Krizhevsky, 2009).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cifar::{CifarFiles, Layout};
use super::source::{Files, Source, names, stats};
use super::{ChannelStats, Published};
use crate::Result;
use crate::registry::{Described, Setting, Takes};

/// Photographs of 100 classes, 50,000 and 10,000 colour images of 32×32 (Krizhevsky, 2009).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cifar100 {
    /// Which of an image's two labels. Default: fine.
    pub labels: Cifar100Labels,
}

/// The labels that every image has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cifar100Labels {
    /// 100 classes, such as "orchid".
    #[default]
    Fine,
    /// 20 groups of five classes each, such as "flowers".
    Coarse,
}

impl Described for Cifar100 {
    const NAME: &'static str = "cifar100";
    const ABOUT: &'static str = "Photographs of 100 classes in 20 groups (Krizhevsky, 2009)";
    const SETTINGS: &'static [Setting] = &[Setting::new(
        "labels",
        Takes::Word(&["fine", "coarse"]),
        "Whether classes are the 100 fine ones or the 20 coarse ones",
    )];
}

impl Cifar100 {
    fn cifar_files(&self) -> CifarFiles {
        let (label_index, num_classes) = match self.labels {
            Cifar100Labels::Coarse => (0, 20),
            Cifar100Labels::Fine => (1, 100),
        };
        let layout = Layout { name: "CIFAR-100", num_labels: 2, label_index, num_classes };
        CifarFiles { folder: "cifar-100-binary", train: &["train.bin"], test: "test.bin", layout }
    }
}

impl Source for Cifar100 {
    fn class_names(&self, _: Option<&Path>) -> Result<Vec<String>> {
        Ok(match self.labels {
            Cifar100Labels::Fine => names(&FINE),
            Cifar100Labels::Coarse => names(&COARSE),
        })
    }

    fn image_shape(&self) -> [usize; 3] {
        [3, 32, 32]
    }

    fn num_images(&self) -> Option<[usize; 2]> {
        Some([50_000, 10_000])
    }

    fn stats(&self) -> Option<ChannelStats> {
        stats(&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762])
    }

    fn files(&self) -> Box<dyn Files + '_> {
        Box::new(self.cifar_files())
    }

    fn published(&self) -> Option<Published> {
        let archive = ("cifar-100-binary.tar.gz", 168_513_733, ARCHIVE_SHA256);
        let files = self.cifar_files();
        let record_len = files.layout.record_len_bytes() as u64;
        let members = [("train.bin", 50_000 * record_len), ("test.bin", 10_000 * record_len)];
        Some(Published::new(&[archive], &["https://www.cs.toronto.edu/~kriz/"]).holding(files.folder, members))
    }
}

const ARCHIVE_SHA256: &str = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec";

const COARSE: [&str; 20] = [
    "aquatic mammals",
    "fish",
    "flowers",
    "food containers",
    "fruit and vegetables",
    "household electrical devices",
    "household furniture",
    "insects",
    "large carnivores",
    "large man-made outdoor things",
    "large natural outdoor scenes",
    "large omnivores and herbivores",
    "medium-sized mammals",
    "non-insect invertebrates",
    "people",
    "reptiles",
    "small mammals",
    "trees",
    "vehicles 1",
    "vehicles 2",
];

#[rustfmt::skip]
const FINE: [&str; 100] = [
    "apple", "aquarium fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn mower", "leopard", "lion", "lizard", "lobster", "man", "maple tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak tree", "orange", "orchid", "otter", "palm tree", "pear", "pickup truck", "pine tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow tree", "wolf", "woman", "worm",
];
