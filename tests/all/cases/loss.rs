//! Losses over elements under each reduction.

use super::{Case, Fill, input};
use wgrad::ops::Reduction;
use wgrad::{Graph, Result, Value};

type LossFn = fn(&mut Graph, Value, Value, Reduction) -> Result<Value>;

const FUNCTIONS: [(&str, LossFn); 3] = [
    ("mse_loss", |g, x, y, reduction| g.mse_loss(x, y, reduction)),
    ("l1_loss", |g, x, y, reduction| g.l1_loss(x, y, reduction)),
    ("bce_with_logits", |g, x, y, reduction| g.bce_with_logits(x, y, reduction)),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, f) in FUNCTIONS {
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for shape in [vec![1], vec![3, 5], vec![2, 3, 2, 2]] {
                let label = format!("{name} {shape:?} {reduction:?}");
                let inputs = vec![input(shape.clone(), Fill::AwayFromZero), input(shape, Fill::Uniform)];
                cases.push(Case::one(label, inputs, move |g, v| f(g, v[0], v[1], reduction)));
            }
            let label = format!("{name} large and equal {reduction:?}");
            let inputs = vec![input([129], Fill::Large), input([129], Fill::Large)];
            cases.push(Case::one(label, inputs, move |g, v| f(g, v[0], v[1], reduction)).without_gradient_check());
        }
    }
    cases
}
