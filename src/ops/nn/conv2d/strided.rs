//! The gradient by the input of a convolution with a stride on real GPUs: pixels that lie a stride apart meet the same taps,
//! and no thread asks for others.

use super::Geometry;
use super::added::Added;
use super::gpu::{Params, with_constants, with_group_rows};
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, grid, to_u32};

pub static SHADER: Shader = Shader {
    name: "conv2d_strided",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/register_tile.wgsl"),
        include_str!("../../../../shaders/lib/row_window.wgsl"),
        include_str!("../../../../shaders/lib/added.wgsl"),
        include_str!("../../../../shaders/lib/rounds.wgsl"),
        include_str!("../../../../shaders/conv2d_strided.wgsl")
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
        let held = MAX_ROUNDS.map(|rounds| rounds * strips * rows * parts);
        let chunk = [WORKGROUP_QUADS / (patch + filters), held[0] / patch, held[1] / filters, geometry.group_out()];
        let chunk = chunk.into_iter().min().filter(|&chunk| chunk > 0)?;
        Some(Strided { strips, rows, parts, chunk, units: units(rows, parts) })
    }

    /// Operand 2 is what is added to the gradient.
    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>) -> Dispatches {
        // Every channel of a chunk has its rows of the kernel.
        let chunks = 1 + geometry.group_out().div_ceil(self.chunk);
        let rows = geometry.kernel[0].div_ceil(geometry.conv.stride[0]);
        let work = grid(self.units, 1).iterations(2 * chunks + geometry.group_out() * (2 + rows));
        let added_binding = Added::binding(added, Binding::Input(1));
        let bindings = [Binding::Input(0), Binding::Input(1), Binding::Output(0), added_binding];
        let is_by_quads = geometry.conv.stride[1] == 2 && geometry.input[1].is_multiple_of(STRIP);
        let entry_point = if is_by_quads { "strided" } else { "strided_ragged" };
        let dispatch = Dispatch::new(&SHADER, entry_point, &Params::of(geometry), bindings, work)
            .constant("TILE_STRIPS", to_u32(self.strips))
            .constant("TILE_ROWS", to_u32(self.rows))
            .constant("TILE_PARTS", to_u32(self.parts))
            .constant("CHUNK", to_u32(self.chunk))
            .constant("THREADS", to_u32(self.strips * self.rows * self.parts));
        let dispatch = Added::constants(added, with_group_rows(dispatch, geometry, geometry.group_in()));
        with_constants(dispatch, geometry).into()
    }
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
