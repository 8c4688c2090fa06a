// Stochastic gradient descent with momentum (torch.optim.SGD) for all parameters at once.
//
//   g = grad + weight_decay · p
//   v = momentum · v + grad_weight · g      (grad_weight is 1 in the first step, then 1 − dampening)
//   u = g + momentum · v under Nesterov, v otherwise, g without momentum
//   p = p − lr · u
//
// param, grad and velocity are packs: all tensors side by side at the same offsets, padded to whole vec4s. One
// invocation updates one vec4.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> lr: f32;
@group(0) @binding(2) var<uniform> momentum: f32;
@group(0) @binding(3) var<uniform> grad_weight: f32;
@group(0) @binding(4) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> velocity: array<vec4<f32>>;

override WG: u32 = 64;
override NESTEROV: u32 = 0;

// Without momentum: neither velocity nor its scalars are bound.
@compute @workgroup_size(WG)
fn plain(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let p = param[index];
        param[index] = p - lr * (grad[index] + params.weight_decay * p);
    }
}

@compute @workgroup_size(WG)
fn momentum_step(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let p = param[index];
        let g = grad[index] + params.weight_decay * p;
        let v = momentum * velocity[index] + grad_weight * g;
        velocity[index] = v;
        let u = select(v, g + momentum * v, NESTEROV == 1u);
        param[index] = p - lr * u;
    }
}
