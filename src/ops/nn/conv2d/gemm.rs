//! Convolution and its gradient by the input on real GPUs where there are many channels: the weight, turned around first,
//! times a matrix of patches of which no more than tiles is made. `gpu.rs` asks here first.

use super::Geometry;
use super::added::Added;
use super::gpu::{Params, with_constants};
use super::staged::Direction;
use super::tiles::Tiles;
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, Work, grid, to_u32};
use crate::ops::nn::activation::Activation;

pub static SHADER: Shader = Shader {
    name: "conv2d_gemm",
    source: concat!(
        include_str!("../../../../shaders/lib/conv2d.wgsl"),
        include_str!("../../../../shaders/lib/extents.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/activation.wgsl"),
        include_str!("../../../../shaders/lib/register_tile.wgsl"),
        include_str!("../../../../shaders/lib/added.wgsl"),
        include_str!("../../../../shaders/lib/activation_gradient.wgsl"),
        include_str!("../../../../shaders/lib/tile_moments.wgsl"),
        include_str!("../../../../shaders/lib/tile_gradients.wgsl"),
        include_str!("../../../../shaders/lib/gradient_rows.wgsl"),
        include_str!("../../../../shaders/conv2d_gemm.wgsl"),
        include_str!("../../../../shaders/lib/gemm_moments.wgsl"),
        include_str!("../../../../shaders/lib/gemm_slices.wgsl")
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
/// large ones; with fewer, K is cut into slices.
const MIN_TILES: usize = 256;
/// Of the products that whole tiles and whole eights of source channels make, how many have to be real.
const MIN_REAL: f64 = 0.7;
/// Tiles of all slices, at most: four on a multiprocessor. Each is 32 KiB of partial sums, all of them 16 MiB.
const FULL_TILES: usize = 512;
/// The least of a slice, in stages: a tile's start and end take as long as some four.
const MIN_SLICE_STAGES: usize = 16;
/// Slices, at most: a thread that adds them waits for loads once in eight of them.
const MAX_SLICES: usize = 32;
/// K from which on slices always pay for two dispatches more than `staged.rs` has: a thread of that kernel goes through all of
/// it. For 512 channels of 4 × 4 pixels estimates are 320 µs there, 40 here for 16 images and less for fewer.
const LONG_K: usize = 1024;
/// And products, for shorter ones: of planes of less than so many pixels, for which that kernel reads filters again for every
/// few of them, and of larger ones. Estimates for 64 to 128 channels of 8 × 8 pixels: 27 µs there, 18 here and two fences; for
/// 64 channels of 16 × 16, twice as many products: 40 there, 38 here.
const MIN_SLICED: [usize; 2] = [1 << 28, 1 << 30];
const LARGE_PLANE: usize = 256;
/// Quads of a tile's partial sums, each one thread's, and how many it loads before it adds them.
const TILE_QUADS: usize = TILE_CHANNELS[0] * TILE_PIXELS / 4;
const ADDED: usize = 8;
/// Pixels that have moments together where slices are added.
const RUN_PIXELS: usize = 64;

/// The tile of a workgroup, and what it takes of K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    direction: Direction,
    source_channels: usize,
    result_channels: usize,
    pixels: usize,
    tile_channels: usize,
    slices: Slices,
}

/// The entry point that stores the result: of all of K, or of its slices and how many threads add them.
#[derive(Clone, Copy)]
struct Last {
    of_whole: &'static str,
    of_slices: &'static str,
    threads: u32,
}

const PLAIN: Last = Last { of_whole: "gemm", of_slices: "add_slices", threads: 64 };
const MOMENTS: Last = Last { of_whole: "gemm_moments", of_slices: "add_slices_moments", threads: 256 };
const SUMS: Last = Last { of_whole: "gemm_sums", of_slices: "add_slices_sums", threads: 256 };

/// Parts of K that are summed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slices {
    num: usize,
    /// In one of them; the last may have fewer.
    stages: usize,
}

