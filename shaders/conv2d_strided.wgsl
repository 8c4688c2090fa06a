// Gradient of a 2-D convolution with a stride with respect to its input, on real GPUs: what conv2d_grad_input.wgsl has, where
// dilations are 1.
//
// Pixels that lie a stride apart meet the same taps, and their gradient is a convolution of stride 1 with these alone:
//
//   grad_input[n, c, q * STRIDE_H + r, p * STRIDE_W + s] = sum over o, i, j of
//       grad_output[n, o, q + (r + PADDING_H - i) / STRIDE_H, p + (s + PADDING_W - j) / STRIDE_W] * weight[o, c, i, j]
//
// over those i and j for which the quotients are whole, in the order of conv2d_grad_input.wgsl: o, i, falling j. A residue r
// is a workgroup's; a thread has all residues s, so that what it computes are neighbours.
//
//   strided         STRIDE_W is 2 and in_w a multiple of 4
//   strided_ragged  any
//
// grad_output  f32 (batch, out_channels, out_h, out_w)
// weight       f32 (out_channels, in_channels / GROUPS, KERNEL_H, KERNEL_W)
// grad_input   f32 (batch, in_channels, in_h, in_w), of `strided` as vec4 of four neighbouring pixels
// added        f32 (batch, ADDED_CHANNELS, rows, columns): with HAS_ADDED = 1 what lib/added.wgsl says is added
//
// A workgroup computes TILE_STRIPS strips in each of TILE_ROWS rows of a residue, for TILE_PARTS times PART channels of a
// group of an image; a thread one strip for PART channels, where a strip is four pixels of each residue s. Workgroups are
// numbered channel tile fastest, then x, y, image, residue; those with the most taps come first.
//
// grad_output and weights are in workgroup memory, CHUNK of the group's output channels at a time, and those of the next
// chunk on their way, as in conv2d_staged.wgsl.
//
// STRIDE_W <= 4, KERNEL_W <= 9, and the columns that meet a pixel's taps are at most 5 apart: SPAN_W <= 4.
//
// Needs lib/conv2d.wgsl, lib/register_tile.wgsl, lib/row_window.wgsl, lib/added.wgsl and lib/rounds.wgsl.

@group(0) @binding(1) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_pixels: array<f32>;
@group(0) @binding(4) var<storage, read> added: array<f32>; // not read when HAS_ADDED = 0

override TILE_STRIPS: u32 = 8u;
override TILE_ROWS: u32 = 8u;
override TILE_PARTS: u32 = 1u;
override CHUNK: u32 = 1u;
override THREADS: u32 = 64u; // TILE_STRIPS * TILE_ROWS * TILE_PARTS

// A thread's 16 vec4s are two residues of eight channels or four of four.
override PART_QUADS: u32 = select(1u, 2u, STRIDE_W < 3u);
override PART: u32 = 4u * PART_QUADS;
override TILE_QUADS: u32 = PART_QUADS * TILE_PARTS;

// Tap i meets row q + reach_h(i) - KERNEL_H of grad_output, and tap j the column of that kind.
fn reach_h(i: u32) -> u32 {
    return (PADDING_H + STRIDE_H * KERNEL_H + STRIDE_H - 1u - i) / STRIDE_H;
}

fn reach_w(j: u32) -> u32 {
    return (PADDING_W + STRIDE_W * KERNEL_W + STRIDE_W - 1u - j) / STRIDE_W;
}

// That of the last tap, which reaches least.
override LEAST_H: u32 = (PADDING_H + STRIDE_H * KERNEL_H + STRIDE_H - KERNEL_H) / STRIDE_H;
override LEAST_W: u32 = (PADDING_W + STRIDE_W * KERNEL_W + STRIDE_W - KERNEL_W) / STRIDE_W;
// How much further the first one does.
override SPAN_H: u32 = (PADDING_H + STRIDE_H * KERNEL_H + STRIDE_H - 1u) / STRIDE_H - LEAST_H;
override SPAN_W: u32 = (PADDING_W + STRIDE_W * KERNEL_W + STRIDE_W - 1u) / STRIDE_W - LEAST_W;

