//! What an op computes with: views of its operands in the executor's memory, without anything allocated for a run.

use crate::tensor::{DType, TensorType};

use super::scratch::Line;
use super::{Float, threads};

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

/// The least elements of all rows that are worth a task, and of one row that are a piece.
const LEAST_TASK_ELEMS: usize = 4 * 1024;
const LEAST_PIECE_ELEMS: usize = 256;
/// The most elements of a task, where they are more than [`FEW_TASKS`] have.
const MOST_TASK_ELEMS: usize = 64 * 1024;
/// Tasks that are enough for what is not large: each has pieces of all rows, which should not be too short.
const FEW_TASKS: usize = 8;

/// Tasks that share so many elements: a power of two, so that a few threads have as many each, and a piece of a row ends
/// where their shares of other work on that row do.
fn num_tasks(elems: usize) -> usize {
    let few = (elems / LEAST_TASK_ELEMS).clamp(1, FEW_TASKS).ilog2();
    elems.div_ceil(MOST_TASK_ELEMS).next_power_of_two().max(1 << few)
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

    /// Shares rows of float inputs among threads: row r has input `read + r`, which is only read, and for each of `updated`
    /// that there is input `updated + r`, which the op updates in place; all are as long. A task has a piece of every row, and
    /// threads that share an op by its rows meet the same pieces here. Calls `body(row, pieces updated, piece read)`. Each
    /// updated input can be taken once.
    #[expect(unsafe_code, reason = "threads write to different pieces of one operand")]
    pub fn for_updated_pieces<const N: usize>(
        &mut self,
        count: usize,
        updated: [Option<usize>; N],
        read: usize,
        body: impl Fn(usize, [Option<&mut [F]>; N], &[F]) + Sync,
    ) {
        let len = |row: usize| self.input_memory[read + row].num_elems;
        let num_tasks = num_tasks((0..count).map(len).sum());
        for row in 0..count {
            let len = self.float(read + row).len();
            for first in updated.iter().flatten() {
                let memory = self.updated_memory(first + row);
                assert!(memory.dtype == DType::F32 && memory.num_elems == len, "floats, as many as are read");
            }
        }
        let inputs = self.input_memory;
        threads::run(num_tasks, |task| {
            for row in 0..count {
                let len = inputs[read + row].num_elems;
                // Whole cache lines.
                let piece = len.div_ceil(num_tasks).next_multiple_of(size_of::<Line>()).max(LEAST_PIECE_ELEMS);
                let start = task * piece;
                if start >= len {
                    continue;
                }
                let part = |first: usize| inputs[first + row].part::<F>(start, piece.min(len - start));
                // SAFETY: by the contract of `new` the slices live, have this element type, and nothing else uses those
                // that are updated or writes to those that are read; by the marks none was handed out before, and pieces
                // of different tasks, rows and roles do not overlap.
                unsafe { body(row, updated.map(|first| first.map(|first| part(first).write())), part(read).read()) };
            }
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::threads::Threads;

    #[test]
    fn tasks_are_few_and_a_power_of_two() {
        let tasks = [0, 4_095, 4_096, 10_000, 44_426, 500_000, 600_000, 5_000_000].map(num_tasks);
        assert_eq!(tasks, [1, 1, 1, 2, 8, 8, 16, 128]);
    }

    #[test]
    fn every_element_of_every_row_is_in_one_piece() {
        const LENS: [usize; 6] = [1, 16, 255, 2_400, 10_081, 30_720];
        let rows = |value: f32| LENS.map(|len| vec![value; len]);
        let (mut params, mut grads, mut states) = (rows(1.0), rows(2.0), rows(3.0));
        let types: Vec<TensorType> = [LENS; 3].concat().iter().map(|&len| TensorType::f32([len])).collect();
        let tensors = params.iter_mut().chain(&mut grads).chain(&mut states);
        let inputs: Vec<Memory> = tensors.map(|tensor| Memory::of(tensor, DType::F32)).collect();
        let updates: Vec<usize> = (0..6).chain(12..18).collect();
        let operands = Operands {
            input_types: &types,
            output_types: &[],
            inputs: &inputs,
            outputs: &[],
            updates: &updates,
            first_row: 0,
            batch_size: None,
        };
        let mut taken = [false; 12];
        #[expect(unsafe_code, reason = "an op's operands, as an executor has them")]
        // SAFETY: the vectors live to the end of the test, are apart, and are not used while the context is.
        let mut ctx = unsafe { CpuContext::<f32>::new(operands, &mut taken) };
        Threads::new(3).install(|| {
            ctx.for_updated_pieces(6, [Some(0), None, Some(12)], 6, |row, pieces, grads| {
                let [Some(params), None, Some(states)] = pieces else { panic!("the roles that were asked for") };
                assert!(params.len() == grads.len() && params.len() == states.len());
                for ((param, grad), state) in params.iter_mut().zip(grads).zip(states) {
                    *param += 10.0 * grad + row as f32;
                    *state += 1.0;
                }
            });
        });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ctx.updated(3).len())).is_err());
        for (row, (params, states)) in params.iter().zip(&states).enumerate() {
            assert!(params.iter().all(|&param| param == 21.0 + row as f32), "row {row}");
            assert!(states.iter().all(|&state| state == 4.0), "row {row}");
        }
    }
}