impl Slices {
    /// As many as fill a GPU with tiles, if that is more than one.
    fn of(tiles: usize, stages: usize) -> Option<Slices> {
        let wanted = (FULL_TILES / tiles).min(stages / MIN_SLICE_STAGES).min(MAX_SLICES);
        let per_slice = stages.div_ceil(wanted.max(1));
        let slices = Slices { num: stages.div_ceil(per_slice), stages: per_slice };
        (slices.num > 1).then_some(slices)
    }
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
        let is_large = pixels >= LARGE_PLANE;
        let pixels = geometry.batch * pixels;
        let padded = TILE_CHANNELS.map(|tile| result_channels.next_multiple_of(tile));
        let tiles = pixels.div_ceil(TILE_PIXELS) * padded[0] / small;
        let tile_channels = if padded[0] == padded[1] && tiles >= 2 * MIN_TILES { large } else { small };
        let padded_source = source_channels.next_multiple_of(STAGE_K);
        let whole = padded[0] * padded_source;
        if tiles == 0 || ((result_channels * source_channels) as f64) < MIN_REAL * whole as f64 {
            return None;
        }
        let (k, stages) = (source_channels * taps, padded_source * taps / STAGE_K);
        let is_worth_slices = k >= LONG_K || result_channels * pixels * k >= MIN_SLICED[usize::from(is_large)];
        let slices = match tiles >= MIN_TILES {
            true => Slices { num: 1, stages },
            false if is_worth_slices => Slices::of(tiles, stages)?,
            false => return None,
        };
        Some(Gemm { direction, source_channels, result_channels, pixels, tile_channels, slices })
    }

    /// Those that the moments are of, or the sums for a normalization's gradient.
    pub fn tiles(&self) -> Tiles {
        Tiles::Runs(if self.is_whole() { TILE_PIXELS } else { RUN_PIXELS })
    }

    /// Whether all of K is summed at once.
    fn is_whole(&self) -> bool {
        self.slices.num == 1
    }

    /// What the kernel that stores the result reads: the source of the sums, or the sums of slices.
    fn last_source(&self) -> Binding {
        if self.is_whole() { Binding::Input(0) } else { Binding::Scratch(1) }
    }

    /// What turns the weight around, and the product, with the sum of its slices where it has some. Operand 2 of a gradient
    /// is what is added to it.
    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>) -> Dispatches {
        // Without anything the source is bound instead, and not read. Nor is it in place of a bias.
        let others = [self.bias(), Binding::Output(0), Added::binding(added, self.last_source())];
        let (mut dispatches, last) = self.parts(PLAIN, geometry, &others);
        dispatches.list.push(Added::constants(added, last));
        dispatches
    }

    /// The same forward, with the moments as output 1.
    pub fn dispatches_with_moments(&self, geometry: &Geometry) -> Dispatches {
        let others = [self.bias(), Binding::Output(0), self.last_source(), Binding::Output(1)];
        let (mut dispatches, last) = self.parts(MOMENTS, geometry, &others);
        dispatches.list.push(last);
        dispatches
    }

    /// The gradient by the input through an activation, with the operands and outputs of [`Added::sums`].
    pub fn dispatches_with_sums(
        &self,
        geometry: &Geometry,
        added: Option<Added>,
        activation: Activation,
    ) -> Dispatches {
        let others = [Binding::Unused, Binding::Output(0), Added::binding(added, self.last_source())];
        let others = [others.as_slice(), &Added::sums(added)].concat();
        let (mut dispatches, last) = self.parts(SUMS, geometry, &others);
        dispatches.list.push(Added::constants(added, last).constant("GRADIENT_OF", activation.code()));
        dispatches
    }

    fn bias(&self) -> Binding {
        if self.direction == (Direction::Forward { has_bias: true }) { Binding::Input(2) } else { self.last_source() }
    }

    /// All dispatches but the last, and that one, with these bindings after its operands.
    fn parts(&self, last: Last, geometry: &Geometry, others: &[Binding]) -> (Dispatches, Dispatch) {
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
        let mut dispatches = Dispatches { list: vec![turn], scratch_elems: vec![turned_elems] };
        // Four pixels' taps, and the stages.
        let iterations = 4 * geometry.kernel[0] * (2 + geometry.kernel[1]) + self.slices.stages;
        let num_tiles = tiles * self.pixels.div_ceil(TILE_PIXELS);
        let work = grid(self.slices.num * num_tiles, 1).iterations(iterations);
        let threads = to_u32(2 * self.tile_channels);
        let (entry_point, turned, work) = if self.is_whole() {
            (last.of_whole, Binding::Scratch(0), work)
        } else {
            let bindings = [Binding::Input(0), Binding::Scratch(0), Binding::Unused, Binding::ScratchMut(1)];
            dispatches.list.push(self.dispatch("slices", geometry, bindings, work).constant("THREADS", threads));
            dispatches.scratch_elems.push(self.slices.num * num_tiles * 4 * TILE_QUADS);
            let work = grid(num_tiles * TILE_QUADS, last.threads).iterations(self.slices.num.div_ceil(ADDED));
            (last.of_slices, Binding::Unused, work)
        };
        let bindings = [&[self.last_source(), turned], others].concat();
        let last = self
            .dispatch(entry_point, geometry, bindings, work)
            .constant("HAS_BIAS", u32::from(has_bias))
            .constant("ACTIVATION", activation)
            .constant("THREADS", threads);
        (dispatches, last)
    }

    fn dispatch(
        &self,
        entry_point: &'static str,
        geometry: &Geometry,
        bindings: impl Into<Vec<Binding>>,
        work: Work,
    ) -> Dispatch {
        let params = Params { stages_per_slice: to_u32(self.slices.stages), ..Params::of(geometry) };
        let dispatch = Dispatch::new(&SHADER, entry_point, &params, bindings, work)
            .constant("TRANSPOSED", u32::from(self.direction == Direction::Transposed))
            .constant("TILE_CHANNELS", to_u32(self.tile_channels));
        with_constants(dispatch, geometry)
    }
}
