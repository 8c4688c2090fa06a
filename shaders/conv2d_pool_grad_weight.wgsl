// Gradients of a 2-D convolution by its weight and bias, where the output went into 2x2 max-pooling, as sums over slices
// of images that whoever reads them adds up:
//
//   grad_output[n, o, v, u] = grad[n, o, v / 2, u / 2] if the window chose this cell, else 0
//   partials[s, weight o c i j] = sum over n of slice s, y, x of
//       grad_output[n, o, y, x] * input[n, c, y + i - PADDING_H, x + j - PADDING_W]
//   partials[s, bias o] = sum over n of slice s, y, x of grad_output[n, o, y, x]
//
// Strides and dilations are 1 and there are no groups; KERNEL_W is at most 5. The gradient before pooling exists in
// workgroup memory alone.
//
// grad      f32 (batch, out_channels, out_h / 2, out_w / 2); indices u32, the same shape, flat in the plane of out_h * out_w
// input     f32 (batch, in_channels, in_h, in_w)
// partials  f32 (num_slices, num_weights padded to 4 + out_channels padded to 4), 0 in the padding
//
// A workgroup has TILE_OUT output and TILE_IN input channels of a slice, both divisors of their numbers. A thread owns a
// kernel row of a pair of channels, and of the output's rows every SPLIT-th; the first of the SPLIT threads adds up what
// they have, in order. Workgroups are numbered input tile fastest, then output tile, then slice.
//
// Needs lib/conv2d.wgsl, whose rows_per_slice are images here.

@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read> input: array<f32>;
@group(0) @binding(4) var<storage, read_write> partials: array<f32>;

override TILE_OUT: u32 = 1u;
override TILE_IN: u32 = 1u;
override SPLIT: u32 = 1u;
override OUT_H: u32 = 1u;
override OUT_W: u32 = 1u;
override THREADS: u32 = 64u; // at least TILE_OUT * TILE_IN * KERNEL_H * SPLIT

override PADDED_H: u32 = OUT_H + KERNEL_H - 1u;
override PADDED_W: u32 = OUT_W + KERNEL_W - 1u;
override STAGED_INPUT: u32 = TILE_IN * PADDED_H * PADDED_W;
override STAGED_GRAD: u32 = TILE_OUT * OUT_H * OUT_W;
override SUMS: u32 = THREADS * 6u;

var<workgroup> staged_input: array<f32, STAGED_INPUT>;
var<workgroup> staged_grad: array<f32, STAGED_GRAD>;
// Of each thread its five taps and the sum for the bias.
var<workgroup> sums: array<f32, SUMS>;

// What a workgroup works on.
struct Tile {
    slice: u32,
    out_channel: u32,
    in_channel: u32,
}

fn tile_position(unit: u32) -> Tile {
    let in_tiles = params.in_channels / TILE_IN;
    let out_tiles = params.out_channels / TILE_OUT;
    return Tile(unit / in_tiles / out_tiles, unit / in_tiles % out_tiles * TILE_OUT, unit % in_tiles * TILE_IN);
}

fn input_at(tile: Tile, image: u32, slot: u32) -> f32 {
    let c = tile.in_channel + slot / (PADDED_H * PADDED_W);
    // Above and left of the image these wrap around and are large.
    let y = slot / PADDED_W % PADDED_H - PADDING_H;
    let x = slot % PADDED_W - PADDING_W;
    let is_there = (slot < STAGED_INPUT) & (y < params.in_h) & (x < params.in_w);
    let index = ((image * params.in_channels + c) * params.in_h + y) * params.in_w + x;
    return select(0.0, input[select(0u, index, is_there)], is_there);
}

fn grad_at(tile: Tile, image: u32, slot: u32) -> f32 {
    let o = tile.out_channel + slot / (OUT_H * OUT_W);
    let y = slot / OUT_W % OUT_H;
    let x = slot % OUT_W;
    // A last odd row or column is in no window.
    let is_there = (slot < STAGED_GRAD) & (y < OUT_H / 2u * 2u) & (x < OUT_W / 2u * 2u);
    let window = ((image * params.out_channels + o) * (OUT_H / 2u) + y / 2u) * (OUT_W / 2u) + x / 2u;
    let at = select(0u, window, is_there);
    return select(0.0, grad[at], is_there & (indices[at] == y * OUT_W + x));
}

// Four loads are on their way before the first is stored.
fn stage(tile: Tile, image: u32, lane: u32) {
    for (var slot = lane; slot < STAGED_INPUT; slot += 4u * THREADS) {
        let v_0 = input_at(tile, image, slot);
        let v_1 = input_at(tile, image, slot + THREADS);
        let v_2 = input_at(tile, image, slot + 2u * THREADS);
        let v_3 = input_at(tile, image, slot + 3u * THREADS);
        staged_input[slot] = v_0;
        if slot + THREADS < STAGED_INPUT { staged_input[slot + THREADS] = v_1; }
        if slot + 2u * THREADS < STAGED_INPUT { staged_input[slot + 2u * THREADS] = v_2; }
        if slot + 3u * THREADS < STAGED_INPUT { staged_input[slot + 3u * THREADS] = v_3; }
    }
    for (var slot = lane; slot < STAGED_GRAD; slot += 4u * THREADS) {
        let v_0 = grad_at(tile, image, slot);
        let v_1 = grad_at(tile, image, slot + THREADS);
        let v_2 = grad_at(tile, image, slot + 2u * THREADS);
        let v_3 = grad_at(tile, image, slot + 3u * THREADS);
        staged_grad[slot] = v_0;
        if slot + THREADS < STAGED_GRAD { staged_grad[slot + THREADS] = v_1; }
        if slot + 2u * THREADS < STAGED_GRAD { staged_grad[slot + 2u * THREADS] = v_2; }
        if slot + 3u * THREADS < STAGED_GRAD { staged_grad[slot + 3u * THREADS] = v_3; }
    }
}

