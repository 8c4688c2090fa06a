// The weighted sum of gradients over several batches, for all parameters at once.
//
//   sum = weight · grad           in the first batch of a step
//   sum = sum + weight · grad     in the others
//
// Both are packs: all tensors side by side at the same offsets, padded to whole vec4s. One invocation updates one vec4.

struct Params {
    num_vec4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> is_first: u32;
@group(0) @binding(2) var<uniform> weight: f32;
@group(0) @binding(3) var<storage, read_write> sum: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> grad: array<vec4<f32>>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn add(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        // Selected, not multiplied by 0: what was there before may not be a number.
        let before = select(sum[index], vec4<f32>(0.0), is_first != 0u);
        sum[index] = before + weight * grad[index];
    }
}
