//! The CPU device: runs a plan op by op with the CPU kernels of `ops/`, generic over the float. In f32 it is what a
//! machine without a GPU trains on; in f64 it is the reference that every GPU kernel is held to.

use super::{Executor, Progress, StateLayout, StepTable};
use crate::Result;
use crate::graph::plan::{Operand, Plan, Step, Storage};
use crate::ops::Operation;
use crate::ops::cpu::{CpuContext, Float, Slice, SliceMut};
use crate::tensor::{DType, Tensor, TensorData, TensorType};

/// Memory of one value or slot.
#[derive(Clone, Debug)]
enum Buffer<F> {
    Float(Vec<F>),
    U32(Vec<u32>),
    U8(Vec<u8>),
}

impl<F: Float> Buffer<F> {
    fn zeros(dtype: DType, num_elems: usize) -> Self {
        match dtype {
            DType::F32 => Buffer::Float(vec![F::ZERO; num_elems]),
            DType::U32 => Buffer::U32(vec![0; num_elems]),
            DType::U8 => Buffer::U8(vec![0; num_elems]),
        }
    }

    fn read(&self, num_elems: usize) -> Slice<'_, F> {
        match self {
            Buffer::Float(data) => Slice::Float(&data[..num_elems]),
            Buffer::U32(data) => Slice::U32(&data[..num_elems]),
            Buffer::U8(data) => Slice::U8(&data[..num_elems]),
        }
    }

    fn write(&mut self, num_elems: usize) -> SliceMut<'_, F> {
        match self {
            Buffer::Float(data) => SliceMut::Float(&mut data[..num_elems]),
            Buffer::U32(data) => SliceMut::U32(&mut data[..num_elems]),
            Buffer::U8(_) => panic!("no op writes bytes"),
        }
    }

    fn fill_from(&mut self, tensor: &Tensor) {
        match (self, tensor.data()) {
            (Buffer::Float(data), TensorData::F32(new)) => {
                data.iter_mut().zip(new).for_each(|(old, &new)| *old = F::from_f64(f64::from(new)));
            }
            (Buffer::Float(data), TensorData::F64(new)) => {
                data.iter_mut().zip(new).for_each(|(old, &new)| *old = F::from_f64(new));
            }
            (Buffer::U32(data), TensorData::U32(new)) => data[..new.len()].copy_from_slice(new),
            (Buffer::U8(data), TensorData::U8(new)) => data[..new.len()].copy_from_slice(new),
            _ => panic!("the program checked the element type"),
        }
    }

    fn tensor(&self, ty: &TensorType) -> Tensor {
        let data = match self.read(ty.shape.num_elems()) {
            Slice::Float(data) if size_of::<F>() == 8 => TensorData::F64(data.iter().map(|x| x.to_f64()).collect()),
            // Here F is f32, so this narrows nothing.
            Slice::Float(data) => TensorData::F32(data.iter().map(|x| x.to_f64() as f32).collect()),
            Slice::U32(data) => TensorData::U32(data.to_vec()),
            Slice::U8(data) => TensorData::U8(data.to_vec()),
        };
        Tensor::new(ty.shape.clone(), data).expect("as many elements as the type has were taken")
    }
}

/// What one entry computes with.
struct Entry<F> {
    plan: Plan,
    /// For each of the plan's states, its index in the program.
    states: Vec<usize>,
    scalars: Vec<Buffer<F>>,
    constants: Vec<Buffer<F>>,
    slots: Vec<Buffer<F>>,
    packs: Vec<Vec<Buffer<F>>>,
}

/// A program on the CPU.
pub(crate) struct CpuExecutor<F> {
    entries: Vec<Entry<F>>,
    states: Vec<Buffer<F>>,
    kept: Vec<Option<Buffer<F>>>,
    state_types: Vec<TensorType>,
}

