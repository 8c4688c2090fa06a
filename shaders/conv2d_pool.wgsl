// 2-D convolution with bias and activation, and the largest of each 2x2 window of the result, which is stored alone.
//
//   sum[n, o, y, x] = bias[o] + sum over c, i, j of input[n, c, y + i - PADDING_H, x + j - PADDING_W] * weight[o, c, i, j]
//   out[n, o, v, u] = the largest of activate(sum[n, o, 2v + {0, 1}, 2u + {0, 1}])
//   indices[n, o, v, u] = where it is, flat in the plane of out_h * out_w cells
//
// Strides and dilations are 1 and there are no groups. Sums have the order of conv2d.wgsl, ties and NaN the rules of
// max_pool2d.wgsl, so that results are those of the two ops in turn.
//
// input    f32 (batch, in_channels, in_h, in_w)
// weight   f32 (out_channels, in_channels, KERNEL_H, KERNEL_W)
// bias     f32 (out_channels); not read when HAS_BIAS = 0, any buffer may then be bound
// out      f32 (batch, out_channels, out_h / 2, out_w / 2); indices u32, the same shape
//
//   staged   for real GPUs. A workgroup computes TILE_H x TILE_W windows for TILE_CHANNELS channels of an image: it copies
//            the input under them and the filters into workgroup memory, CHUNK input channels at a time. A thread
//            computes one window for PER_THREAD channels. Workgroups are numbered channel tile fastest, then x, y, image.
//   strips   for software adapters. A thread computes two neighbouring windows for eight channels, and those below them
//            where WINDOW_ROWS = 2, from strips of four pixels; eight threads share the filters. Needs out_w and in_w
//            multiples of 4 and KERNEL_W <= 5.
//
// Needs lib/conv2d.wgsl, lib/conv2d_strip.wgsl, lib/activation.wgsl, lib/largest.wgsl, lib/register_tile.wgsl,
// lib/shared_rows.wgsl, lib/row_window.wgsl, lib/kernel_taps.wgsl and one of lib/share_subgroup.wgsl, lib/share_workgroup.wgsl.

@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> indices: array<u32>;

// Wider views of the same, used by strips alone.
@group(0) @binding(1) var<storage, read> input_vec4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out_vec2: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> indices_vec2: array<vec2<u32>>;

override HAS_BIAS: u32 = 0u;

fn bias_at(channel: u32) -> f32 {
    if HAS_BIAS == 0u {
        return 0.0;
    }
    return bias[channel];
}

// ---- staged

override TILE_H: u32 = 1u;
override TILE_W: u32 = 1u;
override TILE_CHANNELS: u32 = 4u;
override PER_THREAD: u32 = 1u; // 1, 2 or 4
override CHUNK: u32 = 1u;
override STAGED_THREADS: u32 = 64u; // TILE_H * TILE_W * TILE_CHANNELS / PER_THREAD

override PATCH_H: u32 = 2u * TILE_H + KERNEL_H - 1u;
override PATCH_W: u32 = 2u * TILE_W + KERNEL_W - 1u;
override PATCH: u32 = CHUNK * PATCH_H * PATCH_W;
override TAPS_STAGED: u32 = CHUNK * KERNEL_H * KERNEL_W * TILE_CHANNELS;

var<workgroup> under: array<f32, PATCH>;
var<workgroup> filters: array<f32, TAPS_STAGED>;

// What a workgroup works on.
struct Tile {
    image: u32,
    y: u32, // of the first window
    x: u32,
    channel: u32,
}

fn tile_position(unit: u32) -> Tile {
    let channel_tiles = (params.out_channels + TILE_CHANNELS - 1u) / TILE_CHANNELS;
    let tiles_x = (params.out_w / 2u + TILE_W - 1u) / TILE_W;
    let tiles_y = (params.out_h / 2u + TILE_H - 1u) / TILE_H;
    let place = unit / channel_tiles;
    return Tile(
        place / tiles_x / tiles_y,
        place / tiles_x % tiles_y * TILE_H,
        place % tiles_x * TILE_W,
        unit % channel_tiles * TILE_CHANNELS,
    );
}

