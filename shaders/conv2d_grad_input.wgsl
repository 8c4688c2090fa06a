// Gradient of a 2-D convolution with respect to its input, in gather form: each sum is owned by one thread.
//
//   grad_input[n, c, y, x] = sum over o, i, j of grad_output[n, o, v, u] * weight[o, c, i, j]
//   where v * STRIDE_H = y + PADDING_H - i * DILATION_H and u * STRIDE_W = x + PADDING_W - j * DILATION_W
//
// over the channels o of c's group and the kernel positions (i, j) for which whole v and u exist inside the output.
//
// grad_output  f32 (batch, out_channels, out_h, out_w)
// weight       f32 (out_channels, in_channels / GROUPS, KERNEL_H, KERNEL_W)
// grad_input   f32 (batch, in_channels, in_h, in_w)
//
// A thread computes a strip of four neighbouring x for eight input channels of one group; eight threads share the
// weights of these channels. A workgroup is WORKGROUP strips (numbered x fastest, then y, then n) of one channel tile.
// Workgroups are numbered channel tile fastest, then strip block; the grid is that count folded to two dimensions.
//
//   strips       any shape
//   strips_vec4  vec4 loads and stores: needs STRIDE_W = DILATION_W = 1, PADDING_W < KERNEL_W <= 5, in_w and out_w
//                multiples of 4
//   strip_pairs  the same for PAIRS pairs of strips, one below the other, which share weights and rows of grad_output: also
//                needs STRIDE_H = DILATION_H = 1 and in_h even
//
// With POOLED = 1, of the last two alone, grad_output is not there. It is what 2x2 max-pooling hands back: `pooled`
// (batch, out_channels, out_h / 2, out_w / 2) at the cells that `chosen` names, flat in their plane, and 0 elsewhere.
//
// With HAS_ADDED = 1, what lib/added.wgsl says is added as it is stored.
//
// Needs lib/conv2d.wgsl, lib/conv2d_strip.wgsl, lib/register_tile.wgsl, lib/shared_rows.wgsl, lib/kernel_taps.wgsl,
// lib/row_window.wgsl, lib/added.wgsl and one of lib/share_subgroup.wgsl, lib/share_workgroup.wgsl.

@group(0) @binding(1) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_input: array<f32>;

// The vec4 view of the same bindings, used by strips_vec4 alone.
@group(0) @binding(1) var<storage, read> grad_output_vec4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_input_vec4: array<vec4<f32>>;

// Read where POOLED = 1, and instead of them grad_output where it is not; what is not read is bound to any buffer.
@group(0) @binding(4) var<storage, read> chosen: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> pooled: array<vec2<f32>>;

@group(0) @binding(6) var<storage, read> added: array<f32>; // not read when HAS_ADDED = 0

override POOLED: u32 = 0u;
// Of strip_pairs: pairs of strips of a thread, 1 or 2, one below the other. 0 of the others.
override PAIRS: u32 = 0u;
override ROWS: u32 = max(2u * PAIRS, 1u);

// Strips are of the input.
fn strip_extents() -> Extents {
    return Extents(params.in_channels, (params.in_h + ROWS - 1u) / ROWS, params.in_w);
}

// Tap `first_tap + TAPS - 1 - offset` of the weight row that starts at `row`; zero past the end of the row. Taps come
// in reverse because the position in grad_output falls as the tap rises.
fn weight_at(row: u32, first_tap: u32, offset: u32) -> f32 {
    let tap = first_tap + TAPS - 1u - offset;
    if offset >= TAPS || tap >= KERNEL_W {
        return 0.0;
    }
    return weight[row + tap];
}

fn reversed_taps(row: u32, first_tap: u32) -> array<f32, 5> {
    return array<f32, 5>(
        weight_at(row, first_tap, 0u), weight_at(row, first_tap, 1u), weight_at(row, first_tap, 2u),
        weight_at(row, first_tap, 3u), weight_at(row, first_tap, 4u),
    );
}

// First weight of row i that joins this lane's input channel to output channel o of the group. Lanes past the last
// channel repeat it: their share reaches only sums that are not stored.
fn weight_row(strip: Strip, lane: u32, o: u32, i: u32) -> u32 {
    let channels = params.in_channels / GROUPS;
    let c = min(strip.first_channel + lane, channels - 1u);
    let source = strip.group * (params.out_channels / GROUPS) + o;
    return ((source * channels + c) * KERNEL_H + i) * KERNEL_W;
}

// Which row of grad_output kernel row i meets at input row y, if any.
struct GradRow {
    row: u32, // counted over the rows of all images and channels
    is_inside: bool,
}

