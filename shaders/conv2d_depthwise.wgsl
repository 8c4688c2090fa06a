// Depthwise 2-D convolution with bias and activation, and its gradient with respect to the input, on real GPUs: each input
// channel is convolved by itself, with MULTIPLIER filters.
//
//   forward     out as conv2d.wgsl has it: from `source` = input, over i, j
//   TRANSPOSED = 1: grad_input as conv2d_grad_input.wgsl has it: from `source` = grad_output, over o, i and falling j.
//               HAS_ADDED = 1: and what lib/added.wgsl says is added
//
// in these orders, which are those of the kernels there.
//
//   strips       WIDTH 1 to 4
//   strips_vec4  WIDTH 4, and the result's width is a multiple of it
//
// source  f32 (batch, source channels, height, width); as vec4 where BY_QUADS = 1
// weight  f32 (in_channels * MULTIPLIER, 1, KERNEL_H, KERNEL_W)
// bias    f32 (out_channels); not read when HAS_BIAS = 0, any buffer may then be bound
// result  f32 (batch, result channels, height, width), of `strips_vec4` as vec4 of four neighbouring pixels
// added   f32 (batch, ADDED_CHANNELS, rows, columns)
//
// A thread computes WIDTH neighbouring pixels of ROWS rows of a plane. It has the filter in registers and loads what lies under
// them row by row; no load waits for another. Threads are numbered strip fastest, of STRIPS, then rows, of BLOCKS, then plane.
//
// Needs lib/conv2d.wgsl, lib/activation.wgsl, lib/added.wgsl and lib/depthwise.wgsl.

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> source_quads: array<vec4<f32>>; // the same
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> result_pixels: array<f32>;
@group(0) @binding(6) var<storage, read> added: array<f32>; // not read when HAS_ADDED = 0

override HAS_BIAS: u32 = 0u;
override STRIPS: u32 = 1u; // of a row of the result
override BLOCKS: u32 = 1u; // of ROWS rows, in a plane of it
override THREADS: u32 = 128u;
// Planes that are summed.
override NUM_SOURCES: u32 = select(1u, MULTIPLIER, TRANSPOSED == 1u);

// A thread's pixels of the result.
struct Strip {
    image: u32,
    channel: u32,
    y: u32,
    x: u32,
    height: u32, // 0 in the last, partly filled workgroups
    width: u32,
}

fn strip_of(index: u32) -> Strip {
    let plane = index / (STRIPS * BLOCKS);
    let y = index / STRIPS % BLOCKS * ROWS;
    let x = index % STRIPS * WIDTH;
    var strip = Strip(0u, 0u, y, x, params.out_h, params.out_w);
    var channels = params.out_channels;
    if TRANSPOSED == 1u {
        strip.height = params.in_h;
        strip.width = params.in_w;
        channels = params.in_channels;
    }
    strip.image = plane / channels;
    strip.channel = plane % channels;
    strip.height = select(0u, strip.height, strip.image < params.batch);
    return strip;
}

// The k-th plane under them.
fn source_of(strip: Strip, k: u32) -> Source {
    let height = select(0u, params.in_h, strip.height > 0u);
    let plane = strip.image * params.in_channels + strip.channel / MULTIPLIER;
    var origin = Source(plane, strip.y * Y_STEP - PADDING_H, strip.x * X_STEP - PADDING_W, height, params.in_w);
    if TRANSPOSED == 1u {
        origin.plane = strip.image * params.out_channels + strip.channel * MULTIPLIER + k;
        origin.y = strip.y / SPREAD_H + FIRST_H - KERNEL_H * DILATION_H;
        origin.x = strip.x / SPREAD_W + FIRST_W - KERNEL_W * DILATION_W;
        origin.height = select(0u, params.out_h, strip.height > 0u);
        origin.width = params.out_w;
    }
    return origin;
}

// The weight of a step of the kernel row that begins at `row`.
fn weight_at(row: u32, step: u32) -> f32 {
    return weight[row + select(step, KERNEL_W - 1u - step, TRANSPOSED == 1u)];
}

