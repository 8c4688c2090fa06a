//! What training reports of a batch: batches around a workgroup's size, ties, and scores that are not numbers.

use super::{Case, Fill, input};
use wgrad::{DType, Tensor};

/// Rows of the table; the harness writes to row 3, so the second size is one that misses it.
const ROWS: [usize; 2] = [4, 2];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for [batch, num_classes] in [[1, 1], [1, 10], [7, 3], [63, 10], [64, 10], [65, 10], [129, 2], [300, 101]] {
        for fill in [Fill::Uniform, Fill::Ties] {
            cases.push(case(batch, num_classes, fill));
        }
    }
    cases
}

fn case(batch: usize, num_classes: usize, fill: Fill) -> Case {
    let inputs = vec![input([batch, num_classes], fill), input([batch], Fill::Index(num_classes as u32))];
    let case = Case::new(format!("metrics ({batch}, {num_classes}) {fill:?}"), inputs, |g, v| {
        let row = g.scalar("start", DType::U32)?;
        let loss = g.constant(Tensor::scalar(1.25));
        for num_rows in ROWS {
            g.metrics(&format!("table of {num_rows}"), num_rows, row, loss, v[0], v[1])?;
        }
        // The harness wants an output that depends on the inputs.
        let copy = g.copy(v[0])?;
        Ok(vec![copy])
    });
    case.without_gradient_check()
}
