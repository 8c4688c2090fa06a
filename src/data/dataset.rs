//! Labelled images in host memory. Parts of a data set (a held-out share, the first so many images) share its pixels
//! and differ in which of them they are.

use std::fmt;
use std::sync::Arc;

use super::ChannelStats;
use crate::rng::Stream;
use crate::{Error, Result};

/// Labelled images of one split. Cloning it and taking parts of it copies no pixels.
#[derive(Clone)]
pub struct Dataset {
    name: Arc<str>,
    split: Split,
    shape: [usize; 3],
    class_names: Arc<[String]>,
    /// Pixels of all images that were read together, (M, C, H, W).
    pixels: Arc<Vec<u8>>,
    /// Which of them these are (N).
    indices: Vec<u32>,
    /// Labels (N), each below the number of classes.
    labels: Vec<u16>,
    /// The mean and standard deviation of the whole training split, where they are known.
    stats: Option<ChannelStats>,
}

/// The two parts a data set is published in.
#[derive(Clone, Debug)]
pub struct Splits {
    /// The images to train on, of which [`Dataset::hold_out`] can put some aside for validation.
    pub train: Dataset,
    /// The images that nothing but the final evaluation may depend on.
    pub test: Dataset,
    /// Where they came from, to print: a folder, or that it is the bundled subset.
    pub source: String,
}

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// Held out of the training images; schedules, early stopping and the choice of the best weights use it.
    Validation,
    /// For the final evaluation.
    Test,
}

