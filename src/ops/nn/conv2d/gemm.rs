//! Convolution and its gradient by the input on real GPUs where there are many channels: the weight, turned around first,
//! times a matrix of patches of which no more than tiles is made. `gpu.rs` asks here first.

use super::Geometry;
use super::added::Added;
use super::gpu::{Params, with_constants};
use super::moments::Tiles;
use super::staged::Direction;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, Work, grid, to_u32};

pub static SHADER: Shader = Shader {
    name: "conv2d_gemm",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/activation.wgsl"),
        include_str!("../../../../shaders/lib/register_tile.wgsl"),
        include_str!("../../../../shaders/lib/added.wgsl"),
        include_str!("../../../../shaders/lib/tile_moments.wgsl"),
        include_str!("../../../../shaders/conv2d_gemm.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Channels and pixels of the result that a workgroup computes: with 64 channels half as many threads.
const TILE_CHANNELS: [usize; 2] = [64, 128];
const TILE_PIXELS: usize = 128;
/// Source channels in workgroup memory at a time, under one tap.
const STAGE_K: usize = 8;
/// A pixel has a bit for each tap that lies in the image.
const MAX_TAPS: usize = 32;
/// Threads that turn the weight, each of four of its elements.
const TURN_THREADS: u32 = 64;
/// Source channels times taps from which on a tile is worth its start.
const MIN_K: usize = 64;
/// Small tiles from which on a GPU has enough to do: two on each of some 132 multiprocessors. With twice as many they are
/// large ones.
const MIN_TILES: usize = 256;
/// Of the products that whole tiles and whole eights of source channels make, how many have to be real.
const MIN_REAL: f64 = 0.7;

/// The tile of a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    direction: Direction,
    source_channels: usize,
    result_channels: usize,
    pixels: usize,
    tile_channels: usize,
}

impl Gemm {
    /// The tile for a convolution that is one for the kernel.
    pub fn of(geometry: &Geometry, direction: Direction, gpu: GpuTraits) -> Option<Gemm> {
        let is_transposed = direction == Direction::Transposed;
        let (source_channels, result_channels, pixels) = match is_transposed {
            false => (geometry.in_channels, geometry.out_channels, geometry.out_pixels()),
            true => (geometry.out_channels, geometry.in_channels, geometry.in_pixels()),
        };
        let taps = geometry.kernel[0] * geometry.kernel[1];
        // With a stride three of four values under the gradient's taps, or more, would be zeros.
        let is_dense = !is_transposed || geometry.conv.stride == [1, 1];
        if gpu.is_software
            || geometry.conv.groups != 1
            || !is_dense
            || taps > MAX_TAPS
            || source_channels * taps < MIN_K
        {
            return None;
        }
        let [small, large] = TILE_CHANNELS;
        let pixels = geometry.batch * pixels;
        let padded = TILE_CHANNELS.map(|tile| result_channels.next_multiple_of(tile));
        let tiles = pixels.div_ceil(TILE_PIXELS) * padded[0] / small;
        let tile_channels = if padded[0] == padded[1] && tiles >= 2 * MIN_TILES { large } else { small };
        let whole = padded[0] * source_channels.next_multiple_of(STAGE_K);
        let is_full = (result_channels * source_channels) as f64 >= MIN_REAL * whole as f64;
        (is_full && tiles >= MIN_TILES).then_some(Gemm {
            direction,
            source_channels,
            result_channels,
            pixels,
            tile_channels,
        })
    }

    pub const TILES: Tiles = Tiles::Runs(TILE_PIXELS);

    /// What turns the weight around, and the product. Operand 2 of a gradient is what is added to it.
    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>) -> Dispatches {
        // Without anything the source is bound instead, and not read.
        let mut dispatches = self.dispatches_of("gemm", geometry, &[Added::binding(added, Binding::Input(0))]);
        let product = dispatches.list.pop().expect("the last of them is the product");
        dispatches.list.push(Added::constants(added, product));
        dispatches
    }

    /// The same forward, with the moments as output 1.
    pub fn dispatches_with_moments(&self, geometry: &Geometry) -> Dispatches {
        self.dispatches_of("gemm_moments", geometry, &[Binding::Input(0), Binding::Output(1)])
    }

    /// The same by an entry point, with these bindings after the result.
    fn dispatches_of(&self, entry_point: &'static str, geometry: &Geometry, others: &[Binding]) -> Dispatches {
        let (activation, has_bias) = match self.direction {
            Direction::Forward { has_bias } => (geometry.conv.activation.code(), has_bias),
            Direction::Transposed => (0, false),
        };
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let tiles = self.result_channels.div_ceil(self.tile_channels);
        let k = self.source_channels.next_multiple_of(STAGE_K) * taps;
        let turned_elems = k * tiles * self.tile_channels;
        let bindings = [Binding::Unused, Binding::Input(1), Binding::Unused, Binding::ScratchMut(0), Binding::Unused];
        let turn = self.dispatch("turn", geometry, bindings, grid(turned_elems / 4, TURN_THREADS).short_loops());
        // Without a bias the source is bound instead, and not read.
        let bias = Binding::Input(if has_bias { 2 } else { 0 });
        let bindings = [&[Binding::Input(0), Binding::Scratch(0), bias, Binding::Output(0)], others].concat();
        // Four pixels' taps, and the stages.
        let iterations = 4 * geometry.kernel[0] * (2 + geometry.kernel[1]) + k / STAGE_K;
        let work = grid(tiles * self.pixels.div_ceil(TILE_PIXELS), 1).iterations(iterations);
        let product = self
            .dispatch(entry_point, geometry, bindings, work)
            .constant("HAS_BIAS", u32::from(has_bias))
            .constant("ACTIVATION", activation)
            .constant("THREADS", to_u32(2 * self.tile_channels));
        Dispatches { list: vec![turn, product], scratch_elems: vec![turned_elems] }
    }

    fn dispatch(
        &self,
        entry_point: &'static str,
        geometry: &Geometry,
        bindings: impl Into<Vec<Binding>>,
        work: Work,
    ) -> Dispatch {
        let dispatch = Dispatch::new(&SHADER, entry_point, &Params::of(geometry), bindings, work)
            .constant("TRANSPOSED", u32::from(self.direction == Direction::Transposed))
            .constant("TILE_CHANNELS", to_u32(self.tile_channels));
        with_constants(dispatch, geometry)
    }
}
