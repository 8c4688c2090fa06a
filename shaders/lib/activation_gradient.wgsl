// The gradient through an activation that is known by its output, applied to a finished sum before it is stored; the same
// functions as elementwise.wgsl has. Needs nan.wgsl.

override GRADIENT_OF: u32 = 0u; // 0 none, 1 relu, 2 sigmoid, 3 tanh

fn activation_gradient(grad: f32, y: f32) -> f32 {
    switch GRADIENT_OF {
        case 1u: { return select(0.0, grad, (y > 0.0) | is_nan(y)); }
        case 2u: { return grad * (y * (1.0 - y)); }
        case 3u: { return grad * ((1.0 - y) * (1.0 + y)); }
        default: { return grad; }
    }
}
