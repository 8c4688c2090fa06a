// The first pass of the gradients of a 2-D convolution with respect to its weight and bias as an implicit matrix product on real
// GPUs, for many channels and pixels: what conv2d_grad_weight.wgsl has in `slices`, where there are no groups.
//
//   partials[s, o, c, i, j] = sum over rows (n, y) of slice s, over x, of grad_output[n, o, y, x] *
//       input[n, c, y * STRIDE_H + i * DILATION_H - PADDING_H, x * STRIDE_W + j * DILATION_W - PADDING_W]
//
// and after these, the sums of grad_output, which are the bias's.
//
// input        f32 (batch, in_channels, in_h, in_w)
// grad_output  f32 (batch, out_channels, out_h, out_w)
// partials     f32 (num_slices, num_weights + out_channels)
//
// A workgroup computes TILE_OUT output channels times 128 columns of a slice, 8 x 8 a thread. A column is a tap and an input
// channel: quads of channels fastest, then taps. Eight pixels of a row are a stage: the next eight are on their way while these
// are multiplied, and go into the other half of workgroup memory. Workgroups are numbered column tile fastest, then channel
// tile, then slice.
//
// In workgroup memory a pixel has a quad more than it needs, so that the threads of eight pixels, which lie side by side and
// load what lies side by side, store to different banks.
//
// Needs lib/conv2d.wgsl and lib/register_tile.wgsl.

@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> grad_output: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

const STAGE: u32 = 8u; // pixels
const TILE_OUT: u32 = 64u;
const OUT_QUADS: u32 = 16u; // TILE_OUT / 4
const COLUMN_QUADS: u32 = 32u; // of a tile
const THREADS: u32 = 128u; // 8 x 8 results each; STAGE times OUT_QUADS, and half of STAGE times COLUMN_QUADS

const OUT_PITCH: u32 = 17u;
const COLUMN_PITCH: u32 = 33u;
const OUT_STAGE: u32 = 136u; // STAGE * OUT_PITCH
const COLUMN_STAGE: u32 = 264u; // STAGE * COLUMN_PITCH
var<workgroup> staged_grads: array<vec4<f32>, 272>; // two stages
var<workgroup> staged_patch: array<vec4<f32>, 528>;

override NUM_TAPS: u32 = KERNEL_H * KERNEL_W;

fn in_quads() -> u32 {
    return (params.in_channels + 3u) / 4u;
}

// Four columns: one tap of four input channels, as many of them as there are.
struct Columns {
    channel: u32,
    channels: u32, // from this one on; 0 where there is no such column
    tap: u32,
}

fn columns_of(quad: u32) -> Columns {
    let tap = quad / in_quads();
    let channel = quad % in_quads() * 4u;
    return Columns(channel, select(0u, params.in_channels - channel, tap < NUM_TAPS), tap);
}

// Eight pixels of a row of the output, which is counted through all images.
struct Pixels {
    row: u32,
    x: u32,
}

fn after(pixels: Pixels) -> Pixels {
    let is_last = pixels.x + STAGE >= params.out_w;
    return Pixels(pixels.row + select(0u, 1u, is_last), select(pixels.x + STAGE, 0u, is_last));
}

// Of four output channels from o on the gradient by a pixel.
fn grads_at(row: u32, x: u32, last: u32, o: u32) -> vec4<f32> {
    let plane = params.out_h * params.out_w;
    let at = ((row / params.out_h * params.out_channels + o) * params.out_h + row % params.out_h) * params.out_w + x;
    let is_inside = (row < last) & (x < params.out_w);
    let is_there = vec4<bool>(is_inside) & (o + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.out_channels));
    let index = select(vec4<u32>(), at + plane * vec4<u32>(0u, 1u, 2u, 3u), is_there);
    let loaded = vec4<f32>(grad_output[index.x], grad_output[index.y], grad_output[index.z], grad_output[index.w]);
    return select(vec4<f32>(), loaded, is_there);
}

