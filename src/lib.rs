//! wgrad: a GPU compute engine and trainer for convolutional networks, on hand-written WGSL kernels.
//!
//! Each stage is a plain value and makes the next; describing is apart from doing.
//!
//! | # | stage | from → to | where |
//! | --- | --- | --- | --- |
//! | 1 | load | files → [`data::Dataset`] (images as bytes, labels) | [`data`] |
//! | 2 | sample | seed, epoch → order → batch, gathered and normalised on the device | [`data::loader`], [`Graph::gather_batch`] |
//! | 3 | build | model, mode → [`Graph`] ending in loss and metrics | [`nn`], [`ops`] |
//! | 4 | differentiate | [`Graph`] → the same with gradients as ordinary values | [`Graph::backward`] |
//! | 5 | update | [`Graph`] → the same with its parameters' update | [`optim`] |
//! | 6 | fuse, plan | [`Graph`] → [`Plan`]: fewer ops, their order, memory by lifetime | [`graph::plan`] |
//! | 7 | compile | [`Plan`]s → [`Program`]: pipelines and buffers, made here once | [`exec`] |
//! | 8 | run | many steps under a [`StepTable`] of what changes between them | [`exec`] |
//! | 9 | measure, decide | metrics → best? stop? which learning rate? | [`train`] |
//! | 10 | keep | weights, metrics, settings → a run's folder | [`run::folder`] |
//!
//! [`train::fit`] is the loop over 8 to 10. [`exec::verify`] checks a device against the f64 reference,
//! and [`gradcheck`] any computation's gradients against finite differences.

pub mod data;
pub mod exec;
pub mod graph;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod registry;
pub mod report;
pub mod rng;
pub mod run;
#[cfg(feature = "sanitize")]
pub mod sanitize;
pub mod schedule;
pub mod sweep;
pub mod train;

mod error;
mod files;
mod tensor;

pub use error::{Error, Result};
pub use exec::gradcheck::gradcheck;
pub use exec::{Device, Program, StateDict, StepTable, ValueAndGrad, evaluate, value_and_grad};
pub use graph::plan::Plan;
pub use graph::{Graph, Value};
pub use tensor::{DType, Shape, Tensor, TensorData, TensorType};

/// Runs the README's example with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