// Slot `slot` of what lies under the tile: the input channel from `first` on, its row and column under the tile; 0 beyond an edge.
fn patch_at(tile: Tile, first: u32, slot: u32) -> f32 {
    let c = first + slot / (PATCH_H * PATCH_W);
    // Above and left of the image these wrap around and are large.
    let y = 2u * tile.y + slot / PATCH_W % PATCH_H - PADDING_H;
    let x = 2u * tile.x + slot % PATCH_W - PADDING_W;
    let is_there = (slot < PATCH) & (tile.image < params.batch) & (c < params.in_channels) & (y < params.in_h) & (x < params.in_w);
    let index = ((tile.image * params.in_channels + c) * params.in_h + y) * params.in_w + x;
    return select(0.0, input[select(0u, index, is_there)], is_there);
}

// Slot `slot` of the filters: input channel, row, column, output channel of the tile.
fn filter_at(tile: Tile, first: u32, slot: u32) -> f32 {
    let o = tile.channel + slot % TILE_CHANNELS;
    let tap = slot / TILE_CHANNELS % (KERNEL_H * KERNEL_W);
    let c = first + slot / (TILE_CHANNELS * KERNEL_H * KERNEL_W);
    let is_there = (slot < TAPS_STAGED) & (o < params.out_channels) & (c < params.in_channels);
    let index = (o * params.in_channels + c) * KERNEL_H * KERNEL_W + tap;
    return select(0.0, weight[select(0u, index, is_there)], is_there);
}

// Four loads are on their way before the first is stored.
fn stage(tile: Tile, first: u32, lane: u32) {
    for (var slot = lane; slot < PATCH; slot += 4u * STAGED_THREADS) {
        let v_0 = patch_at(tile, first, slot);
        let v_1 = patch_at(tile, first, slot + STAGED_THREADS);
        let v_2 = patch_at(tile, first, slot + 2u * STAGED_THREADS);
        let v_3 = patch_at(tile, first, slot + 3u * STAGED_THREADS);
        under[slot] = v_0;
        if slot + STAGED_THREADS < PATCH { under[slot + STAGED_THREADS] = v_1; }
        if slot + 2u * STAGED_THREADS < PATCH { under[slot + 2u * STAGED_THREADS] = v_2; }
        if slot + 3u * STAGED_THREADS < PATCH { under[slot + 3u * STAGED_THREADS] = v_3; }
    }
    for (var slot = lane; slot < TAPS_STAGED; slot += 4u * STAGED_THREADS) {
        let v_0 = filter_at(tile, first, slot);
        let v_1 = filter_at(tile, first, slot + STAGED_THREADS);
        let v_2 = filter_at(tile, first, slot + 2u * STAGED_THREADS);
        let v_3 = filter_at(tile, first, slot + 3u * STAGED_THREADS);
        filters[slot] = v_0;
        if slot + STAGED_THREADS < TAPS_STAGED { filters[slot + STAGED_THREADS] = v_1; }
        if slot + 2u * STAGED_THREADS < TAPS_STAGED { filters[slot + 2u * STAGED_THREADS] = v_2; }
        if slot + 3u * STAGED_THREADS < TAPS_STAGED { filters[slot + 3u * STAGED_THREADS] = v_3; }
    }
}

// Finishes the four sums of a window (row-major) and stores the largest.
fn store_window(tile: Tile, y: u32, x: u32, channel: u32, sums: vec4<f32>) {
    let height = params.out_h / 2u;
    let width = params.out_w / 2u;
    if tile.image < params.batch && channel < params.out_channels && y < height && x < width {
        let values = activate4(sums + bias_at(channel));
        let place = largest(values);
        let index = ((tile.image * params.out_channels + channel) * height + y) * width + x;
        out[index] = pick(values, place);
        indices[index] = (2u * y + place / 2u) * params.out_w + 2u * x + place % 2u;
    }
}

