// Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2) for all parameters at once.
//
//   u = sign(m + (1 − β1)(grad − m)),   sign(0) = 0
//   p = p · (1 − lr · weight_decay) − lr · u
//   m = m + (1 − β2)(grad − m)
//
// All tensors are packs at the same offsets, padded to whole vec4s. One invocation updates one vec4.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_beta2: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> lr: f32;
@group(0) @binding(2) var<uniform> one_minus_beta1: f32;
@group(0) @binding(3) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> exp_avg: array<vec4<f32>>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn step(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let g = grad[index];
        let m = exp_avg[index];
        let direction = sign(m + one_minus_beta1 * (g - m));
        param[index] = param[index] * (1.0 - lr * params.weight_decay) - lr * direction;
        exp_avg[index] = m + params.one_minus_beta2 * (g - m);
    }
}
