// Gradients of a 2-D convolution with respect to its weight and bias.
//
//   grad_weight[o, c, i, j] = sum over n, y, x of grad_output[n, o, y, x] *
//       input[n, c, y * STRIDE_H + i * DILATION_H - PADDING_H, x * STRIDE_W + j * DILATION_W - PADDING_W]
//   grad_bias[o] = sum over n, y, x of grad_output[n, o, y, x]
//
// input        f32 (batch, in_channels, in_h, in_w)
// grad_output  f32 (batch, out_channels, out_h, out_w)
// partials     f32 (num_slices, num_weights + out_channels): per slice the sums for weight, then those for bias
// grad_weight  f32 (out_channels, in_channels / GROUPS, KERNEL_H, KERNEL_W), num_weights values
// grad_bias    f32 (out_channels)
//
// Few sums of many terms: the batch * out_h rows of grad_output are cut into slices of rows_per_slice, a first pass
// writes each slice's sums to `partials` and a second adds them up slice by slice, in an order that does not depend on
// the device.
//
// First pass: a thread owns one kernel row (c, i), TAPS columns of it, for eight output channels of one group; eight
// threads share the grad_output of these channels. A workgroup is WORKGROUP kernel rows. Workgroups are numbered kernel
// row block fastest, then channel tile, then slice; the grid is that count folded to two dimensions.
//
//   slices       any shape
//   slices_vec4  vec4 loads: needs STRIDE_W = DILATION_W = 1, KERNEL_W <= 5, in_w and out_w multiples of 4. With
//                POOLED = 1 grad_output is not there. It is what 2x2 max-pooling hands back: `pooled` (batch, out_channels,
//                out_h / 2, out_w / 2) at the cells that `chosen` names, flat in their plane, else 0; rows_per_slice is even
//
// Second pass: one thread a sum.
//
//   sum_slices            weight and bias
//   sum_slices_weight     weight alone
//
// Needs lib/conv2d.wgsl, lib/register_tile.wgsl, lib/shared_rows.wgsl, lib/row_window.wgsl, lib/tap_sums.wgsl,
// lib/slice_sums.wgsl and one of lib/share_subgroup.wgsl, lib/share_workgroup.wgsl.

@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> grad_output: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

// The vec4 view of the same bindings, used by slices_vec4 alone.
@group(0) @binding(1) var<storage, read> input_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_output_vec4: array<vec4<f32>>;
// Read where POOLED = 1, and instead of them grad_output where it is not; what is not read is bound to any buffer.
@group(0) @binding(4) var<storage, read> chosen: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> pooled: array<vec2<f32>>;

// The bindings of the second pass.
@group(0) @binding(1) var<storage, read> finished_partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_bias: array<f32>;

override WORKGROUP: u32 = 8u; // a multiple of 8
override POOLED: u32 = 0u;
override SUM_WORKGROUP: u32 = 64u;

fn num_weights() -> u32 {
    return params.out_channels * (params.in_channels / GROUPS) * KERNEL_H * KERNEL_W;
}

// What a thread works on.
struct KernelRow {
    group: u32,
    first_channel: u32, // output channel of the tile, within the group
    c: u32,             // input channel within the group
    i: u32,
    first_tap: u32,
    is_real: bool,      // false past the last kernel row
    is_first_block: bool,
}

fn blocks_per_row() -> u32 {
    return (KERNEL_W + TAPS - 1u) / TAPS;
}

fn num_kernel_rows() -> u32 {
    return params.in_channels / GROUPS * KERNEL_H * blocks_per_row();
}

fn num_row_blocks() -> u32 {
    return (num_kernel_rows() + WORKGROUP - 1u) / WORKGROUP;
}

fn tiles_per_group() -> u32 {
    return (params.out_channels / GROUPS + CHANNELS - 1u) / CHANNELS;
}

// Kept apart from KernelRow: loops that share run over a slice, so validators must see that it is uniform across the
// workgroup, and they treat a struct with one non-uniform member as non-uniform.
fn slice_of(workgroup_index: u32) -> u32 {
    return workgroup_index / num_row_blocks() / (tiles_per_group() * GROUPS);
}

