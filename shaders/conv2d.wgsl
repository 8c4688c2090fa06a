// 2-D convolution (cross-correlation) with fused bias and activation.
//
//   out[n, o, y, x] = activate(bias[o] + sum over c, i, j of
//       input[n, c, y * STRIDE_H + i * DILATION_H - PADDING_H, x * STRIDE_W + j * DILATION_W - PADDING_W] * weight[o, c, i, j])
//
// where c runs over the channels of o's group and values outside the image are zero.
//
// input   f32 (batch, in_channels, in_h, in_w)
// weight  f32 (out_channels, in_channels / GROUPS, KERNEL_H, KERNEL_W)
// bias    f32 (out_channels); not read when HAS_BIAS = 0, any buffer may then be bound
// out     f32 (batch, out_channels, out_h, out_w)
//
// A thread computes a strip of four neighbouring x for eight output channels of one group; eight threads share the
// eight filters. A workgroup is WORKGROUP strips (numbered x fastest, then y, then n) of one channel tile. Workgroups
// are numbered channel tile fastest, then strip block; the grid is that count folded to two dimensions.
//
//   strips       any shape
//   strips_vec4  vec4 loads and stores: needs STRIDE_W = DILATION_W = 1, KERNEL_W <= 5, in_w and out_w multiples of 4
//
// Needs lib/conv2d.wgsl, lib/conv2d_strip.wgsl, lib/activation.wgsl, lib/register_tile.wgsl, lib/shared_rows.wgsl,
// lib/kernel_taps.wgsl, lib/row_window.wgsl and one of lib/share_subgroup.wgsl, lib/share_workgroup.wgsl.

@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// The vec4 view of the same bindings, used by strips_vec4 alone.
@group(0) @binding(1) var<storage, read> input_vec4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out_vec4: array<vec4<f32>>;

override HAS_BIAS: u32 = 0u;

// Strips are of the output.
fn strip_extents() -> Extents {
    return Extents(params.out_channels, params.out_h, params.out_w);
}

// Tap `first_tap + offset` of the filter row that starts at `row`; zero past the end of the row.
fn weight_at(row: u32, first_tap: u32, offset: u32) -> f32 {
    if offset >= TAPS || first_tap + offset >= KERNEL_W {
        return 0.0;
    }
    return weight[row + first_tap + offset];
}

fn filter_taps(row: u32, first_tap: u32) -> array<f32, 5> {
    return array<f32, 5>(
        weight_at(row, first_tap, 0u), weight_at(row, first_tap, 1u), weight_at(row, first_tap, 2u),
        weight_at(row, first_tap, 3u), weight_at(row, first_tap, 4u),
    );
}

// First weight of row i of this lane's filter for channel c of the group. Lanes past the last filter repeat it: their
// share reaches only sums that are not stored.
fn weight_row(strip: Strip, lane: u32, c: u32, i: u32) -> u32 {
    let filters = params.out_channels / GROUPS;
    let source = strip.group * filters + min(strip.first_channel + lane, filters - 1u);
    return ((source * (params.in_channels / GROUPS) + c) * KERNEL_H + i) * KERNEL_W;
}

// Row i under the strip for channel c of the group, counted over the rows of all images and channels.
fn input_row(strip: Strip, c: u32, y: u32) -> u32 {
    return (strip.image * params.in_channels + strip.group * (params.in_channels / GROUPS) + c) * params.in_h + y;
}

fn input_at(row: u32, is_inside: bool, x: u32) -> f32 {
    // Left of the image x has wrapped around and is large. Selected instead of branched around, and `&`, since `&&` is a
    // branch: compilers of software adapters take minutes over as many branches.
    let is_there = is_inside & (x < params.in_w);
    return select(0.0, input[select(0u, row * params.in_w + x, is_there)], is_there);
}

fn input4_at(row: u32, is_inside: bool, x: u32, step: u32) -> vec4<f32> {
    return vec4<f32>(
        input_at(row, is_inside, x), input_at(row, is_inside, x + step),
        input_at(row, is_inside, x + 2u * step), input_at(row, is_inside, x + 3u * step),
    );
}

fn bias_at(channel: u32) -> f32 {
    if HAS_BIAS == 0u {
        return 0.0;
    }
    return bias[channel];
}

