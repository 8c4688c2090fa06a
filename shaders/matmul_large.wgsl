// Large matrix products with fused bias and activation on real GPUs: tiles of the operands lie in workgroup memory, and a
// thread keeps 8 x 8 outputs in registers. What is computed, and its operands: lib/matmul.wgsl, but a is (K, M) and b (K, N),
// as TRANS_A = 1 and TRANS_B = 0 have them: turning an operand around first costs less than doing so in the loop, which
// then has no register to spare. Sums run over rising k, as in every kernel of matmul.wgsl.
//
//   large   128 x 128 outputs a workgroup of 256 threads, 8 of K at a time: the next 8 are on their way while these are
//           multiplied, and go into the other half of workgroup memory. No test in the loop: K has to be a multiple of 8, M,
//           N and the batch strides of 4
//   turn    16 elements a thread: a f32 (batch, M, K) to out f32 (batch, K, M), both sizes multiples of 4
//
// A thread owns rows 4 * ty to 4 * ty + 3 and as many from the middle of the tile on, and columns likewise; 32 neighbours
// are 8 x 4 of them, so that they read few places of workgroup memory at once. Either half of workgroup memory has a loop
// body of its own: with places that are constants, NVIDIA's compiler makes the loop a tenth faster.
//
// Needs lib/activation.wgsl, lib/matmul.wgsl, lib/register_tile.wgsl and lib/matmul_quads.wgsl.

const EDGE: u32 = 128u;
const QUADS: u32 = 32u; // EDGE / 4
const LARGE_THREADS: u32 = 256u;
const STAGE_K: u32 = 8u;
const STAGE: u32 = 256u; // STAGE_K x QUADS
const STAGES: u32 = 512u; // two of them

var<workgroup> staged_a: array<vec4<f32>, STAGES>;
var<workgroup> staged_b: array<vec4<f32>, STAGES>;

// The products of one k.
fn add_k(left: ptr<function, RegisterTile>, right: ptr<function, RegisterTile>, a_first: u32, b_first: u32) {
    let low = staged_a[a_first];
    let high = staged_a[a_first + QUADS / 2u];
    add_outer(left, low, high, staged_b[b_first]);
    add_outer(right, low, high, staged_b[b_first + QUADS / 2u]);
}

fn add_stage(left: ptr<function, RegisterTile>, right: ptr<function, RegisterTile>, a_first: u32, b_first: u32) {
    add_k(left, right, a_first, b_first);
    add_k(left, right, a_first + QUADS, b_first + QUADS);
    add_k(left, right, a_first + 2u * QUADS, b_first + 2u * QUADS);
    add_k(left, right, a_first + 3u * QUADS, b_first + 3u * QUADS);
    add_k(left, right, a_first + 4u * QUADS, b_first + 4u * QUADS);
    add_k(left, right, a_first + 5u * QUADS, b_first + 5u * QUADS);
    add_k(left, right, a_first + 6u * QUADS, b_first + 6u * QUADS);
    add_k(left, right, a_first + 7u * QUADS, b_first + 7u * QUADS);
}

@compute @workgroup_size(LARGE_THREADS)
fn large(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let at = tile_position(workgroup.x + workgroup.y * grid.x, EDGE, EDGE);
    let tx = local_index / 32u % 2u * 8u + local_index % 8u;
    let ty = local_index / 64u * 4u + local_index / 8u % 4u;
    // What this thread brings of each stage. What lies beyond the edges is read from the last rows instead, and is not
    // stored.
    let quad = local_index % QUADS * 4u;
    let own_k = local_index / QUADS;
    let a_step = params.m / 4u;
    let b_step = params.n / 4u;
    let own_a = (at.batch * params.a_batch_stride + min(at.m + quad, params.m - 4u)) / 4u + own_k * a_step;
    let own_b = (at.batch * params.b_batch_stride + min(at.n + quad, params.n - 4u)) / 4u + own_k * b_step;
    // Beyond the end of k, after the last stage, it is the last one again, which nothing uses.
    let last = params.k - STAGE_K;
    var left = RegisterTile();
    var right = RegisterTile();
    staged_a[local_index] = a_vec4[own_a];
    staged_b[local_index] = b_vec4[own_b];
    workgroupBarrier();
    for (var k = 0u; k < params.k; k += STAGE_K) {
        let second = min(k + STAGE_K, last);
        let second_a = a_vec4[own_a + second * a_step];
        let second_b = b_vec4[own_b + second * b_step];
        add_stage(&left, &right, ty, tx);
        staged_a[STAGE + local_index] = second_a;
        staged_b[STAGE + local_index] = second_b;
        workgroupBarrier();
        k += STAGE_K;
        if k >= params.k {
            break;
        }
        let first = min(k + STAGE_K, last);
        let first_a = a_vec4[own_a + first * a_step];
        let first_b = b_vec4[own_b + first * b_step];
        add_stage(&left, &right, STAGE + ty, STAGE + tx);
        staged_a[local_index] = first_a;
        staged_b[local_index] = first_b;
        workgroupBarrier();
    }
    let upper = at.m + ty * 4u;
    store_quads(at, upper, upper + EDGE / 2u, at.n + tx * 4u, left);
    store_quads(at, upper, upper + EDGE / 2u, at.n + EDGE / 2u + tx * 4u, right);
}

// ---- turn

const TURN_EDGE: u32 = 32u;
const TURN_THREADS: u32 = 64u;

@compute @workgroup_size(TURN_THREADS)
fn turn(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let tiles_k = (params.k + TURN_EDGE - 1u) / TURN_EDGE;
    let tiles_m = (params.m + TURN_EDGE - 1u) / TURN_EDGE;
    let tile = workgroup.x + workgroup.y * grid.x;
    let batch = tile / tiles_k / tiles_m;
    let k = tile % tiles_k * TURN_EDGE + local_index % 8u * 4u;
    let m = tile / tiles_k % tiles_m * TURN_EDGE + local_index / 8u * 4u;
    if batch < params.batch && k < params.k && m < params.m {
        let base = batch * params.m * params.k;
        let source = (base + m * params.k + k) / 4u;
        let row = params.k / 4u;
        let turned = transpose(mat4x4<f32>(a_vec4[source], a_vec4[source + row], a_vec4[source + 2u * row], a_vec4[source + 3u * row]));
        let to = (base + k * params.m + m) / 4u;
        let column = params.m / 4u;
        out_vec4[to] = turned[0];
        out_vec4[to + column] = turned[1];
        out_vec4[to + 2u * column] = turned[2];
        out_vec4[to + 3u * column] = turned[3];
    }
}