impl Dataset {
    /// A data set of one's own: `images` are pixels (N, C, H, W) from 0 to 255, row by row, with one label each, the
    /// index of its class in `class_names`; `shape` is (C, H, W). It is called "arrays" and its split is
    /// [`Split::Train`]; see [`named`](Self::named) and [`with_split`](Self::with_split).
    ///
    /// ```
    /// use wgrad::data::{Dataset, Normalize};
    ///
    /// # fn main() -> wgrad::Result<()> {
    /// let images = vec![0, 0, 0, 0, 200, 220, 240, 255];
    /// let data = Dataset::from_arrays(images, vec![0, 1], ["dark", "bright"], [1, 2, 2])?;
    /// assert_eq!((data.len(), data.num_classes(), data.image(1)), (2, 2, &[200, 220, 240, 255][..]));
    /// let stats = Normalize::Dataset.stats(&data)?;
    /// assert_eq!(stats.mean.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Operand`] where the pixels are not N images of that shape, an extent is 0, there are no classes, more
    /// than 65,536 of them or 2^32 images, or a label has no class.
    pub fn from_arrays<S: Into<String>>(
        images: Vec<u8>,
        labels: Vec<u16>,
        class_names: impl IntoIterator<Item = S>,
        shape: [usize; 3],
    ) -> Result<Dataset> {
        let wrong = |expected: String, got: String| Err(Error::operand("data set", expected, got));
        let class_names: Arc<[String]> = class_names.into_iter().map(Into::into).collect();
        let [channels, height, width] = shape;
        let image_len = shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent)).unwrap_or(0);
        if image_len == 0 {
            return wrong("extents of at least 1".to_owned(), format!("({channels}, {height}, {width})"));
        }
        if labels.len().checked_mul(image_len) != Some(images.len()) {
            let expected = format!("{image_len} bytes of pixels for each of {} labels", labels.len());
            return wrong(expected, format!("{} bytes", images.len()));
        }
        if class_names.is_empty() || class_names.len() > usize::from(u16::MAX) + 1 {
            return wrong("1 to 65536 classes".to_owned(), class_names.len().to_string());
        }
        let has_no_class = |&label: &u16| usize::from(label) >= class_names.len();
        if let Some(index) = labels.iter().position(has_no_class) {
            let got = format!("{} at index {index}", labels[index]);
            return wrong(format!("labels below {}, the number of classes", class_names.len()), got);
        }
        let Ok(num_images) = u32::try_from(labels.len()) else {
            return wrong("fewer than 2^32 images".to_owned(), labels.len().to_string());
        };
        Ok(Dataset {
            name: "arrays".into(),
            split: Split::Train,
            shape,
            class_names,
            pixels: Arc::new(images),
            indices: (0..num_images).collect(),
            labels,
            stats: None,
        })
    }

    /// The same images under this name.
    pub fn named(self, name: &str) -> Dataset {
        Dataset { name: name.into(), ..self }
    }

    /// The same images as this split.
    pub fn with_split(self, split: Split) -> Dataset {
        Dataset { split, ..self }
    }

    /// The same images with the statistics of the training split that they belong to.
    pub(crate) fn with_stats(self, stats: Option<ChannelStats>) -> Dataset {
        Dataset { stats, ..self }
    }

    /// `num_images` black images of class 0, for building and timing what only depends on shapes.
    pub(crate) fn blank(self, num_images: usize) -> Dataset {
        let pixels = Arc::new(vec![0; self.image_len_bytes()]);
        Dataset { pixels, indices: vec![0; num_images], labels: vec![0; num_images], ..self }
    }

    /// Other images (N, C, H, W) of the same shape and classes, whose classes are yet to be found: all labels are 0
    /// and mean nothing.
    ///
    /// # Errors
    /// [`Error::Operand`] where the pixels are not a whole number of images.
    pub fn with_unlabelled(&self, images: Vec<u8>) -> Result<Dataset> {
        let image_len = self.image_len_bytes();
        if !images.len().is_multiple_of(image_len) {
            let expected = format!("a whole number of images of {image_len} bytes");
            return Err(Error::operand("unlabelled images", expected, format!("{} bytes", images.len())));
        }
        let labels = vec![0; images.len() / image_len];
        let other = Dataset::from_arrays(images, labels, self.class_names.iter().cloned(), self.shape)?;
        Ok(other.named(&self.name).with_split(Split::Test).with_stats(self.stats.clone()))
    }

    /// The data set's name, such as `fashion-mnist`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which part of it.
    pub fn split(&self) -> Split {
        self.split
    }

    /// What tells these images from others: their number, the data set's name and a checksum (CRC-32) of pixels and
    /// labels.
    pub fn fingerprint(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        self.images().for_each(|image| hasher.update(image));
        self.labels().iter().for_each(|label| hasher.update(&label.to_le_bytes()));
        format!("{} of {} with CRC-32 {:08x}", self.len(), self.name(), hasher.finalize())
    }

    /// The number of images N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// C, H and W.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Bytes of one image: C·H·W.
    pub fn image_len_bytes(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number of classes.
    pub fn num_classes(&self) -> usize {
        self.class_names.len()
    }

    /// What each label stands for.
    pub fn class_names(&self) -> Vec<&str> {
        self.class_names.iter().map(String::as_str).collect()
    }

    /// Labels (N), each below [`num_classes`](Self::num_classes).
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The name of an image's class.
    ///
    /// # Panics
    /// Where `index` is not below [`len`](Self::len), as a slice.
    pub fn class_of(&self, index: usize) -> &str {
        &self.class_names[usize::from(self.labels[index])]
    }

    /// The pixels (C, H, W) of an image, 0 to 255.
    ///
    /// # Panics
    /// Where `index` is not below [`len`](Self::len), as a slice.
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.image_len_bytes();
        &self.pixels[self.indices[index] as usize * len..][..len]
    }

    /// The pixels of every image.
    pub fn images(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.image(index))
    }

    /// A copy of the pixels of images `first..first + count`, (count, C, H, W).
    pub(crate) fn pixels_of(&self, first: usize, count: usize) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(count * self.image_len_bytes());
        (first..first + count).for_each(|index| pixels.extend_from_slice(self.image(index)));
        pixels
    }

    /// Keeps the first `num_images`; all of them where there are no more than that.
    pub fn limit(&mut self, num_images: usize) {
        self.labels.truncate(num_images);
        self.indices.truncate(num_images);
    }

    /// The images with these indices, in the given order; an index may occur more than once.
    ///
    /// # Errors
    /// [`Error::Operand`] if an index is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[u32]) -> Result<Dataset> {
        if let Some(index) = indices.iter().find(|&&index| index as usize >= self.len()) {
            return Err(Error::operand("subset", format!("indices below {}", self.len()), index.to_string()));
        }
        Ok(Dataset {
            indices: indices.iter().map(|&index| self.indices[index as usize]).collect(),
            labels: indices.iter().map(|&index| self.labels[index as usize]).collect(),
            ..self.clone()
        })
    }

    /// Puts a random share of the images aside for validation: (training, validation), both in the order of the
    /// original. The share is `fraction` of the images, rounded to a whole number, with at least one image on either side;
    /// which ones they are depends on `seed` and the number of images alone, so a run that resumes holds out the same
    /// ones.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `val_split` where it is no share, or there are fewer than two images.
    pub fn hold_out(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        // Below 2^32, as `from_arrays` checks.
        let num_images = self.len() as u32;
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::setting("val_split", "a share between 0 and 1", fraction));
        }
        if num_images < 2 {
            let expected = format!("a data set of two images or more to hold some out; it has {num_images}");
            return Err(Error::setting("val_split", expected, fraction));
        }
        // A share of a number below 2^32.
        let num_held_out = ((fraction * f64::from(num_images)).round() as u32).clamp(1, num_images - 1);
        let mut indices = Stream::named(seed, "data.val_split").permutation(num_images);
        let (held_out, kept) = indices.split_at_mut(num_held_out as usize);
        held_out.sort_unstable();
        kept.sort_unstable();
        Ok((self.subset(kept)?, self.subset(held_out)?.with_split(Split::Validation)))
    }

    /// The mean and standard deviation of the whole training split, published or computed when it was read; `None` for
    /// arrays.
    pub(crate) fn stats(&self) -> Option<&ChannelStats> {
        self.stats.as_ref()
    }
}

impl PartialEq for Dataset {
    /// Whether names, classes, labels and pixels are the same, wherever the pixels are.
    fn eq(&self, other: &Dataset) -> bool {
        (&self.name, self.split, self.shape, &self.labels) == (&other.name, other.split, other.shape, &other.labels)
            && self.class_names == other.class_names
            && self.images().eq(other.images())
    }
}

impl fmt::Debug for Dataset {
    /// What it is, without the pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [channels, height, width] = self.shape;
        let classes = self.num_classes();
        write!(
            f,
            "{} {} images ({channels}, {height}, {width}) of {} in {classes} classes",
            self.len(),
            self.split,
            self.name
        )
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
