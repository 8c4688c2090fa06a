// Batched matrix product with fused bias and activation.
//
//   out[b, m, n] = activate(sum over k of op(a)[b, m, k] * op(b)[b, k, n] + bias[n])
//
// a     f32, row-major (M, K), or (K, M) when TRANS_A = 1; batch i starts at i * a_batch_stride (0 repeats one matrix)
// b     f32, row-major (K, N), or (N, K) when TRANS_B = 1; batch i starts at i * b_batch_stride
// bias  f32 (N); not read when HAS_BIAS = 0, any buffer may then be bound
// out   f32 (batch, M, N), dense
//
// Tiles are numbered n fastest, then m, then batch; the grid is that count folded to two dimensions.
//
//   plain          one output a thread, 64 outputs a workgroup: tiny problems and reference
//   registers      8 x 4 outputs a thread, 8 x 32 a workgroup of 8 threads that share rows of a: any shape
//   registers_vec4  the same with vec4 loads: needs K, N, the batch strides (and M when TRANS_A = 1)
//                  to be multiples of 4. TALL = 1: 16 x 4 outputs a thread, 16 x 32 a workgroup. PACKED = 1: b is what
//                  pack_b made of it, and tiles are numbered m fastest, so that a panel stays in a cache
//   pack_b         one vec4 a thread: the panels of 32 columns of op(b), each row of a panel after the other, so that a
//                  panel is read from one end to the other. Rows of b that are a power of two apart share the sets of a
//                  CPU's caches
//   tiled          8 x 8 outputs a thread, 64 x 64 a workgroup through workgroup memory: real GPUs, any shape
//
// Needs lib/activation.wgsl, lib/register_tile.wgsl, lib/shared_rows.wgsl and one of lib/share_subgroup.wgsl,
// lib/share_workgroup.wgsl.

