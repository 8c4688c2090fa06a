//! What publishers offer for download: names, lengths, checksums, addresses. Downloading itself is [`fetch`](super::fetch).

/// What a publisher offers for download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The files to download.
    pub files: Vec<PublishedFile>,
    /// Addresses that the files' names are appended to, in the order to try them.
    pub mirrors: Vec<String>,
    /// Where the file is an archive: what to take out of it.
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

/// The files to take out of a `.tar.gz` archive; everything else in it is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The folder that they are put into.
    pub folder: String,
    /// Their names, without folders.
    pub names: Vec<String>,
    /// The length of each.
    pub num_bytes: Vec<u64>,
}

impl Published {
    /// Files as (name, length in bytes, SHA-256), at these addresses.
    pub fn new(files: &[(&str, u64, &str)], mirrors: &[&str]) -> Published {
        let file = |&(name, num_bytes, sha256): &(&str, u64, &str)| PublishedFile {
            name: name.to_owned(),
            sha256: sha256.to_owned(),
            num_bytes,
        };
        Published {
            files: files.iter().map(file).collect(),
            mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
            members: None,
        }
    }

    /// The same, as an archive of these files.
    pub fn holding(self, folder: &str, members: impl IntoIterator<Item = (&'static str, u64)>) -> Published {
        let (names, num_bytes) = members.into_iter().map(|(name, len)| (name.to_owned(), len)).unzip();
        Published { members: Some(Members { folder: folder.to_owned(), names, num_bytes }), ..self }
    }
}
