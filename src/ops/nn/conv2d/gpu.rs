//! The dispatches of convolution and its gradients. A thread computes a strip of four neighbouring pixels for eight
//! channels; eight threads share the filters that they load. What `choice.rs` has a kernel for,
//! and `depthwise.rs`, `gemm_weight.rs` and `staged_weight.rs` of the gradient by the weight, is left to them.

use super::Geometry;
use super::added::Added;
use super::choice::Choice;
use super::depthwise::{DepthwiseWeight, SHADER as DEPTHWISE, WEIGHT_SHADER as DEPTHWISE_WEIGHT};
use super::gemm::SHADER as GEMM;
use super::gemm_weight::{GemmWeight, SHADER as GEMM_WEIGHT};
use super::staged::{Direction, MOMENTS as STAGED_MOMENTS, SHADER as STAGED};
use super::staged_weight::{SHADER as STAGED_WEIGHT, StagedWeight};
use super::strided::SHADER as STRIDED;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Grid, Shader, grid, params, to_u32};

params! {
    /// What the kernels of a convolution and its gradients, fused ones included, have in lib/conv2d.wgsl.
    pub(in crate::ops::nn) struct Params {
        batch: u32,
        in_channels: u32,
        in_h: u32,
        in_w: u32,
        out_channels: u32,
        out_h: u32,
        out_w: u32,
        rows_per_slice: u32,
        stages_per_slice: u32,
    }
}

/// A shader in its two forms: values exchanged through workgroup memory, or by shuffles.
macro_rules! shader_pair {
    ($name:literal, [$($piece:literal),*]) => {
        [
            shader_pair!(@one $name, [$($piece,)* "../../../../shaders/lib/share_workgroup.wgsl"], false),
            shader_pair!(@one $name, [$($piece,)* "../../../../shaders/lib/share_subgroup.wgsl"], true),
        ]
    };
    (@one $name:literal, [$($piece:literal),*], $needs_subgroups:literal) => {
        Shader {
            name: $name,
            source: concat!(
                include_str!("../../../../shaders/lib/conv2d.wgsl"),
                include_str!("../../../../shaders/lib/register_tile.wgsl"),
                include_str!("../../../../shaders/lib/shared_rows.wgsl"),
                include_str!("../../../../shaders/lib/row_window.wgsl"),
                $(include_str!($piece)),*
            ),
            params: Params::FIELDS,
            needs_subgroups: $needs_subgroups,
        }
    };
}

static FORWARD: [Shader; 2] = shader_pair!(
    "conv2d",
    [
        "../../../../shaders/lib/nan.wgsl",
        "../../../../shaders/lib/math.wgsl",
        "../../../../shaders/lib/activation.wgsl",
        "../../../../shaders/lib/kernel_taps.wgsl",
        "../../../../shaders/lib/conv2d_strip.wgsl",
        "../../../../shaders/conv2d.wgsl"
    ]
);
static GRAD_INPUT: [Shader; 2] = shader_pair!(
    "conv2d_grad_input",
    [
        "../../../../shaders/lib/kernel_taps.wgsl",
        "../../../../shaders/lib/conv2d_strip.wgsl",
        "../../../../shaders/lib/added.wgsl",
        "../../../../shaders/conv2d_grad_input.wgsl"
    ]
);
static GRAD_WEIGHT: [Shader; 2] = shader_pair!(
    "conv2d_grad_weight",
    [
        "../../../../shaders/lib/tap_sums.wgsl",
        "../../../../shaders/conv2d_grad_weight.wgsl",
        "../../../../shaders/lib/slice_sums.wgsl"
    ]
);
pub static SHADERS: &[&Shader] = &[
    &FORWARD[0],
    &FORWARD[1],
    &GRAD_INPUT[0],
    &GRAD_INPUT[1],
    &GRAD_WEIGHT[0],
    &GRAD_WEIGHT[1],
    &STAGED,
    &STAGED_MOMENTS,
    &STAGED_WEIGHT,
    &STRIDED,
    &GEMM,
    &GEMM_WEIGHT,
    &DEPTHWISE,
    &DEPTHWISE_WEIGHT,
];

