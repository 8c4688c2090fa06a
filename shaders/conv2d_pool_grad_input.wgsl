// Gradient of a 2-D convolution by its input, where the output went into 2x2 max-pooling, and of the activation before it:
//
//   grad_output[n, o, v, u] = grad[n, o, v / 2, u / 2] if the window chose this cell, else 0
//   sum[n, c, y, x] = sum over o, i, j of grad_output[n, o, y + PADDING_H - i, x + PADDING_W - j] * weight[o, c, i, j]
//   grad_input = sum * activation'(input)
//
// Strides and dilations are 1, there are no groups, and KERNEL_W is at most 5. Sums have the order of
// conv2d_grad_input.wgsl. The gradient before pooling exists in workgroup memory alone.
//
// grad        f32 (batch, out_channels, out_h / 2, out_w / 2); indices u32, the same shape, flat in the plane of out_h * out_w
// weight      f32 (out_channels, in_channels, KERNEL_H, KERNEL_W)
// activated   f32 (batch, in_channels, in_h, in_w), what the activation gave; not read when GRADIENT_OF = 0
// grad_input  f32 (batch, in_channels, in_h, in_w)
//
// A workgroup computes TILE_H rows of 4 TILE_QUADS pixels for 2 PAIRS channels of an image, a thread four neighbouring pixels
// for two channels, or for one where there are too few workgroups to fill a GPU (SHARED = 1). CHUNK output channels at a time, it copies the windows around its pixels and the weights into workgroup
// memory, all of them on their way at once, and writes the gradient before pooling out there. Workgroups are numbered
// channel tile fastest, then x, y, image.
//
// Needs lib/conv2d.wgsl, lib/row_window.wgsl, lib/nan.wgsl and lib/activation_gradient.wgsl.

@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> activated: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_input: array<f32>;

override TILE_H: u32 = 1u;
override TILE_QUADS: u32 = 1u;
override PAIRS: u32 = 1u;
override CHUNK: u32 = 1u;
override SHARED: u32 = 0u; // whether two threads share a pair of channels
override THREADS: u32 = 64u; // TILE_H * TILE_QUADS * PAIRS * (1 + SHARED)
// Windows of a channel that are copied: those around the pixels, or all where there are fewer.
override WINDOWS_H: u32 = 1u;
override WINDOWS_W: u32 = 1u;

// The gradient before pooling around the pixels; its first column lies under the last tap of the first pixel.
override AROUND_H: u32 = TILE_H + KERNEL_H - 1u;
override AROUND_QUADS: u32 = TILE_QUADS + 1u;
override AROUND: u32 = CHUNK * AROUND_H * AROUND_QUADS;
override WINDOWS: u32 = CHUNK * WINDOWS_H * WINDOWS_W;
override STAGED_WEIGHTS: u32 = CHUNK * KERNEL_H * KERNEL_W * PAIRS;

var<workgroup> around: array<vec4<f32>, AROUND>;
var<workgroup> window_grads: array<f32, WINDOWS>;
var<workgroup> chosen: array<u32, WINDOWS>;
// Of two channels, by output channel, row, column and pair.
var<workgroup> weights: array<vec2<f32>, STAGED_WEIGHTS>;

// What a workgroup works on.
struct Tile {
    image: u32,
    y: u32,
    x: u32,
    channel: u32,
    // Of the gradient before pooling, the row and column where `around` begins. Above and left of it these wrap around.
    first_v: u32,
    first_u: u32,
    // The first windows that are copied.
    window_y: u32,
    window_x: u32,
}

// The first of `count` windows out of `of_all` that has to do with what lies from `first` on, which can be negative.
fn first_window(first: u32, count: u32, of_all: u32) -> u32 {
    return min(u32(max(bitcast<i32>(first), 0)) / 2u, of_all - count);
}

fn tile_position(unit: u32) -> Tile {
    let channel_tiles = (params.in_channels + 2u * PAIRS - 1u) / (2u * PAIRS);
    let tiles_x = (params.in_w + 4u * TILE_QUADS - 1u) / (4u * TILE_QUADS);
    let tiles_y = (params.in_h + TILE_H - 1u) / TILE_H;
    let place = unit / channel_tiles;
    let y = place / tiles_x % tiles_y * TILE_H;
    let x = place % tiles_x * 4u * TILE_QUADS;
    let first_v = y + PADDING_H - (KERNEL_H - 1u);
    let first_u = x + PADDING_W - (KERNEL_W - 1u);
    return Tile(
        place / tiles_x / tiles_y,
        y,
        x,
        unit % channel_tiles * 2u * PAIRS,
        first_v,
        first_u,
        first_window(first_v, WINDOWS_H, params.out_h / 2u),
        first_window(first_u, WINDOWS_W, params.out_w / 2u),
    );
}

// Where window `slot` of output channels from `first` on lies in `grad`; what is past the end is not used.
fn window_at(tile: Tile, first: u32, slot: u32) -> u32 {
    let o = min(first + slot / (WINDOWS_H * WINDOWS_W), params.out_channels - 1u);
    let y = tile.window_y + slot / WINDOWS_W % WINDOWS_H;
    let x = tile.window_x + slot % WINDOWS_W;
    let image = min(tile.image, params.batch - 1u);
    return ((image * params.out_channels + o) * (params.out_h / 2u) + y) * (params.out_w / 2u) + x;
}

