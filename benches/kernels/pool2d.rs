//! The pools of LeNet-5 on batches of 64 images, forward and with their gradients.

use wgrad::ops::{AvgPool2d, MaxPool2d};

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench, gradients};

pub fn benches() -> Vec<Bench> {
    let maps = || vec![input([64, 6, 24, 24], Fill::Uniform)];
    let cases = [
        Case::one("max_pool2d.lenet", maps(), |g, v| g.max_pool2d(v[0], MaxPool2d::new([2, 2]))),
        Case::new("max_pool2d.lenet_gradient", maps(), |g, v| {
            let y = g.max_pool2d(v[0], MaxPool2d::new([2, 2]))?;
            gradients(g, v, y)
        }),
        Case::one("avg_pool2d.lenet", maps(), |g, v| g.avg_pool2d(v[0], AvgPool2d::new([2, 2]))),
        Case::new("avg_pool2d.lenet_gradient", maps(), |g, v| {
            let y = g.avg_pool2d(v[0], AvgPool2d::new([2, 2]))?;
            gradients(g, v, y)
        }),
    ];
    cases.into_iter().map(|case| bench(Limit::Bytes, case)).collect()
}
