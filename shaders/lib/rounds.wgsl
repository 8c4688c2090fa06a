// How a workgroup copies a chunk into its memory: PATCH quads of what lies under its tile, and FACTOR_QUADS quads that these are
// multiplied by. A thread copies every THREADS-th of them, at most 12 of each.
//
// Needs the types Tile, of a workgroup's place, and Chunk, and for each slot what belongs there:
//
//   fn patch_at(tile: Tile, chunk: Chunk, slot: u32) -> vec4<f32>
//   fn factor_at(tile: Tile, chunk: Chunk, slot: u32) -> vec4<f32>

override PATCH_ROUNDS: u32 = (PATCH + THREADS - 1u) / THREADS;
override FACTOR_ROUNDS: u32 = (FACTOR_QUADS + THREADS - 1u) / THREADS;

// Quads of `under` that something else needs after the last chunk.
override LEAST_UNDER: u32 = 0u;
override UNDER: u32 = max(PATCH, LEAST_UNDER);

var<workgroup> under: array<vec4<f32>, UNDER>;
var<workgroup> factors: array<vec4<f32>, FACTOR_QUADS>;

// What a thread copies of a chunk.
struct Staging {
    p_0: vec4<f32>,
    p_1: vec4<f32>,
    p_2: vec4<f32>,
    p_3: vec4<f32>,
    p_4: vec4<f32>,
    p_5: vec4<f32>,
    p_6: vec4<f32>,
    p_7: vec4<f32>,
    p_8: vec4<f32>,
    p_9: vec4<f32>,
    p_10: vec4<f32>,
    p_11: vec4<f32>,
    f_0: vec4<f32>,
    f_1: vec4<f32>,
    f_2: vec4<f32>,
    f_3: vec4<f32>,
    f_4: vec4<f32>,
    f_5: vec4<f32>,
    f_6: vec4<f32>,
    f_7: vec4<f32>,
    f_8: vec4<f32>,
    f_9: vec4<f32>,
    f_10: vec4<f32>,
    f_11: vec4<f32>,
}

// Loads in one straight line: none waits for another.
fn staging_of(tile: Tile, chunk: Chunk, lane: u32) -> Staging {
    var all = Staging();
    all.p_0 = patch_at(tile, chunk, lane);
    if PATCH_ROUNDS > 1u { all.p_1 = patch_at(tile, chunk, lane + 1u * THREADS); }
    if PATCH_ROUNDS > 2u { all.p_2 = patch_at(tile, chunk, lane + 2u * THREADS); }
    if PATCH_ROUNDS > 3u { all.p_3 = patch_at(tile, chunk, lane + 3u * THREADS); }
    if PATCH_ROUNDS > 4u { all.p_4 = patch_at(tile, chunk, lane + 4u * THREADS); }
    if PATCH_ROUNDS > 5u { all.p_5 = patch_at(tile, chunk, lane + 5u * THREADS); }
    if PATCH_ROUNDS > 6u { all.p_6 = patch_at(tile, chunk, lane + 6u * THREADS); }
    if PATCH_ROUNDS > 7u { all.p_7 = patch_at(tile, chunk, lane + 7u * THREADS); }
    if PATCH_ROUNDS > 8u { all.p_8 = patch_at(tile, chunk, lane + 8u * THREADS); }
    if PATCH_ROUNDS > 9u { all.p_9 = patch_at(tile, chunk, lane + 9u * THREADS); }
    if PATCH_ROUNDS > 10u { all.p_10 = patch_at(tile, chunk, lane + 10u * THREADS); }
    if PATCH_ROUNDS > 11u { all.p_11 = patch_at(tile, chunk, lane + 11u * THREADS); }
    all.f_0 = factor_at(tile, chunk, lane);
    if FACTOR_ROUNDS > 1u { all.f_1 = factor_at(tile, chunk, lane + 1u * THREADS); }
    if FACTOR_ROUNDS > 2u { all.f_2 = factor_at(tile, chunk, lane + 2u * THREADS); }
    if FACTOR_ROUNDS > 3u { all.f_3 = factor_at(tile, chunk, lane + 3u * THREADS); }
    if FACTOR_ROUNDS > 4u { all.f_4 = factor_at(tile, chunk, lane + 4u * THREADS); }
    if FACTOR_ROUNDS > 5u { all.f_5 = factor_at(tile, chunk, lane + 5u * THREADS); }
    if FACTOR_ROUNDS > 6u { all.f_6 = factor_at(tile, chunk, lane + 6u * THREADS); }
    if FACTOR_ROUNDS > 7u { all.f_7 = factor_at(tile, chunk, lane + 7u * THREADS); }
    if FACTOR_ROUNDS > 8u { all.f_8 = factor_at(tile, chunk, lane + 8u * THREADS); }
    if FACTOR_ROUNDS > 9u { all.f_9 = factor_at(tile, chunk, lane + 9u * THREADS); }
    if FACTOR_ROUNDS > 10u { all.f_10 = factor_at(tile, chunk, lane + 10u * THREADS); }
    if FACTOR_ROUNDS > 11u { all.f_11 = factor_at(tile, chunk, lane + 11u * THREADS); }
    return all;
}

