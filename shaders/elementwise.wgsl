// Elementwise functions of one and two operands, with their derivatives.
//
//   unary            y = f(a)                        a, y: same shape
//   unary_backward   y = a · f'(b)                   a: grad_output, b: the input x or the output f(x) of the forward
//   binary           y = f(a, b)                     a, b broadcast to y by strides (NumPy)
//   binary_backward  y = a · ∂f(b, c)/∂b or ∂c       a: grad_output, of y's shape; b, c broadcast to y
//
//   unary_backward_vec4  the same, where the number of elements is a multiple of four
//
// One invocation computes one element of y, or four of it. `FUNCTION` picks f; the numbers are those of the enums in
// src/ops/tensor/elementwise/functions.rs. Conventions at kinks and for values that are not finite are PyTorch's:
// relu'(0) = 0, |x|'(0) = 0, clamp' is 0 at its bounds, a tie of min or max gives each operand half the gradient.
//
// Needs lib/nan.wgsl, lib/math.wgsl and lib/power.wgsl.

struct Params {
    shape: array<vec4<u32>, 2>,
    a_strides: array<vec4<u32>, 2>,
    b_strides: array<vec4<u32>, 2>,
    c_strides: array<vec4<u32>, 2>,
    rank: u32,
    num_elems: u32,
    alpha: f32,
    beta: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> unary_y: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> binary_y: array<f32>;
@group(0) @binding(3) var<storage, read> c: array<f32>;
@group(0) @binding(4) var<storage, read_write> ternary_y: array<f32>;

// Wider views of the same, used by unary_backward_vec4 alone.
@group(0) @binding(1) var<storage, read> a_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b_vec4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> binary_y_vec4: array<vec4<f32>>;

override WG: u32 = 64;
override FUNCTION: u32 = 0;
// Whether operands lie under y element by element, so that no offsets need be computed.
override CONTIGUOUS: u32 = 0;
// In binary_backward: 0 differentiates by b, 1 by c.
override BY_SECOND: u32 = 0;

const SQRT_2_OVER_PI: f32 = 0.7978845608;
const INV_SQRT_2PI: f32 = 0.3989422804;
const GELU_CUBIC: f32 = 0.044715;

// (1 + tanh u)/2 as sigmoid(2u), which keeps its digits where tanh has rounded to -1.
fn gelu_tanh_share(x: f32) -> f32 {
    return sigmoid(2.0 * SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
}

// max(x, 0) − x·y + ln(1 + e^−|x|) with the first two in one, so that nothing cancels for targets in [0, 1]. Infinite
// logits go by PyTorch's formula, whose terms cancel to NaN.
fn bce_with_logits(x: f32, y: f32) -> f32 {
    if abs(x) == infinity() {
        return (1.0 - y) * x + softplus(-x);
    }
    return select(-(y * x), (1.0 - y) * x, x > 0.0) + log1p(accurate_exp(-abs(x)));
}

fn unary_value(x: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return -x; }
        case 1u: { return accurate_exp(x); }
        case 2u: { return accurate_log(x); }
        case 3u: { return sqrt(x); }
        case 4u: { return abs(x); }
        case 5u: { return x * x; }
        case 6u: { return 1.0 / x; }
        case 7u: { return relu(x); }
        case 8u: { return select(params.alpha * x, x, x > 0.0); }
        case 9u: { return sigmoid(x); }
        case 10u: { return accurate_tanh(x); }
        case 11u: { return x * normal_cdf(x); }
        case 12u: { return x * gelu_tanh_share(x); }
        case 13u: { return x * sigmoid(x); }
        case 14u: { return softplus(x); }
        case 15u: { return smaller(larger(x, params.alpha), params.beta); }
        case 16u: { return x + params.alpha; }
        case 17u: { return x * params.alpha; }
        case 18u: { return power_by_scalar(x, params.alpha); }
        case 19u: { return sign_of(x); }
        default: { return x; }
    }
}

// −1, 0 or 1; 0 for a NaN, as in PyTorch.
fn sign_of(x: f32) -> f32 {
    return select(select(select(0.0, -1.0, x < 0.0), 1.0, x > 0.0), 0.0, is_nan(x));
}