/// Neighbouring pixels that a thread computes.
const STRIP: usize = 4;
/// Channels that a thread computes.
pub(in crate::ops::nn) const CHANNELS: usize = 8;
/// The widest kernel whose row the vec4 kernels keep in registers.
pub const MAX_VEC4_KERNEL: usize = 5;
/// Threads of a workgroup, in strips. On a software adapter enough to amortise the cost of a workgroup; on a
/// hardware GPU two subgroups of 32.
const STRIPS_SOFTWARE: u32 = 32;
const STRIPS_GPU: u32 = 64;
/// Pairs of rows of which one that is computed for nothing is no loss.
const MANY_PAIRS: usize = 4;
/// Threads of a workgroup of the weight gradient's first pass: more leave lanes idle on small kernels. A hardware GPU wants
/// two subgroups of 32, if there are as many kernel rows.
const GRAD_WEIGHT_THREADS_SOFTWARE: usize = 8;
const MAX_GRAD_WEIGHT_THREADS_GPU: usize = 64;
/// Threads of a workgroup of its second pass.
const SUM_THREADS: u32 = 64;
/// Workgroups that the weight gradient's first pass should have: enough to keep a device busy, few enough that the
/// second pass stays short.
const TARGET_GROUPS_SOFTWARE: usize = 64;
const TARGET_GROUPS_GPU: usize = 512;
const MAX_SLICES_GPU: usize = 224;
/// The most floats of partial sums that are worth a dispatch less: the optimizer adds them up.
pub(super) const MAX_PARTIALS: usize = 1 << 20;
/// Iterations of a slice's loops: well below llvmpipe's limit.
const MAX_SLICE_ITERATIONS: usize = 32_768;

