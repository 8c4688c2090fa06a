//! Matrix products: every way of storing the operands, sizes around every tile, batches that broadcast, and what is
//! fused behind the product.

use super::{Case, Fill, input};
use wgrad::ops::{Activation, Matmul};

const TRANSPOSES: [[bool; 2]; 4] = [[false, false], [false, true], [true, false], [true, true]];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // One element, one row, one column; few enough products for the plain kernel, which is checked by differences.
    for [m, n, k] in [[1, 1, 1], [1, 7, 3], [5, 1, 2], [2, 3, 1], [3, 2, 8], [4, 4, 4]] {
        for trans in TRANSPOSES {
            cases.push(product([m, n, k], trans));
        }
    }
    // Just enough products for a tile: still few enough elements for differences.
    for trans in TRANSPOSES {
        cases.push(product([8, 8, 8], trans));
        cases.push(product([7, 9, 11], trans));
    }
    // Around tiles of 8, 32 and 64, K at multiples of 4 (vec4 loads) and not, and around the 8 and 16 that are staged.
    let sizes = [
        [8, 32, 16],
        [7, 31, 17],
        [9, 33, 15],
        [64, 64, 64],
        [63, 65, 33],
        [65, 63, 31],
        [16, 36, 5],
        [33, 68, 12],
        [1, 256, 20],
        [257, 1, 9],
        [64, 120, 256],
        [120, 256, 64],
    ];
    for size in sizes {
        for trans in TRANSPOSES {
            cases.push(product(size, trans).without_gradient_check());
        }
    }
    // Wide enough to be packed on software adapters, columns and rows that fill no tile.
    for trans in [[false, false], [true, true]] {
        cases.push(product([68, 516, 256], trans).without_gradient_check());
    }
    // On GPUs: enough tiles to be large ones, the last of them ragged, with operands as they should be stored, with both turned
    // around first, and with too few columns for that.
    cases.push(product([1412, 1284, 24], [true, false]).without_gradient_check());
    cases.push(in_batches([&[2], &[]], [1028, 1028, 8], [false, true]).without_gradient_check());
    cases.push(product([5636, 264, 8], [false, false]).without_gradient_check());
    // There as well: few tiles and so much of K that it is summed in slices, more than are on their way at once, the last of
    // which is shorter, with and without bias.
    for trans in [[false, false], [false, true], [true, false]] {
        cases.push(product([36, 68, 1000], trans).without_gradient_check());
        cases.push(product([10, 66, 1030], trans).without_gradient_check());
    }
    cases.push(dense(&[33], [520, 12], true).without_gradient_check());
    cases.push(dense(&[33], [516, 10], true).without_gradient_check());
    cases.extend(batches());
    cases.extend(fused());
    cases.extend(linear());
    cases
}

/// The shapes of the operands of (m, k) · (k, n) as they are stored.
fn stored([m, n, k]: [usize; 3], [trans_a, trans_b]: [bool; 2]) -> [Vec<usize>; 2] {
    let pair = |transposed: bool, rows, columns| if transposed { vec![columns, rows] } else { vec![rows, columns] };
    [pair(trans_a, m, k), pair(trans_b, k, n)]
}

fn product(size: [usize; 3], trans: [bool; 2]) -> Case {
    let [a, b] = stored(size, trans);
    let matmul = Matmul { trans_a: trans[0], trans_b: trans[1], ..Matmul::default() };
    let inputs = vec![input(a, Fill::Uniform), input(b, Fill::Uniform)];
    Case::one(format!("matmul {size:?} trans {trans:?}"), inputs, move |g, v| g.matmul_with(v[0], v[1], None, matmul))
}

fn in_batches([a_batch, b_batch]: [&[usize]; 2], size: [usize; 3], trans: [bool; 2]) -> Case {
    let [a, b] = stored(size, trans);
    let inputs = vec![input([a_batch, &a].concat(), Fill::Uniform), input([b_batch, &b].concat(), Fill::Uniform)];
    let matmul = Matmul { trans_a: trans[0], trans_b: trans[1], ..Matmul::default() };
    let name = format!("matmul {size:?} trans {trans:?} batches {a_batch:?} {b_batch:?}");
    Case::one(name, inputs, move |g, v| g.matmul_with(v[0], v[1], None, matmul))
}

