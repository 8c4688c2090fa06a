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
// a, b and out are declared in matmul_scalars.wgsl and, as vec4s, in matmul_quads.wgsl: a module has what it uses.
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
@group(0) @binding(3) var<storage, read> bias: array<f32>;

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
