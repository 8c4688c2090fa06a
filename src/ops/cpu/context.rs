//! What an op computes with: views of its operands in the executor's memory, without anything allocated for a run.

use crate::tensor::{DType, TensorType};

use super::Float;
use super::scratch::Line;

/// The elements of one value, by address: what a step is given of the executor's memory. An empty one stands for an
/// operand that is handed out elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    start: *mut u8,
    num_elems: usize,
    dtype: DType,
}

#[expect(unsafe_code, reason = "kernels on several threads see one memory")]
// SAFETY: a `Memory` is an address; the code that makes references from it (`CpuContext::new`) ensures their validity.
unsafe impl Send for Memory {}
#[expect(unsafe_code, reason = "kernels on several threads see one memory")]
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The elements of a slice: floats of the executor's type as [`DType::F32`].
    pub fn of<T>(slice: &mut [T], dtype: DType) -> Memory {
        Memory { start: slice.as_mut_ptr().cast(), num_elems: slice.len(), dtype }
    }

    /// Room for values of any type, as bytes from the start of a cache line on.
    pub fn room(lines: &mut [Line]) -> Memory {
        Memory::of(bytemuck::cast_slice_mut::<Line, u8>(lines), DType::U8)
    }

    /// Elements in a [`Memory::room`] from byte `start` on, the start of a cache line.
    pub fn carve<F: Float>(self, start: usize, num_elems: usize, dtype: DType) -> Memory {
        let end = start + num_elems * elem_bytes::<F>(dtype);
        assert!(end <= self.num_elems && start.is_multiple_of(size_of::<Line>()), "operands lie in the room");
        Memory { start: self.start.wrapping_add(start), num_elems, dtype }
    }

    /// `num_elems` elements from element `first` on.
    pub fn part<F: Float>(self, first: usize, num_elems: usize) -> Memory {
        assert!(first + num_elems <= self.num_elems, "{first} + {num_elems} of {} elements", self.num_elems);
        Memory { start: self.start.wrapping_add(first * elem_bytes::<F>(self.dtype)), num_elems, ..self }
    }

    /// Whether two have elements in common.
    pub fn overlaps<F: Float>(self, other: Memory) -> bool {
        let range = |memory: Memory| {
            let start = memory.start as usize;
            start..start + memory.num_elems * elem_bytes::<F>(memory.dtype)
        };
        let (a, b) = (range(self), range(other));
        a.start < b.end && b.start < a.end
    }

    /// The first elements.
    pub fn first(self, num_elems: usize) -> Memory {
        assert!(num_elems <= self.num_elems, "{num_elems} of {} elements", self.num_elems);
        Memory { num_elems, ..self }
    }

    /// The address of the first element.
    pub fn start(self) -> *mut u8 {
        self.start
    }

    /// What the elements are; floats of the executor's type as [`DType::F32`].
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// The elements.
    ///
    /// # Safety
    /// They are those of a living slice of `T`, and nothing writes to them while `'a` lasts.
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub unsafe fn read<'a, T>(self) -> &'a [T] {
        // SAFETY: by the contract.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.num_elems) }
    }

    /// The elements, to be written.
    ///
    /// # Safety
    /// They are those of a living slice of `T`, and nothing else uses them while `'a` lasts.
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub unsafe fn write<'a, T>(self) -> &'a mut [T] {
        // SAFETY: by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.num_elems) }
    }
}

/// Bytes of an element; floats are the executor's.
pub(crate) fn elem_bytes<F: Float>(dtype: DType) -> usize {
    match dtype {
        DType::F32 => size_of::<F>(),
        DType::U32 => size_of::<u32>(),
        DType::U8 => 1,
    }
}

/// The operands of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operands<'a> {
    pub input_types: &'a [TensorType],
    pub output_types: &'a [TensorType],
    pub inputs: &'a [Memory],
    pub outputs: &'a [Memory],
    /// The inputs that the op updates in place, in rising order.
    pub updates: &'a [usize],
    /// Which row of the batch the operands' first row is.
    pub first_row: usize,
    /// The rows of the whole batch, where the operands have a part of them.
    pub batch_size: Option<usize>,
}

/// What an op computes with: its operands' elements and types.
pub(crate) struct CpuContext<'a, F> {
    /// Types of the inputs.
    pub inputs: &'a [TensorType],
    /// Types of the outputs.
    pub outputs: &'a [TensorType],
    /// Which row of the batch the first row is, where the op is run on a part of it; else 0.
    pub first_row: usize,
    /// The rows of the whole batch, where the op is run on a part of it.
    batch_size: Option<usize>,
    input_memory: &'a [Memory],
    output_memory: &'a [Memory],
    updates: &'a [usize],
    /// Which outputs, then which updated inputs were handed out.
    taken: &'a mut [bool],
    float: std::marker::PhantomData<F>,
}

