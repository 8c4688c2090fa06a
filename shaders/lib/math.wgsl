// Functions that WGSL leaves to the driver, within bounds that are wide (tanh: 1e-5; log near 1: 2^-21; exp(x): 3 + 2|x|
// ulps) and for a NaN not at all. These are made of sums, products, quotients and bits alone, so that every device that
// rounds those as IEEE has it gives the same few ulps; the bounds are in the documentation of the ops, and tested.
// Polynomials are least-maximum fits of our own. Subnormal operands and results may be flushed to 0, as WGSL allows.
//
// Those that activations need are written for four numbers at a time, since products end in four; of one number they are
// the same, and a compiler drops the other three.
//
// Needs nan.wgsl.

const EXPONENT_BIAS: i32 = 127;
const MANTISSA_BITS: u32 = 23;
const MANTISSA_MASK: u32 = 0x007fffff;
const ONE_BITS: u32 = 0x3f800000;
const LOG2_E: f32 = 1.442695;
// ln 2 in two parts, of which the first has so few bits that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693359375;
const LN_2_LOW: f32 = -2.1219444e-4;

// 2^n for n in −126 to 127.
fn power_of_two(n: vec4<i32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(n + EXPONENT_BIAS) << vec4(MANTISSA_BITS));
}

const LARGEST_DIVISOR: f32 = 8.507059e37; // 2^126
const TWO_TO_MINUS_32: f32 = 2.3283064e-10;

// x / y. WGSL bounds the error of its own only for |y| from 2^−126 to 2^126: a device may multiply by 1/y, which beyond is
// subnormal and flushed to 0. So both are scaled down; an x that vanishes gives a quotient that would, too. Below 2^−126 y
// itself is subnormal. For divisors that can be that large: sums, roots and counts are not.
fn quotient(x: f32, y: f32) -> f32 {
    let scale = select(1.0, TWO_TO_MINUS_32, abs(y) > LARGEST_DIVISOR);
    return (x * scale) / (y * scale);
}

// Beyond these, e^x is 0 and infinite.
const EXP_LEAST: f32 = -104.0;
const EXP_MOST: f32 = 89.0;

// e^x: x = n·ln 2 + r with |r| ≤ ln 2 / 2, e^r = 1 + r + r²·P(r), then times 2^n in two halves, either of which is a
// normal number.
fn accurate_exp4(x: vec4<f32>) -> vec4<f32> {
    let bounded = clamp(x, vec4(EXP_LEAST), vec4(EXP_MOST));
    let n = floor(bounded * LOG2_E + 0.5);
    let r = (bounded - n * LN_2_HIGH) - n * LN_2_LOW;
    let p = 0.49999993 + r * (0.16666515 + r * (0.041668457 + r * (0.008369419 + r * 0.0013813142)));
    let whole = vec4<i32>(n);
    let half = whole / 2;
    let result = (1.0 + (r + r * r * p)) * power_of_two(half) * power_of_two(whole - half);
    return select(result, x, is_nan4(x));
}

fn accurate_exp(x: f32) -> f32 {
    return accurate_exp4(vec4(x)).x;
}

// ln(1 + f) without its first term f, negated, for f in [−0.3, 1]: with s = f/(2 + f) it is
// f²/2 − s·(f²/2 + s²·P(s²)), where nothing cancels.
fn log1p_correction(f: f32) -> f32 {
    let s = f / (2.0 + f);
    let z = s * s;
    let p = z * (0.66666676 + z * (0.39998873 + z * (0.28617035 + z * (0.21425851 + z * 0.24308325))));
    let half_square = 0.5 * f * f;
    return half_square - s * (half_square + p);
}

// ln(1 + x) for x in [0, 1]; no rounding of 1 + x to correct, which drivers fold away.
fn log1p(x: f32) -> f32 {
    return select(x - log1p_correction(x), x, is_nan(x));
}

const LEAST_NORMAL: f32 = 1.17549435e-38;
const TWO_TO_23: f32 = 8388608.0;
const SQRT_2: f32 = 1.4142135;

// A number above 0 as 2^k·(1 + f), with 1 + f between √½ and √2.
struct NearPower {
    k: i32,
    f: f32,
}

