// Activation applied to a finished sum before it is stored, chosen when the pipeline is built.

override ACTIVATION: u32 = 0u; // 0 none, 1 relu, 2 sigmoid, 3 tanh

// Some drivers compute tanh from exp without care and return NaN once exp overflows; tanh is 1 to f32 long before 15.
const TANH_LIMIT: f32 = 15.0;

fn activate(x: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return max(x, 0.0); }
        case 2u: { return 1.0 / (1.0 + exp(-x)); }
        case 3u: { return tanh(clamp(x, -TANH_LIMIT, TANH_LIMIT)); }
        default: { return x; }
    }
}

fn activate4(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(activate(x.x), activate(x.y), activate(x.z), activate(x.w));
}