impl<'a, F: Float> CpuContext<'a, F> {
    /// A context over a step's operands. `taken` has room for a mark for each output and each updated input.
    ///
    /// # Safety
    /// While `'a` lasts, every memory is that of a living slice of its element type (floats being `F`), the outputs and
    /// the updated inputs are used by nothing else and overlap neither each other nor the inputs that are only read,
    /// and nothing writes to those.
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub unsafe fn new(operands: Operands<'a>, taken: &'a mut [bool]) -> Self {
        taken.fill(false);
        let Operands { input_types, output_types, inputs, outputs, updates, first_row, batch_size } = operands;
        CpuContext {
            inputs: input_types,
            outputs: output_types,
            first_row,
            batch_size,
            input_memory: inputs,
            output_memory: outputs,
            updates,
            taken,
            float: std::marker::PhantomData,
        }
    }

    /// The memory of an input that is not updated, to hand to another op.
    pub fn input_memory(&self, input: usize) -> Memory {
        assert!(self.updates.binary_search(&input).is_err(), "input {input} is updated, and read as such");
        self.input_memory[input]
    }

    /// The memory of an input that is updated, to hand to another op; can be taken once, in any way.
    pub fn updated_memory(&mut self, input: usize) -> Memory {
        let place = self.updates.binary_search(&input).expect("the op lists the input among its updates");
        let mark = self.output_memory.len() + place;
        assert!(!std::mem::replace(&mut self.taken[mark], true), "an operand is handed out once");
        self.input_memory[input]
    }

    /// The memory of an output, to hand to another op; can be taken once, in any way.
    pub fn output_memory(&mut self, output: usize) -> Memory {
        assert!(!std::mem::replace(&mut self.taken[output], true), "an operand is handed out once");
        self.output_memory[output]
    }

    /// The elements of a float input.
    pub fn float(&self, input: usize) -> &'a [F] {
        self.read(input, DType::F32)
    }

    /// The elements of an integer input.
    pub fn u32(&self, input: usize) -> &'a [u32] {
        self.read(input, DType::U32)
    }

    /// The elements of a byte input.
    pub fn u8(&self, input: usize) -> &'a [u8] {
        self.read(input, DType::U8)
    }

    /// The extents of an input.
    pub fn dims<const N: usize>(&self, input: usize) -> [usize; N] {
        self.inputs[input].shape.dims().try_into().expect("the rank was checked by infer")
    }

    /// The rows that an input has in the whole batch.
    pub fn batch_size(&self, input: usize) -> usize {
        self.batch_size.unwrap_or_else(|| self.inputs[input].shape[0])
    }

    /// Which element of the whole batch's the first element of an output is.
    pub fn first_elem(&self, output: usize) -> usize {
        match self.outputs[output].shape.dims() {
            [_, row @ ..] => self.first_row * row.iter().product::<usize>(),
            [] => 0,
        }
    }

    /// The elements of a float output, to be overwritten; can be taken once.
    pub fn output(&mut self, output: usize) -> &'a mut [F] {
        self.write(self.output_memory[output], output, DType::F32)
    }

    /// The elements of an integer output, to be overwritten; can be taken once.
    pub fn output_u32(&mut self, output: usize) -> &'a mut [u32] {
        self.write(self.output_memory[output], output, DType::U32)
    }

    /// The elements of a float input that the op updates in place; can be taken once.
    pub fn updated(&mut self, input: usize) -> &'a mut [F] {
        let place = self.updates.binary_search(&input).expect("the op lists the input among its updates");
        self.write(self.input_memory[input], self.output_memory.len() + place, DType::F32)
    }

    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    fn read<T>(&self, input: usize, dtype: DType) -> &'a [T] {
        let memory = self.input_memory[input];
        assert!(memory.dtype == dtype, "input {input} was inferred to be {dtype}");
        assert!(self.updates.binary_search(&input).is_err(), "input {input} is updated, and read as such");
        // SAFETY: by the contract of `new` the slice lives, has this element type, and nothing writes to it: it is no
        // updated input.
        unsafe { memory.read() }
    }

    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    fn write<T>(&mut self, memory: Memory, mark: usize, dtype: DType) -> &'a mut [T] {
        assert!(memory.dtype == dtype, "an operand inferred to be {dtype}");
        assert!(!std::mem::replace(&mut self.taken[mark], true), "an operand is handed out once");
        // SAFETY: by the contract of `new` the slice lives, has this element type and is used by nothing else, and by
        // the mark it was not handed out before.
        unsafe { memory.write() }
    }
}
