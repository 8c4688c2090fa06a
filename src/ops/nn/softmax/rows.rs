//! The rows of a softmax: how the CPU shares them out, and which kernel of a GPU takes them.

use super::SoftmaxFunction::{self, LogSoftmax};
use crate::ops::cpu::{Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, GpuTraits, Shader, grid, params, to_u32};
use crate::tensor::Shape;

params! {
    struct Params {
        num_rows: u32,
        axis_len: u32,
        inner: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "softmax",
    source: concat!(
        include_str!("../../../../shaders/lib/index.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/in_order.wgsl"),
        include_str!("../../../../shaders/softmax.wgsl"),
        include_str!("../../../../shaders/lib/softmax_rows.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Up to this many elements a row is computed by one invocation.
const MAX_THREAD_ELEMS: usize = 256;

/// Invocations in a workgroup of the vec4 kernels: a subgroup of llvmpipe, so that few rows still make many workgroups.
const VEC4_WORKGROUP_SIZE: u32 = 8;

/// Elements of a row that an invocation of a GPU keeps in registers, the rows that are computed so, and the fewest invocations
/// of a workgroup: a subgroup.
const HELD_ELEMS: usize = 16;
const MIN_HELD_ELEMS: usize = 64;
const MAX_HELD_ELEMS: usize = 256 * HELD_ELEMS;
const MIN_HELD_WORKGROUP_SIZE: u32 = 32;

/// The most elements of a row that one invocation of a vec4 kernel computes: far below llvmpipe's limit of iterations.
const MAX_VEC4_ELEMS: usize = 32_768;

/// Fewer rows than this leave cores of a software adapter idle.
const MIN_VEC4_ROWS: usize = 16;

/// Elements of a piece of work on the CPU, rounded up to whole rows: an eighth of all within these bounds.
const CPU_CHUNK_ELEMS: [usize; 2] = [2048, 16 * 1024];

/// Rows that lie side by side (`inner` above 1) and are computed together on the CPU.
pub const CPU_BLOCK: usize = 64;

/// Roughly what an exponential costs in simple operations.
const EXP_COST: usize = 16;

/// A shape as (outer, axis, inner): a row is one (outer, inner), its elements `inner` apart.
#[derive(Clone, Copy)]
pub struct Rows {
    outer: usize,
    pub axis_len: usize,
    pub inner: usize,
}

impl Rows {
    pub fn new(shape: &Shape, axis: usize) -> Rows {
        let dims = shape.dims();
        let (outer, inner) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
        Rows { outer, axis_len: dims[axis], inner }
    }

    /// Elements of a slab, (axis, inner).
    pub fn slab(self) -> usize {
        (self.axis_len * self.inner).max(1)
    }

    /// Calls `body(start, slabs)` for runs of whole slabs of `out`, in parallel where they are long enough; the first
    /// begins at element `start`.
    pub fn for_slabs<F: Float>(self, out: &mut [F], body: impl Fn(usize, &mut [F]) + Send + Sync) {
        let [least, most] = CPU_CHUNK_ELEMS;
        let chunk_len = (out.len() / 8).clamp(least, most).next_multiple_of(self.slab());
        parallel::for_chunks(
            out,
            chunk_len,
            EXP_COST,
            #[inline(always)]
            |index, slabs| body(index * chunk_len, slabs),
        );
    }

    /// Calls `body(first, len)` for blocks of rows that lie side by side in a slab.
    pub fn for_blocks(self, mut body: impl FnMut(usize, usize)) {
        for first in (0..self.inner).step_by(CPU_BLOCK) {
            body(first, CPU_BLOCK.min(self.inner - first));
        }
    }

    /// Whether the vec4 kernels take these rows on this device.
    fn is_vec4(self, gpu: GpuTraits) -> bool {
        let is_long = (MAX_THREAD_ELEMS / 4..=MAX_VEC4_ELEMS).contains(&self.axis_len);
        gpu.is_software && self.inner == 1 && self.axis_len.is_multiple_of(4) && is_long && self.outer >= MIN_VEC4_ROWS
    }

    /// Whether a workgroup of a GPU keeps a row in registers, which is then read once. Shorter rows are too little for one.
    fn is_held(self, gpu: GpuTraits) -> bool {
        let is_fitting = (MIN_HELD_ELEMS..=MAX_HELD_ELEMS).contains(&self.axis_len);
        !gpu.is_software && self.inner == 1 && self.axis_len.is_multiple_of(4) && is_fitting
    }

    pub fn dispatch(
        self,
        function: SoftmaxFunction,
        [rows, rows_ahead, rows_vec4, held, groups]: [&'static str; 5],
        bindings: &[Binding],
        gpu: GpuTraits,
    ) -> Dispatch {
        let num_rows = self.outer * self.inner;
        let params =
            Params { num_rows: to_u32(num_rows), axis_len: to_u32(self.axis_len), inner: to_u32(self.inner.max(1)) };
        let mut workgroup_size = WORKGROUP_SIZE;
        let (entry_point, workgroups, elems) = if self.is_vec4(gpu) {
            workgroup_size = VEC4_WORKGROUP_SIZE;
            (rows_vec4, grid(num_rows, workgroup_size), self.axis_len / 4)
        } else if self.is_held(gpu) {
            workgroup_size =
                to_u32(self.axis_len.div_ceil(HELD_ELEMS).next_power_of_two()).max(MIN_HELD_WORKGROUP_SIZE);
            (held, grid(num_rows, 1), HELD_ELEMS / 4)
        } else if self.axis_len <= MAX_THREAD_ELEMS {
            let rows = if gpu.is_software { rows } else { rows_ahead };
            (rows, grid(num_rows, WORKGROUP_SIZE), self.axis_len)
        } else {
            (groups, grid(num_rows, 1), self.axis_len.div_ceil(WORKGROUP_SIZE as usize))
        };
        // Maximum, sum, result; and two trees of a few iterations.
        let work = workgroups.iterations(3 * elems + 2 * WORKGROUP_SIZE.max(workgroup_size) as usize);
        Dispatch::new(&SHADER, entry_point, &params, bindings, work)
            .constant("WG", workgroup_size)
            .constant("LOG", u32::from(function == LogSoftmax))
    }
}
