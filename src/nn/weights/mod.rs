//! Model files: safetensors with PyTorch's names and layouts, so that they move both ways without a converter, and with
//! [`Metadata`] that makes each file complete.

mod elements;
mod metadata;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

pub use metadata::Metadata;
use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::exec::StateDict;
use crate::tensor::{Tensor, TensorData};
use crate::{Error, Result, files};

/// What PyTorch's wrappers put before every name: `torch.nn.DataParallel`, `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// What PyTorch keeps beside running statistics and wgrad does not.
const IGNORED_SUFFIX: &str = ".num_batches_tracked";

/// The one entry of a file's metadata. The format has a map without an order there, so more than one entry would make
/// equal files differ in bytes.
const METADATA: &str = "about";

/// The longest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A model file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// Parameters and running statistics.
    pub tensors: StateDict,
    /// What the file says of itself.
    pub metadata: Metadata,
    /// What was done to the names, as sentences to print; mostly empty.
    pub notes: Vec<String>,
}

/// Writes tensors to `path`, with what the file says of itself. Equal content gives equal bytes. What was computed in f64
/// is written as f32.
///
/// # Errors
/// [`Error::Io`].
pub fn save(path: &Path, tensors: &StateDict, metadata: &Metadata) -> Result<()> {
    let mut single = StateDict::new();
    for (name, tensor) in tensors {
        let narrowed = match tensor.data() {
            TensorData::F64(_) => Tensor::f32(tensor.shape().clone(), tensor.to_f32_vec())?,
            _ => tensor.clone(),
        };
        single.insert(name.clone(), narrowed);
    }
    let metadata = serde_json::to_string(metadata)
        .map_err(|error| Error::setting("metadata", "values that JSON can hold", error))?;
    write(path, &single, metadata)
}

/// Reads the tensors of `path`; [`read`] without the rest. Errors as there.
pub fn load(path: &Path) -> Result<StateDict> {
    Ok(read(path)?.tensors)
}

/// Reads a model file. In a file of another program, a prefix that PyTorch's wrappers put before every name (`module.` of
/// `DataParallel`, `_orig_mod.` of `torch.compile`) is taken off, with a note. Floats of 16 and 64 bits (F16, BF16, F64)
/// become floats of 32 bits, to which those of 64 are rounded.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] where the file is damaged or of another format, or holds other than floats, or a number
/// beyond the largest of 32 bits.
pub fn read(path: &Path) -> Result<ModelFile> {
    from_bytes(path, &read_bytes(path)?)
}

/// [`read`] from bytes already in memory; `path` is for messages only. Errors as there.
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<ModelFile> {
    let (mut tensors, about) = parse(path, bytes)?;
    tensors = elements::as_f32(path, tensors)?;
    let mut notes = Vec::new();
    if about.is_none() {
        while let Some(wrapper) = wrapper(&tensors) {
            tensors = tensors.into_iter().map(|(name, tensor)| (name[wrapper.len()..].to_owned(), tensor)).collect();
            notes.push(format!("\"{wrapper}\" was taken off the names of all tensors in {}", path.display()));
        }
    }
    let metadata = about.map_or_else(|| Ok(Metadata::default()), |text| Metadata::parse(path, &text))?;
    Ok(ModelFile { tensors, metadata, notes })
}

/// Reads what a file says of itself.
///
/// # Errors
/// As [`read`].
pub fn read_metadata(path: &Path) -> Result<Metadata> {
    Ok(read(path)?.metadata)
}

/// Checks that weights are numbers.
///
/// # Errors
/// [`Error::State`] naming the first tensor with a NaN or an infinity.
pub fn require_finite(tensors: &StateDict) -> Result<()> {
    for (name, tensor) in tensors {
        if let Some(value) = tensor.to_f32_vec().into_iter().find(|value| !value.is_finite()) {
            let (expected, got) = ("finite numbers".to_owned(), value.to_string());
            return Err(Error::State { name: name.clone(), expected, got });
        }
    }
    Ok(())
}

/// The wrapper's prefix that all names have.
fn wrapper(tensors: &StateDict) -> Option<&'static str> {
    let is_everywhere = |wrapper: &&&str| tensors.keys().all(|name| name.starts_with(**wrapper));
    WRAPPERS.iter().find(is_everywhere).copied().filter(|_| !tensors.is_empty())
}

