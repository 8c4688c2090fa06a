// Not-a-number in four lanes, told by its bits: WGSL lets compilers assume that there is none, so that comparisons,
// `max` and `sign` of the language may drop one. lib/nan.wgsl has the same for single numbers.

const MAGNITUDE_BITS_4: vec4<u32> = vec4<u32>(0x7fffffffu);
const INFINITY_BITS_4: vec4<u32> = vec4<u32>(0x7f800000u);

fn is_nan4(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & MAGNITUDE_BITS_4) > INFINITY_BITS_4;
}

// The larger of two numbers, NaN where either is one (torch.maximum).
fn larger4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return select(select(select(b, a, a > b), b, is_nan4(b)), a, is_nan4(a));
}

// -1, 0 or 1; 0 of 0 and NaN of NaN.
fn sign4(x: vec4<f32>) -> vec4<f32> {
    return select(sign(x), x, is_nan4(x));
}
