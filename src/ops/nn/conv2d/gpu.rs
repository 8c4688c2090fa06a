//! The dispatches of convolution and its gradient by the input. A thread computes a strip of four neighbouring pixels for
//! eight channels; eight threads share the filters that they load. What `choice.rs` has a kernel for is left to that.

use super::Geometry;
use super::added::Added;
use super::choice::Choice;
use super::depthwise::{SHADER as DEPTHWISE, WEIGHT_SHADER as DEPTHWISE_WEIGHT};
use super::gemm::SHADER as GEMM;
use super::gemm_weight::SHADER as GEMM_WEIGHT;
use super::grad_weight::SHADERS as GRAD_WEIGHT;
use super::staged::{Direction, MOMENTS as STAGED_MOMENTS, SHADER as STAGED};
use super::staged_weight::SHADER as STAGED_WEIGHT;
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

pub(super) use shader_pair;

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
pub const STRIP: usize = 4;
/// Channels that a thread computes.
pub(in crate::ops::nn) const CHANNELS: usize = 8;
/// The widest kernel whose row the vec4 kernels keep in registers.
pub const MAX_VEC4_KERNEL: usize = 5;
/// Threads of a workgroup, in strips. On a software adapter enough to amortise the cost of a workgroup; on a
/// hardware GPU two subgroups of 32.
pub const STRIPS_SOFTWARE: u32 = 32;
pub const STRIPS_GPU: u32 = 64;
/// Pairs of rows of which one that is computed for nothing is no loss.
const MANY_PAIRS: usize = 4;
pub fn pick(pair: &'static [Shader; 2], gpu: GpuTraits) -> &'static Shader {
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
pub fn is_vec4(geometry: &Geometry) -> bool {
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
    pub fn chosen(self) -> Binding {
        match self {
            Gradient::Whole => Binding::Input(0),
            Gradient::Pooled(chosen) => chosen,
        }
    }

    pub fn code(self) -> u32 {
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