struct Params {
    batch: u32,
    m: u32,
    n: u32,
    k: u32,
    a_batch_stride: u32,
    b_batch_stride: u32,
    pad_0: u32,
    pad_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// The vec4 view of the same bindings, used by registers_vec4 alone.
@group(0) @binding(1) var<storage, read> a_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b_vec4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out_vec4: array<vec4<f32>>;

override TRANS_A: u32 = 0u;
override TRANS_B: u32 = 0u;
override HAS_BIAS: u32 = 0u;
override TALL: u32 = 0u;
override PACKED: u32 = 0u;

fn bias_at(n: u32) -> f32 {
    if HAS_BIAS == 0u {
        return 0.0;
    }
    return bias[min(n, params.n - 1u)];
}

fn bias4_at(n: u32) -> vec4<f32> {
    return vec4<f32>(bias_at(n), bias_at(n + 1u), bias_at(n + 2u), bias_at(n + 3u));
}

// Elements of op(a) and op(b). Beyond the end of k they are 0, so that ragged tiles add nothing; beyond the last row or
// column they are those of the last, since what they add is never stored. Clamped and selected instead of branched
// around: a tile loads twenty of these a step, and compilers of software adapters take minutes over as many branches.
fn load_a(base: u32, m: u32, k: u32) -> f32 {
    let row = min(m, params.m - 1u);
    let column = min(k, params.k - 1u);
    let offset = select(row * params.k + column, column * params.m + row, TRANS_A == 1u);
    return select(0.0, a[base + offset], k < params.k);
}

fn load_b(base: u32, k: u32, n: u32) -> f32 {
    let row = min(k, params.k - 1u);
    let column = min(n, params.n - 1u);
    let offset = select(row * params.n + column, column * params.k + row, TRANS_B == 1u);
    return select(0.0, b[base + offset], k < params.k);
}

// ---- plain

const PLAIN_THREADS: u32 = 64u;

@compute @workgroup_size(PLAIN_THREADS)
fn plain(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let index = (workgroup.x + workgroup.y * grid.x) * PLAIN_THREADS + local_index;
    let n = index % params.n;
    let m = index / params.n % params.m;
    let batch = index / params.n / params.m;
    if batch < params.batch {
        var sum = 0.0;
        for (var k = 0u; k < params.k; k += 1u) {
            sum += load_a(batch * params.a_batch_stride, m, k) * load_b(batch * params.b_batch_stride, k, n);
        }
        out[(batch * params.m + m) * params.n + n] = activate(sum + bias_at(n));
    }
}

// ---- registers, registers_vec4

const REGISTER_ROWS: u32 = 8u;
const REGISTER_THREADS: u32 = 8u;
const REGISTER_COLUMNS: u32 = 32u; // REGISTER_THREADS x 4
const K_STEP: u32 = 4u;

struct TilePosition {
    batch: u32,
    m: u32,
    n: u32,
    is_real: bool, // false in the surplus workgroups of a folded grid, which read the last batch and store nothing
}

fn tile_position(tile: u32, rows: u32, columns: u32) -> TilePosition {
    let tiles_n = (params.n + columns - 1u) / columns;
    let tiles_m = (params.m + rows - 1u) / rows;
    let batch = tile / tiles_n / tiles_m;
    return TilePosition(
        min(batch, params.batch - 1u),
        tile / tiles_n % tiles_m * rows,
        tile % tiles_n * columns,
        batch < params.batch,
    );
}

// Adds K_STEP products, given the four rows of b; thread `lane` has shared four consecutive k of row `lane` of a.
fn add_row_shares(tile: ptr<function, RegisterTile>, b_0: vec4<f32>, b_1: vec4<f32>, b_2: vec4<f32>, b_3: vec4<f32>) {
    let rows = shared_rows();
    add_outer_x(tile, rows, b_0);
    add_outer_y(tile, rows, b_1);
    add_outer_z(tile, rows, b_2);
    add_outer_w(tile, rows, b_3);
}

// The same when thread `lane` has shared four consecutive rows of a at k = lane / 2, the upper four if `lane` is odd.
fn add_column_shares(tile: ptr<function, RegisterTile>, b_0: vec4<f32>, b_1: vec4<f32>, b_2: vec4<f32>, b_3: vec4<f32>) {
    add_outer(tile, shared_from(0u), shared_from(1u), b_0);
    add_outer(tile, shared_from(2u), shared_from(3u), b_1);
    add_outer(tile, shared_from(4u), shared_from(5u), b_2);
    add_outer(tile, shared_from(6u), shared_from(7u), b_3);
}

// Finishes and stores the four sums of row m from column n on.
fn store_row(at: TilePosition, m: u32, n: u32, sums: vec4<f32>) {
    if at.is_real && m < params.m {
        let value = activate4(sums + bias4_at(n));
        let index = (at.batch * params.m + m) * params.n + n;
        if n < params.n { out[index] = value.x; }
        if n + 1u < params.n { out[index + 1u] = value.y; }
        if n + 2u < params.n { out[index + 2u] = value.z; }
        if n + 3u < params.n { out[index + 3u] = value.w; }
    }
}

fn load_b_row(base: u32, k: u32, n: u32) -> vec4<f32> {
    return vec4<f32>(load_b(base, k, n), load_b(base, k, n + 1u), load_b(base, k, n + 2u), load_b(base, k, n + 3u));
}

@compute @workgroup_size(REGISTER_THREADS)
fn registers(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = tile_position(workgroup.x + workgroup.y * grid.x, REGISTER_ROWS, REGISTER_COLUMNS);
    let n = at.n + lane * 4u;
    let base_a = at.batch * params.a_batch_stride;
    let base_b = at.batch * params.b_batch_stride;
    var tile = RegisterTile();
    for (var k = 0u; k < params.k; k += K_STEP) {
        let m = at.m + lane;
        share(vec4<f32>(load_a(base_a, m, k), load_a(base_a, m, k + 1u), load_a(base_a, m, k + 2u), load_a(base_a, m, k + 3u)), lane);
        add_row_shares(
            &tile,
            load_b_row(base_b, k, n),
            load_b_row(base_b, k + 1u, n),
            load_b_row(base_b, k + 2u, n),
            load_b_row(base_b, k + 3u, n),
        );
    }
    store_row(at, at.m, n, tile.row_0);
    store_row(at, at.m + 1u, n, tile.row_1);
    store_row(at, at.m + 2u, n, tile.row_2);
    store_row(at, at.m + 3u, n, tile.row_3);
    store_row(at, at.m + 4u, n, tile.row_4);
    store_row(at, at.m + 5u, n, tile.row_5);
    store_row(at, at.m + 6u, n, tile.row_6);
    store_row(at, at.m + 7u, n, tile.row_7);
}

fn store_row_vec4(at: TilePosition, m: u32, n: u32, sums: vec4<f32>) {
    if at.is_real && m < params.m && n < params.n {
        out_vec4[((at.batch * params.m + m) * params.n + n) / 4u] = activate4(sums + bias4_at(n));
    }
}

// The matrices of b that pack_b packs, each into panels.
fn num_panels() -> u32 {
    return (params.n + REGISTER_COLUMNS - 1u) / REGISTER_COLUMNS;
}

@compute @workgroup_size(PLAIN_THREADS)
fn pack_b(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let index = (workgroup.x + workgroup.y * grid.x) * PLAIN_THREADS + local_index;
    let quad = index % REGISTER_THREADS;
    let k = index / REGISTER_THREADS % params.k;
    let panel = index / REGISTER_THREADS / params.k % num_panels();
    let matrix = index / REGISTER_THREADS / params.k / num_panels();
    let num_matrices = select(params.batch, 1u, params.b_batch_stride == 0u);
    if matrix < num_matrices {
        out_vec4[index] = load_b_row(matrix * params.b_batch_stride, k, panel * REGISTER_COLUMNS + quad * 4u);
    }
}

fn register_position(tile: u32) -> TilePosition {
    let rows = REGISTER_ROWS * (1u + TALL);
    if PACKED == 0u {
        return tile_position(tile, rows, REGISTER_COLUMNS);
    }
    let tiles_m = (params.m + rows - 1u) / rows;
    let batch = tile / tiles_m / num_panels();
    return TilePosition(
        min(batch, params.batch - 1u),
        tile % tiles_m * rows,
        tile / tiles_m % num_panels() * REGISTER_COLUMNS,
        batch < params.batch,
    );
}

// The vec4 of a that this lane shares first, of the eight rows from `m` on.
fn first_share(at: TilePosition, m: u32, lane: u32) -> u32 {
    let base = at.batch * params.a_batch_stride / 4u;
    // Positions past the edge read the last row instead: what they add is never stored.
    if TRANS_A == 1u {
        return base + (lane / 2u * params.m + min(m + lane % 2u * 4u, params.m - 4u)) / 4u;
    }
    return base + min(m + lane, params.m - 1u) * params.k / 4u;
}

fn add_shares(tile: ptr<function, RegisterTile>, b_0: vec4<f32>, b_1: vec4<f32>, b_2: vec4<f32>, b_3: vec4<f32>) {
    if TRANS_A == 1u {
        add_column_shares(tile, b_0, b_1, b_2, b_3);
    } else {
        add_row_shares(tile, b_0, b_1, b_2, b_3);
    }
}

fn store_tile_vec4(at: TilePosition, m: u32, n: u32, tile: RegisterTile) {
    store_row_vec4(at, m, n, tile.row_0);
    store_row_vec4(at, m + 1u, n, tile.row_1);
    store_row_vec4(at, m + 2u, n, tile.row_2);
    store_row_vec4(at, m + 3u, n, tile.row_3);
    store_row_vec4(at, m + 4u, n, tile.row_4);
    store_row_vec4(at, m + 5u, n, tile.row_5);
    store_row_vec4(at, m + 6u, n, tile.row_6);
    store_row_vec4(at, m + 7u, n, tile.row_7);
}

@compute @workgroup_size(REGISTER_THREADS)
fn registers_vec4(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = register_position(workgroup.x + workgroup.y * grid.x);
    let n = at.n + lane * 4u;
    let base_b = at.batch * params.b_batch_stride / 4u;
    // Columns past the edge read the last ones instead: what they add is never stored.
    let safe_n = min(n, params.n - 4u);
    var a_index = first_share(at, at.m, lane);
    var low_index = first_share(at, at.m + REGISTER_ROWS, lane);
    var a_step = K_STEP / 4u;
    if TRANS_A == 1u {
        a_step = params.m;
    }
    var b_index = base_b + safe_n / 4u;
    var b_step = params.n;
    var b_stride = params.n / 4u;
    if PACKED == 1u {
        let matrix = select(at.batch, 0u, params.b_batch_stride == 0u);
        b_index = (matrix * num_panels() + at.n / REGISTER_COLUMNS) * params.k * REGISTER_THREADS + lane;
        b_step = K_STEP * REGISTER_THREADS;
        b_stride = REGISTER_THREADS;
    } else if TRANS_B == 1u {
        b_index = base_b + safe_n * params.k / 4u;
        b_step = K_STEP / 4u;
        b_stride = params.k / 4u;
    }
    var tile = RegisterTile();
    var low = RegisterTile();
    for (var k = 0u; k < params.k; k += K_STEP) {
        var b_0 = b_vec4[b_index];
        var b_1 = b_vec4[b_index + b_stride];
        var b_2 = b_vec4[b_index + 2u * b_stride];
        var b_3 = b_vec4[b_index + 3u * b_stride];
        if TRANS_B == 1u && PACKED == 0u {
            let t = transpose(mat4x4<f32>(b_0, b_1, b_2, b_3));
            b_0 = t[0];
            b_1 = t[1];
            b_2 = t[2];
            b_3 = t[3];
        }
        share(a_vec4[a_index], lane);
        add_shares(&tile, b_0, b_1, b_2, b_3);
        if TALL == 1u {
            share(a_vec4[low_index], lane);
            add_shares(&low, b_0, b_1, b_2, b_3);
        }
        a_index += a_step;
        low_index += a_step;
        b_index += b_step;
    }
    store_tile_vec4(at, at.m, n, tile);
    if TALL == 1u {
        store_tile_vec4(at, at.m + REGISTER_ROWS, n, low);
    }
}

// ---- tiled

const TILE: u32 = 64u;
const TILE_K: u32 = 16u;
const TILE_QUADS: u32 = 16u; // TILE / 4
const TILED_THREADS: u32 = 64u;
const STAGED_QUADS: u32 = 256u; // TILE_K x TILE_QUADS

var<workgroup> staged_a: array<vec4<f32>, STAGED_QUADS>;
var<workgroup> staged_b: array<vec4<f32>, STAGED_QUADS>;

fn stage(at: TilePosition, first_k: u32, local_index: u32) {
    let base_a = at.batch * params.a_batch_stride;
    let base_b = at.batch * params.b_batch_stride;
    for (var slot = local_index; slot < STAGED_QUADS; slot += TILED_THREADS) {
        // Neighbouring threads walk the direction that is contiguous in memory.
        var k = slot / TILE_QUADS;
        var quad = slot % TILE_QUADS;
        if TRANS_A == 0u {
            k = slot % TILE_K;
            quad = slot / TILE_K;
        }
        let m = at.m + quad * 4u;
        let row = first_k + k;
        staged_a[k * TILE_QUADS + quad] = vec4<f32>(
            load_a(base_a, m, row), load_a(base_a, m + 1u, row), load_a(base_a, m + 2u, row), load_a(base_a, m + 3u, row));
    }
    for (var slot = local_index; slot < STAGED_QUADS; slot += TILED_THREADS) {
        var k = slot / TILE_QUADS;
        var quad = slot % TILE_QUADS;
        if TRANS_B == 1u {
            k = slot % TILE_K;
            quad = slot / TILE_K;
        }
        staged_b[k * TILE_QUADS + quad] = load_b_row(base_b, first_k + k, at.n + quad * 4u);
    }
}

// A thread owns rows 4 * ty to 4 * ty + 3 and the same plus 32, and columns likewise: neighbours then read
// neighbouring quads of workgroup memory.
@compute @workgroup_size(TILED_THREADS)
fn tiled(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let at = tile_position(workgroup.x + workgroup.y * grid.x, TILE, TILE);
    let tx = local_index % REGISTER_ROWS;
    let ty = local_index / REGISTER_ROWS;
    var left = RegisterTile();
    var right = RegisterTile();
    for (var first_k = 0u; first_k < params.k; first_k += TILE_K) {
        stage(at, first_k, local_index);
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k += 1u) {
            let row = k * TILE_QUADS;
            let low = staged_a[row + ty];
            let high = staged_a[row + TILE_QUADS / 2u + ty];
            add_outer(&left, low, high, staged_b[row + tx]);
            add_outer(&right, low, high, staged_b[row + TILE_QUADS / 2u + tx]);
        }
        workgroupBarrier();
    }
    store_half(at, ty, at.n + tx * 4u, left);
    store_half(at, ty, at.n + TILE / 2u + tx * 4u, right);
}

fn store_half(at: TilePosition, ty: u32, n: u32, tile: RegisterTile) {
    let upper = at.m + ty * 4u;
    let lower = upper + TILE / 2u;
    store_row(at, upper, n, tile.row_0);
    store_row(at, upper + 1u, n, tile.row_1);
    store_row(at, upper + 2u, n, tile.row_2);
    store_row(at, upper + 3u, n, tile.row_3);
    store_row(at, lower, n, tile.row_4);
    store_row(at, lower + 1u, n, tile.row_5);
    store_row(at, lower + 2u, n, tile.row_6);
    store_row(at, lower + 3u, n, tile.row_7);
}
