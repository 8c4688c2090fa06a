// 2-D convolution with bias and activation, and its gradient with respect to the input, on real GPUs: what lies under a
// tile and the filters are copied into workgroup memory, CHUNK source channels at a time. Those of the next chunk are on
// their way, in registers, while a chunk is computed: a thread waits for loads once a chunk.
//
//   forward     out as conv2d.wgsl has it: from `source` = input, over c, i, j
//   TRANSPOSED = 1: grad_input as conv2d_grad_input.wgsl has it: from `source` = grad_output, over o, i and falling j. With a
//               stride the values of grad_output lie that far apart, and zeros between them. HAS_ADDED = 1: and what
//               lib/added.wgsl says is added
//
// in these orders, which are those of the kernels there. Dilations are 1, and KERNEL_W <= 5.
//
//   staged         the result's width is a multiple of 4
//   staged_ragged  any width
//
// source  f32 (batch, source channels, height, width)
// weight  f32 (out_channels, in_channels / GROUPS, KERNEL_H, KERNEL_W)
// bias    f32 (out_channels); not read when HAS_BIAS = 0, any buffer may then be bound
// result  f32 (batch, result channels, height, width), of `staged` as vec4 of four neighbouring pixels
// added   f32 (batch, ADDED_CHANNELS, rows, columns)
//
// A workgroup computes TILE_STRIPS strips of four pixels in each of TILE_ROWS rows, for TILE_EIGHTS times eight channels of a
// group of an image; a thread one strip for eight channels. Workgroups are numbered channel tile fastest, then x, y, image.
//
// A chunk is at most 8 quads of the patch and 12 of the filters for each thread.
//
// Needs lib/conv2d.wgsl, lib/activation.wgsl, lib/register_tile.wgsl, lib/row_window.wgsl, lib/patch.wgsl and lib/added.wgsl.

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> result_pixels: array<f32>;
@group(0) @binding(5) var<storage, read> added: array<f32>; // not read when HAS_ADDED = 0

override HAS_BIAS: u32 = 0u;
override TRANSPOSED: u32 = 0u;
override TILE_STRIPS: u32 = 8u;
override TILE_ROWS: u32 = 8u;
override TILE_EIGHTS: u32 = 1u;
override CHUNK: u32 = 1u;
override THREADS: u32 = 64u; // TILE_STRIPS * TILE_ROWS * TILE_EIGHTS

// From an output to the next in the patch, and from a value of the source to the next in it.
override Y_STEP: u32 = select(STRIDE_H, 1u, TRANSPOSED == 1u);
override X_STEP: u32 = select(STRIDE_W, 1u, TRANSPOSED == 1u);
override SPREAD_H: u32 = select(1u, STRIDE_H, TRANSPOSED == 1u);
override SPREAD_W: u32 = select(1u, STRIDE_W, TRANSPOSED == 1u);

override PATCH_ROWS: u32 = (TILE_ROWS - 1u) * Y_STEP + KERNEL_H;
override PATCH_QUADS: u32 = TILE_STRIPS + 1u; // as far as the widest kernel reaches
override ROW_QUADS: u32 = PHASES * PATCH_QUADS;
override PATCH: u32 = CHUNK * PATCH_ROWS * ROW_QUADS;
override FILTER_QUADS: u32 = CHUNK * KERNEL_H * KERNEL_W * TILE_EIGHTS * 2u;
// Of the slots THREADS apart, how many a thread copies.
override PATCH_ROUNDS: u32 = (PATCH + THREADS - 1u) / THREADS;
override FILTER_ROUNDS: u32 = (FILTER_QUADS + THREADS - 1u) / THREADS;

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
    end: u32, // of the group's channels
}

fn group_of(tile: Tile) -> u32 {
    if GROUPS == 1u {
        return 0u;
    }
    return (tile.end - 1u) / (result_extents().channels / GROUPS);
}

fn tile_position(unit: u32) -> Tile {
    let extents = result_extents();
    let group_channels = extents.channels / GROUPS;
    let group_tiles = (group_channels + 8u * TILE_EIGHTS - 1u) / (8u * TILE_EIGHTS);
    let channel_tiles = GROUPS * group_tiles;
    let tiles_x = ((extents.width + 3u) / 4u + TILE_STRIPS - 1u) / TILE_STRIPS;
    let tiles_y = (extents.height + TILE_ROWS - 1u) / TILE_ROWS;
    let place = unit / channel_tiles;
    let group = select(unit % channel_tiles / group_tiles, 0u, GROUPS == 1u);
    return Tile(
        place / tiles_x / tiles_y,
        place / tiles_x % tiles_y * TILE_ROWS,
        place % tiles_x * TILE_STRIPS * 4u,
        group * group_channels + unit % group_tiles * 8u * TILE_EIGHTS,
        (group + 1u) * group_channels,
    );
}

