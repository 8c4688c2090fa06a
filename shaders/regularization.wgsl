// L1 and L2 regularization of weights, as part of the loss and of its gradient.
//
//   y = loss + Σ (l1 · |w| + l2 · w²)
//   grad = grad + l1 · sign(w) + 2 · l2 · w,   sign(0) = 0
//
// weight and grad are packs: tensors side by side at the same offsets, padded to whole vec4s with zeros. loss and y
// have one element; partials holds one sum for each slice of each pack. In slice a workgroup reduces slice_vec4 vec4s,
// in add the only workgroup adds up, in gradient an invocation updates one vec4.
//
// Needs lib/index.wgsl, lib/add_lanes.wgsl and lib/nan4.wgsl.

struct Params {
    num_vec4: u32,
    slice_vec4: u32,
    first_partial: u32,
    num_partials: u32,
    l1: f32,
    l2: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> loss: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad: array<vec4<f32>>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn slice(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup_index(group, groups);
    let first = unit * params.slice_vec4;
    let last = min(first + params.slice_vec4, params.num_vec4);
    var sum = vec4<f32>(0.0);
    for (var index = first + lane; index < last; index += WG) {
        let w = weight[index];
        sum += params.l1 * abs(w) + params.l2 * (w * w);
    }
    add_lanes(lane, dot(sum, vec4<f32>(1.0)));
    // A grid folded to two dimensions can have a few workgroups too many.
    if lane == 0u && first < params.num_vec4 {
        partials[params.first_partial + unit] = lanes[0];
    }
}

@compute @workgroup_size(WG)
fn add(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var index = lane; index < params.num_partials; index += WG) {
        sum += partials[index];
    }
    add_lanes(lane, sum);
    if lane == 0u {
        y[0] = loss[0] + lanes[0];
    }
}

@compute @workgroup_size(WG)
fn gradient(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let w = weight[index];
        grad[index] += params.l1 * sign4(w) + 2.0 * params.l2 * w;
    }
}