/// Writes tensors as they are, with metadata.
pub(crate) fn write(path: &Path, tensors: &StateDict, metadata: String) -> Result<()> {
    let views = tensors.iter().map(|(name, tensor)| (name, Stored(tensor)));
    let metadata = HashMap::from([(METADATA.to_owned(), metadata)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| Error::State {
        name: path.display().to_string(),
        expected: "tensors that a safetensors file can hold".to_owned(),
        got: error.to_string(),
    })?;
    files::write_whole(path, &bytes)
}

/// All tensors of a safetensors file, but PyTorch's counters, and its metadata.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<(StateDict, Option<String>)> {
    let damaged = |error: safetensors::SafeTensorError| {
        Error::data(path, EXPECTED, other_format(bytes).unwrap_or_else(|| error.to_string()))
    };
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let metadata = header.metadata().as_ref().and_then(|map| map.get(METADATA)).cloned();
    let mut tensors = StateDict::new();
    for (name, view) in file.iter().filter(|(name, _)| !name.ends_with(IGNORED_SUFFIX)) {
        let data = elements::elements(&view)
            .ok_or_else(|| Error::data(path, elements::FLOATS, format!("{:?} in tensor \"{name}\"", view.dtype())))?;
        tensors.insert(name.to_owned(), Tensor::new(view.shape(), data)?);
    }
    Ok((tensors, metadata))
}

const EXPECTED: &str = "a whole safetensors file";

/// The bytes of a file that begins as safetensors files do, which is checked first, so that a disk image given by
/// mistake is not read into memory.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let (mut file, num_bytes) = files::open(path).map_err(Error::io("read", path))?;
    let (mut bytes, _) = read_start(path, &mut file, num_bytes)?;
    file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// The first eight bytes, and the length of the header that they give.
fn read_start(path: &Path, file: &mut impl Read, len: u64) -> Result<(Vec<u8>, u64)> {
    let failed = |error| Error::io("read", path)(error);
    let mut bytes = vec![0; 8];
    let header = match file.read_exact(&mut bytes) {
        Ok(()) => bytes.iter().rev().fold(0u64, |length, &byte| length << 8 | u64::from(byte)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::data(path, EXPECTED, format!("{len} bytes")));
        }
        Err(error) => return Err(failed(error)),
    };
    if header < 2 || header > MAX_HEADER_BYTES.min(len.saturating_sub(8)) {
        let got = other_format(&bytes).unwrap_or_else(|| format!("a header of {header} bytes in a file of {len}"));
        return Err(Error::data(path, EXPECTED, got));
    }
    Ok((bytes, header))
}

/// What a file that is no safetensors file is, by its first bytes: one that `torch.save` writes, a zip archive or, before
/// PyTorch 1.6, a pickle. The first byte alone may also be that of a header's length.
fn other_format(start: &[u8]) -> Option<String> {
    let kind = match start {
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x80, 2..=5, ..] => "a Python pickle",
        _ => return None,
    };
    let how = "safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")";
    Some(format!("{kind}, as torch.save writes them; in Python, {how} writes weights that can be read"))
}

/// Names the file that a tensor which does not fit came from.
pub fn in_file(path: &Path) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::State { name, expected, got } => Error::data(path, format!("tensor \"{name}\" to be {expected}"), got),
        other => other,
    }
}

fn dtype(tensor: &Tensor) -> Dtype {
    match tensor.data() {
        TensorData::F32(_) => Dtype::F32,
        TensorData::F64(_) => Dtype::F64,
        TensorData::U32(_) => Dtype::U32,
        TensorData::U8(_) => Dtype::U8,
    }
}

/// A tensor as safetensors stores it.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        dtype(self.0)
    }

    fn shape(&self) -> &[usize] {
        self.0.shape().dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.0.data() {
            TensorData::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            TensorData::F64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            TensorData::U32(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            TensorData::U8(bytes) => Cow::Borrowed(bytes),
        }
    }

    fn data_len(&self) -> usize {
        self.0.shape().num_elems() * self.dtype().bitsize() / 8
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    #[test]
    fn files_of_torch_save_are_told_how_to_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        let zip: &[u8] = b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00";
        let pickle: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M";
        for (bytes, kind) in [(zip, "a zip archive, as torch.save"), (pickle, "a Python pickle, as torch.save")] {
            std::fs::write(&path, bytes).unwrap();
            for error in [read(&path).unwrap_err(), from_bytes(&path, bytes).unwrap_err()] {
                let error = error.to_string();
                assert!(error.contains(kind) && error.contains("safetensors.torch.save_file("), "{error}");
            }
        }
        // A header of 640 bytes begins as a pickle does.
        let mut header = vec![0x80, 2, 0, 0, 0, 0, 0, 0];
        header.extend(format!("{:<640}", "{}").bytes());
        assert!(from_bytes(&path, &header).unwrap().tensors.is_empty());
    }
}