fn kernel_row(workgroup_index: u32, local_index: u32) -> KernelRow {
    let row = workgroup_index % num_row_blocks() * WORKGROUP + local_index;
    let safe_row = min(row, num_kernel_rows() - 1u);
    let tile = workgroup_index / num_row_blocks() % (tiles_per_group() * GROUPS);
    return KernelRow(
        tile / tiles_per_group(),
        tile % tiles_per_group() * CHANNELS,
        safe_row / blocks_per_row() / KERNEL_H,
        safe_row / blocks_per_row() % KERNEL_H,
        safe_row % blocks_per_row() * TAPS,
        row < num_kernel_rows(),
        workgroup_index % num_row_blocks() == 0u,
    );
}

// One strip of four x positions: what is needed to find its values.
struct Strip {
    grad_row: u32,   // counted over the rows of all images and channels
    input_row: u32,
    is_inside: bool, // whether the input row lies in the image
}

// Row `row` (counted over the rows of all images) for this thread's kernel row and shared channel.
fn strip_row(at: KernelRow, lane: u32, row: u32) -> Strip {
    let image = row / params.out_h;
    let y = row % params.out_h;
    let channels = params.out_channels / GROUPS;
    // Lanes past the last channel repeat it: their share reaches only sums that are not stored.
    let o = at.group * channels + min(at.first_channel + lane, channels - 1u);
    let c = at.group * (params.in_channels / GROUPS) + at.c;
    // Above the image this wraps around and is large.
    let input_y = y * STRIDE_H + at.i * DILATION_H - PADDING_H;
    return Strip(
        (image * params.out_channels + o) * params.out_h + y,
        (image * params.in_channels + c) * params.in_h + input_y,
        input_y < params.in_h,
    );
}

fn store_tap(at: KernelRow, index: u32, offset: u32, value: f32) {
    if offset < TAPS && at.first_tap + offset < KERNEL_W {
        partials[index + offset] = value;
    }
}

fn store_channel(at: KernelRow, slice: u32, channel: u32, taps: vec4<f32>, fifth: f32) {
    let channels = params.out_channels / GROUPS;
    let o = at.first_channel + channel;
    if at.is_real && o < channels && slice < num_slices() {
        let weight_row = ((at.group * channels + o) * (params.in_channels / GROUPS) + at.c) * KERNEL_H + at.i;
        let index = slice * (num_weights() + params.out_channels) + weight_row * KERNEL_W + at.first_tap;
        store_tap(at, index, 0u, taps.x);
        store_tap(at, index, 1u, taps.y);
        store_tap(at, index, 2u, taps.z);
        store_tap(at, index, 3u, taps.w);
        store_tap(at, index, 4u, fifth);
    }
}

fn store_sums(at: KernelRow, slice: u32, local_index: u32, tile: RegisterTile, fifth: FifthTap, bias_sum: f32) {
    let real_channels = min(REAL_ROWS, params.out_channels / GROUPS - at.first_channel);
    for (var channel = 0u; channel < real_channels; channel += 1u) {
        let fifths = select(fifth.low, fifth.high, vec4<bool>(channel >= 4u));
        let of_pair = select(fifths.xz, fifths.yw, vec2<bool>(channel % 2u == 1u));
        store_channel(at, slice, channel, tile_row(tile, channel), select(of_pair.x, of_pair.y, channel % 4u >= 2u));
    }
    // Each of the first eight threads has met all grad_output of its own channel.
    let channels = params.out_channels / GROUPS;
    let o = at.first_channel + local_index;
    if at.is_first_block && local_index < CHANNELS && o < channels && slice < num_slices() {
        partials[slice * (num_weights() + params.out_channels) + num_weights() + at.group * channels + o] = bias_sum;
    }
}

fn num_slices() -> u32 {
    return (params.batch * params.out_h + params.rows_per_slice - 1u) / params.rows_per_slice;
}

fn input_at(strip: Strip, x: u32) -> f32 {
    // Left of the image x has wrapped around and is large.
    let is_there = strip.is_inside & (x < params.in_w);
    return select(0.0, input[select(0u, strip.input_row * params.in_w + x, is_there)], is_there);
}

fn input4_at(strip: Strip, x: u32, step: u32) -> vec4<f32> {
    return vec4<f32>(
        input_at(strip, x), input_at(strip, x + step), input_at(strip, x + 2u * step), input_at(strip, x + 3u * step));
}