fn put_patch(slot: u32, quad: vec4<f32>) {
    if slot < PATCH {
        under[slot] = quad;
    }
}

fn put_factor(slot: u32, quad: vec4<f32>) {
    if slot < FACTOR_QUADS {
        factors[slot] = quad;
    }
}

fn put(all: Staging, lane: u32) {
    put_patch(lane, all.p_0);
    if PATCH_ROUNDS > 1u { put_patch(lane + 1u * THREADS, all.p_1); }
    if PATCH_ROUNDS > 2u { put_patch(lane + 2u * THREADS, all.p_2); }
    if PATCH_ROUNDS > 3u { put_patch(lane + 3u * THREADS, all.p_3); }
    if PATCH_ROUNDS > 4u { put_patch(lane + 4u * THREADS, all.p_4); }
    if PATCH_ROUNDS > 5u { put_patch(lane + 5u * THREADS, all.p_5); }
    if PATCH_ROUNDS > 6u { put_patch(lane + 6u * THREADS, all.p_6); }
    if PATCH_ROUNDS > 7u { put_patch(lane + 7u * THREADS, all.p_7); }
    if PATCH_ROUNDS > 8u { put_patch(lane + 8u * THREADS, all.p_8); }
    if PATCH_ROUNDS > 9u { put_patch(lane + 9u * THREADS, all.p_9); }
    if PATCH_ROUNDS > 10u { put_patch(lane + 10u * THREADS, all.p_10); }
    if PATCH_ROUNDS > 11u { put_patch(lane + 11u * THREADS, all.p_11); }
    put_factor(lane, all.f_0);
    if FACTOR_ROUNDS > 1u { put_factor(lane + 1u * THREADS, all.f_1); }
    if FACTOR_ROUNDS > 2u { put_factor(lane + 2u * THREADS, all.f_2); }
    if FACTOR_ROUNDS > 3u { put_factor(lane + 3u * THREADS, all.f_3); }
    if FACTOR_ROUNDS > 4u { put_factor(lane + 4u * THREADS, all.f_4); }
    if FACTOR_ROUNDS > 5u { put_factor(lane + 5u * THREADS, all.f_5); }
    if FACTOR_ROUNDS > 6u { put_factor(lane + 6u * THREADS, all.f_6); }
    if FACTOR_ROUNDS > 7u { put_factor(lane + 7u * THREADS, all.f_7); }
    if FACTOR_ROUNDS > 8u { put_factor(lane + 8u * THREADS, all.f_8); }
    if FACTOR_ROUNDS > 9u { put_factor(lane + 9u * THREADS, all.f_9); }
    if FACTOR_ROUNDS > 10u { put_factor(lane + 10u * THREADS, all.f_10); }
    if FACTOR_ROUNDS > 11u { put_factor(lane + 11u * THREADS, all.f_11); }
}
