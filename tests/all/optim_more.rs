//! What surrounds the optimizers of `optim.rs`: Lion, clipping, regularization, groups and gradient
//! accumulation, against PyTorch's values where the golden file has them, on CPU (f64, f32) and GPU.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value as Json;
use wgrad::exec::verify::verify;
use wgrad::graph::StateKind;
use wgrad::nn::Init;
use wgrad::optim::gradients::GRADIENT_NORM;
use wgrad::optim::{Adagrad, GradientOptions, Lion, Optimizer, ParamGroup, RmsProp, Sgd, Update, UpdateOptions};
use wgrad::{Device, Graph, Plan, Program, StateDict, Tensor, TensorType};

use crate::cases::{Fill, input};
use crate::harness::gpu;

#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    attrs: serde_json::Map<String, Json>,
}

struct Golden {
    bytes: Vec<u8>,
    cases: Vec<Case>,
}

impl Golden {
    fn load() -> Golden {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optim.safetensors")).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let cases = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
        Golden { bytes, cases }
    }

    fn of(&self, op: &str) -> Vec<&Case> {
        self.cases.iter().filter(|case| case.op == op).collect()
    }

    fn tensor(&self, case: &Case, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(&format!("{}/{name}", case.name)).unwrap();
        let data = view.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        Tensor::f64(view.shape(), data).unwrap()
    }
}

const NUM_PARAMS: usize = 3;

/// Both sides differ in the order of a few operations a step: some dozen ε = 2⁻⁵³ after twelve steps.
const TOLERANCE_F64: f64 = 1e-12;
/// Each of twelve steps rounds the weight by at most 6e-8 of it and moves it by a quotient that is a few ε off. Where a
/// centred variance is a small difference of squares, the quotient loses a digit more.
const TOLERANCE_F32: f64 = 4e-6;

