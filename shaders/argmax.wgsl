// Where the largest value lies along an axis: y[o, i] = first k with x[o, k, i] the maximum; a NaN counts as largest.
//
//   x  (num_outer, extent, num_inner)
//   y  (num_outer, num_inner)
//
// One invocation computes one element of y.

struct Params {
    num_outputs: u32,
    extent: u32,
    num_inner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

override WG: u32 = 64;

// A float is a NaN if its bits without the sign are above those of infinity. Comparing it with itself would not do:
// WGSL lets compilers assume that there are none.
const MAGNITUDE_BITS: u32 = 0x7fffffff;
const INFINITY_BITS: u32 = 0x7f800000;

fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & MAGNITUDE_BITS) > INFINITY_BITS;
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_outputs {
        return;
    }
    let base = (index / params.num_inner) * params.extent * params.num_inner + index % params.num_inner;
    var best = x[base];
    var best_at = 0u;
    for (var k = 1u; k < params.extent; k += 1u) {
        let value = x[base + k * params.num_inner];
        if !is_nan(best) && (value > best || is_nan(value)) {
            best = value;
            best_at = k;
        }
    }
    y[index] = best_at;
}
