//! Every op over its cases.

mod avg_pool2d;
mod batch_norm2d;
mod cross_entropy;
mod custom;
mod dropout;
mod gather;
mod max_pool2d;
mod softmax;

use crate::cases;
use crate::harness::check;

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
