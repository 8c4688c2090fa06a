// Gradient of a 2-D convolution by its input, where the output went into 2x2 max-pooling, and of the activation before it:
//
//   grad_output[n, o, v, u] = grad[n, o, v / 2, u / 2] if the window chose this cell, else 0
//   sum[n, c, y, x] = sum over o, i, j of grad_output[n, o, y + PADDING_H - i, x + PADDING_W - j] * weight[o, c, i, j]
//   grad_input = sum * activation'(input)
//
// Strides and dilations are 1 and there are no groups. Sums have the order of conv2d_grad_input.wgsl. The gradient before
// pooling exists in workgroup memory alone.
//
// grad        f32 (batch, out_channels, out_h / 2, out_w / 2); indices u32, the same shape, flat in the plane of out_h * out_w
// weight      f32 (out_channels, in_channels, KERNEL_H, KERNEL_W)
// activated   f32 (batch, in_channels, in_h, in_w), what the activation gave; not read when GRADIENT_OF = 0
// grad_input  f32 (batch, in_channels, in_h, in_w)
//
// A workgroup computes TILE_H x TILE_W pixels for PER_THREAD channels of an image, a thread one pixel: it copies the
// gradient around them and the weights into workgroup memory, CHUNK output channels at a time. Workgroups are numbered
// channel tile fastest, then x, y, image.
//
// Needs lib/conv2d.wgsl, lib/nan.wgsl and lib/activation_gradient.wgsl.

@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> activated: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_input: array<f32>;

override TILE_H: u32 = 1u;
override TILE_W: u32 = 1u;
override PER_THREAD: u32 = 1u; // at most 4
override CHUNK: u32 = 1u;
override THREADS: u32 = 64u; // TILE_H * TILE_W

override AROUND_H: u32 = TILE_H + KERNEL_H - 1u;
override AROUND_W: u32 = TILE_W + KERNEL_W - 1u;
override AROUND: u32 = CHUNK * AROUND_H * AROUND_W;
override STAGED_WEIGHTS: u32 = CHUNK * PER_THREAD * KERNEL_H * KERNEL_W;

var<workgroup> around: array<f32, AROUND>;
var<workgroup> weights: array<f32, STAGED_WEIGHTS>;

// What a workgroup works on.
struct Tile {
    image: u32,
    y: u32,
    x: u32,
    channel: u32,
}

fn tile_position(unit: u32) -> Tile {
    let channel_tiles = (params.in_channels + PER_THREAD - 1u) / PER_THREAD;
    let tiles_x = (params.in_w + TILE_W - 1u) / TILE_W;
    let tiles_y = (params.in_h + TILE_H - 1u) / TILE_H;
    let place = unit / channel_tiles;
    return Tile(
        place / tiles_x / tiles_y,
        place / tiles_x % tiles_y * TILE_H,
        place % tiles_x * TILE_W,
        unit % channel_tiles * PER_THREAD,
    );
}

// Slot `slot` of the gradient before pooling: output channel from `first` on, row and column; 0 beyond an edge.
fn grad_at(tile: Tile, first: u32, slot: u32) -> f32 {
    let o = first + slot / (AROUND_H * AROUND_W);
    // Above and left of the output these wrap around and are large.
    let y = tile.y + slot / AROUND_W % AROUND_H + PADDING_H - (KERNEL_H - 1u);
    let x = tile.x + slot % AROUND_W + PADDING_W - (KERNEL_W - 1u);
    // A last odd row or column is in no window.
    let is_there = (slot < AROUND) & (tile.image < params.batch) & (o < params.out_channels)
        & (y < params.out_h / 2u * 2u) & (x < params.out_w / 2u * 2u);
    let window = ((tile.image * params.out_channels + o) * (params.out_h / 2u) + y / 2u) * (params.out_w / 2u) + x / 2u;
    let at = select(0u, window, is_there);
    return select(0.0, grad[at], is_there & (indices[at] == y * params.out_w + x));
}

// Slot `slot` of the weights: output channel, input channel of the tile, row, column.
fn weight_at(tile: Tile, first: u32, slot: u32) -> f32 {
    let tap = slot % (KERNEL_H * KERNEL_W);
    let c = tile.channel + slot / (KERNEL_H * KERNEL_W) % PER_THREAD;
    let o = first + slot / (KERNEL_H * KERNEL_W * PER_THREAD);
    let is_there = (slot < STAGED_WEIGHTS) & (o < params.out_channels) & (c < params.in_channels);
    let index = (o * params.in_channels + c) * KERNEL_H * KERNEL_W + tap;
    return select(0.0, weight[select(0u, index, is_there)], is_there);
}

fn grads4_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
    return vec4<f32>(
        grad_at(tile, first, slot), grad_at(tile, first, slot + THREADS),
        grad_at(tile, first, slot + 2u * THREADS), grad_at(tile, first, slot + 3u * THREADS),
    );
}

fn weights4_at(tile: Tile, first: u32, slot: u32) -> vec4<f32> {
    return vec4<f32>(
        weight_at(tile, first, slot), weight_at(tile, first, slot + THREADS),
        weight_at(tile, first, slot + 2u * THREADS), weight_at(tile, first, slot + 3u * THREADS),
    );
}

