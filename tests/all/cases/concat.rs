//! Concatenation along each axis, of one operand up to more than a kernel could bind at once.

use super::{Case, Fill, input};

pub fn cases() -> Vec<Case> {
    let settings: [(&str, Vec<Vec<usize>>, usize); 7] = [
        ("one", vec![vec![3, 2]], 1),
        ("rows", vec![vec![2, 3], vec![1, 3], vec![4, 3]], 0),
        ("columns", vec![vec![2, 3], vec![2, 1], vec![2, 5]], 1),
        ("channels", vec![vec![2, 1, 3, 2], vec![2, 4, 3, 2]], 1),
        ("last of four", vec![vec![2, 2, 3, 1], vec![2, 2, 3, 4]], 3),
        ("twelve", vec![vec![1]; 12], 0),
        ("beyond a workgroup", vec![vec![13, 7], vec![13, 9]], 1),
    ];
    settings
        .into_iter()
        .map(|(name, shapes, axis)| {
            let inputs = shapes.into_iter().map(|shape| input(shape, Fill::Uniform)).collect();
            Case::one(format!("concat {name}"), inputs, move |g, v| g.concat(v, axis))
        })
        .collect()
}
