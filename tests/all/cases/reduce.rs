//! Reductions over every set of axes, short and long enough for each of the kernel's ways.

use super::{Case, Fill, input};
use wgrad::{Graph, Result, Value};

type ReduceFn = fn(&mut Graph, Value, &[usize], bool) -> Result<Value>;

const FUNCTIONS: [(&str, ReduceFn); 3] = [
    ("sum", |g, x, axes, keep| g.sum(x, axes, keep)),
    ("mean", |g, x, axes, keep| g.mean(x, axes, keep)),
    ("amax", |g, x, axes, keep| g.amax(x, axes, keep)),
];

pub fn cases() -> Vec<Case> {
    let small: [(Vec<usize>, Vec<usize>); 8] = [
        (vec![7], vec![0]),
        (vec![3, 5], vec![]),
        (vec![3, 5], vec![0]),
        (vec![3, 5], vec![1]),
        (vec![2, 3, 4, 5], vec![0, 2, 3]),
        (vec![2, 3, 4, 5], vec![1, 3]),
        (vec![2, 3, 4, 5], vec![0, 1, 2, 3]),
        (vec![1, 1], vec![0]),
    ];
    // Beyond one invocation, one workgroup, one slice.
    let large: [(Vec<usize>, Vec<usize>); 6] = [
        (vec![3, 257], vec![1]),
        (vec![257, 3], vec![0]),
        (vec![2, 4097], vec![1]),
        (vec![70_001], vec![0]),
        (vec![5, 6, 31, 29], vec![0, 2, 3]),
        (vec![4099, 3], vec![1]),
    ];
    let mut cases = Vec::new();
    for (name, f) in FUNCTIONS {
        for (shape, axes) in &small {
            for keep in [false, true] {
                let axes = axes.clone();
                let label = format!("{name} {shape:?} over {axes:?} keep {keep}");
                let inputs = vec![input(shape.clone(), Fill::Distinct)];
                cases.push(Case::one(label, inputs, move |g, v| f(g, v[0], &axes, keep)));
            }
        }
        for (shape, axes) in &large {
            let axes = axes.clone();
            let label = format!("{name} {shape:?} over {axes:?}");
            let inputs = vec![input(shape.clone(), Fill::Ties)];
            cases.push(Case::one(label, inputs, move |g, v| f(g, v[0], &axes, false)).without_gradient_check());
        }
    }
    cases
}
