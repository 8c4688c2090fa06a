// The first pass of the gradients of a 2-D convolution with respect to its weight and bias on real GPUs: what
// conv2d_grad_weight.wgsl has in `slices`, where KERNEL_W <= 5 and REACH_W / STRIDE_W <= 4.
//
//   partials[s, o, c, i, j] = sum over rows (n, y) of slice s, over x, of grad_output[n, o, y, x] *
//       input[n, c, y * STRIDE_H + i * DILATION_H - PADDING_H, x * STRIDE_W + j * DILATION_W - PADDING_W]
//   partials[s, num_weights + o] = sum over rows (n, y) of slice s, over x, of grad_output[n, o, y, x]
//
// input        f32 (batch, in_channels, in_h, in_w)
// grad_output  f32 (batch, out_channels, out_h, out_w)
// partials     f32 (num_slices, num_weights + out_channels)
//
// A workgroup has TILE_IN input and TILE_EIGHTS times eight output channels of a group, of a slice, and in workgroup memory ROWS
// rows of an image at a time: grad_output and the input under it. Those of the next rows are on their way, in registers, while these
// are computed: a thread waits for loads once for ROWS rows. It owns a kernel row (c, i) for eight output channels, in
// ROW_THREADS, of which those past the last kernel row have nothing to store. Workgroups are numbered input tile fastest, then
// output tile, then group, then slice.
//
// Needs lib/conv2d.wgsl, lib/register_tile.wgsl, lib/shared_rows.wgsl, lib/row_window.wgsl, lib/tap_sums.wgsl, lib/patch.wgsl
// and lib/rounds.wgsl.

@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> grad_output: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

override TILE_IN: u32 = 1u;
override TILE_EIGHTS: u32 = 1u;
override ROWS: u32 = 1u;
override OUT_QUADS: u32 = 1u; // of a row of grad_output
override ROW_THREADS: u32 = 8u; // at least TILE_IN * KERNEL_H and 8
override THREADS: u32 = 8u; // TILE_EIGHTS * ROW_THREADS

override X_STEP: u32 = STRIDE_W;
override PATCH_ROWS: u32 = (ROWS - 1u) * STRIDE_H + REACH_H + 1u;
// As far as the widest kernel reaches, and odd, so that neighbouring rows are in different banks.
override PATCH_QUADS: u32 = OUT_QUADS + 1u + OUT_QUADS % 2u;
override ROW_QUADS: u32 = PHASES * PATCH_QUADS;
override PATCH: u32 = TILE_IN * PATCH_ROWS * ROW_QUADS;
override GRAD_PLANE: u32 = ROWS * OUT_QUADS;
override FACTOR_QUADS: u32 = 8u * TILE_EIGHTS * GRAD_PLANE;

// Where the strip of grad_output that is added is among `factors`, of the first of eight channels.
var<private> own_strip: u32;

// That of channel `row`: shared_rows.wgsl asks for it.
fn shared_from(row: u32) -> vec4<f32> {
    return factors[own_strip + row * GRAD_PLANE];
}

// What a workgroup works on.
struct Tile {
    slice: u32,
    out_channel: u32,
    out_end: u32,    // of the group's
    in_channel: u32, // within the group
    group: u32,
}

fn group_in() -> u32 {
    return params.in_channels / GROUPS;
}

fn tile_position(unit: u32) -> Tile {
    let group_out = params.out_channels / GROUPS;
    let in_tiles = (group_in() + TILE_IN - 1u) / TILE_IN;
    let out_tiles = (group_out + 8u * TILE_EIGHTS - 1u) / (8u * TILE_EIGHTS);
    let group = unit / in_tiles / out_tiles % GROUPS;
    return Tile(
        unit / in_tiles / out_tiles / GROUPS,
        group * group_out + unit / in_tiles % out_tiles * 8u * TILE_EIGHTS,
        (group + 1u) * group_out,
        unit % in_tiles * TILE_IN,
        group,
    );
}

// Rows of one image, from y on.
struct Chunk {
    image: u32,
    y: u32,
    count: u32,
}

// Those from row `first` on, counted over all images: up to `last`, or to the end of the image.
fn chunk_of(first: u32, last: u32) -> Chunk {
    let y = first % params.out_h;
    return Chunk(first / params.out_h, y, min(min(ROWS, last - first), params.out_h - y));
}

fn input_at(row: u32, x: u32, is_inside: bool) -> f32 {
    // Left of the image x has wrapped around and is large.
    let is_there = is_inside & (x < params.in_w);
    return select(0.0, input[select(0u, row + x, is_there)], is_there);
}

fn patch_at(tile: Tile, chunk: Chunk, slot: u32) -> vec4<f32> {
    let c = tile.in_channel + slot / (PATCH_ROWS * ROW_QUADS);
    // Above and left of the image these wrap around and are large.
    let y = chunk.y * STRIDE_H + slot / ROW_QUADS % PATCH_ROWS - PADDING_H;
    let x = slot % PATCH_QUADS * 4u * X_STEP + slot / PATCH_QUADS % PHASES - PADDING_W;
    let is_inside = (slot < PATCH) & (c < group_in()) & (y < params.in_h);
    let channel = chunk.image * params.in_channels + tile.group * group_in() + c;
    let row = (channel * params.in_h + y) * params.in_w;
    return vec4<f32>(
        input_at(row, x, is_inside),
        input_at(row, x + X_STEP, is_inside),
        input_at(row, x + 2u * X_STEP, is_inside),
        input_at(row, x + 3u * X_STEP, is_inside),
    );
}

