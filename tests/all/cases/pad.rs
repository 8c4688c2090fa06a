//! Padding on each side, and slicing, whose gradient is the same op with steps.

use super::{Case, Fill, input};
use wgrad::ops::SliceRange;

type Padding = Vec<(usize, usize)>;

pub fn cases() -> Vec<Case> {
    let settings: [(Vec<usize>, Padding); 8] = [
        (vec![], vec![]),
        (vec![1], vec![(0, 0)]),
        (vec![5], vec![(2, 3)]),
        (vec![2, 3], vec![(0, 1), (2, 0)]),
        (vec![2, 3], vec![(1, 0), (0, 0)]),
        (vec![2, 3, 4, 5], vec![(0, 0), (0, 0), (2, 2), (1, 3)]),
        (vec![2, 1, 2, 1, 2, 1, 2, 2], vec![(1, 0), (0, 1), (1, 1), (0, 0), (0, 0), (0, 0), (1, 0), (0, 2)]),
        (vec![7, 9], vec![(3, 1), (0, 4)]),
    ];
    settings
        .into_iter()
        .map(|(shape, padding)| {
            let name = format!("pad {shape:?} by {padding:?}");
            Case::one(name, vec![input(shape, Fill::Uniform)], move |g, v| g.pad(v[0], &padding))
        })
        .collect()
}

pub fn slices() -> Vec<Case> {
    let range = |start, stop, step| SliceRange { start, stop, step };
    let settings: [(Vec<usize>, Vec<SliceRange>); 8] = [
        (vec![7], vec![range(0, 7, 1)]),
        (vec![7], vec![range(1, 6, 2)]),
        (vec![7], vec![range(2, 7, 3)]),
        (vec![5, 6], vec![range(1, 2, 1), range(0, 6, 5)]),
        (vec![5, 6], vec![range(0, 5, 4), range(2, 3, 9)]),
        (vec![3, 4, 5], vec![range(0, 3, 2), range(1, 4, 1), range(4, 5, 1)]),
        (vec![2, 3, 8, 9], vec![range(0, 2, 1), range(1, 2, 1), range(0, 8, 2), range(1, 9, 3)]),
        (vec![9, 14], vec![range(0, 9, 1), range(3, 12, 1)]),
    ];
    settings
        .into_iter()
        .map(|(shape, ranges)| {
            let name = format!("slice {ranges:?} of {shape:?}");
            Case::one(name, vec![input(shape, Fill::Uniform)], move |g, v| g.slice(v[0], &ranges))
        })
        .collect()
}
