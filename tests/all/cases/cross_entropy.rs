//! Losses over class indices: every reduction, with and without weights, ignored labels and smoothing; one class, one
//! row, and rows around the workgroup's size and around the number that one workgroup takes.

use super::{Case, Fill, Input, input};
use wgrad::ops::{CrossEntropy, NllLoss, Reduction};

const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for reduction in REDUCTIONS {
        for (weighted, ignore_index, label_smoothing) in
            [(false, None, 0.0), (true, None, 0.0), (false, Some(2), 0.1), (true, Some(1), 0.3), (true, None, 1.0)]
        {
            for shape in [[5, 4], [7, 10]] {
                let attributes = CrossEntropy { reduction, ignore_index, label_smoothing };
                cases.push(cross_entropy(shape, Fill::Uniform, weighted, attributes));
                let attributes = NllLoss { reduction, ignore_index };
                if label_smoothing == 0.0 || !weighted {
                    cases.push(nll_loss(shape, weighted, attributes));
                }
            }
        }
        for shape in [[1, 1], [1, 10], [3, 1], [2, 19]] {
            let attributes = CrossEntropy { reduction, ..CrossEntropy::default() };
            cases.push(cross_entropy(shape, Fill::Uniform, false, attributes));
        }
        // Around what a workgroup of a GPU takes a row of: 33 to 512 classes.
        let rows = [[66, 33], [5, 100], [3, 257], [2, 511]];
        for shape in [[63, 10], [65, 17], [1024, 3], [1025, 10], [70_001, 2], [3, 1031]].into_iter().chain(rows) {
            for (fill, label_smoothing) in [(Fill::Uniform, 0.1), (Fill::Ties, 0.0), (Fill::Large, 0.0)] {
                let attributes = CrossEntropy { reduction, ignore_index: Some(0), label_smoothing };
                cases.push(cross_entropy(shape, fill, true, attributes).without_gradient_check());
            }
            let attributes = NllLoss { reduction, ignore_index: Some(1) };
            cases.push(nll_loss(shape, false, attributes).without_gradient_check());
        }
    }
    cases
}

fn cross_entropy([n, c]: [usize; 2], fill: Fill, weighted: bool, attributes: CrossEntropy) -> Case {
    let name = format!("cross_entropy ({n}, {c}) {fill:?} weighted {weighted} {attributes:?}");
    // Where there are rows enough, some labels are no class, and count as ignored.
    let labels = Fill::Index(c as u32 + u32::from(n > 5));
    let inputs = with_weights(vec![input([n, c], fill), input([n], labels)], c, weighted);
    Case::one(name, inputs, move |g, v| g.cross_entropy(v[0], v[1], v.get(2).copied(), attributes))
}

fn nll_loss([n, c]: [usize; 2], weighted: bool, attributes: NllLoss) -> Case {
    let name = format!("nll_loss ({n}, {c}) weighted {weighted} {attributes:?}");
    let inputs = vec![input([n, c], Fill::Positive), input([n], Fill::Index(c as u32))];
    let inputs = with_weights(inputs, c, weighted);
    Case::one(name, inputs, move |g, v| g.nll_loss(v[0], v[1], v.get(2).copied(), attributes))
}

fn with_weights(mut inputs: Vec<Input>, num_classes: usize, weighted: bool) -> Vec<Input> {
    if weighted {
        inputs.push(input([num_classes], Fill::Positive));
    }
    inputs
}
