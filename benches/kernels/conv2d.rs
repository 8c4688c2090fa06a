//! The convolutions of LeNet-5 on batches of 64 FashionMNIST images, forward and with their gradients, and one of a
//! larger network.

use wgrad::ops::Conv2d;

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench, gradients};

pub fn benches() -> Vec<Bench> {
    let shapes: [(&str, [usize; 4], [usize; 4], usize); 3] = [
        ("lenet_conv1", [64, 1, 28, 28], [6, 1, 5, 5], 0),
        ("lenet_conv2", [64, 6, 12, 12], [16, 6, 5, 5], 0),
        ("3x3", [8, 64, 28, 28], [64, 64, 3, 3], 1),
    ];
    let mut benches = Vec::new();
    for (name, x, weight, padding) in shapes {
        let conv = Conv2d { padding: [padding; 2], ..Conv2d::default() };
        let inputs = || {
            let bias = input([weight[0]], Fill::Uniform);
            vec![input(x, Fill::Uniform), input(weight, Fill::Uniform), bias]
        };
        let forward = Case::one(format!("conv2d.{name}"), inputs(), move |g, v| g.conv2d(v[0], v[1], Some(v[2]), conv));
        let backward = Case::new(format!("conv2d.{name}_gradients"), inputs(), move |g, v| {
            let y = g.conv2d(v[0], v[1], Some(v[2]), conv)?;
            gradients(g, v, y)
        });
        benches.extend([forward, backward].map(|case| bench(Limit::Flops, case)));
    }
    benches
}