fn keep_grads(slot: u32, values: vec4<f32>) {
    if slot < AROUND { around[slot] = values.x; }
    if slot + THREADS < AROUND { around[slot + THREADS] = values.y; }
    if slot + 2u * THREADS < AROUND { around[slot + 2u * THREADS] = values.z; }
    if slot + 3u * THREADS < AROUND { around[slot + 3u * THREADS] = values.w; }
}

fn keep_weights(slot: u32, values: vec4<f32>) {
    if slot < STAGED_WEIGHTS { weights[slot] = values.x; }
    if slot + THREADS < STAGED_WEIGHTS { weights[slot + THREADS] = values.y; }
    if slot + 2u * THREADS < STAGED_WEIGHTS { weights[slot + 2u * THREADS] = values.z; }
    if slot + 3u * THREADS < STAGED_WEIGHTS { weights[slot + 3u * THREADS] = values.w; }
}

// Eight loads of each operand are on their way before the first is stored.
fn stage(tile: Tile, first: u32, lane: u32) {
    for (var slot = lane; slot < AROUND; slot += 8u * THREADS) {
        let near = grads4_at(tile, first, slot);
        let far = grads4_at(tile, first, slot + 4u * THREADS);
        keep_grads(slot, near);
        keep_grads(slot + 4u * THREADS, far);
    }
    for (var slot = lane; slot < STAGED_WEIGHTS; slot += 8u * THREADS) {
        let near = weights4_at(tile, first, slot);
        let far = weights4_at(tile, first, slot + 4u * THREADS);
        keep_weights(slot, near);
        keep_weights(slot + 4u * THREADS, far);
    }
}

fn store(tile: Tile, y: u32, x: u32, channel: u32, sum: f32) {
    if tile.image < params.batch && channel < params.in_channels && y < params.in_h && x < params.in_w {
        let index = ((tile.image * params.in_channels + channel) * params.in_h + y) * params.in_w + x;
        var output = 0.0;
        if GRADIENT_OF != 0u { output = activated[index]; }
        grad_input[index] = activation_gradient(sum, output);
    }
}

// Values under five neighbouring taps, or as many as there are.
struct Five {
    v_0: f32,
    v_1: f32,
    v_2: f32,
    v_3: f32,
    v_4: f32,
}

// The tap `offset` after tap j, or the last one.
fn next_tap(j: u32, offset: u32) -> u32 {
    return min(j + offset, KERNEL_W - 1u);
}

// Adds the products of the taps from j on, of the row of weights at `row`; all are on their way before the first is added.
fn add_taps(sum: f32, under: Five, row: u32, j: u32) -> f32 {
    let w_0 = weights[row + j];
    let w_1 = weights[row + next_tap(j, 1u)];
    let w_2 = weights[row + next_tap(j, 2u)];
    let w_3 = weights[row + next_tap(j, 3u)];
    let w_4 = weights[row + next_tap(j, 4u)];
    var result = sum + under.v_0 * w_0;
    if j + 1u < KERNEL_W { result += under.v_1 * w_1; }
    if j + 2u < KERNEL_W { result += under.v_2 * w_2; }
    if j + 3u < KERNEL_W { result += under.v_3 * w_3; }
    if j + 4u < KERNEL_W { result += under.v_4 * w_4; }
    return result;
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let y = lane / TILE_W;
    let x = lane % TILE_W;
    var sum_0 = 0.0;
    var sum_1 = 0.0;
    var sum_2 = 0.0;
    var sum_3 = 0.0;
    for (var first = 0u; first < params.out_channels; first += CHUNK) {
        workgroupBarrier();
        stage(tile, first, lane);
        workgroupBarrier();
        let channels = min(CHUNK, params.out_channels - first);
        for (var o = 0u; o < channels; o += 1u) {
            for (var i = 0u; i < KERNEL_H; i += 1u) {
                // Under tap 0; each further tap lies one to the left.
                let row = (o * AROUND_H + y + KERNEL_H - 1u - i) * AROUND_W + x + KERNEL_W - 1u;
                for (var j = 0u; j < KERNEL_W; j += 5u) {
                    let under = Five(
                        around[row - j],
                        around[row - next_tap(j, 1u)],
                        around[row - next_tap(j, 2u)],
                        around[row - next_tap(j, 3u)],
                        around[row - next_tap(j, 4u)],
                    );
                    let tap = (o * PER_THREAD * KERNEL_H + i) * KERNEL_W;
                    sum_0 = add_taps(sum_0, under, tap, j);
                    if PER_THREAD > 1u { sum_1 = add_taps(sum_1, under, tap + KERNEL_H * KERNEL_W, j); }
                    if PER_THREAD > 2u { sum_2 = add_taps(sum_2, under, tap + 2u * KERNEL_H * KERNEL_W, j); }
                    if PER_THREAD > 3u { sum_3 = add_taps(sum_3, under, tap + 3u * KERNEL_H * KERNEL_W, j); }
                }
            }
        }
    }
    store(tile, tile.y + y, tile.x + x, tile.channel, sum_0);
    if PER_THREAD > 1u { store(tile, tile.y + y, tile.x + x, tile.channel + 1u, sum_1); }
    if PER_THREAD > 2u { store(tile, tile.y + y, tile.x + x, tile.channel + 2u, sum_2); }
    if PER_THREAD > 3u { store(tile, tile.y + y, tile.x + x, tile.channel + 3u, sum_3); }
}