fn grad_row(strip: Strip, o: u32, i: u32) -> GradRow {
    // Above the image y wraps around and is large.
    return grad_row_at(strip, o, strip.y + PADDING_H - i * DILATION_H);
}

// Row y of grad_output, on the grid of the padded input.
fn grad_row_at(strip: Strip, o: u32, y: u32) -> GradRow {
    let channel = strip.image * params.out_channels + strip.group * (params.out_channels / GROUPS) + o;
    let row = y / STRIDE_H;
    return GradRow(channel * params.out_h + row, (row * STRIDE_H == y) & (row < params.out_h));
}

// The value of grad_output that belongs to position x on the grid of the padded input.
fn grad_at(at: GradRow, x: u32) -> f32 {
    // `&&` would be a branch; see conv2d.wgsl.
    let column = x / STRIDE_W;
    let is_there = at.is_inside & (column * STRIDE_W == x) & (column < params.out_w);
    return select(0.0, grad_output[select(0u, at.row * params.out_w + column, is_there)], is_there);
}

fn grad4_at(at: GradRow, x: u32) -> vec4<f32> {
    return vec4<f32>(grad_at(at, x), grad_at(at, x + 1u), grad_at(at, x + 2u), grad_at(at, x + 3u));
}

fn added_at(strip: Strip, channel: u32, column: u32) -> f32 {
    let place = added_place(strip.image, channel, strip.y, strip.x + column);
    return select(0.0, added[place.index], place.is_there);
}

// The value with what is added to it.
fn with_added(strip: Strip, channel: u32, value: vec4<f32>) -> vec4<f32> {
    if HAS_ADDED == 0u {
        return value;
    }
    return value + vec4<f32>(
        added_at(strip, channel, 0u), added_at(strip, channel, 1u), added_at(strip, channel, 2u), added_at(strip, channel, 3u));
}

fn store(strip: Strip, offset: u32, sums: vec4<f32>) {
    let channels = params.in_channels / GROUPS;
    let c = strip.first_channel + offset;
    if strip.is_real && c < channels {
        let channel = strip.image * params.in_channels + strip.group * channels + c;
        let value = with_added(strip, strip.group * channels + c, sums);
        let index = (channel * params.in_h + strip.y) * params.in_w + strip.x;
        grad_input[index] = value.x;
        if strip.x + 1u < params.in_w { grad_input[index + 1u] = value.y; }
        if strip.x + 2u < params.in_w { grad_input[index + 2u] = value.z; }
        if strip.x + 3u < params.in_w { grad_input[index + 3u] = value.w; }
    }
}

@compute @workgroup_size(WORKGROUP)
fn strips(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let strip = strip_position(workgroup, grid, local_index);
    let lane = local_index % SHARE_LANES;
    var tile = RegisterTile();
    for (var o = 0u; o < params.out_channels / GROUPS; o += 1u) {
        for (var i = 0u; i < KERNEL_H; i += 1u) {
            let at = grad_row(strip, o, i);
            let row = weight_row(strip, lane, o, i);
            for (var first_tap = 0u; first_tap < KERNEL_W; first_tap += TAPS) {
                let taps = share_taps(reversed_taps(row, first_tap), local_index);
                // Under the last tap of the block; each earlier tap lies DILATION_W further right.
                let x = strip.x + PADDING_W - (first_tap + TAPS - 1u) * DILATION_W;
                if STRIDE_W == 1u && DILATION_W == 1u {
                    var window = RowWindow(grad4_at(at, x), vec4<f32>());
                    if TAPS > 1u { window.high.x = grad_at(at, x + 4u); }
                    if TAPS > 2u { window.high.y = grad_at(at, x + 5u); }
                    if TAPS > 3u { window.high.z = grad_at(at, x + 6u); }
                    if TAPS > 4u { window.high.w = grad_at(at, x + 7u); }
                    add_taps(&tile, taps, under_window(window));
                } else {
                    let v_0 = grad4_at(at, x);
                    var v_1 = v_0;
                    var v_2 = v_0;
                    var v_3 = v_0;
                    var v_4 = v_0;
                    if TAPS > 1u { v_1 = grad4_at(at, x + DILATION_W); }
                    if TAPS > 2u { v_2 = grad4_at(at, x + 2u * DILATION_W); }
                    if TAPS > 3u { v_3 = grad4_at(at, x + 3u * DILATION_W); }
                    if TAPS > 4u { v_4 = grad4_at(at, x + 4u * DILATION_W); }
                    add_taps(&tile, taps, Under(v_0, v_1, v_2, v_3, v_4));
                }
            }
        }
    }
    store(strip, 0u, tile.row_0);
    store(strip, 1u, tile.row_1);
    store(strip, 2u, tile.row_2);
    store(strip, 3u, tile.row_3);
    store(strip, 4u, tile.row_4);
    store(strip, 5u, tile.row_5);
    store(strip, 6u, tile.row_6);
    store(strip, 7u, tile.row_7);
}