/// Batches of as many matrices on both sides, one for all, and such as need stretching in memory.
fn batches() -> Vec<Case> {
    let mut cases = Vec::new();
    let batches: [[&[usize]; 2]; 8] = [
        [&[3], &[3]],
        [&[3], &[]],
        [&[], &[3]],
        [&[1], &[4]],
        [&[2, 3], &[2, 3]],
        [&[2, 1], &[1, 3]],
        [&[2, 3], &[3]],
        [&[2, 1, 2], &[3, 1]],
    ];
    for [a_batch, b_batch] in batches {
        for (trans, size, is_small) in
            [([false, false], [2, 3, 2], true), ([true, true], [12, 8, 16], false), ([false, true], [9, 10, 7], false)]
        {
            let case = in_batches([a_batch, b_batch], size, trans);
            cases.push(if is_small { case } else { case.without_gradient_check() });
        }
    }
    let inputs = vec![input([2, 2, 3], Fill::Uniform), input([3, 4], Fill::Uniform)];
    cases.push(Case::one("matmul without attributes", inputs, |g, v| g.matmul(v[0], v[1])));
    cases
}

/// Bias and activation behind the product, in each of the kernels.
fn fused() -> Vec<Case> {
    let mut cases = Vec::new();
    let activations = [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Tanh];
    for activation in activations {
        for (size, is_small) in [([3, 4, 2], true), ([10, 33, 8], false), ([9, 36, 8], false)] {
            for with_bias in [true, false] {
                let matmul = Matmul { trans_b: true, activation, ..Matmul::default() };
                let [a, b] = stored(size, [false, true]);
                let mut inputs = vec![input(a, Fill::Uniform), input(b, Fill::Uniform)];
                if with_bias {
                    inputs.push(input([size[1]], Fill::Uniform));
                }
                let name = format!("matmul {size:?} bias {with_bias} {activation:?}");
                let case = Case::one(name, inputs, move |g, v| g.matmul_with(v[0], v[1], v.get(2).copied(), matmul));
                cases.push(if is_small { case } else { case.without_gradient_check() });
            }
        }
    }
    // A bias for every matrix of a batch, and arguments at which tanh and the exponential are saturated.
    for activation in [Activation::None, Activation::Sigmoid, Activation::Tanh] {
        let inputs = vec![input([2, 9, 12], Fill::Large), input([12, 20], Fill::Uniform), input([20], Fill::Large)];
        let matmul = Matmul { activation, ..Matmul::default() };
        let case = Case::one(format!("matmul large, batch, bias {activation:?}"), inputs, move |g, v| {
            g.matmul_with(v[0], v[1], Some(v[2]), matmul)
        });
        cases.push(case.without_gradient_check());
    }
    cases
}

/// LeNet's fully connected layers, whole batches and the last one of a single image; leading dimensions of any number.
fn linear() -> Vec<Case> {
    let mut cases = Vec::new();
    for (leading, features, out) in [(vec![3], 4, 5), (vec![2, 3], 3, 2), (vec![], 6, 4), (vec![1], 1, 1)] {
        for with_bias in [true, false] {
            cases.push(dense(&leading, [features, out], with_bias));
        }
    }
    for batch in [1, 64] {
        for layer in [[256, 120], [400, 120], [120, 84], [84, 10]] {
            cases.push(dense(&[batch], layer, true).without_gradient_check());
        }
    }
    cases
}

fn dense(leading: &[usize], [features, out]: [usize; 2], with_bias: bool) -> Case {
    let mut inputs = vec![input([leading, &[features]].concat(), Fill::Uniform), input([out, features], Fill::Uniform)];
    if with_bias {
        inputs.push(input([out], Fill::Uniform));
    }
    let name = format!("linear {leading:?} {features} to {out}, bias {with_bias}");
    Case::one(name, inputs, |g, v| g.linear(v[0], v[1], v.get(2).copied()))
}
