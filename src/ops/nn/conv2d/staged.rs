//! Convolution and its gradient by the input on real GPUs, for the shapes that networks mostly have, strides among them: tiles
//! of the source and the filters in workgroup memory.

use super::Geometry;
use super::added::Added;
use super::gpu::{Params, with_constants, with_group_rows};
use super::rounds::Room;
use super::tiles::Tiles;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, grid, to_u32};
use crate::ops::nn::activation::Activation;

macro_rules! shader {
    ($name:literal, [$($piece:literal),*]) => {
        Shader {
            name: $name,
            source: concat!(
                include_str!("../../../../shaders/lib/conv2d.wgsl"),
                include_str!("../../../../shaders/lib/extents.wgsl"),
                include_str!("../../../../shaders/lib/nan.wgsl"),
                include_str!("../../../../shaders/lib/register_tile.wgsl"),
                include_str!("../../../../shaders/lib/row_window.wgsl"),
                include_str!("../../../../shaders/lib/patch.wgsl"),
                include_str!("../../../../shaders/lib/added.wgsl"),
                include_str!("../../../../shaders/lib/rounds.wgsl"),
                include_str!("../../../../shaders/lib/conv2d_staged.wgsl"),
                include_str!("../../../../shaders/lib/staged_stores.wgsl"),
                $(include_str!($piece)),*
            ),
            params: Params::FIELDS,
            needs_subgroups: false,
        }
    };
}

pub static SHADER: Shader = shader!(
    "conv2d_staged",
    [
        "../../../../shaders/lib/math.wgsl",
        "../../../../shaders/lib/activation.wgsl",
        "../../../../shaders/conv2d_staged.wgsl"
    ]
);

/// With what a batch normalization before or after sums over tiles.
pub static MOMENTS: Shader = shader!(
    "conv2d_staged_moments",
    [
        "../../../../shaders/lib/activation_gradient.wgsl",
        "../../../../shaders/lib/tile_moments.wgsl",
        "../../../../shaders/lib/tile_gradients.wgsl",
        "../../../../shaders/conv2d_staged_moments.wgsl"
    ]
);

