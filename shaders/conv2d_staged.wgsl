// 2-D convolution with bias and activation, and its gradient with respect to the input, on real GPUs: what lies under a
// tile and the filters are copied into workgroup memory, CHUNK source channels at a time.
//
//   forward     out as conv2d.wgsl has it: from `source` = input, over c, i, j
//   TRANSPOSED = 1: grad_input as conv2d_grad_input.wgsl has it: from `source` = grad_output, over o, i and falling j
//
// in these orders, which are those of the kernels there. Strides and dilations are 1, there are no groups, KERNEL_W <= 5, and
// the result's width is a multiple of 4.
//
// source  f32 (batch, source channels, height, width)
// weight  f32 (out_channels, in_channels, KERNEL_H, KERNEL_W)
// bias    f32 (out_channels); not read when HAS_BIAS = 0, any buffer may then be bound
// result  f32 (batch, result channels, height, width), as vec4 of four neighbouring pixels
//
// A workgroup computes TILE_STRIPS strips of four pixels in each of TILE_ROWS rows, for TILE_EIGHTS times eight channels of
// an image; a thread one strip for eight channels. Workgroups are numbered channel tile fastest, then x, y, image.
//
// Needs lib/conv2d.wgsl, lib/activation.wgsl, lib/register_tile.wgsl and lib/row_window.wgsl.

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<vec4<f32>>;

override HAS_BIAS: u32 = 0u;
override TRANSPOSED: u32 = 0u;
override TILE_STRIPS: u32 = 8u;
override TILE_ROWS: u32 = 8u;
override TILE_EIGHTS: u32 = 1u;
override CHUNK: u32 = 1u;
override THREADS: u32 = 64u; // TILE_STRIPS * TILE_ROWS * TILE_EIGHTS

override PATCH_ROWS: u32 = TILE_ROWS + KERNEL_H - 1u;
override PATCH_QUADS: u32 = TILE_STRIPS + 1u; // as far as the widest kernel reaches
override PATCH: u32 = CHUNK * PATCH_ROWS * PATCH_QUADS;
override FILTER_QUADS: u32 = CHUNK * KERNEL_H * KERNEL_W * TILE_EIGHTS * 2u;

var<workgroup> under: array<vec4<f32>, PATCH>;
var<workgroup> filters: array<vec4<f32>, FILTER_QUADS>;

// Channels, height and width of images.
struct Extents {
    channels: u32,
    height: u32,
    width: u32,
}

fn source_extents() -> Extents {
    if TRANSPOSED == 1u {
        return Extents(params.out_channels, params.out_h, params.out_w);
    }
    return Extents(params.in_channels, params.in_h, params.in_w);
}

fn result_extents() -> Extents {
    if TRANSPOSED == 1u {
        return Extents(params.in_channels, params.in_h, params.in_w);
    }
    return Extents(params.out_channels, params.out_h, params.out_w);
}

// What a workgroup works on.
struct Tile {
    image: u32,
    y: u32,
    x: u32,
    channel: u32,
}

fn tile_position(unit: u32) -> Tile {
    let extents = result_extents();
    let channel_tiles = (extents.channels + 8u * TILE_EIGHTS - 1u) / (8u * TILE_EIGHTS);
    let tiles_x = (extents.width / 4u + TILE_STRIPS - 1u) / TILE_STRIPS;
    let tiles_y = (extents.height + TILE_ROWS - 1u) / TILE_ROWS;
    let place = unit / channel_tiles;
    return Tile(
        place / tiles_x / tiles_y,
        place / tiles_x % tiles_y * TILE_ROWS,
        place % tiles_x * TILE_STRIPS * 4u,
        unit % channel_tiles * 8u * TILE_EIGHTS,
    );
}

fn source_at(row: u32, x: u32, is_inside: bool, width: u32) -> f32 {
    // Left of the image x has wrapped around and is large.
    let is_there = is_inside & (x < width);
    return select(0.0, source[select(0u, row + x, is_there)], is_there);
}

// Four neighbouring values of what lies under the tile: of the source channel from `first` on, the row and the quad.
fn patch_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
    let extents = source_extents();
    let c = first + slot / (PATCH_ROWS * PATCH_QUADS);
    var y = tile.y + slot / PATCH_QUADS % PATCH_ROWS;
    var x = tile.x + slot % PATCH_QUADS * 4u;
    // Above and left of the image these wrap around and are large.
    if TRANSPOSED == 1u {
        y = y + PADDING_H - (KERNEL_H - 1u);
        x = x + PADDING_W - (KERNEL_W - 1u);
    } else {
        y -= PADDING_H;
        x -= PADDING_W;
    }
    let is_inside = (tile.image < params.batch) & (c < extents.channels) & (y < extents.height);
    let row = ((tile.image * extents.channels + c) * extents.height + y) * extents.width;
    return vec4<f32>(
        source_at(row, x, is_inside, extents.width),
        source_at(row, x + 1u, is_inside, extents.width),
        source_at(row, x + 2u, is_inside, extents.width),
        source_at(row, x + 3u, is_inside, extents.width),
    );
}

