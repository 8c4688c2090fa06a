//! Files are written whole: to a temporary file in the same folder, synced, then renamed. Readers see either the old or
//! the new contents, whatever happens in between. What is no file (standard output, a pipe, a device) is written
//! to as it is.

use std::fs::TryLockError;
pub(crate) use std::fs::{File, create_dir, create_dir_all, read, read_to_string};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A lock that is held until it is dropped, however the process ends.
pub(crate) type Lock = File;

/// A file to append to.
#[cfg(feature = "report")]
pub(crate) type Appended = File;

pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}

pub(crate) fn is_file(path: &Path) -> bool {
    path.is_file()
}

pub(crate) fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

pub(crate) fn canonical(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

/// A file to read, and its length in bytes.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let num_bytes = file.metadata()?.len();
    Ok((file, num_bytes))
}

/// What is in a folder, itself and not below it.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// Removes a file, or a folder with everything in it. What cannot be removed stays: it is only ever in the way of space.
pub(crate) fn remove(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// What tells the files of this process from those of others.
#[cfg(feature = "report")]
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// Makes a file to append to, where there is none.
#[cfg(feature = "report")]
pub(crate) fn append_to_new(path: &Path) -> io::Result<Appended> {
    File::create_new(path)
}

/// Locks a file, which is made where it is missing; `None` where another process has it.
pub(crate) fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = File::create(path)?;
    match file.try_lock() {
        // Not every file system has locks; nothing else depends on them.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
    }
}

/// Writes `bytes` to `path`, replacing what is there: through symbolic links it is their target that is replaced. A new
/// file gets the permissions that the process gives new files (its umask), one that is there keeps its own.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes).map_err(Error::io("write", path))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(written) = write_to_stream(path, bytes) {
        return written;
    }
    let target = follow_links(path)?;
    let existing = std::fs::metadata(&target).ok();
    if existing.as_ref().is_some_and(|existing| !existing.is_file() && !existing.is_dir()) {
        return std::fs::OpenOptions::new().write(true).open(&target)?.write_all(bytes);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = new_file(folder)?;
    // Through the file itself, whose errors do not name it: nobody has asked for a temporary file.
    file.as_file_mut().write_all(bytes)?;
    if let Some(existing) = existing.filter(|existing| existing.is_file()) {
        file.as_file().set_permissions(existing.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    sync_folder(folder);
    Ok(())
}

/// Writes to the process's own output where the path names it. Opening that path would begin at the start of a file
/// that the output was redirected to, over what has been printed, and replacing it would leave the output without a
/// name.
fn write_to_stream(path: &Path, bytes: &[u8]) -> Option<io::Result<()>> {
    let mut stream: Box<dyn Write> = match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Box::new(io::stdout().lock()),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Box::new(io::stderr().lock()),
        _ => return None,
    };
    Some(stream.write_all(bytes).and_then(|()| stream.flush()))
}

/// Links that are followed before they count as a circle, as Linux has it.
const MAX_LINKS: usize = 40;

/// The path that symbolic links lead to, which need not exist. Only the last component of a path is followed: links
/// to folders need no treatment.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::symlink_metadata(&target) {
            // Links to open files, such as /dev/fd/3, lead to names that no file may have: the system follows them.
            Ok(found) if found.is_symlink() && std::fs::read_link(&target).is_ok_and(|to| is_name(&target, &to)) => {
                let to = std::fs::read_link(&target)?;
                target = target.parent().unwrap_or(Path::new("")).join(to);
            }
            _ => return Ok(target),
        }
    }
    Err(io::Error::other("it leads through too many symbolic links"))
}

/// Whether where a link leads to is the name of a file, there or not, and not a description like "pipe:[4711]".
fn is_name(link: &Path, to: &Path) -> bool {
    let is_description = to.to_str().is_some_and(|to| to.contains(":[") || to.ends_with(" (deleted)"));
    !(is_description && link.exists())
}

fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // The library makes files for their owner alone unless it is told otherwise; the umask applies to this.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const EVERYBODY: u32 = 0o666;
        builder.permissions(std::fs::Permissions::from_mode(EVERYBODY));
    }
    builder.tempfile_in(folder).map_err(|error| error.kind().into())
}

/// Makes a rename in `folder` last. Not every system lets a folder be synced, and the file is whole either way.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_file_has_the_permissions_of_new_files_and_an_old_one_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, ours) = (folder.path().join("plain"), folder.path().join("ours"));
        std::fs::write(&plain, "").unwrap();
        write_whole(&ours, b"1").unwrap();
        assert_eq!(mode(&ours), mode(&plain));
        for own in [0o600, 0o640, 0o666] {
            std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(own)).unwrap();
            write_whole(&ours, b"2").unwrap();
            assert_eq!((mode(&ours), std::fs::read(&ours).unwrap()), (own, b"2".to_vec()));
        }
    }

    #[test]
    fn through_links_the_target_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("models")).unwrap();
        std::fs::write(at("models/first"), "old").unwrap();
        symlink("models/first", at("latest")).unwrap();
        symlink(at("latest"), at("link to the link")).unwrap();
        write_whole(&at("link to the link"), b"new").unwrap();
        assert_eq!(std::fs::read(at("models/first")).unwrap(), b"new");
        assert!(at("latest").is_symlink() && at("link to the link").is_symlink());
        // A link to what is not there yet.
        symlink("models/second", at("next")).unwrap();
        write_whole(&at("next"), b"2").unwrap();
        assert_eq!(std::fs::read(at("models/second")).unwrap(), b"2");
        // A circle.
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        let error = write_whole(&at("a"), b"").unwrap_err().to_string();
        assert!(error.contains("symbolic links"), "{error}");
        // No temporary file is left.
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".tmp")));
    }

    #[test]
    fn devices_and_pipes_are_written_to() {
        write_whole(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read(fifo).unwrap()
        });
        write_whole(&fifo, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(!std::fs::metadata(&fifo).unwrap().is_file());
    }

    #[test]
    fn errors_name_the_file_that_was_asked_for_and_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_whole(&folder.path().join("missing/file"), b"").unwrap_err().to_string();
        assert!(error.contains("missing/file") && error.matches(".tmp").count() == 1, "{error}");
    }

    #[test]
    fn a_folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("there")).unwrap();
        assert!(write_whole(&folder.path().join("there"), b"").is_err());
        assert!(folder.path().join("there").is_dir());
    }
}
