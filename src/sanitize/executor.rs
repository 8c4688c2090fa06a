//! The executor of plans on the interpreter: buffers as a device makes them, bound as a device binds them.

use std::sync::{Arc, Mutex};

use super::memory::{BufferId, Memory};
use super::plan::{Interpreter, KernelUse, poisoned};
use super::{Bound, Kernel, Options};
use crate::Error;
use crate::Result;
use crate::exec::{Executor, Progress, StateLayout, StepTable};
use crate::graph::plan::{Operand, PackMember, Plan, Step, Storage};
use crate::ops::kernel::{Binding, Dispatch, Dispatches};
use crate::tensor::{DType, Tensor, TensorData, TensorType};

/// Part of a buffer, in words.
#[derive(Clone, Copy, Debug)]
struct Part {
    buffer: BufferId,
    offset: usize,
    num_words: usize,
}

/// One dispatch, ready to run.
struct Ready {
    kernel: Arc<Kernel>,
    bound: Vec<Bound>,
    dispatch: Dispatch,
}

struct Entry {
    plan: Plan,
    states: Vec<usize>,
    scalars: Vec<Part>,
    constants: Vec<Part>,
    slots: Vec<Part>,
    /// For each pack, all of it and its members.
    packs: Vec<(Part, Vec<Part>)>,
    steps: Vec<Vec<Ready>>,
    /// The scratch buffers of each step.
    scratch: Vec<Vec<Part>>,
}

pub(super) struct InterpreterExecutor {
    options: Options,
    memory: Memory,
    states: Vec<Part>,
    state_types: Vec<TensorType>,
    kept: Vec<Option<Vec<u32>>>,
    entries: Vec<Entry>,
    log: Arc<Mutex<Vec<KernelUse>>>,
}

fn words_of(ty: &TensorType) -> usize {
    ty.size_bytes().div_ceil(4).max(1)
}

impl InterpreterExecutor {
    pub fn new(
        interpreter: &Interpreter,
        plans: &[Plan],
        layout: &StateLayout,
        log: Arc<Mutex<Vec<KernelUse>>>,
    ) -> Result<Self> {
        let mut executor = InterpreterExecutor {
            options: interpreter.options,
            memory: Memory::new(),
            states: Vec::new(),
            state_types: layout.specs.iter().map(|spec| spec.ty.clone()).collect(),
            kept: vec![None; layout.specs.len()],
            entries: Vec::new(),
            log,
        };
        let packs: Vec<Part> = layout.packs.iter().map(|pack| executor.zeros(pack.num_elems)).collect();
        for (spec, placed) in layout.specs.iter().zip(&layout.placed) {
            let part = match *placed {
                Some((pack, member)) => {
                    let offset = layout.packs[pack].members[member].offset_elems;
                    Part { offset, num_words: words_of(&spec.ty), ..packs[pack] }
                }
                None => executor.zeros(words_of(&spec.ty)),
            };
            executor.states.push(part);
        }
        for (plan, states) in plans.iter().zip(&layout.of_plan) {
            let entry = executor.entry(interpreter, plan, (states, layout, &packs))?;
            executor.entries.push(entry);
        }
        Ok(executor)
    }

    /// A buffer as a device makes it: of zeros, and at least a word long.
    fn zeros(&mut self, num_words: usize) -> Part {
        let num_words = num_words.max(1);
        Part { buffer: self.memory.buffer(vec![0; num_words]), offset: 0, num_words }
    }

    /// A buffer that has to be written before it is read.
    fn unwritten(&mut self, num_words: usize) -> Part {
        let num_words = num_words.max(1);
        Part { buffer: self.memory.uninitialized(num_words), offset: 0, num_words }
    }

    fn entry(
        &mut self,
        interpreter: &Interpreter,
        plan: &Plan,
        (states, layout, state_packs): (&[usize], &StateLayout, &[Part]),
    ) -> Result<Entry> {
        let mut entry = Entry {
            plan: plan.clone(),
            states: states.to_vec(),
            scalars: plan.scalars.iter().map(|_| self.zeros(1)).collect(),
            constants: Vec::new(),
            slots: Vec::new(),
            packs: Vec::new(),
            steps: Vec::new(),
            scratch: Vec::new(),
        };
        for tensor in &plan.constants {
            let part = self.zeros(words_of(&tensor.ty()));
            self.memory.write(part.buffer, part.offset, &tensor_words(tensor));
            entry.constants.push(part);
        }
        for slot in &plan.slots {
            entry.slots.push(self.unwritten((slot.num_elems * slot.dtype.size_bytes()).div_ceil(4)));
        }
        for pack in &plan.packs {
            let whole = match layout.pack_index(pack) {
                Some(shared) => state_packs[shared],
                None => self.zeros(pack.num_elems),
            };
            let member =
                |member: &PackMember| Part { offset: member.offset_elems, num_words: words_of(&member.ty), ..whole };
            entry.packs.push((whole, pack.members.iter().map(member).collect()));
        }
        for step in &plan.steps {
            let Dispatches { list, scratch_elems } = step.dispatches(interpreter.gpu)?;
            let scratch: Vec<Part> = scratch_elems.iter().map(|&elems| self.unwritten(elems)).collect();
            let mut ready = Vec::new();
            for dispatch in list {
                ready.push(self.ready(interpreter, &entry, step, (dispatch, &scratch))?);
            }
            entry.steps.push(ready);
            entry.scratch.push(scratch);
        }
        Ok(entry)
    }

