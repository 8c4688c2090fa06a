// The first pass of the gradients of a depthwise 2-D convolution with respect to its weight and bias on real GPUs: what
// conv2d_grad_weight.wgsl has in `slices`, where each input channel is convolved by itself, with MULTIPLIER filters.
//
//   partials[s, o, i, j] = sum over rows (n, y) of slice s, over x, of grad_output[n, o, y, x] *
//       input[n, o / MULTIPLIER, y * STRIDE_H + i * DILATION_H - PADDING_H, x * STRIDE_W + j * DILATION_W - PADDING_W]
//   partials[s, num_weights + o] = sum over rows (n, y) of slice s, over x, of grad_output[n, o, y, x]
//
// source       f32 (batch, in_channels, in_h, in_w): the input; as vec4 where BY_QUADS = 1
// grad_output  f32 (batch, out_channels, out_h, out_w); as vec4 where WIDTH = 4, which out_w is a multiple of then. Else WIDTH is 1
// partials     f32 (num_slices, num_weights + out_channels)
//
// A workgroup has an output channel of a slice. Its threads share out strips of WIDTH pixels in ROWS rows of an image, numbered
// strip fastest, of STRIPS, then rows, of BLOCKS, then image, and keep the sums of all taps in registers. These are added up in
// workgroup memory: of each tap those of every eighth thread, then eight of such sums. Workgroups are numbered channel fastest,
// then slice.
//
// Needs lib/conv2d.wgsl and lib/depthwise.wgsl.

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> source_quads: array<vec4<f32>>; // the same
@group(0) @binding(3) var<storage, read> grad_output: array<f32>;
@group(0) @binding(4) var<storage, read> grad_quads: array<vec4<f32>>; // the same
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

override STRIPS: u32 = 1u;
override BLOCKS: u32 = 1u;
override THREADS: u32 = 64u; // a multiple of 8

const PARTS: u32 = 8u; // sums of a tap between those of the threads and that of all
override NUM_TAPS: u32 = KERNEL_H * KERNEL_W;
override NUM_SUMS: u32 = NUM_TAPS + 1u; // the bias's is the last
override PITCH: u32 = THREADS + PARTS;

// Of each tap the sums of the threads, then those of its parts.
var<workgroup> shared_sums: array<f32, NUM_SUMS * PITCH>;

// What a workgroup works on: the rows of a slice, counted over all images, and the blocks of rows that these are in.
struct Slice {
    index: u32,
    channel: u32,
    first: u32,
    end: u32,
    block: u32,
    num_strips: u32, // of all these blocks; 0 in the workgroups that a folded grid has too many
}

fn block_of(row: u32) -> u32 {
    return row / params.out_h * BLOCKS + row % params.out_h / ROWS;
}

fn slice_of(unit: u32) -> Slice {
    let index = unit / params.out_channels;
    let num_rows = params.batch * params.out_h;
    let first = min(index * params.rows_per_slice, num_rows);
    let end = min(first + params.rows_per_slice, num_rows);
    let block = block_of(first);
    let num_strips = select(0u, (block_of(end - 1u) + 1u - block) * STRIPS, first < end);
    return Slice(index, unit % params.out_channels, first, end, block, num_strips);
}

// A thread's strip in rows of an image.
struct Strip {
    image: u32,
    y: u32,
    x: u32,
}

fn strip_of(slice: Slice, index: u32) -> Strip {
    let block = slice.block + index / STRIPS;
    return Strip(block / BLOCKS, block % BLOCKS * ROWS, index % STRIPS * WIDTH);
}

