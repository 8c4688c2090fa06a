//! Average pooling: every rule of the divisor, overlap, gaps, padding, rounding up, and adaptive windows.

use super::{Case, Fill, input};
use wgrad::ops::AvgPool2d;

pub fn cases() -> Vec<Case> {
    let plain = AvgPool2d::new([2, 2]);
    let padded = AvgPool2d { stride: [2, 2], padding: [1, 1], ..AvgPool2d::new([3, 3]) };
    let fixed: [(&str, [usize; 4], AvgPool2d); 14] = [
        ("1x1", [1, 1, 1, 1], AvgPool2d::new([1, 1])),
        ("plain", [2, 3, 4, 6], plain),
        ("plain, odd", [1, 2, 5, 7], plain),
        ("plain, ceil", [1, 2, 5, 7], AvgPool2d { ceil_mode: true, ..plain }),
        ("overlap", [1, 2, 7, 6], AvgPool2d { stride: [2, 1], ..AvgPool2d::new([3, 3]) }),
        ("gaps", [1, 2, 9, 8], AvgPool2d { stride: [3, 4], ..plain }),
        ("padded", [1, 2, 6, 5], padded),
        ("padded, not counted", [1, 2, 6, 5], AvgPool2d { count_include_pad: false, ..padded }),
        ("padded, ceil", [1, 2, 6, 6], AvgPool2d { ceil_mode: true, ..padded }),
        ("padded, ceil, not counted", [1, 2, 6, 6], AvgPool2d { ceil_mode: true, count_include_pad: false, ..padded }),
        ("divisor", [1, 2, 6, 5], AvgPool2d { divisor_override: Some(5), ..padded }),
        ("divisor, ceil", [1, 1, 6, 6], AvgPool2d { divisor_override: Some(1), ceil_mode: true, ..padded }),
        ("tall", [1, 1, 11, 1], AvgPool2d::new([4, 1])),
        ("many", [5, 13, 4, 4], plain),
    ];
    let adaptive: [([usize; 4], [usize; 2]); 8] = [
        ([1, 1, 1, 1], [1, 1]),
        ([2, 3, 6, 8], [3, 2]),
        ([1, 2, 7, 5], [3, 2]),
        ([1, 2, 5, 7], [1, 1]),
        ([1, 2, 5, 7], [5, 7]),
        ([1, 1, 3, 2], [7, 5]),
        ([1, 1, 10, 11], [4, 7]),
        ([2, 33, 3, 3], [2, 2]),
    ];
    let mut cases: Vec<Case> = fixed
        .into_iter()
        .map(|(name, shape, pool)| {
            let inputs = vec![input(shape, Fill::Uniform)];
            Case::one(format!("avg_pool2d {name}"), inputs, move |g, v| g.avg_pool2d(v[0], pool))
        })
        .collect();
    for (shape, size) in adaptive {
        let inputs = vec![input(shape, Fill::Uniform)];
        let name = format!("adaptive_avg_pool2d {shape:?} to {size:?}");
        cases.push(Case::one(name, inputs, move |g, v| g.adaptive_avg_pool2d(v[0], size)));
    }
    let inputs = vec![input([2, 3, 5, 4], Fill::Uniform)];
    cases.push(Case::one("global_avg_pool2d", inputs, |g, v| g.global_avg_pool2d(v[0])));
    let inputs = vec![input([4, 6, 28, 28], Fill::Large)];
    cases.push(Case::one("avg_pool2d large", inputs, move |g, v| g.avg_pool2d(v[0], plain)).without_gradient_check());
    cases
}
