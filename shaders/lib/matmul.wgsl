// Matrix products: operands, result, and what the kernels of matmul.wgsl and matmul_tiled.wgsl share.
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
// Needs activation.wgsl.

struct Params {
    batch: u32,
    m: u32,
    n: u32,
    k: u32,
    a_batch_stride: u32,
    b_batch_stride: u32,
    slice_k: u32, // of K in a slice, a multiple of 8, where a product is taken in slices
    num_slices: u32,
    // Of `registers`, for which neither transposed operands nor a bias are constants.
    a_row: u32, // from a row of op(a) to the next
    a_column: u32,
    b_row: u32,
    b_column: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// The vec4 view of the same bindings, for operands whose rows are whole vec4s.
@group(0) @binding(1) var<storage, read> a_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b_vec4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out_vec4: array<vec4<f32>>;

override TRANS_A: u32 = 0u;
override TRANS_B: u32 = 0u;
override HAS_BIAS: u32 = 0u;

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

// Stores the four sums, with the bias, of row m from column n on.
fn store_row(at: TilePosition, m: u32, n: u32, sums: vec4<f32>) {
    if at.is_real && m < params.m {
        let value = activate4(sums);
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
