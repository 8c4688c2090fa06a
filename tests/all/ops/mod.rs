//! Every op over its cases.

mod augment;
mod avg_pool2d;
mod batch_norm2d;
pub mod conv2d_depthwise;
pub mod conv2d_gemm;
mod cross_entropy;
mod custom;
mod dropout;
mod gather;
mod instruction_sets;
mod long_loops;
mod max_pool2d;
mod metrics;
mod softmax;
mod tensor_stats;

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
fn argmax() {
    check(cases::argmax::cases());
}

#[test]
fn pad() {
    check(cases::pad::cases());
}

#[test]
fn slice() {
    check(cases::pad::slices());
}

#[test]
fn concat() {
    check(cases::concat::cases());
}

#[test]
fn matmul() {
    check_every_kernel(cases::matmul::cases());
}

#[test]
fn conv2d_pooled() {
    check_every_kernel(cases::conv2d::pooled());
}

#[test]
fn conv2d_depthwise_sizes() {
    check_every_kernel(cases::conv2d::depthwise());
}

#[test]
fn conv2d_grouped() {
    check_every_kernel(cases::conv2d::grouped());
}

#[test]
fn conv2d_strided() {
    check_every_kernel(cases::conv2d::strided());
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
