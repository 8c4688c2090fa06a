//! Elementwise functions: smooth and kinked points, every broadcasting pattern.

use super::{Case, Fill, input};
use wgrad::{Graph, Result, Value};

type UnaryFn = fn(&mut Graph, Value) -> Result<Value>;
type BinaryFn = fn(&mut Graph, Value, Value) -> Result<Value>;

pub fn unary() -> Vec<Case> {
    let smooth: [(&str, Fill, UnaryFn); 24] = [
        ("neg", Fill::Uniform, |g, x| g.neg(x)),
        ("exp", Fill::Uniform, |g, x| g.exp(x)),
        ("log", Fill::Positive, |g, x| g.log(x)),
        ("sqrt", Fill::Positive, |g, x| g.sqrt(x)),
        ("abs", Fill::AwayFromZero, |g, x| g.abs(x)),
        ("square", Fill::Uniform, |g, x| g.square(x)),
        ("reciprocal", Fill::AwayFromZero, |g, x| g.reciprocal(x)),
        ("relu", Fill::AwayFromZero, |g, x| g.relu(x)),
        ("leaky_relu", Fill::AwayFromZero, |g, x| g.leaky_relu(x, 0.1)),
        ("leaky_relu_negative", Fill::AwayFromZero, |g, x| g.leaky_relu(x, -0.5)),
        ("sigmoid", Fill::Uniform, |g, x| g.sigmoid(x)),
        ("tanh", Fill::Uniform, |g, x| g.tanh(x)),
        ("gelu", Fill::AwayFromZero, |g, x| g.gelu(x)),
        ("gelu_tanh", Fill::AwayFromZero, |g, x| g.gelu_tanh(x)),
        ("silu", Fill::AwayFromZero, |g, x| g.silu(x)),
        ("softplus", Fill::Uniform, |g, x| g.softplus(x)),
        ("clamp", Fill::Distinct, |g, x| g.clamp(x, -0.51, 0.52)),
        ("add_scalar", Fill::Uniform, |g, x| g.add_scalar(x, 0.3)),
        ("mul_scalar", Fill::Uniform, |g, x| g.mul_scalar(x, -1.7)),
        ("pow_scalar_2", Fill::Uniform, |g, x| g.pow_scalar(x, 2.0)),
        ("pow_scalar_3", Fill::AwayFromZero, |g, x| g.pow_scalar(x, 3.0)),
        ("pow_scalar_half", Fill::Positive, |g, x| g.pow_scalar(x, 0.5)),
        ("pow_scalar_minus_2", Fill::AwayFromZero, |g, x| g.pow_scalar(x, -2.0)),
        ("pow_scalar_0", Fill::Uniform, |g, x| g.pow_scalar(x, 0.0)),
    ];
    let mut cases: Vec<Case> = smooth
        .into_iter()
        .flat_map(|(name, fill, f)| {
            // One short of a workgroup, and one beyond several.
            [vec![63], vec![5, 13, 5]]
                .map(|shape| Case::one(format!("{name} {shape:?}"), vec![input(shape, fill)], move |g, v| f(g, v[0])))
        })
        .collect();
    let saturating: [(&str, UnaryFn); 8] = [
        ("sigmoid", |g, x| g.sigmoid(x)),
        ("tanh", |g, x| g.tanh(x)),
        ("softplus", |g, x| g.softplus(x)),
        ("silu", |g, x| g.silu(x)),
        ("gelu", |g, x| g.gelu(x)),
        ("relu", |g, x| g.relu(x)),
        ("sign", |g, x| g.sign(x)),
        ("abs", |g, x| g.abs(x)),
    ];
    for (name, f) in saturating {
        for fill in [Fill::Large, Fill::Ties] {
            let case = Case::one(format!("{name} {fill:?}"), vec![input([257], fill)], move |g, v| f(g, v[0]));
            cases.push(case.without_gradient_check());
        }
    }
    cases
}

pub fn binary() -> Vec<Case> {
    let functions: [(&str, Fill, BinaryFn); 7] = [
        ("add", Fill::Uniform, |g, a, b| g.add(a, b)),
        ("sub", Fill::Uniform, |g, a, b| g.sub(a, b)),
        ("mul", Fill::Uniform, |g, a, b| g.mul(a, b)),
        ("div", Fill::AwayFromZero, |g, a, b| g.div(a, b)),
        ("pow", Fill::Positive, |g, a, b| g.pow(a, b)),
        ("minimum", Fill::Uniform, |g, a, b| g.minimum(a, b)),
        ("maximum", Fill::Uniform, |g, a, b| g.maximum(a, b)),
    ];
    let shapes: [(Vec<usize>, Vec<usize>); 8] = [
        (vec![7, 9], vec![7, 9]),
        (vec![7, 9], vec![9]),
        (vec![7, 9], vec![7, 1]),
        (vec![7, 1], vec![1, 9]),
        (vec![], vec![3, 5]),
        (vec![2, 3, 4, 5], vec![3, 1, 1]),
        (vec![1], vec![1]),
        (vec![2, 1, 3, 1, 2], vec![4, 1, 3, 2]),
    ];
    let mut cases = Vec::new();
    for (name, fill, f) in functions {
        for (a, b) in &shapes {
            let inputs = vec![input(a.clone(), fill), input(b.clone(), fill)];
            cases.push(Case::one(format!("{name} {a:?} {b:?}"), inputs, move |g, v| f(g, v[0], v[1])));
        }
    }
    let tied: [(&str, BinaryFn); 4] = [
        ("minimum", |g, a, b| g.minimum(a, b)),
        ("maximum", |g, a, b| g.maximum(a, b)),
        ("equal", |g, a, b| g.equal(a, b)),
        ("greater", |g, a, b| g.greater(a, b)),
    ];
    for (name, f) in tied {
        let inputs = vec![input([65], Fill::Ties), input([65], Fill::Ties)];
        cases.push(Case::one(format!("{name} ties"), inputs, move |g, v| f(g, v[0], v[1])).without_gradient_check());
    }
    cases
}
