//! The update of all parameters by a rule for one element ([`PackedUpdate`]), where some gradients come as sums over slices
//! that are still to be added up: the update does so as it reads them, which saves a dispatch. `graph/fuse/gpu` makes it.

use std::ops::Range;

use super::packed::{self, WORKGROUP_SIZE};
use super::packed_update::{MAX_SCALARS, PackedUpdate, Tensors};
use crate::graph::plan::packed_elems;
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, grid};
use crate::ops::{Operation, check};
use crate::tensor::{Tensor, TensorType};
use crate::{Error, Result};

/// Where the gradient of a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GradientSource {
    /// Among the gradients that are whole, the next one.
    Whole,
    /// In a tensor (slices, elements), from this element of each slice on.
    Partial { tensor: usize, offset: usize },
}

/// Inputs: the scalars, then all parameters, the gradients that are whole, the states one role after the other, the tensors
/// of partial gradients, and the table that [`PartialUpdate::table`] makes. All but the gradients and the table are updated
/// in place.
#[derive(Clone, Debug)]
pub(crate) struct PartialUpdate {
    pub update: PackedUpdate,
    pub sources: Vec<GradientSource>,
    pub num_partials: usize,
}

/// Elements of a block, of which a row of the table tells where its gradients are; members of packs begin at whole blocks.
const BLOCK: usize = 64;
/// vec4s of a block.
const BLOCK_VEC4: usize = BLOCK / 4;
/// Slices that a thread loads at a time.
const SLICES_AHEAD: usize = 32;

impl PartialUpdate {
    /// The indices among the inputs of parameters, whole gradients, states and partial gradients.
    fn ranges(&self) -> Vec<Range<usize>> {
        let whole = self.sources.iter().filter(|source| **source == GradientSource::Whole).count();
        let num_states = self.update.rule.has_state.iter().filter(|has| **has).count();
        let mut lens = vec![self.update.num_params, whole];
        lens.resize(2 + num_states, self.update.num_params);
        lens.push(self.num_partials);
        packed::ranges_of(self.update.rule.num_scalars, &lens)
    }

    /// For each block of the parameters' pack: the first vec4 of its gradient in the pack of the whole ones or in that of
    /// the partial ones, the number of slices (0 for a whole one), vec4s from one slice to the next, vec4s that there are.
    pub fn table(params: &[TensorType], sources: &[GradientSource], partials: &[TensorType]) -> Result<Tensor> {
        let mut rows = Vec::new();
        let mut whole_offset = 0;
        for (param, source) in params.iter().zip(sources) {
            let len = param.shape.num_elems();
            let (first, slices, stride) = match *source {
                GradientSource::Whole => {
                    let first = whole_offset;
                    whole_offset += packed_elems(std::slice::from_ref(param));
                    (first, 0, 0)
                }
                GradientSource::Partial { tensor, offset } => {
                    let shape = &partials[tensor].shape;
                    (packed_elems(&partials[..tensor]) + offset, shape[0], shape[1])
                }
            };
            for block in 0..len.div_ceil(BLOCK) {
                let left = (len - block * BLOCK).div_ceil(4).min(BLOCK_VEC4);
                let row = [first / 4 + block * BLOCK_VEC4, slices, stride / 4, left];
                rows.extend(row.map(crate::ops::kernel::to_u32));
            }
        }
        Tensor::u32([rows.len() / 4, 4], rows)
    }

    /// The indices among the inputs of the partial gradients.
    pub fn partials(&self) -> Range<usize> {
        self.ranges().pop().expect("partial gradients come last")
    }

    /// The role of each state among the packs.
    fn state_roles(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        let mut roles = 2..;
        self.update.rule.has_state.into_iter().map(move |has| if has { roles.next() } else { None })
    }
}