// Rows of the kernel that a residue meets, at most.
override KERNEL_ROWS: u32 = (KERNEL_H + STRIDE_H - 1u) / STRIDE_H;
override PATCH_ROWS: u32 = TILE_ROWS + SPAN_H;
override PATCH_QUADS: u32 = TILE_STRIPS + select(0u, 1u, SPAN_W > 0u);
override PATCH: u32 = CHUNK * PATCH_ROWS * PATCH_QUADS;
override FACTOR_QUADS: u32 = CHUNK * KERNEL_ROWS * KERNEL_W * TILE_QUADS;

// The first of CHUNK output channels of the group.
alias Chunk = u32;

// What a workgroup works on: of the residue whose first tap is row `first_row` of the kernel, rows and columns from (y, x) on.
struct Tile {
    first_row: u32,
    image: u32,
    y: u32,
    x: u32,
    group: u32,
    channel: u32, // within the group
}

fn group_in() -> u32 {
    return params.in_channels / GROUPS;
}

fn group_out() -> u32 {
    return params.out_channels / GROUPS;
}

fn tile_position(unit: u32) -> Tile {
    let group_tiles = (group_in() + PART * TILE_PARTS - 1u) / (PART * TILE_PARTS);
    let channel_tiles = GROUPS * group_tiles;
    // Pixels and rows of a residue, at most, and these in tiles.
    let pixels = (params.in_w + STRIDE_W - 1u) / STRIDE_W;
    let rows = (params.in_h + STRIDE_H - 1u) / STRIDE_H;
    let tiles_x = (pixels + 4u * TILE_STRIPS - 1u) / (4u * TILE_STRIPS);
    let tiles_y = (rows + TILE_ROWS - 1u) / TILE_ROWS;
    let place = unit / channel_tiles;
    let image = place / tiles_x / tiles_y;
    return Tile(
        image / params.batch,
        image % params.batch,
        place / tiles_x % tiles_y * TILE_ROWS,
        place % tiles_x * TILE_STRIPS * 4u,
        unit % channel_tiles / group_tiles,
        unit % group_tiles * PART * TILE_PARTS,
    );
}

fn grad_at(row: u32, x: u32, is_inside: bool) -> f32 {
    // Left of the image x has wrapped around and is large.
    let is_there = is_inside & (x < params.out_w);
    return select(0.0, grad_output[select(0u, row + x, is_there)], is_there);
}

// Four values of grad_output: of the group's channel from `first` on, the row and the quad.
fn patch_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
    let o = first + slot / (PATCH_ROWS * PATCH_QUADS);
    // Above and left of the image these wrap around and are large.
    let v = tile.y + slot / PATCH_QUADS % PATCH_ROWS + LEAST_H - KERNEL_H;
    let u = tile.x + slot % PATCH_QUADS * 4u + LEAST_W - KERNEL_W;
    let is_inside = (o < group_out()) & (v < params.out_h);
    let channel = tile.image * params.out_channels + tile.group * group_out() + o;
    let row = (channel * params.out_h + v) * params.out_w;
    return vec4<f32>(
        grad_at(row, u, is_inside),
        grad_at(row, u + 1u, is_inside),
        grad_at(row, u + 2u, is_inside),
        grad_at(row, u + 3u, is_inside),
    );
}

// Four input channels' weights: slot counts quads of channels fastest, then j, rows of the kernel, output channel.
fn factor_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
    let c = tile.channel + slot % TILE_QUADS * 4u;
    let tap = slot / TILE_QUADS;
    let i = tile.first_row + tap / KERNEL_W % KERNEL_ROWS * STRIDE_H;
    let o = first + tap / (KERNEL_W * KERNEL_ROWS);
    let taps = KERNEL_H * KERNEL_W;
    let at = ((tile.group * group_out() + o) * group_in() + c) * taps + i * KERNEL_W + tap % KERNEL_W;
    let is_inside = (o < group_out()) & (i < KERNEL_H);
    let is_there = vec4<bool>(is_inside) & (c + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(group_in()));
    let index = select(vec4<u32>(), at + taps * vec4<u32>(0u, 1u, 2u, 3u), is_there);
    let loaded = vec4<f32>(weight[index.x], weight[index.y], weight[index.z], weight[index.w]);
    return select(vec4<f32>(), loaded, is_there);
}

// A thread's sums. Of PART = 8 `a` has residue 0 and `b` residue 1; of PART = 4 `a` has residues 0 and 1, a half each, and
// `b` residues 2 and 3.
struct Sums {
    a: RegisterTile,
    b: RegisterTile,
}