fn grad_quad(at: GradRow, quad: u32) -> vec4<f32> {
    let quads = params.out_w / 4u;
    let is_there = at.is_inside & (quad < quads);
    if POOLED == 1u {
        // A plane has an even number of rows.
        let pair = select(0u, at.row / 2u * quads + quad, is_there);
        let cell = at.row % params.out_h * params.out_w + 4u * quad;
        let is_here = chosen[pair].xxyy == cell + vec4<u32>(0u, 1u, 2u, 3u);
        return select(vec4<f32>(), pooled[pair].xxyy, is_here & vec4<bool>(is_there));
    }
    return select(vec4<f32>(), grad_output_vec4[select(0u, at.row * quads + quad, is_there)], vec4<bool>(is_there));
}

// What the strip at `quad` and its window need of a row; see strips_vec4.
fn window_of(at: GradRow, quad: u32, shift: u32) -> RowWindow {
    let first = grad_quad(at, quad);
    var second = vec4<f32>();
    var third = vec4<f32>();
    if shift + TAPS > 1u { second = grad_quad(at, quad + 1u); }
    if shift + TAPS > 5u { third = grad_quad(at, quad + 2u); }
    return shifted_window(first, second, third, shift);
}

fn store_quad(strip: Strip, offset: u32, sums: vec4<f32>) {
    let channels = params.in_channels / GROUPS;
    let c = strip.first_channel + offset;
    if strip.is_real && c < channels {
        let channel = strip.image * params.in_channels + strip.group * channels + c;
        let value = with_added(strip, strip.group * channels + c, sums);
        grad_input_vec4[((channel * params.in_h + strip.y) * params.in_w + strip.x) / 4u] = value;
    }
}

@compute @workgroup_size(WORKGROUP)
fn strips_vec4(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let strip = strip_position(workgroup, grid, local_index);
    let lane = local_index % SHARE_LANES;
    // The window starts this far left of the strip: read from the multiple of four at or before it.
    let reach = KERNEL_W - 1u - PADDING_W;
    let reach_quads = (reach + 3u) / 4u;
    let shift = reach_quads * 4u - reach;
    let quad = strip.x / 4u - reach_quads;
    var tile = RegisterTile();
    for (var o = 0u; o < params.out_channels / GROUPS; o += 1u) {
        for (var i = 0u; i < KERNEL_H; i += 1u) {
            let at = grad_row(strip, o, i);
            let taps = share_taps(reversed_taps(weight_row(strip, lane, o, i), 0u), local_index);
            let window = window_of(at, quad, shift);
            add_taps(&tile, taps, under_window(window));
        }
    }
    store_quad(strip, 0u, tile.row_0);
    store_quad(strip, 1u, tile.row_1);
    store_quad(strip, 2u, tile.row_2);
    store_quad(strip, 3u, tile.row_3);
    store_quad(strip, 4u, tile.row_4);
    store_quad(strip, 5u, tile.row_5);
    store_quad(strip, 6u, tile.row_6);
    store_quad(strip, 7u, tile.row_7);
}

// Two rows of grad_output, of one row of windows, as 2x2 max-pooling hands them back: what a strip and its window need.
struct PooledRows {
    is_inside: bool,
    values_0: vec2<f32>,
    values_1: vec2<f32>,
    values_2: vec2<f32>,
    chosen_0: vec2<u32>,
    chosen_1: vec2<u32>,
    chosen_2: vec2<u32>,
}

fn pooled_rows(at: GradRow, quad: u32, shift: u32) -> PooledRows {
    let quads = params.out_w / 4u;
    // A plane has an even number of rows.
    let pair = at.row / 2u;
    let first = select(0u, pair * quads + quad, at.is_inside & (quad < quads));
    let second = select(0u, pair * quads + quad + 1u, at.is_inside & (quad + 1u < quads));
    let third = select(0u, pair * quads + quad + 2u, at.is_inside & (quad + 2u < quads));
    var rows = PooledRows(at.is_inside, pooled[first], vec2<f32>(), vec2<f32>(), chosen[first], vec2<u32>(), vec2<u32>());
    if shift + TAPS > 1u {
        rows.values_1 = pooled[second];
        rows.chosen_1 = chosen[second];
    }
    if shift + TAPS > 5u {
        rows.values_2 = pooled[third];
        rows.chosen_2 = chosen[third];
    }
    return rows;
}

