//! Convolutions and their gradients by input, weight and bias. Kernel size, stride, padding, dilation and groups are
//! constants of the shaders, each set of them four pipelines a device; extents and channels are not, so they vary more.

use super::{Case, Fill, input};
use wgrad::ops::{Activation, Conv2d, MaxPool2d};

/// What a case convolves.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    channels: [usize; 2],
    extent: [usize; 2],
    kernel: [usize; 2],
}

fn shape(batch: usize, channels: [usize; 2], extent: [usize; 2], kernel: [usize; 2]) -> Shape {
    Shape { batch, channels, extent, kernel }
}

fn case(shape: Shape, conv: Conv2d, with_bias: bool) -> Case {
    let Shape { batch, channels: [from, to], extent: [h, w], kernel: [kh, kw] } = shape;
    let mut inputs =
        vec![input([batch, from, h, w], Fill::Uniform), input([to, from / conv.groups, kh, kw], Fill::Uniform)];
    if with_bias {
        inputs.push(input([to], Fill::Uniform));
    }
    let name = format!("{shape:?} {conv:?} bias {with_bias}");
    let case = Case::one(name, inputs, move |g, v| g.conv2d(v[0], v[1], v.get(2).copied(), conv));
    // Differences run the whole plan twice for each element.
    let num_elems: usize = case.inputs.iter().map(|input| input.shape.num_elems()).sum();
    if num_elems <= 700 { case } else { case.without_gradient_check() }
}

/// LeNet's layers on grey images of 28×28 and coloured ones of 32×32: the batch of training, and one or two images
/// with gradients by differences.
pub fn lenet() -> Vec<Case> {
    let conv = Conv2d::default();
    let layers = [([1, 6], 28), ([6, 16], 12), ([3, 6], 32), ([6, 16], 14)];
    let mut cases = Vec::new();
    for (channels, extent) in layers {
        for batch in [1, 64] {
            cases.push(case(shape(batch, channels, [extent; 2], [5, 5]), conv, true).without_gradient_check());
        }
    }
    // Both layers with fewer channels and smaller images, vec4 and not.
    for (channels, extent) in [([1, 2], [8, 8]), ([2, 3], [8, 8]), ([2, 2], [7, 6])] {
        cases.push(case(shape(2, channels, extent, [5, 5]), conv, true));
    }
    cases.push(case(shape(3, [1, 2], [6, 8], [5, 5]), conv, true));
    let relu = Conv2d { activation: Activation::Relu, ..conv };
    cases.push(case(shape(64, [1, 6], [28, 28], [5, 5]), relu, true).without_gradient_check());
    cases
}

/// Each extent in turn under one kernel, so that rows end everywhere within a strip; channels around a tile of 8.
pub fn sizes() -> Vec<Case> {
    let same = Conv2d { padding: [1, 1], ..Conv2d::default() };
    let sizes = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33];
    let mut cases = Vec::new();
    for (index, &size) in sizes.iter().enumerate() {
        let other = sizes[(index + 4) % sizes.len()];
        cases.push(case(shape(2, [2, 3], [3, size], [3, 3]), same, true));
        cases.push(case(shape(2, [1, 2], [size, 4], [3, 3]), same, true));
        cases.push(case(shape(1, [size, other], [5, 6], [3, 3]), same, false));
        cases.push(case(shape(size, [3, 9], [4, other], [3, 3]), same, true));
    }
    // Widths at multiples of four with nothing around them, and taller than wide.
    for extent in [[6, 12], [12, 6], [40, 8], [3, 3]] {
        cases.push(case(shape(3, [5, 10], extent, [3, 3]), Conv2d::default(), true));
    }
    cases
}

