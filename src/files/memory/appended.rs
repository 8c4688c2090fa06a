//! Files that grow in memory, which only reports have: TensorBoard's events.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{exists, write_whole};

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Appended {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// There is one process.
#[cfg(target_arch = "wasm32")]
pub(crate) fn process_id() -> u32 {
    1
}

/// Makes a file to append to, where there is none.
pub(crate) fn append_to_new(path: &Path) -> io::Result<Appended> {
    if exists(path) {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let mut file = Appended { path: path.to_owned(), bytes: Vec::new() };
    file.flush()?;
    Ok(file)
}

impl Appended {
    pub fn sync_data(&mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        write_whole(&self.path, &self.bytes).map_err(io::Error::other)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::super::{create_dir_all, read_to_string};
    use super::*;

    #[test]
    fn a_file_grows_by_what_is_appended() {
        create_dir_all(Path::new("/grown")).unwrap();
        let mut file = append_to_new(Path::new("/grown/file")).unwrap();
        file.write_all(b"one ").unwrap();
        file.write_all(b"two").unwrap();
        file.sync_data().unwrap();
        assert_eq!(read_to_string(Path::new("/grown/file")).unwrap(), "one two");
        assert_eq!(append_to_new(Path::new("/grown/file")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
