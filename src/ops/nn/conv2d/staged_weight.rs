//! The first pass of a convolution's gradient by the weight on real GPUs, for the shapes that networks mostly have: rows of the
//! input and of the gradient by the output in workgroup memory.

use super::Geometry;
use super::gpu::{CHANNELS, MAX_VEC4_KERNEL, Params, with_constants, with_group_rows};
use super::grad_weight::{MAX_PARTIALS, Slicing, slice_elems};
use crate::ops::kernel::{Binding, Dispatch, GpuTraits, Shader, grid, to_u32};

pub static SHADER: Shader = Shader {
    name: "conv2d_grad_weight_staged",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/register_tile.wgsl"),
        include_str!("../../../../shaders/lib/shared_rows.wgsl"),
        include_str!("../../../../shaders/lib/row_window.wgsl"),
        include_str!("../../../../shaders/lib/tap_sums.wgsl"),
        include_str!("../../../../shaders/lib/patch.wgsl"),
        include_str!("../../../../shaders/lib/rounds.wgsl"),
        include_str!("../../../../shaders/conv2d_grad_weight_staged.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// The vec4s of workgroup memory that every device has.
const WORKGROUP_QUADS: usize = 1024;
/// Quads that a thread holds of the next rows, of the input and of the gradient.
const MAX_ROUNDS: usize = 8;
/// Columns between the first and the last tap that a strip and the quad after it reach.
const MAX_REACH: usize = 4;
/// Threads of a workgroup, at most: four subgroups of 32.
const MAX_THREADS: usize = 128;
/// About how many instructions it takes to load a quad, and to add a tap of a strip for eight channels.
const LOAD: usize = 30;
const TAP: usize = 44;

/// What a workgroup computes, and what it has in memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedWeight {
    /// Input channels.
    channels: usize,
    /// Times eight output channels.
    eights: usize,
    /// Threads for eight output channels: one a kernel row and channel, and as many more as make whole eights.
    row_threads: usize,
    /// Rows of an image at a time.
    rows: usize,
}

impl StagedWeight {
    /// The tile for a convolution that the kernel takes, by which there is least to do.
    pub fn of(geometry: &Geometry, gpu: GpuTraits) -> Option<StagedWeight> {
        let conv = &geometry.conv;
        let reach = (geometry.kernel[1] - 1) * conv.dilation[1] / conv.stride[1];
        if gpu.is_software || geometry.kernel[1] > MAX_VEC4_KERNEL || reach > MAX_REACH {
            return None;
        }
        let tiles = (1..=geometry.group_out().div_ceil(CHANNELS)).filter_map(|eights| {
            let channels = (MAX_THREADS / (eights * geometry.kernel[0])).min(geometry.group_in());
            (channels > 0).then(|| StagedWeight::with(geometry, even(geometry.group_in(), channels), eights))?
        });
        tiles.min_by(|a, b| a.work(geometry).total_cmp(&b.work(geometry)))
    }

    /// The tile of so many channels, with as many rows as there is room for.
    fn with(geometry: &Geometry, channels: usize, eights: usize) -> Option<StagedWeight> {
        let row_threads = (channels * geometry.kernel[0]).next_multiple_of(CHANNELS);
        let tile = |rows: usize| StagedWeight { channels, eights, row_threads, rows };
        let fits = |tile: &StagedWeight| {
            let [patch, grads] = tile.quads(geometry);
            let held = MAX_ROUNDS * tile.threads();
            patch + grads <= WORKGROUP_QUADS && patch.max(grads) <= held && tile.threads() <= MAX_THREADS
        };
        let most = (1..=geometry.output[0]).take_while(|&rows| fits(&tile(rows))).last()?;
        Some(tile(even(geometry.output[0], most)))
    }

    fn threads(&self) -> usize {
        self.eights * self.row_threads
    }

    /// Quads of the input and of the gradient by the output, as the kernel lays them out.
    fn quads(&self, geometry: &Geometry) -> [usize; 2] {
        let quads = geometry.output[1].div_ceil(4);
        let stride = geometry.conv.stride;
        let reach = [0, 1].map(|axis| (geometry.kernel[axis] - 1) * geometry.conv.dilation[axis]);
        let row = stride[1].min(reach[1] + 1) * (quads + 1 + quads % 2);
        let patch_rows = (self.rows - 1) * stride[0] + reach[0] + 1;
        [self.channels * patch_rows * row, CHANNELS * self.eights * self.rows * quads]
    }

    /// Tiles of channels, of all groups.
    fn tiles(&self, geometry: &Geometry) -> usize {
        let of_group =
            geometry.group_in().div_ceil(self.channels) * geometry.group_out().div_ceil(CHANNELS * self.eights);
        geometry.conv.groups * of_group
    }

    /// About how many instructions a row of the output takes, those of channels that are not there included.
    fn work(&self, geometry: &Geometry) -> f64 {
        let quads: usize = self.quads(geometry).iter().sum();
        let strips = self.threads() * geometry.output[1].div_ceil(4);
        let of_tile = (LOAD * quads) as f64 / self.rows as f64 + (TAP * geometry.kernel[1] * strips) as f64;
        self.tiles(geometry) as f64 * of_tile
    }

    /// The slices that the rows of a batch are cut into, at most `most_slices` and with about `target` workgroups.
    pub fn slicing(&self, geometry: &Geometry, target: usize, most_slices: usize) -> Slicing {
        let tiles = self.tiles(geometry);
        let rows = geometry.batch * geometry.output[0];
        // Of a few channels a workgroup has few threads.
        let target = target * (MAX_THREADS / self.threads()).clamp(1, if geometry.conv.groups > 1 { 4 } else { 1 });
        let wanted = target.div_ceil(tiles).min(most_slices).clamp(1, rows);
        // Not much fewer, if then the optimizer can take them.
        let few = MAX_PARTIALS / slice_elems(geometry);
        let wanted = if few < wanted && 2 * few > wanted { few } else { wanted };
        // Whole chunks of rows, if there is more than one.
        let per_slice = rows.div_ceil(wanted);
        let rows_per_slice = if per_slice > self.rows { per_slice.next_multiple_of(self.rows) } else { per_slice };
        let num_slices = rows.div_ceil(rows_per_slice);
        Slicing { threads: self.threads(), groups_per_slice: tiles, rows_per_slice, num_slices }
    }

    /// The sums of each slice, into `partials`.
    pub fn dispatch(&self, geometry: &Geometry, slicing: Slicing, partials: Binding) -> Dispatch {
        let quads = geometry.output[1].div_ceil(4);
        // An image's last rows and a slice's may be a chunk each, and each has a loop over its rows.
        let chunks = 4 + 4 * slicing.rows_per_slice.div_ceil(self.rows);
        let work = grid(slicing.groups_per_slice * slicing.num_slices, 1)
            .iterations(chunks + slicing.rows_per_slice * (2 + quads));
        let params = Params { rows_per_slice: to_u32(slicing.rows_per_slice), ..Params::of(geometry) };
        let bindings = [Binding::Input(1), Binding::Input(0), partials];
        let dispatch = Dispatch::new(&SHADER, "staged", &params, bindings, work)
            .constant("TILE_IN", to_u32(self.channels))
            .constant("TILE_EIGHTS", to_u32(self.eights))
            .constant("ROWS", to_u32(self.rows))
            .constant("OUT_QUADS", to_u32(quads))
            .constant("ROW_THREADS", to_u32(self.row_threads))
            .constant("THREADS", to_u32(self.threads()));
        with_constants(with_group_rows(dispatch, geometry, geometry.group_out()), geometry)
    }
}

/// Parts of `whole`, as few as parts of at most `most` are, as even as they can be: what the largest has.
fn even(whole: usize, most: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most))
}
