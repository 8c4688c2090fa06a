// Three steps of summing gradients over several batches, for all parameters at once. Each is a dispatch of its own, so
// that a product is rounded before it is added, whatever a compiler would make of the two together.
//
//   scale:  grad = weight · grad     a batch's share in the mean
//   merge:  grad = sum + grad        with the sum of the batches before it
//   keep:   sum = grad               for a later merge
//
// Both are packs: all tensors side by side at the same offsets, padded to whole vec4s. One invocation updates one vec4.

struct Params {
    num_vec4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> weight: f32;
@group(0) @binding(2) var<storage, read_write> updated: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> other: array<vec4<f32>>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn scale(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        updated[index] = weight * updated[index];
    }
}

@compute @workgroup_size(WG)
fn merge(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        updated[index] = other[index] + updated[index];
    }
}

@compute @workgroup_size(WG)
fn keep(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        updated[index] = other[index];
    }
}