fn tap_row(row: u32) -> TapRow {
    var taps = TapRow();
    taps.low.x = weight_at(row, 0u);
    if KERNEL_W > 1u { taps.low.y = weight_at(row, 1u); }
    if KERNEL_W > 2u { taps.low.z = weight_at(row, 2u); }
    if KERNEL_W > 3u { taps.low.w = weight_at(row, 3u); }
    if KERNEL_W > 4u { taps.high.x = weight_at(row, 4u); }
    if KERNEL_W > 5u { taps.high.y = weight_at(row, 5u); }
    if KERNEL_W > 6u { taps.high.z = weight_at(row, 6u); }
    return taps;
}

// A channel's filter.
fn taps_of(channel: u32) -> Taps {
    let first = channel * KERNEL_H * KERNEL_W;
    var taps = Taps();
    taps.i_0 = tap_row(first);
    if KERNEL_H > 1u { taps.i_1 = tap_row(first + KERNEL_W); }
    if KERNEL_H > 2u { taps.i_2 = tap_row(first + 2u * KERNEL_W); }
    if KERNEL_H > 3u { taps.i_3 = tap_row(first + 3u * KERNEL_W); }
    if KERNEL_H > 4u { taps.i_4 = tap_row(first + 4u * KERNEL_W); }
    if KERNEL_H > 5u { taps.i_5 = tap_row(first + 5u * KERNEL_W); }
    if KERNEL_H > 6u { taps.i_6 = tap_row(first + 6u * KERNEL_W); }
    return taps;
}

fn chosen_row(low: TapRow, high: TapRow, is_low: bool) -> TapRow {
    return TapRow(select(high.low, low.low, is_low), select(high.high, low.high, is_low));
}

// Choices instead of branches, as in lib/depthwise.wgsl.
fn row_of(taps: Taps, i: u32) -> TapRow {
    let low = chosen_row(chosen_row(taps.i_0, taps.i_1, i < 1u), chosen_row(taps.i_2, taps.i_3, i < 3u), i < 2u);
    let high = chosen_row(chosen_row(taps.i_4, taps.i_5, i < 5u), taps.i_6, i < 6u);
    return chosen_row(low, high, i < 4u);
}

fn add_step(sum: vec4<f32>, tap: f32, values: vec4<f32>, step: u32) -> vec4<f32> {
    return select(sum, sum + tap * values, meets(step));
}

fn add_row(sums: vec4<f32>, taps: TapRow, under: Under) -> vec4<f32> {
    var sum = add_step(sums, taps.low.x, under.v_0, 0u);
    if KERNEL_W > 1u { sum = add_step(sum, taps.low.y, under.v_1, 1u); }
    if KERNEL_W > 2u { sum = add_step(sum, taps.low.z, under.v_2, 2u); }
    if KERNEL_W > 3u { sum = add_step(sum, taps.low.w, under.v_3, 3u); }
    if KERNEL_W > 4u { sum = add_step(sum, taps.high.x, under.v_4, 4u); }
    if KERNEL_W > 5u { sum = add_step(sum, taps.high.y, under.v_5, 5u); }
    if KERNEL_W > 6u { sum = add_step(sum, taps.high.z, under.v_6, 6u); }
    return sum;
}

// The products of row `row` of those under the thread for its row y.
fn add_to(sums: vec4<f32>, y: u32, taps: Taps, row: u32, under: Under) -> vec4<f32> {
    let i = tap_between(row, y);
    var all = sums;
    if i < KERNEL_H {
        all = add_row(sums, row_of(taps, i), under);
    }
    return all;
}

alias Kept = RowValues; // sums
alias Factors = Taps;

