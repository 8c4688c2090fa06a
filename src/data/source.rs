//! What a data set is to the rest of the crate: [`Source`], which each data set's file implements, and [`Files`], the
//! formats that several of them share.

use std::path::Path;

use super::published::Published;
use super::{ChannelStats, Dataset, Splits};
use crate::Result;

/// A data set that is chosen by name: what is known of it without its files, and how they are read.
pub trait Source {
    /// What each label stands for. Published data sets know it without their files; `dir` is the folder that was
    /// named, if any.
    ///
    /// # Errors
    /// Where only the files know, and they cannot be read.
    fn class_names(&self, dir: Option<&Path>) -> Result<Vec<String>>;

    /// C, H and W of an image.
    fn image_shape(&self) -> [usize; 3];

    /// The published numbers of training and test images.
    fn num_images(&self) -> Option<[usize; 2]>;

    /// The published mean and standard deviation of the training images; without them they are computed.
    fn stats(&self) -> Option<ChannelStats> {
        None
    }

    /// Whether images show something bright on black, rather than scenes that fill them.
    fn is_on_black(&self) -> bool {
        false
    }

    /// Its files.
    fn files(&self) -> Box<dyn Files + '_>;

    /// What can be downloaded.
    fn published(&self) -> Option<Published> {
        None
    }

    /// The images that come with the library, where no files are found.
    fn bundled(&self) -> Option<fn() -> Result<Splits>> {
        None
    }
}

/// The files of a data set in a folder.
pub trait Files {
    /// Folders that they may be in, below the data set's own folder or one that holds several data sets.
    fn subfolders(&self) -> Vec<String>;

    /// Whether at least one of them is in this folder.
    fn are_in(&self, dir: &Path) -> bool;

    /// The first of them, for a message that it is missing.
    fn first(&self) -> String;

    /// All of them, for messages: "train-images-idx3-ubyte.gz, …, with or without .gz".
    fn names(&self) -> String;

    /// Reads training and test images from the folder.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) naming a file that is missing or does not hold what it should;
    /// [`Error::Io`](crate::Error::Io).
    fn read(&self, dir: &Path, source: &dyn Source) -> Result<[Dataset; 2]>;
}

/// Class names from constants.
pub(super) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Statistics from constants.
pub(super) fn stats(mean: &[f64], std: &[f64]) -> Option<ChannelStats> {
    Some(ChannelStats { mean: mean.to_vec(), std: std.to_vec() })
}