    /// Binds a dispatch.
    fn ready(
        &mut self,
        interpreter: &Interpreter,
        entry: &Entry,
        step: &Step,
        (dispatch, scratch): (Dispatch, &[Part]),
    ) -> Result<Ready> {
        let mut params: Vec<u32> = dispatch.params.chunks(4).map(bytemuck::pod_read_unaligned).collect();
        // A WGSL struct with arrays of vec4 is padded to whole vec4s.
        params.resize(params.len().next_multiple_of(4), 0);
        let params = Part { num_words: params.len(), offset: 0, buffer: self.memory.buffer(params) };
        let operand = |operand: &Operand| self.part(entry, operand.storage, &operand.ty);
        let part = |&binding: &Binding| match binding {
            Binding::Unused => None,
            Binding::Input(index) | Binding::Scalar(index) | Binding::Updated(index) => {
                Some(operand(&step.inputs[index]))
            }
            Binding::Output(index) => Some(operand(&step.outputs[index])),
            Binding::Scratch(index) | Binding::ScratchMut(index) => Some(scratch[index]),
            Binding::Pack(index) | Binding::PackUpdated(index) => Some(entry.packs[step.packs[index]].0),
        };
        let parts = [Some(params)].into_iter().chain(dispatch.bindings.iter().map(part));
        let bound = (0..).zip(parts).filter_map(|(binding, part)| {
            part.map(|part: Part| Bound {
                binding,
                buffer: part.buffer,
                offset: part.offset,
                num_words: Some(part.num_words),
            })
        });
        Ok(Ready { bound: bound.collect(), kernel: interpreter.kernel(&dispatch)?, dispatch })
    }

    fn part(&self, entry: &Entry, storage: Storage, ty: &TensorType) -> Part {
        let part = match storage {
            Storage::State(index) => self.states[entry.states[index]],
            Storage::Scalar(index) => entry.scalars[index],
            Storage::Constant(index) => entry.constants[index],
            Storage::Slot(index) => entry.slots[index],
            Storage::Pack { pack, member } => entry.packs[pack].1[member],
        };
        Part { num_words: words_of(ty), ..part }
    }

    fn run_step(&mut self, entry: usize, step: usize) -> Result<()> {
        let at = &self.entries[entry];
        let op = at.plan.steps[step].label();
        for scratch in &at.scratch[step] {
            self.memory.forget(scratch.buffer, 0..scratch.num_words);
        }
        for ready in &at.steps[step] {
            let Ready { kernel, bound, dispatch } = ready;
            let report = kernel.run(&mut self.memory, bound, dispatch.workgroups, &self.options)?;
            if self.options.max_workgroups.is_some() {
                // The next kernel reads what all workgroups write.
                let all = Options { max_workgroups: None, count: false, ..self.options };
                kernel.run(&mut self.memory, bound, dispatch.workgroups, &all)?;
            }
            let used = KernelUse {
                op: op.clone(),
                kernel: dispatch.kernel.label(),
                constants: dispatch.kernel.constants.clone(),
                workgroups: dispatch.workgroups,
                workgroup_size: kernel.workgroup_size(),
                stated_iterations: dispatch.loop_iterations,
                report,
            };
            self.log.lock().map_err(|_| poisoned())?.push(used);
        }
        Ok(())
    }

    fn set_scalars(&mut self, entry: usize, table: &StepTable, step: usize) {
        for (&part, (dtype, value)) in self.entries[entry].scalars.iter().zip(table.row(step)) {
            let word = match dtype {
                // Devices compute in f32.
                DType::F32 => (value as f32).to_bits(),
                // The table holds whole numbers in u32's range for such columns.
                DType::U32 | DType::U8 => value as u32,
            };
            self.memory.write(part.buffer, part.offset, &[word]);
        }
    }

    fn forget(&mut self, entry: usize, operand: &Operand) {
        let part = self.part(&self.entries[entry], operand.storage, &operand.ty);
        self.memory.forget(part.buffer, part.offset..part.offset + part.num_words);
    }