// The weight that joins source channel c to result channel r at step (i, j) of the kernel, which runs over rising columns
// of the patch.
fn weight_at(r: u32, c: u32, i: u32, j: u32) -> f32 {
    let is_there = (r < result_extents().channels) & (c < source_extents().channels);
    var index = ((r * params.in_channels + c) * KERNEL_H + i) * KERNEL_W + j;
    if TRANSPOSED == 1u {
        index = ((c * params.in_channels + r) * KERNEL_H + i) * KERNEL_W + KERNEL_W - 1u - j;
    }
    return select(0.0, weight[select(0u, index, is_there)], is_there);
}

// Four result channels' weights: slot counts quads of channels fastest, then j, i, source channel.
fn filter_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
    let r = tile.channel + slot % (2u * TILE_EIGHTS) * 4u;
    let tap = slot / (2u * TILE_EIGHTS);
    let j = tap % KERNEL_W;
    let i = tap / KERNEL_W % KERNEL_H;
    let c = first + tap / (KERNEL_H * KERNEL_W);
    return vec4<f32>(weight_at(r, c, i, j), weight_at(r + 1u, c, i, j), weight_at(r + 2u, c, i, j), weight_at(r + 3u, c, i, j));
}

// The products of one tap, at `tap` among the filters, with the four values under it.
fn add_tap(sums: ptr<function, RegisterTile>, tap: u32, eight: u32, values: vec4<f32>) {
    let at = tap * 2u * TILE_EIGHTS + 2u * eight;
    add_outer(sums, filters[at], filters[at + 1u], values);
}

fn store(tile: Tile, channel: u32, y: u32, x: u32, sums: vec4<f32>) {
    let extents = result_extents();
    if tile.image < params.batch && channel < extents.channels && y < extents.height && x < extents.width {
        var value = sums;
        if HAS_BIAS == 1u {
            value += bias[channel];
        }
        let row = (tile.image * extents.channels + channel) * extents.height + y;
        result[(row * extents.width + x) / 4u] = activate4(value);
    }
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let strip = lane % TILE_STRIPS;
    let y = lane / TILE_STRIPS % TILE_ROWS;
    let eight = lane / (TILE_STRIPS * TILE_ROWS);
    let num_channels = source_extents().channels;
    var sums = RegisterTile();
    for (var first = 0u; first < num_channels; first += CHUNK) {
        workgroupBarrier();
        for (var slot = lane; slot < PATCH; slot += THREADS) {
            under[slot] = patch_at(tile, first, slot);
        }
        for (var slot = lane; slot < FILTER_QUADS; slot += THREADS) {
            filters[slot] = filter_at(tile, first, slot);
        }
        workgroupBarrier();
        let channels = min(CHUNK, num_channels - first);
        for (var c = 0u; c < channels; c += 1u) {
            for (var i = 0u; i < KERNEL_H; i += 1u) {
                // The gradient meets rows of the patch from below.
                let patch_row = y + select(i, KERNEL_H - 1u - i, TRANSPOSED == 1u);
                let at = (c * PATCH_ROWS + patch_row) * PATCH_QUADS + strip;
                let window = RowWindow(under[at], under[at + 1u]);
                let tap = (c * KERNEL_H + i) * KERNEL_W;
                add_tap(&sums, tap, eight, window.low);
                if KERNEL_W > 1u { add_tap(&sums, tap + 1u, eight, window_at_1(window)); }
                if KERNEL_W > 2u { add_tap(&sums, tap + 2u, eight, window_at_2(window)); }
                if KERNEL_W > 3u { add_tap(&sums, tap + 3u, eight, window_at_3(window)); }
                if KERNEL_W > 4u { add_tap(&sums, tap + 4u, eight, window.high); }
            }
        }
    }
    let channel = tile.channel + 8u * eight;
    let x = tile.x + 4u * strip;
    store(tile, channel, tile.y + y, x, sums.row_0);
    store(tile, channel + 1u, tile.y + y, x, sums.row_1);
    store(tile, channel + 2u, tile.y + y, x, sums.row_2);
    store(tile, channel + 3u, tile.y + y, x, sums.row_3);
    store(tile, channel + 4u, tile.y + y, x, sums.row_4);
    store(tile, channel + 5u, tile.y + y, x, sums.row_5);
    store(tile, channel + 6u, tile.y + y, x, sums.row_6);
    store(tile, channel + 7u, tile.y + y, x, sums.row_7);
}
