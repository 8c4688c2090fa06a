// The product of conv2d_gemm.wgsl in slices of K, for a result of too few tiles to fill a GPU.
//
//   slices      what `gemm` does, of params.stages_per_slice eights of K: sums as they are
//   add_slices  adds them in order, then does what `gemm` does as it stores: bias, activation and what is added. A thread
//               finishes four channels of a pixel
//   add_slices_moments  the same forward and without an activation, and the moments of each channel in each run of 64 pixels
//               (lib/tile_moments.wgsl). A workgroup finishes 16 channels of a run
//
// partials  f32 (slice, tile, 16 parts, thread, 4): a part is four channels of a pixel of a thread's. The tile's edges are not
//           looked at before it is added up, and threads store side by side
//
// Workgroups of `slices` are numbered as those of `gemm`, slice after slice. Needs conv2d_gemm.wgsl. There are never so many
// tiles that a grid is folded.

@group(0) @binding(4) var<storage, read_write> partials: array<vec4<f32>>;

const PARTS: u32 = 16u;
override TILE_PARTS: u32 = PARTS * THREADS;

fn num_tiles() -> u32 {
    let extents = result_extents();
    let pixel_tiles = (params.batch * extents.height * extents.width + TILE_PIXELS - 1u) / TILE_PIXELS;
    return num_quads() / CHANNEL_QUADS * pixel_tiles;
}

// Half of a thread's parts, in the order of `store`.
fn put_partials(tile: RegisterTile, at: u32) {
    let low = transpose(mat4x4<f32>(tile.row_0, tile.row_1, tile.row_2, tile.row_3));
    let high = transpose(mat4x4<f32>(tile.row_4, tile.row_5, tile.row_6, tile.row_7));
    partials[at] = low[0];
    partials[at + THREADS] = low[1];
    partials[at + 2u * THREADS] = low[2];
    partials[at + 3u * THREADS] = low[3];
    partials[at + 4u * THREADS] = high[0];
    partials[at + 5u * THREADS] = high[1];
    partials[at + 6u * THREADS] = high[2];
    partials[at + 7u * THREADS] = high[3];
}

@compute @workgroup_size(THREADS)
fn slices(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let begin = workgroup.x / num_tiles() * params.stages_per_slice;
    let end = min(begin + params.stages_per_slice, num_stages());
    let sums = sums_of(place_of(workgroup.x % num_tiles(), lane), begin, end, lane);
    let at = workgroup.x * TILE_PARTS + lane;
    put_partials(sums.left, at);
    put_partials(sums.right, at + PARTS / 2u * THREADS);
}

// ---- add_slices

@group(0) @binding(1) var<storage, read> finished_partials: array<vec4<f32>>;

const ADD_THREADS: u32 = 64u;

// The sum of a quad over all slices, in order. Eight of them are on their way before the first of them is added; of the last
// ones four, two and one.
fn sum_of_slices(index: u32) -> vec4<f32> {
    let step = num_tiles() * TILE_PARTS;
    var left = (num_stages() + params.stages_per_slice - 1u) / params.stages_per_slice;
    var at = index;
    var sum = vec4<f32>();
    for (; left >= 8u; left -= 8u) {
        let s_0 = finished_partials[at];
        let s_1 = finished_partials[at + step];
        let s_2 = finished_partials[at + 2u * step];
        let s_3 = finished_partials[at + 3u * step];
        let s_4 = finished_partials[at + 4u * step];
        let s_5 = finished_partials[at + 5u * step];
        let s_6 = finished_partials[at + 6u * step];
        let s_7 = finished_partials[at + 7u * step];
        sum = sum + s_0 + s_1 + s_2 + s_3 + s_4 + s_5 + s_6 + s_7;
        at += 8u * step;
    }
    if left >= 4u {
        let s_0 = finished_partials[at];
        let s_1 = finished_partials[at + step];
        let s_2 = finished_partials[at + 2u * step];
        let s_3 = finished_partials[at + 3u * step];
        sum = sum + s_0 + s_1 + s_2 + s_3;
        at += 4u * step;
        left -= 4u;
    }
    if left >= 2u {
        let s_0 = finished_partials[at];
        let s_1 = finished_partials[at + step];
        sum = sum + s_0 + s_1;
        at += 2u * step;
        left -= 2u;
    }
    if left == 1u {
        sum += finished_partials[at];
    }
    return sum;
}