// The inputs under up to four taps at one position; what lies under missing taps is not needed.
fn taps4_at(strip: Strip, x: u32) -> vec4<f32> {
    var taps = vec4<f32>(input_at(strip, x), 0.0, 0.0, 0.0);
    if TAPS > 1u { taps.y = input_at(strip, x + DILATION_W); }
    if TAPS > 2u { taps.z = input_at(strip, x + 2u * DILATION_W); }
    if TAPS > 3u { taps.w = input_at(strip, x + 3u * DILATION_W); }
    return taps;
}

fn grad_at(strip: Strip, x: u32) -> f32 {
    let is_there = x < params.out_w;
    return select(0.0, grad_output[select(0u, strip.grad_row * params.out_w + x, is_there)], is_there);
}

@compute @workgroup_size(WORKGROUP)
fn slices(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let workgroup_index = workgroup.x + workgroup.y * grid.x;
    let at = kernel_row(workgroup_index, local_index);
    let lane = local_index % SHARE_LANES;
    let slice = slice_of(workgroup_index);
    let first_row = slice * params.rows_per_slice;
    let last_row = min(first_row + params.rows_per_slice, params.batch * params.out_h);
    var tile = RegisterTile();
    var fifth_sums = FifthTap();
    var bias_sum = 0.0;
    for (var row = first_row; row < last_row; row += 1u) {
        let strip = strip_row(at, lane, row);
        for (var x = 0u; x < params.out_w; x += STRIP) {
            let grads = vec4<f32>(grad_at(strip, x), grad_at(strip, x + 1u), grad_at(strip, x + 2u), grad_at(strip, x + 3u));
            bias_sum += grads.x + grads.y + grads.z + grads.w;
            share(grads, local_index);
            let input_x = x * STRIDE_W + at.first_tap * DILATION_W - PADDING_W;
            if STRIDE_W == 1u && DILATION_W == 1u {
                var window = RowWindow(input4_at(strip, input_x, 1u), vec4<f32>());
                if TAPS > 1u { window.high.x = input_at(strip, input_x + 4u); }
                if TAPS > 2u { window.high.y = input_at(strip, input_x + 5u); }
                if TAPS > 3u { window.high.z = input_at(strip, input_x + 6u); }
                if TAPS > 4u { window.high.w = input_at(strip, input_x + 7u); }
                add_strip(&tile, &fifth_sums, window_positions(window));
            } else {
                var fifth = vec4<f32>();
                if TAPS > 4u { fifth = input4_at(strip, input_x + 4u * DILATION_W, STRIDE_W); }
                let positions = Positions(
                    taps4_at(strip, input_x),
                    taps4_at(strip, input_x + STRIDE_W),
                    taps4_at(strip, input_x + 2u * STRIDE_W),
                    taps4_at(strip, input_x + 3u * STRIDE_W),
                    fifth,
                );
                add_strip(&tile, &fifth_sums, positions);
            }
        }
    }
    store_sums(at, slice, local_index, tile, fifth_sums, bias_sum);
}

// Two neighbouring rows of grad_output, and quads in a row of it. Sizes are read once: a software adapter loads them anew
// wherever they are named within a loop.
struct RowPair {
    upper: Strip,
    lower: Strip,
    has_lower: bool,
    quads: u32,
}

fn input_quad(strip: Strip, quads: u32, quad: u32) -> vec4<f32> {
    // Left of the image quad has wrapped around and is large.
    let is_there = strip.is_inside & (quad < quads);
    return select(vec4<f32>(), input_vec4[select(0u, strip.input_row * quads + quad, is_there)], vec4<bool>(is_there));
}

struct GradPair {
    upper: vec4<f32>,
    lower: vec4<f32>,
}

fn grad_pair(pair: RowPair, quad: u32, height: u32) -> GradPair {
    let upper = pair.upper.grad_row;
    if POOLED == 1u {
        // A plane has an even number of rows, and so does a slice.
        let at = upper / 2u * pair.quads + quad;
        let value = pooled[at].xxyy;
        let cells = chosen[at].xxyy;
        let cell = 4u * (upper % height * pair.quads + quad) + vec4<u32>(0u, 1u, 2u, 3u);
        let below = cell + 4u * pair.quads;
        return GradPair(select(vec4<f32>(), value, cells == cell), select(vec4<f32>(), value, cells == below));
    }
    let lower = grad_output_vec4[pair.lower.grad_row * pair.quads + quad];
    return GradPair(grad_output_vec4[upper * pair.quads + quad], select(vec4<f32>(), lower, vec4<bool>(pair.has_lower)));
}

