// Adagrad (torch.optim.Adagrad) for all parameters at once.
//
//   g = grad + weight_decay · p
//   s = s + g²
//   p = p − step_size · g / (√s + eps)
//
// with step_size = lr / (1 + t · lr_decay) after t steps, which the host computes in f64. All tensors are packs at the
// same offsets, padded to whole vec4s. One invocation updates one vec4.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step_size: f32;
@group(0) @binding(2) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> square_sum: array<vec4<f32>>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn step(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let p = param[index];
        let g = grad[index] + params.weight_decay * p;
        let s = square_sum[index] + g * g;
        square_sum[index] = s;
        param[index] = p - step_size * g / (sqrt(s) + params.eps);
    }
}
