// Elementwise functions of one and two operands, with their derivatives.
//
//   unary            y = f(a)                        a, y: same shape
//   unary_backward   y = a · f'(b)                   a: grad_output, b: the input x or the output f(x) of the forward
//   binary           y = f(a, b)                     a, b broadcast to y by strides (NumPy)
//   binary_backward  y = a · ∂f(b, c)/∂b or ∂c       a: grad_output, of y's shape; b, c broadcast to y
//
// One invocation computes one element of y. `FUNCTION` picks f; the numbers are those of the enums in
// src/ops/elementwise/functions.rs. Conventions at kinks are PyTorch's: relu'(0) = 0, |x|'(0) = 0, clamp' is 0 at its
// bounds, a tie of min or max gives each operand half the gradient.

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

override WG: u32 = 64;
override FUNCTION: u32 = 0;
// Whether operands lie under y element by element, so that no offsets need be computed.
override CONTIGUOUS: u32 = 0;
// In binary_backward: 0 differentiates by b, 1 by c.
override BY_SECOND: u32 = 0;

// Beyond this |x|, tanh is ±1 in f32; some drivers return NaN for large arguments.
const TANH_LIMIT: f32 = 15.0;
const SQRT_2_OVER_PI: f32 = 0.7978845608;
const SQRT_HALF: f32 = 0.70710678;
const INV_SQRT_2PI: f32 = 0.3989422804;
const GELU_CUBIC: f32 = 0.044715;

fn safe_tanh(x: f32) -> f32 {
    return tanh(clamp(x, -TANH_LIMIT, TANH_LIMIT));
}

// Never exponentiates a positive number, so nothing overflows.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

// ln(1 + x) for x in [0, 1], without losing small x: the classic correction by the rounding of 1 + x.
fn log1p(x: f32) -> f32 {
    let u = 1.0 + x;
    let d = u - 1.0;
    return select(log(u) * (x / select(d, 1.0, d == 0.0)), x, d == 0.0);
}

fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log1p(exp(-abs(x)));
}

// The error function by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - series * exp(-x * x));
}

fn normal_cdf(x: f32) -> f32 {
    return 0.5 * (1.0 + erf(x * SQRT_HALF));
}

// (1 + tanh u)/2 as sigmoid(2u), which keeps its digits where tanh has rounded to -1.
fn gelu_tanh_share(x: f32) -> f32 {
    return sigmoid(2.0 * SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
}

// WGSL's pow is undefined for negative bases; whole exponents are defined here as everywhere else. A negative base
// under a fractional exponent gives what log gives for it, NaN on every device seen.
fn power(x: f32, exponent: f32) -> f32 {
    if exponent == 0.0 {
        return 1.0;
    }
    if x == 0.0 {
        return select(1.0 / abs(x), 0.0, exponent > 0.0);
    }
    let magnitude = pow(abs(x), exponent);
    if x > 0.0 {
        return magnitude;
    }
    let is_whole = exponent == floor(exponent);
    let is_odd = floor(exponent * 0.5) * 2.0 != exponent;
    return select(log(x), select(magnitude, -magnitude, is_odd), is_whole);
}

fn unary_value(x: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return -x; }
        case 1u: { return exp(x); }
        case 2u: { return log(x); }
        case 3u: { return sqrt(x); }
        case 4u: { return abs(x); }
        case 5u: { return x * x; }
        case 6u: { return 1.0 / x; }
        case 7u: { return max(x, 0.0); }
        case 8u: { return select(params.alpha * x, x, x > 0.0); }
        case 9u: { return sigmoid(x); }
        case 10u: { return safe_tanh(x); }
        case 11u: { return x * normal_cdf(x); }
        case 12u: { return x * gelu_tanh_share(x); }
        case 13u: { return x * sigmoid(x); }
        case 14u: { return softplus(x); }
        case 15u: { return clamp(x, params.alpha, params.beta); }
        case 16u: { return x + params.alpha; }
        case 17u: { return x * params.alpha; }
        case 18u: { return power(x, params.alpha); }
        case 19u: { return sign(x); }
        default: { return x; }
    }
}

// f'(v), where v is the input or the output of f as the Rust side decides for each function.
fn unary_derivative(v: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return -1.0; }
        case 1u: { return v; }
        case 2u: { return 1.0 / v; }
        case 3u: { return 0.5 / v; }
        case 4u: { return sign(v); }
        case 5u: { return 2.0 * v; }
        case 6u: { return -v * v; }
        case 7u: { return select(0.0, 1.0, v > 0.0); }
        case 8u: { return select(params.alpha, 1.0, v > 0.0); }
        case 9u: { return v * (1.0 - v); }
        case 10u: { return (1.0 - v) * (1.0 + v); }
        case 11u: { return normal_cdf(v) + v * INV_SQRT_2PI * exp(-0.5 * v * v); }
        case 12u: {
            let s = gelu_tanh_share(v);
            let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * v * v);
            return s + 2.0 * v * s * (1.0 - s) * inner;
        }
        case 13u: {
            let s = sigmoid(v);
            return s * (1.0 + v * (1.0 - s));
        }
        case 14u: { return sigmoid(v); }
        case 15u: { return select(0.0, 1.0, v > params.alpha && v < params.beta); }
        case 17u: { return params.alpha; }
        case 18u: { return select(params.alpha * power(v, params.alpha - 1.0), 0.0, params.alpha == 0.0); }
        case 19u: { return 0.0; }
        default: { return 1.0; }
    }
}

fn binary_value(x: f32, y: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return x + y; }
        case 1u: { return x - y; }
        case 2u: { return x * y; }
        case 3u: { return x / y; }
        case 4u: { return power(x, y); }
        case 5u: { return min(x, y); }
        case 6u: { return max(x, y); }
        case 7u: { return select(0.0, 1.0, x == y); }
        case 8u: { return select(0.0, 1.0, x > y); }
        default: { return 0.0; }
    }
}

// What an operand gets of the gradient of min or max: all, half in a tie, or none.
fn share(won: bool, tied: bool) -> f32 {
    return select(select(0.0, 1.0, won), 0.5, tied);
}

fn binary_derivative(x: f32, y: f32) -> f32 {
    let by_second = BY_SECOND == 1u;
    switch FUNCTION {
        case 0u: { return 1.0; }
        case 1u: { return select(1.0, -1.0, by_second); }
        case 2u: { return select(y, x, by_second); }
        case 3u: {
            if by_second {
                return -x / (y * y);
            }
            return 1.0 / y;
        }
        case 4u: {
            if by_second {
                // At a base of 0 the power is constant in the exponent.
                return select(power(x, y) * log(x), 0.0, x == 0.0 && y >= 0.0);
            }
            return select(y * power(x, y - 1.0), 0.0, y == 0.0);
        }
        case 5u: { return share((x < y) != by_second, x == y); }
        case 6u: { return share((x > y) != by_second, x == y); }
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
        binary_y[index] = a[index] * unary_derivative(b[index]);
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
        ternary_y[index] = a[at.x] * binary_derivative(b[at.y], c[at.z]);
    }
}
