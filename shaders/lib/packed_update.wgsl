// The walk of an elementwise optimizer over all parameters at once. The optimizer's own file (shaders/optim/) declares
// `struct Params`, whose first field is num_vec4, the numbers of a step from binding 6 on, and the rule
//
//   fn update(before: Element) -> Element
//
// grad, param and the states are packs: all tensors side by side at the same offsets, padded to whole vec4s. A state
// that the optimizer's settings do not need is neither read nor written. One invocation updates one vec4.
//
// Needs lib/index.wgsl; rules may use lib/nan4.wgsl.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> state_0: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> state_1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> state_2: array<vec4<f32>>;

override WG: u32 = 64;
// 1 where the optimizer keeps the state.
override HAS_STATE_0: u32 = 0;
override HAS_STATE_1: u32 = 0;
override HAS_STATE_2: u32 = 0;

// Four neighbours in each role. The gradient is only read.
struct Element {
    param: vec4<f32>,
    grad: vec4<f32>,
    state_0: vec4<f32>,
    state_1: vec4<f32>,
    state_2: vec4<f32>,
}

// The gradient with weight decay added to it (an L2 penalty). Skipped if it is 0, because 0 times infinity is NaN.
fn decayed(element: Element, weight_decay: f32) -> vec4<f32> {
    return select(element.grad + weight_decay * element.param, element.grad, weight_decay == 0.0);
}

@compute @workgroup_size(WG)
fn step(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_vec4 {
        return;
    }
    var element = Element();
    element.param = param[index];
    element.grad = grad[index];
    if HAS_STATE_0 == 1u {
        element.state_0 = state_0[index];
    }
    if HAS_STATE_1 == 1u {
        element.state_1 = state_1[index];
    }
    if HAS_STATE_2 == 1u {
        element.state_2 = state_2[index];
    }
    let after = update(element);
    param[index] = after.param;
    if HAS_STATE_0 == 1u {
        state_0[index] = after.state_0;
    }
    if HAS_STATE_1 == 1u {
        state_1[index] = after.state_1;
    }
    if HAS_STATE_2 == 1u {
        state_2[index] = after.state_2;
    }
}