/// Every attribute, most of them unlike along height and width.
pub fn attributes() -> Vec<Case> {
    let plain = Conv2d::default();
    let mut cases = vec![
        // 1×1: a matrix product; and with a stride.
        case(shape(2, [3, 4], [4, 5], [1, 1]), plain, true),
        case(shape(3, [9, 17], [7, 8], [1, 1]), plain, true),
        case(shape(2, [3, 2], [5, 6], [1, 1]), Conv2d { stride: [2, 3], ..plain }, true),
        // Strides below, at and above the kernel: pixels that no window sees get gradient 0.
        case(shape(2, [2, 3], [7, 8], [3, 3]), Conv2d { stride: [2, 2], ..plain }, true),
        case(shape(2, [2, 3], [9, 8], [2, 2]), Conv2d { stride: [2, 2], ..plain }, false),
        case(shape(2, [3, 17], [9, 12], [3, 3]), Conv2d { stride: [2, 2], padding: [1, 1], ..plain }, false),
        // Enough channels for the CPU's minimal filtering of 3×3 kernels.
        case(shape(5, [17, 18], [6, 9], [3, 3]), Conv2d { padding: [1, 1], ..plain }, true),
        case(shape(2, [2, 3], [9, 11], [2, 3]), Conv2d { stride: [3, 5], ..plain }, true),
        // Padding up to one less than the kernel, which is as much as a window can lie outside, and beyond.
        case(shape(2, [2, 3], [4, 5], [3, 4]), Conv2d { padding: [2, 3], ..plain }, true),
        case(shape(1, [2, 3], [4, 4], [5, 5]), Conv2d { padding: [4, 4], ..plain }, true),
        case(shape(1, [2, 2], [3, 4], [2, 2]), Conv2d { padding: [3, 2], ..plain }, true),
        case(shape(2, [2, 9], [8, 8], [5, 5]), Conv2d { padding: [2, 2], ..plain }, true),
        // A kernel as large as the padded image: one output.
        case(shape(2, [2, 3], [3, 4], [5, 4]), Conv2d { padding: [1, 0], ..plain }, true),
        // Dilation.
        case(shape(2, [2, 3], [7, 8], [3, 3]), Conv2d { dilation: [2, 3], ..plain }, true),
        case(
            shape(1, [2, 2], [8, 9], [2, 3]),
            Conv2d { dilation: [3, 2], stride: [1, 2], padding: [2, 1], ..plain },
            true,
        ),
        case(shape(2, [3, 4], [6, 8], [3, 2]), Conv2d { dilation: [2, 1], padding: [1, 1], ..plain }, false),
        // Groups, one channel each (depthwise) and two outputs for each channel.
        case(shape(2, [4, 6], [5, 4], [3, 3]), Conv2d { groups: 2, padding: [1, 1], ..plain }, true),
        case(shape(2, [34, 18], [4, 6], [3, 3]), Conv2d { groups: 2, padding: [1, 1], ..plain }, true),
        case(shape(2, [4, 4], [5, 6], [3, 3]), Conv2d { groups: 4, stride: [2, 1], ..plain }, true),
        case(shape(2, [3, 6], [4, 8], [3, 3]), Conv2d { groups: 3, padding: [1, 1], ..plain }, false),
        // Kernels longer than a row in registers, and such of one row or column.
        case(shape(2, [2, 3], [8, 9], [7, 7]), Conv2d { padding: [3, 3], ..plain }, true),
        case(shape(1, [3, 9], [24, 23], [11, 11]), Conv2d { stride: [4, 4], padding: [2, 2], ..plain }, true),
        case(shape(1, [1, 1], [13, 14], [11, 11]), plain, true),
        case(shape(2, [2, 3], [4, 8], [1, 5]), Conv2d { padding: [0, 2], ..plain }, true),
        case(shape(2, [2, 3], [8, 4], [5, 1]), Conv2d { padding: [2, 0], ..plain }, true),
        case(shape(2, [2, 3], [4, 9], [1, 6]), plain, true),
        // Everything at once.
        case(
            shape(2, [4, 6], [9, 10], [3, 2]),
            Conv2d { stride: [2, 3], padding: [2, 1], dilation: [2, 3], groups: 2, activation: Activation::Tanh },
            true,
        ),
    ];
    for activation in [Activation::Relu, Activation::Sigmoid, Activation::Tanh] {
        for (extent, with_bias) in [([4, 6], true), ([4, 5], false)] {
            let conv = Conv2d { activation, ..plain };
            cases.push(case(shape(2, [2, 3], extent, [3, 3]), conv, with_bias));
        }
    }
    cases
}