// A quad of row y of grad_output.
fn spread(rows: PooledRows, values: vec2<f32>, places: vec2<u32>, y: u32, quad: u32) -> vec4<f32> {
    let is_here = places.xxyy == y * params.out_w + 4u * quad + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(), values.xxyy, is_here & vec4<bool>(rows.is_inside & (quad < params.out_w / 4u)));
}

fn spread_window(rows: PooledRows, y: u32, quad: u32, shift: u32) -> RowWindow {
    let first = spread(rows, rows.values_0, rows.chosen_0, y, quad);
    var second = vec4<f32>();
    var third = vec4<f32>();
    if shift + TAPS > 1u { second = spread(rows, rows.values_1, rows.chosen_1, y, quad + 1u); }
    if shift + TAPS > 5u { third = spread(rows, rows.values_2, rows.chosen_2, y, quad + 2u); }
    return shifted_window(first, second, third, shift);
}

// The window of a row of grad_output, whether it is there or what pooling handed back. With POOLED = 1 the rows of a row of
// windows are asked for from the lower to the upper one: the first of them, `loads`, reads both into `rows`.
fn next_window(strip: Strip, rows: ptr<function, PooledRows>, o: u32, y: u32, loads: bool) -> RowWindow {
    let reach = KERNEL_W - 1u - PADDING_W;
    let reach_quads = (reach + 3u) / 4u;
    let shift = reach_quads * 4u - reach;
    let quad = strip.x / 4u - reach_quads;
    let at = grad_row_at(strip, o, y);
    if POOLED == 1u {
        if loads {
            *rows = pooled_rows(at, quad, shift);
        }
        return spread_window(*rows, y, quad, shift);
    }
    return window_of(at, quad, shift);
}

fn store_strip(strip: Strip, row: u32, channels: u32, tile: RegisterTile) {
    let y = strip.y * ROWS + row;
    if y < params.in_h {
        let at = Strip(strip.image, y, strip.x, strip.group, strip.first_channel, strip.is_real);
        for (var offset = 0u; offset < channels; offset += 1u) {
            store_quad(at, offset, tile_row(tile, offset));
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn strip_pairs(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let strip = strip_position(workgroup, grid, local_index);
    let lane = local_index % SHARE_LANES;
    var tile_0 = RegisterTile();
    var tile_1 = RegisterTile();
    var tile_2 = RegisterTile();
    var tile_3 = RegisterTile();
    // The row of grad_output under kernel row 0 of the first strip; each further one lies one higher. An even number of rows
    // is computed from an even one on, so whether a row is the lower one of its windows depends on the padding alone.
    let y = strip.y * ROWS + PADDING_H;
    for (var o = 0u; o < params.out_channels / GROUPS; o += 1u) {
        var rows: PooledRows;
        var under_3 = CarriedWindow();
        var under_2 = CarriedWindow();
        if PAIRS > 1u {
            under_3 = carried(next_window(strip, &rows, o, y + 3u, true));
            under_2 = carried(next_window(strip, &rows, o, y + 2u, PADDING_H % 2u == 1u));
        }
        var under_1 = carried(next_window(strip, &rows, o, y + 1u, PAIRS == 1u || PADDING_H % 2u == 0u));
        for (var i = 0u; i < KERNEL_H; i += 1u) {
            // Above the image y wraps around and is large.
            let under_0 = next_window(strip, &rows, o, y - i, (PADDING_H + i) % 2u == 1u);
            let taps = share_taps(reversed_taps(weight_row(strip, lane, o, i), 0u), local_index);
            add_taps(&tile_0, taps, under_window(under_0));
            add_taps(&tile_1, taps, under_window(window_from(under_1)));
            if PAIRS > 1u {
                add_taps(&tile_2, taps, under_window(window_from(under_2)));
                add_taps(&tile_3, taps, under_window(window_from(under_3)));
                under_3 = under_2;
                under_2 = under_1;
            }
            under_1 = carried(under_0);
        }
    }
    let channels = tile_channels(workgroup, grid);
    store_strip(strip, 0u, channels, tile_0);
    store_strip(strip, 1u, channels, tile_1);
    if PAIRS > 1u {
        store_strip(strip, 2u, channels, tile_2);
        store_strip(strip, 3u, channels, tile_3);
    }
}
