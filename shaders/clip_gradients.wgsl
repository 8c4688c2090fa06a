// Limits on gradients, in place (torch.nn.utils.clip_grad_norm_ and clip_grad_value_).
//
//   by norm:  norm = √Σ g² over all parameters,   g = g · min(1, limit / (norm + eps))
//   by value: g = clamp(g, −limit, limit)
//
// grad is a pack: tensors side by side, padded to whole vec4s with zeros. partials holds one sum of squares for each
// slice of each pack; norm (1) is kept for reading. In squares a workgroup reduces a slice of slice_vec4 vec4s of one
// pack, in norm the only workgroup adds up, in scale and limit_values an invocation updates one vec4.
//
// Needs lib/index.wgsl, lib/add_lanes.wgsl and lib/nan4.wgsl.

struct Params {
    num_vec4: u32,
    slice_vec4: u32,
    first_partial: u32,
    num_partials: u32,
    limit: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> grad: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
@group(0) @binding(3) var<storage, read_write> total_norm: array<f32>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let slice = workgroup_index(group, groups);
    let first = slice * params.slice_vec4;
    let last = min(first + params.slice_vec4, params.num_vec4);
    var sum = 0.0;
    for (var index = first + lane; index < last; index += WG) {
        sum += dot(grad[index], grad[index]);
    }
    add_lanes(lane, sum);
    // A grid folded to two dimensions can have a few workgroups too many.
    if lane == 0u && first < params.num_vec4 {
        partials[params.first_partial + slice] = lanes[0];
    }
}

@compute @workgroup_size(WG)
fn norm(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var index = lane; index < params.num_partials; index += WG) {
        sum += partials[index];
    }
    add_lanes(lane, sum);
    if lane == 0u {
        total_norm[0] = sqrt(lanes[0]);
    }
}

@compute @workgroup_size(WG)
fn scale(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let g = grad[index];
        let norm = vec4<f32>(total_norm[0]);
        let factor = params.limit / (norm + params.eps);
        // A norm that is not a number reaches the gradients, but not those that are 0: padding must stay so.
        let is_zero = (bitcast<vec4<u32>>(g) & MAGNITUDE_BITS_4) == vec4<u32>(0u);
        let is_within = (factor >= vec4<f32>(1.0)) & !is_nan4(norm);
        grad[index] = select(select(factor * g, norm, is_nan4(norm)), g, is_zero | is_within);
    }
}

@compute @workgroup_size(WG)
fn limit_values(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let limit = vec4<f32>(params.limit);
        let g = grad[index];
        // Selected, since clamp may drop what is not a number.
        grad[index] = select(select(select(g, -limit, g < -limit), limit, g > limit), g, is_nan4(g));
    }
}
