// 2-D convolution with bias and activation, and its gradient with respect to the input at stride 1, as an implicit matrix
// product on real GPUs, for many channels: the weight (result channels, K) times the matrix of patches (K, pixels of all
// images), of which tiles are made in workgroup memory and nothing else.
//
//   forward     out as conv2d.wgsl has it, from `source` = input
//   TRANSPOSED = 1: grad_input as conv2d_grad_input.wgsl has it, from `source` = grad_output: the convolution of that with the
//               weight turned around, its padding DILATION * (KERNEL - 1) - PADDING. HAS_ADDED = 1: and what lib/added.wgsl
//               says is added
//
// K runs over eights of source channels, then the taps (i, j) of the kernel, then the eight channels. So a stage of eight has
// one tap: where it is, and which pixels have something under it, is a matter of a few instructions a stage.
//
//   turn   the weight as (K, result channels), with zeros to whole eights of source channels and to whole tiles. A thread
//          writes four result channels
//   gemm   TILE_CHANNELS x 128 results a workgroup, 8 x 8 a thread, 8 of K at a time: the next 8 are on their way while these
//          are multiplied, and go into the other half of workgroup memory, as in matmul_large.wgsl
//
// and what lib/gemm_moments.wgsl has in place of `gemm` between batch normalizations, and lib/gemm_slices.wgsl where the result
// has too few tiles to fill a GPU.
//
// source  f32 (batch, source channels, height, width)
// weight  f32 (out_channels, in_channels, KERNEL_H, KERNEL_W)
// turned  f32 (source channels / 8, taps, 8, result channels), each rounded up
// bias    f32 (out_channels); not read when HAS_BIAS = 0, any buffer may then be bound
// result  f32 (batch, result channels, height, width)
// added   f32 (batch, ADDED_CHANNELS, rows, columns)
//
// Pixels are counted over all images. Quad q of a stage has those at q, q + 32, q + 64 and q + 96 of the tile: neighbouring
// threads load and store neighbouring pixels, wherever rows end. Workgroups are numbered channel tile fastest. There are no
// groups, and at most 32 taps.
//
// Needs lib/conv2d.wgsl, lib/extents.wgsl, lib/activation.wgsl, lib/register_tile.wgsl and lib/added.wgsl.

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> turned: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(5) var<storage, read> added: array<f32>; // not read when HAS_ADDED = 0

override HAS_BIAS: u32 = 0u;
override TILE_CHANNELS: u32 = 64u; // 64 or 128
override THREADS: u32 = 128u; // 2 * TILE_CHANNELS

const TILE_PIXELS: u32 = 128u;
const PIXEL_QUADS: u32 = 32u; // TILE_PIXELS / 4
const STAGE_K: u32 = 8u;
const PIXEL_STAGE: u32 = 256u; // STAGE_K * PIXEL_QUADS
override CHANNEL_QUADS: u32 = TILE_CHANNELS / 4u;
override CHANNEL_STAGE: u32 = STAGE_K * CHANNEL_QUADS;
override NUM_TAPS: u32 = KERNEL_H * KERNEL_W;

override STEP_H: u32 = select(STRIDE_H, 1u, TRANSPOSED == 1u);
override STEP_W: u32 = select(STRIDE_W, 1u, TRANSPOSED == 1u);
// The first tap is BEFORE - AFTER rows above a pixel's, and as many columns left of it.
override BEFORE_H: u32 = select(PADDING_H, DILATION_H * (KERNEL_H - 1u), TRANSPOSED == 1u);
override BEFORE_W: u32 = select(PADDING_W, DILATION_W * (KERNEL_W - 1u), TRANSPOSED == 1u);
override AFTER_H: u32 = select(0u, PADDING_H, TRANSPOSED == 1u);
override AFTER_W: u32 = select(0u, PADDING_W, TRANSPOSED == 1u);

// Two stages.
override CHANNEL_STAGES: u32 = 2u * CHANNEL_STAGE;
const PIXEL_STAGES: u32 = 512u;
var<workgroup> staged_weight: array<vec4<f32>, CHANNEL_STAGES>;
var<workgroup> under: array<vec4<f32>, PIXEL_STAGES>;

fn num_eights() -> u32 {
    return (source_extents().channels + STAGE_K - 1u) / STAGE_K;
}