/// What the CPU's direct kernels tell apart: outputs of every tile's width and a pixel more, channels around a vector,
/// strides, kernels of 1, 3, 5 and 7.
pub fn direct() -> Vec<Case> {
    let padded = |padding: usize| Conv2d { padding: [padding; 2], ..Conv2d::default() };
    let strided = |stride: [usize; 2], padding: usize| Conv2d { stride, ..padded(padding) };
    let mut cases = Vec::new();
    for (channels, extent) in [
        ([3, 20], [3, 28]),
        ([20, 16], [5, 29]),
        ([4, 33], [2, 56]),
        ([40, 17], [4, 14]),
        ([17, 48], [3, 15]),
        ([33, 32], [8, 8]),
        ([20, 65], [9, 9]),
        ([32, 16], [6, 6]),
        ([48, 31], [4, 4]),
        ([32, 64], [2, 2]),
    ] {
        cases.push(case(shape(5, channels, extent, [3, 3]), padded(1), true));
    }
    cases.extend([
        case(shape(2, [16, 40], [14, 14], [1, 1]), padded(0), true),
        case(shape(9, [3, 16], [32, 30], [7, 7]), strided([2, 2], 3), true),
        case(shape(2, [17, 32], [17, 19], [3, 3]), strided([2, 2], 1), false),
        case(shape(2, [8, 24], [16, 16], [1, 1]), strided([2, 2], 0), true),
        case(shape(2, [5, 18], [12, 11], [3, 3]), strided([1, 3], 1), true),
        case(shape(3, [6, 20], [11, 13], [5, 5]), padded(2), true),
        case(shape(2, [3, 19], [9, 20], [3, 3]), Conv2d { dilation: [2, 2], ..padded(2) }, true),
        case(shape(2, [6, 34], [9, 12], [2, 4]), Conv2d { activation: Activation::Relu, ..padded(1) }, true),
    ]);
    cases.into_iter().map(Case::without_gradient_check).collect()
}

