//! Every op over its cases.

mod batch_norm2d;
mod cross_entropy;
mod softmax;
mod avg_pool2d;
mod dropout;
mod gather;
mod long_loops;
mod max_pool2d;
mod metrics;

use crate::cases;
use crate::harness::{check, check_every_kernel};

#[test]
fn unary() {
    check(cases::elementwise::unary());
}

#[test]
fn binary() {
    check(cases::elementwise::binary());
}

#[test]
fn reduce() {
    check(cases::reduce::cases());
}

#[test]
fn copy() {
    check(cases::copy::cases());
}

#[test]
fn loss() {
    check(cases::loss::cases());
}

#[test]
fn matmul() {
    check_every_kernel(cases::matmul::cases());
}

#[test]
fn conv2d_sizes() {
    check_every_kernel(cases::conv2d::sizes());
}

#[test]
fn conv2d_attributes() {
    check_every_kernel(cases::conv2d::attributes());
}

#[test]
fn conv2d_lenet() {
    check_every_kernel(cases::conv2d::lenet());
}
