// Batched matrix products of any shape with fused bias and activation on real GPUs: what matmul_tiled.wgsl does, with a test
// for every scalar. What is computed, and its operands: lib/matmul.wgsl. Sums run over rising k, as in every kernel of
// matmul.wgsl.
//
//   guarded   64 x 64 outputs a workgroup of 256 threads, 4 x 4 of them a thread, 16 of K at a time: the next 16 are on their
//             way while these are multiplied, and go into the other half of workgroup memory. Where K is summed in slices,
//             out f32 (slice, batch, M, N), without bias and activation, for add_slices; tiles of a slice are numbered
//             one after the other
//   add_slices
//             one output a thread: adds slices of this kernel or matmul_tiled.wgsl's, a f32 (slice, batch, M, N), in order,
//             then bias and activation
//
// Shapes that come here are often so small that what counts is how soon the operands are there: a thread brings four numbers
// of each, and a multiprocessor has many threads.
//
// Needs lib/activation.wgsl, lib/matmul.wgsl and lib/matmul_scalars.wgsl.

const TILE: u32 = 64u;
const TILE_QUADS: u32 = 16u; // TILE / 4
const TILE_THREADS: u32 = 256u;
const STAGE_K: u32 = 16u;
const STAGE: u32 = 256u; // STAGE_K x TILE_QUADS
const STAGES: u32 = 512u; // two of them, which is all of the workgroup memory that WebGPU promises

var<workgroup> staged_a: array<vec4<f32>, STAGES>;
var<workgroup> staged_b: array<vec4<f32>, STAGES>;

// What a thread brings of an operand, of each stage: four rows (or columns) at one k.
struct Share {
    staged: u32, // its place in workgroup memory
    k: u32, // within the stage
    lines: vec4<u32>, // its places in memory at k = 0
    step: u32, // from one k to the next
}

// `lines` of the operand, rows or columns, of which the tile begins at `line`. Neighbouring threads walk the direction that is
// contiguous in memory. What lies beyond the edge is read from the last line instead, and is not stored.
fn share_of(index: u32, base: u32, line: u32, lines: u32, contiguous_k: bool) -> Share {
    let k = select(index / TILE_QUADS, index % STAGE_K, contiguous_k);
    let quad = select(index % TILE_QUADS, index / STAGE_K, contiguous_k);
    let own = min(vec4(line + quad * 4u) + vec4(0u, 1u, 2u, 3u), vec4(lines - 1u));
    let places = base + own * select(1u, params.k, contiguous_k);
    return Share(k * TILE_QUADS + quad, k, places, select(lines, 1u, contiguous_k));
}

// 0 beyond the end of k.
fn four_of_a(share: Share, first_k: u32) -> vec4<f32> {
    let k = first_k + share.k;
    let at = share.lines + min(k, params.k - 1u) * share.step;
    return select(vec4<f32>(), vec4(a[at.x], a[at.y], a[at.z], a[at.w]), k < params.k);
}

fn four_of_b(share: Share, first_k: u32) -> vec4<f32> {
    let k = first_k + share.k;
    let at = share.lines + min(k, params.k - 1u) * share.step;
    return select(vec4<f32>(), vec4(b[at.x], b[at.y], b[at.z], b[at.w]), k < params.k);
}

@compute @workgroup_size(TILE_THREADS)
fn guarded(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let tiles = params.batch * ((params.m + TILE - 1u) / TILE) * ((params.n + TILE - 1u) / TILE);
    let index = workgroup.x + workgroup.y * grid.x;
    // Surplus workgroups of a folded grid take the last slice again and store nothing.
    let slice = min(index / tiles, params.num_slices - 1u);
    var at = tile_position(index - slice * tiles, TILE, TILE);
    let own_a = share_of(local_index, at.batch * params.a_batch_stride, at.m, params.m, TRANS_A == 0u);
    let own_b = share_of(local_index, at.batch * params.b_batch_stride, at.n, params.n, TRANS_B == 1u);
    let tx = local_index % TILE_QUADS;
    let ty = local_index / TILE_QUADS;
    var row_0 = vec4<f32>();
    var row_1 = vec4<f32>();
    var row_2 = vec4<f32>();
    var row_3 = vec4<f32>();
    var first_k = slice * params.slice_k;
    let end = min(params.k, first_k + params.slice_k);
    var half = 0u;
    staged_a[own_a.staged] = four_of_a(own_a, first_k);
    staged_b[own_b.staged] = four_of_b(own_b, first_k);
    workgroupBarrier();
    for (; first_k < end; first_k += STAGE_K) {
        let next_a = four_of_a(own_a, first_k + STAGE_K);
        let next_b = four_of_b(own_b, first_k + STAGE_K);
        for (var k = 0u; k < STAGE_K; k += 1u) {
            let column = staged_a[half + k * TILE_QUADS + ty];
            let row = staged_b[half + k * TILE_QUADS + tx];
            row_0 += column.x * row;
            row_1 += column.y * row;
            row_2 += column.z * row;
            row_3 += column.w * row;
        }
        half = STAGE - half;
        staged_a[half + own_a.staged] = next_a;
        staged_b[half + own_b.staged] = next_b;
        workgroupBarrier();
    }
    // A slice lies where a batch of its own would.
    at.batch += slice * params.batch;
    let m = at.m + ty * 4u;
    let n = at.n + tx * 4u;
    let bias4 = bias4_at(n);
    store_row(at, m, n, row_0 + bias4);
    store_row(at, m + 1u, n, row_1 + bias4);
    store_row(at, m + 2u, n, row_2 + bias4);
    store_row(at, m + 3u, n, row_3 + bias4);
}

// ---- add_slices

const ADD_THREADS: u32 = 64u;
// Slices that are on their way at once, before the first of them is added.
const ADDED: u32 = 8u;

@compute @workgroup_size(ADD_THREADS)
fn add_slices(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let index = (workgroup.x + workgroup.y * grid.x) * ADD_THREADS + local_index;
    let num_elems = params.batch * params.m * params.n;
    if index < num_elems {
        let last = params.num_slices - 1u;
        var sum = a[index];
        for (var slice = 1u; slice <= last; slice += ADDED) {
            let s_0 = a[index + slice * num_elems];
            let s_1 = a[index + min(slice + 1u, last) * num_elems];
            let s_2 = a[index + min(slice + 2u, last) * num_elems];
            let s_3 = a[index + min(slice + 3u, last) * num_elems];
            let s_4 = a[index + min(slice + 4u, last) * num_elems];
            let s_5 = a[index + min(slice + 5u, last) * num_elems];
            let s_6 = a[index + min(slice + 6u, last) * num_elems];
            let s_7 = a[index + min(slice + 7u, last) * num_elems];
            sum += s_0;
            sum = select(sum, sum + s_1, slice + 1u <= last);
            sum = select(sum, sum + s_2, slice + 2u <= last);
            sum = select(sum, sum + s_3, slice + 3u <= last);
            sum = select(sum, sum + s_4, slice + 4u <= last);
            sum = select(sum, sum + s_5, slice + 5u <= last);
            sum = select(sum, sum + s_6, slice + 6u <= last);
            sum = select(sum, sum + s_7, slice + 7u <= last);
        }
        out[index] = activate(sum + bias_at(index % params.n));
    }
}
