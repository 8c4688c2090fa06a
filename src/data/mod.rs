//! Data sets: found on disk or bundled, read, checked, and kept as bytes. Stage 1 of the data flow; the pixels
//! stay `u8` and planar until the device gathers and normalises a batch. Only [`fetch`] downloads
//! files; nothing here augments.
//!
//! A data set is one file with `impl Described` and `impl Source`, and its line in [`DataSource`].

pub mod bundled;
mod choose;
pub mod cifar;
mod cifar10;
mod cifar100;
mod content;
mod dataset;
mod emnist;
mod fashion_mnist;
#[cfg(feature = "fetch")]
pub mod fetch;
mod folder;
pub mod idx;
mod idx_files;
mod kmnist;
pub mod loader;
mod locate;
mod mnist;
mod normalize;
mod photo;
mod published;
mod resample;
mod source;
mod tensors;
mod transform;
mod whole;

use std::fmt;

use crate::registry::registry;

pub use choose::Choice;
pub use cifar10::Cifar10;
pub use cifar100::{Cifar100, Cifar100Labels};
pub use dataset::{Dataset, Split, Splits};
pub use emnist::{Emnist, EmnistSelection};
pub use fashion_mnist::FashionMnist;
pub use folder::ImageFolder;
pub use kmnist::Kmnist;
pub use loader::{Batch, DataLoader};
pub(crate) use locate::blank;
pub use locate::{Place, PlaceKind, cache_dir, describe, load, places};
pub use mnist::Mnist;
pub use normalize::{ChannelStats, Normalize};
pub use photo::{Fit, Photo, PhotoOptions, has_bright_border};
pub use published::{Members, Published, PublishedFile};
pub use source::{Files, Source};
pub use tensors::{TensorBatch, TensorDataset};
pub use transform::{BorderColor, Transforms};

registry! {
    /// A data set that is chosen by name.
    pub enum DataSource("dataset"): Source {
        FashionMnist(FashionMnist),
        Mnist(Mnist),
        Kmnist(Kmnist),
        Emnist(Emnist),
        Cifar10(Cifar10),
        Cifar100(Cifar100),
        ImageFolder(ImageFolder),
    }
}

impl Default for DataSource {
    /// FashionMNIST, a part of which comes with the library.
    fn default() -> Self {
        FashionMnist {}.into()
    }
}

impl fmt::Display for DataSource {
    /// Its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