fn near_power(x: f32) -> NearPower {
    let is_subnormal = x < LEAST_NORMAL;
    let bits = bitcast<u32>(select(x, x * TWO_TO_23, is_subnormal));
    let k = i32(bits >> MANTISSA_BITS) - EXPONENT_BIAS - select(0, i32(MANTISSA_BITS), is_subnormal);
    let m = bitcast<f32>((bits & MANTISSA_MASK) | ONE_BITS);
    if m > SQRT_2 {
        return NearPower(k + 1, m * 0.5 - 1.0);
    }
    return NearPower(k, m - 1.0);
}

// ln x.
fn accurate_log(x: f32) -> f32 {
    let near = near_power(x);
    let k = near.k;
    let f = near.f;
    let result = f32(k) * LN_2_HIGH + (f - (log1p_correction(f) - f32(k) * LN_2_LOW));
    if bitcast<u32>(x) >= INFINITY_BITS {
        // +∞ and NaNs as they are, numbers below 0 are NaN, −0 is 0.
        return select(select(not_a_number(), -infinity(), x == 0.0), x, (bitcast<u32>(x) == INFINITY_BITS) | is_nan(x));
    }
    return select(result, -infinity(), x == 0.0);
}

const TANH_SMALL: f32 = 0.625;

// tanh x: an odd polynomial near 0, else from e^2|x|, which does not cancel.
fn accurate_tanh4(x: vec4<f32>) -> vec4<f32> {
    let magnitude = abs(x);
    let z = x * x;
    let p = -0.33333282 + z * (0.13331425 + z * (-0.05373761 + z * (0.020630402 + z * -0.00569351)));
    let large = 1.0 - 2.0 / (accurate_exp4(2.0 * magnitude) + 1.0);
    let signed = select(large, -large, x < vec4(0.0));
    return select(select(signed, x + x * z * p, magnitude < vec4(TANH_SMALL)), x, is_nan4(x));
}

fn accurate_tanh(x: f32) -> f32 {
    return accurate_tanh4(vec4(x)).x;
}

// 1/(1 + e^−x); never exponentiates a positive number, so nothing overflows.
fn sigmoid4(x: vec4<f32>) -> vec4<f32> {
    let e = accurate_exp4(-abs(x));
    return select(e, vec4(1.0), x >= vec4(0.0)) / (1.0 + e);
}

fn sigmoid(x: f32) -> f32 {
    return sigmoid4(vec4(x)).x;
}

// ln(1 + e^x).
fn softplus(x: f32) -> f32 {
    return larger(x, 0.0) + log1p(accurate_exp(-abs(x)));
}

const SQRT_HALF: f32 = 0.70710678;
// Bits of a number whose square is exact.
const UPPER_BITS: u32 = 0xfffff000;

// From here on e^(−x²/2) is 0 in f32.
const GAUSSIAN_MOST: f32 = 15.0;

// e^(−x²/2), with x² as the sum of an exact square and a small rest.
fn gaussian(x: f32) -> f32 {
    let size = min(abs(x), GAUSSIAN_MOST);
    let upper = bitcast<f32>(bitcast<u32>(size) & UPPER_BITS);
    return accurate_exp(-0.5 * upper * upper) * accurate_exp(-0.5 * (size - upper) * (size + upper));
}

// Up to this |x| the error function is a polynomial.
const ERF_SMALL: f32 = 0.84375;
// Beyond it erfc x = e^(−x²)·t·P(t) with t = 1/(1 + ERFC_SCALE·x), up to where it is 0.
const ERFC_SCALE: f32 = 0.35;
const ERFC_MOST: f32 = 10.1;

// The normal distribution function (1 + erf(x/√2))/2, small values to their last digits.
fn normal_cdf(x: f32) -> f32 {
    let u = abs(x) * SQRT_HALF;
    if u < ERF_SMALL {
        let z = u * u;
        let p = 1.1283792 + z * (-0.37612575 + z * (0.11282756
            + z * (-0.026804252 + z * (0.005054104 + z * -0.00063335595))));
        return 0.5 + 0.5 * x * SQRT_HALF * p;
    }
    let t = 1.0 / (1.0 + ERFC_SCALE * min(u, ERFC_MOST));
    let p = 0.19749113 + t * (0.19691525 + t * (0.19060762 + t * (0.13344807
        + t * (0.21647127 + t * (-0.090306155 + t * (0.25732075 + t * -0.10200841))))));
    let tail = 0.5 * t * p * gaussian(x);
    return select(select(tail, 1.0 - tail, x > 0.0), x, is_nan(x));
}
