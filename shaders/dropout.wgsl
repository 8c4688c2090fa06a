// Dropout: y[i] = x[i] · scale where a random word falls below `keep_below`, else x[i] · 0. The word of element i is word
// i mod 4 of Philox at counter (i / 4, layer, step, 0), so the backward draws the mask again: it is the same kernel.
//
//   x, y  (num_elems)
//   step  one word, a new one in every step
//
// One invocation computes the four elements of one counter.

struct Params {
    num_elems: u32,
    key_0: u32,
    key_1: u32,
    layer: u32,
    keep_below: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<uniform> step: u32;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override WG: u32 = 64;

const WORDS: u32 = 4;

fn store(index: u32, word: u32) {
    if index < params.num_elems {
        // A product in either case: an element that is not finite is not hidden by being dropped.
        y[index] = x[index] * select(0.0, params.scale, word < params.keep_below);
    }
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = flat_index(id, groups.x * WG);
    let first = block * WORDS;
    if first >= params.num_elems {
        return;
    }
    let words = philox4x32(vec4<u32>(block, params.layer, step, DROPOUT_DOMAIN), vec2<u32>(params.key_0, params.key_1));
    store(first, words.x);
    store(first + 1u, words.y);
    store(first + 2u, words.z);
    store(first + WORDS - 1u, words.w);
}
