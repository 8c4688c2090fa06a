// Adagrad (torch.optim.Adagrad); the walk is lib/packed_update.wgsl.
//
//   g = grad + weight_decay · p
//   s = s + g²
//   p = p − step_size · g / (√s + eps)
//
// with step_size = lr / (1 + t · lr_decay) after t steps, which the host computes in f64. State 0 is s.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    eps: f32,
}

@group(0) @binding(6) var<uniform> step_size: f32;

fn update(before: Element) -> Element {
    var after = before;
    let g = decayed(before, params.weight_decay);
    after.state_0 = before.state_0 + g * g;
    after.param = before.param - step_size * g / (sqrt(after.state_0) + params.eps);
    return after;
}
