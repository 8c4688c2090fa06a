//! The loss of a classifier with its gradient: LeNet-5's ten classes, and a thousand.

use wgrad::ops::CrossEntropy;

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench, gradients};

pub fn benches() -> Vec<Bench> {
    let case = |name: &str, rows: usize, classes: u32| {
        let inputs = vec![input([rows, classes as usize], Fill::Uniform), input([rows], Fill::Index(classes))];
        Case::new(name, inputs, |g, v| {
            let loss = g.cross_entropy(v[0], v[1], None, CrossEntropy::default())?;
            gradients(g, v, loss)
        })
    };
    [case("cross_entropy.lenet", 64, 10), case("cross_entropy.1000_classes", 256, 1000)]
        .map(|case| bench(Limit::Bytes, case))
        .into()
}