// The products of tap j of a row of the kernel, whose weights begin at `row`.
fn add_tap(a: ptr<function, RegisterTile>, b: ptr<function, RegisterTile>, row: u32, j: u32, window: RowWindow) {
    let values = window_under(window, reach_w(j) - LEAST_W);
    let residue = (j + PADDING_W * (STRIDE_W - 1u)) % STRIDE_W;
    let at = row + j * TILE_QUADS;
    if PART_QUADS == 2u {
        if residue == 0u {
            add_outer(a, factors[at], factors[at + 1u], values);
        } else {
            add_outer(b, factors[at], factors[at + 1u], values);
        }
    } else {
        switch residue {
            case 0u: { add_low(a, factors[at], values); }
            case 1u: { add_high(a, factors[at], values); }
            case 2u: { add_low(b, factors[at], values); }
            default: { add_high(b, factors[at], values); }
        }
    }
}

// A thread's strip within the tile, and its part of the channels.
struct Place {
    strip: u32,
    y: u32,
    part: u32,
}

fn place_of(lane: u32) -> Place {
    return Place(lane % TILE_STRIPS, lane / TILE_STRIPS % TILE_ROWS, lane / (TILE_STRIPS * TILE_ROWS));
}

// The products with the first `channels` channels of what is in workgroup memory.
fn add_chunk(
    a: ptr<function, RegisterTile>,
    b: ptr<function, RegisterTile>,
    place: Place,
    first_row: u32,
    channels: u32,
) {
    for (var o = 0u; o < channels; o += 1u) {
        var row = o * KERNEL_ROWS * KERNEL_W * TILE_QUADS + PART_QUADS * place.part;
        for (var i = first_row; i < KERNEL_H; i += STRIDE_H) {
            let at = (o * PATCH_ROWS + place.y + reach_h(i) - LEAST_H) * PATCH_QUADS + place.strip;
            var window = RowWindow(under[at], vec4<f32>());
            if SPAN_W > 0u { window.high = under[at + 1u]; }
            if KERNEL_W > 8u { add_tap(a, b, row, 8u, window); }
            if KERNEL_W > 7u { add_tap(a, b, row, 7u, window); }
            if KERNEL_W > 6u { add_tap(a, b, row, 6u, window); }
            if KERNEL_W > 5u { add_tap(a, b, row, 5u, window); }
            if KERNEL_W > 4u { add_tap(a, b, row, 4u, window); }
            if KERNEL_W > 3u { add_tap(a, b, row, 3u, window); }
            if KERNEL_W > 2u { add_tap(a, b, row, 2u, window); }
            if KERNEL_W > 1u { add_tap(a, b, row, 1u, window); }
            add_tap(a, b, row, 0u, window);
            row += KERNEL_W * TILE_QUADS;
        }
    }
}

// All threads come here together.
fn tile_sums(tile: Tile, lane: u32) -> Sums {
    let place = place_of(lane);
    var a = RegisterTile();
    var b = RegisterTile();
    // Where no tap meets the residue, and in the workgroups that a folded grid has too many, there is nothing to add.
    let num_channels = select(0u, group_out(), tile.first_row < min(KERNEL_H, STRIDE_H));
    // In the first round there is nothing to compute yet, and in the last one nothing to load.
    for (var next = 0u; next < num_channels + CHUNK; next += CHUNK) {
        var staging = Staging();
        if next < num_channels {
            staging = staging_of(tile, next, lane);
        }
        if next > 0u {
            add_chunk(&a, &b, place, tile.first_row, min(CHUNK, num_channels + CHUNK - next));
        }
        workgroupBarrier();
        if next < num_channels {
            put(staging, lane);
        }
        workgroupBarrier();
    }
    return Sums(a, b);
}

// The residue whose first tap is first_row.
fn residue_of(tile: Tile) -> u32 {
    return (tile.first_row + PADDING_H * (STRIDE_H - 1u)) % STRIDE_H;
}

// Where a thread's pixels are: the image, its first channel, how many channels of the group are left from it on, the row,
// and the first pixel.
struct Strip {
    image: u32,
    channel: u32,
    channels: u32, // 0 where there is no row
    y: u32,
    x: u32,
}

fn strip_of(tile: Tile, lane: u32) -> Strip {
    let place = place_of(lane);
    let c = tile.channel + PART * place.part;
    let y = (tile.y + place.y) * STRIDE_H + residue_of(tile);
    let is_there = (tile.first_row < STRIDE_H) & (y < params.in_h) & (c < group_in());
    let channel = tile.group * group_in() + c;
    return Strip(tile.image, channel, select(0u, group_in() - c, is_there), y, (tile.x + 4u * place.strip) * STRIDE_W);
}

