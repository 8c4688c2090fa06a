//! Model files: safetensors with PyTorch's names and layouts, so that they move both ways without a converter.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::exec::StateDict;
use crate::tensor::{DType, Tensor, TensorData};
use crate::{Error, Result, files};

/// What PyTorch keeps beside running statistics and wgrad does not.
const IGNORED_SUFFIX: &str = ".num_batches_tracked";

/// Writes tensors to `path`, with a few words about where they come from.
///
/// # Errors
/// [`Error::Io`]; [`Error::State`] where a tensor is of a kind that model files do not hold.
pub fn save(path: &Path, tensors: &StateDict, about: &[(&str, String)]) -> Result<()> {
    let views = tensors.iter().map(|(name, tensor)| (name, Stored(tensor)));
    // The format's metadata is a map without an order, so more than one entry would make equal models differ in bytes.
    let about: Vec<String> = about.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    let about = HashMap::from([("about".to_owned(), about.join("\n"))]);
    let bytes = safetensors::serialize(views, Some(about)).map_err(|error| Error::State {
        name: path.display().to_string(),
        expected: "tensors that a safetensors file can hold".to_owned(),
        got: error.to_string(),
    })?;
    files::write_whole(path, &bytes)
}

/// Reads the tensors of `path`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] where the file is damaged, or holds other than 32-bit floats.
pub fn load(path: &Path) -> Result<StateDict> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::data(path, "a whole safetensors file", error.to_string()))?;
    let mut tensors = StateDict::new();
    for (name, view) in file.iter() {
        if name.ends_with(IGNORED_SUFFIX) {
            continue;
        }
        if view.dtype() != Dtype::F32 {
            let got = format!("{:?} in tensor \"{name}\"", view.dtype());
            return Err(Error::data(path, "32-bit floats (F32)", got));
        }
        let values = view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        tensors.insert(name.to_owned(), Tensor::f32(view.shape(), values)?);
    }
    Ok(tensors)
}

/// Names the file that a tensor which does not fit came from.
pub(crate) fn in_file(path: &Path) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::State { name, expected, got } => Error::data(path, format!("tensor \"{name}\" to be {expected}"), got),
        other => other,
    }
}

/// A tensor as safetensors stores it.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.0.dtype() {
            DType::F32 => Dtype::F32,
            DType::U32 => Dtype::U32,
            DType::U8 => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.shape().dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.0.data() {
            TensorData::U32(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            TensorData::U8(bytes) => Cow::Borrowed(bytes),
            TensorData::F32(_) | TensorData::F64(_) => {
                self.0.to_f32_vec().iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.0.ty().shape.num_elems() * self.0.dtype().size_bytes()
    }
}
