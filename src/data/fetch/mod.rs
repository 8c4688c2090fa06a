//! Fetching the published files of a data set into the cache folder. What is published, and its checksums, stand with
//! each data set; `download` gets one file over HTTP, `unpack` takes CIFAR's archives apart. Nothing is fetched unless
//! it is asked for: [`load`](super::load) only reads.

mod download;
mod unpack;

use std::path::{Path, PathBuf};

use super::locate::cache_dir;
use super::{DataSource, Members, Published};
use crate::{Error, Result};

/// What happens while files are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The file (or all that an archive holds) was there already, whole.
    Present {
        /// The file.
        file: &'a str,
    },
    /// A mirror is being asked.
    Asking {
        /// The file.
        file: &'a str,
        /// Its address.
        url: &'a str,
    },
    /// So much of the file is here.
    Received {
        /// Bytes, with those that an earlier attempt left.
        bytes: u64,
        /// Bytes of the whole file.
        of: u64,
    },
    /// A mirror did not deliver the whole file. Another attempt follows, or an error that lists all attempts.
    Failed {
        /// Its address.
        url: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// The file is here, and its checksum is right.
    Done {
        /// The file.
        file: &'a str,
    },
}

/// Downloads a data set's files into `<cache>/<name>` (see [`cache_dir`]), where [`load`](super::load) finds them, and
/// gives that folder. Files that are there already, with the right checksum, are not fetched again. `from` is asked
/// instead of the usual mirrors; the checksums stay the same, so it need not be trusted.
///
/// # Errors
/// [`Error::Download`] with what every mirror said; [`Error::Io`]; [`Error::Setting`] where there is no cache folder,
/// or nothing is published.
pub fn fetch(source: &DataSource, from: Option<&str>, watch: &mut dyn FnMut(Event<'_>)) -> Result<PathBuf> {
    let Some(cache) = cache_dir() else {
        return Err(Error::setting(
            "HOME or XDG_CACHE_HOME",
            "the absolute path of a folder to keep data sets in",
            "nothing",
        ));
    };
    let Some(mut published) = source.get().published() else {
        let expected = format!("a data set that can be downloaded ({})", downloadable().join(", "));
        return Err(Error::setting("dataset", expected, source.name()));
    };
    if let Some(mirror) = from {
        published.mirrors = vec![mirror.to_owned()];
    }
    let folder = cache.join(source.name());
    published.fetch_into(&folder, watch)?;
    Ok(folder)
}

/// The names of data sets that can be downloaded.
fn downloadable() -> Vec<&'static str> {
    let named = DataSource::ENTRIES.iter().filter_map(|entry| DataSource::named(entry.name).ok());
    named.filter(|source| source.get().published().is_some()).map(|source| source.name()).collect()
}

impl Published {
    /// Downloads the files into `folder`, which is made where it is missing. A file that is not whole yet has `.part`
    /// after its name and is continued the next time.
    ///
    /// # Errors
    /// As [`fetch`].
    pub fn fetch_into(&self, folder: &Path, watch: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        if let Some(members) = &self.members
            && members.are_in(folder)
        {
            self.files.iter().for_each(|file| watch(Event::Present { file: &file.name }));
            return Ok(());
        }
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        for file in &self.files {
            download::download(file, &self.mirrors, folder, watch)?;
            if let Some(members) = &self.members {
                let archive = folder.join(&file.name);
                unpack::unpack(&archive, members, folder)?;
                // What it held is there now, and takes as much room again.
                std::fs::remove_file(&archive).map_err(Error::io("remove", &archive))?;
            }
        }
        Ok(())
    }
}

impl Members {
    fn are_in(&self, folder: &Path) -> bool {
        let is_whole = |(name, &num_bytes): (&String, &u64)| {
            let path = folder.join(&self.folder).join(name);
            path.metadata().is_ok_and(|file| file.is_file() && file.len() == num_bytes)
        };
        self.names.iter().zip(&self.num_bytes).all(is_whole)
    }
}
