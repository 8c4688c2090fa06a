//! Files in memory, under the paths that they would have on a disk. A page puts files here for the library to read, and
//! takes what the library has written. Nothing here outlives the page: what should last, the page has to store.
//!
//! Paths are absolute: one that is relative is taken from `/`. There are no links and no permissions.

#[cfg(feature = "report")]
mod appended;

use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

#[cfg(all(feature = "report", target_arch = "wasm32"))]
pub(crate) use appended::{Appended, append_to_new, process_id};

use crate::{Error, Result};

/// What stands under a path.
#[derive(Clone)]
enum Entry {
    Folder,
    File(Arc<[u8]>),
}

static ENTRIES: Mutex<BTreeMap<PathBuf, Entry>> = Mutex::new(BTreeMap::new());

/// A file that was opened for reading, as it was then.
pub(crate) type File = Cursor<Arc<[u8]>>;

/// Nothing: there is no other process that could write to a folder.
#[cfg(target_arch = "wasm32")]
#[derive(Debug)]
pub(crate) struct Lock;

/// Puts a file under a path, and makes the folders that lead there.
///
/// # Errors
/// [`Error::Io`] where a folder is in its place, or a file in the place of one of its folders.
pub fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    create_dir_all(parent).map_err(Error::io("create", parent))?;
    write_whole(path, bytes)
}

/// The bytes of a file.
///
/// # Errors
/// [`Error::Io`] where there is none.
pub fn get(path: &Path) -> Result<Vec<u8>> {
    read(path).map_err(Error::io("read", path))
}

/// The paths of all files in a folder and those below it, in their order.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let folder = from_root(folder);
    let is_below = |(path, entry): &(&PathBuf, &Entry)| path.starts_with(&folder) && matches!(entry, Entry::File(_));
    entries().iter().filter(is_below).map(|(path, _)| path.clone()).collect()
}

/// Removes a file, or a folder with everything in it. What is not there needs no removing.
pub fn remove(path: &Path) {
    let path = from_root(path);
    entries().retain(|other, _| !other.starts_with(&path));
}

pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    match entries().get(&from_root(path)) {
        Some(Entry::File(bytes)) => Ok((Cursor::new(Arc::clone(bytes)), bytes.len() as u64)),
        Some(Entry::Folder) => Err(ErrorKind::IsADirectory.into()),
        None => Err(ErrorKind::NotFound.into()),
    }
}

pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    Ok(open(path)?.0.into_inner().to_vec())
}

pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

pub(crate) fn exists(path: &Path) -> bool {
    is_root(path) || entries().contains_key(&from_root(path))
}

pub(crate) fn is_file(path: &Path) -> bool {
    matches!(entries().get(&from_root(path)), Some(Entry::File(_)))
}

pub(crate) fn is_dir(path: &Path) -> bool {
    is_root(path) || matches!(entries().get(&from_root(path)), Some(Entry::Folder))
}

#[cfg(target_arch = "wasm32")]
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    Ok(from_root(path))
}

pub(crate) fn canonical(path: &Path) -> Option<PathBuf> {
    exists(path).then(|| from_root(path))
}

/// What is in a folder, itself and not below it.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    require_folder(folder)?;
    let folder = from_root(folder);
    Ok(entries().keys().filter(|path| path.parent() == Some(&folder)).cloned().collect())
}

pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    if exists(path) {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let path = from_root(path);
    require_folder(path.parent().unwrap_or(Path::new("/")))?;
    entries().insert(path, Entry::Folder);
    Ok(())
}

pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    if is_dir(path) {
        return Ok(());
    }
    let path = from_root(path);
    create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    create_dir(&path)
}

/// Writes `bytes` to `path`, replacing what is there.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |kind: ErrorKind| Error::io("write", path)(kind.into());
    if is_dir(path) {
        return Err(failed(ErrorKind::IsADirectory));
    }
    let target = from_root(path);
    require_folder(target.parent().unwrap_or(Path::new("/"))).map_err(Error::io("write", path))?;
    entries().insert(target, Entry::File(bytes.into()));
    Ok(())
}

#[cfg(target_arch = "wasm32")]
pub(crate) fn lock(_path: &Path) -> io::Result<Option<Lock>> {
    Ok(Some(Lock))
}

fn entries() -> MutexGuard<'static, BTreeMap<PathBuf, Entry>> {
    // A panic elsewhere leaves the map whole: it is only changed by single insertions and removals.
    ENTRIES.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn require_folder(folder: &Path) -> io::Result<()> {
    match (is_dir(folder), exists(folder)) {
        (true, _) => Ok(()),
        (false, true) => Err(ErrorKind::NotADirectory.into()),
        (false, false) => Err(ErrorKind::NotFound.into()),
    }
}

fn is_root(path: &Path) -> bool {
    from_root(path) == Path::new("/")
}

/// The path from `/`, without `.` and `..`.
fn from_root(path: &Path) -> PathBuf {
    let mut rooted = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => rooted.push(name),
            Component::ParentDir => {
                rooted.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    rooted
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_under_every_spelling_of_its_path() {
        put(Path::new("/spelling/a/b"), b"x").unwrap();
        for path in ["/spelling/a/b", "spelling/a/b", "/spelling/./c/../a/b"] {
            assert_eq!(get(Path::new(path)).unwrap(), b"x", "{path}");
            assert_eq!(read_to_string(Path::new(path)).unwrap(), "x", "{path}");
        }
        assert_eq!(canonical(Path::new("spelling/a")), Some("/spelling/a".into()));
        assert!(is_dir(Path::new("/spelling/a")) && is_dir(Path::new("/")) && !is_file(Path::new("/spelling/a")));
        remove(Path::new("/spelling/a"));
        assert!(!exists(Path::new("/spelling/a/b")) && exists(Path::new("/spelling")));
    }

    #[test]
    fn folders_are_needed_and_listed_as_on_a_disk() {
        let error = write_whole(Path::new("/listed/a"), b"").unwrap_err().to_string();
        assert!(error.contains("/listed/a"), "{error}");
        create_dir_all(Path::new("/listed/inner")).unwrap();
        assert_eq!(create_dir(Path::new("/listed")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(create_dir(Path::new("/nowhere/inner")).unwrap_err().kind(), ErrorKind::NotFound);
        put(Path::new("/listed/file"), b"1").unwrap();
        put(Path::new("/listed/inner/deep"), b"2").unwrap();
        assert_eq!(list(Path::new("/listed")).unwrap(), ["/listed/file", "/listed/inner"].map(PathBuf::from));
        assert_eq!(files_below(Path::new("/listed")), ["/listed/file", "/listed/inner/deep"].map(PathBuf::from));
        assert_eq!(list(Path::new("/listed/file")).unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(open(Path::new("/listed")).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert!(write_whole(Path::new("/listed/inner"), b"").is_err(), "a folder is not replaced");
        assert!(put(Path::new("/listed/file/below"), b"").is_err(), "a file is no folder");
    }
}
