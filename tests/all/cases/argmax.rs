//! Positions of maxima: each axis, and ties, of which the first counts.

use super::{Case, Fill, input};

pub fn cases() -> Vec<Case> {
    let settings: [(Vec<usize>, usize); 12] = [
        (vec![1], 0),
        (vec![7], 0),
        (vec![5, 10], 1),
        (vec![5, 10], 0),
        (vec![3, 4, 5], 1),
        (vec![2, 1, 3], 1),
        (vec![65, 10], 1),
        (vec![1500, 11], 1),
        // A whole workgroup for each row.
        (vec![256, 3], 0),
        (vec![257, 3], 0),
        (vec![2, 300, 2], 1),
        (vec![3, 1031], 1),
    ];
    let mut cases = Vec::new();
    for (shape, axis) in settings {
        for fill in [Fill::Distinct, Fill::Ties] {
            let name = format!("argmax {shape:?} over {axis}, {fill:?}");
            let inputs = vec![input(shape.clone(), fill)];
            cases.push(Case::one(name, inputs, move |g, v| g.argmax(v[0], axis)).without_gradient_check());
        }
    }
    cases
}
