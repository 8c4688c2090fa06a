// Batched matrix products with fused bias and activation on software adapters, and the smallest ones on every device. What
// is computed, and its operands: lib/matmul.wgsl.
//
//   plain          one output a thread, 64 outputs a workgroup: tiny problems and reference
//   registers      8 x 4 outputs a thread, 8 x 32 a workgroup of 8 threads that share rows of a: any shape and, by strides,
//                  any TRANS_A, TRANS_B and HAS_BIAS
//   registers_vec4  the same with vec4 loads and K four at a time: needs K, N, the batch strides (and M when TRANS_A = 1)
//                  to be multiples of 4. TALL = 1: 16 x 4 outputs a thread, 16 x 32 a workgroup. PACKED = 1: b is what
//                  pack_b made of it, and tiles are numbered m fastest, so that a panel stays in a cache
//   pack_b         one vec4 a thread: the panels of 32 columns of op(b), each row of a panel after the other, so that a
//                  panel is read from one end to the other. Rows of b that are a power of two apart share the sets of a
//                  CPU's caches
//
// Needs lib/activation.wgsl, lib/register_tile.wgsl, lib/matmul.wgsl, lib/matmul_scalars.wgsl, lib/matmul_quads.wgsl,
// lib/shared_rows.wgsl and one of lib/share_subgroup.wgsl, lib/share_workgroup.wgsl.

override TALL: u32 = 0u;
override PACKED: u32 = 0u;

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

struct FourRows {
    r_0: vec4<f32>,
    r_1: vec4<f32>,
    r_2: vec4<f32>,
    r_3: vec4<f32>,
}

// Four rows of one tile and, of a tall workgroup, of the one below it. Stores are in a loop over these: a software adapter
// takes as long to compile stores, each of which it makes a loop over the lanes, as it does for all the rest.
fn rows_of(quad: u32, tile: RegisterTile, low: RegisterTile) -> FourRows {
    let upper = FourRows(tile.row_0, tile.row_1, tile.row_2, tile.row_3);
    let lower = FourRows(tile.row_4, tile.row_5, tile.row_6, tile.row_7);
    let rows = selected(upper, lower, quad == 1u);
    if TALL == 0u {
        return rows;
    }
    let low_upper = FourRows(low.row_0, low.row_1, low.row_2, low.row_3);
    let low_lower = FourRows(low.row_4, low.row_5, low.row_6, low.row_7);
    return selected(selected(rows, low_upper, quad == 2u), low_lower, quad == 3u);
}

// Fours of rows that are stored, out of so many rows. A compiler that knew their number would write the loop out.
fn num_quads(at: TilePosition, rows: u32) -> u32 {
    return (min(rows, params.m - at.m) + 3u) / 4u;
}

fn selected(no: FourRows, yes: FourRows, condition: bool) -> FourRows {
    return FourRows(
        select(no.r_0, yes.r_0, condition),
        select(no.r_1, yes.r_1, condition),
        select(no.r_2, yes.r_2, condition),
        select(no.r_3, yes.r_3, condition),
    );
}

const REGISTER_ROWS: u32 = 8u;
const REGISTER_THREADS: u32 = 8u;
const REGISTER_COLUMNS: u32 = 32u; // REGISTER_THREADS x 4
const K_STEP: u32 = 4u;

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

// Elements of op(a) and op(b) by strides, held at the edges as those of lib/matmul.wgsl are.
fn a_at(base: u32, m: u32, k: u32) -> f32 {
    let value = a[base + min(m, params.m - 1u) * params.a_row + min(k, params.k - 1u) * params.a_column];
    return select(0.0, value, k < params.k);
}

fn b_at(base: u32, k: u32, n: u32) -> f32 {
    let value = b[base + min(k, params.k - 1u) * params.b_row + min(n, params.n - 1u) * params.b_column];
    return select(0.0, value, k < params.k);
}

fn b4_at(base: u32, k: u32, n: u32) -> vec4<f32> {
    return vec4<f32>(b_at(base, k, n), b_at(base, k, n + 1u), b_at(base, k, n + 2u), b_at(base, k, n + 3u));
}

fn bias4_or_none(n: u32) -> vec4<f32> {
    let last = (params.n - 1u) * params.has_bias;
    let four = vec4<f32>(bias[min(n, last)], bias[min(n + 1u, last)], bias[min(n + 2u, last)], bias[min(n + 3u, last)]);
    return select(vec4<f32>(), four, params.has_bias == 1u);
}

@compute @workgroup_size(REGISTER_THREADS)
fn registers(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = tile_position(workgroup.x + workgroup.y * grid.x, REGISTER_ROWS, REGISTER_COLUMNS);
    let n = at.n + lane * 4u;
    let m = at.m + lane;
    let base_a = at.batch * params.a_batch_stride;
    let base_b = at.batch * params.b_batch_stride;
    var tile = RegisterTile();
    for (var k = 0u; k < params.k; k += 2u) {
        share(vec4<f32>(a_at(base_a, m, k), a_at(base_a, m, k + 1u), 0.0, 0.0), lane);
        let rows = shared_rows();
        add_outer_x(&tile, rows, b4_at(base_b, k, n));
        add_outer_y(&tile, rows, b4_at(base_b, k + 1u, n));
    }
    let bias4 = bias4_or_none(n);
    for (var quad = 0u; quad < num_quads(at, REGISTER_ROWS); quad += 1u) {
        let rows = rows_of(quad, tile, tile);
        let row = at.m + quad * 4u;
        store_row(at, row, n, rows.r_0 + bias4);
        store_row(at, row + 1u, n, rows.r_1 + bias4);
        store_row(at, row + 2u, n, rows.r_2 + bias4);
        store_row(at, row + 3u, n, rows.r_3 + bias4);
    }
}

fn store_row_vec4(at: TilePosition, m: u32, n: u32, sums: vec4<f32>) {
    if at.is_real && m < params.m && n < params.n {
        out_vec4[((at.batch * params.m + m) * params.n + n) / 4u] = activate4(sums);
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
    let bias4 = bias4_at(n);
    for (var quad = 0u; quad < num_quads(at, REGISTER_ROWS * (1u + TALL)); quad += 1u) {
        let rows = rows_of(quad, tile, low);
        let m = at.m + quad * 4u;
        store_row_vec4(at, m, n, rows.r_0 + bias4);
        store_row_vec4(at, m + 1u, n, rows.r_1 + bias4);
        store_row_vec4(at, m + 2u, n, rows.r_2 + bias4);
        store_row_vec4(at, m + 3u, n, rows.r_3 + bias4);
    }
}