impl<F: Float> CpuExecutor<F> {
    pub fn new(plans: &[Plan], layout: &StateLayout) -> Self {
        let zeros = |ty: &TensorType| Buffer::zeros(ty.dtype, ty.shape.num_elems());
        let entry = |(plan, states): (&Plan, &Vec<usize>)| Entry {
            plan: plan.clone(),
            states: states.clone(),
            scalars: plan.scalars.iter().map(|(_, dtype)| Buffer::zeros(*dtype, 1)).collect(),
            constants: plan.constants.iter().map(constant).collect(),
            slots: plan.slots.iter().map(|slot| Buffer::zeros(slot.dtype, slot.num_elems)).collect(),
            packs: plan.packs.iter().map(|pack| pack.members.iter().map(|m| zeros(&m.ty)).collect()).collect(),
        };
        CpuExecutor {
            entries: plans.iter().zip(&layout.of_plan).map(entry).collect(),
            states: layout.specs.iter().map(|spec| zeros(&spec.ty)).collect(),
            kept: vec![None; layout.specs.len()],
            state_types: layout.specs.iter().map(|spec| spec.ty.clone()).collect(),
        }
    }

    fn set_scalars(&mut self, entry: usize, table: &StepTable, step: usize) {
        for (buffer, (_, value)) in self.entries[entry].scalars.iter_mut().zip(table.row(step)) {
            match buffer {
                Buffer::Float(data) => data[0] = F::from_f64(value),
                // The table holds whole numbers in u32's range for such columns.
                Buffer::U32(data) => data[0] = value as u32,
                Buffer::U8(_) => panic!("scalars are floats or u32"),
            }
        }
    }

    fn run_step(&mut self, entry: usize, index: usize) {
        let Entry { plan, states, scalars, constants, slots, packs } = &mut self.entries[entry];
        let step: &Step = &plan.steps[index];
        let mut memory = Memory { states: &mut self.states, of_plan: states, scalars, constants, slots, packs };
        let updates = step.op.updates();
        // What the op writes is taken out of memory while it runs, so that the rest can be borrowed for reading.
        let mut outputs: Vec<Buffer<F>> = step.outputs.iter().map(|operand| memory.take(operand.storage)).collect();
        let mut updated: Vec<Buffer<F>> =
            updates.iter().map(|&input| memory.take(step.inputs[input].storage)).collect();
        let read = |(input, operand): (usize, &Operand)| {
            if updates.contains(&input) { Slice::Float(&[]) } else { memory.get(operand.storage).read(elems(operand)) }
        };
        let mut ctx = CpuContext {
            inputs: step.inputs.iter().map(|operand| &operand.ty).collect(),
            outputs: step.outputs.iter().map(|operand| &operand.ty).collect(),
            input_data: step.inputs.iter().enumerate().map(read).collect(),
            output_data: outputs.iter_mut().zip(&step.outputs).map(|(b, operand)| b.write(elems(operand))).collect(),
            updated: updated.iter_mut().zip(&updates).map(|(b, &i)| (i, b.write(elems(&step.inputs[i])))).collect(),
        };
        step.op.run(&mut ctx);
        drop(ctx);
        for (buffer, operand) in outputs.into_iter().zip(&step.outputs) {
            *memory.get_mut(operand.storage) = buffer;
        }
        for (buffer, &input) in updated.into_iter().zip(&updates) {
            *memory.get_mut(step.inputs[input].storage) = buffer;
        }
    }

    fn buffer(&mut self, entry: usize, storage: Storage) -> &mut Buffer<F> {
        let Entry { states, scalars, constants, slots, packs, .. } = &mut self.entries[entry];
        Memory { states: &mut self.states, of_plan: states, scalars, constants, slots, packs }.into_mut(storage)
    }
}

fn elems(operand: &Operand) -> usize {
    operand.ty.shape.num_elems()
}

fn constant<F: Float>(tensor: &Tensor) -> Buffer<F> {
    let mut buffer = Buffer::zeros(tensor.dtype(), tensor.shape().num_elems());
    buffer.fill_from(tensor);
    buffer
}