// Quads of the result's channels, rounded up to whole tiles.
fn num_quads() -> u32 {
    return (result_extents().channels + TILE_CHANNELS - 1u) / TILE_CHANNELS * CHANNEL_QUADS;
}

// Four pixels of the result: where the patch of each begins in the source, and a bit for each tap that is in the image.
struct Patches {
    first: vec4<u32>,
    inside: vec4<u32>,
}

fn is_within(first: u32, step: u32, size: u32) -> bool {
    return first + step < size;
}

// A pixel's part of Patches, and none of the taps where there is no pixel.
fn patch_of(pixel: u32) -> vec2<u32> {
    let origin = source_extents();
    let to = result_extents();
    let row = pixel / to.width;
    let image = row / to.height;
    // Above and left of an image these wrap around and are large.
    let y = row % to.height * STEP_H + AFTER_H - BEFORE_H;
    let x = pixel % to.width * STEP_W + AFTER_W - BEFORE_W;
    var inside = 0u;
    for (var i = 0u; i < KERNEL_H; i += 1u) {
        for (var j = 0u; j < KERNEL_W; j += 1u) {
            let is_there = is_within(y, i * DILATION_H, origin.height) & is_within(x, j * DILATION_W, origin.width);
            inside |= select(0u, 1u << (i * KERNEL_W + j), is_there & (image < params.batch));
        }
    }
    return vec2<u32>((image * origin.channels * origin.height + y) * origin.width + x, inside);
}

fn patches_of(pixel: u32) -> Patches {
    let p_0 = patch_of(pixel);
    let p_1 = patch_of(pixel + PIXEL_QUADS);
    let p_2 = patch_of(pixel + 2u * PIXEL_QUADS);
    let p_3 = patch_of(pixel + 3u * PIXEL_QUADS);
    return Patches(vec4<u32>(p_0.x, p_1.x, p_2.x, p_3.x), vec4<u32>(p_0.y, p_1.y, p_2.y, p_3.y));
}

fn source_at(at: u32, inside: u32) -> f32 {
    let is_there = inside != 0u;
    return select(0.0, source[select(0u, at, is_there)], is_there);
}

// What a stage has of four pixels, of one of its eight channels.
fn patch_at(patches: Patches, stage: u32, channel_of_stage: u32) -> vec4<f32> {
    let origin = source_extents();
    let tap = stage % NUM_TAPS;
    let channel = stage / NUM_TAPS * STAGE_K + channel_of_stage;
    let row = channel * origin.height + tap / KERNEL_W * DILATION_H;
    let at = patches.first + row * origin.width + tap % KERNEL_W * DILATION_W;
    let inside = patches.inside & vec4<u32>(select(0u, 1u << tap, channel < origin.channels));
    return vec4<f32>(
        source_at(at.x, inside.x), source_at(at.y, inside.y), source_at(at.z, inside.z), source_at(at.w, inside.w));
}

// What a thread brings of a stage: a quad of the weight, and one or two of the patches.
struct Brought {
    weight: vec4<f32>,
    patch_0: vec4<f32>,
    patch_1: vec4<f32>,
}

fn brought(patches: Patches, own_weight: u32, stage: u32, lane: u32) -> Brought {
    var all = Brought();
    all.weight = turned[own_weight + stage * STAGE_K * num_quads()];
    all.patch_0 = patch_at(patches, stage, lane / PIXEL_QUADS);
    if THREADS < PIXEL_STAGE {
        all.patch_1 = patch_at(patches, stage, lane / PIXEL_QUADS + THREADS / PIXEL_QUADS);
    }
    return all;
}

fn put(all: Brought, half: u32, lane: u32) {
    staged_weight[half * CHANNEL_STAGE + lane] = all.weight;
    under[half * PIXEL_STAGE + lane] = all.patch_0;
    if THREADS < PIXEL_STAGE {
        under[half * PIXEL_STAGE + THREADS + lane] = all.patch_1;
    }
}

// The products of one k.
fn add_k(left: ptr<function, RegisterTile>, right: ptr<function, RegisterTile>, weight: u32, patches: u32) {
    let low = staged_weight[weight];
    let high = staged_weight[weight + CHANNEL_QUADS / 2u];
    add_outer(left, low, high, under[patches]);
    add_outer(right, low, high, under[patches + PIXEL_QUADS / 2u]);
}

