//! Data that is not images: tensors in host memory whose rows belong together, and the batches of them that a training
//! loop written by hand goes over.

use super::{ChannelStats, DataLoader, Dataset};
use crate::exec::unknown;
use crate::tensor::{Tensor, TensorData};
use crate::{Error, Result};

/// Named tensors of the same number of rows, such as x (N, features) and y (N, 1)
/// (`torch.utils.data.TensorDataset`). The names are those of the graph's inputs.
///
/// ```
/// use wgrad::Tensor;
/// use wgrad::data::{DataLoader, TensorDataset};
///
/// # fn main() -> wgrad::Result<()> {
/// let x = Tensor::f32([4, 1], vec![0.0, 1.0, 2.0, 3.0])?;
/// let y = Tensor::f32([4, 1], vec![1.0, 3.0, 5.0, 7.0])?;
/// let data = TensorDataset::new([("x", x), ("y", y)])?;
/// let loader = DataLoader::new(data.len(), 2)?;
/// for batch in data.batches(&loader, 0) {
///     assert_eq!(batch.get("x")?.shape().dims(), [2, 1]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDataset {
    tensors: Vec<(String, Tensor)>,
    num_rows: u32,
}

/// Some rows of a [`TensorDataset`], under the same names.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorBatch {
    tensors: Vec<(String, Tensor)>,
}

impl TensorDataset {
    /// A data set of the given columns.
    ///
    /// # Errors
    /// [`Error::Operand`] where there are none, one is a scalar, or the numbers of rows differ.
    pub fn new<S: Into<String>>(tensors: impl IntoIterator<Item = (S, Tensor)>) -> Result<Self> {
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        let rows: Vec<Option<usize>> =
            tensors.iter().map(|(_, tensor)| tensor.shape().dims().first().copied()).collect();
        let num_rows = match rows.as_slice() {
            [Some(first), rest @ ..] if rest.iter().all(|rows| rows == &Some(*first)) => u32::try_from(*first).ok(),
            _ => None,
        };
        let Some(num_rows) = num_rows else {
            let shapes: Vec<String> =
                tensors.iter().map(|(name, tensor)| format!("{name} {}", tensor.shape())).collect();
            return Err(Error::operand("tensor data set", "tensors (N, …) of one N below 2^32", shapes.join(", ")));
        };
        Ok(TensorDataset { tensors, num_rows })
    }

    /// The number of rows N.
    pub fn len(&self) -> u32 {
        self.num_rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.num_rows == 0
    }

    /// The rows with these indices, in the given order.
    ///
    /// # Errors
    /// [`Error::Operand`] if an index is not below [`len`](Self::len).
    pub fn rows(&self, indices: &[u32]) -> Result<TensorBatch> {
        if let Some(index) = indices.iter().find(|&&index| index >= self.num_rows) {
            return Err(Error::operand("rows", format!("indices below {}", self.num_rows), index.to_string()));
        }
        Ok(self.take(indices))
    }

    /// All rows.
    pub fn all(&self) -> TensorBatch {
        TensorBatch { tensors: self.tensors.clone() }
    }

    /// The batches of an epoch, in the loader's order. Rows that the loader counts and this set lacks are left out.
    pub fn batches(&self, loader: &DataLoader, epoch: u64) -> impl Iterator<Item = TensorBatch> {
        let order = loader.order(epoch);
        loader.batches().map(move |batch| {
            let indices: Vec<u32> =
                order[batch.range()].iter().copied().filter(|&index| index < self.num_rows).collect();
            self.take(&indices)
        })
    }

    fn take(&self, indices: &[u32]) -> TensorBatch {
        let take = |(name, tensor): &(String, Tensor)| (name.clone(), take_rows(tensor, indices));
        TensorBatch { tensors: self.tensors.iter().map(take).collect() }
    }
}

impl TensorBatch {
    /// A column.
    ///
    /// # Errors
    /// [`Error::UnknownName`] where the data set has none of that name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let found = self.tensors.iter().find(|(known, _)| known == name);
        let columns = self.tensors.iter().map(|(known, _)| known);
        found.map(|(_, tensor)| tensor).ok_or_else(|| unknown("column", name, columns))
    }

    /// The columns and their names, for [`Program::write_all`](crate::Program::write_all).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

impl Dataset {
    /// The images with these indices as floats (N, C, H, W), `(pixel / 255 − mean[c]) / std[c]`, and their labels (N):
    /// a batch for a training loop written by hand. A [`Session`](crate::train::Session) does the same on the device.
    ///
    /// # Errors
    /// [`Error::Operand`] if an index is not below [`len`](Self::len), or there are not as many statistics as channels.
    pub fn batch(&self, indices: &[u32], normalize: &ChannelStats) -> Result<(Tensor, Tensor)> {
        let [channels, height, width] = self.shape();
        let picked = self.subset(indices)?;
        let images = normalize.apply(picked.images(), channels)?;
        let labels = picked.labels().iter().map(|&label| u32::from(label)).collect();
        let shape = [indices.len(), channels, height, width];
        Ok((Tensor::f32(shape, images)?, Tensor::u32([indices.len()], labels)?))
    }
}

fn take_rows(tensor: &Tensor, indices: &[u32]) -> Tensor {
    let mut shape = tensor.shape().dims().to_vec();
    let row_len: usize = shape[1..].iter().product();
    shape[0] = indices.len();
    fn pick<T: Copy>(data: &[T], row_len: usize, indices: &[u32]) -> Vec<T> {
        let row = |&index: &u32| &data[index as usize * row_len..(index as usize + 1) * row_len];
        indices.iter().flat_map(row).copied().collect()
    }
    let data = match tensor.data() {
        TensorData::F32(data) => TensorData::F32(pick(data, row_len, indices)),
        TensorData::F64(data) => TensorData::F64(pick(data, row_len, indices)),
        TensorData::U32(data) => TensorData::U32(pick(data, row_len, indices)),
        TensorData::U8(data) => TensorData::U8(pick(data, row_len, indices)),
    };
    Tensor::new(shape, data).expect("one row was taken for each index")
}