/// Everything that an entry's operands can point into.
struct Memory<'a, F> {
    states: &'a mut [Buffer<F>],
    of_plan: &'a [usize],
    scalars: &'a mut [Buffer<F>],
    constants: &'a mut [Buffer<F>],
    slots: &'a mut [Buffer<F>],
    packs: &'a mut [Vec<Buffer<F>>],
}

impl<'a, F> Memory<'a, F> {
    fn get(&self, storage: Storage) -> &Buffer<F> {
        match storage {
            Storage::State(index) => &self.states[self.of_plan[index]],
            Storage::Scalar(index) => &self.scalars[index],
            Storage::Constant(index) => &self.constants[index],
            Storage::Slot(index) => &self.slots[index],
            Storage::Pack { pack, member } => &self.packs[pack][member],
        }
    }

    fn get_mut(&mut self, storage: Storage) -> &mut Buffer<F> {
        match storage {
            Storage::State(index) => &mut self.states[self.of_plan[index]],
            Storage::Scalar(index) => &mut self.scalars[index],
            Storage::Constant(index) => &mut self.constants[index],
            Storage::Slot(index) => &mut self.slots[index],
            Storage::Pack { pack, member } => &mut self.packs[pack][member],
        }
    }

    fn into_mut(self, storage: Storage) -> &'a mut Buffer<F> {
        match storage {
            Storage::State(index) => &mut self.states[self.of_plan[index]],
            Storage::Scalar(index) => &mut self.scalars[index],
            Storage::Constant(index) => &mut self.constants[index],
            Storage::Slot(index) => &mut self.slots[index],
            Storage::Pack { pack, member } => &mut self.packs[pack][member],
        }
    }

    fn take(&mut self, storage: Storage) -> Buffer<F> {
        std::mem::replace(self.get_mut(storage), Buffer::U8(Vec::new()))
    }
}

impl<F: Float> Executor for CpuExecutor<F> {
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        for step in 0..table.num_steps() {
            self.set_scalars(entry, table, step);
            for index in 0..self.entries[entry].plan.steps.len() {
                if table.is_on(self.entries[entry].plan.steps[index].guard, step) {
                    self.run_step(entry, index);
                }
            }
            if progress(step + 1).is_break() {
                return Ok(step + 1);
            }
        }
        Ok(table.num_steps())
    }

    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()> {
        self.set_scalars(entry, table, 0);
        self.run_step(entry, step);
        Ok(())
    }

    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()> {
        self.buffer(entry, operand.storage).fill_from(tensor);
        Ok(())
    }

    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor> {
        Ok(self.buffer(entry, operand.storage).tensor(&operand.ty))
    }

    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()> {
        match self.buffer(entry, operand.storage) {
            Buffer::Float(data) => data.fill(F::from_f64(f64::NAN)),
            Buffer::U32(data) => data.fill(u32::MAX),
            Buffer::U8(_) => {}
        }
        Ok(())
    }

    fn has_overrun(&mut self, _entry: usize, _operand: &Operand) -> Result<bool> {
        // Kernels write through slices of the exact length.
        Ok(false)
    }

    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        self.states[state].fill_from(tensor);
        Ok(())
    }

    fn read_state(&mut self, state: usize) -> Result<Tensor> {
        Ok(self.states[state].tensor(&self.state_types[state]))
    }

    fn keep(&mut self, states: &[usize]) -> Result<()> {
        for &state in states {
            self.kept[state] = Some(self.states[state].clone());
        }
        Ok(())
    }

    fn restore(&mut self, states: &[usize]) -> Result<()> {
        for &state in states {
            if let Some(kept) = &self.kept[state] {
                self.states[state] = kept.clone();
            }
        }
        Ok(())
    }

    fn read_kept(&mut self, state: usize) -> Result<Tensor> {
        let kept = self.kept[state].as_ref().unwrap_or(&self.states[state]);
        Ok(kept.tensor(&self.state_types[state]))
    }

    fn num_objects(&self) -> u64 {
        0
    }
}
