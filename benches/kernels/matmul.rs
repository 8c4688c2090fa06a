//! Square products, and the first fully connected layer of LeNet-5 with its gradients.

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench, gradients};

pub fn benches() -> Vec<Bench> {
    let square = |size: usize| {
        let inputs = vec![input([size, size], Fill::Uniform), input([size, size], Fill::Uniform)];
        bench(Limit::Flops, Case::one(format!("matmul.{size}"), inputs, |g, v| g.matmul(v[0], v[1])))
    };
    let fc1 = || vec![input([64, 256], Fill::Uniform), input([120, 256], Fill::Uniform), input([120], Fill::Uniform)];
    let mut benches: Vec<Bench> = [256, 512, 1024].map(square).into();
    benches.push(bench(Limit::Flops, Case::one("matmul.lenet_fc1", fc1(), |g, v| g.linear(v[0], v[1], Some(v[2])))));
    benches.push(bench(
        Limit::Flops,
        Case::new("matmul.lenet_fc1_gradients", fc1(), |g, v| {
            let y = g.linear(v[0], v[1], Some(v[2]))?;
            gradients(g, v, y)
        }),
    ));
    benches
}
