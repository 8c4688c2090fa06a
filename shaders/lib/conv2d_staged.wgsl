// What the kernels of conv2d_staged.wgsl and conv2d_staged_moments.wgsl share: a convolution's sums, or those of its gradient by
// the input. What lies under a tile and the filters are copied into workgroup memory, CHUNK source channels at a time. Those of
// the next chunk are on their way, in registers, while a chunk is computed: a thread waits for loads once a chunk.
//
//   forward     out as conv2d.wgsl has it: from `source` = input, over c, i, j
//   TRANSPOSED = 1: grad_input as conv2d_grad_input.wgsl has it: from `source` = grad_output, over o, i and falling j. With a
//               stride the values of grad_output lie that far apart, and zeros between them. HAS_ADDED = 1: and what
//               lib/added.wgsl says is added
//
// in these orders, which are those of the kernels there. KERNEL_W <= 5, and REACH_W / X_STEP <= 4.
//
// source  f32 (batch, source channels, height, width)
// weight  f32 (out_channels, in_channels / GROUPS, KERNEL_H, KERNEL_W)
// bias    f32 (out_channels); not read when HAS_BIAS = 0, any buffer may then be bound
// result  f32 (batch, result channels, height, width), where rows are of whole quads as vec4 of four neighbouring pixels
// added   f32 (batch, ADDED_CHANNELS, rows, columns)
//
// A workgroup computes TILE_STRIPS strips of four pixels in each of TILE_ROWS rows, for TILE_EIGHTS times eight channels of a
// group of an image; a thread one strip for eight channels. Workgroups are numbered channel tile fastest, then x, y, image.
//
// Needs lib/conv2d.wgsl, lib/extents.wgsl, lib/register_tile.wgsl, lib/row_window.wgsl, lib/patch.wgsl, lib/added.wgsl and
// lib/rounds.wgsl.

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> result_pixels: array<f32>;
@group(0) @binding(5) var<storage, read> added: array<f32>; // not read when HAS_ADDED = 0

override HAS_BIAS: u32 = 0u;
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

override PATCH_ROWS: u32 = (TILE_ROWS - 1u) * Y_STEP + REACH_H + 1u;
override PATCH_QUADS: u32 = TILE_STRIPS + 1u; // as far as the widest kernel reaches
override ROW_QUADS: u32 = PHASES * PATCH_QUADS;
override PATCH: u32 = CHUNK * PATCH_ROWS * ROW_QUADS;
override FACTOR_QUADS: u32 = CHUNK * KERNEL_H * KERNEL_W * TILE_EIGHTS * 2u;

// The tile's biases are loaded with the first chunk where there are threads for them.
override HOLDS_BIAS: u32 = select(0u, select(0u, 1u, TILE_STRIPS * TILE_ROWS >= 8u), HAS_BIAS == 1u);
override BIASES: u32 = select(1u, 8u * TILE_EIGHTS, HOLDS_BIAS == 1u);

var<workgroup> biases: array<f32, BIASES>;

// The first of CHUNK source channels of the group.
alias Chunk = u32;

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
        y = y + PADDING_H - REACH_H;
        x = x + PADDING_W - REACH_W;
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
fn factor_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
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

// The products of one tap, at `tap` among the filters, with the four values under it.
fn add_tap(sums: ptr<function, RegisterTile>, tap: u32, eight: u32, values: vec4<f32>) {
    let at = tap * 2u * TILE_EIGHTS + 2u * eight;
    add_outer(sums, factors[at], factors[at + 1u], values);
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
            let patch_row = place.y * Y_STEP + select(i, KERNEL_H - 1u - i, TRANSPOSED == 1u) * DILATION_H;
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

// That of one of the tile's channels.
fn bias_at(tile: Tile, channel: u32) -> f32 {
    if HAS_BIAS == 0u {
        return 0.0;
    }
    return bias[min(tile.channel + channel, tile.end - 1u)];
}

fn bias_of(tile: Tile, channel: u32) -> f32 {
    if HOLDS_BIAS == 1u {
        return biases[channel];
    }
    return bias_at(tile, channel);
}

fn with_bias(tile: Tile, lane: u32, sums: RegisterTile) -> RegisterTile {
    if HAS_BIAS == 0u {
        return sums;
    }
    let first = 8u * place_of(lane).eight;
    return RegisterTile(
        sums.row_0 + bias_of(tile, first), sums.row_1 + bias_of(tile, first + 1u),
        sums.row_2 + bias_of(tile, first + 2u), sums.row_3 + bias_of(tile, first + 3u),
        sums.row_4 + bias_of(tile, first + 4u), sums.row_5 + bias_of(tile, first + 5u),
        sums.row_6 + bias_of(tile, first + 6u), sums.row_7 + bias_of(tile, first + 7u),
    );
}

// A thread's sums, without the bias, of which `own_bias` is that of the tile's channel `lane`. All threads come here together.
fn tile_sums(tile: Tile, lane: u32, own_bias: f32) -> RegisterTile {
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
        } else if HOLDS_BIAS == 1u && lane < BIASES {
            biases[lane] = own_bias;
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
