//! Values in another arrangement.

use super::{Case, Fill, input};

pub fn cases() -> Vec<Case> {
    let x = || vec![input([2, 3, 4], Fill::Uniform)];
    let mut cases = vec![
        Case::one("copy", x(), |g, v| g.copy(v[0])),
        Case::one("transpose", vec![input([17, 33], Fill::Uniform)], |g, v| g.transpose(v[0], 0, 1)),
        Case::one("broadcast_to from scalar", vec![input([], Fill::Uniform)], |g, v| g.broadcast_to(v[0], [3, 5])),
        Case::one("broadcast_to", vec![input([3, 1, 2], Fill::Uniform)], |g, v| g.broadcast_to(v[0], [2, 3, 5, 2])),
        Case::one("flatten", x(), |g, v| g.flatten(v[0], 1)),
    ];
    for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        cases.push(Case::one(format!("permute {axes:?}"), x(), move |g, v| g.permute(v[0], &axes)));
    }
    cases
}