fn add_stage(left: ptr<function, RegisterTile>, right: ptr<function, RegisterTile>, weight: u32, patches: u32) {
    add_k(left, right, weight, patches);
    add_k(left, right, weight + CHANNEL_QUADS, patches + PIXEL_QUADS);
    add_k(left, right, weight + 2u * CHANNEL_QUADS, patches + 2u * PIXEL_QUADS);
    add_k(left, right, weight + 3u * CHANNEL_QUADS, patches + 3u * PIXEL_QUADS);
    add_k(left, right, weight + 4u * CHANNEL_QUADS, patches + 4u * PIXEL_QUADS);
    add_k(left, right, weight + 5u * CHANNEL_QUADS, patches + 5u * PIXEL_QUADS);
    add_k(left, right, weight + 6u * CHANNEL_QUADS, patches + 6u * PIXEL_QUADS);
    add_k(left, right, weight + 7u * CHANNEL_QUADS, patches + 7u * PIXEL_QUADS);
}

fn bias4_at(channel: u32) -> vec4<f32> {
    if HAS_BIAS == 0u {
        return vec4<f32>();
    }
    let last = params.out_channels - 1u;
    return vec4<f32>(
        bias[min(channel, last)], bias[min(channel + 1u, last)], bias[min(channel + 2u, last)], bias[min(channel + 3u, last)]);
}

// A pixel of an image.
struct Pixel {
    image: u32,
    y: u32,
    x: u32,
}

// One of those of all images.
fn pixel_of(index: u32) -> Pixel {
    let to = result_extents();
    let plane = to.height * to.width;
    return Pixel(index / plane, index % plane / to.width, index % to.width);
}

fn added_at(pixel: Pixel, channel: u32) -> f32 {
    let place = added_place(pixel.image, channel, pixel.y, pixel.x);
    let is_there = place.is_there & (channel < params.in_channels) & (pixel.image < params.batch);
    return select(0.0, added[select(0u, place.index, is_there)], is_there);
}

fn added4_at(pixel: Pixel, channel: u32) -> vec4<f32> {
    return vec4<f32>(
        added_at(pixel, channel), added_at(pixel, channel + 1u), added_at(pixel, channel + 2u), added_at(pixel, channel + 3u));
}

// Four channels of a pixel, which is at `at` in the first of them.
fn store_channels(pixel: Pixel, at: u32, plane: u32, channel: u32, sums: vec4<f32>) {
    var values = activate4(sums);
    if HAS_ADDED == 1u {
        values += added4_at(pixel, channel);
    }
    let left = result_extents().channels - min(channel, result_extents().channels);
    if left > 0u { result[at] = values.x; }
    if left > 1u { result[at + plane] = values.y; }
    if left > 2u { result[at + 2u * plane] = values.z; }
    if left > 3u { result[at + 3u * plane] = values.w; }
}

// A pixel's eight channels: from `channel` on, and from the middle of the tile.
fn store_pixel(index: u32, channel: u32, low: vec4<f32>, high: vec4<f32>) {
    let to = result_extents();
    let plane = to.height * to.width;
    let pixel = pixel_of(index);
    if pixel.image < params.batch {
        let at = (pixel.image * to.channels + channel) * plane + index % plane;
        store_channels(pixel, at, plane, channel, low);
        store_channels(pixel, at + TILE_CHANNELS / 2u * plane, plane, channel + TILE_CHANNELS / 2u, high);
    }
}

fn store(tile: RegisterTile, pixel: u32, channel: u32) {
    let low = transpose(mat4x4<f32>(tile.row_0, tile.row_1, tile.row_2, tile.row_3));
    let high = transpose(mat4x4<f32>(tile.row_4, tile.row_5, tile.row_6, tile.row_7));
    let low_bias = bias4_at(channel);
    let high_bias = bias4_at(channel + TILE_CHANNELS / 2u);
    store_pixel(pixel, channel, low[0] + low_bias, high[0] + high_bias);
    store_pixel(pixel + PIXEL_QUADS, channel, low[1] + low_bias, high[1] + high_bias);
    store_pixel(pixel + 2u * PIXEL_QUADS, channel, low[2] + low_bias, high[2] + high_bias);
    store_pixel(pixel + 3u * PIXEL_QUADS, channel, low[3] + low_bias, high[3] + high_bias);
}

