// Activation applied to a finished sum before it is stored, chosen when the pipeline is built; the same functions as the
// ops of their own, so that fused and unfused plans agree bit for bit. Needs nan.wgsl and math.wgsl.

override ACTIVATION: u32 = 0u; // 0 none, 1 relu, 2 sigmoid, 3 tanh

fn activate4(x: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: { return relu4(x); }
        case 2u: { return sigmoid4(x); }
        case 3u: { return accurate_tanh4(x); }
        default: { return x; }
    }
}

fn activate(x: f32) -> f32 {
    return activate4(vec4(x)).x;
}
