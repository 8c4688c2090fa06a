// Batched matrix products with fused bias and activation on real GPUs: tiles of the operands lie in workgroup memory, and a
// thread keeps 8 x 8 outputs in registers. What is computed, and its operands: lib/matmul.wgsl. Sums run over rising k, as
// in every kernel of matmul.wgsl.
//
//   staged    4 QUADS x 4 QUADS outputs a workgroup of THREADS = QUADS * QUADS / 4 threads, 8 of K at a time: the next 8
//             are on their way while these are multiplied, and go into the other half of workgroup memory, so that they
//             cost one barrier. No test in the loop: K has to be a multiple of 8; N, the batch strides (and M when
//             TRANS_A = 1) of 4. Where K is summed in slices, out f32 (slice, batch, M, N), without bias and activation,
//             for matmul_guarded.wgsl's add_slices; tiles of a slice are numbered one after the other
//
// A thread owns rows 4 * ty to 4 * ty + 3 and as many from the middle of the tile on, and columns likewise: neighbours then
// read neighbouring quads of workgroup memory. benches/gpu/registers.py shows what a compiler makes of the loop: it is to
// stay within 75 instructions for 64 multiply-adds.
//
// Needs lib/activation.wgsl, lib/register_tile.wgsl, lib/matmul.wgsl and lib/matmul_quads.wgsl.

override QUADS: u32 = 16u; // 16 or 32
override THREADS: u32 = 64u;
override STAGED: u32 = 16u * QUADS; // two stages
override SECOND: u32 = 8u * QUADS - THREADS; // 0 where a thread brings one vec4 of an operand

const STAGE_K: u32 = 8u;

var<workgroup> staged_a: array<vec4<f32>, STAGED>;
var<workgroup> staged_b: array<vec4<f32>, STAGED>;

// Workgroup memory holds vec4s as they lie in memory, four times QUADS of them for each four of k: vec4 i * QUADS + quad is
// that of row (or column) quad at k = i, or where k is the direction that is contiguous, of four of k in row 4 * quad + i.
// These are turned in registers, which costs nothing where a vec4 is four registers.

// The vec4 of a stage that a thread brings, of one operand.
struct Share {
    staged: u32, // its place in workgroup memory
    first: u32, // its place in memory at k = 0
    k: u32, // where it begins within the stage, in steps
    last: u32, // the last step there is
    step: u32, // from one step to the next: one k, or four where k is contiguous
}

// `rows` of the operand, of which the tile begins at `row`. Eight neighbours bring neighbouring quads, the next eight those
// of the other four of k. What lies beyond the edges is read from the last rows instead, and is not stored.
fn share_of(index: u32, base: u32, row: u32, rows: u32, contiguous_k: bool) -> Share {
    let quad = index % 8u + index / 64u * 8u;
    let four = index / 8u % 2u;
    let i = index / 16u % 4u;
    let staged = four * 4u * QUADS + i * QUADS + quad;
    if contiguous_k {
        let own = min(row + quad * 4u + i, rows - 1u);
        return Share(staged, (base + own * params.k) / 4u, four, params.k / 4u - 1u, 1u);
    }
    let own = min(row + quad * 4u, rows - 4u);
    return Share(staged, (base + own) / 4u, four * 4u + i, params.k - 1u, rows / 4u);
}

// Beyond the end of k, after the last stage, it is the last step again, which nothing uses.
fn place_of(share: Share, first_k: u32, contiguous_k: bool) -> u32 {
    let first = select(first_k, first_k / 4u, contiguous_k);
    return share.first + min(first + share.k, share.last) * share.step;
}

fn four_a(first: u32) -> mat4x4<f32> {
    let quads = mat4x4<f32>(staged_a[first], staged_a[first + QUADS], staged_a[first + 2u * QUADS], staged_a[first + 3u * QUADS]);
    if TRANS_A == 1u {
        return quads;
    }
    return transpose(quads);
}

fn four_b(first: u32) -> mat4x4<f32> {
    let quads = mat4x4<f32>(staged_b[first], staged_b[first + QUADS], staged_b[first + 2u * QUADS], staged_b[first + 3u * QUADS]);
    if TRANS_B == 0u {
        return quads;
    }
    return transpose(quads);
}

