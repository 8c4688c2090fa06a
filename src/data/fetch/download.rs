//! Downloads one file over HTTP. It has a `.part` name until it is complete and its checksum is verified. Interrupted
//! downloads resume, from any mirror.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::StatusCode;

use super::Event;
use crate::data::PublishedFile;
use crate::{Error, Result, files};

/// How long a mirror may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Attempts in a row on a mirror, each of which brings a little more of the file.
const ATTEMPTS: usize = 10;

/// Puts the file into `folder`, unless it is there.
///
/// # Errors
/// [`Error::Download`], [`Error::Io`].
pub(super) fn download(
    file: &PublishedFile,
    mirrors: &[String],
    folder: &Path,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let place = folder.join(&file.name);
    if place.is_file() && sha256(&mut File::open(&place).map_err(Error::io("read", &place))?, &place)? == file.sha256 {
        watch(Event::Present { file: &file.name });
        return Ok(());
    }
    let mut part = Part::open(folder.join(format!("{}.part", file.name)))?;
    let agent = agent();
    let mut attempts = Vec::new();
    for mirror in mirrors {
        let url = format!("{}/{}", mirror.trim_end_matches('/'), file.name);
        part.has_others = part.len()? > 0;
        let mut last_reason = String::new();
        for _ in 0..ATTEMPTS {
            watch(Event::Asking { file: &file.name, url: &url });
            let (reason, is_worth_another) = match receive(&agent, &url, file, &mut part, watch)? {
                Received::Whole => {
                    part.finish(&place)?;
                    watch(Event::Done { file: &file.name });
                    return Ok(());
                }
                Received::More(reason) | Received::Nothing(reason) => (reason, true),
                Received::Failed(reason) => (reason, false),
            };
            watch(Event::Failed { url: &url, reason: &reason });
            last_reason = reason;
            if !is_worth_another {
                break;
            }
        }
        attempts.push(format!("{url}: {last_reason}"));
    }
    part.discard_if_empty();
    let (file, folder) = (file.name.clone(), folder.to_owned());
    Err(Error::Download { file, attempts, folder })
}

/// What came of asking a mirror; the texts say why it was not the whole file.
enum Received {
    Whole,
    /// More of the file than there was: the connection can be taken up again.
    More(String),
    /// What was here was thrown away, since it may have been wrong: the mirror can be asked for the whole file.
    Nothing(String),
    /// No use asking it again.
    Failed(String),
}

/// Asks a mirror for what the part lacks. An error is one of this machine's files; what the network does is an outcome.
fn receive(
    agent: &Agent,
    url: &str,
    file: &PublishedFile,
    part: &mut Part,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Received> {
    let mut have = part.len()?;
    if have > file.num_bytes {
        part.truncate()?;
        have = 0;
    }
    if have < file.num_bytes {
        let mut request = agent.get(url).header("accept-encoding", "identity");
        if have > 0 {
            request = request.header("range", format!("bytes={have}-"));
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Received::Failed(error.to_string())),
        };
        let continues = starts_at(&response) == Some(have);
        let starts_over = match response.status() {
            StatusCode::OK => true,
            StatusCode::PARTIAL_CONTENT if have > 0 && continues => false,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                part.truncate()?;
                return Ok(Received::Nothing("the server cannot resume the interrupted download".to_owned()));
            }
            status => return Ok(Received::Failed(format!("the server answers {status}"))),
        };
        let missing = file.num_bytes - if starts_over { 0 } else { have };
        // What is here already is kept until it is plain that the server has the file, and not a page about it.
        if let Some(offered) = response.body().content_length().filter(|&offered| offered != missing) {
            return Ok(Received::Failed(format!("the server offers {offered} bytes where {missing} are missing")));
        }
        if starts_over {
            part.truncate()?;
            have = 0;
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 64 * 1024];
        let before = have;
        while have < file.num_bytes {
            let why = match body.read(&mut buffer) {
                Ok(0) => "the connection ended".to_owned(),
                Err(error) => error.to_string(),
                Ok(num_bytes) => {
                    // No more than was promised is kept, whatever comes.
                    let kept = num_bytes.min(usize::try_from(file.num_bytes - have).unwrap_or(usize::MAX));
                    part.append(&buffer[..kept])?;
                    have += kept as u64;
                    watch(Event::Received { bytes: have, of: file.num_bytes });
                    continue;
                }
            };
            let reason = format!("cut off after {have} of {} bytes ({why})", file.num_bytes);
            return Ok(if have > before { Received::More(reason) } else { Received::Failed(reason) });
        }
    }
    let got = part.sha256()?;
    if got == file.sha256 {
        return Ok(Received::Whole);
    }
    let reason = format!("other bytes than were published (SHA-256 {got}, expected {})", file.sha256);
    let has_others = part.has_others;
    part.truncate()?;
    Ok(if has_others { Received::Nothing(reason) } else { Received::Failed(reason) })
}

/// Where the bytes of a partial answer start: `bytes 100-199/200`.
fn starts_at<B>(response: &ureq::http::Response<B>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        // Statuses are told apart here.
        .http_status_as_error(false)
        .user_agent(concat!("wgrad/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE));
    config.build().new_agent()
}

/// A file that is not whole yet, locked so that two programs do not write to it at once.
struct Part {
    path: PathBuf,
    file: File,
    /// Whether some of its bytes are not from the mirror that is being asked.
    has_others: bool,
}

impl Part {
    fn open(path: PathBuf) -> Result<Part> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Part { path, file, has_others: false }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::data(&path, "a download of our own", "one that another program is at; wait for it"))
            }
            // Not every file system has locks; a mix-up would be found by the checksum.
            Err(TryLockError::Error(_)) => Ok(Part { path, file, has_others: false }),
        }
    }

    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(Error::io("read", &self.path))?.len())
    }

    fn truncate(&mut self) -> Result<()> {
        self.has_others = false;
        self.file.set_len(0).map_err(Error::io("write", &self.path))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(bytes));
        written.map_err(Error::io("write", &self.path))
    }

    fn sha256(&mut self) -> Result<String> {
        self.file.rewind().map_err(Error::io("read", &self.path))?;
        sha256(&mut self.file, &self.path)
    }

    /// Gives the file its name.
    fn finish(self, place: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        std::fs::rename(&self.path, place).map_err(Error::io("write", place))?;
        files::sync_folder(place.parent().unwrap_or(Path::new(".")));
        Ok(())
    }

    fn discard_if_empty(self) {
        if self.len().is_ok_and(|len| len == 0) {
            // An empty file that stays is no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn sha256(file: &mut File, path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            num_bytes => hash.update(&buffer[..num_bytes]),
        }
    }
}
