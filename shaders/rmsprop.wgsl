// RMSprop (torch.optim.RMSprop) for all parameters at once.
//
//   g = grad + weight_decay · p
//   v = v + (1 − α)(g² − v)
//   centred: m = m + (1 − α)(g − m),  variance = max(v − m², 0);   otherwise variance = v
//   u = g / (√variance + eps)
//   under momentum: b = momentum · b + u,  u = b
//   p = p − lr · u
//
// All tensors are packs at the same offsets, padded to whole vec4s. One invocation updates one vec4. Each combination
// of states has an entry point, so that none has to be bound that is not there.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_alpha: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> lr: f32;
@group(0) @binding(2) var<uniform> momentum: f32;
@group(0) @binding(3) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> square_avg: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> grad_avg: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> velocity: array<vec4<f32>>;

override WG: u32 = 64;

fn decayed(index: u32) -> vec4<f32> {
    return grad[index] + params.weight_decay * param[index];
}

// Updates the mean square and gives it.
fn mean_square(index: u32, g: vec4<f32>) -> vec4<f32> {
    let v = square_avg[index] + params.one_minus_alpha * (g * g - square_avg[index]);
    square_avg[index] = v;
    return v;
}

// Updates mean square and mean and gives the variance. Rounding can push the difference below 0.
fn centered(index: u32, g: vec4<f32>) -> vec4<f32> {
    let m = grad_avg[index] + params.one_minus_alpha * (g - grad_avg[index]);
    grad_avg[index] = m;
    return max(mean_square(index, g) - m * m, vec4<f32>(0.0));
}

fn scaled(g: vec4<f32>, variance: vec4<f32>) -> vec4<f32> {
    return g / (sqrt(variance) + params.eps);
}

fn descend(index: u32, update: vec4<f32>) {
    param[index] = param[index] - lr * update;
}

fn descend_with_velocity(index: u32, update: vec4<f32>) {
    let b = momentum * velocity[index] + update;
    velocity[index] = b;
    descend(index, b);
}

@compute @workgroup_size(WG)
fn step(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let g = decayed(index);
        descend(index, scaled(g, mean_square(index, g)));
    }
}

@compute @workgroup_size(WG)
fn step_momentum(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let g = decayed(index);
        descend_with_velocity(index, scaled(g, mean_square(index, g)));
    }
}

@compute @workgroup_size(WG)
fn step_centered(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let g = decayed(index);
        descend(index, scaled(g, centered(index, g)));
    }
}

@compute @workgroup_size(WG)
fn step_centered_momentum(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        let g = decayed(index);
        descend_with_velocity(index, scaled(g, centered(index, g)));
    }
}
