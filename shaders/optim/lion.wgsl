// Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2); the walk is
// lib/packed_update.wgsl.
//
//   u = sign(m + (1 − β1)(grad − m)),   sign(0) = 0
//   p = p · (1 − lr · weight_decay) − lr · u
//   m = m + (1 − β2)(grad − m)
//
// State 0 is m.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_beta2: f32,
}

@group(0) @binding(6) var<uniform> lr: f32;
@group(0) @binding(7) var<uniform> one_minus_beta1: f32;

fn update(before: Element) -> Element {
    var after = before;
    let g = before.grad;
    let m = before.state_0;
    let direction = sign4(m + one_minus_beta1 * (g - m));
    after.param = before.param * (1.0 - lr * params.weight_decay) - lr * direction;
    after.state_0 = m + params.one_minus_beta2 * (g - m);
    return after;
}