// Row y of the strip: zeros where it is not the slice's.
fn grad_at(slice: Slice, strip: Strip, row: u32) -> vec4<f32> {
    let y = strip.y + row;
    let counted = strip.image * params.out_h + y;
    let is_there = (y < params.out_h) & (counted >= slice.first) & (counted < slice.end);
    let at = ((strip.image * params.out_channels + slice.channel) * params.out_h + y) * params.out_w + strip.x;
    let index = select(0u, at, is_there);
    if WIDTH == 4u {
        return select(vec4<f32>(), grad_quads[index / 4u], is_there);
    }
    return vec4<f32>(select(0.0, grad_output[index], is_there), 0.0, 0.0, 0.0);
}

// Those of all rows.
fn grads_of(slice: Slice, strip: Strip) -> RowValues {
    var all = RowValues();
    all.y_0 = grad_at(slice, strip, 0u);
    if ROWS > 1u { all.y_1 = grad_at(slice, strip, 1u); }
    if ROWS > 2u { all.y_2 = grad_at(slice, strip, 2u); }
    if ROWS > 3u { all.y_3 = grad_at(slice, strip, 3u); }
    if ROWS > 4u { all.y_4 = grad_at(slice, strip, 4u); }
    if ROWS > 5u { all.y_5 = grad_at(slice, strip, 5u); }
    if ROWS > 6u { all.y_6 = grad_at(slice, strip, 6u); }
    if ROWS > 7u { all.y_7 = grad_at(slice, strip, 7u); }
    return all;
}

fn sum_of(values: vec4<f32>) -> f32 {
    if WIDTH == 1u {
        return values.x;
    }
    return values.x + values.y + values.z + values.w;
}

fn sum_of_all(grads: RowValues) -> f32 {
    let low = sum_of(grads.y_0) + sum_of(grads.y_1) + sum_of(grads.y_2) + sum_of(grads.y_3);
    return low + sum_of(grads.y_4) + sum_of(grads.y_5) + sum_of(grads.y_6) + sum_of(grads.y_7);
}

// Choices instead of branches, as in lib/depthwise.wgsl.
fn row_of(grads: RowValues, y: u32) -> vec4<f32> {
    let low = select(select(grads.y_3, grads.y_2, y < 3u), select(grads.y_1, grads.y_0, y < 1u), y < 2u);
    let high = select(select(grads.y_7, grads.y_6, y < 7u), select(grads.y_5, grads.y_4, y < 5u), y < 6u);
    return select(high, low, y < 4u);
}

fn add_step(sum: f32, grads: vec4<f32>, values: vec4<f32>) -> f32 {
    var added = sum + grads.x * values.x;
    if WIDTH == 4u {
        added += grads.y * values.y;
        added += grads.z * values.z;
        added += grads.w * values.w;
    }
    return added;
}

// The products of kernel row i with row `row` of those under the thread.
fn add_to(sums: TapRow, i: u32, grads: RowValues, row: u32, under: Under) -> TapRow {
    // Wraps around where there is none, and is large.
    let distance = row - i * DILATION_H;
    var all = sums;
    if distance % Y_STEP == 0u && distance / Y_STEP < ROWS {
        let own = row_of(grads, distance / Y_STEP);
        all.low.x = add_step(all.low.x, own, under.v_0);
        if KERNEL_W > 1u { all.low.y = add_step(all.low.y, own, under.v_1); }
        if KERNEL_W > 2u { all.low.z = add_step(all.low.z, own, under.v_2); }
        if KERNEL_W > 3u { all.low.w = add_step(all.low.w, own, under.v_3); }
        if KERNEL_W > 4u { all.high.x = add_step(all.high.x, own, under.v_4); }
        if KERNEL_W > 5u { all.high.y = add_step(all.high.y, own, under.v_5); }
        if KERNEL_W > 6u { all.high.z = add_step(all.high.z, own, under.v_6); }
    }
    return all;
}

alias Kept = Taps; // sums
alias Factors = RowValues;