// Those of one row for all: the `step`-th, from above, or where kernel rows rise as rows fall from below.
fn add_under(sums: ptr<function, Kept>, taps: Factors, origin: Source, step: u32) {
    let row = select(step, ROWS_UNDER - 1u - step, TRANSPOSED == 1u);
    let under = under_of(window_of(origin, row));
    (*sums).y_0 = add_to((*sums).y_0, 0u, taps, row, under);
    if ROWS > 1u { (*sums).y_1 = add_to((*sums).y_1, 1u, taps, row, under); }
    if ROWS > 2u { (*sums).y_2 = add_to((*sums).y_2, 2u, taps, row, under); }
    if ROWS > 3u { (*sums).y_3 = add_to((*sums).y_3, 3u, taps, row, under); }
    if ROWS > 4u { (*sums).y_4 = add_to((*sums).y_4, 4u, taps, row, under); }
    if ROWS > 5u { (*sums).y_5 = add_to((*sums).y_5, 5u, taps, row, under); }
    if ROWS > 6u { (*sums).y_6 = add_to((*sums).y_6, 6u, taps, row, under); }
    if ROWS > 7u { (*sums).y_7 = add_to((*sums).y_7, 7u, taps, row, under); }
}

fn sums_of(strip: Strip) -> RowValues {
    var sums = RowValues();
    for (var k = 0u; k < NUM_SOURCES; k += 1u) {
        let origin = source_of(strip, k);
        let taps = taps_of(select(strip.channel, strip.channel * MULTIPLIER + k, TRANSPOSED == 1u));
        add_all(&sums, taps, origin);
    }
    return sums;
}

fn added_at(strip: Strip, y: u32, x: u32) -> f32 {
    let place = added_place(strip.image, strip.channel, y, x);
    return select(0.0, added[place.index], place.is_there);
}

fn finished(strip: Strip, y: u32, sums: vec4<f32>) -> vec4<f32> {
    var values = sums;
    if HAS_BIAS == 1u {
        values += bias[strip.channel];
    }
    if HAS_ADDED == 1u {
        values += vec4<f32>(
            added_at(strip, y, strip.x), added_at(strip, y, strip.x + 1u),
            added_at(strip, y, strip.x + 2u), added_at(strip, y, strip.x + 3u),
        );
    }
    return activate4(values);
}

// Where the first of a row of pixels is in the result.
fn place_of(strip: Strip, y: u32) -> u32 {
    let channels = select(params.out_channels, params.in_channels, TRANSPOSED == 1u);
    return ((strip.image * channels + strip.channel) * strip.height + y) * strip.width + strip.x;
}

fn store_vec4(strip: Strip, row: u32, sums: vec4<f32>) {
    let y = strip.y + row;
    if row < ROWS && y < strip.height {
        result[place_of(strip, y) / 4u] = finished(strip, y, sums);
    }
}

fn store(strip: Strip, row: u32, sums: vec4<f32>) {
    let y = strip.y + row;
    if row < ROWS && y < strip.height {
        let values = finished(strip, y, sums);
        let at = place_of(strip, y);
        result_pixels[at] = values.x;
        if WIDTH > 1u && strip.x + 1u < strip.width { result_pixels[at + 1u] = values.y; }
        if WIDTH > 2u && strip.x + 2u < strip.width { result_pixels[at + 2u] = values.z; }
        if WIDTH > 3u && strip.x + 3u < strip.width { result_pixels[at + 3u] = values.w; }
    }
}

@compute @workgroup_size(THREADS)
fn strips(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let strip = strip_of((workgroup.x + workgroup.y * grid.x) * THREADS + lane);
    let sums = sums_of(strip);
    store(strip, 0u, sums.y_0);
    store(strip, 1u, sums.y_1);
    store(strip, 2u, sums.y_2);
    store(strip, 3u, sums.y_3);
    store(strip, 4u, sums.y_4);
    store(strip, 5u, sums.y_5);
    store(strip, 6u, sums.y_6);
    store(strip, 7u, sums.y_7);
}

@compute @workgroup_size(THREADS)
fn strips_vec4(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let strip = strip_of((workgroup.x + workgroup.y * grid.x) * THREADS + lane);
    let sums = sums_of(strip);
    store_vec4(strip, 0u, sums.y_0);
    store_vec4(strip, 1u, sums.y_1);
    store_vec4(strip, 2u, sums.y_2);
    store_vec4(strip, 3u, sums.y_3);
    store_vec4(strip, 4u, sums.y_4);
    store_vec4(strip, 5u, sums.y_5);
    store_vec4(strip, 6u, sums.y_6);
    store_vec4(strip, 7u, sums.y_7);
}