// Four channels, from `channel` on, of a pixel, which is counted over all images.
struct Quad {
    channel: u32,
    pixel: u32,
}

// Those that are at `at` among the partials of a slice.
fn quad_of(at: u32) -> Quad {
    let part = at / THREADS % PARTS;
    let place = place_of(at / TILE_PARTS, at % THREADS);
    return Quad(
        place.channel + 4u * place.ty + part / 4u % 2u * (TILE_CHANNELS / 2u),
        place.pixel + place.tx + part % 4u * PIXEL_QUADS + part / 8u * (PIXEL_QUADS / 2u),
    );
}

fn store_quad(quad: Quad, sums: vec4<f32>) {
    let to = result_extents();
    let plane = to.height * to.width;
    let pixel = Pixel(quad.pixel / plane, quad.pixel % plane / to.width, quad.pixel % to.width);
    if pixel.image < params.batch {
        let at = (pixel.image * to.channels + quad.channel) * plane + quad.pixel % plane;
        store_channels(pixel, at, plane, quad.channel, sums);
    }
}

@compute @workgroup_size(ADD_THREADS)
fn add_slices(@builtin(global_invocation_id) id: vec3<u32>) {
    let quad = quad_of(id.x);
    store_quad(quad, sum_of_slices(id.x) + bias4_at(quad.channel));
}

// ---- add_slices_moments

const RUN_THREADS: u32 = 256u;
const RUN_PIXELS: u32 = 64u;
const RUN_PARTS: u32 = 4u; // of 16 pixels
const PART_THREADS: u32 = 64u; // of a tile's: those that have the same 16 channels
override TILE_RUNS: u32 = TILE_PARTS / RUN_THREADS;

// Where a thread's quad is among the partials of a slice. Halves of the tile's channels have halves of the parts, and its
// pixels are by turns in the left and the right part.
fn run_quad(workgroup: u32, lane: u32) -> u32 {
    let run = workgroup % TILE_RUNS;
    let of_threads = THREADS / PART_THREADS;
    let sixteen = run / of_threads / 2u * RUN_PARTS + lane / PART_THREADS;
    let part = sixteen / 2u + run / of_threads % 2u * 4u + sixteen % 2u * (PARTS / 2u);
    return workgroup / TILE_RUNS * TILE_PARTS + part * THREADS + run % of_threads * PART_THREADS + lane % PART_THREADS;
}

// The sum over the pixels of a run, whose places in `under` begin at `first`. All threads come here together.
fn run_total(first: u32, pixel: u32, own: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    under[first + pixel] = own;
    for (var half = RUN_PIXELS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if pixel < half {
            under[first + pixel] += under[first + pixel + half];
        }
    }
    workgroupBarrier();
    return under[first];
}

@compute @workgroup_size(RUN_THREADS)
fn add_slices_moments(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = run_quad(workgroup.x, lane);
    let quad = quad_of(at);
    let values = sum_of_slices(at) + bias4_at(quad.channel);
    store_quad(quad, values);
    let to = result_extents();
    let num_pixels = params.batch * to.height * to.width;
    let is_there = vec4<bool>(quad.pixel < num_pixels);
    let pixel = quad.pixel % RUN_PIXELS;
    let begin = quad.pixel - pixel;
    // The last tile may have a run of no pixels, which nothing is stored of.
    let count = clamp(num_pixels - min(begin, num_pixels), 1u, RUN_PIXELS);
    let first = lane / 8u % 4u * RUN_PIXELS;
    let mean = run_total(first, pixel, select(vec4<f32>(), values, is_there)) / f32(count);
    let distances = select(vec4<f32>(), values - mean, is_there);
    let squares = run_total(first, pixel, distances * distances);
    if pixel == 0u && begin < num_pixels {
        let num_runs = (num_pixels + RUN_PIXELS - 1u) / RUN_PIXELS;
        let run = TileChannels(begin / RUN_PIXELS, num_runs, count, quad.channel, quad.channel, to.channels);
        store_four(run, quad.channel, mean, squares, vec4<f32>());
    }
}
