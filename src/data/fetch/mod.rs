//! Fetching the published files of a data set into the cache folder. What is published, and its checksums, stand
//! here; `download` gets one file over HTTP, `unpack` takes CIFAR-10's archive apart. Nothing is fetched unless it is
//! asked for: [`load`](super::load) only reads.

mod download;
mod unpack;

use std::path::{Path, PathBuf};

use super::locate::{CIFAR_DIR, cache_dir, cifar_files};
use super::{DatasetName, cifar};
use crate::{Error, Result};

/// What a publisher offers for download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The files to download.
    pub files: Vec<PublishedFile>,
    /// Addresses that the files' names are appended to, in the order to try them.
    pub mirrors: Vec<String>,
    /// Where the file is a `.tar.gz`: what to take out of it.
    pub members: Option<Members>,
}

/// A file as its publisher offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// Its name.
    pub name: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its length.
    pub num_bytes: u64,
}

/// The files to take out of an archive; nothing else in it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The folder that they are put into.
    pub folder: String,
    /// Their names, without folders.
    pub names: Vec<String>,
    /// The length of each.
    pub num_bytes: u64,
}

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
    /// A mirror did not give the whole file; another attempt follows, or an error that has all of them.
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
/// [`Error::Download`] with what every mirror said; [`Error::Io`]; [`Error::Setting`] where there is no cache folder.
pub fn fetch(name: DatasetName, from: Option<&str>, watch: &mut dyn FnMut(Event<'_>)) -> Result<PathBuf> {
    let Some(cache) = cache_dir() else {
        return Err(Error::setting(
            "HOME or XDG_CACHE_HOME",
            "the absolute path of a folder to keep data sets in",
            "nothing",
        ));
    };
    let mut published = Published::of(name);
    if let Some(mirror) = from {
        published.mirrors = vec![mirror.to_owned()];
    }
    let folder = cache.join(name.to_string());
    published.fetch_into(&folder, watch)?;
    Ok(folder)
}

impl Published {
    /// What is published of a data set. The checksums are those of the files whose MD5 the publishers and torchvision
    /// give.
    pub fn of(name: DatasetName) -> Published {
        let file = |(name, num_bytes, sha256): (&str, u64, &str)| PublishedFile {
            name: name.to_owned(),
            sha256: sha256.to_owned(),
            num_bytes,
        };
        let (files, mirrors): (&[_], &[&str]) = match name {
            DatasetName::FashionMnist => (&FASHION_MNIST, &FASHION_MNIST_MIRRORS),
            DatasetName::Mnist => (&MNIST, &MNIST_MIRRORS),
            DatasetName::Cifar10 => (&CIFAR10, &CIFAR10_MIRRORS),
        };
        let members = (name == DatasetName::Cifar10).then(|| Members {
            folder: CIFAR_DIR.to_owned(),
            names: cifar_files().map(str::to_owned).collect(),
            num_bytes: 10_000 * cifar::RECORD_LEN_BYTES as u64,
        });
        Published {
            files: files.iter().copied().map(file).collect(),
            mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
            members,
        }
    }

    /// Downloads the files into `folder`, which is made where it is missing. A file that is not whole yet has `.part`
    /// behind its name and is gone on with the next time.
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
        let is_whole = |name: &String| {
            let path = folder.join(&self.folder).join(name);
            path.metadata().is_ok_and(|file| file.is_file() && file.len() == self.num_bytes)
        };
        self.names.iter().all(is_whole)
    }
}

type File = (&'static str, u64, &'static str);

// The publisher's own page asks to be spared; these two are copies that PyTorch and TensorFlow keep.
const MNIST_MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"];
const MNIST: [File; 4] = [
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
];

// The publisher's repository, a copy that TensorFlow keeps, and the publisher's server, which has no TLS: the checksum
// tells whether what came is right.
const FASHION_MNIST_MIRRORS: [&str; 3] = [
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
];
const FASHION_MNIST: [File; 4] = [
    ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
];

const CIFAR10_MIRRORS: [&str; 1] = ["https://www.cs.toronto.edu/~kriz/"];
const CIFAR10: [File; 1] =
    [("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")];