fn source_at(row: u32, x: u32, is_inside: bool, width: u32) -> f32 {
    // Left of the image x has wrapped around and is large.
    let column = x / SPREAD_W;
    let is_there = is_inside & (column < width) & (column * SPREAD_W == x);
    return select(0.0, source[select(0u, row + column, is_there)], is_there);
}

// Four values of what lies under the tile: of the group's source channel from `first` on, the row, the phase and the quad.
fn patch_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
    let extents = source_extents();
    let c = first + slot / (PATCH_ROWS * ROW_QUADS);
    var y = tile.y * Y_STEP + slot / ROW_QUADS % PATCH_ROWS;
    var x = (tile.x + slot % PATCH_QUADS * 4u) * X_STEP + slot / PATCH_QUADS % PHASES;
    // Above and left of the image these wrap around and are large.
    if TRANSPOSED == 1u {
        y = y + PADDING_H - (KERNEL_H - 1u);
        x = x + PADDING_W - (KERNEL_W - 1u);
    } else {
        y -= PADDING_H;
        x -= PADDING_W;
    }
    let row = y / SPREAD_H;
    let group_channels = extents.channels / GROUPS;
    let is_inside =
        (tile.image < params.batch) & (c < group_channels) & (row < extents.height) & (row * SPREAD_H == y);
    let channel = tile.image * extents.channels + group_of(tile) * group_channels + c;
    let base = (channel * extents.height + row) * extents.width;
    return vec4<f32>(
        source_at(base, x, is_inside, extents.width),
        source_at(base, x + X_STEP, is_inside, extents.width),
        source_at(base, x + 2u * X_STEP, is_inside, extents.width),
        source_at(base, x + 3u * X_STEP, is_inside, extents.width),
    );
}

