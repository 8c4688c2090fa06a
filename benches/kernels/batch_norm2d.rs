//! Batch normalisation of (64, 64, 28, 28) in training, forward and with its gradients, and in evaluation.

use wgrad::ops::{BatchNorm2d, BatchNormTensors};
use wgrad::{Graph, Result, Value};

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench, gradients};

pub fn benches() -> Vec<Bench> {
    let inputs = || {
        let channels = || input([64], Fill::Positive);
        vec![input([64, 64, 28, 28], Fill::Uniform), channels(), channels(), channels(), channels()]
    };
    let cases = [
        Case::one("batch_norm2d.train", inputs(), train),
        Case::new("batch_norm2d.train_gradients", inputs(), |g, v| {
            let y = train(g, v)?;
            // The gradient of the sum itself, or of the sum of squares, would be 0 but for rounding.
            let y = g.tanh(y)?;
            gradients(g, &v[..3], y)
        }),
        Case::one("batch_norm2d.eval", inputs(), |g, v| g.batch_norm2d_eval(v[0], tensors(v), 1e-5)),
    ];
    cases.into_iter().map(|case| bench(Limit::Bytes, case)).collect()
}

fn train(graph: &mut Graph, v: &[Value]) -> Result<Value> {
    graph.batch_norm2d(v[0], tensors(v), BatchNorm2d::default())
}

fn tensors(v: &[Value]) -> BatchNormTensors {
    BatchNormTensors { weight: v[1], bias: v[2], running_mean: v[3], running_var: v[4], num_batches_tracked: None }
}
