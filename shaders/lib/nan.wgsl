// Not-a-number, tested by its bits: WGSL lets compilers assume that there is none, so that comparing a number with
// itself, or `max` and `min` of the language, would not do. A NaN operand makes every result here a NaN, whichever it is.
// `|` instead of `||`, which is a branch that loads after it wait for.

const MAGNITUDE_BITS: u32 = 0x7fffffff;
const INFINITY_BITS: u32 = 0x7f800000;
const NAN_BITS: u32 = 0x7fc00000;

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & MAGNITUDE_BITS) > INFINITY_BITS;
}

fn is_nan4(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4(MAGNITUDE_BITS)) > vec4(INFINITY_BITS);
}

// WGSL has no literal for these and refuses constant expressions that give them; hence variables.
fn infinity() -> f32 {
    var bits = INFINITY_BITS;
    return bitcast<f32>(bits);
}

fn not_a_number() -> f32 {
    var bits = NAN_BITS;
    return bitcast<f32>(bits);
}

// The larger of two numbers.
fn larger(a: f32, b: f32) -> f32 {
    return select(select(b, a, (a > b) | is_nan(a)), b, is_nan(b));
}

// The smaller of two numbers.
fn smaller(a: f32, b: f32) -> f32 {
    return select(select(b, a, (a < b) | is_nan(a)), b, is_nan(b));
}

fn relu(x: f32) -> f32 {
    return select(0.0, x, (x > 0.0) | is_nan(x));
}

fn relu4(x: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), x, (x > vec4(0.0)) | is_nan4(x));
}
