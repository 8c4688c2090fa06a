//! Division on a device that multiplies by a reciprocal and flushes subnormal numbers, as NVIDIA's GPUs do. WGSL allows it:
//! its bound on division is for divisors from 2⁻¹²⁶ to 2¹²⁶. Here in f32 on the host, since no software adapter divides so.

/// `x / y` of such a device.
fn divided(x: f32, y: f32) -> f32 {
    flushed(flushed(x) * flushed(1.0 / flushed(y)))
}

fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

/// `quotient` of `shaders/lib/math.wgsl`, line by line.
fn quotient(x: f32, y: f32) -> f32 {
    let scale = if y.abs() > 2.0_f32.powi(126) { 2.0_f32.powi(-32) } else { 1.0 };
    divided(flushed(x * scale), flushed(y * scale))
}

#[test]
fn quotients_are_right_where_a_reciprocal_vanishes() {
    let source = include_str!("../../../shaders/lib/math.wgsl");
    for (name, value) in [("LARGEST_DIVISOR", 2.0_f32.powi(126)), ("TWO_TO_MINUS_32", 2.0_f32.powi(-32))] {
        let line = source.lines().find(|line| line.starts_with(&format!("const {name}: f32"))).unwrap();
        let number = line.split(" = ").nth(1).unwrap().split(';').next().unwrap();
        assert_eq!(number.parse::<f32>().unwrap(), value, "{line}");
    }
    assert_eq!(divided(f32::MAX, f32::MAX), 0.0);
    assert!(divided(f32::INFINITY, f32::MAX).is_nan());
    let powers = (-126..128).step_by(2).map(|n| 1.7 * 2.0_f32.powi(n));
    let mut values: Vec<f32> = powers.chain([0.0, 1.0, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN]).collect();
    values.extend([126, 127].map(|n| 2.0_f32.powi(n)));
    values.extend(values.clone().iter().map(|x| -x));
    for &x in &values {
        for &y in &values {
            let (got, want) = (quotient(x, y), x / y);
            // Three roundings, and a result that is flushed.
            let difference = (f64::from(got) - f64::from(want)).abs();
            let is_close = difference <= 3.0 * f64::from(f32::EPSILON * want.abs()) + f64::from(f32::MIN_POSITIVE);
            // A product of two roundings overflows where the quotient is at the very end.
            let is_at_end = got.is_infinite() && want.abs() > f32::MAX * (1.0 - 1e-6);
            assert!(got == want || (got.is_nan() && want.is_nan()) || is_close || is_at_end, "{x:e} / {y:e}: {got:e}");
        }
    }
}
