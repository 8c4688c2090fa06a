//! A trial's folder as bytes, for ranks that have no file system in common.
//!
//! A folder may be packed while its run writes to it. Each file is written whole, and the checkpoint is packed first and
//! unpacked last, so that it is never of a later epoch than the files beside it. What those have of later epochs a run
//! leaves out when it resumes.

use std::io::ErrorKind;
use std::path::Path;

use crate::run::folder::FILES;
use crate::{Error, Result, files};

/// Bytes of a length.
const LEN: usize = size_of::<u64>();

/// The files of a run's folder that are there: for each of [`FILES`] its length plus one and its bytes, or a zero.
///
/// # Errors
/// [`Error::Io`] where one cannot be read.
pub(super) fn pack(folder: &Path) -> Result<Vec<u8>> {
    let mut parcel = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        match files::read(&path) {
            Ok(bytes) => {
                parcel.extend((bytes.len() as u64 + 1).to_le_bytes());
                parcel.extend(bytes);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => parcel.extend([0; LEN]),
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
    }
    Ok(parcel)
}

/// Writes what [`pack`] gave into a folder, which is made where it is missing and there is something to write.
///
/// # Errors
/// [`Error::Io`]; [`Error::Rank`] where the bytes are no parcel.
pub(super) fn unpack(mut parcel: &[u8], folder: &Path) -> Result<()> {
    let damaged = || Error::Rank { rank: 0, message: "a trial's files have come in pieces".to_owned() };
    let mut found = Vec::new();
    for name in FILES {
        let (len, rest) = parcel.split_first_chunk::<LEN>().ok_or_else(damaged)?;
        // Lengths of messages in memory.
        let len = u64::from_le_bytes(*len) as usize;
        let (bytes, rest) = rest.split_at_checked(len.saturating_sub(1)).ok_or_else(damaged)?;
        parcel = rest;
        if len > 0 {
            found.push((folder.join(name), bytes));
        }
    }
    if !found.is_empty() {
        files::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    found.iter().rev().try_for_each(|(path, bytes)| files::write_whole(path, bytes))
}