// The products of four of k.
fn add_four(left: ptr<function, RegisterTile>, right: ptr<function, RegisterTile>, a_first: u32, b_first: u32) {
    let low = four_a(a_first);
    let high = four_a(a_first + QUADS / 2u);
    let left_b = four_b(b_first);
    add_outer(left, low[0], high[0], left_b[0]);
    add_outer(left, low[1], high[1], left_b[1]);
    add_outer(left, low[2], high[2], left_b[2]);
    add_outer(left, low[3], high[3], left_b[3]);
    let right_b = four_b(b_first + QUADS / 2u);
    add_outer(right, low[0], high[0], right_b[0]);
    add_outer(right, low[1], high[1], right_b[1]);
    add_outer(right, low[2], high[2], right_b[2]);
    add_outer(right, low[3], high[3], right_b[3]);
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let edge = 4u * QUADS;
    let tiles = params.batch * ((params.m + edge - 1u) / edge) * ((params.n + edge - 1u) / edge);
    let index = workgroup.x + workgroup.y * grid.x;
    // Surplus workgroups of a folded grid take the last slice again and store nothing.
    let slice = min(index / tiles, params.num_slices - 1u);
    var at = tile_position(index - slice * tiles, edge, edge);
    let tx = local_index % (QUADS / 2u);
    let ty = local_index / (QUADS / 2u);
    let base_a = at.batch * params.a_batch_stride;
    let base_b = at.batch * params.b_batch_stride;
    let a_0 = share_of(local_index, base_a, at.m, params.m, TRANS_A == 0u);
    let b_0 = share_of(local_index, base_b, at.n, params.n, TRANS_B == 1u);
    // Of small tiles a thread brings two vec4s of each operand, of large ones one.
    let a_1 = share_of(local_index + SECOND, base_a, at.m, params.m, TRANS_A == 0u);
    let b_1 = share_of(local_index + SECOND, base_b, at.n, params.n, TRANS_B == 1u);
    var left = RegisterTile();
    var right = RegisterTile();
    var k = slice * params.slice_k;
    let end = min(params.k, k + params.slice_k);
    var half = 0u;
    staged_a[a_0.staged] = a_vec4[place_of(a_0, k, TRANS_A == 0u)];
    staged_b[b_0.staged] = b_vec4[place_of(b_0, k, TRANS_B == 1u)];
    if SECOND > 0u {
        staged_a[a_1.staged] = a_vec4[place_of(a_1, k, TRANS_A == 0u)];
        staged_b[b_1.staged] = b_vec4[place_of(b_1, k, TRANS_B == 1u)];
    }
    workgroupBarrier();
    for (; k < end; k += STAGE_K) {
        let next_a_0 = a_vec4[place_of(a_0, k + STAGE_K, TRANS_A == 0u)];
        let next_b_0 = b_vec4[place_of(b_0, k + STAGE_K, TRANS_B == 1u)];
        let next_a_1 = a_vec4[place_of(a_1, k + STAGE_K, TRANS_A == 0u)];
        let next_b_1 = b_vec4[place_of(b_1, k + STAGE_K, TRANS_B == 1u)];
        add_four(&left, &right, half + ty, half + tx);
        add_four(&left, &right, half + 4u * QUADS + ty, half + 4u * QUADS + tx);
        half = 8u * QUADS - half;
        staged_a[half + a_0.staged] = next_a_0;
        staged_b[half + b_0.staged] = next_b_0;
        if SECOND > 0u {
            staged_a[half + a_1.staged] = next_a_1;
            staged_b[half + b_1.staged] = next_b_1;
        }
        workgroupBarrier();
    }
    // A slice lies where a batch of its own would.
    at.batch += slice * params.batch;
    let upper = at.m + ty * 4u;
    store_quads(at, upper, upper + 2u * QUADS, at.n + tx * 4u, left);
    store_quads(at, upper, upper + 2u * QUADS, at.n + 2u * QUADS + tx * 4u, right);
}
