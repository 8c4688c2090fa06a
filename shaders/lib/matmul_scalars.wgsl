// Operands and result of matrix products of any shape, number by number. Needs activation.wgsl and matmul.wgsl.

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

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