// The quads of an input row that are under a strip. Each is read once: the last two move on to the next strip.
struct InputQuads {
    first: vec4<f32>,
    second: vec4<f32>,
    third: vec4<f32>,
}

// The window starts PADDING_W left of the strip: read from the multiple of four at or before it.
override PADDING_QUADS: u32 = (PADDING_W + 3u) / 4u;
override SHIFT: u32 = PADDING_QUADS * 4u - PADDING_W;
// How many quads beyond the first a window reaches into.
override REACH: u32 = select(select(2u, 1u, SHIFT + TAPS < 6u), 0u, SHIFT + TAPS < 2u);

// What the first strip of a row and the one left of it, which is not there, both need.
fn first_quads(strip: Strip, quads: u32) -> RowWindow {
    var under = RowWindow();
    if REACH > 0u { under.low = input_quad(strip, quads, 0u - PADDING_QUADS); }
    if REACH > 1u { under.high = input_quad(strip, quads, 1u - PADDING_QUADS); }
    return under;
}

// Given what the strip and the one left of it both need.
fn next_quads(both: RowWindow, strip: Strip, quads: u32, quad: u32) -> InputQuads {
    let newest = input_quad(strip, quads, quad + REACH - PADDING_QUADS);
    if REACH == 0u { return InputQuads(newest, vec4<f32>(), vec4<f32>()); }
    if REACH == 1u { return InputQuads(both.low, newest, vec4<f32>()); }
    return InputQuads(both.low, both.high, newest);
}

fn add_row(tile: ptr<function, RegisterTile>, fifth_sums: ptr<function, FifthTap>, under: InputQuads, grads: vec4<f32>, local_index: u32) {
    share(grads, local_index);
    let window = shifted_window(under.first, under.second, under.third, SHIFT);
    add_strip(tile, fifth_sums, window_positions(window));
}

@compute @workgroup_size(WORKGROUP)
fn slices_vec4(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let workgroup_index = workgroup.x + workgroup.y * grid.x;
    let at = kernel_row(workgroup_index, local_index);
    let lane = local_index % SHARE_LANES;
    let slice = slice_of(workgroup_index);
    let height = params.out_h;
    let first_row = slice * params.rows_per_slice;
    let last_row = min(first_row + params.rows_per_slice, params.batch * height);
    let grad_quads = params.out_w / 4u;
    let input_quads = params.in_w / 4u;
    var tile = RegisterTile();
    var fifth_sums = FifthTap();
    var bias_sum = 0.0;
    for (var row = first_row; row < last_row; row += 2u) {
        let lower = strip_row(at, lane, min(row + 1u, last_row - 1u));
        let pair = RowPair(strip_row(at, lane, row), lower, row + 1u < last_row, grad_quads);
        var carried_above = carried(first_quads(pair.upper, input_quads));
        var carried_below = carried(first_quads(pair.lower, input_quads));
        for (var quad = 0u; quad < grad_quads; quad += 1u) {
            let grads = grad_pair(pair, quad, height);
            let above = next_quads(window_from(carried_above), pair.upper, input_quads, quad);
            let below = next_quads(window_from(carried_below), pair.lower, input_quads, quad);
            carried_above = carried(RowWindow(above.second, above.third));
            carried_below = carried(RowWindow(below.second, below.third));
            bias_sum += grads.upper.x + grads.upper.y + grads.upper.z + grads.upper.w;
            add_row(&tile, &fifth_sums, above, grads.upper, local_index);
            bias_sum += grads.lower.x + grads.lower.y + grads.lower.z + grads.lower.w;
            add_row(&tile, &fifth_sums, below, grads.lower, local_index);
        }
    }
    store_sums(at, slice, local_index, tile, fifth_sums, bias_sum);
}

@compute @workgroup_size(SUM_WORKGROUP)
fn sum_slices(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let index = (workgroup.x + workgroup.y * grid.x) * SUM_WORKGROUP + local_index;
    if index < num_weights() {
        grad_weight[index] = sum_at(index);
    } else if index < num_weights() + params.out_channels {
        grad_bias[index - num_weights()] = sum_at(index);
    }
}

@compute @workgroup_size(SUM_WORKGROUP)
fn sum_slices_weight(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let index = (workgroup.x + workgroup.y * grid.x) * SUM_WORKGROUP + local_index;
    if index < num_weights() {
        grad_weight[index] = sum_at(index);
    }
}
