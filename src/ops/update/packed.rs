//! What ops share that walk over all parameters at once: tensors in packs at the same offsets, one pack for each role
//! (parameters, gradients, each state of an optimizer).

use std::ops::Range;

use crate::graph::plan::packed_elems;
use crate::ops::cpu::Float;
use crate::ops::kernel::to_u32;
use crate::tensor::TensorType;

/// Invocations in a workgroup of a kernel that walks over packs.
pub(super) const WORKGROUP_SIZE: u32 = 64;

/// vec4s of a pack that one workgroup reduces: enough to outweigh its tree.
pub(super) const SLICE_VEC4: usize = 1024;

/// The indices among an op's inputs of `num_roles` packs of `num_params` tensors each, after `num_scalars` scalars.
pub(super) fn ranges(num_scalars: usize, num_params: usize, num_roles: usize) -> Vec<Range<usize>> {
    let range = |role: usize| num_scalars + role * num_params..num_scalars + (role + 1) * num_params;
    (0..num_roles).map(range).collect()
}

/// The indices among an op's inputs of packs of these lengths, consecutive from index `first` on.
pub(super) fn ranges_of(first: usize, lens: &[usize]) -> Vec<Range<usize>> {
    let mut start = first;
    let range = |&len: &usize| {
        start += len;
        start - len..start
    };
    lens.iter().map(range).collect()
}

/// All indices except those of the gradients, the second role: what an optimizer updates.
pub(super) fn all_but_gradients(ranges: Vec<Range<usize>>) -> Vec<usize> {
    ranges.into_iter().enumerate().filter(|(role, _)| *role != 1).flat_map(|(_, range)| range).collect()
}

/// Length of a pack of these types in vec4s, with the padding.
pub(super) fn num_vec4(types: &[TensorType]) -> u32 {
    to_u32(packed_elems(types) / 4)
}

/// Loop iterations of an invocation of a workgroup that adds up so many values: its share of them, then the tree.
pub(super) fn reduction_iterations(num_values: usize) -> usize {
    (num_values + 1).div_ceil(WORKGROUP_SIZE as usize) + WORKGROUP_SIZE as usize
}

/// A pack as a reduction walks over it: each slice of [`SLICE_VEC4`] gives one partial result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices {
    /// Length of the pack.
    pub num_vec4: u32,
    /// Where its partial results begin among those of all packs.
    pub first_partial: u32,
    pub num_slices: usize,
}

/// The slices of the packs at these indices among an op's inputs, and how many there are in all.
pub(super) fn slices(inputs: &[TensorType], ranges: Vec<Range<usize>>) -> (Vec<Slices>, usize) {
    let mut num_partials = 0;
    let slices_of = |range: Range<usize>| {
        let num_vec4 = num_vec4(&inputs[range]);
        let slices = Slices {
            num_vec4,
            first_partial: to_u32(num_partials),
            num_slices: (num_vec4 as usize).div_ceil(SLICE_VEC4),
        };
        num_partials += slices.num_slices;
        slices
    };
    let packs = ranges.into_iter().map(slices_of).collect();
    (packs, num_partials)
}

/// Elements of these types, without the padding.
pub(super) fn num_elems(types: &[TensorType]) -> usize {
    types.iter().map(|ty| ty.shape.num_elems()).sum()
}

/// −1, 0 or 1; 0 of 0, and not a number of what is none.
#[inline(always)]
pub(crate) fn sign<F: Float>(x: F) -> F {
    if x > F::ZERO {
        F::ONE
    } else if x < F::ZERO {
        -F::ONE
    } else if x == F::ZERO {
        F::ZERO
    } else {
        x
    }
}
