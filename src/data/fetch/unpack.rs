//! Taking known files out of a `.tar.gz`. Names in the archive are only compared, never used as paths, so that it
//! cannot write anywhere else; links, folders and files of another length are errors or left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::data::Members;
use crate::{Error, Result, files};

/// Puts the members of an archive into their folder under `parent`.
///
/// # Errors
/// [`Error::Data`] where the archive is damaged, or lacks a member; [`Error::Io`].
pub(super) fn unpack(archive: &Path, members: &Members, parent: &Path) -> Result<()> {
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    let damaged = |error: std::io::Error| Error::data(archive, "an undamaged .tar.gz archive", error.to_string());
    let folder = parent.join(&members.folder);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut missing: BTreeMap<&str, u64> =
        members.names.iter().map(String::as_str).zip(members.num_bytes.iter().copied()).collect();
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for entry in tar.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let Some((name, num_bytes)) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| missing.remove_entry(name))
        else {
            continue;
        };
        let is_file = entry.header().entry_type().is_file();
        if !is_file || entry.size() != num_bytes {
            let got = if is_file { format!("{} bytes", entry.size()) } else { "no file".to_owned() };
            return Err(Error::data(archive, format!("{name} in it, of {num_bytes} bytes"), got));
        }
        let mut bytes = Vec::new();
        entry.take(num_bytes).read_to_end(&mut bytes).map_err(damaged)?;
        files::write_whole(&folder.join(name), &bytes)?;
    }
    match missing.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::data(archive, format!("{name} in it"), "none")),
    }
}
