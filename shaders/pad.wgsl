// Zeros with a tensor placed among them: y at position start_k + i_k·step_k of each axis k is x[i], and 0 elsewhere.
// Steps of 1 pad; others are the gradient of a slice.
//
//   x  (extents)
//   y  (shape)
//
// One invocation computes one element of y.

struct Params {
    shape: array<vec4<u32>, 2>,
    extents: array<vec4<u32>, 2>,
    starts: array<vec4<u32>, 2>,
    steps: array<vec4<u32>, 2>,
    rank: u32,
    num_elems: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override WG: u32 = 64;

// Axes in one vector of a list of them.
const LANES: u32 = 4;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_elems {
        return;
    }
    var rest = index;
    var offset = 0u;
    var stride = 1u;
    var is_inside = true;
    for (var i = params.rank; i > 0u; i -= 1u) {
        let block = (i - 1u) / LANES;
        let lane = (i - 1u) % LANES;
        let position = rest % params.shape[block][lane];
        rest /= params.shape[block][lane];
        let start = params.starts[block][lane];
        let step = params.steps[block][lane];
        let extent = params.extents[block][lane];
        // Wraps where the position lies before the start; that is not inside anyway.
        let own = (position - start) / step;
        is_inside = is_inside && position >= start && (position - start) % step == 0u && own < extent;
        offset += own * stride;
        stride *= extent;
    }
    var value = 0.0;
    if is_inside {
        value = x[offset];
    }
    y[index] = value;
}