fn store(strip: Strip, offset: u32, sums: vec4<f32>) {
    let channels = params.out_channels / GROUPS;
    let c = strip.first_channel + offset;
    if strip.is_real && c < channels {
        let channel = strip.group * channels + c;
        let value = activate4(sums + bias_at(channel));
        let index = ((strip.image * params.out_channels + channel) * params.out_h + strip.y) * params.out_w + strip.x;
        out[index] = value.x;
        if strip.x + 1u < params.out_w { out[index + 1u] = value.y; }
        if strip.x + 2u < params.out_w { out[index + 2u] = value.z; }
        if strip.x + 3u < params.out_w { out[index + 3u] = value.w; }
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
    for (var c = 0u; c < params.in_channels / GROUPS; c += 1u) {
        for (var i = 0u; i < KERNEL_H; i += 1u) {
            let y = strip.y * STRIDE_H + i * DILATION_H - PADDING_H;
            let row = input_row(strip, c, y);
            let is_inside = y < params.in_h;
            let filter_row = weight_row(strip, lane, c, i);
            for (var first_tap = 0u; first_tap < KERNEL_W; first_tap += TAPS) {
                let taps = share_taps(filter_taps(filter_row, first_tap), local_index);
                let x = strip.x * STRIDE_W + first_tap * DILATION_W - PADDING_W;
                if STRIDE_W == 1u && DILATION_W == 1u {
                    var window = RowWindow(input4_at(row, is_inside, x, 1u), vec4<f32>());
                    if TAPS > 1u { window.high.x = input_at(row, is_inside, x + 4u); }
                    if TAPS > 2u { window.high.y = input_at(row, is_inside, x + 5u); }
                    if TAPS > 3u { window.high.z = input_at(row, is_inside, x + 6u); }
                    if TAPS > 4u { window.high.w = input_at(row, is_inside, x + 7u); }
                    add_taps(&tile, taps, under_window(window));
                } else {
                    let v_0 = input4_at(row, is_inside, x, STRIDE_W);
                    var v_1 = v_0;
                    var v_2 = v_0;
                    var v_3 = v_0;
                    var v_4 = v_0;
                    if TAPS > 1u { v_1 = input4_at(row, is_inside, x + DILATION_W, STRIDE_W); }
                    if TAPS > 2u { v_2 = input4_at(row, is_inside, x + 2u * DILATION_W, STRIDE_W); }
                    if TAPS > 3u { v_3 = input4_at(row, is_inside, x + 3u * DILATION_W, STRIDE_W); }
                    if TAPS > 4u { v_4 = input4_at(row, is_inside, x + 4u * DILATION_W, STRIDE_W); }
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

fn input_quad(row: u32, is_inside: bool, quad: u32) -> vec4<f32> {
    let quads = params.in_w / 4u;
    let is_there = is_inside & (quad < quads);
    return select(vec4<f32>(), input_vec4[select(0u, row * quads + quad, is_there)], vec4<bool>(is_there));
}

fn store_quad(strip: Strip, offset: u32, sums: vec4<f32>) {
    let channels = params.out_channels / GROUPS;
    let c = strip.first_channel + offset;
    if strip.is_real && c < channels {
        let channel = strip.group * channels + c;
        let row = (strip.image * params.out_channels + channel) * params.out_h + strip.y;
        out_vec4[(row * params.out_w + strip.x) / 4u] = activate4(sums + bias_at(channel));
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
    // The window starts PADDING_W left of the strip: read from the multiple of four at or before it.
    let padding_quads = (PADDING_W + 3u) / 4u;
    let shift = padding_quads * 4u - PADDING_W;
    let quad = strip.x / 4u - padding_quads;
    var tile = RegisterTile();
    for (var c = 0u; c < params.in_channels / GROUPS; c += 1u) {
        for (var i = 0u; i < KERNEL_H; i += 1u) {
            let y = strip.y * STRIDE_H + i * DILATION_H - PADDING_H;
            let row = input_row(strip, c, y);
            let is_inside = y < params.in_h;
            let taps = share_taps(filter_taps(weight_row(strip, lane, c, i), 0u), local_index);
            let first = input_quad(row, is_inside, quad);
            var second = vec4<f32>();
            var third = vec4<f32>();
            if shift + TAPS > 1u { second = input_quad(row, is_inside, quad + 1u); }
            if shift + TAPS > 5u { third = input_quad(row, is_inside, quad + 2u); }
            let window = shifted_window(first, second, third, shift);
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
