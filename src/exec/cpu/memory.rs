//! The memory of one value or slot: made when a program is compiled, never moved, and shared by address with the steps
//! that compute in it. Blocks may lie together in one arena.

use std::sync::Arc;

use crate::exec::exchange::places;
use crate::exec::lent::Lendable;
use crate::ops::cpu::scratch::{Line, lines};
use crate::ops::cpu::{Float, Memory, elem_bytes};
use crate::tensor::{DType, Tensor, TensorData, TensorType};
use crate::{Error, Result};

/// Memory that one or several blocks lie in.
pub(super) struct Arena {
    room: Memory,
    /// Owns what `room` points to, which is used through blocks alone.
    _lines: Vec<Line>,
}

impl Arena {
    /// # Errors
    /// [`Error::Memory`].
    pub fn new(num_bytes: usize) -> Result<Arc<Arena>> {
        let mut lines = lines(num_bytes).ok_or_else(|| Error::memory("the program", num_bytes))?;
        Ok(Arc::new(Arena { room: Memory::room(&mut lines), _lines: lines }))
    }
}

/// Elements that stay where they are. What hands out its [`Memory`] sees to it that no reference made from that lives
/// while a method here runs; the executor does so by borrowing itself mutably for a step.
pub(super) struct Block {
    memory: Memory,
    num_elems: usize,
    /// Owns what `memory` points to, which begins at this byte of it.
    arena: Arc<Arena>,
    start: usize,
}

