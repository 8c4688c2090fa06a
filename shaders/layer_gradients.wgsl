// The gradients by weight and bias of up to three fully connected layers at once:
//
//   grad_weight_p[m, n] = sum over rows k of d_p[k, m] * h_p[k, n];  grad_bias_p[m] = sum over k of d_p[k, m]
//
// chain          f32 (rows, chain_width); d_p are columns of it from d_starts[p] on
// x              f32 (rows, x_width); h_p are columns of the chain from h_starts[p] on, or all of x where that is NONE
// grad_weight_p  f32 (heights[p], widths[p]); grad_bias_p f32 (heights[p])
//
// A workgroup computes 16 x 32 elements of a weight's gradient, a thread 2 x 4 of them, and the leftmost of a row of
// workgroups the bias's. It copies what it needs of K_STEP rows into workgroup memory at a time. Workgroups are numbered
// column fastest, then row, then layer. Sums have one accumulator, over rows in order.

struct Params {
    heights: vec4<u32>,
    widths: vec4<u32>,
    d_starts: vec4<u32>,
    h_starts: vec4<u32>,
    rows: u32,
    num_layers: u32,
    chain_width: u32,
    x_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> chain: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_weight_0: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad_bias_0: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_weight_1: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_bias_1: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad_weight_2: array<f32>;
@group(0) @binding(8) var<storage, read_write> grad_bias_2: array<f32>;

const NONE: u32 = 0xffffffffu;
const TILE_M: u32 = 16u;
const TILE_N: u32 = 32u;
const K_STEP: u32 = 64u;
const THREADS: u32 = 64u;
const STAGED_D: u32 = 1024u; // K_STEP * TILE_M
const STAGED_H: u32 = 2048u; // K_STEP * TILE_N

// Which layers have a bias, a bit each.
override BIASES: u32 = 7u;

var<workgroup> staged_d: array<f32, STAGED_D>;
var<workgroup> staged_h: array<f32, STAGED_H>;

// What a workgroup works on.
struct Tile {
    layer: u32,
    m: u32,
    n: u32,
    is_real: bool,
}

fn tiles_n(layer: u32) -> u32 {
    return (params.widths[layer] + TILE_N - 1u) / TILE_N;
}

fn tile_position(unit: u32) -> Tile {
    var rest = unit;
    for (var layer = 0u; layer < params.num_layers; layer += 1u) {
        let count = tiles_n(layer) * ((params.heights[layer] + TILE_M - 1u) / TILE_M);
        if rest < count {
            return Tile(layer, rest / tiles_n(layer) * TILE_M, rest % tiles_n(layer) * TILE_N, true);
        }
        rest -= count;
    }
    return Tile(0u, 0u, 0u, false);
}

// Element `slot` of K_STEP rows of the tile's d, and 0 beyond the last row; columns past the end are those of others, and
// what they add is not stored.
fn d_at(tile: Tile, first: u32, slot: u32) -> f32 {
    let k = first + slot / TILE_M;
    let m = min(tile.m + slot % TILE_M, params.heights[tile.layer] - 1u);
    let is_there = k < params.rows;
    return select(0.0, chain[select(0u, k * params.chain_width + params.d_starts[tile.layer] + m, is_there)], is_there);
}

fn h_at(tile: Tile, first: u32, slot: u32) -> f32 {
    let k = first + slot / TILE_N;
    let n = min(tile.n + slot % TILE_N, params.widths[tile.layer] - 1u);
    let is_there = k < params.rows;
    let start = params.h_starts[tile.layer];
    if start == NONE {
        return select(0.0, x[select(0u, k * params.x_width + n, is_there)], is_there);
    }
    return select(0.0, chain[select(0u, k * params.chain_width + start + n, is_there)], is_there);
}

// Eight loads are on their way before the first is stored.
fn stage(tile: Tile, first: u32, lane: u32) {
    for (var slot = lane; slot < STAGED_D; slot += 8u * THREADS) {
        let v_0 = d_at(tile, first, slot);
        let v_1 = d_at(tile, first, slot + THREADS);
        let v_2 = d_at(tile, first, slot + 2u * THREADS);
        let v_3 = d_at(tile, first, slot + 3u * THREADS);
        let v_4 = d_at(tile, first, slot + 4u * THREADS);
        let v_5 = d_at(tile, first, slot + 5u * THREADS);
        let v_6 = d_at(tile, first, slot + 6u * THREADS);
        let v_7 = d_at(tile, first, slot + 7u * THREADS);
        staged_d[slot] = v_0;
        staged_d[slot + THREADS] = v_1;
        staged_d[slot + 2u * THREADS] = v_2;
        staged_d[slot + 3u * THREADS] = v_3;
        staged_d[slot + 4u * THREADS] = v_4;
        staged_d[slot + 5u * THREADS] = v_5;
        staged_d[slot + 6u * THREADS] = v_6;
        staged_d[slot + 7u * THREADS] = v_7;
    }
    for (var slot = lane; slot < STAGED_H; slot += 8u * THREADS) {
        let v_0 = h_at(tile, first, slot);
        let v_1 = h_at(tile, first, slot + THREADS);
        let v_2 = h_at(tile, first, slot + 2u * THREADS);
        let v_3 = h_at(tile, first, slot + 3u * THREADS);
        let v_4 = h_at(tile, first, slot + 4u * THREADS);
        let v_5 = h_at(tile, first, slot + 5u * THREADS);
        let v_6 = h_at(tile, first, slot + 6u * THREADS);
        let v_7 = h_at(tile, first, slot + 7u * THREADS);
        staged_h[slot] = v_0;
        staged_h[slot + THREADS] = v_1;
        staged_h[slot + 2u * THREADS] = v_2;
        staged_h[slot + 3u * THREADS] = v_3;
        staged_h[slot + 4u * THREADS] = v_4;
        staged_h[slot + 5u * THREADS] = v_5;
        staged_h[slot + 6u * THREADS] = v_6;
        staged_h[slot + 7u * THREADS] = v_7;
    }
}

fn store_weight(layer: u32, index: u32, value: f32) {
    switch layer {
        case 0u: { grad_weight_0[index] = value; }
        case 1u: { grad_weight_1[index] = value; }
        default: { grad_weight_2[index] = value; }
    }
}

fn store_bias(layer: u32, index: u32, value: f32) {
    switch layer {
        case 0u: { grad_bias_0[index] = value; }
        case 1u: { grad_bias_1[index] = value; }
        default: { grad_bias_2[index] = value; }
    }
}

fn store_row(tile: Tile, m: u32, n: u32, sums: vec4<f32>) {
    let width = params.widths[tile.layer];
    if tile.is_real && m < params.heights[tile.layer] {
        let index = m * width + n;
        if n < width { store_weight(tile.layer, index, sums.x); }
        if n + 1u < width { store_weight(tile.layer, index + 1u, sums.y); }
        if n + 2u < width { store_weight(tile.layer, index + 2u, sums.z); }
        if n + 3u < width { store_weight(tile.layer, index + 3u, sums.w); }
    }
}

@compute @workgroup_size(THREADS)
fn layers(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    // Neighbouring threads have neighbouring columns.
    let n = lane % 8u * 4u;
    let m = lane / 8u * 2u;
    var upper = vec4<f32>();
    var lower = vec4<f32>();
    var upper_bias = 0.0;
    var lower_bias = 0.0;
    for (var first = 0u; first < params.rows; first += K_STEP) {
        workgroupBarrier();
        stage(tile, first, lane);
        workgroupBarrier();
        let count = min(K_STEP, params.rows - first);
        for (var k = 0u; k < count; k += 1u) {
            let at = k * TILE_N + n;
            let h = vec4<f32>(staged_h[at], staged_h[at + 1u], staged_h[at + 2u], staged_h[at + 3u]);
            let d_upper = staged_d[k * TILE_M + m];
            let d_lower = staged_d[k * TILE_M + m + 1u];
            upper += d_upper * h;
            lower += d_lower * h;
            upper_bias += d_upper;
            lower_bias += d_lower;
        }
    }
    store_row(tile, tile.m + m, tile.n + n, upper);
    store_row(tile, tile.m + m + 1u, tile.n + n, lower);
    let has_bias = ((BIASES >> tile.layer) & 1u) == 1u;
    if tile.is_real && has_bias && tile.n == 0u && n == 0u {
        let height = params.heights[tile.layer];
        if tile.m + m < height { store_bias(tile.layer, tile.m + m, upper_bias); }
        if tile.m + m + 1u < height { store_bias(tile.layer, tile.m + m + 1u, lower_bias); }
    }
}