// What lies under a pixel in four columns.
fn patch_at(row: u32, x: u32, last: u32, columns: Columns) -> vec4<f32> {
    let plane = params.in_h * params.in_w;
    // Above and left of the image these wrap around and are large.
    let y = row % params.out_h * STRIDE_H + columns.tap / KERNEL_W * DILATION_H - PADDING_H;
    let u = x * STRIDE_W + columns.tap % KERNEL_W * DILATION_W - PADDING_W;
    let at = ((row / params.out_h * params.in_channels + columns.channel) * params.in_h + y) * params.in_w + u;
    let is_inside = (row < last) & (x < params.out_w) & (y < params.in_h) & (u < params.in_w);
    let is_there = vec4<bool>(is_inside) & (vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(columns.channels));
    let index = select(vec4<u32>(), at + plane * vec4<u32>(0u, 1u, 2u, 3u), is_there);
    let loaded = vec4<f32>(input[index.x], input[index.y], input[index.z], input[index.w]);
    return select(vec4<f32>(), loaded, is_there);
}

// Where a workgroup's results are, and what a thread brings of a stage.
struct Share {
    last: u32, // the row after the slice's last
    o: u32,
    low: Columns,
    high: Columns,
}

struct Brought {
    grads: vec4<f32>,
    low: vec4<f32>,
    high: vec4<f32>,
}

fn brought(share: Share, pixels: Pixels, lane: u32) -> Brought {
    let x = pixels.x + lane % STAGE;
    return Brought(
        grads_at(pixels.row, x, share.last, share.o),
        patch_at(pixels.row, x, share.last, share.low),
        patch_at(pixels.row, x, share.last, share.high),
    );
}

fn put(all: Brought, half: u32, lane: u32) {
    let pixel = lane % STAGE;
    let quad = lane / STAGE;
    staged_grads[half * OUT_STAGE + pixel * OUT_PITCH + quad] = all.grads;
    staged_patch[half * COLUMN_STAGE + pixel * COLUMN_PITCH + quad] = all.low;
    staged_patch[half * COLUMN_STAGE + pixel * COLUMN_PITCH + quad + COLUMN_QUADS / 2u] = all.high;
}

// The products of one pixel.
fn add_pixel(left: ptr<function, RegisterTile>, right: ptr<function, RegisterTile>, grads: u32, columns: u32) {
    let low = staged_grads[grads];
    let high = staged_grads[grads + OUT_QUADS / 2u];
    add_outer(left, low, high, staged_patch[columns]);
    add_outer(right, low, high, staged_patch[columns + COLUMN_QUADS / 2u]);
}

fn add_stage(left: ptr<function, RegisterTile>, right: ptr<function, RegisterTile>, grads: u32, columns: u32) {
    add_pixel(left, right, grads, columns);
    add_pixel(left, right, grads + OUT_PITCH, columns + COLUMN_PITCH);
    add_pixel(left, right, grads + 2u * OUT_PITCH, columns + 2u * COLUMN_PITCH);
    add_pixel(left, right, grads + 3u * OUT_PITCH, columns + 3u * COLUMN_PITCH);
    add_pixel(left, right, grads + 4u * OUT_PITCH, columns + 4u * COLUMN_PITCH);
    add_pixel(left, right, grads + 5u * OUT_PITCH, columns + 5u * COLUMN_PITCH);
    add_pixel(left, right, grads + 6u * OUT_PITCH, columns + 6u * COLUMN_PITCH);
    add_pixel(left, right, grads + 7u * OUT_PITCH, columns + 7u * COLUMN_PITCH);
}

fn num_weights() -> u32 {
    return params.out_channels * params.in_channels * NUM_TAPS;
}

// Four columns of an output channel of the slice that begins at `slice_start`.
fn store_columns(slice_start: u32, o: u32, columns: Columns, sums: vec4<f32>) {
    if o < params.out_channels {
        let at = slice_start + (o * params.in_channels + columns.channel) * NUM_TAPS + columns.tap;
        if columns.channels > 0u { partials[at] = sums.x; }
        if columns.channels > 1u { partials[at + NUM_TAPS] = sums.y; }
        if columns.channels > 2u { partials[at + 2u * NUM_TAPS] = sums.z; }
        if columns.channels > 3u { partials[at + 3u * NUM_TAPS] = sums.w; }
    }
}

