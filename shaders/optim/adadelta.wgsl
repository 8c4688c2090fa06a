// Adadelta (torch.optim.Adadelta); the walk is lib/packed_update.wgsl.
//
//   g = grad + weight_decay · p
//   v = v + (1 − ρ)(g² − v)
//   Δ = √(u + eps) / √(v + eps) · g
//   u = u + (1 − ρ)(Δ² − u)
//   p = p − lr · Δ
//
// States: v and u, the mean squares of gradients and of steps.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_rho: f32,
    eps: f32,
}

@group(0) @binding(6) var<uniform> lr: f32;

fn update(before: Element) -> Element {
    var after = before;
    let g = decayed(before, params.weight_decay);
    let v = before.state_0 + params.one_minus_rho * (g * g - before.state_0);
    let delta = sqrt(before.state_1 + params.eps) / sqrt(v + params.eps) * g;
    after.state_0 = v;
    after.state_1 = before.state_1 + params.one_minus_rho * (delta * delta - before.state_1);
    after.param = before.param - lr * delta;
    return after;
}
