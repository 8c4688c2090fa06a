// Adam and AdamW (torch.optim.Adam, torch.optim.AdamW) for all parameters at once.
//
//   AdamW: p = p · (1 − lr · weight_decay);   Adam: g = g + weight_decay · p
//   m = m + (1 − β1)(g − m)
//   v = v + (1 − β2)(g² − v)
//   p = p − step_size · m / (√v / sqrt_bias_correction2 + eps)
//
// with step_size = lr / (1 − β1ᵗ) and sqrt_bias_correction2 = √(1 − β2ᵗ), which the host computes in f64. Under
// AMSGrad the root is taken of the largest v so far. All tensors are packs at the same offsets, padded to whole vec4s.
// One invocation updates one vec4.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_beta2: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> lr: f32;
@group(0) @binding(2) var<uniform> one_minus_beta1: f32;
@group(0) @binding(3) var<uniform> step_size: f32;
@group(0) @binding(4) var<uniform> sqrt_bias_correction2: f32;
@group(0) @binding(5) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> exp_avg: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> exp_avg_sq: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> max_exp_avg_sq: array<vec4<f32>>;

override WG: u32 = 64;
// 1 shrinks weights apart from the gradient (AdamW), 0 adds the decay to the gradient (Adam).
override DECOUPLED: u32 = 0;

// Updates the first and second moment and the parameter of one vec4; gives the new second moment.
fn moments(index: u32) -> vec4<f32> {
    let p = param[index];
    let g = grad[index] + select(params.weight_decay, 0.0, DECOUPLED == 1u) * p;
    let m = exp_avg[index] + one_minus_beta1 * (g - exp_avg[index]);
    let v = exp_avg_sq[index] + params.one_minus_beta2 * (g * g - exp_avg_sq[index]);
    exp_avg[index] = m;
    exp_avg_sq[index] = v;
    return v;
}

fn descend(index: u32, v: vec4<f32>) {
    let shrink = 1.0 - select(0.0, lr * params.weight_decay, DECOUPLED == 1u);
    let denominator = sqrt(v) / sqrt_bias_correction2 + params.eps;
    param[index] = param[index] * shrink - step_size * exp_avg[index] / denominator;
}

@compute @workgroup_size(WG)
fn step(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        descend(index, moments(index));
    }
}

@compute @workgroup_size(WG)
fn step_amsgrad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let largest = max(max_exp_avg_sq[index], moments(index));
        max_exp_avg_sq[index] = largest;
        descend(index, largest);
    }
}