// Slot `slot` of the weights of two channels; 0 where there are none.
fn weights_at(tile: Tile, first: u32, slot: u32) -> vec2<f32> {
    let c = tile.channel + slot % PAIRS * 2u;
    let tap = slot / PAIRS % (KERNEL_H * KERNEL_W);
    let o = first + slot / (PAIRS * KERNEL_H * KERNEL_W);
    let is_there = (slot < STAGED_WEIGHTS) & (o < params.out_channels) & (c < params.in_channels);
    let index = select(0u, (o * params.in_channels + c) * KERNEL_H * KERNEL_W + tap, is_there);
    let has_second = is_there & (c + 1u < params.in_channels);
    let second = select(0u, index + KERNEL_H * KERNEL_W, has_second);
    return vec2<f32>(select(0.0, weight[index], is_there), select(0.0, weight[second], has_second));
}

// A few loads of each operand are on their way before the first is stored.
fn stage(tile: Tile, first: u32, lane: u32) {
    for (var slot = lane; slot < max(WINDOWS, STAGED_WEIGHTS); slot += 6u * THREADS) {
        let at_0 = window_at(tile, first, slot);
        let at_1 = window_at(tile, first, slot + THREADS);
        let grad_0 = grad[at_0];
        let grad_1 = grad[at_1];
        let chosen_0 = indices[at_0];
        let chosen_1 = indices[at_1];
        let weights_0 = weights_at(tile, first, slot);
        let weights_1 = weights_at(tile, first, slot + THREADS);
        let weights_2 = weights_at(tile, first, slot + 2u * THREADS);
        let weights_3 = weights_at(tile, first, slot + 3u * THREADS);
        let weights_4 = weights_at(tile, first, slot + 4u * THREADS);
        let weights_5 = weights_at(tile, first, slot + 5u * THREADS);
        keep_window(slot, grad_0, chosen_0);
        keep_window(slot + THREADS, grad_1, chosen_1);
        keep_weights(slot, weights_0);
        keep_weights(slot + THREADS, weights_1);
        keep_weights(slot + 2u * THREADS, weights_2);
        keep_weights(slot + 3u * THREADS, weights_3);
        keep_weights(slot + 4u * THREADS, weights_4);
        keep_weights(slot + 5u * THREADS, weights_5);
        // Windows are few beside weights, but with many channels to come from and small kernels.
        for (var other = slot + 2u * THREADS; other < min(WINDOWS, slot + 6u * THREADS); other += THREADS) {
            let at = window_at(tile, first, other);
            keep_window(other, grad[at], indices[at]);
        }
    }
}

fn keep_window(slot: u32, value: f32, index: u32) {
    if slot < WINDOWS {
        window_grads[slot] = value;
        chosen[slot] = index;
    }
}

fn keep_weights(slot: u32, values: vec2<f32>) {
    if slot < STAGED_WEIGHTS { weights[slot] = values; }
}

// The gradient before pooling at row v and column u of the output channel whose windows begin at `windows`.
fn grad_before(tile: Tile, windows: u32, v: u32, u: u32) -> f32 {
    let y = v / 2u - tile.window_y;
    let x = u / 2u - tile.window_x;
    // Above and left of the first window these wrap around. A last odd row or column is in no window.
    let is_there = (y < WINDOWS_H) & (x < WINDOWS_W);
    let at = windows + select(0u, y * WINDOWS_W + x, is_there);
    return select(0.0, window_grads[at], is_there & (chosen[at] == v * params.out_w + u));
}

fn write_out(tile: Tile, first: u32, lane: u32) {
    for (var slot = lane; slot < AROUND; slot += THREADS) {
        let o = slot / (AROUND_QUADS * AROUND_H);
        let v = tile.first_v + slot / AROUND_QUADS % AROUND_H;
        let u = tile.first_u + slot % AROUND_QUADS * 4u;
        let windows = o * WINDOWS_H * WINDOWS_W;
        let values = vec4<f32>(
            grad_before(tile, windows, v, u), grad_before(tile, windows, v, u + 1u),
            grad_before(tile, windows, v, u + 2u), grad_before(tile, windows, v, u + 3u));
        around[slot] = select(vec4<f32>(), values, first + o < params.out_channels);
    }
}

