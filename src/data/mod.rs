//! Data sets: found on disk or bundled, read, checked, and kept as bytes. Stage 1 of the way data takes; the pixels
//! stay `u8` and planar until the device gathers and normalises a batch. Files are only downloaded when [`fetch`] is
//! asked to; nothing here augments.

pub mod bundled;
mod choose;
pub mod cifar;
pub mod fetch;
pub mod idx;
pub mod loader;
mod locate;
mod normalize;
mod photo;
mod tensors;
mod transform;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rng::Stream;
use crate::{Error, Result};

pub use choose::Choice;
pub use loader::{Batch, DataLoader};
pub use locate::{Place, PlaceKind, cache_dir, load, places};
pub use normalize::{ChannelStats, Normalize};
pub use photo::{Fit, Photo, PhotoOptions, has_bright_border};
pub use tensors::{TensorBatch, TensorDataset};
pub use transform::{BorderColor, Transforms};

/// Labelled images of one split, in host memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Which data set the images are from.
    pub name: DatasetName,
    /// Which part of it.
    pub split: Split,
    /// Pixels (N, C, H, W), 0 to 255.
    pub images: Vec<u8>,
    /// Labels (N), each below `num_classes`.
    pub labels: Vec<u8>,
    /// C, H and W.
    pub shape: [usize; 3],
    /// The number of classes.
    pub num_classes: usize,
    /// What each label stands for.
    pub class_names: &'static [&'static str],
}

/// The two parts a data set is published in.
#[derive(Clone, Debug)]
pub struct Splits {
    /// The images to train on, of which [`Dataset::hold_out`] can put some aside for validation.
    pub train: Dataset,
    /// The images that nothing but the final score may depend on.
    pub test: Dataset,
    /// Where they came from, to print: a folder, or that it is the bundled subset.
    pub source: String,
}

/// The data sets there are readers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// Zalando's articles of clothing, 28×28, grey (Xiao, Rasul and Vollgraf, 2017).
    FashionMnist,
    /// Handwritten digits, 28×28, grey (LeCun, Cortes and Burges, 1998).
    Mnist,
    /// Photographs of animals and vehicles, 32×32, colour (Krizhevsky, 2009).
    Cifar10,
}

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// Held out of the training images; schedulers, early stopping and the choice of the best weights look at it.
    Validation,
    /// For the final score.
    Test,
}

impl Dataset {
    /// So many black images: for building and timing what only depends on shapes.
    pub fn blank(name: DatasetName, split: Split, num_images: usize) -> Dataset {
        let image_len: usize = name.image_shape().iter().product();
        dataset(name, split, vec![0; num_images * image_len], vec![0; num_images])
    }

    /// Images (N, C, H, W) of which nothing is known but that the data set's classes are to be told of; the labels are
    /// all 0 and mean nothing.
    ///
    /// # Errors
    /// [`Error::Operand`] where the pixels are not a whole number of the data set's images.
    pub fn unlabelled(name: DatasetName, images: Vec<u8>) -> Result<Dataset> {
        let image_len: usize = name.image_shape().iter().product();
        if !images.len().is_multiple_of(image_len) {
            let expected = format!("a whole number of images of {image_len} bytes");
            return Err(Error::operand("unlabelled", expected, format!("{} bytes", images.len())));
        }
        let labels = vec![0; images.len() / image_len];
        Ok(dataset(name, Split::Test, images, labels))
    }

    /// The number of images N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image: C·H·W.
    pub fn image_len_bytes(&self) -> usize {
        self.shape.iter().product()
    }

    /// Keeps the first `num_images`; all of them where there are no more than that.
    pub fn limit(&mut self, num_images: usize) {
        self.labels.truncate(num_images);
        self.images.truncate(self.labels.len() * self.image_len_bytes());
    }

