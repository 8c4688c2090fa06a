// Operands and result of matrix products whose rows are whole vec4s, and how the 8 x 4 sums of a RegisterTile are stored.
// Needs activation.wgsl, register_tile.wgsl and matmul.wgsl.

@group(0) @binding(1) var<storage, read> a_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b_vec4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out_vec4: array<vec4<f32>>;

fn store_quad(at: TilePosition, m: u32, n: u32, sums: vec4<f32>) {
    if at.is_real && m < params.m && n < params.n {
        out_vec4[((at.batch * params.m + m) * params.n + n) / 4u] = activate4(sums);
    }
}

// With the bias: rows 0 to 3 from `upper` on, 4 to 7 from `lower` on.
fn store_quads(at: TilePosition, upper: u32, lower: u32, n: u32, tile: RegisterTile) {
    let bias4 = bias4_at(n);
    store_quad(at, upper, n, tile.row_0 + bias4);
    store_quad(at, upper + 1u, n, tile.row_1 + bias4);
    store_quad(at, upper + 2u, n, tile.row_2 + bias4);
    store_quad(at, upper + 3u, n, tile.row_3 + bias4);
    store_quad(at, lower, n, tile.row_4 + bias4);
    store_quad(at, lower + 1u, n, tile.row_5 + bias4);
    store_quad(at, lower + 2u, n, tile.row_6 + bias4);
    store_quad(at, lower + 3u, n, tile.row_7 + bias4);
}