// Sums of four pixels for two channels; of one, in `low`.
struct Sums {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn add_tap(sums: Sums, under: vec4<f32>, weights_at: u32, is_second: bool) -> Sums {
    let of_two = weights[weights_at];
    if SHARED == 1u {
        return Sums(sums.low + under * select(of_two.x, of_two.y, is_second), sums.high);
    }
    return Sums(sums.low + under * of_two.x, sums.high + under * of_two.y);
}

// What tap j meets: `shift` to the right of what the last tap does.
fn shifted(window: RowWindow, shift: u32) -> vec4<f32> {
    switch shift {
        case 0u: { return window.low; }
        case 1u: { return window_at_1(window); }
        case 2u: { return window_at_2(window); }
        case 3u: { return window_at_3(window); }
        default: { return window.high; }
    }
}

// Where a thread works: in its row and quad of the tile, for a pair of channels or one of them.
struct Place {
    y: u32,
    quad: u32,
    pair: u32,
    is_second: bool,
}

// The products of row i of the kernel.
fn add_row(sums: Sums, o: u32, i: u32, place: Place) -> Sums {
    let at = (o * AROUND_H + place.y + KERNEL_H - 1u - i) * AROUND_QUADS + place.quad;
    let window = RowWindow(around[at], around[at + 1u]);
    let row = (o * KERNEL_H + i) * KERNEL_W * PAIRS + place.pair;
    let second = place.is_second;
    var result = add_tap(sums, shifted(window, KERNEL_W - 1u), row, second);
    if KERNEL_W > 1u { result = add_tap(result, shifted(window, KERNEL_W - 2u), row + PAIRS, second); }
    if KERNEL_W > 2u { result = add_tap(result, shifted(window, KERNEL_W - 3u), row + 2u * PAIRS, second); }
    if KERNEL_W > 3u { result = add_tap(result, shifted(window, KERNEL_W - 4u), row + 3u * PAIRS, second); }
    if KERNEL_W > 4u { result = add_tap(result, shifted(window, KERNEL_W - 5u), row + 4u * PAIRS, second); }
    return result;
}

fn is_stored(tile: Tile, y: u32, x: u32, channel: u32) -> bool {
    return (tile.image < params.batch) & (channel < params.in_channels) & (y < params.in_h) & (x < params.in_w);
}

fn pixel(tile: Tile, y: u32, x: u32, channel: u32) -> u32 {
    return ((tile.image * params.in_channels + channel) * params.in_h + y) * params.in_w + x;
}

// What the activation gave for a pixel, if that is wanted.
fn activated_at(tile: Tile, y: u32, x: u32, channel: u32) -> f32 {
    if GRADIENT_OF == 0u {
        return 0.0;
    }
    return activated[select(0u, pixel(tile, y, x, channel), is_stored(tile, y, x, channel))];
}

fn four_activated(tile: Tile, y: u32, x: u32, channel: u32) -> vec4<f32> {
    return vec4<f32>(
        activated_at(tile, y, x, channel), activated_at(tile, y, x + 1u, channel),
        activated_at(tile, y, x + 2u, channel), activated_at(tile, y, x + 3u, channel));
}

fn store_pixel(tile: Tile, y: u32, x: u32, channel: u32, sum: f32, output: f32) {
    if is_stored(tile, y, x, channel) {
        grad_input[pixel(tile, y, x, channel)] = activation_gradient(sum, output);
    }
}

fn store(tile: Tile, y: u32, x: u32, channel: u32, sums: vec4<f32>, outputs: vec4<f32>) {
    store_pixel(tile, y, x, channel, sums.x, outputs.x);
    store_pixel(tile, y, x + 1u, channel, sums.y, outputs.y);
    store_pixel(tile, y, x + 2u, channel, sums.z, outputs.z);
    store_pixel(tile, y, x + 3u, channel, sums.w, outputs.w);
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let strips = TILE_QUADS * TILE_H;
    // Neighbours have the same channels, and read the same weights.
    let own = lane / strips;
    let place = Place(
        lane / TILE_QUADS % TILE_H,
        lane % TILE_QUADS,
        own >> SHARED,
        SHARED == 1u && own % 2u == 1u,
    );
    let y = tile.y + place.y;
    let x = tile.x + 4u * place.quad;
    let channel = tile.channel + 2u * place.pair + u32(place.is_second);
    // On their way while all the rest is done.
    let low_outputs = four_activated(tile, y, x, channel);
    var high_outputs = vec4<f32>();
    if SHARED == 0u { high_outputs = four_activated(tile, y, x, channel + 1u); }
    var sums = Sums();
    for (var first = 0u; first < params.out_channels; first += CHUNK) {
        workgroupBarrier();
        stage(tile, first, lane);
        workgroupBarrier();
        write_out(tile, first, lane);
        workgroupBarrier();
        let channels = min(CHUNK, params.out_channels - first);
        for (var o = 0u; o < channels; o += 1u) {
            // As text, so that what later rows need is loaded while the first is added.
            for (var i = 0u; i < KERNEL_H; i += 5u) {
                sums = add_row(sums, o, i, place);
                if i + 1u < KERNEL_H { sums = add_row(sums, o, i + 1u, place); }
                if i + 2u < KERNEL_H { sums = add_row(sums, o, i + 2u, place); }
                if i + 3u < KERNEL_H { sums = add_row(sums, o, i + 3u, place); }
                if i + 4u < KERNEL_H { sums = add_row(sums, o, i + 4u, place); }
            }
        }
    }
    store(tile, y, x, channel, sums.low, low_outputs);
    if SHARED == 0u { store(tile, y, x, channel + 1u, sums.high, high_outputs); }
}