    /// The images with these indices, in the given order; an index may occur more than once.
    ///
    /// # Errors
    /// [`Error::Operand`] if an index is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[u32], split: Split) -> Result<Dataset> {
        let image_len = self.image_len_bytes();
        let mut images = Vec::with_capacity(indices.len() * image_len);
        let mut labels = Vec::with_capacity(indices.len());
        for &index in indices {
            let index = index as usize;
            let Some(&label) = self.labels.get(index) else {
                let expected = format!("indices below {}", self.len());
                return Err(Error::operand("subset", expected, index.to_string()));
            };
            labels.push(label);
            images.extend_from_slice(&self.images[index * image_len..(index + 1) * image_len]);
        }
        Ok(Dataset { split, images, labels, ..*self })
    }

    /// Puts a random share of the images aside for validation: (training, validation), both in the order of the
    /// original. The share is `fraction` of the images, rounded to a whole number; which ones they are depends on
    /// `seed` and the number of images alone, so a run that resumes holds out the same ones.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `--val-split` unless both parts get at least one image.
    pub fn hold_out(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        let num_images = u32::try_from(self.len())
            .map_err(|_| Error::operand("hold_out", "at most 2^32 - 1 images", self.len().to_string()))?;
        // A float-to-integer cast saturates and makes NaN 0, and the check below rejects what that leads to.
        let num_held_out = (fraction * f64::from(num_images)).round() as u32;
        if !(fraction > 0.0 && fraction < 1.0) || num_held_out == 0 || num_held_out >= num_images {
            let expected = format!("a share between 0 and 1 of {num_images} images that leaves some on either side");
            return Err(Error::setting("val_split", expected, fraction));
        }
        let mut indices = Stream::named(seed, "data.val_split").permutation(num_images);
        let (held_out, kept) = indices.split_at_mut(num_held_out as usize);
        held_out.sort_unstable();
        kept.sort_unstable();
        Ok((self.subset(kept, self.split)?, self.subset(held_out, Split::Validation)?))
    }

    /// The mean and standard deviation (divided by the count, not the count less one) of each channel's pixels, scaled
    /// to 0..1: what the `dataset` constants of [`Normalize`] were computed as.
    ///
    /// # Errors
    /// [`Error::Operand`] if there are no images.
    pub fn statistics(&self) -> Result<ChannelStats> {
        ChannelStats::of(self)
    }
}

impl DatasetName {
    /// Every data set, in the order to list them.
    pub const ALL: [DatasetName; 3] = [DatasetName::FashionMnist, DatasetName::Mnist, DatasetName::Cifar10];

    /// What the labels stand for, by label.
    pub fn class_names(self) -> &'static [&'static str] {
        match self {
            DatasetName::FashionMnist => &[
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
            ],
            DatasetName::Mnist => &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            DatasetName::Cifar10 => {
                &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
            }
        }
    }

    /// Published images of a split; validation images are taken from those for training.
    pub fn num_images(self, split: Split) -> usize {
        match (self, split) {
            (_, Split::Test) => 10_000,
            (_, Split::Validation) => 0,
            (DatasetName::Cifar10, Split::Train) => 50_000,
            (DatasetName::FashionMnist | DatasetName::Mnist, Split::Train) => 60_000,
        }
    }

    /// Whether images show something bright on black, rather than scenes that fill them.
    pub fn is_on_black(self) -> bool {
        match self {
            DatasetName::FashionMnist | DatasetName::Mnist => true,
            DatasetName::Cifar10 => false,
        }
    }

    /// C, H and W of an image.
    pub fn image_shape(self) -> [usize; 3] {
        match self {
            DatasetName::FashionMnist | DatasetName::Mnist => [1, 28, 28],
            DatasetName::Cifar10 => [3, 32, 32],
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DatasetName::FashionMnist => "fashion-mnist",
            DatasetName::Mnist => "mnist",
            DatasetName::Cifar10 => "cifar10",
        })
    }
}

impl FromStr for DatasetName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        DatasetName::ALL
            .into_iter()
            .find(|name| name.to_string() == text)
            .ok_or_else(|| Error::setting("dataset", DatasetName::ALL.map(|name| name.to_string()).join(", "), text))
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Split::Train => "training",
            Split::Validation => "validation",
            Split::Test => "test",
        })
    }
}

/// The two IDX files of a split, before it is known that they belong together.
struct IdxPair {
    images_path: PathBuf,
    labels_path: PathBuf,
    images: idx::Images,
    labels: Vec<u8>,
}

impl IdxPair {
    fn into_dataset(self, name: DatasetName, split: Split) -> Result<Dataset> {
        let [_, height, width] = name.image_shape();
        let idx::Images { pixels, num_images, .. } = self.images;
        if (self.images.height, self.images.width) != (height, width) {
            let got = format!("{}×{}", self.images.height, self.images.width);
            return Err(Error::data(&self.images_path, format!("images of {height}×{width} pixels"), got));
        }
        if num_images != self.labels.len() {
            let expected = format!("a label for each of the {num_images} images in {}", self.images_path.display());
            return Err(Error::data(&self.labels_path, expected, format!("{} labels", self.labels.len())));
        }
        let num_classes = name.class_names().len();
        if let Some(index) = self.labels.iter().position(|&label| usize::from(label) >= num_classes) {
            let got = format!("{} at index {index}", self.labels[index]);
            return Err(Error::data(&self.labels_path, format!("labels below {num_classes}"), got));
        }
        Ok(dataset(name, split, pixels, self.labels))
    }
}

/// A data set of images and labels that were checked to fit each other and `name`.
fn dataset(name: DatasetName, split: Split, images: Vec<u8>, labels: Vec<u8>) -> Dataset {
    let class_names = name.class_names();
    Dataset { name, split, images, labels, shape: name.image_shape(), num_classes: class_names.len(), class_names }
}