fn num_weights() -> u32 {
    return params.out_channels * params.in_channels * KERNEL_H * KERNEL_W;
}

fn padded(count: u32) -> u32 {
    return (count + 3u) / 4u * 4u;
}

// Sum `which` of the SPLIT threads of a kernel row.
fn total(row: u32, which: u32) -> f32 {
    var sum = 0.0;
    for (var split = 0u; split < SPLIT; split += 1u) {
        sum += sums[(split * (TILE_OUT * TILE_IN * KERNEL_H) + row) * 6u + which];
    }
    return sum;
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup.x + workgroup.y * grid.x;
    let tile = tile_position(unit);
    let rows = TILE_OUT * TILE_IN * KERNEL_H;
    let row = lane % rows;
    let split = lane / rows; // SPLIT and more in threads without work
    let i = row % KERNEL_H;
    let c = row / KERNEL_H % TILE_IN;
    let o = row / KERNEL_H / TILE_IN;
    var tap_0 = 0.0;
    var tap_1 = 0.0;
    var tap_2 = 0.0;
    var tap_3 = 0.0;
    var tap_4 = 0.0;
    var bias_sum = 0.0;
    let first_image = tile.slice * params.rows_per_slice;
    let last_image = min(first_image + params.rows_per_slice, params.batch);
    for (var image = first_image; image < last_image; image += 1u) {
        workgroupBarrier();
        stage(tile, image, lane);
        workgroupBarrier();
        if split < SPLIT {
            for (var y = split; y < OUT_H; y += SPLIT) {
                let grad_row = (o * OUT_H + y) * OUT_W;
                let input_row = (c * PADDED_H + y + i) * PADDED_W;
                var v_0 = staged_input[input_row];
                var v_1 = 0.0;
                var v_2 = 0.0;
                var v_3 = 0.0;
                if KERNEL_W > 1u { v_1 = staged_input[input_row + 1u]; }
                if KERNEL_W > 2u { v_2 = staged_input[input_row + 2u]; }
                if KERNEL_W > 3u { v_3 = staged_input[input_row + 3u]; }
                for (var x = 0u; x < OUT_W; x += 1u) {
                    let value = staged_grad[grad_row + x];
                    var next = v_1;
                    if KERNEL_W > 4u { next = staged_input[input_row + x + 4u]; }
                    tap_0 += value * v_0;
                    if KERNEL_W > 1u { tap_1 += value * v_1; }
                    if KERNEL_W > 2u { tap_2 += value * v_2; }
                    if KERNEL_W > 3u { tap_3 += value * v_3; }
                    if KERNEL_W > 4u { tap_4 += value * next; }
                    bias_sum += value;
                    // The window moves on by one; past the last position nothing is read.
                    v_0 = v_1;
                    v_1 = v_2;
                    v_2 = v_3;
                    v_3 = next;
                    if KERNEL_W < 5u && x + 1u < OUT_W {
                        let last = staged_input[input_row + x + KERNEL_W];
                        if KERNEL_W == 1u { v_0 = last; }
                        if KERNEL_W == 2u { v_1 = last; }
                        if KERNEL_W == 3u { v_2 = last; }
                        if KERNEL_W == 4u { v_3 = last; }
                    }
                }
            }
        }
    }
    sums[lane * 6u] = tap_0;
    sums[lane * 6u + 1u] = tap_1;
    sums[lane * 6u + 2u] = tap_2;
    sums[lane * 6u + 3u] = tap_3;
    sums[lane * 6u + 4u] = tap_4;
    sums[lane * 6u + 5u] = bias_sum;
    workgroupBarrier();
    let num_slices = (params.batch + params.rows_per_slice - 1u) / params.rows_per_slice;
    let base = tile.slice * (padded(num_weights()) + padded(params.out_channels));
    let bias_base = base + padded(num_weights());
    if lane < rows && tile.slice < num_slices {
        let weight_row = ((tile.out_channel + o) * params.in_channels + tile.in_channel + c) * KERNEL_H + i;
        let at = base + weight_row * KERNEL_W;
        partials[at] = total(row, 0u);
        if KERNEL_W > 1u { partials[at + 1u] = total(row, 1u); }
        if KERNEL_W > 2u { partials[at + 2u] = total(row, 2u); }
        if KERNEL_W > 3u { partials[at + 3u] = total(row, 3u); }
        if KERNEL_W > 4u { partials[at + 4u] = total(row, 4u); }
        if i == 0u && c == 0u && tile.in_channel == 0u {
            partials[bias_base + tile.out_channel + o] = total(row, 5u);
        }
    }
    // One workgroup of a slice fills what no sum has.
    if lane < 3u && tile.slice < num_slices && tile.out_channel == 0u && tile.in_channel == 0u {
        if num_weights() + lane < padded(num_weights()) { partials[base + num_weights() + lane] = 0.0; }
        if params.out_channels + lane < padded(params.out_channels) { partials[bias_base + params.out_channels + lane] = 0.0; }
    }
}