/// Neighbouring pixels, and channels, that a thread computes.
const STRIP: usize = 4;
const CHANNELS: usize = 8;
/// The widest kernel, and how many columns beyond a strip the quad after it reaches.
const MAX_KERNEL: usize = 5;
const MAX_REACH: usize = 4;
/// The vec4s of workgroup memory that every device has.
const WORKGROUP_QUADS: usize = 1024;
/// Quads that a thread holds of the next chunk, of what lies under the tile and of the filters.
const MAX_ROUNDS: [usize; 2] = [8, 12];
/// And of both together where that makes [`MAX_CHUNKS`] of the source's channels: the same registers.
const MAX_HELD: usize = 16;
/// Chunks from which on a thread waits for more than eight loads.
const MAX_CHUNKS: usize = 8;
/// Strips of a workgroup across, and in all.
const MAX_ACROSS: usize = 8;
const MAX_STRIPS: usize = 64;
/// Threads of a workgroup, at most, and where that makes fewer workgroups than a GPU has places for, at least.
const MAX_THREADS: usize = 128;
const MIN_THREADS: usize = 64;
/// Of a convolution in groups, at least: a subgroup.
const MIN_GROUP_THREADS: usize = 32;
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
    /// Whether rows of the result end within a strip.
    is_ragged: bool,
    strips: usize,
    rows: usize,
    /// Times eight channels.
    eights: usize,
    /// Quads in workgroup memory of what lies under the tile and of the filters, for a channel of the source.
    patch: usize,
    filters: usize,
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
            Direction::Forward { .. } => (geometry.output, geometry.group_out(), geometry.group_in()),
            Direction::Transposed => (geometry.input, geometry.group_in(), geometry.group_out()),
        };
        let [height, width] = result;
        // From a row or column of outputs to the next in what lies under them.
        let step = if direction == Direction::Transposed { [1, 1] } else { conv.stride };
        let reach = [0, 1].map(|axis| (geometry.kernel[axis] - 1) * conv.dilation[axis]);
        if gpu.is_software || geometry.kernel[1] > MAX_KERNEL || reach[1] / step[1] > MAX_REACH {
            return None;
        }
        let strips = width.div_ceil(STRIP).min(MAX_ACROSS);
        let rows = height.min(MAX_STRIPS / strips);
        let tiles = geometry.batch * conv.groups * height.div_ceil(rows) * width.div_ceil(STRIP * strips);
        let units = |eights: usize| tiles * result_channels.div_ceil(CHANNELS * eights);
        let mut eights = (MAX_THREADS / (strips * rows)).clamp(1, result_channels.div_ceil(CHANNELS));
        while units(eights) < MANY_WORKGROUPS && eights > 1 && strips * rows * (eights / 2) >= MIN_THREADS {
            eights /= 2;
        }
        // Small planes of few channels: `strips` has threads for several.
        if conv.groups > 1 && strips * rows * eights < MIN_GROUP_THREADS {
            return None;
        }
        let patch = ((rows - 1) * step[0] + reach[0] + 1) * step[1].min(reach[1] + 1) * (strips + 1);
        let filters = geometry.kernel[0] * geometry.kernel[1] * 2 * eights;
        let quads = quads(direction, eights);
        let room = Room { quads, rounds: MAX_ROUNDS, held: MAX_HELD, chunks: MAX_CHUNKS };
        let chunk = room.chunk([patch, filters], strips * rows * eights, source_channels)?;
        let is_ragged = !width.is_multiple_of(STRIP);
        Some(Staged { direction, is_ragged, strips, rows, eights, patch, filters, chunk, units: units(eights) })
    }

    /// The same tile with room in workgroup memory for what takes its moments.
    pub fn with_moments(self) -> Option<Staged> {
        let quads = quads(self.direction, self.eights);
        let fits = |chunk: &usize| (chunk * self.patch).max(self.moment_quads()) + chunk * self.filters <= quads;
        let chunk = (1..=self.chunk).rev().find(fits)?;
        Some(Staged { chunk, ..self })
    }

    fn threads(&self) -> usize {
        self.strips * self.rows * self.eights
    }

    /// Quads in place of the patch, two for each thread.
    fn moment_quads(&self) -> usize {
        2 * self.threads()
    }

    pub fn tiles(&self) -> Tiles {
        Tiles::Rectangles { size: [self.rows, STRIP * self.strips], step: 1 }
    }

    /// Operand 2 of a gradient is what is added to it.
    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>) -> Dispatches {
        let (activation, bias) = match self.direction {
            Direction::Forward { has_bias: true } => (geometry.conv.activation.code(), Binding::Input(2)),
            // Without one the weight is bound instead, and not read.
            Direction::Forward { has_bias: false } => (geometry.conv.activation.code(), Binding::Input(1)),
            Direction::Transposed => (0, Binding::Input(1)),
        };
        let entry_point = if self.is_ragged { "staged_ragged" } else { "staged" };
        let bindings = [bias, Binding::Output(0), Added::binding(added, Binding::Input(1))];
        let dispatch = self.dispatch(&SHADER, entry_point, geometry, &bindings).constant("ACTIVATION", activation);
        Added::constants(added, dispatch).into()
    }

    /// The convolution, of a tile from [`Staged::with_moments`], and the moments as output 1.
    pub fn dispatches_with_moments(&self, geometry: &Geometry) -> Dispatches {
        let bias = if self.direction == (Direction::Forward { has_bias: true }) { 2 } else { 1 };
        let entry_point = if self.is_ragged { "convolution_ragged" } else { "convolution" };
        let bindings = [Binding::Input(bias), Binding::Output(0), Binding::Unused, Binding::Output(1)];
        self.dispatch(&MOMENTS, entry_point, geometry, &bindings)
            .constant("LEAST_UNDER", to_u32(self.moment_quads()))
            .into()
    }

    /// The gradient by the input through an activation, of a tile from [`Staged::with_moments`], with the operands and outputs
    /// of [`Added::sums`].
    pub fn dispatches_with_sums(
        &self,
        geometry: &Geometry,
        added: Option<Added>,
        activation: Activation,
    ) -> Dispatches {
        let entry_point = if self.is_ragged { "gradient_ragged" } else { "gradient" };
        let bindings = [Binding::Unused, Binding::Output(0), Added::binding(added, Binding::Input(1))];
        let bindings = [bindings.as_slice(), &Added::sums(added)].concat();
        let dispatch = self
            .dispatch(&MOMENTS, entry_point, geometry, &bindings)
            .constant("LEAST_UNDER", to_u32(self.moment_quads()))
            .constant("GRADIENT_OF", activation.code());
        Added::constants(added, dispatch).into()
    }

    /// The dispatch with these bindings after the weight.
    fn dispatch(
        &self,
        shader: &'static Shader,
        entry_point: &'static str,
        geometry: &Geometry,
        others: &[Binding],
    ) -> Dispatch {
        let ([channels, source_channels], has_bias) = match self.direction {
            Direction::Forward { has_bias } => ([geometry.group_out(), geometry.group_in()], has_bias),
            Direction::Transposed => ([geometry.group_in(), geometry.group_out()], false),
        };
        // Every channel of a chunk has its rows of the kernel.
        let chunks = 1 + source_channels.div_ceil(self.chunk);
        let work = grid(self.units, 1).iterations(2 * chunks + source_channels * (2 + geometry.kernel[0]));
        let bindings = [&[Binding::Input(0), Binding::Input(1)], others].concat();
        let dispatch = Dispatch::new(shader, entry_point, &Params::of(geometry), bindings, work)
            .constant("HAS_BIAS", u32::from(has_bias))
            .constant("TRANSPOSED", u32::from(self.direction == Direction::Transposed))
            .constant("TILE_STRIPS", to_u32(self.strips))
            .constant("TILE_ROWS", to_u32(self.rows))
            .constant("TILE_EIGHTS", to_u32(self.eights))
            .constant("CHUNK", to_u32(self.chunk))
            .constant("THREADS", to_u32(self.threads()));
        with_constants(with_group_rows(dispatch, geometry, channels), geometry)
    }
}

/// Quads of workgroup memory that the biases of the tile's channels leave: without them they are one number.
fn quads(direction: Direction, eights: usize) -> usize {
    match direction {
        Direction::Forward { has_bias: true } => WORKGROUP_QUADS - eights * CHANNELS / 4,
        _ => WORKGROUP_QUADS - 1,
    }
}
