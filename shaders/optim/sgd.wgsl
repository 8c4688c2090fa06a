// Stochastic gradient descent with momentum (torch.optim.SGD); the walk is lib/packed_update.wgsl.
//
//   g = grad + weight_decay · p
//   v = momentum · v + grad_weight · g      (grad_weight is 1 in the first step, then 1 − dampening)
//   u = g + momentum · v under Nesterov, v otherwise, g without momentum
//   p = p − lr · u
//
// State 0 is v, the velocity, which is kept where there is a momentum.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
}

@group(0) @binding(6) var<uniform> lr: f32;
@group(0) @binding(7) var<uniform> momentum: f32;
@group(0) @binding(8) var<uniform> grad_weight: f32;

override NESTEROV: u32 = 0;

fn update(before: Element) -> Element {
    var after = before;
    let g = decayed(before, params.weight_decay);
    var u = g;
    if HAS_STATE_0 == 1u {
        after.state_0 = momentum * before.state_0 + grad_weight * g;
        u = select(after.state_0, g + momentum * after.state_0, NESTEROV == 1u);
    }
    after.param = before.param - lr * u;
    return after;
}
