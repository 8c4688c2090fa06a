//! Data sets in four IDX files, such as MNIST: images and labels of the training and of the test split, under the
//! spellings and in the folders that they are found in.

use std::path::{Path, PathBuf};

use super::locate::missing;
use super::source::{Files, Source};
use super::{Dataset, Split, idx};
use crate::{Error, Result, files};

/// Four IDX files in a folder.
pub(super) struct IdxFiles {
    /// torchvision's name for the data set: its files are in `<root>/<name>/raw`.
    torchvision: &'static str,
    /// The folder inside the archive that they are published as.
    archive: Option<&'static str>,
    /// The page that offers them, where they cannot be fetched one by one.
    page: Option<&'static str>,
    /// Names without `.gz` of the training images and labels, then those for testing.
    stems: [String; 4],
    /// The label of the first class.
    first_label: u8,
    /// Whether rows and columns are exchanged.
    is_transposed: bool,
}

impl IdxFiles {
    /// Files with MNIST's names.
    pub fn new(torchvision: &'static str) -> IdxFiles {
        IdxFiles::with_stems(torchvision, "train", "t10k")
    }

    /// Files whose names start with this for training and this for testing.
    pub fn with_stems(torchvision: &'static str, train: &str, test: &str) -> IdxFiles {
        let images = |split: &str| format!("{split}-images-idx3-ubyte");
        let labels = |split: &str| format!("{split}-labels-idx1-ubyte");
        let stems = [images(train), labels(train), images(test), labels(test)];
        IdxFiles { torchvision, archive: None, page: None, stems, first_label: 0, is_transposed: false }
    }

    /// The same, which may also be in this folder of their archive.
    pub fn also_in(self, archive: &'static str) -> IdxFiles {
        IdxFiles { archive: Some(archive), ..self }
    }

    /// The same, which this page offers.
    pub fn offered_at(self, page: &'static str) -> IdxFiles {
        IdxFiles { page: Some(page), ..self }
    }

    /// The same, with labels that count from this one.
    pub fn counting_from(self, first_label: u8) -> IdxFiles {
        IdxFiles { first_label, ..self }
    }

    /// The same, with rows and columns exchanged.
    pub fn transposed(self) -> IdxFiles {
        IdxFiles { is_transposed: true, ..self }
    }

    fn read_split(&self, dir: &Path, stems: &[String], split: Split, source: &dyn Source) -> Result<Dataset> {
        let path = |stem: &str| find(dir, stem).ok_or_else(|| missing(self, dir, &format!("{stem}.gz")));
        let [images_path, labels_path] = [path(&stems[0])?, path(&stems[1])?];
        // The labels first: they are small, so what is wrong with them is found early.
        let labels = idx::read_labels(&labels_path)?;
        let images = idx::read_images(&images_path)?;
        let pair = IdxPair { images_path, labels_path, images, labels };
        pair.into_dataset(self.first_label, self.is_transposed, split, source)
    }
}

impl Files for IdxFiles {
    fn subfolders(&self) -> Vec<String> {
        let torchvision = self.torchvision;
        let nested = [String::new(), "raw".to_owned(), format!("{torchvision}/raw"), torchvision.to_owned()];
        nested.into_iter().chain(self.archive.map(str::to_owned)).collect()
    }

    fn are_in(&self, dir: &Path) -> bool {
        self.stems.iter().any(|stem| find(dir, stem).is_some())
    }

    fn first(&self) -> String {
        format!("{}.gz", self.stems[0])
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.stems.iter().map(|stem| format!("{stem}.gz")).collect();
        let page = self.page.map(|page| format!("; from {page}")).unwrap_or_default();
        format!("{}, with or without .gz{page}", names.join(", "))
    }

    fn read(&self, dir: &Path, source: &dyn Source) -> Result<[Dataset; 2]> {
        let test = self.read_split(dir, &self.stems[2..], Split::Test, source)?;
        Ok([self.read_split(dir, &self.stems[..2], Split::Train, source)?, test])
    }
}

/// The file as it is published, unpacked, with a dot before `idx`, or in a folder of its own name, which is what some
/// unpacking programs make.
fn find(dir: &Path, stem: &str) -> Option<PathBuf> {
    let dotted = stem.replace("-idx", ".idx");
    let names = [format!("{stem}.gz"), stem.to_owned(), format!("{dotted}.gz"), dotted];
    let inside = names.iter().flat_map(|folder| names.iter().map(move |name| dir.join(folder).join(name)));
    names.iter().map(|name| dir.join(name)).chain(inside).find(|path| files::is_file(path))
}

/// The two IDX files of a split, before it is known that they belong together.
pub(super) struct IdxPair {
    pub images_path: PathBuf,
    pub labels_path: PathBuf,
    pub images: idx::Images,
    pub labels: Vec<u8>,
}

impl IdxPair {
    pub fn into_dataset(
        self,
        first_label: u8,
        is_transposed: bool,
        split: Split,
        source: &dyn Source,
    ) -> Result<Dataset> {
        let shape @ [_, height, width] = source.image_shape();
        let idx::Images { mut pixels, num_images, .. } = self.images;
        if (self.images.height, self.images.width) != (height, width) {
            let got = format!("{}×{}", self.images.height, self.images.width);
            return Err(Error::data(&self.images_path, format!("images of {height}×{width} pixels"), got));
        }
        if num_images != self.labels.len() {
            let expected = format!("a label for each of the {num_images} images in {}", self.images_path.display());
            return Err(Error::data(&self.labels_path, expected, format!("{} labels", self.labels.len())));
        }
        let class_names = source.class_names(None)?;
        let is_class = |&label: &u8| label >= first_label && usize::from(label - first_label) < class_names.len();
        if let Some(index) = self.labels.iter().position(|label| !is_class(label)) {
            let expected = match first_label {
                0 => format!("labels below {}", class_names.len()),
                first => format!("labels from {first} to {}", usize::from(first) + class_names.len() - 1),
            };
            return Err(Error::data(&self.labels_path, expected, format!("{} at index {index}", self.labels[index])));
        }
        if is_transposed {
            pixels.chunks_exact_mut(height * width).for_each(|image| transpose(image, height));
        }
        let labels = self.labels.iter().map(|label| u16::from(label - first_label)).collect();
        Ok(Dataset::from_arrays(pixels, labels, class_names, shape)?.with_split(split))
    }
}

/// Exchanges rows and columns of a square image.
fn transpose(image: &mut [u8], side: usize) {
    for row in 0..side {
        for column in row + 1..side {
            image.swap(row * side + column, column * side + row);
        }
    }
}
