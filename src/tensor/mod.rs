//! Shapes, data types and tensors in host memory. A [`Tensor`] is how values enter and leave a program; it computes
//! nothing itself. Printed, it looks as in PyTorch (`display.rs`).

mod display;
mod random;
mod shape;

use std::fmt;

pub use shape::Shape;

use crate::{Error, Result};

/// The element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float. The f64 CPU device widens it to 64 bits, which makes it the reference for the others.
    F32,
    /// 32-bit unsigned integer: labels, indices, counts, permutations.
    U32,
    /// Byte, as images are stored; devices keep four to a 32-bit word.
    U8,
}

impl DType {
    /// Bytes that one element takes on the GPU.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::U8 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::U32 => "u32",
            DType::U8 => "u8",
        })
    }
}

/// The most elements of a value: 8 TiB of 64-bit floats, or half of what can be addressed. So neither counts of bytes nor
/// places in memory overflow.
pub(crate) const MAX_ELEMS: usize = if usize::BITS > 43 { 1 << 40 } else { (usize::MAX / 2) / 8 };

/// What is known of a value before it is computed: shape and element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// The shape.
    pub shape: Shape,
    /// The element type.
    pub dtype: DType,
}

impl TensorType {
    /// A value of floats.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        TensorType { shape: shape.into(), dtype: DType::F32 }
    }

    /// A value of unsigned integers.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        TensorType { shape: shape.into(), dtype: DType::U32 }
    }

    /// A value of bytes.
    pub fn u8(shape: impl Into<Shape>) -> Self {
        TensorType { shape: shape.into(), dtype: DType::U8 }
    }

    /// Bytes on the GPU, rounded up to whole 32-bit words; for a shape that no value has, the most that there are.
    pub fn size_bytes(&self) -> usize {
        const WORD: usize = 4;
        let bytes = self.shape.num_elems().saturating_mul(self.dtype.size_bytes());
        bytes.checked_next_multiple_of(WORD).unwrap_or(usize::MAX / WORD * WORD)
    }

    /// Whether values of this type have more elements than any may.
    pub(crate) fn is_too_large(&self) -> bool {
        self.shape.num_elems() > MAX_ELEMS
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)
    }
}

/// The elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats: what the f64 CPU device reads and writes.
    F64(Vec<f64>),
    /// Unsigned integers.
    U32(Vec<u32>),
    /// Bytes.
    U8(Vec<u8>),
}

impl TensorData {
    fn len(&self) -> usize {
        match self {
            TensorData::F32(v) => v.len(),
            TensorData::F64(v) => v.len(),
            TensorData::U32(v) => v.len(),
            TensorData::U8(v) => v.len(),
        }
    }
}

/// A tensor in host memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: TensorData,
}

impl Tensor {
    /// A tensor of the given shape over `data`.
    ///
    /// # Errors
    /// [`Error::Operand`] where the number of elements is not the shape's.
    pub fn new(shape: impl Into<Shape>, data: TensorData) -> Result<Self> {
        let shape = shape.into();
        if shape.num_elems() != data.len() {
            let expected = match shape.num_elems() {
                usize::MAX => "a shape whose elements can be counted".to_owned(),
                num_elems => format!("{num_elems} elements for shape {shape}"),
            };
            return Err(Error::operand("tensor", expected, format!("{}", data.len())));
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor of 32-bit floats. Errors as [`Tensor::new`].
    pub fn f32(shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        Tensor::new(shape, TensorData::F32(data))
    }

    /// A tensor of 64-bit floats, for the f64 CPU device. Errors as [`Tensor::new`].
    pub fn f64(shape: impl Into<Shape>, data: Vec<f64>) -> Result<Self> {
        Tensor::new(shape, TensorData::F64(data))
    }

    /// A tensor of unsigned integers. Errors as [`Tensor::new`].
    pub fn u32(shape: impl Into<Shape>, data: Vec<u32>) -> Result<Self> {
        Tensor::new(shape, TensorData::U32(data))
    }

    /// A tensor of bytes. Errors as [`Tensor::new`].
    pub fn u8(shape: impl Into<Shape>, data: Vec<u8>) -> Result<Self> {
        Tensor::new(shape, TensorData::U8(data))
    }

    /// A scalar.
    pub fn scalar(value: f32) -> Self {
        Tensor { shape: Shape::scalar(), data: TensorData::F32(vec![value]) }
    }

    /// Floats that are all 0 (`torch.zeros`).
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        Tensor::full(shape, 0.0)
    }

    /// Floats that are all 1 (`torch.ones`).
    pub fn ones(shape: impl Into<Shape>) -> Self {
        Tensor::full(shape, 1.0)
    }

    /// Floats that are all the same (`torch.full`).
    ///
    /// # Panics
    /// As [`vec!`], where they do not fit into memory.
    pub fn full(shape: impl Into<Shape>, value: f32) -> Self {
        let shape = shape.into();
        let data = TensorData::F32(vec![value; shape.num_elems()]);
        Tensor { shape, data }
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The element type; 64-bit floats count as [`DType::F32`], the type they stand in for.
    pub fn dtype(&self) -> DType {
        match self.data {
            TensorData::F32(_) | TensorData::F64(_) => DType::F32,
            TensorData::U32(_) => DType::U32,
            TensorData::U8(_) => DType::U8,
        }
    }

    /// Shape and element type.
    pub fn ty(&self) -> TensorType {
        TensorType { shape: self.shape.clone(), dtype: self.dtype() }
    }

    /// The elements as 32-bit floats, converted where they are something else.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        match &self.data {
            TensorData::F32(v) => v.clone(),
            // Narrowing is what the caller asks for here.
            TensorData::F64(v) => v.iter().map(|&x| x as f32).collect(),
            TensorData::U32(v) => v.iter().map(|&x| x as f32).collect(),
            TensorData::U8(v) => v.iter().map(|&x| f32::from(x)).collect(),
        }
    }

    /// The elements as 64-bit floats, exactly.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        match &self.data {
            TensorData::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            TensorData::F64(v) => v.clone(),
            TensorData::U32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            TensorData::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    /// The only element of a tensor of one element.
    ///
    /// # Errors
    /// [`Error::Operand`] where there is not exactly one.
    pub fn item(&self) -> Result<f64> {
        match self.to_f64_vec().as_slice() {
            [value] => Ok(*value),
            _ => Err(Error::operand("item", "one element", format!("shape {}", self.shape))),
        }
    }
}
