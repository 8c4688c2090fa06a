//! Ops against what PyTorch gives for special values (`tests/golden/special.py`).

use std::collections::BTreeMap;

use serde::Deserialize;
use wgrad::ops::{AvgPool2d, BatchNorm2d, BatchNormTensors, CrossEntropy, MaxPool2d, NllLoss, Reduction};
use wgrad::{Device, Graph, Result, Tensor, Value};

use super::{FLUSHED, Results, is_close, is_subnormal, run};
use crate::harness::gpu;

#[derive(Deserialize)]
struct Golden {
    values: Vec<u32>,
    pairs: Vec<u32>,
    grads: Vec<u32>,
    unary: BTreeMap<String, Case>,
    binary: BTreeMap<String, Case>,
    rows: Rows,
}

#[derive(Deserialize)]
struct Rows {
    x: Vec<u32>,
    labels: Vec<u32>,
    grads: Vec<u32>,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    outputs: Vec<u32>,
    #[serde(default)]
    gradients: Vec<Vec<u32>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../golden/special.json")).unwrap()
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&bits| f32::from_bits(bits)).collect()
}

fn unary(name: &str, g: &mut Graph, x: Value) -> Result<Value> {
    match name {
        "neg" => g.neg(x),
        "exp" => g.exp(x),
        "log" => g.log(x),
        "sqrt" => g.sqrt(x),
        "abs" => g.abs(x),
        "square" => g.square(x),
        "reciprocal" => g.reciprocal(x),
        "relu" => g.relu(x),
        "leaky_relu" => g.leaky_relu(x, 0.25),
        "sigmoid" => g.sigmoid(x),
        "tanh" => g.tanh(x),
        "gelu" => g.gelu(x),
        "gelu_tanh" => g.gelu_tanh(x),
        "silu" => g.silu(x),
        "softplus" => g.softplus(x),
        "clamp" => g.clamp(x, -0.75, 0.75),
        "add_scalar" => g.add_scalar(x, 1.5),
        "mul_scalar" => g.mul_scalar(x, -1.5),
        "pow_2" => g.pow_scalar(x, 2.0),
        "pow_3" => g.pow_scalar(x, 3.0),
        "pow_half" => g.pow_scalar(x, 0.5),
        "pow_minus_2" => g.pow_scalar(x, -2.0),
        "pow_minus_3" => g.pow_scalar(x, -3.0),
        "pow_0" => g.pow_scalar(x, 0.0),
        "pow_1" => g.pow_scalar(x, 1.0),
        "sign" => g.sign(x),
        _ => panic!("the golden file has a unary op {name} that this test does not build"),
    }
}

fn binary(name: &str, g: &mut Graph, a: Value, b: Value) -> Result<Value> {
    match name {
        "add" => g.add(a, b),
        "sub" => g.sub(a, b),
        "mul" => g.mul(a, b),
        "div" => g.div(a, b),
        "pow" => g.pow(a, b),
        "minimum" => g.minimum(a, b),
        "maximum" => g.maximum(a, b),
        "equal" => g.equal(a, b),
        "greater" => g.greater(a, b),
        "mse_loss" => g.mse_loss(a, b, Reduction::None),
        "l1_loss" => g.l1_loss(a, b, Reduction::None),
        "bce_with_logits" => g.bce_with_logits(a, b, Reduction::None),
        _ => panic!("the golden file has a binary op {name} that this test does not build"),
    }
}

fn row_op(name: &str, g: &mut Graph, x: Value, labels: Value) -> Result<Value> {
    let rows = g.shape(x)[0];
    let reduction = Reduction::None;
    match name {
        "sum" => g.sum(x, &[1], false),
        "mean" => g.mean(x, &[1], false),
        "amax" => g.amax(x, &[1], false),
        "argmax" => g.argmax(x, 1),
        "softmax" => g.softmax(x, 1),
        "log_softmax" => g.log_softmax(x, 1),
        "cross_entropy" => g.cross_entropy(x, labels, None, CrossEntropy { reduction, ..CrossEntropy::default() }),
        "cross_entropy_smooth" => {
            let smooth = CrossEntropy { reduction, label_smoothing: 0.25, ..CrossEntropy::default() };
            g.cross_entropy(x, labels, None, smooth)
        }
        "nll_loss" => g.nll_loss(x, labels, None, NllLoss { reduction, ..NllLoss::default() }),
        _ => {
            let images = g.reshape(x, [1, rows, 2, 2])?;
            match name {
                "max_pool2d" => g.max_pool2d(images, MaxPool2d::new([2, 2])),
                "max_pool2d_indices" => Ok(g.max_pool2d_with_indices(images, MaxPool2d::new([2, 2]))?.1),
                "avg_pool2d" => g.avg_pool2d(images, AvgPool2d::new([2, 2])),
                "batch_norm2d" => {
                    let mut fill = |name: &str, value: f32| {
                        let ty = wgrad::TensorType::f32([rows]);
                        let init = wgrad::nn::Init::Values(Tensor::f32([rows], vec![value; rows])?);
                        let (name, kind) = (name.to_owned(), wgrad::graph::StateKind::Buffer);
                        g.state(wgrad::graph::StateSpec { name, ty, kind, init })
                    };
                    let tensors = BatchNormTensors {
                        weight: fill("weight", 1.0)?,
                        bias: fill("bias", 0.0)?,
                        running_mean: fill("running_mean", 0.0)?,
                        running_var: fill("running_var", 1.0)?,
                        num_batches_tracked: None,
                    };
                    g.batch_norm2d(images, tensors, BatchNorm2d::default())
                }
                _ => panic!("the golden file has an op {name} that this test does not build"),
            }
        }
    }
}

