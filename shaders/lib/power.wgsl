// x to a power. WGSL's pow is undefined for negative bases, and as exp2(y · log2 x) in single precision it is off by as many
// ulps as y · log x is large: NVIDIA's by 172. Here log x and its product with y are sums of two numbers, products of
// halves of 12 bits each, which are exact whether a compiler contracts them or not.
//
// Needs nan.wgsl and math.wgsl, whose UPPER_BITS leave 12 bits.

const SIGN_BIT: u32 = 0x80000000;
// e to more than this is infinite, and to less than its negative 0.
const MOST_POWER: f32 = 128.0;

// The upper 12 bits of a number. By way of integers, so that no compiler takes x − upper(x) for rounding to fold.
fn upper(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) & UPPER_BITS);
}

// A number from −1 to 1 as it is. What is exact must be computed as it stands, but drivers take common factors out of sums
// (llvmpipe and NVIDIA's both do) as long as there are nothing but sums and products.
fn fixed(x: f32) -> f32 {
    return clamp(x, -1.0, 1.0);
}

// ln x as the sum of a number of 12 bits and a rest: ln(1 + f) = 2·artanh s with s = f/(2 + f), |s| ≤ 0.172, of which five
// terms suffice, and s = high + low.
fn log_in_two(x: f32) -> vec2<f32> {
    let near = near_power(x);
    let k = near.k;
    let f = near.f;
    let divisor = 2.0 + f;
    let divisor_high = upper(divisor);
    let divisor_low = f - (divisor_high - 2.0);
    let s = f / divisor;
    let high = upper(s);
    let low = (fixed(f - high * divisor_high) - high * divisor_low) / divisor;
    let whole = high + low;
    let z = whole * whole;
    let rest = z * whole * (0.6666667 + z * (0.4 + z * (0.2857143 + z * (0.22222222 + z * 0.18181819))));
    let scale = f32(k) * LN_2_HIGH;
    let small = 2.0 * low + (rest + f32(k) * LN_2_LOW);
    let sum = upper(scale + (2.0 * high + small));
    return vec2(sum, fixed(fixed(scale - sum) + 2.0 * high) + small);
}

// e^(high + low), as accurate_exp, for a `low` that is small beside 1.
fn exp_of_sum(high: f32, low: f32) -> f32 {
    let n = floor((high + low) * LOG2_E + 0.5);
    let r = fixed(high - n * LN_2_HIGH) + (low - n * LN_2_LOW);
    let p = 0.49999993 + r * (0.16666515 + r * (0.041668457 + r * (0.008369419 + r * 0.0013813142)));
    let whole = i32(n);
    let half = whole / 2;
    let powers = power_of_two(vec4(half, whole - half, 0, 0));
    return (1.0 + (r + r * r * p)) * powers.x * powers.y;
}

// Of a number above 0, neither 1 nor infinite, to a finite exponent.
fn finite_power(x: f32, exponent: f32) -> f32 {
    let log = log_in_two(x);
    let exponent_high = upper(exponent);
    let high = exponent_high * log.x;
    if abs(high) >= MOST_POWER {
        return select(0.0, infinity(), high > 0.0);
    }
    return exp_of_sum(high, (exponent - exponent_high) * log.x + exponent * log.y);
}

// Whole exponents of a negative base are as everywhere else, and others give NaN. What is infinite follows C's pow.
fn power(x: f32, exponent: f32) -> f32 {
    if exponent == 0.0 || x == 1.0 {
        return 1.0;
    }
    if exponent == 1.0 {
        return x;
    }
    if is_nan(x) || is_nan(exponent) {
        return not_a_number();
    }
    let magnitude = power_of_magnitude(abs(x), exponent);
    let is_whole = exponent == floor(exponent);
    let is_odd = is_whole && floor(exponent * 0.5) * 2.0 != exponent;
    // The sign bit and not the sign: −0 is a base as well.
    let is_negative = (bitcast<u32>(x) & SIGN_BIT) != 0u;
    if !is_negative {
        return magnitude;
    }
    let is_special = x == 0.0 || abs(x) == infinity();
    return select(not_a_number(), select(magnitude, -magnitude, is_odd), is_whole || is_special);
}

fn power_of_magnitude(x: f32, exponent: f32) -> f32 {
    let grows = exponent > 0.0;
    if x == 0.0 {
        return select(infinity(), 0.0, grows);
    }
    if x == infinity() {
        return select(0.0, infinity(), grows);
    }
    if x == 1.0 {
        return 1.0;
    }
    if abs(exponent) == infinity() {
        return select(0.0, infinity(), (x > 1.0) == grows);
    }
    return finite_power(x, exponent);
}

// By products and roots where PyTorch has it so.
fn power_by_scalar(x: f32, exponent: f32) -> f32 {
    if exponent == 0.5 { return sqrt(x); }
    if exponent == -0.5 { return 1.0 / sqrt(x); }
    if exponent == -1.0 { return 1.0 / x; }
    if exponent == 2.0 { return x * x; }
    if exponent == -2.0 { return 1.0 / (x * x); }
    if exponent == 3.0 { return x * x * x; }
    return power(x, exponent);
}