/// Strides, whose input gradients fall into classes of pixels: kernels of 1 to 9 below, at and above the stride, padding
/// beyond the kernel, rows that end anywhere, pixels at the end that no window sees, channels around a thread's four or eight.
pub fn strided() -> Vec<Case> {
    let conv = |stride: [usize; 2], padding: [usize; 2]| Conv2d { stride, padding, ..Conv2d::default() };
    let grouped = |groups: usize, stride: [usize; 2]| Conv2d { groups, ..conv(stride, [1, 1]) };
    let cases = [
        (shape(2, [9, 5], [8, 8], [3, 3]), conv([2, 2], [1, 1])),
        (shape(2, [9, 5], [7, 9], [3, 3]), conv([2, 2], [1, 1])),
        (shape(2, [16, 33], [16, 20], [3, 3]), conv([2, 2], [1, 1])),
        (shape(3, [17, 24], [8, 12], [1, 1]), conv([2, 2], [0, 0])),
        (shape(2, [5, 7], [6, 7], [1, 1]), conv([2, 2], [1, 1])),
        (shape(2, [3, 4], [9, 8], [2, 2]), conv([2, 2], [1, 0])),
        (shape(2, [3, 4], [11, 12], [4, 4]), conv([2, 2], [2, 1])),
        (shape(2, [3, 9], [12, 16], [5, 5]), conv([2, 2], [2, 2])),
        (shape(1, [3, 9], [13, 17], [7, 7]), conv([2, 2], [3, 3])),
        (shape(1, [2, 3], [15, 16], [9, 9]), conv([2, 2], [4, 4])),
        // Wider than is written out.
        (shape(1, [2, 3], [16, 16], [10, 10]), conv([2, 2], [4, 4])),
        // Beyond the kernel.
        (shape(2, [3, 4], [6, 8], [3, 3]), conv([2, 2], [4, 5])),
        (shape(2, [2, 3], [5, 4], [1, 2]), conv([2, 2], [3, 4])),
        (shape(2, [5, 6], [10, 11], [3, 3]), conv([3, 3], [1, 1])),
        (shape(2, [9, 6], [12, 12], [5, 4]), conv([3, 3], [2, 0])),
        (shape(2, [5, 6], [13, 14], [2, 2]), conv([3, 3], [0, 1])),
        (shape(2, [5, 6], [13, 12], [7, 7]), conv([4, 4], [3, 3])),
        (shape(1, [5, 3], [9, 16], [3, 3]), conv([4, 4], [1, 1])),
        // Unlike along height and width; wider than a thread has room for.
        (shape(2, [5, 6], [9, 10], [3, 3]), conv([2, 1], [1, 1])),
        (shape(2, [5, 6], [9, 12], [3, 3]), conv([1, 2], [1, 1])),
        (shape(2, [5, 6], [9, 12], [2, 3]), conv([5, 2], [1, 2])),
        (shape(2, [5, 6], [9, 17], [3, 6]), conv([2, 5], [1, 2])),
        // One row or column, more strips than a workgroup has, a pixel in all.
        (shape(2, [3, 9], [1, 70], [1, 3]), conv([1, 2], [0, 1])),
        (shape(1, [3, 2], [70, 1], [3, 1]), conv([2, 2], [1, 0])),
        (shape(2, [3, 2], [1, 1], [3, 3]), conv([2, 2], [1, 1])),
        (shape(2, [12, 18], [8, 8], [3, 3]), grouped(2, [2, 2])),
        (shape(2, [6, 9], [7, 8], [3, 3]), grouped(3, [2, 2])),
        (shape(2, [12, 6], [7, 8], [3, 3]), grouped(2, [3, 3])),
    ];
    cases.into_iter().map(|(shape, conv)| case(shape, conv, false).without_gradient_check()).collect()
}

/// Groups: one channel each, with one and more outputs for each, a few, more than a tile of eight; planes that fill a
/// workgroup and such that do not.
pub fn grouped() -> Vec<Case> {
    let conv = |groups: usize, stride: usize, padding: usize| Conv2d {
        groups,
        stride: [stride; 2],
        padding: [padding; 2],
        ..Conv2d::default()
    };
    let cases = [
        (shape(3, [6, 6], [16, 20], [3, 3]), conv(6, 1, 1)),
        (shape(2, [5, 5], [17, 33], [3, 3]), conv(5, 2, 1)),
        (shape(2, [4, 8], [16, 17], [5, 5]), conv(4, 1, 2)),
        (shape(2, [3, 6], [32, 36], [5, 5]), conv(3, 2, 2)),
        (shape(2, [3, 3], [20, 24], [7, 7]), conv(3, 1, 3)),
        (shape(9, [12, 12], [4, 4], [3, 3]), conv(12, 1, 1)),
        (shape(2, [20, 36], [9, 30], [3, 3]), conv(2, 1, 1)),
        (shape(2, [33, 9], [12, 16], [3, 2]), conv(3, 1, 1)),
        (shape(2, [18, 34], [16, 16], [1, 1]), conv(2, 1, 0)),
        (shape(1, [36, 40], [24, 20], [3, 3]), conv(2, 2, 1)),
    ];
    cases.into_iter().map(|(shape, conv)| case(shape, conv, true).without_gradient_check()).collect()
}

/// Many channels of a few pixels, which real GPUs take in slices of K; channels and pixels are no whole tiles, and the last
/// slice is shorter. With a stride the gradient by the input is left to another kernel.
pub fn sliced() -> Vec<Case> {
    let plain = Conv2d::default();
    let padded = Conv2d { padding: [1, 1], activation: Activation::Relu, ..plain };
    let strided = Conv2d { stride: [1, 2], padding: [2, 1], dilation: [2, 3], ..plain };
    vec![
        case(shape(2, [120, 116], [3, 3], [3, 3]), padded, true).without_gradient_check(),
        case(shape(7, [171, 60], [5, 8], [3, 2]), strided, false).without_gradient_check(),
    ]
}

