//! Depthwise convolutions of so many pixels that a thread has several rows: the kernels of a GPU alone.

use wgrad::ops::kernel::GpuTraits;
use wgrad::ops::{Activation, Conv2d};

use crate::cases::{Case, Fill, input};
use crate::harness::{check_gpu_kernels, plan_with_gradients};

fn case([batch, channels, multiplier]: [usize; 3], extent: [usize; 2], kernel: [usize; 2], conv: Conv2d) -> Case {
    let inputs = vec![
        input([batch, channels, extent[0], extent[1]], Fill::Uniform),
        input([channels * multiplier, 1, kernel[0], kernel[1]], Fill::Uniform),
        input([channels * multiplier], Fill::Uniform),
    ];
    let conv = Conv2d { groups: channels, ..conv };
    let name = format!("{batch} of {channels} times {multiplier}, {extent:?} under {kernel:?}, {conv:?}");
    let build = move |g: &mut wgrad::Graph, v: &[wgrad::Value]| g.conv2d(v[0], v[1], Some(v[2]), conv);
    Case::one(name, inputs, build).without_gradient_check()
}

/// Rows of whole quads and not, rows of pixels that are no whole blocks, every attribute.
pub fn cases() -> Vec<Case> {
    let padded = |size: usize| Conv2d { padding: [size / 2; 2], ..Conv2d::default() };
    let relu = Conv2d { activation: Activation::Relu, ..padded(3) };
    vec![
        case([9, 70, 1], [41, 40], [3, 3], relu),
        case([33, 90, 1], [15, 13], [3, 3], padded(3)),
        case([7, 50, 2], [38, 44], [5, 5], padded(5)),
        case([9, 70, 1], [29, 31], [5, 4], padded(5)),
        case([5, 60, 1], [51, 64], [2, 3], padded(3)),
        case([9, 70, 1], [58, 60], [3, 3], Conv2d { stride: [2, 2], ..padded(3) }),
        case([9, 70, 1], [59, 57], [5, 5], Conv2d { stride: [2, 2], ..padded(5) }),
        case([9, 40, 2], [50, 51], [3, 3], Conv2d { stride: [3, 3], ..padded(3) }),
        case([9, 70, 1], [43, 48], [3, 3], Conv2d { dilation: [2, 2], padding: [2, 2], ..padded(3) }),
    ]
}

/// How many dispatches of the plan, forward and backward, are the kernels for these.
fn count(case: &Case) -> usize {
    let dispatches = plan_with_gradients(case).unwrap().dispatches(GpuTraits::GPU).unwrap();
    let kernels = dispatches.iter().flat_map(|step| &step.list).map(|dispatch| dispatch.kernel.label());
    kernels.filter(|label| label.starts_with("conv2d_depthwise")).count()
}

#[test]
fn channels_by_themselves_agree_with_the_reference() {
    for case in cases() {
        assert_eq!(count(&case), 3, "{}", case.name);
    }
    check_gpu_kernels(cases());
}