    fn tensor(&self, part: Part, ty: &TensorType) -> Result<Tensor> {
        let words = &self.memory.words(part.buffer)[part.offset..part.offset + part.num_words];
        let count = ty.shape.num_elems();
        let data = match ty.dtype {
            DType::F32 => TensorData::F32(words[..count].iter().map(|&word| f32::from_bits(word)).collect()),
            DType::U32 => TensorData::U32(words[..count].to_vec()),
            DType::U8 => TensorData::U8(bytemuck::cast_slice(words)[..count].to_vec()),
        };
        Tensor::new(ty.shape.clone(), data)
    }
}

/// A tensor as a device holds it.
fn tensor_words(tensor: &Tensor) -> Vec<u32> {
    match tensor.data() {
        TensorData::F32(data) => data.iter().map(|value| value.to_bits()).collect(),
        TensorData::F64(_) => tensor.to_f32_vec().iter().map(|value| value.to_bits()).collect(),
        TensorData::U32(data) => data.clone(),
        TensorData::U8(data) => {
            let mut bytes = data.clone();
            bytes.resize(data.len().next_multiple_of(4), 0);
            bytemuck::pod_collect_to_vec(&bytes)
        }
    }
}

fn not_shared() -> Error {
    let reason = "it runs single plans, of one process".to_owned();
    Error::Unsupported { op: "an exchange of states".to_owned(), device: "the interpreter".to_owned(), reason }
}

impl Executor for InterpreterExecutor {
    fn run(&mut self, entry: usize, table: &StepTable, progress: Progress<'_>) -> Result<usize> {
        for number in 0..table.num_steps() {
            self.set_scalars(entry, table, number);
            for step in 0..self.entries[entry].plan.steps.len() {
                if table.is_on(self.entries[entry].plan.steps[step].guard, number) {
                    self.run_step(entry, step)?;
                }
            }
            if progress(number + 1).is_break() {
                return Ok(number + 1);
            }
        }
        Ok(table.num_steps())
    }

    fn run_op(&mut self, entry: usize, step: usize, table: &StepTable) -> Result<()> {
        self.set_scalars(entry, table, 0);
        self.run_step(entry, step)
    }

    fn write(&mut self, entry: usize, operand: &Operand, tensor: &Tensor) -> Result<()> {
        let part = self.part(&self.entries[entry], operand.storage, &operand.ty);
        self.memory.write(part.buffer, part.offset, &tensor_words(tensor));
        Ok(())
    }

    fn read(&mut self, entry: usize, operand: &Operand) -> Result<Tensor> {
        self.tensor(self.part(&self.entries[entry], operand.storage, &operand.ty), &operand.ty)
    }

    fn poison(&mut self, entry: usize, operand: &Operand) -> Result<()> {
        self.forget(entry, operand);
        Ok(())
    }

    fn has_overrun(&mut self, _entry: usize, _operand: &Operand) -> Result<bool> {
        // An access beyond the end of a binding is a finding.
        Ok(false)
    }

    fn write_state(&mut self, state: usize, tensor: &Tensor) -> Result<()> {
        let part = self.states[state];
        self.memory.write(part.buffer, part.offset, &tensor_words(tensor));
        Ok(())
    }

    fn read_state(&mut self, state: usize) -> Result<Tensor> {
        self.tensor(self.states[state], &self.state_types[state])
    }

    fn read_bytes(&mut self, _states: &[usize], _bytes: &mut Vec<u8>) -> Result<()> {
        Err(not_shared())
    }

    fn write_bytes(&mut self, _states: &[usize], _bytes: &[u8]) -> Result<()> {
        Err(not_shared())
    }

    fn keep(&mut self, states: &[usize]) -> Result<()> {
        for &state in states {
            let Part { buffer, offset, num_words } = self.states[state];
            self.kept[state] = Some(self.memory.words(buffer)[offset..offset + num_words].to_vec());
        }
        Ok(())
    }

    fn restore(&mut self, states: &[usize]) -> Result<()> {
        for &state in states {
            if let Some(words) = self.kept[state].clone() {
                self.memory.write(self.states[state].buffer, self.states[state].offset, &words);
            }
        }
        Ok(())
    }

    fn read_kept(&mut self, state: usize) -> Result<Tensor> {
        let Some(words) = self.kept[state].clone() else { return self.read_state(state) };
        let buffer = self.memory.buffer(words);
        let num_words = self.states[state].num_words;
        self.tensor(Part { buffer, offset: 0, num_words }, &self.state_types[state])
    }

    fn num_objects(&self) -> u64 {
        0
    }
}
