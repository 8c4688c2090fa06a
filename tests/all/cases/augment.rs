//! Augmentation (what does nothing is no op, and a test of its own): each part by itself and all at once, both borders, images of one pixel and crops larger than them.

use super::{Case, Fill, input};
use wgrad::DType;
use wgrad::ops::{Augment, Border};

pub fn cases() -> Vec<Case> {
    let shapes = [[1, 1, 1, 1], [2, 1, 3, 5], [65, 1, 4, 4], [3, 3, 8, 7], [5, 2, 28, 28], [17, 4, 9, 1]];
    let none = Augment::default();
    let parts = [
        Augment { crop_padding: 1, ..none.clone() },
        Augment { flip_probability: 0.5, ..none.clone() },
        Augment { flip_probability: 1.0, ..none.clone() },
        Augment { crop_padding: 4, flip_probability: 0.5, ..none.clone() },
        Augment { max_rotation_degrees: 15.0, ..none.clone() },
        Augment { max_rotation_degrees: 180.0, ..none.clone() },
        Augment { max_shift: 0.75, ..none.clone() },
        Augment { crop_padding: 2, flip_probability: 0.3, max_rotation_degrees: 30.0, max_shift: 1.0, ..none },
    ];
    let mut cases = Vec::new();
    for shape in shapes {
        for part in &parts {
            for border in [Border::Edge, Border::Fill([-0.5, 2.0, 0.0, -1.25][..shape[1]].to_vec())] {
                let crop_padding = part.crop_padding.min(shape[2].max(shape[3]));
                let augment = Augment { crop_padding, border, ..part.clone() };
                let inputs = vec![input(shape, Fill::Uniform)];
                let case = Case::one(format!("{augment:?} of {shape:?}"), inputs, move |graph, values| {
                    let step = graph.scalar("step", DType::U32)?;
                    graph.augment(values[0], augment.clone(), (3 << 32) | 17, step)
                });
                cases.push(case.without_gradient_check());
            }
        }
    }
    cases
}
