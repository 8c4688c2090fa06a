//! The IDX format of MNIST and FashionMNIST, plain or gzip: big-endian header, then bytes (LeCun, Cortes and Burges,
//! "The MNIST database of handwritten digits"). Reads one file at a time; [`load`](super::load) checks that images and
//! labels belong together. Memory grows with the bytes that are really there, never with what a header claims.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::content::description;
use crate::{Error, Result, files};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
/// Bytes of a file that tell what it is.
const START_LEN_BYTES: u64 = 512;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What deflate can make of one byte at the very most (zlib, "Technical details": 1032:1), rounded up.
const MAX_GZIP_RATIO: u64 = 1040;

/// The images of one IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Pixels (N, H, W), row-major, 0 is black.
    pub pixels: Vec<u8>,
    /// N, at least 1.
    pub num_images: usize,
    /// H in pixels, at least 1.
    pub height: usize,
    /// W in pixels, at least 1.
    pub width: usize,
}

/// Reads an image file (magic 0x00000803), plain or gzip by its first bytes, whatever its name ends in.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if it is truncated, damaged, of another format, claims
/// no images or more than it holds, or has bytes left over.
pub fn read_images(path: &Path) -> Result<Images> {
    let (reader, file_len) = open(path)?;
    images_from(path, reader, file_len)
}

/// Reads a label file (magic 0x00000801), plain or gzip by its first bytes: one label (N) a byte. The labels' range
/// depends on the data set and is checked by [`load`](super::load).
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let (reader, file_len) = open(path)?;
    labels_from(path, reader, file_len)
}

/// [`read_images`] from a reader of `file_len` bytes; `path` is for messages only. Errors as there.
pub fn images_from(path: &Path, reader: impl BufRead, file_len: u64) -> Result<Images> {
    let idx = Source::new(path, file_len);
    let ([num_images, height, width], pixels) = idx.read(reader, IMAGES_MAGIC)?;
    Ok(Images { pixels, num_images, height, width })
}

/// [`read_labels`] from a reader of `file_len` bytes; `path` is for messages only. Errors as there.
pub fn labels_from(path: &Path, reader: impl BufRead, file_len: u64) -> Result<Vec<u8>> {
    let ([_], labels) = Source::new(path, file_len).read(reader, LABELS_MAGIC)?;
    Ok(labels)
}

fn open(path: &Path) -> Result<(impl BufRead, u64)> {
    let (file, file_len) = files::open(path).map_err(Error::io("read", path))?;
    Ok((BufReader::new(file), file_len))
}

/// What every message and bound needs to know of the file.
struct Source<'a> {
    path: &'a Path,
    /// Bytes on disk, compressed where the file is.
    file_len: u64,
}

impl<'a> Source<'a> {
    fn new(path: &'a Path, file_len: u64) -> Self {
        Source { path, file_len }
    }

    /// The extents in the header and the bytes after it, out of a plain or a gzip stream.
    fn read<const RANK: usize>(&self, mut reader: impl BufRead, magic: u32) -> Result<([usize; RANK], Vec<u8>)> {
        let start = reader.fill_buf().map_err(|source| self.broken(source))?;
        if start.starts_with(&GZIP_MAGIC) {
            let max_len = self.file_len.saturating_mul(MAX_GZIP_RATIO);
            self.read_plain(MultiGzDecoder::new(reader), magic, max_len)
        } else {
            self.read_plain(reader, magic, self.file_len)
        }
    }

    /// `max_len`: more bytes than the stream can possibly hold, header included.
    fn read_plain<const RANK: usize>(
        &self,
        mut reader: impl Read,
        magic: u32,
        max_len: u64,
    ) -> Result<([usize; RANK], Vec<u8>)> {
        let got = self.read_word(&mut reader)?;
        if got != magic {
            return Err(self.other(got, magic, reader));
        }
        let mut extents = [0; RANK];
        for extent in &mut extents {
            *extent = self.read_word(&mut reader)?;
        }
        if extents.contains(&0) {
            return Err(Error::data(self.path, "extents of at least 1 in the header", format!("{extents:?}")));
        }
        let body_len = extents.iter().try_fold(1, |len: u64, &extent| len.checked_mul(u64::from(extent)));
        let Some(body_len) = body_len.filter(|&len| len <= max_len) else {
            let got = format!("a file of {} bytes, too short to hold them", self.file_len);
            return Err(Error::data(self.path, format!("the {extents:?} bytes that the header promises"), got));
        };

        // One byte more than promised: enough to notice that there is more, and all that a gzip bomb gets. The vector
        // grows with what arrives. Reading on to the end also makes the decoder check the gzip checksum.
        let mut body = Vec::new();
        reader.take(body_len.saturating_add(1)).read_to_end(&mut body).map_err(|source| self.broken(source))?;
        let got_len = body.len() as u64;
        if got_len != body_len {
            let got = if got_len > body_len { "more".to_owned() } else { format!("only {got_len}") };
            return Err(Error::data(self.path, format!("{body_len} bytes after the header"), got));
        }
        // An extent is at most `body_len`, which is the length of a vector, so a usize holds it.
        Ok((extents.map(|extent| extent as usize), body))
    }

    /// The error of a file that is no IDX file, or one of another kind: says what it is, where its start tells.
    fn other(&self, word: u32, magic: u32, reader: impl Read) -> Error {
        let mut start = word.to_be_bytes().to_vec();
        // What cannot be read is not described.
        let _ = reader.take(START_LEN_BYTES).read_to_end(&mut start);
        let got = match (word, description(&start)) {
            (IMAGES_MAGIC, _) => format!("0x{word:08x}, the images of a data set"),
            (LABELS_MAGIC, _) => format!("0x{word:08x}, the labels of a data set"),
            _ if start.starts_with(&GZIP_MAGIC) => "a gzip file inside the gzip file; unpack it once".to_owned(),
            (_, Some(what)) => what.to_owned(),
            (_, None) => format!("0x{word:08x}"),
        };
        Error::data(self.path, format!("the IDX magic number 0x{magic:08x}, plain or gzip"), got)
    }

    fn read_word(&self, reader: &mut impl Read) -> Result<u32> {
        let mut word = [0; 4];
        match reader.read_exact(&mut word) {
            Ok(()) => Ok(u32::from_be_bytes(word)),
            Err(source) if source.kind() == ErrorKind::UnexpectedEof => {
                let got = format!("a file of {} bytes that ends within it", self.file_len);
                Err(Error::data(self.path, "an IDX header", got))
            }
            Err(source) => Err(self.broken(source)),
        }
    }

    /// The decoder's complaint about a damaged stream, or the operating system's about the file.
    fn broken(&self, source: io::Error) -> Error {
        match source.kind() {
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                Error::data(self.path, "an undamaged gzip stream", format!("{source}; fetch the file again"))
            }
            _ => Error::io("read", self.path)(source),
        }
    }
}