/// The operands of element `index`, and where the same stand with subnormal ones taken for 0.
struct Operands {
    operands: Vec<Vec<f32>>,
}

impl Operands {
    fn at(&self, index: usize) -> Vec<f32> {
        self.operands.iter().map(|operand| operand[index]).collect()
    }

    /// Other elements whose result is as right for `index` on a device that flushes.
    fn flushed(&self, index: usize) -> Vec<usize> {
        let own = self.at(index);
        let fits = |&other: &usize| {
            let zero = |own: f32, other: f32| is_subnormal(own) && other == 0.0 && own.signum() == other.signum();
            let pairs = own.iter().zip(self.at(other));
            other != index && pairs.clone().all(|(&own, other)| own.to_bits() == other.to_bits() || zero(own, other))
        };
        (0..self.operands[0].len()).filter(fits).collect()
    }
}

/// Everything that an op gets wrong on a device.
fn failures(
    name: &str,
    device: &Device,
    case: &Case,
    operands: &Operands,
    above: &[f32],
    got: &Results,
) -> Vec<String> {
    let count = operands.operands[0].len();
    let (wide, flushes) = (matches!(device, Device::CpuF64), matches!(device, Device::Gpu(_)));
    let mut failures = Vec::new();
    // f64 overflows and vanishes elsewhere.
    let is_plain = |x: f32| !x.is_finite() || x == 0.0 || (1e-9..=3.0).contains(&x.abs());
    // Powers of subnormal numbers are left to the driver.
    let subnormal_power =
        |index: usize| flushes && name.starts_with("pow") && operands.at(index).iter().any(|&x| is_subnormal(x));
    // PyTorch's terms cancel there.
    let cancels = |index: usize| name == "bce_with_logits" && operands.at(index)[0].abs() == f32::MAX;
    let is_left = |index: usize| subnormal_power(index) || cancels(index);
    let skipped = |index: usize| is_left(index) || (wide && !operands.at(index).into_iter().all(is_plain));
    let is_right = |got: f64, wants: &[f32], index: usize| {
        is_close(got, wants[index])
            || (flushes && operands.flushed(index).iter().any(|&other| is_close(got, wants[other])))
    };
    let outputs = floats(&case.outputs);
    for index in (0..count).filter(|&index| !skipped(index)) {
        if !is_right(got.outputs[index], &outputs, index) {
            failures.push(format!("{name}{:?} is {} not {}", operands.at(index), got.outputs[index], outputs[index]));
        }
    }
    for (by, wants) in case.gradients.iter().enumerate() {
        let wants = floats(wants);
        for (part, &above) in above.iter().enumerate() {
            let wants = &wants[part * count..(part + 1) * count];
            for index in (0..count).filter(|&index| !skipped(index)) {
                let got = got.gradients[by][part * count + index];
                // Infinity times a derivative that is flushed to 0 is NaN; GELU's golden values are f64's, which vanish later.
                let derivative = floats(&case.gradients[by])[index];
                let is_tiny = derivative != 0.0 && f64::from(derivative.abs()) < FLUSHED;
                let is_flushed = flushes && (is_subnormal(outputs[index]) || is_tiny);
                let lost = !above.is_finite() && (is_flushed || (name == "gelu" && derivative == 0.0));
                if !lost && !is_right(got, wants, index) {
                    let at = operands.at(index);
                    failures.push(format!("{name}'{by}{at:?} times {above} is {got} not {}", wants[index]));
                }
            }
        }
    }
    failures
}