// grad · f'(v), where v is the input or the output of f as the Rust side decides for each function. Where f is flat the
// gradient is 0 whatever comes from above.
fn unary_gradient(grad: f32, v: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return -grad; }
        case 1u: { return grad * v; }
        case 2u: { return quotient(grad, v); }
        case 3u: { return grad / (2.0 * v); }
        case 4u: { return grad * sign_of(v); }
        case 5u: { return grad * (2.0 * v); }
        case 6u: { return -grad * (v * v); }
        case 7u: { return select(0.0, grad, (v > 0.0) | is_nan(v)); }
        case 8u: { return select(grad * params.alpha, grad, v > 0.0); }
        case 9u: { return grad * (v * (1.0 - v)); }
        case 10u: { return grad * ((1.0 - v) * (1.0 + v)); }
        case 11u: { return grad * (normal_cdf(v) + v * INV_SQRT_2PI * gaussian(v)); }
        case 12u: {
            let s = gelu_tanh_share(v);
            let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * v * v);
            return grad * (s + 2.0 * v * s * (1.0 - s) * inner);
        }
        case 13u: {
            let s = sigmoid(v);
            return grad * (s * (1.0 + v * (1.0 - s)));
        }
        case 14u: { return grad * sigmoid(v); }
        case 15u: { return select(0.0, grad, v > params.alpha && v < params.beta && !is_nan(v)); }
        case 17u: { return grad * params.alpha; }
        case 18u: {
            if params.alpha == 0.0 {
                return 0.0;
            }
            return grad * (params.alpha * power_by_scalar(v, params.alpha - 1.0));
        }
        case 19u: { return 0.0; }
        default: { return grad; }
    }
}

fn binary_value(x: f32, y: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return x + y; }
        case 1u: { return x - y; }
        case 2u: { return x * y; }
        case 3u: { return quotient(x, y); }
        case 4u: { return power(x, y); }
        case 5u: { return smaller(x, y); }
        case 6u: { return larger(x, y); }
        case 7u: { return select(0.0, 1.0, x == y && !is_nan(x) && !is_nan(y)); }
        case 8u: { return select(0.0, 1.0, x > y && !is_nan(x) && !is_nan(y)); }
        case 9u: { return bce_with_logits(x, y); }
        default: { return 0.0; }
    }
}

// What an operand gets of the gradient of min or max: all, half in a tie, none where it lost. Where either is a NaN
// neither lost, and both get all.
fn share(grad: f32, lost: bool, tied: bool, has_nan: bool) -> f32 {
    return select(select(select(grad, 0.5 * grad, tied), 0.0, lost), grad, has_nan);
}

fn binary_gradient(grad: f32, x: f32, y: f32) -> f32 {
    let by_second = BY_SECOND == 1u;
    switch FUNCTION {
        case 0u: { return grad; }
        case 1u: { return select(grad, -grad, by_second); }
        case 2u: { return grad * select(y, x, by_second); }
        case 3u: {
            if by_second {
                return -grad * quotient(quotient(x, y), y);
            }
            return quotient(grad, y);
        }
        case 4u: {
            if by_second {
                // At a base of 0 the power is constant in the exponent.
                return grad * select(power(x, y) * accurate_log(x), 0.0, x == 0.0 && y >= 0.0);
            }
            return select(grad * (y * power(x, y - 1.0)), 0.0, y == 0.0);
        }
        case 5u: { return share(grad, select(x > y, y > x, by_second), x == y, is_nan(x) || is_nan(y)); }
        case 6u: { return share(grad, select(x < y, y < x, by_second), x == y, is_nan(x) || is_nan(y)); }
        case 9u: {
            if by_second {
                return -grad * x;
            }
            // σ(x) − y, for targets as they should be as a sum in which nothing cancels at 0 and 1.
            let is_target = y >= 0.0 && y <= 1.0;
            return grad * select(sigmoid(x) - y, (1.0 - y) * sigmoid(x) - y * sigmoid(-x), is_target);
        }
        default: { return 0.0; }
    }
}

@compute @workgroup_size(WG)
fn unary(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_elems {
        unary_y[index] = unary_value(a[index]);
    }
}

@compute @workgroup_size(WG)
fn unary_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_elems {
        binary_y[index] = unary_gradient(a[index], b[index]);
    }
}

@compute @workgroup_size(WG)
fn unary_backward_vec4(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_elems / 4u {
        let grad = a_vec4[index];
        let v = b_vec4[index];
        binary_y_vec4[index] = vec4<f32>(
            unary_gradient(grad.x, v.x), unary_gradient(grad.y, v.y), unary_gradient(grad.z, v.z), unary_gradient(grad.w, v.w));
    }
}

// The offsets of a, b and c at a flat index of y.
fn offsets(index: u32) -> vec3<u32> {
    if CONTIGUOUS == 1u {
        return vec3(index);
    }
    var rest = index;
    var offset = vec3(0u);
    for (var i = params.rank; i > 0u; i -= 1u) {
        let axis = i - 1u;
        let extent = params.shape[axis / 4u][axis % 4u];
        let position = rest % extent;
        rest /= extent;
        offset += position * vec3(
            params.a_strides[axis / 4u][axis % 4u],
            params.b_strides[axis / 4u][axis % 4u],
            params.c_strides[axis / 4u][axis % 4u],
        );
    }
    return offset;
}

@compute @workgroup_size(WG)
fn binary(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_elems {
        let at = offsets(index);
        binary_y[index] = binary_value(a[at.x], b[at.y]);
    }
}

@compute @workgroup_size(WG)
fn binary_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_elems {
        let at = offsets(index);
        ternary_y[index] = binary_gradient(a[at.x], b[at.y], c[at.z]);
    }
}
