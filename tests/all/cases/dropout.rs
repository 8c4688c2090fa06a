//! Dropout at sizes around a counter's four words and a workgroup's. Its mask depends on a scalar, which finite
//! differences do not set; that the gradient takes the same mask is a test of its own.

use super::{Case, Fill, input};
use wgrad::DType;
use wgrad::ops::Dropout;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
        for shape in [vec![], vec![1], vec![3], vec![4], vec![5, 51], vec![2, 3, 7, 7], vec![257], vec![20_011]] {
            let dropout = Dropout { p, seed: 0xFEED_5EED_0123_4567, layer: 3 };
            let inputs = vec![input(shape.clone(), Fill::Uniform)];
            let case = Case::one(format!("dropout {p} of {shape:?}"), inputs, move |graph, values| {
                let step = graph.scalar("step", DType::U32)?;
                graph.dropout(values[0], dropout, step)
            });
            cases.push(case.without_gradient_check());
        }
    }
    cases
}
