// The product of conv2d_gemm.wgsl in slices of K, for a result of too few tiles to fill a GPU.
//
//   slices      what `gemm` does, of params.stages_per_slice eights of K: sums as they are
//   add_slices  adds them in order, then does what `gemm` does as it stores: bias, activation and what is added. A thread
//               finishes four channels of a pixel
//   add_slices_moments  the same forward and without an activation, and the moments of each channel in each run of 64 pixels
//               (lib/tile_moments.wgsl). A workgroup finishes 16 channels of a run
//   add_slices_sums  the same with TRANSPOSED = 1, as gemm_sums of lib/gemm_moments.wgsl, over runs of 64 pixels
//
// partials  f32 (slice, tile, 16 parts, thread, 4): a part is four channels of a pixel of a thread's. The tile's edges are not
//           looked at before it is added up, and threads store side by side
//
// Workgroups of `slices` are numbered as those of `gemm`, slice after slice. There are never so many tiles that a
// grid is folded. Needs conv2d_gemm.wgsl and what lib/gemm_moments.wgsl needs.

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
    let pixel = pixel_of(quad.pixel);
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

// ---- add_slices_moments, add_slices_sums

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

// A thread's pixel within its run, where the places of those of its channels begin in `under`, and the run's first pixel.
struct Run {
    pixel: u32,
    places: u32,
    begin: u32,
}

fn run_of(quad: Quad, lane: u32) -> Run {
    return Run(quad.pixel % RUN_PIXELS, lane / 8u % 4u * RUN_PIXELS, quad.pixel - quad.pixel % RUN_PIXELS);
}

// The last tile may have a run of no pixels, of which nothing is stored.
fn run_channels(run: Run, quad: Quad) -> TileChannels {
    let count = clamp(num_pixels() - min(run.begin, num_pixels()), 1u, RUN_PIXELS);
    let num_runs = (num_pixels() + RUN_PIXELS - 1u) / RUN_PIXELS;
    return TileChannels(run.begin / RUN_PIXELS, num_runs, count, quad.channel, quad.channel, result_extents().channels);
}

// The sum over the pixels of a run. All threads come here together.
fn run_total(run: Run, own: vec4<f32>) -> vec4<f32> {
    let at = run.places + run.pixel;
    workgroupBarrier();
    under[at] = own;
    for (var half = RUN_PIXELS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if run.pixel < half {
            under[at] += under[at + half];
        }
    }
    workgroupBarrier();
    return under[run.places];
}

fn store_of_run(run: Run, channels: TileChannels, a: vec4<f32>, b: vec4<f32>, last: vec4<f32>) {
    if run.pixel == 0u && channels.tile < channels.num_tiles {
        store_four(channels, channels.low, a, b, last);
    }
}

@compute @workgroup_size(RUN_THREADS)
fn add_slices_moments(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = run_quad(workgroup.x, lane);
    let quad = quad_of(at);
    let values = sum_of_slices(at) + bias4_at(quad.channel);
    store_quad(quad, values);
    let is_there = vec4<bool>(quad.pixel < num_pixels());
    let run = run_of(quad, lane);
    let channels = run_channels(run, quad);
    let mean = run_total(run, select(vec4<f32>(), values, is_there)) / f32(channels.count);
    let distances = select(vec4<f32>(), values - mean, is_there);
    let squares = run_total(run, distances * distances);
    store_of_run(run, channels, mean, squares, vec4<f32>());
}

// Where the channels of a quad are in the result.
fn quad_pixels(quad: Quad) -> Pixels {
    let to = result_extents();
    let plane = to.height * to.width;
    let first = (quad.pixel / plane * to.channels + quad.channel) * plane + quad.pixel % plane;
    let channels = vec4<u32>(0u, 1u, 2u, 3u);
    let inside = vec4<bool>(quad.pixel < num_pixels()) & (quad.channel + channels < vec4<u32>(to.channels));
    return pixels_at(first + plane * channels, inside);
}

fn added_quad(quad: Quad) -> vec4<f32> {
    if HAS_ADDED == 0u {
        return vec4<f32>();
    }
    return added4_at(pixel_of(quad.pixel), quad.channel);
}

@compute @workgroup_size(RUN_THREADS)
fn add_slices_sums(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = run_quad(workgroup.x, lane);
    let quad = quad_of(at);
    let pixels = quad_pixels(quad);
    let run = run_of(quad, lane);
    let channels = run_channels(run, quad);
    // On their way while the slices are added.
    let outputs = activated_at(pixels);
    let normalized = x_at(pixels);
    let others = added_quad(quad);
    let center = mean4_at(channels.low, channels.end);
    let grads = through_activation(pixels, sum_of_slices(at) + others, outputs);
    store_inside(pixels, grads);
    let sums = run_total(run, grads);
    let products = run_total(run, select(vec4<f32>(), grads * (normalized - center), pixels.inside));
    store_of_run(run, channels, sums, products, center);
}
