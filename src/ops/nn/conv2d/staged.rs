//! Convolution and its gradient by the input on real GPUs, for the shapes that networks mostly have: tiles of the source and
//! the filters in workgroup memory.

use super::Geometry;
use super::gpu::{Params, with_constants};
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, grid, to_u32};

pub static SHADER: Shader = Shader {
    name: "conv2d_staged",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/activation.wgsl"),
        include_str!("../../../../shaders/lib/register_tile.wgsl"),
        include_str!("../../../../shaders/lib/row_window.wgsl"),
        include_str!("../../../../shaders/conv2d_staged.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Neighbouring pixels, and channels, that a thread computes.
const STRIP: usize = 4;
const CHANNELS: usize = 8;
/// The widest kernel that a strip and the quad after it reach.
const MAX_KERNEL: usize = 5;
/// The vec4s of workgroup memory that every device has.
const WORKGROUP_QUADS: usize = 1024;
/// Strips of a workgroup across, and in all.
const MAX_ACROSS: usize = 8;
const MAX_STRIPS: usize = 64;
/// Threads of a workgroup, at most, and where that makes fewer workgroups than a GPU has places for, at least.
const MAX_THREADS: usize = 128;
const MIN_THREADS: usize = 64;
const MANY_WORKGROUPS: usize = 128;

/// What is computed from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The output from the input.
    Forward { has_bias: bool },
    /// The gradient by the input from that by the output.
    Transposed,
}

/// The tile of a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    direction: Direction,
    strips: usize,
    rows: usize,
    /// Times eight channels.
    eights: usize,
    /// Channels of the source in workgroup memory at a time.
    chunk: usize,
    /// Workgroups in all.
    units: usize,
}

impl Staged {
    /// The tile for a convolution that the kernel takes.
    pub fn of(geometry: &Geometry, direction: Direction, gpu: GpuTraits) -> Option<Staged> {
        let conv = &geometry.conv;
        let (result, result_channels, source_channels) = match direction {
            Direction::Forward { .. } => (geometry.output, geometry.out_channels, geometry.in_channels),
            Direction::Transposed => (geometry.input, geometry.in_channels, geometry.out_channels),
        };
        let [height, width] = result;
        let is_plain = conv.groups == 1 && conv.stride == [1, 1] && conv.dilation == [1, 1];
        if gpu.is_software || !is_plain || geometry.kernel[1] > MAX_KERNEL || !width.is_multiple_of(STRIP) {
            return None;
        }
        let strips = (width / STRIP).min(MAX_ACROSS);
        let rows = height.min(MAX_STRIPS / strips);
        let tiles = geometry.batch * height.div_ceil(rows) * (width / STRIP).div_ceil(strips);
        let units = |eights: usize| tiles * result_channels.div_ceil(CHANNELS * eights);
        let mut eights = (MAX_THREADS / (strips * rows)).clamp(1, result_channels.div_ceil(CHANNELS));
        while units(eights) < MANY_WORKGROUPS && eights > 1 && strips * rows * (eights / 2) >= MIN_THREADS {
            eights /= 2;
        }
        let patch = (rows + geometry.kernel[0] - 1) * (strips + 1);
        let filters = geometry.kernel[0] * geometry.kernel[1] * 2 * eights;
        let chunk = (WORKGROUP_QUADS / (patch + filters)).min(source_channels);
        (chunk > 0).then_some(Staged { direction, strips, rows, eights, chunk, units: units(eights) })
    }

    pub fn dispatches(&self, geometry: &Geometry) -> Dispatches {
        let (source_channels, activation, has_bias) = match self.direction {
            Direction::Forward { has_bias } => (geometry.in_channels, geometry.conv.activation.code(), has_bias),
            Direction::Transposed => (geometry.out_channels, 0, false),
        };
        let threads = self.strips * self.rows * self.eights;
        // Each chunk is staged in two loops; then every channel of it has its rows of the kernel.
        let staging = source_channels.div_ceil(self.chunk) * (4 + 2 * WORKGROUP_QUADS.div_ceil(threads));
        let work = grid(self.units, 1).iterations(staging + source_channels * (2 + geometry.kernel[0]));
        // Without a bias the weight is bound instead, and not read.
        let bias = Binding::Input(if has_bias { 2 } else { 1 });
        let bindings = [Binding::Input(0), Binding::Input(1), bias, Binding::Output(0)];
        let dispatch = Dispatch::new(&SHADER, "staged", &Params::of(geometry), bindings, work)
            .constant("HAS_BIAS", u32::from(has_bias))
            .constant("ACTIVATION", activation)
            .constant("TRANSPOSED", u32::from(self.direction == Direction::Transposed))
            .constant("TILE_STRIPS", to_u32(self.strips))
            .constant("TILE_ROWS", to_u32(self.rows))
            .constant("TILE_EIGHTS", to_u32(self.eights))
            .constant("CHUNK", to_u32(self.chunk))
            .constant("THREADS", to_u32(threads));
        with_constants(dispatch, geometry).into()
    }
}