fn add_under(sums: ptr<function, Kept>, grads: Factors, origin: Source, row: u32) {
    let under = under_of(window_of(origin, row));
    (*sums).i_0 = add_to((*sums).i_0, 0u, grads, row, under);
    if KERNEL_H > 1u { (*sums).i_1 = add_to((*sums).i_1, 1u, grads, row, under); }
    if KERNEL_H > 2u { (*sums).i_2 = add_to((*sums).i_2, 2u, grads, row, under); }
    if KERNEL_H > 3u { (*sums).i_3 = add_to((*sums).i_3, 3u, grads, row, under); }
    if KERNEL_H > 4u { (*sums).i_4 = add_to((*sums).i_4, 4u, grads, row, under); }
    if KERNEL_H > 5u { (*sums).i_5 = add_to((*sums).i_5, 5u, grads, row, under); }
    if KERNEL_H > 6u { (*sums).i_6 = add_to((*sums).i_6, 6u, grads, row, under); }
}

fn put_row(lane: u32, i: u32, sums: TapRow) {
    let at = i * KERNEL_W * PITCH + lane;
    shared_sums[at] = sums.low.x;
    if KERNEL_W > 1u { shared_sums[at + PITCH] = sums.low.y; }
    if KERNEL_W > 2u { shared_sums[at + 2u * PITCH] = sums.low.z; }
    if KERNEL_W > 3u { shared_sums[at + 3u * PITCH] = sums.low.w; }
    if KERNEL_W > 4u { shared_sums[at + 4u * PITCH] = sums.high.x; }
    if KERNEL_W > 5u { shared_sums[at + 5u * PITCH] = sums.high.y; }
    if KERNEL_W > 6u { shared_sums[at + 6u * PITCH] = sums.high.z; }
}

fn put(lane: u32, sums: Taps, bias_sum: f32) {
    put_row(lane, 0u, sums.i_0);
    if KERNEL_H > 1u { put_row(lane, 1u, sums.i_1); }
    if KERNEL_H > 2u { put_row(lane, 2u, sums.i_2); }
    if KERNEL_H > 3u { put_row(lane, 3u, sums.i_3); }
    if KERNEL_H > 4u { put_row(lane, 4u, sums.i_4); }
    if KERNEL_H > 5u { put_row(lane, 5u, sums.i_5); }
    if KERNEL_H > 6u { put_row(lane, 6u, sums.i_6); }
    shared_sums[NUM_TAPS * PITCH + lane] = bias_sum;
}

@compute @workgroup_size(THREADS)
fn slices(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let slice = slice_of(workgroup.x + workgroup.y * grid.x);
    var sums = Taps();
    var bias_sum = 0.0;
    for (var index = lane; index < slice.num_strips; index += THREADS) {
        let strip = strip_of(slice, index);
        let grads = grads_of(slice, strip);
        let plane = strip.image * params.in_channels + slice.channel / MULTIPLIER;
        let y = strip.y * Y_STEP - PADDING_H;
        let x = strip.x * X_STEP - PADDING_W;
        add_all(&sums, grads, Source(plane, y, x, params.in_h, params.in_w));
        bias_sum += sum_of_all(grads);
    }
    put(lane, sums, bias_sum);
    workgroupBarrier();
    for (var part = lane; part < NUM_SUMS * PARTS; part += THREADS) {
        let at = part / PARTS * PITCH + part % PARTS;
        var sum = 0.0;
        for (var thread = 0u; thread < THREADS; thread += PARTS) {
            sum += shared_sums[at + thread];
        }
        shared_sums[at + THREADS] = sum;
    }
    workgroupBarrier();
    if lane < NUM_SUMS && slice.num_strips > 0u {
        var sum = 0.0;
        for (var part = 0u; part < PARTS; part += 1u) {
            sum += shared_sums[lane * PITCH + THREADS + part];
        }
        let num_weights = params.out_channels * NUM_TAPS;
        let place = select(slice.channel * NUM_TAPS + lane, num_weights + slice.channel, lane == NUM_TAPS);
        partials[slice.index * (num_weights + params.out_channels) + place] = sum;
    }
}
