//! Elementwise functions: memory decides, until a function is expensive.

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench};

pub fn benches() -> Vec<Bench> {
    let long = || input([1 << 22], Fill::Uniform);
    let maps = || input([64, 64, 28, 28], Fill::Uniform);
    vec![
        bench(Limit::Bytes, Case::one("elementwise.add", vec![long(), long()], |g, v| g.add(v[0], v[1]))),
        bench(Limit::Bytes, Case::one("elementwise.relu", vec![long()], |g, v| g.relu(v[0]))),
        bench(Limit::Bytes, Case::one("elementwise.gelu", vec![long()], |g, v| g.gelu(v[0]))),
        bench(
            Limit::Bytes,
            Case::one("elementwise.mul_channels", vec![maps(), input([64, 1, 1], Fill::Uniform)], |g, v| {
                g.mul(v[0], v[1])
            }),
        ),
    ]
}
