//! Sums over everything, over rows, over columns and over all but channels.

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench};

pub fn benches() -> Vec<Bench> {
    let shapes: [(&str, Vec<usize>, &[usize]); 4] = [
        ("reduce.sum_all", vec![1 << 22], &[0]),
        ("reduce.sum_rows", vec![1024, 1024], &[1]),
        ("reduce.sum_columns", vec![1024, 1024], &[0]),
        ("reduce.sum_channels", vec![64, 64, 28, 28], &[0, 2, 3]),
    ];
    shapes
        .into_iter()
        .map(|(name, shape, axes)| {
            let inputs = vec![input(shape, Fill::Uniform)];
            bench(Limit::Bytes, Case::one(name, inputs, move |g, v| g.sum(v[0], axes, false)))
        })
        .collect()
}