fn pick(pair: &'static [Shader; 2], gpu: GpuTraits) -> &'static Shader {
    &pair[usize::from(gpu.has_shuffles)]
}

impl Params {
    pub(in crate::ops::nn) fn of(geometry: &Geometry) -> Params {
        let ([in_h, in_w], [out_h, out_w]) = (geometry.input, geometry.output);
        Params {
            batch: to_u32(geometry.batch),
            in_channels: to_u32(geometry.in_channels),
            in_h: to_u32(in_h),
            in_w: to_u32(in_w),
            out_channels: to_u32(geometry.out_channels),
            out_h: to_u32(out_h),
            out_w: to_u32(out_w),
            rows_per_slice: 0,
            stages_per_slice: 0,
        }
    }
}

/// The constants that all kernels of a convolution share: loops over them unroll.
pub(in crate::ops::nn) fn with_constants(dispatch: Dispatch, geometry: &Geometry) -> Dispatch {
    let conv = &geometry.conv;
    let pairs = [
        (["KERNEL_H", "KERNEL_W"], geometry.kernel),
        (["STRIDE_H", "STRIDE_W"], conv.stride),
        (["PADDING_H", "PADDING_W"], conv.padding),
        (["DILATION_H", "DILATION_W"], conv.dilation),
    ];
    let mut dispatch = dispatch.constant("GROUPS", to_u32(conv.groups));
    for (names, values) in pairs {
        for (name, value) in names.into_iter().zip(values) {
            dispatch = dispatch.constant(name, to_u32(value));
        }
    }
    dispatch
}

/// Whether rows can be read and written four pixels at a time.
fn is_vec4(geometry: &Geometry) -> bool {
    geometry.conv.stride[1] == 1
        && geometry.conv.dilation[1] == 1
        && geometry.kernel[1] <= MAX_VEC4_KERNEL
        && geometry.input[1].is_multiple_of(STRIP)
        && geometry.output[1].is_multiple_of(STRIP)
}

/// Settles how many rows a tile of eight channels has, where there are fewer: a software adapter computes each. On a real
/// GPU that would be one more kernel to compile for next to no time.
pub(in crate::ops::nn) fn with_tile_rows(dispatch: Dispatch, group_channels: usize, gpu: GpuTraits) -> Dispatch {
    match gpu.is_software {
        true => dispatch.constant("REAL_ROWS", to_u32(group_channels.min(CHANNELS))),
        false => dispatch,
    }
}

/// The same on a real GPU for a convolution in groups of a few channels, where most rows would be computed for nothing.
pub(super) fn with_group_rows(dispatch: Dispatch, geometry: &Geometry, group_channels: usize) -> Dispatch {
    match geometry.conv.groups > 1 && group_channels < CHANNELS {
        true => dispatch.constant("REAL_ROWS", to_u32(group_channels)),
        false => dispatch,
    }
}

pub fn strips_per_group(gpu: GpuTraits) -> u32 {
    if gpu.is_software { STRIPS_SOFTWARE } else { STRIPS_GPU }
}

/// Pairs of rows that a thread computes on a software adapter, one below the other: two, which share filters and most rows
/// under them, unless that leaves many without work.
pub(in crate::ops::nn) fn pairs_per_thread(pairs: usize) -> usize {
    if pairs.is_multiple_of(2) || pairs > MANY_PAIRS { 2 } else { 1 }
}

/// Iterations over the kernel rows of `channels` channels, each in blocks of four taps where it is long.
fn kernel_iterations(geometry: &Geometry, channels: usize) -> usize {
    let [height, width] = geometry.kernel;
    channels * (2 + height * (2 + width.div_ceil(STRIP)))
}

/// Workgroups over all strips of rows of `width` pixels and all tiles of channels.
fn strip_grid(geometry: &Geometry, [height, width]: [usize; 2], group_channels: usize, gpu: GpuTraits) -> Grid {
    let strips = geometry.batch * height * width.div_ceil(STRIP);
    let tiles = geometry.conv.groups * group_channels.div_ceil(CHANNELS);
    grid(strips.div_ceil(strips_per_group(gpu) as usize) * tiles, 1)
}

pub fn forward(geometry: &Geometry, has_bias: bool, gpu: GpuTraits) -> Dispatches {
    if let Some(choice) = Choice::of(geometry, Direction::Forward { has_bias }, gpu) {
        return choice.dispatches(geometry, None);
    }
    let entry_point = if is_vec4(geometry) { "strips_vec4" } else { "strips" };
    let iterations = kernel_iterations(geometry, geometry.group_in());
    let work = strip_grid(geometry, geometry.output, geometry.group_out(), gpu).iterations(iterations);
    // Without a bias the weight is bound instead, and not read.
    let bias = Binding::Input(if has_bias { 2 } else { 1 });
    let bindings = [Binding::Input(0), Binding::Input(1), bias, Binding::Output(0)];
    let dispatch = Dispatch::new(pick(&FORWARD, gpu), entry_point, &Params::of(geometry), bindings, work)
        .constant("HAS_BIAS", u32::from(has_bias))
        .constant("ACTIVATION", geometry.conv.activation.code())
        .constant("WORKGROUP", strips_per_group(gpu));
    with_constants(with_tile_rows(dispatch, geometry.group_out(), gpu), geometry).into()
}

/// What the gradients of a convolution are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// The gradient by the output.
    Whole,
    /// The gradient after 2×2 max-pooling of the output, and at this binding the cells that were chosen.
    Pooled(Binding),
}

impl Gradient {
    /// Whether kernels take it without its being spread over the output first: software adapters read rows by vec4s.
    pub fn is_taken(geometry: &Geometry, gpu: GpuTraits) -> bool {
        gpu.is_software && is_vec4(geometry) && geometry.output[0].is_multiple_of(2) && has_pairs(geometry, gpu)
    }

    /// The binding of the cells, or of another buffer that is not read.
    fn chosen(self) -> Binding {
        match self {
            Gradient::Whole => Binding::Input(0),
            Gradient::Pooled(chosen) => chosen,
        }
    }

    fn code(self) -> u32 {
        u32::from(self != Gradient::Whole)
    }
}

/// Whether the gradient by the input is computed for two rows at a time.
fn has_pairs(geometry: &Geometry, gpu: GpuTraits) -> bool {
    let is_vec4 = is_vec4(geometry) && geometry.conv.padding[1] < geometry.kernel[1];
    let is_dense = geometry.conv.stride[0] == 1 && geometry.conv.dilation[0] == 1;
    // A real GPU has registers for eight strips of a row.
    gpu.is_software && is_vec4 && is_dense && geometry.input[0].is_multiple_of(2)
}

