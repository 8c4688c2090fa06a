//! The dispatches of a convolution's gradient by weight and bias: sums over slices of the batch's rows, which a second pass
//! adds in order, or the optimizer. What `depthwise.rs`, `gemm_weight.rs` and `staged_weight.rs` have kernels for is left to
//! them.

use super::Geometry;
use super::depthwise::DepthwiseWeight;
use super::gemm_weight::GemmWeight;
use super::gpu::{CHANNELS, Gradient, MAX_VEC4_KERNEL, Params, STRIP};
use super::gpu::{is_vec4, pick, shader_pair, with_constants, with_tile_rows};
use super::staged_weight::StagedWeight;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, grid, to_u32};

pub static SHADERS: [Shader; 2] = shader_pair!(
    "conv2d_grad_weight",
    [
        "../../../../shaders/lib/tap_sums.wgsl",
        "../../../../shaders/conv2d_grad_weight.wgsl",
        "../../../../shaders/lib/slice_sums.wgsl"
    ]
);

/// Threads of a workgroup of the first pass: more leave lanes idle on small kernels. A hardware GPU wants
/// two subgroups of 32, if there are as many kernel rows.
const THREADS_SOFTWARE: usize = 8;
const MAX_THREADS_GPU: usize = 64;
/// Threads of a workgroup of the second pass.
const SUM_THREADS: u32 = 64;
/// Workgroups that the first pass should have: enough to keep a device busy, few enough that the second pass stays short.
const TARGET_GROUPS_SOFTWARE: usize = 64;
const TARGET_GROUPS_GPU: usize = 512;
const MAX_SLICES_GPU: usize = 224;
/// The most floats of partial sums that are worth a dispatch less: the optimizer adds them up.
pub const MAX_PARTIALS: usize = 1 << 20;
/// Iterations of a slice's loops: well below llvmpipe's limit.
const MAX_SLICE_ITERATIONS: usize = 32_768;

/// How the rows of a batch are cut into slices, each summed by workgroups of its own.
#[derive(Clone, Copy, Debug)]
pub struct Slicing {
    pub threads: usize,
    pub groups_per_slice: usize,
    pub rows_per_slice: usize,
    pub num_slices: usize,
}

impl Slicing {
    pub fn of(geometry: &Geometry, gpu: GpuTraits) -> Slicing {
        if let Some(depthwise) = DepthwiseWeight::of(geometry, gpu) {
            return depthwise.slicing(geometry, TARGET_GROUPS_GPU, MAX_SLICES_GPU);
        }
        if let Some(gemm) = GemmWeight::of(geometry, gpu) {
            return gemm.slicing(geometry, TARGET_GROUPS_GPU, MAX_SLICES_GPU);
        }
        if let Some(staged) = StagedWeight::of(geometry, gpu) {
            return staged.slicing(geometry, TARGET_GROUPS_GPU, MAX_SLICES_GPU);
        }
        let [kernel_h, kernel_w] = geometry.kernel;
        let taps = if kernel_w <= MAX_VEC4_KERNEL { kernel_w } else { STRIP };
        let kernel_rows = geometry.group_in() * kernel_h * kernel_w.div_ceil(taps);
        let channel_tiles = geometry.conv.groups * geometry.group_out().div_ceil(CHANNELS);
        let (threads, target, most_slices) = match gpu.is_software {
            true => (THREADS_SOFTWARE, TARGET_GROUPS_SOFTWARE, usize::MAX),
            // Eight threads share what they load.
            false => (kernel_rows.next_multiple_of(8).min(MAX_THREADS_GPU), TARGET_GROUPS_GPU, MAX_SLICES_GPU),
        };
        let groups_per_slice = kernel_rows.div_ceil(threads) * channel_tiles;
        let rows = geometry.batch * geometry.output[0];
        let wanted_slices = target.div_ceil(groups_per_slice).min(most_slices).clamp(1, rows);
        let most_rows = (MAX_SLICE_ITERATIONS / (1 + geometry.output[1].div_ceil(STRIP))).max(2);
        // Max-pooling hands back two rows together, which a software adapter takes so.
        let unit = if gpu.is_software { 2 } else { 1 };
        let rows_per_slice = unit * rows.div_ceil(unit * wanted_slices).min(most_rows / unit);
        Slicing { threads, groups_per_slice, rows_per_slice, num_slices: rows.div_ceil(rows_per_slice) }
    }
}

/// The sums for weight and bias in a slice.
pub fn slice_elems(geometry: &Geometry) -> usize {
    geometry.out_channels * (geometry.patch_elems() + 1)
}

/// The first pass: the sums of each slice, into `partials`.
pub fn slices(geometry: &Geometry, gradient: Gradient, partials: Binding, gpu: GpuTraits) -> Dispatch {
    let slicing = Slicing::of(geometry, gpu);
    // Those that these take are never pooled: only software adapters take them so.
    if gradient == Gradient::Whole {
        if let Some(depthwise) = DepthwiseWeight::of(geometry, gpu) {
            return depthwise.dispatch(geometry, slicing, partials);
        }
        if let Some(gemm) = GemmWeight::of(geometry, gpu) {
            return gemm.dispatch(geometry, slicing, partials);
        }
        if let Some(staged) = StagedWeight::of(geometry, gpu) {
            return staged.dispatch(geometry, slicing, partials);
        }
    }
    let slice_iterations = slicing.rows_per_slice * (1 + geometry.output[1].div_ceil(STRIP)) + 1 + CHANNELS;
    let params = Params { rows_per_slice: to_u32(slicing.rows_per_slice), ..Params::of(geometry) };
    let entry_point = if is_vec4(geometry) { "slices_vec4" } else { "slices" };
    let bindings = [Binding::Input(1), Binding::Input(0), partials, gradient.chosen(), Binding::Input(0)];
    let work = grid(slicing.groups_per_slice * slicing.num_slices, 1).iterations(slice_iterations);
    let dispatch = Dispatch::new(pick(&SHADERS, gpu), entry_point, &params, bindings, work)
        .constant("WORKGROUP", to_u32(slicing.threads))
        .constant("POOLED", gradient.code());
    with_constants(with_tile_rows(dispatch, geometry.group_out(), gpu), geometry)
}

/// Two passes: slices of rows over the whole batch, each summed by its own workgroups, then the slices in order.
pub fn dispatches(geometry: &Geometry, has_bias: bool, gradient: Gradient, gpu: GpuTraits) -> Dispatches {
    let Slicing { rows_per_slice, num_slices, .. } = Slicing::of(geometry, gpu);
    let num_sums = slice_elems(geometry);
    let params = Params { rows_per_slice: to_u32(rows_per_slice), ..Params::of(geometry) };
    let first = slices(geometry, gradient, Binding::ScratchMut(0), gpu);
    let (entry_point, mut bindings) = ("sum_slices_weight", vec![Binding::Scratch(0), Binding::Output(0)]);
    let entry_point = if has_bias {
        bindings.push(Binding::Output(1));
        "sum_slices"
    } else {
        entry_point
    };
    let work = grid(num_sums, SUM_THREADS).iterations(num_slices);
    let shader = pick(&SHADERS, gpu);
    let second = Dispatch::new(shader, entry_point, &params, bindings, work)
        .constant("SUM_WORKGROUP", SUM_THREADS)
        .constant("EIGHTS_AHEAD", if gpu.is_software { 1u32 } else { 4 });
    Dispatches { list: vec![first, with_constants(second, geometry)], scratch_elems: vec![num_slices * num_sums] }
}
