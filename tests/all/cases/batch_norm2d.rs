//! Batch normalisation in training and evaluation: two values, planes of one, slices and workgroups around their
//! sizes, images that all hold one value, and means far from 0.

use super::{Case, Fill, input};
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::Init;
use wgrad::ops::{Activation, BatchNorm2d, BatchNormTensors, Conv2d};
use wgrad::{Graph, Result, Tensor, Value};

pub fn cases() -> Vec<Case> {
    let default = BatchNorm2d::default();
    let mut cases = Vec::new();
    // Two values become ±1 whatever they are, and their gradient nothing but rounding, unless eps is large.
    for shape in [[2, 1, 1, 1], [2, 3, 1, 1], [1, 2, 2, 1]] {
        cases.push(train(shape, Fill::Uniform, BatchNorm2d { eps: 0.5, ..default }));
    }
    for shape in [[1, 2, 3, 1], [3, 2, 2, 5], [4, 3, 3, 3]] {
        cases.push(train(shape, Fill::Uniform, default));
        cases.push(eval(shape, Fill::Uniform, 1e-5));
    }
    cases.push(eval([1, 3, 1, 1], Fill::Uniform, 1e-2));
    let cumulative = BatchNorm2d { momentum: None, ..default };
    for attributes in [cumulative, BatchNorm2d { eps: 1e-2, momentum: Some(0.7) }] {
        cases.push(train([3, 2, 2, 2], Fill::Uniform, attributes));
    }
    for shape in [[64, 6, 12, 12], [5, 65, 7, 9], [2, 3, 32, 32], [1, 2, 23, 89], [1, 2, 2049, 1], [2047, 3, 1, 1]] {
        for fill in [Fill::Positive, Fill::Ties, Fill::Large] {
            cases.push(train(shape, fill, default).without_gradient_check());
            cases.push(eval(shape, fill, 1e-5).without_gradient_check());
        }
    }
    // More slices than are merged at their least size.
    cases.push(train([3, 1, 311, 301], Fill::Positive, cumulative).without_gradient_check());
    cases
}

fn train([n, c, h, w]: [usize; 4], fill: Fill, attributes: BatchNorm2d) -> Case {
    let name = format!("batch_norm2d ({n}, {c}, {h}, {w}) {fill:?} {attributes:?}");
    let inputs = vec![input([n, c, h, w], fill), input([c], Fill::Positive), input([c], Fill::Uniform)];
    Case::one(name, inputs, move |g, v| {
        let tensors = tensors(g, v, attributes.momentum.is_none())?;
        g.batch_norm2d(v[0], tensors, attributes)
    })
}

fn eval([n, c, h, w]: [usize; 4], fill: Fill, eps: f64) -> Case {
    let name = format!("batch_norm2d_eval ({n}, {c}, {h}, {w}) {fill:?} eps {eps}");
    let inputs = vec![input([n, c, h, w], fill), input([c], Fill::Positive), input([c], Fill::Uniform)];
    Case::one(name, inputs, move |g, v| {
        let tensors = tensors(g, v, false)?;
        g.batch_norm2d_eval(v[0], tensors, eps)
    })
}

/// After a convolution, which a real GPU has hand on the moments of its tiles: whole and ragged ones, several across and down,
/// more channels than whole eights, strides and groups, few pixels a tile, and more tiles than a small workgroup merges.
pub fn after_conv() -> Vec<Case> {
    let (plain, default) = (Conv2d::default(), BatchNorm2d::default());
    let same = Conv2d { padding: [1, 1], ..plain };
    let cumulative = BatchNorm2d { momentum: None, ..default };
    vec![
        conv([2, 3, 16, 32], [16, 3, 3], same, default),
        conv([3, 5, 9, 13], [10, 3, 3], same, cumulative),
        conv([2, 4, 11, 70], [9, 5, 5], plain, default),
        conv([2, 3, 35, 8], [20, 1, 1], plain, default),
        conv([4, 8, 8, 8], [24, 3, 3], Conv2d { stride: [2, 2], ..same }, default),
        conv([2, 18, 12, 15], [36, 3, 2], Conv2d { groups: 2, stride: [1, 2], ..same }, default),
        conv([3, 4, 6, 5], [40, 3, 3], plain, BatchNorm2d { eps: 0.5, ..default }),
        conv([130, 3, 4, 4], [5, 3, 3], same, default),
    ]
}

/// After one of few tiles, which a real GPU takes as a product in slices: a last run of few pixels and none of a tile's second
/// half, and channels that are no whole quads or tiles.
pub fn after_slices() -> Vec<Case> {
    let default = BatchNorm2d::default();
    let padded = Conv2d { padding: [1, 1], ..Conv2d::default() };
    vec![
        conv([2, 120, 3, 3], [58, 3, 3], padded, default),
        conv([13, 171, 5, 8], [123, 3, 2], Conv2d { stride: [1, 2], dilation: [2, 3], ..padded }, default),
    ]
}

/// A convolution without a bias, or with one where `to` is even, and the normalization of its result.
pub fn conv(
    [n, c, h, w]: [usize; 4],
    [to, kernel_h, kernel_w]: [usize; 3],
    conv: Conv2d,
    attributes: BatchNorm2d,
) -> Case {
    let name =
        format!("batch_norm2d of ({n}, {c}, {h}, {w}) to {to} by {kernel_h}×{kernel_w}, {conv:?} {attributes:?}");
    let inputs = vec![
        input([n, c, h, w], Fill::Uniform),
        input([to], Fill::Positive),
        input([to], Fill::Uniform),
        input([to, c / conv.groups, kernel_h, kernel_w], Fill::Uniform),
        input([to], Fill::Uniform),
    ];
    let case = Case::one(name, inputs, move |g, v| {
        let y = g.conv2d(v[0], v[3], to.is_multiple_of(2).then_some(v[4]), conv)?;
        let tensors = tensors(g, v, attributes.momentum.is_none())?;
        g.batch_norm2d(y, tensors, attributes)
    });
    case.without_gradient_check()
}