// The weight that joins the group's source channel c to result channel r at step (i, j) of the kernel, which runs over rising
// columns of the patch.
fn weight_at(tile: Tile, r: u32, c: u32, i: u32, j: u32) -> f32 {
    let group_in = params.in_channels / GROUPS;
    let is_there = (r < tile.end) & (c < source_extents().channels / GROUPS);
    var index = ((r * group_in + c) * KERNEL_H + i) * KERNEL_W + j;
    if TRANSPOSED == 1u {
        let o = group_of(tile) * (params.out_channels / GROUPS) + c;
        index = ((o * group_in + r - (tile.end - group_in)) * KERNEL_H + i) * KERNEL_W + KERNEL_W - 1u - j;
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
    return vec4<f32>(
        weight_at(tile, r, c, i, j), weight_at(tile, r + 1u, c, i, j),
        weight_at(tile, r + 2u, c, i, j), weight_at(tile, r + 3u, c, i, j),
    );
}

// What a thread copies of a chunk.
struct Staging {
    p_0: vec4<f32>,
    p_1: vec4<f32>,
    p_2: vec4<f32>,
    p_3: vec4<f32>,
    p_4: vec4<f32>,
    p_5: vec4<f32>,
    p_6: vec4<f32>,
    p_7: vec4<f32>,
    f_0: vec4<f32>,
    f_1: vec4<f32>,
    f_2: vec4<f32>,
    f_3: vec4<f32>,
    f_4: vec4<f32>,
    f_5: vec4<f32>,
    f_6: vec4<f32>,
    f_7: vec4<f32>,
    f_8: vec4<f32>,
    f_9: vec4<f32>,
    f_10: vec4<f32>,
    f_11: vec4<f32>,
}

// Loads in one straight line: none waits for another.
fn staging_of(tile: Tile, first: u32, lane: u32) -> Staging {
    var all = Staging();
    all.p_0 = patch_at(tile, first, lane);
    if PATCH_ROUNDS > 1u { all.p_1 = patch_at(tile, first, lane + 1u * THREADS); }
    if PATCH_ROUNDS > 2u { all.p_2 = patch_at(tile, first, lane + 2u * THREADS); }
    if PATCH_ROUNDS > 3u { all.p_3 = patch_at(tile, first, lane + 3u * THREADS); }
    if PATCH_ROUNDS > 4u { all.p_4 = patch_at(tile, first, lane + 4u * THREADS); }
    if PATCH_ROUNDS > 5u { all.p_5 = patch_at(tile, first, lane + 5u * THREADS); }
    if PATCH_ROUNDS > 6u { all.p_6 = patch_at(tile, first, lane + 6u * THREADS); }
    if PATCH_ROUNDS > 7u { all.p_7 = patch_at(tile, first, lane + 7u * THREADS); }
    all.f_0 = filter_at(tile, first, lane);
    if FILTER_ROUNDS > 1u { all.f_1 = filter_at(tile, first, lane + 1u * THREADS); }
    if FILTER_ROUNDS > 2u { all.f_2 = filter_at(tile, first, lane + 2u * THREADS); }
    if FILTER_ROUNDS > 3u { all.f_3 = filter_at(tile, first, lane + 3u * THREADS); }
    if FILTER_ROUNDS > 4u { all.f_4 = filter_at(tile, first, lane + 4u * THREADS); }
    if FILTER_ROUNDS > 5u { all.f_5 = filter_at(tile, first, lane + 5u * THREADS); }
    if FILTER_ROUNDS > 6u { all.f_6 = filter_at(tile, first, lane + 6u * THREADS); }
    if FILTER_ROUNDS > 7u { all.f_7 = filter_at(tile, first, lane + 7u * THREADS); }
    if FILTER_ROUNDS > 8u { all.f_8 = filter_at(tile, first, lane + 8u * THREADS); }
    if FILTER_ROUNDS > 9u { all.f_9 = filter_at(tile, first, lane + 9u * THREADS); }
    if FILTER_ROUNDS > 10u { all.f_10 = filter_at(tile, first, lane + 10u * THREADS); }
    if FILTER_ROUNDS > 11u { all.f_11 = filter_at(tile, first, lane + 11u * THREADS); }
    return all;
}

fn put_patch(slot: u32, quad: vec4<f32>) {
    if slot < PATCH {
        under[slot] = quad;
    }
}

fn put_filter(slot: u32, quad: vec4<f32>) {
    if slot < FILTER_QUADS {
        filters[slot] = quad;
    }
}

fn put(all: Staging, lane: u32) {
    put_patch(lane, all.p_0);
    if PATCH_ROUNDS > 1u { put_patch(lane + 1u * THREADS, all.p_1); }
    if PATCH_ROUNDS > 2u { put_patch(lane + 2u * THREADS, all.p_2); }
    if PATCH_ROUNDS > 3u { put_patch(lane + 3u * THREADS, all.p_3); }
    if PATCH_ROUNDS > 4u { put_patch(lane + 4u * THREADS, all.p_4); }
    if PATCH_ROUNDS > 5u { put_patch(lane + 5u * THREADS, all.p_5); }
    if PATCH_ROUNDS > 6u { put_patch(lane + 6u * THREADS, all.p_6); }
    if PATCH_ROUNDS > 7u { put_patch(lane + 7u * THREADS, all.p_7); }
    put_filter(lane, all.f_0);
    if FILTER_ROUNDS > 1u { put_filter(lane + 1u * THREADS, all.f_1); }
    if FILTER_ROUNDS > 2u { put_filter(lane + 2u * THREADS, all.f_2); }
    if FILTER_ROUNDS > 3u { put_filter(lane + 3u * THREADS, all.f_3); }
    if FILTER_ROUNDS > 4u { put_filter(lane + 4u * THREADS, all.f_4); }
    if FILTER_ROUNDS > 5u { put_filter(lane + 5u * THREADS, all.f_5); }
    if FILTER_ROUNDS > 6u { put_filter(lane + 6u * THREADS, all.f_6); }
    if FILTER_ROUNDS > 7u { put_filter(lane + 7u * THREADS, all.f_7); }
    if FILTER_ROUNDS > 8u { put_filter(lane + 8u * THREADS, all.f_8); }
    if FILTER_ROUNDS > 9u { put_filter(lane + 9u * THREADS, all.f_9); }
    if FILTER_ROUNDS > 10u { put_filter(lane + 10u * THREADS, all.f_10); }
    if FILTER_ROUNDS > 11u { put_filter(lane + 11u * THREADS, all.f_11); }
}

// The products of one tap, at `tap` among the filters, with the four values under it.
fn add_tap(sums: ptr<function, RegisterTile>, tap: u32, eight: u32, values: vec4<f32>) {
    let at = tap * 2u * TILE_EIGHTS + 2u * eight;
    add_outer(sums, filters[at], filters[at + 1u], values);
}

// A thread's strip within the tile, and which eight channels of it.
struct Place {
    strip: u32,
    y: u32,
    eight: u32,
}

fn place_of(lane: u32) -> Place {
    return Place(lane % TILE_STRIPS, lane / TILE_STRIPS % TILE_ROWS, lane / (TILE_STRIPS * TILE_ROWS));
}

// The products with the first `channels` channels of what is in workgroup memory.
fn add_chunk(sums: ptr<function, RegisterTile>, place: Place, channels: u32) {
    for (var c = 0u; c < channels; c += 1u) {
        for (var i = 0u; i < KERNEL_H; i += 1u) {
            // The gradient meets rows of the patch from below.
            let patch_row = place.y * Y_STEP + select(i, KERNEL_H - 1u - i, TRANSPOSED == 1u);
            let values = under_taps((c * PATCH_ROWS + patch_row) * ROW_QUADS + place.strip);
            let tap = (c * KERNEL_H + i) * KERNEL_W;
            add_tap(sums, tap, place.eight, values.v_0);
            if KERNEL_W > 1u { add_tap(sums, tap + 1u, place.eight, values.v_1); }
            if KERNEL_W > 2u { add_tap(sums, tap + 2u, place.eight, values.v_2); }
            if KERNEL_W > 3u { add_tap(sums, tap + 3u, place.eight, values.v_3); }
            if KERNEL_W > 4u { add_tap(sums, tap + 4u, place.eight, values.v_4); }
        }
    }
}

// A thread's sums. All threads come here together.
fn tile_sums(tile: Tile, lane: u32) -> RegisterTile {
    let num_channels = source_extents().channels / GROUPS;
    let place = place_of(lane);
    var sums = RegisterTile();
    // In the first round there is nothing to compute yet, and in the last one nothing to load.
    for (var next = 0u; next < num_channels + CHUNK; next += CHUNK) {
        var staging = Staging();
        if next < num_channels {
            staging = staging_of(tile, next, lane);
        }
        if next > 0u {
            add_chunk(&sums, place, min(CHUNK, num_channels + CHUNK - next));
        }
        workgroupBarrier();
        if next < num_channels {
            put(staging, lane);
        }
        workgroupBarrier();
    }
    return sums;
}

// A thread's strip among the result's: the image, its first channel, the row and the first pixel.
fn strip_of(tile: Tile, lane: u32) -> Tile {
    let place = place_of(lane);
    return Tile(tile.image, tile.y + place.y, tile.x + 4u * place.strip, tile.channel + 8u * place.eight, tile.end);
}

fn is_there(strip: Tile, row: u32) -> bool {
    let extents = result_extents();
    let is_channel = (strip.image < params.batch) & (strip.channel + row < strip.end);
    return is_channel & (strip.y < extents.height) & (strip.x < extents.width);
}

// Where the first pixel of the strip is in the result, of its channel `row`.
fn pixel_of(strip: Tile, row: u32) -> u32 {
    let extents = result_extents();
    let channel = strip.image * extents.channels + strip.channel + row;
    return (channel * extents.height + strip.y) * extents.width + strip.x;
}

fn added_at(strip: Tile, row: u32, column: u32) -> f32 {
    let place = added_place(strip.image, strip.channel + row, strip.y, strip.x + column);
    return select(0.0, added[place.index], place.is_there);
}

fn finished(strip: Tile, row: u32, sums: vec4<f32>) -> vec4<f32> {
    var values = sums;
    if HAS_BIAS == 1u {
        values += bias[strip.channel + row];
    }
    if HAS_ADDED == 1u {
        values += vec4<f32>(
            added_at(strip, row, 0u), added_at(strip, row, 1u), added_at(strip, row, 2u), added_at(strip, row, 3u));
    }
    return activate4(values);
}

fn store(strip: Tile, row: u32, sums: vec4<f32>) {
    if is_there(strip, row) {
        result[pixel_of(strip, row) / 4u] = finished(strip, row, sums);
    }
}

fn store_ragged(strip: Tile, row: u32, sums: vec4<f32>) {
    if is_there(strip, row) {
        let values = finished(strip, row, sums);
        let at = pixel_of(strip, row);
        let width = result_extents().width;
        result_pixels[at] = values.x;
        if strip.x + 1u < width { result_pixels[at + 1u] = values.y; }
        if strip.x + 2u < width { result_pixels[at + 2u] = values.z; }
        if strip.x + 3u < width { result_pixels[at + 3u] = values.w; }
    }
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane);
    let strip = strip_of(tile, lane);
    store(strip, 0u, sums.row_0);
    store(strip, 1u, sums.row_1);
    store(strip, 2u, sums.row_2);
    store(strip, 3u, sums.row_3);
    store(strip, 4u, sums.row_4);
    store(strip, 5u, sums.row_5);
    store(strip, 6u, sums.row_6);
    store(strip, 7u, sums.row_7);
}

@compute @workgroup_size(THREADS)
fn staged_ragged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane);
    let strip = strip_of(tile, lane);
    store_ragged(strip, 0u, sums.row_0);
    store_ragged(strip, 1u, sums.row_1);
    store_ragged(strip, 2u, sums.row_2);
    store_ragged(strip, 3u, sums.row_3);
    store_ragged(strip, 4u, sums.row_4);
    store_ragged(strip, 5u, sums.row_5);
    store_ragged(strip, 6u, sums.row_6);
    store_ragged(strip, 7u, sums.row_7);
}