fn devices() -> [(&'static Device, f64); 3] {
    [(&Device::CpuF64, TOLERANCE_F64), (&Device::Cpu, TOLERANCE_F32), (gpu(), TOLERANCE_F32)]
}

/// The largest distance as a share of the largest value wanted; NaN is the worst there is.
fn drift(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(f64::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    let share = |(got, want): (&f64, &f64)| {
        let share = (got - want).abs() / largest;
        if share.is_nan() { f64::INFINITY } else { share }
    };
    got.iter().zip(want).map(share).fold(0.0, f64::max)
}

/// The update of parameters that start as `starts`, whose gradients are the inputs `<name>.input`: those of
/// Σ param · input.
fn update_graph(update: &Update, names: &[&str], starts: &[Tensor]) -> wgrad::Result<Graph> {
    let mut graph = Graph::new("update");
    let mut loss = None;
    for (name, start) in names.iter().zip(starts) {
        let param =
            graph.parameter(name, start.shape(), Init::Values(Tensor::f32(start.shape(), start.to_f32_vec())?))?;
        let grad = graph.input(&format!("{name}.input"), TensorType::f32(start.shape()))?;
        let product = graph.mul(param, grad)?;
        let sum = graph.sum_all(product)?;
        loss = Some(match loss {
            None => sum,
            Some(loss) => graph.add(loss, sum)?,
        });
    }
    let total = update.minimize(&mut graph, loss.unwrap())?;
    graph.output("loss", total)?;
    Ok(graph)
}

const NAMES: [&str; NUM_PARAMS] = ["a.weight", "a.bias", "b.weight"];

/// The paper's algorithm 2, line by line.
#[test]
fn lion_follows_the_paper() {
    let (betas, weight_decay, lr) = ([0.9, 0.99], 0.1, 0.01);
    let update = Update::new(Lion { betas, weight_decay }, UpdateOptions::default()).unwrap();
    let start = input([67], Fill::Uniform).tensor(1);
    for (device, tolerance) in devices() {
        let plan = Plan::new(&update_graph(&update, &["w"], std::slice::from_ref(&start)).unwrap()).unwrap();
        let mut program = Program::compile(device, vec![plan], 0).unwrap();
        let mut want = start.to_f64_vec();
        let mut mean = vec![0.0; 67];
        for step in 0..6 {
            // The first element never has a gradient: its sign is 0.
            let mut grad = input([67], Fill::AwayFromZero).tensor(10 + step).to_f64_vec();
            grad[0] = 0.0;
            program.write("w.input", &Tensor::f64([67], grad.clone()).unwrap()).unwrap();
            program.run("update", &update.steps(1, lr)).unwrap();
            for i in 0..67 {
                let direction: f64 = betas[0] * mean[i] + (1.0 - betas[0]) * grad[i];
                let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
                want[i] -= lr * (sign + weight_decay * want[i]);
                mean[i] = betas[1] * mean[i] + (1.0 - betas[1]) * grad[i];
            }
            let worst = drift(&program.read("w").unwrap().to_f64_vec(), &want);
            assert!(worst <= tolerance, "{device}, step {step}: off by {worst:e}");
        }
    }
}

/// With a learning rate of 1 plain SGD subtracts the clipped gradient from weights of 0.
fn clipped(device: &Device, options: UpdateOptions, grads: &[Tensor]) -> (Vec<Vec<f64>>, Option<f64>) {
    let has_norm = options.gradients.clip_norm.is_some();
    let update = Update::new(Optimizer::sgd(0.0), options).unwrap();
    let zeros = |grad: &Tensor| Tensor::f64(grad.shape(), vec![0.0; grad.shape().num_elems()]).unwrap();
    let starts: Vec<Tensor> = grads.iter().map(zeros).collect();
    let plan = Plan::new(&update_graph(&update, &NAMES, &starts).unwrap()).unwrap();
    let mut program = Program::compile(device, vec![plan], 0).unwrap();
    for (name, grad) in NAMES.iter().zip(grads) {
        program.write(&format!("{name}.input"), grad).unwrap();
    }
    program.run("update", &update.steps(1, 1.0)).unwrap();
    let read = |name: &&str| program.read(name).unwrap().to_f64_vec().iter().map(|x| -x).collect();
    let after = NAMES.iter().map(read).collect();
    (after, has_norm.then(|| program.read(GRADIENT_NORM).unwrap().to_f64_vec()[0]))
}

#[test]
fn clipping_follows_pytorch() {
    let golden = Golden::load();
    // Also over two groups: two packs, one norm.
    let groups = || vec![ParamGroup { weight_decay: Some(0.0), ..ParamGroup::new(["*.bias"]) }];
    let (by_norm, by_value) = (golden.of("clip_grad_norm"), golden.of("clip_grad_value"));
    assert_eq!((by_norm.len(), by_value.len()), (5, 2));
    for case in by_norm.into_iter().chain(by_value) {
        let grads: Vec<Tensor> = (0..NUM_PARAMS).map(|i| golden.tensor(case, &format!("grad_{i}"))).collect();
        for (device, tolerance) in devices() {
            for groups in [Vec::new(), groups()] {
                let limit = |name: &str| case.attrs.get(name).and_then(Json::as_f64);
                let (clip_norm, clip_value) = (limit("max_norm"), limit("clip_value"));
                let gradients = GradientOptions { clip_norm, clip_value, ..GradientOptions::default() };
                let options = UpdateOptions { gradients, groups };
                let (after, norm) = clipped(device, options, &grads);
                for (index, got) in after.iter().enumerate() {
                    let want = golden.tensor(case, &format!("clipped_{index}")).to_f64_vec();
                    let worst = drift(got, &want);
                    assert!(worst <= tolerance, "{device}, {}, gradient {index}: off by {worst:e}", case.name);
                }
                if let Some(norm) = norm {
                    let want = golden.tensor(case, "total_norm").to_f64_vec();
                    assert!(drift(&[norm], &want) <= tolerance, "{device}, {}: norm {norm}", case.name);
                }
            }
        }
    }
}

/// Every op of an update with everything on, over packs whose tensors end anywhere, held to the f64 reference.
#[test]
fn every_op_of_an_update_matches_the_reference() {
    let shapes: [&[usize]; 8] = [&[1], &[63, 1], &[64], &[65, 1], &[3, 5], &[257], &[2, 1, 7, 3], &[71, 73]];
    let names: Vec<String> = (0..shapes.len()).map(|index| format!("layer{index}.weight")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let starts: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, &shape)| input(shape, Fill::AwayFromZero).tensor(i as u64)).collect();
    let everything = UpdateOptions {
        groups: vec![ParamGroup { lr_scale: 0.5, ..ParamGroup::new(["layer2*", "layer7.*"]) }],
        gradients: GradientOptions {
            accumulate: 2,
            l1: 0.01,
            l2: 0.02,
            clip_value: Some(0.3),
            clip_norm: Some(0.5),
            ..GradientOptions::default()
        },
    };
    let optimizers = [
        Optimizer::from(RmsProp::default()),
        Optimizer::from(RmsProp { alpha: 0.9, eps: 1e-3, momentum: 0.0, centered: true, weight_decay: 0.1 }),
        Optimizer::from(RmsProp { alpha: 0.9, eps: 1e-8, momentum: 0.9, centered: false, weight_decay: 0.0 }),
        Optimizer::from(RmsProp { alpha: 0.9, eps: 1e-3, momentum: 0.9, centered: true, weight_decay: 0.1 }),
        Optimizer::from(Adagrad { lr_decay: 0.1, eps: 1e-10, initial_accumulator_value: 0.5, weight_decay: 0.1 }),
        Optimizer::from(Lion { betas: [0.9, 0.99], weight_decay: 0.1 }),
    ];
    for optimizer in optimizers {
        let update = Update::new(optimizer.clone(), everything.clone()).unwrap();
        let plan = Plan::new(&update_graph(&update, &names, &starts).unwrap()).unwrap();
        let mut states = StateDict::new();
        for (seed, spec) in (50..).zip(plan.states()) {
            let positive = spec.name.ends_with("square_avg") || spec.name.ends_with(".sum");
            let drawn = match spec.kind {
                StateKind::Input | StateKind::Optimizer if positive => Fill::Positive,
                StateKind::Input | StateKind::Optimizer => Fill::Uniform,
                _ => continue,
            };
            // A mean gradient lies below the root mean square.
            let scale = if spec.name.ends_with("grad_avg") { 0.1 } else { 1.0 };
            let values = input(spec.ty.shape.clone(), drawn).tensor(seed).to_f32_vec();
            let tensor = Tensor::f32(spec.ty.shape.clone(), values.iter().map(|x| x * scale).collect()).unwrap();
            states.insert(spec.name.clone(), tensor);
        }
        // The fifth step, the second of its two batches.
        let table = update.steps(1, 0.05).starting_at(9);
        for device in [gpu(), &Device::Cpu] {
            let report = verify(device, &plan, &states, &table, 0).unwrap();
            assert!(report.difference.is_none(), "{device}, {optimizer:?}: {}", report.difference.unwrap());
            for op in ["accumulate", "regularization", "regularization_gradient", "clip_grad_norm", "clip_grad_value"] {
                assert!(
                    report.ops.iter().any(|seen| seen.label == format!("optimizer.{op}")),
                    "{op}: {:?}",
                    report.ops
                );
            }
        }
    }
}

#[test]
fn penalties_are_in_the_loss_and_in_its_gradient() {
    // One weight is 0, where the sub-gradient of its magnitude is 0.
    let weight = Tensor::f32([2, 2], vec![0.5, -2.0, 0.0, 1.0]).unwrap();
    let bias = Tensor::f32([2], vec![3.0, -4.0]).unwrap();
    let (l1, l2) = (0.1, 0.01);
    for (device, tolerance) in devices() {
        for regularize_biases in [false, true] {
            let gradients = GradientOptions { l1, l2, regularize_biases, ..GradientOptions::default() };
            let update = Update::new(Optimizer::sgd(0.0), gradients.into()).unwrap();
            let graph = update_graph(&update, &["fc.weight", "fc.bias"], &[weight.clone(), bias.clone()]).unwrap();
            let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
            program.run("update", &update.steps(1, 1.0)).unwrap();
            let penalty = |values: &Tensor| values.to_f64_vec().iter().map(|w| l1 * w.abs() + l2 * w * w).sum::<f64>();
            let after = |values: &Tensor| -> Vec<f64> {
                let sign = |w: f64| if w == 0.0 { 0.0 } else { w.signum() };
                values.to_f64_vec().iter().map(|&w| w - l1 * sign(w) - 2.0 * l2 * w).collect()
            };
            let loss = program.output("update", "loss").unwrap().item().unwrap();
            // Gradients of 0 make the data's loss 0.
            let want = penalty(&weight) + if regularize_biases { penalty(&bias) } else { 0.0 };
            assert!(drift(&[loss], &[want]) <= tolerance, "{device}: {loss} instead of {want}");
            assert!(drift(&program.read("fc.weight").unwrap().to_f64_vec(), &after(&weight)) <= tolerance);
            let want = if regularize_biases { after(&bias) } else { bias.to_f64_vec() };
            assert!(drift(&program.read("fc.bias").unwrap().to_f64_vec(), &want) <= tolerance);
        }
    }
}

#[test]
fn groups_have_their_own_rate_and_decay() {
    let start = Tensor::f32([3], vec![1.0, -2.0, 4.0]).unwrap();
    let grad = Tensor::f32([3], vec![0.5, 0.25, -1.0]).unwrap();
    let groups = vec![
        ParamGroup { weight_decay: Some(0.0), ..ParamGroup::new(["*.bias"]) },
        ParamGroup { lr_scale: 0.1, ..ParamGroup::new(["conv1.*"]) },
    ];
    let sgd = Optimizer::from(Sgd { momentum: 0.0, weight_decay: 0.5, ..Sgd::default() });
    let update = Update::new(sgd, UpdateOptions { groups, ..UpdateOptions::default() }).unwrap();
    let names = ["conv1.weight", "conv1.bias", "fc.weight"];
    let graph = update_graph(&update, &names, &[start.clone(), start.clone(), start.clone()]).unwrap();
    for (device, tolerance) in devices() {
        let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
        names.iter().for_each(|name| program.write(&format!("{name}.input"), &grad).unwrap());
        program.run("update", &update.steps(1, 0.2)).unwrap();
        for (name, lr, decay) in [("conv1.weight", 0.02, 0.5), ("conv1.bias", 0.2, 0.0), ("fc.weight", 0.2, 0.5)] {
            let step = |(w, g): (&f64, &f64)| w - lr * (g + decay * w);
            let want: Vec<f64> = start.to_f64_vec().iter().zip(&grad.to_f64_vec()).map(step).collect();
            assert!(drift(&program.read(name).unwrap().to_f64_vec(), &want) <= tolerance, "{device}, {name}");
        }
    }
}

#[test]
fn a_group_that_matches_nothing_is_refused() {
    let options = UpdateOptions { groups: vec![ParamGroup::new(["conv9.*"])], ..UpdateOptions::default() };
    let update = Update::new(Optimizer::sgd(0.0), options).unwrap();
    let start = Tensor::f32([1], vec![1.0]).unwrap();
    let error = update_graph(&update, &["fc.weight"], &[start]).unwrap_err().to_string();
    assert!(error.contains("conv9.*") && error.contains("fc.weight"), "{error}");
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let table: [(&str, UpdateOptions); 7] = [
        ("regularize_biases", GradientOptions { regularize_biases: true, ..GradientOptions::default() }.into()),
        ("clip_norm", GradientOptions { clip_norm: Some(0.0), ..GradientOptions::default() }.into()),
        ("clip_value", GradientOptions { clip_value: Some(f64::NAN), ..GradientOptions::default() }.into()),
        ("l1", GradientOptions { l1: -1.0, ..GradientOptions::default() }.into()),
        ("l2", GradientOptions { l2: f64::INFINITY, ..GradientOptions::default() }.into()),
        ("accumulate", GradientOptions { accumulate: 0, ..GradientOptions::default() }.into()),
        ("parameter group", UpdateOptions { groups: vec![ParamGroup::new([""; 0])], ..UpdateOptions::default() }),
    ];
    for (name, options) in table {
        let error = Update::new(Optimizer::sgd(0.0), options).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
