// RMSprop (torch.optim.RMSprop); the walk is lib/packed_update.wgsl.
//
//   g = grad + weight_decay · p
//   v = v + (1 − α)(g² − v)
//   centred: m = m + (1 − α)(g − m),  variance = max(v − m², 0);   otherwise variance = v
//   u = g / (√variance + eps)
//   under momentum: b = momentum · b + u,  u = b
//   p = p − lr · u
//
// States: v, where centred m, and under momentum b.

struct Params {
    num_vec4: u32,
    weight_decay: f32,
    one_minus_alpha: f32,
    eps: f32,
}

@group(0) @binding(6) var<uniform> lr: f32;
@group(0) @binding(7) var<uniform> momentum: f32;

fn update(before: Element) -> Element {
    var after = before;
    let g = decayed(before, params.weight_decay);
    after.state_0 = before.state_0 + params.one_minus_alpha * (g * g - before.state_0);
    var variance = after.state_0;
    if HAS_STATE_1 == 1u {
        after.state_1 = before.state_1 + params.one_minus_alpha * (g - before.state_1);
        // Rounding can push the difference below 0.
        variance = larger4(after.state_0 - after.state_1 * after.state_1, vec4<f32>(0.0));
    }
    var u = g / (sqrt(variance) + params.eps);
    if HAS_STATE_2 == 1u {
        after.state_2 = momentum * before.state_2 + u;
        u = after.state_2;
    }
    after.param = before.param - lr * u;
    return after;
}