@compute @workgroup_size(STAGED_THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let window = lane % (TILE_H * TILE_W);
    let first_channel = lane / (TILE_H * TILE_W) * PER_THREAD;
    let y = window / TILE_W;
    let x = window % TILE_W;
    var sums_0 = vec4<f32>();
    var sums_1 = vec4<f32>();
    var sums_2 = vec4<f32>();
    var sums_3 = vec4<f32>();
    for (var first = 0u; first < params.in_channels; first += CHUNK) {
        workgroupBarrier();
        stage(tile, first, lane);
        workgroupBarrier();
        let channels = min(CHUNK, params.in_channels - first);
        for (var c = 0u; c < channels; c += 1u) {
            for (var i = 0u; i < KERNEL_H; i += 1u) {
                let row = (c * PATCH_H + 2u * y + i) * PATCH_W + 2u * x;
                var left = vec2<f32>(under[row], under[row + PATCH_W]);
                for (var j = 0u; j < KERNEL_W; j += 1u) {
                    let right = vec2<f32>(under[row + j + 1u], under[row + PATCH_W + j + 1u]);
                    let cells = vec4<f32>(left.x, right.x, left.y, right.y);
                    let at = ((c * KERNEL_H + i) * KERNEL_W + j) * TILE_CHANNELS + first_channel;
                    sums_0 += filters[at] * cells;
                    if PER_THREAD > 1u { sums_1 += filters[at + 1u] * cells; }
                    if PER_THREAD > 2u {
                        sums_2 += filters[at + 2u] * cells;
                        sums_3 += filters[at + 3u] * cells;
                    }
                    left = right;
                }
            }
        }
    }
    let channel = tile.channel + first_channel;
    store_window(tile, tile.y + y, tile.x + x, channel, sums_0);
    if PER_THREAD > 1u { store_window(tile, tile.y + y, tile.x + x, channel + 1u, sums_1); }
    if PER_THREAD > 2u {
        store_window(tile, tile.y + y, tile.x + x, channel + 2u, sums_2);
        store_window(tile, tile.y + y, tile.x + x, channel + 3u, sums_3);
    }
}

// ---- strips

override WINDOW_ROWS: u32 = 1u; // rows of windows of a thread, 1 or 2

// Strips are of the output, all rows of a thread in one.
fn strip_extents() -> Extents {
    return Extents(params.out_channels, (params.out_h / 2u + WINDOW_ROWS - 1u) / WINDOW_ROWS, params.out_w);
}

fn weight_at(row: u32, tap: u32) -> f32 {
    if tap >= KERNEL_W {
        return 0.0;
    }
    return weight[row + tap];
}

// Where the rows of an input plane are. Sizes are read once: a software adapter loads them anew wherever they are named
// within a loop.
struct Plane {
    row: u32, // the first one, counted over the rows of all images and channels
    height: u32,
    quads: u32,
}

fn input_quad(plane: Plane, y: u32, quad: u32) -> vec4<f32> {
    // Above and left of the image y and quad have wrapped around and are large. Selected instead of branched around.
    let is_there = (y < plane.height) & (quad < plane.quads);
    let index = select(0u, (plane.row + y) * plane.quads + quad, is_there);
    return select(vec4<f32>(), input_vec4[index], vec4<bool>(is_there));
}

// Row y of a plane under the strip that starts `PADDING_W` right of quad `quad`.
fn window_of(plane: Plane, y: u32, quad: u32) -> RowWindow {
    let padding_quads = (PADDING_W + 3u) / 4u;
    let shift = padding_quads * 4u - PADDING_W;
    let first = input_quad(plane, y, quad - padding_quads);
    var second = vec4<f32>();
    var third = vec4<f32>();
    if shift + KERNEL_W > 1u { second = input_quad(plane, y, quad - padding_quads + 1u); }
    if shift + KERNEL_W > 5u { third = input_quad(plane, y, quad - padding_quads + 2u); }
    return shifted_window(first, second, third, shift);
}