fn check(mut ops: BTreeMap<String, Case>, operands: &Operands, above: &[f32], build: Build) {
    let count = operands.operands[0].len();
    let tiled = |values: &[f32]| Tensor::f32([count * above.len()], values.repeat(above.len())).unwrap();
    let tensors: Vec<Tensor> = operands.operands.iter().map(|values| tiled(values)).collect();
    let from_above = above.iter().flat_map(|&grad| vec![grad; count]).collect();
    let from_above = Tensor::f32([count * above.len()], from_above).unwrap();
    let mut all = Vec::new();
    while let Some((name, case)) = ops.pop_first() {
        for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
            let above_of = (!case.gradients.is_empty()).then_some(&from_above);
            let got = run(device, &tensors, above_of, |graph, values| build(&name, graph, values));
            let found = failures(&name, device, &case, operands, above, &got);
            all.extend(found.into_iter().map(|failure| format!("{device}: {failure}")));
        }
    }
    assert!(all.is_empty(), "{} differ from PyTorch:\n{}", all.len(), all.join("\n"));
}

type Build = fn(&str, &mut Graph, &[Value]) -> Result<Value>;

#[test]
fn unary_ops_of_special_values_are_pytorchs() {
    let golden = golden();
    let operands = Operands { operands: vec![floats(&golden.values)] };
    check(golden.unary, &operands, &floats(&golden.grads), |name, graph, values| unary(name, graph, values[0]));
}

#[test]
fn binary_ops_of_special_values_are_pytorchs() {
    let golden = golden();
    let pairs = floats(&golden.pairs);
    let first = pairs.iter().flat_map(|&a| vec![a; pairs.len()]).collect();
    let operands = Operands { operands: vec![first, pairs.repeat(pairs.len())] };
    let above = floats(&golden.grads);
    check(golden.binary, &operands, &above, |name, graph, values| binary(name, graph, values[0], values[1]));
}

#[test]
fn ops_on_rows_of_special_values_are_pytorchs() {
    let Golden { rows, .. } = golden();
    let x = floats(&rows.x);
    let count = rows.labels.len();
    let tensors = [Tensor::f32([count, 4], x.clone()).unwrap(), Tensor::u32([count], rows.labels).unwrap()];
    let mut all = Vec::new();
    for (name, case) in &rows.cases {
        let is_index = case.gradients.is_empty();
        let want: Vec<f32> =
            if is_index { case.outputs.iter().map(|&index| index as f32).collect() } else { floats(&case.outputs) };
        let gradients = case.gradients.first().map(|gradients| floats(gradients));
        for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
            // f64 has no overflow where f32 has, and PyTorch's batch statistics are in f64.
            let is_wide = matches!(device, Device::CpuF64) || name == "batch_norm2d";
            let flushes = matches!(device, Device::Gpu(_));
            // What is flushed ties with 0.
            let is_left = |x: f32| (is_wide && x.is_finite() && x.abs() > 1e15) || (flushes && is_subnormal(x));
            let skipped = |row: usize| x[row * 4..][..4].iter().any(|&x| is_left(x));
            for (part, &grad) in floats(&rows.grads).iter().enumerate() {
                let above = Tensor::f32([want.len()], vec![grad; want.len()]).unwrap();
                let above = (!is_index).then_some(&above);
                let got = run(device, &tensors, above, |graph, values| row_op(name, graph, values[0], values[1]));
                let per_row = want.len() / count;
                let mut compare = |what: &str, got: &[f64], want: &[f32], per_row: usize| {
                    for row in (0..count).filter(|&row| !skipped(row)) {
                        let range = row * per_row..(row + 1) * per_row;
                        let (got, want) = (&got[range.clone()], &want[range]);
                        // Gradients of a softmax add up to 0 but for rounding.
                        let is_close =
                            |got: f64, want: f32| is_close(got, want) || (got - f64::from(want)).abs() < 1e-6;
                        if got.iter().zip(want).any(|(&got, &want)| !is_close(got, want)) {
                            let x = &x[row * 4..][..4];
                            all.push(format!("{device}: {name} of {x:?}, {what}: {got:?} not {want:?}"));
                        }
                    }
                };
                compare("output", &got.outputs, &want, per_row);
                if let Some(gradients) = &gradients {
                    let size = x.len();
                    compare(&format!("gradient times {grad}"), &got.gradients[0], &gradients[part * size..][..size], 4);
                }
            }
        }
    }
    assert!(all.is_empty(), "{} differ from PyTorch:\n{}", all.len(), all.join("\n"));
}