impl Operation for PartialUpdate {
    fn name(&self) -> &'static str {
        self.update.name()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let ranges = self.ranges();
        let end = ranges.last().map_or(0, |range| range.end);
        if inputs.len() != end + 1 || self.sources.len() != self.update.num_params {
            return Err(Error::operand(self.name(), format!("{} operands", end + 1), inputs.len().to_string()));
        }
        check::dtype(self.name(), &inputs[end], crate::DType::U32)?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let rule = &self.update.rule;
        let scalars: [F; MAX_SCALARS] =
            std::array::from_fn(|index| if index < rule.num_scalars { ctx.float(index)[0] } else { F::ZERO });
        let (walk, roles): (_, Vec<Option<usize>>) = (rule.walk::<F>().clone(), self.state_roles().collect());
        let ranges = self.ranges();
        let partials = self.partials().start;
        let mut whole = ranges[1].clone();
        for (index, source) in self.sources.iter().enumerate() {
            let param = ctx.updated(ranges[0].start + index);
            let sum: Vec<F>;
            let grad = match *source {
                GradientSource::Whole => ctx.float(whole.next().expect("a gradient for each parameter")),
                GradientSource::Partial { tensor, offset } => {
                    let stride = ctx.inputs[partials + tensor].shape[1];
                    let rows = ctx.float(partials + tensor).chunks_exact(stride);
                    let of = |rows: std::slice::ChunksExact<'_, F>, at: usize| {
                        rows.fold(F::ZERO, |sum, row| sum + row[offset + at])
                    };
                    sum = (0..param.len()).map(|at| of(rows.clone(), at)).collect();
                    &sum
                }
            };
            let state = |role: &Option<usize>| role.map(|role| ctx.updated(ranges[role].start + index));
            let mut states = roles.iter().map(state);
            let states = std::array::from_fn(|_| states.next().flatten());
            walk(scalars, Tensors { param, grad, states });
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let ranges = self.ranges();
        let partials = ranges.len() - 1;
        let rule = &self.update.rule;
        let num_vec4 = packed::num_vec4(&ctx.inputs[ranges[0].clone()]);
        let mut params = num_vec4.to_ne_bytes().to_vec();
        params.extend_from_slice(bytemuck::cast_slice(&rule.params));
        let mut bindings = vec![Binding::Pack(1), Binding::PackUpdated(0)];
        // A state that there is not is scratch memory of one vec4, which the kernel leaves alone.
        bindings.extend(self.state_roles().enumerate().map(|(state, role)| match role {
            Some(role) => Binding::PackUpdated(role),
            None => Binding::ScratchMut(state),
        }));
        // Likewise a scalar that the rule's settings do not need is the first one once more.
        let scalar = |index: usize| Binding::Scalar(if index < rule.num_scalars { index } else { 0 });
        bindings.extend((0..rule.shader_scalars).map(scalar));
        bindings.resize(5 + MAX_SCALARS, Binding::Unused);
        bindings.extend([Binding::Pack(partials), Binding::Input(ranges[partials].end)]);
        let slices = ctx.inputs[ranges[partials].clone()].iter().map(|ty| ty.shape[0]).max().unwrap_or(0);
        let work = grid(num_vec4 as usize, WORKGROUP_SIZE).iterations(slices.div_ceil(SLICES_AHEAD));
        let has_state = |state: usize| u32::from(rule.has_state[state]);
        let mut dispatch = Dispatch::new(rule.shader, "step_from_partials", &(), bindings, work)
            .constant("WG", WORKGROUP_SIZE)
            .constant("HAS_STATE_0", has_state(0))
            .constant("HAS_STATE_1", has_state(1))
            .constant("HAS_STATE_2", has_state(2));
        dispatch.params = params;
        let dispatch = rule.constants.iter().fold(dispatch, |dispatch, &(name, value)| dispatch.constant(name, value));
        Ok(Dispatches { list: vec![dispatch], scratch_elems: vec![4; super::packed_update::MAX_STATES] })
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        let ranges = self.ranges();
        let partials = packed::num_elems(&inputs[ranges[ranges.len() - 1].clone()]);
        (packed::num_elems(&inputs[ranges[0].clone()]) * self.update.rule.flops + partials) as u64
    }

    fn ulps(&self) -> f64 {
        self.update.ulps()
    }

    fn updates(&self) -> Vec<usize> {
        let mut ranges = self.ranges();
        ranges.pop();
        packed::all_but_gradients(ranges)
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        format!("{}, {} gradients in slices", self.update.describe(), self.sources.len() - self.ranges()[1].len())
    }
}
