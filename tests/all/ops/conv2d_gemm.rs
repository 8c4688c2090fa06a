//! Convolutions of many channels, which real GPUs take as an implicit matrix product from so many tiles on that these cases
//! are too much for the sanitizer and for every device in turn: the kernels of a GPU alone.

use wgrad::ops::kernel::GpuTraits;
use wgrad::ops::{Activation, BatchNorm2d, Conv2d, SliceRange};

use crate::cases::{self, Case, Fill, Input, batch_norm2d, input};
use crate::harness::{check_every_kernel, check_gpu_kernels, plan_with_gradients};

const GEMM: &str = "conv2d_gemm.gemm";
const SLICES: [&str; 2] = ["conv2d_gemm.slices", "conv2d_gemm.add_slices"];
const WEIGHT_GEMM: &str = "conv2d_grad_weight_gemm.gemm";

fn operands(batch: usize, [from, to]: [usize; 2], extent: [usize; 2], kernel: [usize; 2]) -> Vec<Input> {
    vec![
        input([batch, from, extent[0], extent[1]], Fill::Uniform),
        input([to, from, kernel[0], kernel[1]], Fill::Uniform),
        input([to], Fill::Uniform),
    ]
}

fn case(batch: usize, [from, to]: [usize; 2], extent: [usize; 2], kernel: [usize; 2], conv: Conv2d) -> Case {
    let inputs = operands(batch, [from, to], extent, kernel);
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

/// Convolutions of images that something else reads, too, so that another gradient is added to the one by the input as that is
/// stored: to all of it, or to every other row and column, from some channels of more.
fn added_cases(batch: usize, [from, to]: [usize; 2], extent: [usize; 2]) -> [Case; 2] {
    let conv = Conv2d { padding: [1, 1], ..Conv2d::default() };
    let inputs = || operands(batch, [from, to], extent, [3, 3]);
    let name = format!("{batch} of {from} to {to}, {extent:?}");
    let whole = Case::new(format!("{name}, and the square"), inputs(), move |g, v| {
        Ok(vec![g.conv2d(v[0], v[1], Some(v[2]), conv)?, g.square(v[0])?])
    });
    let shortcut = Case::new(format!("{name}, and a shortcut"), inputs(), move |g, v| {
        let every = |stop: usize, step: usize| SliceRange { start: 0, stop, step };
        let [rows, columns] = extent;
        let some = g.slice(v[0], &[every(batch, 1), every(from, 1), every(rows, 2), every(columns, 2)])?;
        let some = g.pad(some, &[(0, 0), (1, 2), (0, 0), (0, 0)])?;
        Ok(vec![g.conv2d(v[0], v[1], Some(v[2]), conv)?, some])
    });
    [whole, shortcut].map(Case::without_gradient_check)
}

/// The same of fewer tiles, in slices of K: many products; and as many slices as there may be. Gradients by the input are in
/// slices as well.
fn sliced_cases() -> Vec<Case> {
    let padded = Conv2d { padding: [1, 1], ..Conv2d::default() };
    vec![case(65, [120, 123], [7, 7], [3, 2], padded), case(8, [512, 120], [4, 4], [3, 3], padded)]
}

/// The same for the gradient by the weight: rows of fewer pixels than a stage and of no whole stages, channels that are no
/// whole quads or tiles, and every attribute; the last slice is shorter than the others.
pub fn weight_cases() -> Vec<Case> {
    let plain = Conv2d::default();
    vec![
        case(510, [63, 62], [7, 7], [3, 3], Conv2d { padding: [1, 1], ..plain }),
        case(3, [31, 64], [115, 99], [3, 3], Conv2d { padding: [2, 0], dilation: [2, 1], ..plain }),
        case(8, [64, 60], [113, 115], [3, 2], Conv2d { stride: [2, 2], padding: [1, 1], ..plain }),
        case(2, [130, 124], [113, 111], [1, 1], plain),
    ]
}

/// With the moments of the result for a batch normalization: ragged tiles of both sizes, the last of them of a few pixels.
pub fn moment_cases() -> Vec<Case> {
    let (plain, default) = (Conv2d::default(), BatchNorm2d::default());
    vec![
        batch_norm2d::conv([5, 8, 81, 81], [58, 3, 3], Conv2d { padding: [1, 1], ..plain }, default),
        batch_norm2d::conv([3, 70, 105, 105], [124, 1, 1], plain, default),
    ]
}

/// With the sums of the gradient by the input for that of a batch normalization, with another gradient added or not: tiles as
/// above.
pub fn sum_cases() -> Vec<Case> {
    let (plain, relu) = (Conv2d::default(), Activation::Relu);
    vec![
        batch_norm2d::into_conv([5, 58, 81, 81], [8, 3, 3], Conv2d { padding: [1, 1], ..plain }, relu, true, true),
        batch_norm2d::into_conv([3, 124, 105, 105], [70, 1, 1], plain, relu, true, false),
    ]
}

/// How often a kernel is in the plan, forward or backward.
fn count(case: &Case, kernel: &str) -> usize {
    let dispatches = plan_with_gradients(case).unwrap().dispatches(GpuTraits::GPU).unwrap();
    let kernels = dispatches.iter().flat_map(|step| &step.list).map(|dispatch| dispatch.kernel.label());
    kernels.filter(|label| label == kernel).count()
}

#[test]
fn many_channels_are_a_product_that_agrees_with_the_reference() {
    for case in cases() {
        assert_eq!(count(&case, GEMM), 1, "{}", case.name);
    }
    check_gpu_kernels(cases());
}

/// Whether another gradient is added as the kernel stores the one by the input.
fn is_added(case: &Case, kernel: &str) -> bool {
    let dispatches = plan_with_gradients(case).unwrap().dispatches(GpuTraits::GPU).unwrap();
    let mut kernels = dispatches.iter().flat_map(|step| &step.list).map(|dispatch| &dispatch.kernel);
    kernels.any(|used| used.label() == kernel && used.constants.contains(&("HAS_ADDED", 1.0)))
}

#[test]
fn a_product_adds_another_gradient_as_it_stores() {
    let cases = added_cases(5, [64, 8], [81, 81]);
    assert!(cases.iter().all(|case| is_added(case, GEMM)));
    check_gpu_kernels(cases.into());
}

#[test]
fn moments_of_many_channels_agree_with_the_reference() {
    for case in moment_cases() {
        assert_eq!(count(&case, "conv2d_gemm.gemm_moments"), 1, "{}", case.name);
    }
    check_gpu_kernels(moment_cases());
}

#[test]
fn sums_of_the_gradient_of_many_channels_agree_with_the_reference() {
    for case in sum_cases() {
        assert_eq!(count(&case, "conv2d_gemm.gemm_sums"), 1, "{}", case.name);
    }
    check_gpu_kernels(sum_cases());
}

#[test]
fn few_tiles_are_products_in_slices_that_agree_with_the_reference() {
    let counts =
        |cases: Vec<Case>| cases.iter().map(|case| SLICES.map(|kernel| count(case, kernel))).collect::<Vec<_>>();
    assert_eq!(counts(sliced_cases()), [[2, 2], [2, 2]]);
    assert_eq!(counts(cases::conv2d::sliced()), [[2, 2], [1, 1]]);
    check_gpu_kernels(sliced_cases());
    check_every_kernel(cases::conv2d::sliced());
}

#[test]
fn the_sum_of_slices_adds_another_gradient_as_it_stores() {
    let cases = added_cases(7, [120, 116], [5, 5]);
    assert!(cases.iter().all(|case| is_added(case, SLICES[1])));
    check_gpu_kernels(cases.into());
}

#[test]
fn gradients_by_the_weight_of_many_channels_are_a_product_that_agrees_with_the_reference() {
    for case in weight_cases() {
        assert_eq!(count(&case, WEIGHT_GEMM), 1, "{}", case.name);
    }
    check_gpu_kernels(weight_cases());
}
