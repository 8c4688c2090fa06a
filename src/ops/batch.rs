//! How ops act along the batch axis, the first of their operands. An executor that knows may run a chain of them for a
//! few images at a time, which then stay in a core's cache from the first op to the last.
//!
//! An op with a form is run on any run of rows of the batch: the types in its context then have the number of those
//! rows as first extent, and [`CpuContext::first_row`](super::cpu::CpuContext::first_row) says which is the first. So
//! it takes sizes from the context and not from its attributes.

use crate::tensor::TensorType;

/// One operand along the batch axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Along {
    /// The first extent is the batch's, and element i along it belongs to image i alone.
    Rows,
    /// The same for all images: weights, scalars, a data set.
    Whole,
    /// An output that is a sum over images, so that those over parts of the batch add up to it.
    Sum,
}

/// The operands of an op along the batch axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchForm {
    pub inputs: Vec<Along>,
    pub outputs: Vec<Along>,
}

/// A part of an op that needs the whole batch, but not in all that it does. Parts run one after the other and each has
/// its own operands; what one writes, the next may read.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub inputs: Vec<PartInput>,
    /// Of the op's outputs, those that the part writes.
    pub outputs: Vec<usize>,
    /// Of the part's inputs, those that it updates in place.
    pub updates: Vec<usize>,
    pub form: Option<BatchForm>,
}

/// An operand that a part reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartInput {
    /// An input of the op.
    Input(usize),
    /// What an earlier part wrote.
    Output(usize),
}

impl BatchForm {
    pub fn new(inputs: impl Into<Vec<Along>>, outputs: impl Into<Vec<Along>>) -> Option<BatchForm> {
        Some(BatchForm { inputs: inputs.into(), outputs: outputs.into() })
    }

    /// Every operand image by image.
    pub fn rows(inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::new(vec![Along::Rows; inputs.len()], vec![Along::Rows; outputs.len()])
    }

    /// Operands that broadcast to the output.
    pub fn broadcast(inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        let output = &outputs.first()?.shape;
        let along = |input: &TensorType| match input.shape.rank() == output.rank() && output.rank() > 0 {
            true if input.shape[0] == output[0] => Along::Rows,
            _ => Along::Whole,
        };
        BatchForm::new(inputs.iter().map(along).collect::<Vec<_>>(), [Along::Rows])
    }

    /// The number of images, and whether all operands by rows have it as first extent and no two differ.
    pub fn batch_size(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<usize> {
        let operands = self.inputs.iter().zip(inputs).chain(self.outputs.iter().zip(outputs));
        let mut sizes = operands.filter(|(along, _)| **along == Along::Rows).map(|(_, ty)| ty.shape.dims().first());
        let size = sizes.next()??;
        sizes.all(|other| other == Some(size)).then_some(*size)
    }
}
