// The product of conv2d_gemm.wgsl in slices of K, for a result of too few tiles to fill a GPU.
//
//   slices      what `gemm` does, of params.stages_per_slice eights of K: sums as they are
//   add_slices  adds them in order, then does what `gemm` does as it stores: bias, activation and what is added. A thread
//               finishes four channels of a pixel
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

@compute @workgroup_size(ADD_THREADS)
fn add_slices(@builtin(global_invocation_id) id: vec3<u32>) {
    let part = id.x / THREADS % PARTS;
    let place = place_of(id.x / TILE_PARTS, id.x % THREADS);
    let channel = place.channel + 4u * place.ty + part / 4u % 2u * (TILE_CHANNELS / 2u);
    let index = place.pixel + place.tx + part % 4u * PIXEL_QUADS + part / 8u * (PIXEL_QUADS / 2u);
    let to = result_extents();
    let plane = to.height * to.width;
    let pixel = Pixel(index / plane, index % plane / to.width, index % to.width);
    if pixel.image < params.batch {
        let at = (pixel.image * to.channels + channel) * plane + index % plane;
        store_channels(pixel, at, plane, channel, sum_of_slices(id.x) + bias4_at(channel));
    }
}
