// Adam and AdamW (torch.optim.Adam, torch.optim.AdamW); the walk is lib/packed_update.wgsl.
//
//   AdamW: p = p · (1 − lr · weight_decay);   Adam: g = grad + weight_decay · p
//   m = m + (1 − β1)(g − m)
//   v = v + (1 − β2)(g² − v)
//   p = p − step_size · m / (√v / sqrt_bias_correction2 + eps)
//
// with step_size = lr / (1 − β1ᵗ) and sqrt_bias_correction2 = √(1 − β2ᵗ), which the host computes in f64. Under
// AMSGrad the root is taken of the largest v so far. States: m, v and, under AMSGrad, the largest v.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_beta2: f32,
    eps: f32,
}

@group(0) @binding(6) var<uniform> lr: f32;
@group(0) @binding(7) var<uniform> one_minus_beta1: f32;
@group(0) @binding(8) var<uniform> step_size: f32;
@group(0) @binding(9) var<uniform> sqrt_bias_correction2: f32;

// 1 shrinks weights apart from the gradient (AdamW), 0 adds the decay to the gradient (Adam).
override DECOUPLED: u32 = 0;

fn update(before: Element) -> Element {
    var after = before;
    let is_decoupled = DECOUPLED == 1u;
    let g = select(decayed(before, params.weight_decay), before.grad, is_decoupled);
    after.state_0 = before.state_0 + one_minus_beta1 * (g - before.state_0);
    after.state_1 = before.state_1 + params.one_minus_beta2 * (g * g - before.state_1);
    var second_moment = after.state_1;
    // Under AMSGrad.
    if HAS_STATE_2 == 1u {
        after.state_2 = larger4(before.state_2, after.state_1);
        second_moment = after.state_2;
    }
    let shrink = 1.0 - select(0.0, lr * params.weight_decay, is_decoupled);
    let denominator = sqrt(second_moment) / sqrt_bias_correction2 + params.eps;
    after.param = before.param * shrink - step_size * after.state_0 / denominator;
    return after;
}