// A thread's place in its tile, and the tile's among all.
struct Place {
    tx: u32, // quads of pixels
    ty: u32, // quads of channels
    channel: u32,
    pixel: u32,
}

fn place_of(unit: u32, lane: u32) -> Place {
    let channel_tiles = num_quads() / CHANNEL_QUADS;
    return Place(
        lane / 32u % 2u * 8u + lane % 8u,
        lane / 64u * 4u + lane / 8u % 4u,
        unit % channel_tiles * TILE_CHANNELS,
        unit / channel_tiles * TILE_PIXELS,
    );
}

// A thread's sums: of its quad of pixels, and of that half a tile further.
struct Sums {
    left: RegisterTile,
    right: RegisterTile,
}

fn num_stages() -> u32 {
    return num_eights() * NUM_TAPS;
}

// The sums over the stages from `begin` to before `end`, at least one. All threads come here together.
fn sums_of(place: Place, begin: u32, end: u32, lane: u32) -> Sums {
    let patches = patches_of(place.pixel + lane % PIXEL_QUADS);
    let own_weight = lane / CHANNEL_QUADS * num_quads() + place.channel / 4u + lane % CHANNEL_QUADS;
    // After the last stage it is that one again, which nothing uses.
    let last = end - 1u;
    var left = RegisterTile();
    var right = RegisterTile();
    put(brought(patches, own_weight, begin, lane), 0u, lane);
    workgroupBarrier();
    for (var stage = begin; stage < end; stage += 1u) {
        let second = brought(patches, own_weight, min(stage + 1u, last), lane);
        add_stage(&left, &right, place.ty, place.tx);
        put(second, 1u, lane);
        workgroupBarrier();
        stage += 1u;
        if stage >= end {
            break;
        }
        let first = brought(patches, own_weight, min(stage + 1u, last), lane);
        add_stage(&left, &right, CHANNEL_STAGE + place.ty, PIXEL_STAGE + place.tx);
        put(first, 0u, lane);
        workgroupBarrier();
    }
    return Sums(left, right);
}

fn store_sums(place: Place, sums: Sums) {
    store(sums.left, place.pixel + place.tx, place.channel + 4u * place.ty);
    store(sums.right, place.pixel + PIXEL_QUADS / 2u + place.tx, place.channel + 4u * place.ty);
}

@compute @workgroup_size(THREADS)
fn gemm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(workgroup.x + workgroup.y * grid.x, lane);
    store_sums(place, sums_of(place, 0u, num_stages(), lane));
}

// ---- turn

const TURN_THREADS: u32 = 64u;

@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> turned_out: array<vec4<f32>>;

// The weight that joins source channel c to result channel r at a tap.
fn weight_at(r: u32, c: u32, tap: u32) -> f32 {
    let is_there = (r < result_extents().channels) & (c < source_extents().channels);
    var index = (r * params.in_channels + c) * NUM_TAPS + tap;
    if TRANSPOSED == 1u {
        index = (c * params.in_channels + r) * NUM_TAPS + NUM_TAPS - 1u - tap;
    }
    return select(0.0, weight[select(0u, index, is_there)], is_there);
}

@compute @workgroup_size(TURN_THREADS)
fn turn(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let index = id.y * grid.x * TURN_THREADS + id.x;
    // Threads follow the weight as it lies in memory, by taps and then by source or result channels.
    let tap = index % NUM_TAPS;
    let place = index / NUM_TAPS;
    let channels = num_eights() * STAGE_K;
    let quads = num_quads();
    let c = select(place % channels, place / quads, TRANSPOSED == 1u);
    let quad = select(place / channels, place % quads, TRANSPOSED == 1u);
    if c < channels && quad < quads {
        let r = 4u * quad;
        let k = (c / STAGE_K * NUM_TAPS + tap) * STAGE_K + c % STAGE_K;
        turned_out[k * quads + quad] =
            vec4<f32>(weight_at(r, c, tap), weight_at(r + 1u, c, tap), weight_at(r + 2u, c, tap), weight_at(r + 3u, c, tap));
    }
}
