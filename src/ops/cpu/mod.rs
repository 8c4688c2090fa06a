//! What CPU kernels use: the float they are generic over, their operands, threads and vector units, matrix products.

mod float;
pub(crate) mod gemm;
pub(crate) mod parallel;

pub use float::Float;

use crate::tensor::TensorType;

/// What an op reads.
#[derive(Clone, Copy)]
pub(crate) enum Slice<'a, F> {
    Float(&'a [F]),
    U32(&'a [u32]),
    U8(&'a [u8]),
}

/// What an op writes. Each is handed out once.
pub(crate) enum SliceMut<'a, F> {
    Float(&'a mut [F]),
    U32(&'a mut [u32]),
    Taken,
}

/// What an op computes with: its operands' elements and types.
pub(crate) struct CpuContext<'a, F> {
    /// Types of the inputs.
    pub inputs: Vec<&'a TensorType>,
    /// Types of the outputs.
    pub outputs: Vec<&'a TensorType>,
    pub(crate) input_data: Vec<Slice<'a, F>>,
    pub(crate) output_data: Vec<SliceMut<'a, F>>,
    pub(crate) updated: Vec<(usize, SliceMut<'a, F>)>,
}

impl<'a, F: Float> CpuContext<'a, F> {
    /// The elements of a float input.
    pub fn float(&self, input: usize) -> &'a [F] {
        match self.input_data[input] {
            Slice::Float(data) => data,
            _ => panic!("input {input} was inferred to be float"),
        }
    }

    /// The elements of an integer input.
    pub fn u32(&self, input: usize) -> &'a [u32] {
        match self.input_data[input] {
            Slice::U32(data) => data,
            _ => panic!("input {input} was inferred to be u32"),
        }
    }

    /// The elements of a byte input.
    pub fn u8(&self, input: usize) -> &'a [u8] {
        match self.input_data[input] {
            Slice::U8(data) => data,
            _ => panic!("input {input} was inferred to be u8"),
        }
    }

    /// The extents of an input.
    pub fn dims<const N: usize>(&self, input: usize) -> [usize; N] {
        self.inputs[input].shape.dims().try_into().expect("the rank was checked by infer")
    }

    /// The extents of an output.
    pub fn output_dims<const N: usize>(&self, output: usize) -> [usize; N] {
        self.outputs[output].shape.dims().try_into().expect("the rank was set by infer")
    }

    /// The elements of a float output, to be overwritten; can be taken once.
    pub fn output(&mut self, output: usize) -> &'a mut [F] {
        float_mut(&mut self.output_data[output])
    }

    /// The elements of an integer output, to be overwritten; can be taken once.
    pub fn output_u32(&mut self, output: usize) -> &'a mut [u32] {
        match std::mem::replace(&mut self.output_data[output], SliceMut::Taken) {
            SliceMut::U32(data) => data,
            _ => panic!("output {output} is u32 and taken once"),
        }
    }

    /// The elements of a float input that the op updates in place; can be taken once.
    pub fn updated(&mut self, input: usize) -> &'a mut [F] {
        let slot = self.updated.iter_mut().find(|(index, _)| *index == input);
        float_mut(&mut slot.expect("the op lists the input among its updates").1)
    }
}

fn float_mut<'a, F>(slot: &mut SliceMut<'a, F>) -> &'a mut [F] {
    match std::mem::replace(slot, SliceMut::Taken) {
        SliceMut::Float(data) => data,
        _ => panic!("a float operand, taken once"),
    }
}
