// NAdam (torch.optim.NAdam); the walk is lib/packed_update.wgsl.
//
//   decoupled: p = p · (1 − lr · weight_decay);   otherwise: g = grad + weight_decay · p
//   m = m + (1 − β1)(g − m)
//   v = v + (1 − β2)(g² − v)
//   p = p − (grad_step · g + momentum_step · m) / (√(v / bias_correction2) + eps)
//
// with μₜ = β1 · (1 − 0.96^(t · momentum_decay) / 2), grad_step = lr · (1 − μₜ) / (1 − Πμ) over steps up to t,
// momentum_step = lr · μₜ₊₁ / (1 − Πμ) over steps up to t + 1, and bias_correction2 = 1 − β2ᵗ, which the host computes
// in f64. States: m, v.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_beta2: f32,
    eps: f32,
}

@group(0) @binding(6) var<uniform> lr: f32;
@group(0) @binding(7) var<uniform> one_minus_beta1: f32;
@group(0) @binding(8) var<uniform> grad_step: f32;
@group(0) @binding(9) var<uniform> momentum_step: f32;
@group(0) @binding(10) var<uniform> bias_correction2: f32;

// 1 shrinks weights apart from the gradient, 0 adds the decay to the gradient.
override DECOUPLED: u32 = 0;

fn update(before: Element) -> Element {
    var after = before;
    let is_decoupled = DECOUPLED == 1u;
    let g = select(decayed(before, params.weight_decay), before.grad, is_decoupled);
    let m = before.state_0 + one_minus_beta1 * (g - before.state_0);
    let v = before.state_1 + params.one_minus_beta2 * (g * g - before.state_1);
    after.state_0 = m;
    after.state_1 = v;
    let shrink = 1.0 - select(0.0, lr * params.weight_decay, is_decoupled);
    let denominator = sqrt(v / bias_correction2) + params.eps;
    after.param = before.param * shrink - (grad_step * g + momentum_step * m) / denominator;
    return after;
}