/// `added` is what operand 2 adds to the gradient, where there is one.
pub fn grad_input(geometry: &Geometry, gradient: Gradient, added: Option<Added>, gpu: GpuTraits) -> Dispatches {
    if gradient == Gradient::Whole
        && let Some(choice) = Choice::of(geometry, Direction::Transposed, gpu)
    {
        return choice.dispatches(geometry, added);
    }
    let is_vec4 = is_vec4(geometry) && geometry.conv.padding[1] < geometry.kernel[1];
    let [height, width] = geometry.input;
    let (entry_point, rows, pairs) = match (has_pairs(geometry, gpu), is_vec4) {
        (true, _) => {
            let pairs = pairs_per_thread(height / 2);
            ("strip_pairs", height.div_ceil(2 * pairs), pairs)
        }
        (false, true) => ("strips_vec4", height, 0),
        (false, false) => ("strips", height, 0),
    };
    // Pairs store in loops.
    let of_pairs = 2 * pairs * (1 + CHANNELS);
    let iterations = kernel_iterations(geometry, geometry.group_out()) + of_pairs;
    let work = strip_grid(geometry, [rows, width], geometry.group_in(), gpu).iterations(iterations);
    let bindings = [
        Binding::Input(0),
        Binding::Input(1),
        Binding::Output(0),
        gradient.chosen(),
        Binding::Input(0),
        Added::binding(added, Binding::Input(1)),
    ];
    let dispatch = Dispatch::new(pick(&GRAD_INPUT, gpu), entry_point, &Params::of(geometry), bindings, work)
        .constant("WORKGROUP", strips_per_group(gpu))
        .constant("PAIRS", to_u32(pairs))
        .constant("POOLED", gradient.code());
    let dispatch = Added::constants(added, dispatch);
    with_constants(with_tile_rows(dispatch, geometry.group_in(), gpu), geometry).into()
}

/// How the rows of a batch are cut into slices, each summed by workgroups of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slicing {
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
            true => (GRAD_WEIGHT_THREADS_SOFTWARE, TARGET_GROUPS_SOFTWARE, usize::MAX),
            // Eight threads share what they load.
            false => {
                (kernel_rows.next_multiple_of(8).min(MAX_GRAD_WEIGHT_THREADS_GPU), TARGET_GROUPS_GPU, MAX_SLICES_GPU)
            }
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
pub(super) fn slice_elems(geometry: &Geometry) -> usize {
    geometry.out_channels * (geometry.patch_elems() + 1)
}

/// The first pass of the gradient by the weight: the sums of each slice, into `partials`.
pub(super) fn grad_weight_slices(
    geometry: &Geometry,
    gradient: Gradient,
    partials: Binding,
    gpu: GpuTraits,
) -> Dispatch {
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
    let dispatch = Dispatch::new(pick(&GRAD_WEIGHT, gpu), entry_point, &params, bindings, work)
        .constant("WORKGROUP", to_u32(slicing.threads))
        .constant("POOLED", gradient.code());
    with_constants(with_tile_rows(dispatch, geometry.group_out(), gpu), geometry)
}

/// Two passes: slices of rows over the whole batch, each summed by its own workgroups, then the slices in order.
pub fn grad_weight(geometry: &Geometry, has_bias: bool, gradient: Gradient, gpu: GpuTraits) -> Dispatches {
    let Slicing { rows_per_slice, num_slices, .. } = Slicing::of(geometry, gpu);
    let num_sums = slice_elems(geometry);
    let params = Params { rows_per_slice: to_u32(rows_per_slice), ..Params::of(geometry) };
    let first = grad_weight_slices(geometry, gradient, Binding::ScratchMut(0), gpu);
    let (entry_point, mut bindings) = ("sum_slices_weight", vec![Binding::Scratch(0), Binding::Output(0)]);
    let entry_point = if has_bias {
        bindings.push(Binding::Output(1));
        "sum_slices"
    } else {
        entry_point
    };
    let work = grid(num_sums, SUM_THREADS).iterations(num_slices);
    let shader = pick(&GRAD_WEIGHT, gpu);
    let second = Dispatch::new(shader, entry_point, &params, bindings, work)
        .constant("SUM_WORKGROUP", SUM_THREADS)
        .constant("EIGHTS_AHEAD", if gpu.is_software { 1u32 } else { 4 });
    Dispatches { list: vec![first, with_constants(second, geometry)], scratch_elems: vec![num_slices * num_sums] }
}
