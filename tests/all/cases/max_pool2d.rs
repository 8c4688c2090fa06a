//! Maximum pooling: plain, overlapping, gapped, padded, dilated, rounded up, in ties and in one-cell planes.

use super::{Case, Fill, input};
use wgrad::ops::MaxPool2d;

pub fn cases() -> Vec<Case> {
    let plain = MaxPool2d::new([2, 2]);
    let settings: [(&str, [usize; 4], MaxPool2d); 15] = [
        ("1x1", [1, 1, 1, 1], MaxPool2d::new([1, 1])),
        ("plain", [2, 3, 4, 6], plain),
        ("plain, odd", [1, 2, 5, 7], plain),
        ("plain, ceil", [1, 2, 5, 7], MaxPool2d { ceil_mode: true, ..plain }),
        ("plain, ceil, even", [17, 1, 4, 2], MaxPool2d { ceil_mode: true, ..plain }),
        ("overlap", [1, 2, 7, 6], MaxPool2d { stride: [2, 1], ..MaxPool2d::new([3, 3]) }),
        ("stride 1", [1, 1, 5, 5], MaxPool2d { stride: [1, 1], ..plain }),
        ("gaps", [1, 2, 9, 8], MaxPool2d { stride: [3, 4], ..plain }),
        ("padding", [1, 2, 6, 5], MaxPool2d { padding: [1, 1], stride: [2, 2], ..MaxPool2d::new([3, 3]) }),
        ("padding 2x2", [1, 2, 4, 4], MaxPool2d { padding: [1, 1], ..plain }),
        ("dilation", [1, 1, 7, 8], MaxPool2d { dilation: [2, 3], stride: [1, 2], ..plain }),
        (
            "everything",
            [2, 1, 8, 9],
            MaxPool2d { kernel_size: [3, 2], stride: [2, 3], padding: [2, 1], dilation: [2, 2], ceil_mode: true },
        ),
        (
            "ceil beyond the input",
            [1, 1, 2, 2],
            MaxPool2d { stride: [2, 2], ceil_mode: true, ..MaxPool2d::new([3, 3]) },
        ),
        ("tall", [1, 1, 11, 1], MaxPool2d::new([4, 1])),
        ("wide", [1, 2, 3, 13], MaxPool2d::new([1, 5])),
    ];
    let mut cases = Vec::new();
    for (name, shape, pool) in settings {
        let build = move |graph: &mut wgrad::Graph, values: &[wgrad::Value]| {
            let (y, indices) = graph.max_pool2d_with_indices(values[0], pool)?;
            Ok(vec![y, indices])
        };
        cases.push(Case::new(format!("max_pool2d {name}"), vec![input(shape, Fill::Distinct)], build));
        let ties = Case::new(format!("max_pool2d {name}, ties"), vec![input(shape, Fill::Ties)], build);
        cases.push(ties.without_gradient_check());
    }
    // LeNet's first pooling at a small batch, and one output more than a workgroup has invocations.
    for shape in [[4, 6, 24, 24], [5, 13, 2, 2]] {
        let inputs = vec![input(shape, Fill::Large)];
        let case = Case::one(format!("max_pool2d plain {shape:?}"), inputs, move |g, v| g.max_pool2d(v[0], plain));
        cases.push(case.without_gradient_check());
    }
    cases
}