// Where a row of pixels begins.
fn row_of(strip: Strip, row: u32) -> u32 {
    return ((strip.image * params.in_channels + strip.channel + row) * params.in_h + strip.y) * params.in_w;
}

// What is added to a pixel, 0 where there is none.
fn added_at(strip: Strip, row: u32, x: u32) -> f32 {
    let place = added_place(strip.image, strip.channel + row, strip.y, x);
    let is_there = place.is_there & (row < strip.channels);
    return select(0.0, added[select(0u, place.index, is_there)], is_there);
}

fn added4_at(strip: Strip, row: u32, x: u32) -> vec4<f32> {
    return vec4<f32>(
        added_at(strip, row, x), added_at(strip, row, x + 1u), added_at(strip, row, x + 2u), added_at(strip, row, x + 3u));
}

fn store_pixel(strip: Strip, row: u32, x: u32, value: f32) {
    if x < params.in_w {
        var sum = value;
        if HAS_ADDED == 1u { sum += added_at(strip, row, x); }
        grad_pixels[row_of(strip, row) + x] = sum;
    }
}

fn store_quad(strip: Strip, row: u32, x: u32, quad: vec4<f32>) {
    if x < params.in_w {
        var sums = quad;
        if HAS_ADDED == 1u { sums += added4_at(strip, row, x); }
        grad_input[(row_of(strip, row) + x) / 4u] = sums;
    }
}

// Eight pixels of a channel as they lie side by side.
fn first_four(even: vec4<f32>, odd: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(even.x, odd.x, even.y, odd.y);
}

fn next_four(even: vec4<f32>, odd: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(even.z, odd.z, even.w, odd.w);
}

fn store_pair(strip: Strip, row: u32, even: vec4<f32>, odd: vec4<f32>) {
    if row < strip.channels {
        store_quad(strip, row, strip.x, first_four(even, odd));
        store_quad(strip, row, strip.x + 4u, next_four(even, odd));
    }
}

fn store_residue(strip: Strip, row: u32, residue: u32, values: vec4<f32>) {
    if row < strip.channels {
        let x = strip.x + residue;
        store_pixel(strip, row, x, values.x);
        store_pixel(strip, row, x + STRIDE_W, values.y);
        store_pixel(strip, row, x + 2u * STRIDE_W, values.z);
        store_pixel(strip, row, x + 3u * STRIDE_W, values.w);
    }
}

// The rows of a tile, of which PART = 4 has those from 4 on in the next residue.
fn store_tile(strip: Strip, residue: u32, tile: RegisterTile) {
    let next = select(residue, residue + 1u, PART == 4u);
    store_residue(strip, 0u, residue, tile.row_0);
    store_residue(strip, 1u, residue, tile.row_1);
    store_residue(strip, 2u, residue, tile.row_2);
    store_residue(strip, 3u, residue, tile.row_3);
    if next < STRIDE_W {
        store_residue(strip, 4u % PART, next, tile.row_4);
        store_residue(strip, 5u % PART, next, tile.row_5);
        store_residue(strip, 6u % PART, next, tile.row_6);
        store_residue(strip, 7u % PART, next, tile.row_7);
    }
}

@compute @workgroup_size(THREADS)
fn strided(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane);
    let strip = strip_of(tile, lane);
    store_pair(strip, 0u, sums.a.row_0, sums.b.row_0);
    store_pair(strip, 1u, sums.a.row_1, sums.b.row_1);
    store_pair(strip, 2u, sums.a.row_2, sums.b.row_2);
    store_pair(strip, 3u, sums.a.row_3, sums.b.row_3);
    store_pair(strip, 4u, sums.a.row_4, sums.b.row_4);
    store_pair(strip, 5u, sums.a.row_5, sums.b.row_5);
    store_pair(strip, 6u, sums.a.row_6, sums.b.row_6);
    store_pair(strip, 7u, sums.a.row_7, sums.b.row_7);
}

@compute @workgroup_size(THREADS)
fn strided_ragged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane);
    let strip = strip_of(tile, lane);
    store_tile(strip, 0u, sums.a);
    let residue = select(1u, 2u, PART == 4u);
    if residue < STRIDE_W {
        store_tile(strip, residue, sums.b);
    }
}
