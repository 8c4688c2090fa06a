//! Convolutions of many channels, which real GPUs take as an implicit matrix product from so many tiles on that these cases
//! are too much for the sanitizer and for every device in turn: the kernels of a GPU alone.

use wgrad::ops::kernel::GpuTraits;
use wgrad::ops::{Activation, Conv2d};

use crate::cases::{Case, Fill, input};
use crate::harness::{check_gpu_kernels, plan_with_gradients};

const GEMM: &str = "conv2d_gemm";

fn case(batch: usize, [from, to]: [usize; 2], extent: [usize; 2], kernel: [usize; 2], conv: Conv2d) -> Case {
    let inputs = vec![
        input([batch, from, extent[0], extent[1]], Fill::Uniform),
        input([to, from, kernel[0], kernel[1]], Fill::Uniform),
        input([to], Fill::Uniform),
    ];
    let name = format!("{batch} of {from} to {to}, {extent:?} under {kernel:?}, {conv:?}");
    let build = move |g: &mut wgrad::Graph, v: &[wgrad::Value]| g.conv2d(v[0], v[1], Some(v[2]), conv);
    Case::one(name, inputs, build).without_gradient_check()
}

/// Rows that end anywhere in a tile, channels that are no whole eights or tiles, both sizes of tiles, and every attribute.
pub fn cases() -> Vec<Case> {
    let plain = Conv2d::default();
    vec![
        case(5, [8, 64], [81, 81], [3, 3], Conv2d { padding: [1, 1], activation: Activation::Relu, ..plain }),
        case(3, [15, 58], [105, 219], [3, 2], Conv2d { stride: [1, 2], padding: [2, 1], dilation: [2, 3], ..plain }),
        // The gradient by the input, of more channels than the output has.
        case(5, [62, 8], [81, 82], [3, 3], Conv2d { dilation: [2, 1], ..plain }),
        case(3, [63, 8], [105, 105], [3, 3], Conv2d { padding: [3, 2], ..plain }),
        // Large tiles, the last of them ragged.
        case(3, [70, 124], [105, 105], [1, 1], plain),
    ]
}

/// How often the kernel is in the plan, forward or backward.
fn num_products(case: &Case) -> usize {
    let dispatches = plan_with_gradients(case).unwrap().dispatches(GpuTraits::GPU).unwrap();
    let kernels = dispatches.iter().flat_map(|step| &step.list).map(|dispatch| dispatch.kernel.label());
    kernels.filter(|label| *label == format!("{GEMM}.gemm")).count()
}

#[test]
fn many_channels_are_a_product_that_agrees_with_the_reference() {
    for case in cases() {
        assert_eq!(num_products(&case), 1, "{}", case.name);
    }
    check_gpu_kernels(cases());
}