/// One channel each: kernels of 1 to 7 and wider, rows of whole quads and not, planes of one row, column or pixel, padding
/// beyond the kernel, strides below and above it, dilations, several filters for each channel, slices that end within an image.
pub fn depthwise() -> Vec<Case> {
    let conv = |groups: usize, stride: [usize; 2], padding: [usize; 2]| Conv2d {
        groups,
        stride,
        padding,
        ..Conv2d::default()
    };
    let dilated = |dilation: [usize; 2], conv: Conv2d| Conv2d { dilation, ..conv };
    let cases = [
        (shape(3, [5, 5], [9, 12], [3, 3]), conv(5, [1, 1], [1, 1])),
        (shape(2, [3, 3], [7, 7], [3, 3]), conv(3, [1, 1], [1, 1])),
        (shape(40, [3, 3], [13, 11], [3, 3]), conv(3, [1, 1], [1, 1])),
        (shape(2, [3, 6], [8, 12], [5, 5]), conv(3, [1, 1], [2, 2])),
        (shape(2, [3, 9], [9, 16], [7, 7]), conv(3, [1, 1], [3, 3])),
        (shape(2, [2, 4], [10, 9], [7, 7]), conv(2, [1, 1], [3, 3])),
        (shape(1, [2, 2], [3, 8], [5, 5]), conv(2, [1, 1], [6, 4])),
        (shape(2, [3, 3], [10, 12], [3, 3]), conv(3, [1, 1], [0, 0])),
        (shape(2, [3, 3], [6, 8], [2, 4]), conv(3, [1, 1], [1, 0])),
        // Wider and longer than is written out; more filters for each channel.
        (shape(1, [2, 2], [12, 12], [3, 8]), conv(2, [1, 1], [1, 4])),
        (shape(1, [2, 2], [12, 12], [9, 3]), conv(2, [1, 1], [4, 1])),
        (shape(1, [2, 18], [5, 8], [3, 3]), conv(2, [1, 1], [1, 1])),
        // Strides.
        (shape(2, [5, 5], [10, 16], [3, 3]), conv(5, [2, 2], [1, 1])),
        (shape(2, [3, 6], [9, 11], [3, 3]), conv(3, [2, 2], [1, 1])),
        (shape(2, [3, 3], [14, 14], [5, 5]), conv(3, [2, 2], [2, 2])),
        (shape(2, [2, 2], [15, 17], [7, 7]), conv(2, [2, 2], [3, 3])),
        (shape(2, [3, 3], [8, 12], [1, 1]), conv(3, [2, 2], [1, 0])),
        (shape(2, [3, 3], [11, 10], [3, 3]), conv(3, [3, 3], [1, 0])),
        (shape(2, [3, 3], [12, 16], [2, 3]), conv(3, [4, 4], [1, 1])),
        (shape(2, [3, 3], [9, 16], [3, 3]), conv(3, [1, 2], [1, 2])),
        (shape(2, [3, 3], [19, 12], [3, 3]), conv(3, [6, 1], [1, 1])),
        (shape(2, [3, 3], [9, 19], [3, 3]), conv(3, [1, 5], [1, 1])),
        (shape(1, [2, 2], [23, 9], [3, 3]), conv(2, [9, 1], [1, 1])),
        // Dilations.
        (shape(2, [3, 3], [11, 12], [3, 3]), dilated([2, 2], conv(3, [1, 1], [2, 2]))),
        (shape(2, [3, 6], [12, 13], [3, 2]), dilated([3, 2], conv(3, [2, 2], [3, 1]))),
        (shape(2, [2, 2], [14, 16], [5, 5]), dilated([2, 2], conv(2, [1, 1], [4, 4]))),
        (shape(1, [2, 2], [9, 40], [3, 3]), dilated([1, 9], conv(2, [1, 1], [1, 9]))),
        (shape(1, [2, 2], [30, 8], [3, 3]), dilated([9, 1], conv(2, [1, 1], [9, 1]))),
        // One row, column or pixel, and large planes of one image, whose rows are cut into slices.
        (shape(3, [3, 3], [1, 70], [1, 3]), conv(3, [1, 1], [0, 1])),
        (shape(3, [3, 3], [70, 1], [3, 1]), conv(3, [1, 1], [1, 0])),
        (shape(2, [70, 70], [1, 1], [3, 3]), conv(70, [1, 1], [1, 1])),
        (shape(1, [2, 2], [61, 64], [3, 3]), conv(2, [1, 1], [1, 1])),
        (shape(2, [2, 4], [53, 37], [3, 3]), conv(2, [2, 2], [1, 1])),
    ];
    let relu = Conv2d { activation: Activation::Relu, ..conv(3, [1, 1], [1, 1]) };
    let with_bias =
        [case(shape(2, [3, 6], [6, 8], [3, 3]), relu, true), case(shape(2, [3, 3], [6, 7], [3, 3]), relu, true)];
    let without = cases.into_iter().enumerate().map(|(index, (shape, conv))| case(shape, conv, index % 2 == 0));
    without.chain(with_bias).map(Case::without_gradient_check).collect()
}