fn grad_at(row: u32, x: u32, is_inside: bool) -> f32 {
    let is_there = is_inside & (x < params.out_w);
    return select(0.0, grad_output[select(0u, row + x, is_there)], is_there);
}

fn factor_at(tile: Tile, chunk: Chunk, slot: u32) -> vec4<f32> {
    let o = tile.out_channel + slot / GRAD_PLANE;
    let y = slot / OUT_QUADS % ROWS;
    let x = slot % OUT_QUADS * 4u;
    let is_inside = (o < tile.out_end) & (y < chunk.count);
    let row = ((chunk.image * params.out_channels + o) * params.out_h + chunk.y + y) * params.out_w;
    return vec4<f32>(
        grad_at(row, x, is_inside),
        grad_at(row, x + 1u, is_inside),
        grad_at(row, x + 2u, is_inside),
        grad_at(row, x + 3u, is_inside),
    );
}

// A thread's kernel row, which of eight output channels, and its place among those that share these.
struct Place {
    c: u32,
    i: u32,
    eight: u32,
    index: u32,
}

fn place_of(lane: u32) -> Place {
    let index = lane % ROW_THREADS;
    // Threads past the last kernel row repeat it.
    let row = min(index, TILE_IN * KERNEL_H - 1u);
    return Place(row / KERNEL_H, row % KERNEL_H, lane / ROW_THREADS, index);
}

// The inputs under the taps, position by position.
fn positions(taps: UnderTaps) -> Positions {
    return Positions(
        vec4<f32>(taps.v_0.x, taps.v_1.x, taps.v_2.x, taps.v_3.x),
        vec4<f32>(taps.v_0.y, taps.v_1.y, taps.v_2.y, taps.v_3.y),
        vec4<f32>(taps.v_0.z, taps.v_1.z, taps.v_2.z, taps.v_3.z),
        vec4<f32>(taps.v_0.w, taps.v_1.w, taps.v_2.w, taps.v_3.w),
        taps.v_4,
    );
}

fn num_weights() -> u32 {
    return params.out_channels * group_in() * KERNEL_H * KERNEL_W;
}

fn num_slices() -> u32 {
    return (params.batch * params.out_h + params.rows_per_slice - 1u) / params.rows_per_slice;
}

fn store(tile: Tile, place: Place, channel: u32, taps: vec4<f32>, fifth: f32) {
    let o = tile.out_channel + 8u * place.eight + channel;
    let c = tile.in_channel + place.c;
    let is_own = (place.index < TILE_IN * KERNEL_H) & (c < group_in());
    if is_own && o < tile.out_end && tile.slice < num_slices() {
        let row = (o * group_in() + c) * KERNEL_H + place.i;
        let at = tile.slice * (num_weights() + params.out_channels) + row * KERNEL_W;
        partials[at] = taps.x;
        if KERNEL_W > 1u { partials[at + 1u] = taps.y; }
        if KERNEL_W > 2u { partials[at + 2u] = taps.z; }
        if KERNEL_W > 3u { partials[at + 3u] = taps.w; }
        if KERNEL_W > 4u { partials[at + 4u] = fifth; }
    }
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let place = place_of(lane);
    let num_rows = params.batch * params.out_h;
    // A grid folded to two dimensions can have a few workgroups too many; they have no rows.
    let last = min((tile.slice + 1u) * params.rows_per_slice, num_rows);
    var next = min(tile.slice * params.rows_per_slice, num_rows);
    var count = 0u; // rows that are in workgroup memory
    var sums = RegisterTile();
    var fifth = FifthTap();
    var bias_sum = 0.0;
    while next < last || count > 0u {
        let chunk = chunk_of(next, last);
        var staging = Staging();
        if chunk.count > 0u {
            staging = staging_of(tile, chunk, lane);
        }
        for (var y = 0u; y < count; y += 1u) {
            let row = (place.c * PATCH_ROWS + y * STRIDE_H + place.i * DILATION_H) * ROW_QUADS;
            for (var quad = 0u; quad < OUT_QUADS; quad += 1u) {
                own_strip = (8u * place.eight * ROWS + y) * OUT_QUADS + quad;
                let own = shared_from(place.index % 8u);
                bias_sum += own.x + own.y + own.z + own.w;
                add_strip(&sums, &fifth, positions(under_taps(row + quad)));
            }
        }
        workgroupBarrier();
        if chunk.count > 0u {
            put(staging, lane);
        }
        workgroupBarrier();
        count = chunk.count;
        next += count;
    }
    store(tile, place, 0u, sums.row_0, fifth.low.x);
    store(tile, place, 1u, sums.row_1, fifth.low.y);
    store(tile, place, 2u, sums.row_2, fifth.low.z);
    store(tile, place, 3u, sums.row_3, fifth.low.w);
    store(tile, place, 4u, sums.row_4, fifth.high.x);
    store(tile, place, 5u, sums.row_5, fifth.high.y);
    store(tile, place, 6u, sums.row_6, fifth.high.z);
    store(tile, place, 7u, sums.row_7, fifth.high.w);
    let o = tile.out_channel + 8u * place.eight + place.index;
    let is_own = (place.index < 8u) & (tile.in_channel == 0u) & (o < tile.out_end);
    if is_own && tile.slice < num_slices() {
        partials[tile.slice * (num_weights() + params.out_channels) + num_weights() + o] = bias_sum;
    }
}
