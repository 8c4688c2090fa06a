//! The binary version of CIFAR (Krizhevsky, "Learning multiple layers of features from tiny images", 2009): files of
//! records, each one label byte or two and then the red, green and blue planes of a 32×32 image. The planes are in the
//! order that training wants, so reading only parts labels from pixels.

use std::path::Path;

use super::content::description;
use super::locate::missing;
use super::source::{Files, Source};
use super::{Dataset, Split};
use crate::{Error, Result, files};

/// Pixels of one image: 3 channels of 32×32.
pub const IMAGE_LEN_BYTES: usize = 3 * 32 * 32;
/// The five training files of CIFAR-10, in the order to read them.
pub const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
/// The test file of CIFAR-10.
pub const TEST_FILE: &str = "test_batch.bin";

/// What a record is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The data set's name, for messages.
    pub name: &'static str,
    /// Label bytes before the pixels.
    pub num_labels: usize,
    /// Which of them is the label.
    pub label_index: usize,
    /// Classes that it counts.
    pub num_classes: u8,
}

impl Layout {
    /// A label below 10.
    pub const CIFAR10: Layout = Layout { name: "CIFAR-10", num_labels: 1, label_index: 0, num_classes: 10 };

    /// The labels and an image.
    pub const fn record_len_bytes(&self) -> usize {
        self.num_labels + IMAGE_LEN_BYTES
    }
}

/// Images and labels of one or more files, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Pixels (N, 3, 32, 32), channels red, green, blue.
    pub images: Vec<u8>,
    /// Labels (N), each below the layout's number of classes.
    pub labels: Vec<u16>,
}

/// Appends the records of one file. Any whole number of records will do, so that excerpts of the official files (10,000
/// records each) can be read too.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if it is empty or not a whole number of records, or if a
/// label is out of range.
pub fn read_into(path: &Path, layout: Layout, records: &mut Records) -> Result<()> {
    let bytes = files::read(path).map_err(Error::io("read", path))?;
    append(path, layout, &bytes, records)
}

/// [`read_into`] from bytes already in memory; `path` is for messages only. Errors as there; what comes before a label that
/// is out of range was appended then.
pub fn append(path: &Path, layout: Layout, bytes: &[u8], records: &mut Records) -> Result<()> {
    check_len(path, layout, bytes)?;
    for (index, record) in bytes.chunks_exact(layout.record_len_bytes()).enumerate() {
        let (labels, image) = record.split_at(layout.num_labels);
        let label = labels[layout.label_index];
        if label >= layout.num_classes {
            let expected = format!("labels below {}", layout.num_classes);
            return Err(Error::data(path, expected, format!("{label} in record {index} (counted from 0)")));
        }
        records.labels.push(u16::from(label));
        records.images.extend_from_slice(image);
    }
    Ok(())
}

fn check_len(path: &Path, layout: Layout, bytes: &[u8]) -> Result<()> {
    let (record_len, num_bytes) = (layout.record_len_bytes(), bytes.len());
    if num_bytes > 0 && num_bytes.is_multiple_of(record_len) {
        return Ok(());
    }
    let expected = format!("{} records of {record_len} bytes (the binary version)", layout.name);
    let (whole, rest) = (num_bytes / record_len, num_bytes % record_len);
    let got = match (num_bytes, description(bytes)) {
        (0, _) => "an empty file".to_owned(),
        (_, Some(what)) => format!("{what} of {num_bytes} bytes"),
        (_, None) => format!("{whole} of them and {rest} more bytes"),
    };
    Err(Error::data(path, expected, got))
}

/// The files of CIFAR-10 or CIFAR-100.
pub(super) struct CifarFiles {
    /// The folder inside the archive that they are published as.
    pub folder: &'static str,
    pub train: &'static [&'static str],
    pub test: &'static str,
    pub layout: Layout,
}

impl CifarFiles {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().copied().chain([self.test])
    }

    fn read_split(&self, dir: &Path, files: &[&str], split: Split, source: &dyn Source) -> Result<Dataset> {
        let mut records = Records::default();
        for &file in files {
            let path = dir.join(file);
            if !files::exists(&path) {
                return Err(missing(self, dir, file));
            }
            read_into(&path, self.layout, &mut records)?;
        }
        let (names, shape) = (source.class_names(None)?, source.image_shape());
        Ok(Dataset::from_arrays(records.images, records.labels, names, shape)?.with_split(split))
    }
}

impl Files for CifarFiles {
    fn subfolders(&self) -> Vec<String> {
        vec![String::new(), self.folder.to_owned()]
    }

    fn are_in(&self, dir: &Path) -> bool {
        self.all().any(|file| files::exists(&dir.join(file)))
    }

    fn first(&self) -> String {
        self.train[0].to_owned()
    }

    fn names(&self) -> String {
        format!("the binary version: {}", self.all().collect::<Vec<_>>().join(", "))
    }

    fn read(&self, dir: &Path, source: &dyn Source) -> Result<[Dataset; 2]> {
        let test = self.read_split(dir, &[self.test], Split::Test, source)?;
        Ok([self.read_split(dir, self.train, Split::Train, source)?, test])
    }
}