impl Block {
    /// Zeros.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn zeros<F: Float>(dtype: DType, num_elems: usize) -> Result<Block> {
        let arena = Arena::new(num_elems.saturating_mul(elem_bytes::<F>(dtype)))?;
        Ok(Block::within::<F>(&arena, 0, dtype, num_elems))
    }

    /// Zeros from a byte of an arena on, which other blocks leave to it. It is the start of a cache line.
    fn within<F: Float>(arena: &Arc<Arena>, start: usize, dtype: DType, num_elems: usize) -> Block {
        let memory = arena.room.carve::<F>(start, num_elems, dtype);
        Block { memory, num_elems, arena: Arc::clone(arena), start }
    }

    /// Zeros of these types that lie together, as [`places`] says.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn zeros_together<'a, F: Float>(types: impl Iterator<Item = &'a TensorType> + Clone) -> Result<Vec<Block>> {
        let sizes = types.clone().map(|ty| ty.shape.num_elems() * elem_bytes::<F>(ty.dtype));
        let places: Vec<_> = places(sizes).collect();
        let arena = Arena::new(places.last().map_or(0, |place| place.end))?;
        let block = |(ty, place): (&TensorType, std::ops::Range<usize>)| {
            Block::within::<F>(&arena, place.start, ty.dtype, ty.shape.num_elems())
        };
        Ok(types.zip(places).map(block).collect())
    }

    /// The memory of blocks that lie together in this order, as [`places`] says; `None` of others.
    pub fn lendable<F: Float>(blocks: &[&Block]) -> Option<Arc<Lendable>> {
        let first = blocks.first()?;
        let places: Vec<_> = places(blocks.iter().map(|block| block.num_bytes::<F>())).collect();
        let is_next = |(block, place): (&&Block, &std::ops::Range<usize>)| {
            Arc::ptr_eq(&block.arena, &first.arena) && block.start == first.start + place.start
        };
        if !blocks.iter().zip(&places).all(is_next) {
            return None;
        }
        let len = places.last().map_or(0, |place| place.end);
        let start = first.arena.room.part::<F>(first.start, len).start();
        #[expect(unsafe_code, reason = "a block's elements are shared by address")]
        // SAFETY: the bytes lie in the arena, all of which was set to zeros. The executor asks before it uses a state.
        Some(unsafe { Lendable::new(start, len, Arc::clone(&first.arena) as _) })
    }

    fn num_bytes<F: Float>(&self) -> usize {
        self.num_elems * elem_bytes::<F>(self.memory.dtype())
    }

    /// # Errors
    /// [`Error::Memory`].
    pub fn of_tensor<F: Float>(tensor: &Tensor) -> Result<Block> {
        let mut block = Block::zeros::<F>(tensor.dtype(), tensor.shape().num_elems())?;
        block.fill_from::<F>(tensor);
        Ok(block)
    }

    /// Where the elements are, for steps.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The first `num_elems` elements.
    fn first<F: Float>(&self, num_elems: usize) -> Elements<'_, F> {
        let memory = self.memory.first(num_elems);
        #[expect(unsafe_code, reason = "a block's elements are shared by address")]
        // SAFETY: the elements live as long as the block and were made of this type, and no step runs meanwhile.
        unsafe {
            match memory.dtype() {
                DType::F32 => Elements::Float(memory.read()),
                DType::U32 => Elements::U32(memory.read()),
                DType::U8 => Elements::U8(memory.read()),
            }
        }
    }

    fn all_mut<F: Float>(&mut self) -> ElementsMut<'_, F> {
        #[expect(unsafe_code, reason = "a block's elements are shared by address")]
        // SAFETY: the elements live as long as the block and were made of this type, it is borrowed mutably, and no
        // step runs meanwhile.
        unsafe {
            match self.memory.dtype() {
                DType::F32 => ElementsMut::Float(self.memory.write()),
                DType::U32 => ElementsMut::U32(self.memory.write()),
                DType::U8 => ElementsMut::U8(self.memory.write()),
            }
        }
    }

    /// Sets the one element of a scalar. The step table holds whole numbers in u32's range for such columns.
    pub fn set_scalar<F: Float>(&mut self, value: f64) {
        match self.all_mut::<F>() {
            ElementsMut::Float(data) => data[0] = F::from_f64(value),
            ElementsMut::U32(data) => data[0] = value as u32,
            ElementsMut::U8(_) => panic!("scalars are floats or u32"),
        }
    }

    /// Overwrites the first elements; the tensor was checked to be of this type.
    pub fn fill_from<F: Float>(&mut self, tensor: &Tensor) {
        match (self.all_mut::<F>(), tensor.data()) {
            (ElementsMut::Float(data), TensorData::F32(new)) => {
                data.iter_mut().zip(new).for_each(|(old, &new)| *old = F::from_f64(f64::from(new)));
            }
            (ElementsMut::Float(data), TensorData::F64(new)) => {
                data.iter_mut().zip(new).for_each(|(old, &new)| *old = F::from_f64(new));
            }
            (ElementsMut::U32(data), TensorData::U32(new)) => data[..new.len()].copy_from_slice(new),
            (ElementsMut::U8(data), TensorData::U8(new)) => data[..new.len()].copy_from_slice(new),
            _ => panic!("the program checked the element type"),
        }
    }

    /// The elements as a tensor.
    pub fn tensor<F: Float>(&self, ty: &TensorType) -> Tensor {
        let data = match self.first::<F>(ty.shape.num_elems()) {
            Elements::Float(data) if size_of::<F>() == 8 => TensorData::F64(data.iter().map(|x| x.to_f64()).collect()),
            // Here F is f32, so this narrows nothing.
            Elements::Float(data) => TensorData::F32(data.iter().map(|x| x.to_f64() as f32).collect()),
            Elements::U32(data) => TensorData::U32(data.to_vec()),
            Elements::U8(data) => TensorData::U8(data.to_vec()),
        };
        Tensor::new(ty.shape.clone(), data).expect("as many elements as the type has were taken")
    }

    /// The elements as they are in memory.
    pub fn bytes<F: Float>(&self) -> &[u8] {
        match self.first::<F>(self.num_elems) {
            Elements::Float(data) => bytemuck::cast_slice(data),
            Elements::U32(data) => bytemuck::cast_slice(data),
            Elements::U8(data) => data,
        }
    }

    /// The elements as they are in memory, to be overwritten.
    pub fn bytes_mut<F: Float>(&mut self) -> &mut [u8] {
        match self.all_mut::<F>() {
            ElementsMut::Float(data) => bytemuck::cast_slice_mut(data),
            ElementsMut::U32(data) => bytemuck::cast_slice_mut(data),
            ElementsMut::U8(data) => data,
        }
    }

    /// Overwrites all elements with what no op computes.
    pub fn poison<F: Float>(&mut self) {
        match self.all_mut::<F>() {
            ElementsMut::Float(data) => data.fill(F::from_f64(f64::NAN)),
            ElementsMut::U32(data) => data.fill(u32::MAX),
            ElementsMut::U8(_) => {}
        }
    }

    /// Overwrites all elements with those of a block of the same type and length.
    pub fn copy_from<F: Float>(&mut self, other: &Block) {
        match (other.first::<F>(other.num_elems), self.all_mut::<F>()) {
            (Elements::Float(from), ElementsMut::Float(to)) => to.copy_from_slice(from),
            (Elements::U32(from), ElementsMut::U32(to)) => to.copy_from_slice(from),
            (Elements::U8(from), ElementsMut::U8(to)) => to.copy_from_slice(from),
            _ => panic!("both blocks are of one state"),
        }
    }
}

enum Elements<'a, F> {
    Float(&'a [F]),
    U32(&'a [u32]),
    U8(&'a [u8]),
}

enum ElementsMut<'a, F> {
    Float(&'a mut [F]),
    U32(&'a mut [u32]),
    U8(&'a mut [u8]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_go_in_and_come_out() {
        let tensor = Tensor::f32([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("6 values");
        let mut block = Block::of_tensor::<f32>(&tensor).expect("a few bytes");
        assert_eq!(block.tensor::<f32>(&tensor.ty()), tensor);
        let other = Block::zeros::<f32>(DType::F32, 6).expect("a few bytes");
        block.poison::<f32>();
        assert!(block.tensor::<f32>(&tensor.ty()).to_f32_vec().iter().all(|x| x.is_nan()));
        block.copy_from::<f32>(&other);
        assert_eq!(block.tensor::<f32>(&tensor.ty()).to_f32_vec(), [0.0; 6]);
        block.set_scalar::<f32>(2.5);
        assert_eq!(block.tensor::<f32>(&TensorType::f32([1])).to_f32_vec(), [2.5]);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        // More than is ever mapped, and more than can be counted in bytes.
        for num_elems in [1 << 55, usize::MAX] {
            let error = Block::zeros::<f32>(DType::F32, num_elems).map(drop).expect_err("too much");
            assert!(error.to_string().contains("there is no memory for "), "{error}");
        }
    }
}
