//! Softmax along each axis: rows of one element, rows around the workgroup's size and around the length at which a
//! whole workgroup takes a row.

use super::{Case, Fill, input};
use wgrad::{Graph, Result, Value};

type SoftmaxFn = fn(&mut Graph, Value, usize) -> Result<Value>;

const FUNCTIONS: [(&str, SoftmaxFn); 2] =
    [("softmax", |g, x, axis| g.softmax(x, axis)), ("log_softmax", |g, x, axis| g.log_softmax(x, axis))];

pub fn cases() -> Vec<Case> {
    let small: [(Vec<usize>, usize); 9] = [
        (vec![1], 0),
        (vec![7], 0),
        (vec![1, 1], 1),
        (vec![3, 10], 1),
        (vec![10, 3], 0),
        (vec![2, 3, 4], 1),
        (vec![2, 5, 1, 3], 1),
        (vec![2, 2, 2, 5], 3),
        (vec![3, 2, 67], 1),
    ];
    let large: [(Vec<usize>, usize); 14] = [
        (vec![63, 10], 1),
        (vec![65, 17], 1),
        (vec![2, 256], 1),
        (vec![3, 257], 1),
        (vec![257, 3], 0),
        (vec![2, 300, 5], 1),
        (vec![1, 1031], 1),
        (vec![1031, 65], 1),
        (vec![4, 10, 1031], 1),
        (vec![17, 260], 1),
        (vec![33, 64], 1),
        (vec![3, 1028], 1),
        (vec![2, 4096], 1),
        (vec![2, 4100], 1),
    ];
    let mut cases = Vec::new();
    for (name, f) in FUNCTIONS {
        for (shape, axis) in &small {
            let axis = *axis;
            let inputs = vec![input(shape.clone(), Fill::Uniform)];
            cases.push(Case::one(format!("{name} {shape:?} axis {axis}"), inputs, move |g, v| f(g, v[0], axis)));
        }
        for (shape, axis) in &large {
            for fill in [Fill::Uniform, Fill::Ties, Fill::Large] {
                let axis = *axis;
                let label = format!("{name} {shape:?} axis {axis} {fill:?}");
                let inputs = vec![input(shape.clone(), fill)];
                cases.push(Case::one(label, inputs, move |g, v| f(g, v[0], axis)).without_gradient_check());
            }
        }
    }
    cases
}
