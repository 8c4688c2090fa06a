//! The gradient by the input of a convolution with a stride on real GPUs: pixels that lie a stride apart meet the same taps,
//! and no thread asks for others.

use super::Geometry;
use super::added::Added;
use super::gpu::{Params, with_constants, with_group_rows};
use super::rounds::Room;
use super::tiles::Tiles;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, grid, to_u32};
use crate::ops::nn::activation::Activation;

pub static SHADER: Shader = Shader {
    name: "conv2d_strided",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/register_tile.wgsl"),
        include_str!("../../../../shaders/lib/row_window.wgsl"),
        include_str!("../../../../shaders/lib/added.wgsl"),
        include_str!("../../../../shaders/lib/rounds.wgsl"),
        include_str!("../../../../shaders/lib/activation_gradient.wgsl"),
        include_str!("../../../../shaders/lib/tile_moments.wgsl"),
        include_str!("../../../../shaders/lib/tile_gradients.wgsl"),
        include_str!("../../../../shaders/lib/gradient_rows.wgsl"),
        include_str!("../../../../shaders/conv2d_strided.wgsl"),
        include_str!("../../../../shaders/lib/strided_sums.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Neighbouring pixels of a residue that a thread computes.
const STRIP: usize = 4;
/// The widest stride whose residues a thread has room for, and the widest kernel that is written out.
const MAX_STRIDE: usize = 4;
const MAX_KERNEL: usize = 9;
/// Columns between those that the first and the last tap meet: a strip and the quad after it reach so far.
const MAX_SPAN: usize = 4;
/// The vec4s of workgroup memory that every device has.
const WORKGROUP_QUADS: usize = 1024;
/// Quads that a thread holds of the next chunk, of the patch and of the weights.
const MAX_ROUNDS: [usize; 2] = [6, 8];
/// And of both together where that makes [`MAX_CHUNKS`] of the output's channels: the same registers.
const MAX_HELD: usize = 14;
/// Chunks from which on a thread waits for more than eight loads, one of which is for what is added.
const MAX_CHUNKS: usize = 7;
/// Strips of a workgroup across, and in all.
const MAX_ACROSS: usize = 8;
const MAX_STRIPS: usize = 64;
/// Threads of a workgroup, at most, and where that makes fewer workgroups than fill a GPU, at least.
const MAX_THREADS: usize = 128;
const MIN_THREADS: usize = 64;
const MANY_WORKGROUPS: usize = 256;

/// The tile of a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strided {
    strips: usize,
    rows: usize,
    /// Times as many channels as a thread has.
    parts: usize,
    /// Quads in workgroup memory of the patch and of the weights, for an output channel.
    patch: usize,
    filters: usize,
    /// Output channels in workgroup memory at a time.
    chunk: usize,
    /// Workgroups in all.
    units: usize,
}

impl Strided {
    /// The tile for a convolution that the kernel takes.
    pub fn of(geometry: &Geometry, gpu: GpuTraits) -> Option<Strided> {
        let conv = &geometry.conv;
        let span = [0, 1].map(|axis| span(geometry, axis));
        let is_narrow = conv.stride[1] <= MAX_STRIDE && geometry.kernel[1] <= MAX_KERNEL && span[1] <= MAX_SPAN;
        if gpu.is_software || conv.stride == [1, 1] || conv.dilation != [1, 1] || !is_narrow {
            return None;
        }
        let [height, width] = [0, 1].map(|axis| geometry.input[axis].div_ceil(conv.stride[axis]));
        let strips = width.div_ceil(STRIP).min(MAX_ACROSS);
        let mut rows = height.min(MAX_STRIPS / strips);
        let part = part_channels(geometry);
        let of_channels = geometry.group_in().div_ceil(part);
        let mut parts = (MAX_THREADS / (strips * rows)).clamp(1, of_channels);
        let units = |rows: usize, parts: usize| {
            let tiles = conv.stride[0] * geometry.batch * height.div_ceil(rows) * width.div_ceil(STRIP * strips);
            tiles * conv.groups * of_channels.div_ceil(parts)
        };
        while units(rows, parts) < MANY_WORKGROUPS && parts > 1 && strips * rows * (parts / 2) >= MIN_THREADS {
            parts /= 2;
        }
        while units(rows, parts) < MANY_WORKGROUPS && rows > 1 && strips * rows.div_ceil(2) * parts >= MIN_THREADS {
            rows = rows.div_ceil(2);
        }
        let patch = (rows + span[0]) * (strips + usize::from(span[1] > 0));
        let filters = geometry.kernel[0].div_ceil(conv.stride[0]) * geometry.kernel[1] * parts * part / 4;
        let room = Room { quads: WORKGROUP_QUADS, rounds: MAX_ROUNDS, held: MAX_HELD, chunks: MAX_CHUNKS };
        let chunk = room.chunk([patch, filters], strips * rows * parts, geometry.group_out())?;
        Some(Strided { strips, rows, parts, patch, filters, chunk, units: units(rows, parts) })
    }

    /// The same tile with room in workgroup memory for what sums over it, where rows are stored by the quad. A column that no tap
    /// meets has gradients that are zeros when the kernel is compiled, and a compiler may make 0 of their products with NaN.
    pub fn with_sums(self, geometry: &Geometry) -> Option<Strided> {
        let quads = |chunk: usize| (chunk * self.patch).max(self.sum_quads()) + chunk * self.filters;
        let chunk = (1..=self.chunk).rev().find(|&chunk| quads(chunk) <= WORKGROUP_QUADS)?;
        let has_taps = geometry.kernel[1] >= geometry.conv.stride[1];
        (is_by_quads(geometry) && has_taps).then_some(Strided { chunk, ..self })
    }

    /// Those that the sums are over.
    pub fn tiles(&self, geometry: &Geometry) -> Tiles {
        let [step, stride] = geometry.conv.stride;
        Tiles::Rectangles { size: [self.rows, STRIP * self.strips * stride], step }
    }

    /// Operand 2 is what is added to the gradient.
    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>) -> Dispatches {
        let entry_point = if is_by_quads(geometry) { "strided" } else { "strided_ragged" };
        let others = [Added::binding(added, Binding::Input(1))];
        Added::constants(added, self.dispatch(entry_point, geometry, &others)).into()
    }

    /// The gradient through an activation, of a tile from [`Strided::with_sums`], with the operands and outputs of
    /// [`Added::sums`].
    pub fn dispatches_with_sums(
        &self,
        geometry: &Geometry,
        added: Option<Added>,
        activation: Activation,
    ) -> Dispatches {
        let others = [Added::binding(added, Binding::Input(1)), Binding::Unused];
        let others = [others.as_slice(), &Added::sums(added)].concat();
        let dispatch = self
            .dispatch("strided_sums", geometry, &others)
            .constant("LEAST_UNDER", to_u32(self.sum_quads()))
            .constant("GRADIENT_OF", activation.code());
        Added::constants(added, dispatch).into()
    }

    fn threads(&self) -> usize {
        self.strips * self.rows * self.parts
    }

    /// Quads in place of the patch, two for each thread.
    fn sum_quads(&self) -> usize {
        2 * self.threads()
    }

    /// The dispatch with these bindings after the gradient.
    fn dispatch(&self, entry_point: &'static str, geometry: &Geometry, others: &[Binding]) -> Dispatch {
        // Every channel of a chunk has its rows of the kernel.
        let chunks = 1 + geometry.group_out().div_ceil(self.chunk);
        let rows = geometry.kernel[0].div_ceil(geometry.conv.stride[0]);
        let work = grid(self.units, 1).iterations(2 * chunks + geometry.group_out() * (2 + rows));
        let bindings = [&[Binding::Input(0), Binding::Input(1), Binding::Output(0)], others].concat();
        let dispatch = Dispatch::new(&SHADER, entry_point, &Params::of(geometry), bindings, work)
            .constant("TILE_STRIPS", to_u32(self.strips))
            .constant("TILE_ROWS", to_u32(self.rows))
            .constant("TILE_PARTS", to_u32(self.parts))
            .constant("CHUNK", to_u32(self.chunk))
            .constant("THREADS", to_u32(self.threads()));
        with_constants(with_group_rows(dispatch, geometry, geometry.group_in()), geometry)
    }
}

/// Whether neighbouring pixels are two residues, and rows whole quads of them.
fn is_by_quads(geometry: &Geometry) -> bool {
    geometry.conv.stride[1] == 2 && geometry.input[1].is_multiple_of(STRIP)
}

/// Channels that a thread computes: of all residues along a row.
fn part_channels(geometry: &Geometry) -> usize {
    if geometry.conv.stride[1] < 3 { 8 } else { 4 }
}

/// Rows or columns of the output between those that the first and the last tap meet.
fn span(geometry: &Geometry, axis: usize) -> usize {
    let (kernel, stride, padding) = (geometry.kernel[axis], geometry.conv.stride[axis], geometry.conv.padding[axis]);
    // As the kernel counts them.
    let reach = |tap: usize| (padding + stride * kernel - tap).div_ceil(stride);
    reach(0) - reach(kernel - 1)
}
