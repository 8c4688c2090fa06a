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
//!
//! ## Features
//!
//! All are on by default. With `default-features = false` the crate is the engine and the trainer, runs and sweeps
//! included; nothing in it draws, downloads or reads a command line.
//!
//! | feature | adds | crates it brings |
//! | --- | --- | --- |
//! | `report` | [`report`]: pictures, a run's and a sweep's `report.html`, `metrics.csv`, TensorBoard's events | ab_glyph |
//! | `fetch` | [`data::fetch`]: downloads of data sets | ureq, rustls, sha2, tar |
//! | `onnx` | [`nn::onnx`] and [`run::SavedModel::export_onnx`] | prost |
//! | `sanitize` | [`sanitize`]: an interpreter of WGSL that finds races, and estimates of a kernel's speed | naga, which wgpu has too |
//! | `mpi` | [`dist`]: ranks that `mpirun` started | mpi, and an installed MPI |
//! | `web` | with no others, for a page of a browser: `report` and `onnx` | |
//! | `cli` | with the first three, the program `lenet`; the examples | clap, indicatif, signal-hook |

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod data;
pub mod dist;
pub mod exec;
pub mod graph;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod registry;
#[cfg(feature = "report")]
pub mod report;
pub mod rng;
pub mod run;
#[cfg(feature = "sanitize")]
pub mod sanitize;
pub mod schedule;
pub mod sweep;
pub mod train;

mod columns;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod files;
#[cfg(target_arch = "wasm32")]
pub mod files;
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