/// Convolution, ReLU and max-pooling, whose gradients are one op: windows side by side that fit and that do not, channels
/// around 8, 16 and 64, planes of a few pixels, padding. Ties would leave the choice of a cell to rounding.
pub fn pooled() -> Vec<Case> {
    let plain = Conv2d::default();
    let padded = |padding: usize| Conv2d { padding: [padding; 2], ..plain };
    let two = MaxPool2d::new([2, 2]);
    let cases = [
        (shape(3, [1, 6], [28, 28], [5, 5]), plain, two),
        (shape(17, [6, 16], [12, 12], [5, 5]), plain, two),
        (shape(2, [3, 6], [9, 11], [3, 3]), padded(1), two),
        (shape(2, [8, 9], [7, 8], [3, 2]), padded(1), MaxPool2d { ceil_mode: true, ..two }),
        (shape(9, [17, 15], [6, 5], [3, 3]), padded(2), two),
        (shape(2, [5, 70], [10, 10], [3, 3]), plain, MaxPool2d::new([3, 2])),
        (shape(1, [33, 20], [8, 9], [1, 1]), plain, MaxPool2d { padding: [1, 1], ..two }),
        (shape(2, [4, 5], [13, 12], [2, 4]), plain, MaxPool2d { stride: [4, 3], ..two }),
        (shape(2, [16, 32], [10, 40], [3, 3]), padded(1), two),
        (shape(5, [4, 33], [10, 22], [3, 3]), plain, two),
        (shape(3, [5, 7], [8, 6], [1, 1]), plain, two),
        (shape(3, [1, 4], [6, 8], [1, 1]), plain, two),
        (shape(4, [20, 16], [5, 29], [3, 3]), padded(1), two),
        (shape(2, [3, 20], [18, 16], [5, 3]), padded(1), two),
    ];
    cases
        .into_iter()
        .map(|(sizes, conv, pool)| {
            let Shape { batch, channels: [from, to], extent: [h, w], kernel: [kh, kw] } = sizes;
            let inputs = vec![
                input([batch, from, h, w], Fill::Uniform),
                input([to, from, kh, kw], Fill::Uniform),
                input([to], Fill::Uniform),
            ];
            let build = move |g: &mut wgrad::Graph, v: &[wgrad::Value]| {
                let y = g.conv2d(v[0], v[1], Some(v[2]), conv)?;
                let y = g.relu(y)?;
                g.max_pool2d(y, pool)
            };
            Case::one(format!("{sizes:?} {conv:?} {pool:?}"), inputs, build).without_gradient_check()
        })
        .collect()
}
