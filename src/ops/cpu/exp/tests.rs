use super::*;

#[test]
fn rows_are_exponentials_wherever_they_begin_and_end() {
    let x: Vec<f32> = (0..4000).map(|i| (i as f32 - 3600.0) * 0.03).collect();
    for (first, len) in [(0, 4000), (1, 33), (5, 3), (3999, 1), (7, 0)] {
        let x = &x[first..first + len];
        let mut y = vec![f32::NAN; len];
        let of_row = exp_row(x, &mut y);
        let max = x.last().copied().unwrap_or(f32::NEG_INFINITY);
        for (&x, &y) in x.iter().zip(&y) {
            // The difference is rounded before.
            let want = f64::from(x - max).exp();
            // Two units in the last place, of a subnormal result of the least.
            let bound = (want * 2.0 * f64::from(f32::EPSILON)).max(f64::from(f32::from_bits(1)));
            assert!((f64::from(y) - want).abs() <= bound, "exp({x} - {max}) = {y}, not {want}");
        }
        let want = y.iter().map(|&y| f64::from(y)).sum::<f64>();
        for scale in [of_row, exp_sum(x)] {
            assert_eq!(scale.max, max);
            // Thousands of roundings, half of them up.
            assert!((f64::from(scale.sum) - want).abs() <= 1e-5 * want, "{}, not {want}", scale.sum);
        }
    }
}

#[test]
fn errors_are_at_most_two_units_in_the_last_place() {
    let (mut worst, mut y) = (0.0f64, [0.0; 16]);
    for first in (0..0x42ae_0000u32).step_by(16 * 997) {
        let mut x = [0.0; 16];
        x.iter_mut().zip(0..).skip(1).for_each(|(x, at)| *x = -f32::from_bits(first + 997 * at));
        exp_row(&x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let want = f64::from(x).exp();
            worst = worst.max((f64::from(y) - want).abs() / 2f64.powi(want.log2().floor() as i32 - 23));
        }
    }
    assert!((0.5..=2.0).contains(&worst), "{worst}");
}

#[test]
fn special_values_are_those_of_the_function() {
    let x = [f32::NAN, f32::NEG_INFINITY, 0.0, -200.0, f32::MIN, -104.5, -0.0];
    let mut y = [0.0; 7];
    assert!(exp_row(&x, &mut y).sum.is_nan() && y[0].is_nan());
    assert_eq!(y[1..], [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(exp_sum(&x).sum.is_nan());
    assert_eq!(exp_sum(&x[1..]).sum, 2.0);
    for x in [[f32::INFINITY; 20], [f32::NEG_INFINITY; 20], [f32::NAN; 20]] {
        assert!(exp_sum(&x[..3]).sum.is_nan() && exp_sum(&x).sum.is_nan());
    }
}

#[test]
fn every_place_in_a_row_gives_the_same_bits() {
    let x: Vec<f32> = (0..50).map(|i| i as f32 * 0.31 - 17.0).collect();
    let mut whole = vec![0.0; 50];
    exp_row(&x, &mut whole);
    for first in 1..34 {
        let mut part = vec![0.0; 50 - first];
        exp_row(&x[first..], &mut part);
        assert_eq!(part, whole[first..]);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn vectors_of_every_length_give_the_same_bits() {
    let (Some(short), Some(long)) = (pulp::x86::V3::try_new(), pulp::x86::V4::try_new()) else { return };
    // Down to −208 from the maximum: normal, subnormal and vanishing results.
    let x: Vec<f32> = (0..3000).map(|i| ((i * 7919) % 3001) as f32 * 0.0693).collect();
    for len in [1, 7, 10, 16, 25, 1000, 3000] {
        let (mut by_8, mut by_16) = (vec![0.0; len], vec![0.0; len]);
        let of_8 = Simd::vectorize(short, Blocks(Row { x: &x[..len], y: &mut by_8 }));
        let of_16 = Simd::vectorize(long, Blocks(Row { x: &x[..len], y: &mut by_16 }));
        assert_eq!((of_8.max, of_8.sum, &by_8), (of_16.max, of_16.sum, &by_16));
        Simd::vectorize(short, Blocks(SoftmaxRows { len, x: &x[..len], y: &mut by_8 }));
        Simd::vectorize(long, Blocks(SoftmaxRows { len, x: &x[..len], y: &mut by_16 }));
        assert_eq!(by_8, by_16);
    }
}

#[test]
fn rows_side_by_side_are_as_each_alone() {
    for len in [1, 10, 16, 47] {
        let x: Vec<f32> = (0..5 * len).map(|i| ((i * 7919) % 101) as f32 * 0.1).collect();
        let (mut all, mut one) = (vec![f32::NAN; 5 * len], vec![f32::NAN; len]);
        softmax_rows(len, &x, &mut all);
        for (x, all) in x.chunks_exact(len).zip(all.chunks_exact(len)) {
            softmax_rows(len, x, &mut one);
            assert_eq!(all, one);
            let inverse = 1.0 / exp_row(x, &mut one).sum;
            assert!(all.iter().zip(&one).all(|(&y, exp)| y == exp * inverse), "rows of {len}");
        }
    }
}