// A thread's output channels: four from o on, and four from the middle of the tile.
fn store(slice_start: u32, o: u32, columns: Columns, tile: RegisterTile) {
    store_columns(slice_start, o, columns, tile.row_0);
    store_columns(slice_start, o + 1u, columns, tile.row_1);
    store_columns(slice_start, o + 2u, columns, tile.row_2);
    store_columns(slice_start, o + 3u, columns, tile.row_3);
    store_columns(slice_start, o + TILE_OUT / 2u, columns, tile.row_4);
    store_columns(slice_start, o + TILE_OUT / 2u + 1u, columns, tile.row_5);
    store_columns(slice_start, o + TILE_OUT / 2u + 2u, columns, tile.row_6);
    store_columns(slice_start, o + TILE_OUT / 2u + 3u, columns, tile.row_7);
}

@compute @workgroup_size(THREADS)
fn gemm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup.x + workgroup.y * grid.x;
    let column_tiles = (NUM_TAPS * in_quads() + COLUMN_QUADS - 1u) / COLUMN_QUADS;
    let out_tiles = (params.out_channels + TILE_OUT - 1u) / TILE_OUT;
    let first_quad = unit % column_tiles * COLUMN_QUADS;
    let first_out = unit / column_tiles % out_tiles * TILE_OUT;
    let slice = unit / column_tiles / out_tiles;
    let num_rows = params.batch * params.out_h;
    // A grid folded to two dimensions can have a few workgroups too many; they have no rows.
    let first = min(slice * params.rows_per_slice, num_rows);
    let last = min((slice + 1u) * params.rows_per_slice, num_rows);
    let own_quad = first_quad + lane / STAGE;
    let share =
        Share(last, first_out + lane / STAGE * 4u, columns_of(own_quad), columns_of(own_quad + COLUMN_QUADS / 2u));
    let tx = lane / 32u % 2u * 8u + lane % 8u;
    let ty = lane / 64u * 4u + lane / 8u % 4u;
    let num_stages = (last - first) * ((params.out_w + STAGE - 1u) / STAGE);
    var left = RegisterTile();
    var right = RegisterTile();
    // What is brought after the last stage is 0.
    var pixels = Pixels(first, 0u);
    let begin = brought(share, pixels, lane);
    var bias_sums = begin.grads;
    put(begin, 0u, lane);
    workgroupBarrier();
    for (var stage = 0u; stage < num_stages; stage += 1u) {
        pixels = after(pixels);
        let second = brought(share, pixels, lane);
        bias_sums += second.grads;
        add_stage(&left, &right, ty, tx);
        put(second, 1u, lane);
        workgroupBarrier();
        stage += 1u;
        if stage >= num_stages {
            break;
        }
        pixels = after(pixels);
        let next = brought(share, pixels, lane);
        bias_sums += next.grads;
        add_stage(&left, &right, OUT_STAGE + ty, COLUMN_STAGE + tx);
        put(next, 0u, lane);
        workgroupBarrier();
    }
    if slice * params.rows_per_slice < num_rows {
        let slice_start = slice * (num_weights() + params.out_channels);
        store(slice_start, first_out + 4u * ty, columns_of(first_quad + tx), left);
        store(slice_start, first_out + 4u * ty, columns_of(first_quad + tx + COLUMN_QUADS / 2u), right);
    }
    // The sums of a stage's eight pixels.
    staged_patch[lane] = bias_sums;
    workgroupBarrier();
    if lane < TILE_OUT && first_quad == 0u && first_out + lane < params.out_channels && first < last {
        var sum = 0.0;
        for (var pixel = 0u; pixel < STAGE; pixel += 1u) {
            sum += staged_patch[lane / 4u * STAGE + pixel][lane % 4u];
        }
        partials[slice * (num_weights() + params.out_channels) + num_weights() + first_out + lane] = sum;
    }
}
