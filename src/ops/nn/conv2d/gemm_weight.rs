//! The first pass of a convolution's gradient by the weight on real GPUs where there are many channels and pixels: the gradient
//! by the output times a matrix of patches, of which no more than tiles is made. `gpu.rs` asks here first.

use super::Geometry;
use super::gpu::{Params, with_constants};
use super::grad_weight::Slicing;
use super::staged_weight::StagedWeight;
use crate::ops::kernel::{Binding, Dispatch, GpuTraits, Shader, grid, to_u32};

pub static SHADER: Shader = Shader {
    name: "conv2d_grad_weight_gemm",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/register_tile.wgsl"),
        include_str!("../../../../shaders/conv2d_grad_weight_gemm.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const THREADS: usize = 128;
/// Output channels of a workgroup, and quads of its columns, each of which is a tap of four input channels.
const TILE_OUT: usize = 64;
const COLUMN_QUADS: usize = 32;
/// Pixels of a row in workgroup memory at a time.
const STAGE: usize = 8;
/// Pixels of the output from which on slices enough to fill a GPU are each worth a tile's start and end.
const MIN_PIXELS: usize = 24 * 1024;
/// Of the products that whole tiles and whole stages make, how many have to be real: where rows fit into workgroup memory, and
/// where they do not, so that a thread of the other kernel waits for each strip's loads.
const MIN_REAL: [f64; 2] = [0.7, 0.3];

/// The tiles of a convolution that is one for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GemmWeight {
    tiles: usize,
}

impl GemmWeight {
    pub fn of(geometry: &Geometry, gpu: GpuTraits) -> Option<GemmWeight> {
        if gpu.is_software || geometry.conv.groups != 1 || geometry.out_pixels() * geometry.batch < MIN_PIXELS {
            return None;
        }
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let column_tiles = (taps * geometry.in_channels.div_ceil(4)).div_ceil(COLUMN_QUADS);
        let out_tiles = geometry.out_channels.div_ceil(TILE_OUT);
        let real = geometry.out_channels * taps * geometry.in_channels * geometry.output[1];
        let made = out_tiles * TILE_OUT * column_tiles * 4 * COLUMN_QUADS * geometry.output[1].next_multiple_of(STAGE);
        let min_real = MIN_REAL[usize::from(StagedWeight::of(geometry, gpu).is_none())];
        (real as f64 >= min_real * made as f64).then_some(GemmWeight { tiles: column_tiles * out_tiles })
    }

    /// The slices that the rows of a batch are cut into, at most `most_slices` and with about `target` workgroups.
    pub fn slicing(&self, geometry: &Geometry, target: usize, most_slices: usize) -> Slicing {
        let rows = geometry.batch * geometry.output[0];
        let rows_per_slice = rows.div_ceil(target.div_ceil(self.tiles).min(most_slices).clamp(1, rows));
        let num_slices = rows.div_ceil(rows_per_slice);
        Slicing { threads: THREADS, groups_per_slice: self.tiles, rows_per_slice, num_slices }
    }

    /// The sums of each slice, into `partials`.
    pub fn dispatch(&self, geometry: &Geometry, slicing: Slicing, partials: Binding) -> Dispatch {
        let stages = slicing.rows_per_slice * geometry.output[1].div_ceil(STAGE);
        let work = grid(slicing.groups_per_slice * slicing.num_slices, 1).iterations(stages + STAGE);
        let params = Params { rows_per_slice: to_u32(slicing.rows_per_slice), ..Params::of(geometry) };
        let bindings = [Binding::Input(1), Binding::Input(0), partials];
        with_constants(Dispatch::new(&SHADER, "gemm", &params, bindings, work), geometry)
    }
}
