//! The binary version of CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009): files of
//! 3,073-byte records, a label and then the red, green and blue planes of a 32×32 image. The planes are in the order
//! that training wants, so reading only parts labels from pixels.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Pixels of one image: 3 channels of 32×32.
pub const IMAGE_LEN_BYTES: usize = 3 * 32 * 32;
/// A label byte and an image.
pub const RECORD_LEN_BYTES: usize = 1 + IMAGE_LEN_BYTES;
/// The five training files, in the order to read them.
pub const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
/// The test file.
pub const TEST_FILE: &str = "test_batch.bin";

const NUM_CLASSES: u8 = 10;

/// Images and labels of one or more files, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Pixels (N, 3, 32, 32), channels red, green, blue.
    pub images: Vec<u8>,
    /// Labels (N), each below 10.
    pub labels: Vec<u8>,
}

/// Appends the records of one file. Any whole number of records will do, so that excerpts of the official files (10,000
/// records each) can be read too.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if it is empty or not a whole number of records, or if a
/// label is not below 10.
pub fn read_into(path: &Path, records: &mut Records) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let file_len = file.metadata().map_err(Error::io("read", path))?.len();
    check_len(path, file_len)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    append(path, &bytes, records)
}

/// [`read_into`] from bytes already in memory; `path` is for messages only. Errors as there; what comes before a label that
/// is not one was appended then.
pub fn append(path: &Path, bytes: &[u8], records: &mut Records) -> Result<()> {
    check_len(path, bytes.len() as u64)?;
    for (index, record) in bytes.chunks_exact(RECORD_LEN_BYTES).enumerate() {
        let (label, image) = (record[0], &record[1..]);
        if label >= NUM_CLASSES {
            let expected = format!("labels below {NUM_CLASSES}");
            return Err(Error::data(path, expected, format!("{label} in record {index} (counted from 0)")));
        }
        records.labels.push(label);
        records.images.extend_from_slice(image);
    }
    Ok(())
}

fn check_len(path: &Path, file_len: u64) -> Result<()> {
    let record_len = RECORD_LEN_BYTES as u64;
    if file_len > 0 && file_len.is_multiple_of(record_len) {
        return Ok(());
    }
    let expected = format!("CIFAR-10 records of {record_len} bytes (the binary version)");
    let (whole, rest) = (file_len / record_len, file_len % record_len);
    let got = if file_len == 0 { "an empty file".to_owned() } else { format!("{whole} of them and {rest} more bytes") };
    Err(Error::data(path, expected, got))
}
