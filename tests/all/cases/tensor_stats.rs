//! Statistics and histograms at sizes around a workgroup's and a slice's; what is assigned to a state. The outputs are
//! states, which the comparison of devices looks at like at any other.

use super::{Case, Fill, input};
use wgrad::TensorType;
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::Init;

pub fn cases() -> Vec<Case> {
    let shapes = [vec![1], vec![7], vec![63], vec![5, 13], vec![4096], vec![4097], vec![3, 4, 5, 6], vec![12_289]];
    let mut cases = Vec::new();
    for shape in shapes {
        for fill in [Fill::Uniform, Fill::Ties, Fill::Large] {
            let inputs = vec![input(shape.clone(), fill)];
            let of = format!("of {shape:?}, {fill:?}");
            let stats = Case::new(format!("tensor_stats {of}"), inputs.clone(), |graph, values| {
                graph.tensor_stats("table", 3, 1, values[0])?;
                Ok(Vec::new())
            });
            let histogram = Case::new(format!("tensor_histogram {of}"), inputs.clone(), |graph, values| {
                graph.tensor_histogram("histograms", 2, 1, values[0])?;
                Ok(Vec::new())
            });
            let dims = shape.clone();
            let assign = Case::new(format!("assign {of}"), inputs, move |graph, values| {
                let ty = TensorType::f32(dims.clone());
                let spec = StateSpec { name: "state".into(), ty, kind: StateKind::Input, init: Init::Zeros };
                let state = graph.state(spec)?;
                graph.assign(state, values[0])?;
                Ok(Vec::new())
            });
            cases.extend([stats, histogram, assign].map(Case::without_gradient_check));
        }
    }
    cases
}