// Stores two neighbouring windows of a channel, given the sums of its two strips.
fn store_pair(strip: Strip, window_row: u32, offset: u32, upper: vec4<f32>, lower: vec4<f32>) {
    let y = strip.y * WINDOW_ROWS + window_row;
    let channel = strip.first_channel + offset;
    let shift = shared_from(offset).x;
    let above = activate4(upper + shift);
    let below = activate4(lower + shift);
    let left = vec4<f32>(above.xy, below.xy);
    let right = vec4<f32>(above.zw, below.zw);
    let places = vec2<u32>(largest(left), largest(right));
    let row = (strip.image * params.out_channels + channel) * (params.out_h / 2u) + y;
    let index = row * (params.out_w / 4u) + strip.x / 4u;
    let cell = 2u * y * params.out_w + strip.x;
    let cells = cell + vec2<u32>(0u, 2u) + places % 2u + (places / 2u) * params.out_w;
    if strip.is_real & (y < params.out_h / 2u) {
        out_vec2[index] = vec2<f32>(pick(left, places.x), pick(right, places.y));
        indices_vec2[index] = cells;
    }
}

fn store_tiles(strip: Strip, window_row: u32, channels: u32, upper: RegisterTile, lower: RegisterTile) {
    for (var offset = 0u; offset < channels; offset += 1u) {
        store_pair(strip, window_row, offset, tile_row(upper, offset), tile_row(lower, offset));
    }
}

@compute @workgroup_size(WORKGROUP)
fn strips(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let strip = strip_position(workgroup, grid, local_index);
    let quad = strip.x / 4u;
    // Lanes past the last filter repeat it: their share reaches only sums that are not stored.
    let source = min(strip.first_channel + local_index % SHARE_LANES, params.out_channels - 1u);
    // Above the image y wraps around and is large.
    let y = 2u * WINDOW_ROWS * strip.y - PADDING_H;
    var tile_0 = RegisterTile();
    var tile_1 = RegisterTile();
    var tile_2 = RegisterTile();
    var tile_3 = RegisterTile();
    for (var c = 0u; c < params.in_channels; c += 1u) {
        let plane = Plane((strip.image * params.in_channels + c) * params.in_h, params.in_h, params.in_w / 4u);
        var under_0 = CarriedWindow();
        var under_1 = CarriedWindow();
        var under_2 = CarriedWindow();
        // Where loops start at a variable, compilers do not write them out.
        for (var above = y; above != y + 2u * WINDOW_ROWS - 1u; above += 1u) {
            if WINDOW_ROWS > 1u {
                under_0 = under_1;
                under_1 = under_2;
                under_2 = carried(window_of(plane, above, quad));
            } else {
                under_0 = carried(window_of(plane, above, quad));
            }
        }
        for (var i = 0u; i < KERNEL_H; i += 1u) {
            let newest = window_of(plane, y + 2u * WINDOW_ROWS - 1u + i, quad);
            let row = ((source * params.in_channels + c) * KERNEL_H + i) * KERNEL_W;
            let own = array<f32, 5>(
                weight_at(row, 0u), weight_at(row, 1u), weight_at(row, 2u), weight_at(row, 3u), weight_at(row, 4u),
            );
            let taps = share_taps(own, local_index);
            add_taps(&tile_0, taps, under_window(window_from(under_0)));
            if WINDOW_ROWS > 1u {
                add_taps(&tile_1, taps, under_window(window_from(under_1)));
                add_taps(&tile_2, taps, under_window(window_from(under_2)));
                add_taps(&tile_3, taps, under_window(newest));
                under_0 = under_1;
                under_1 = under_2;
                under_2 = carried(newest);
            } else {
                add_taps(&tile_1, taps, under_window(newest));
                under_0 = carried(newest);
            }
        }
    }
    share(vec4<f32>(bias_at(source)), local_index);
    let channels = tile_channels(workgroup, grid);
    store_tiles(strip, 0u, channels, tile_0, tile_1);
    if WINDOW_ROWS > 1u { store_tiles(strip, 1u, channels, tile_2, tile_3); }
}