/// Before a convolution whose gradient by the input a real GPU sums for that of the normalization: through each activation or
/// none, in training and evaluation, with another gradient added or not; tiles as above.
pub fn before_conv() -> Vec<Case> {
    let same = Conv2d { padding: [1, 1], ..Conv2d::default() };
    let grouped = Conv2d { groups: 2, ..same };
    let wide = Conv2d { padding: [2, 2], ..same };
    vec![
        into_conv([2, 16, 16, 32], [6, 3, 3], same, Activation::Relu, true, true),
        into_conv([3, 10, 9, 13], [4, 3, 3], same, Activation::Tanh, true, true),
        into_conv([2, 9, 11, 70], [4, 5, 5], wide, Activation::Sigmoid, true, false),
        into_conv([2, 20, 35, 8], [3, 1, 1], Conv2d::default(), Activation::None, true, false),
        into_conv([4, 24, 8, 8], [8, 3, 3], same, Activation::Relu, false, true),
        into_conv([2, 18, 12, 15], [36, 3, 3], grouped, Activation::Relu, false, false),
        into_conv([130, 5, 4, 4], [3, 3, 3], same, Activation::Relu, true, false),
    ]
}

/// Before one whose gradient by the input is a product in slices: runs and channels as above.
pub fn before_slices() -> Vec<Case> {
    let same = Conv2d { padding: [1, 1], ..Conv2d::default() };
    vec![
        into_conv([2, 58, 3, 3], [120, 3, 3], same, Activation::Relu, true, true),
        into_conv([7, 116, 5, 5], [120, 3, 3], same, Activation::Tanh, false, true),
        into_conv([13, 123, 3, 4], [171, 2, 3], same, Activation::None, true, false),
    ]
}

/// Before one with a stride: rows of both kinds, or of one alone, several tiles across and down, ragged ones, taps that no row
/// meets, kernels and padding of every kind, strides unlike along height and width, groups.
pub fn before_strides() -> Vec<Case> {
    let strided = |stride: [usize; 2], padding: [usize; 2]| Conv2d { stride, padding, ..Conv2d::default() };
    let same = strided([2, 2], [1, 1]);
    let relu = Activation::Relu;
    vec![
        into_conv([2, 16, 16, 32], [6, 3, 3], same, relu, true, true),
        into_conv([3, 10, 9, 12], [4, 3, 3], same, Activation::Tanh, true, true),
        into_conv([2, 9, 37, 72], [4, 5, 5], strided([2, 2], [2, 2]), Activation::Sigmoid, true, false),
        into_conv([2, 20, 35, 8], [3, 1, 2], strided([2, 2], [0, 0]), Activation::None, true, false),
        into_conv([4, 24, 8, 8], [8, 2, 4], strided([3, 2], [1, 2]), relu, false, true),
        into_conv([2, 18, 12, 20], [36, 3, 3], Conv2d { groups: 2, ..same }, relu, false, false),
        into_conv([130, 5, 1, 4], [3, 1, 3], strided([2, 2], [0, 1]), relu, true, false),
        into_conv([2, 7, 5, 12], [3, 3, 3], strided([1, 2], [2, 1]), relu, true, true),
    ]
}

/// A normalization, of the batch or by the running statistics, an activation, and a convolution of what it gave, which is an
/// output, too, where its gradient is `added`.
pub fn into_conv(
    [n, c, h, w]: [usize; 4],
    [to, kernel_h, kernel_w]: [usize; 3],
    conv: Conv2d,
    activation: Activation,
    is_training: bool,
    is_added: bool,
) -> Case {
    let name = format!(
        "({n}, {c}, {h}, {w}), normalized (training: {is_training}), {activation:?}, to {to} by {kernel_h}×{kernel_w}, \
         {conv:?}, added: {is_added}"
    );
    let inputs = vec![
        input([n, c, h, w], Fill::Uniform),
        input([c], Fill::Positive),
        input([c], Fill::Uniform),
        input([to, c / conv.groups, kernel_h, kernel_w], Fill::Uniform),
    ];
    let case = Case::new(name, inputs, move |g, v| {
        let tensors = tensors(g, v, false)?;
        let normalized = match is_training {
            true => g.batch_norm2d(v[0], tensors, BatchNorm2d::default())?,
            false => g.batch_norm2d_eval(v[0], tensors, 1e-5)?,
        };
        let activated = g.activation(normalized, activation)?;
        let y = g.conv2d(activated, v[3], None, conv)?;
        Ok(if is_added { vec![y, activated] } else { vec![y] })
    });
    case.without_gradient_check()
}

/// Running statistics that differ from channel to channel, and a count in the middle of training.
fn tensors(graph: &mut Graph, v: &[Value], counted: bool) -> Result<BatchNormTensors> {
    let num_channels = graph.shape(v[1])[0];
    let mut state = |name: &str, values: Tensor| {
        let (name, ty) = (name.to_owned(), values.ty());
        graph.state(StateSpec { name, ty, kind: StateKind::Buffer, init: Init::Values(values) })
    };
    let mean = input([num_channels], Fill::Uniform).tensor(7);
    let var = input([num_channels], Fill::Positive).tensor(8);
    Ok(BatchNormTensors {
        weight: v[1],
        bias: v[2],
        running_mean: state("running_mean", mean)?,
        running_var: state("running_var", var)?,
        num_batches_tracked: if counted { Some(state("num_batches_tracked", Tensor::scalar(3.0))?) } else { None },
    })
}
