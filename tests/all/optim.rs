//! Optimizers over several steps against PyTorch (`tests/golden/README.md`), in f64 and in f32 on CPU and GPU, and what
//! the goldens do not cover: packs of odd sizes, shared gradients, the rules in WGSL against those in Rust.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use std::collections::BTreeSet;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value as Json;
use wgrad::exec::verify::verify;
use wgrad::graph::StateKind;
use wgrad::nn::Init;
use wgrad::optim::{Adagrad, Adam, Lion, Optimizer, RmsProp, Sgd};
use wgrad::{Device, Graph, Plan, Program, StateDict, Tensor, TensorType, Value};

use crate::cases::{Fill, input};
use crate::harness::gpu;

/// What the file has and the library does not: gradient ascent.
const UNSUPPORTED: [&str; 1] = ["sgd_maximize"];

/// Entries of the registry without a golden case. PyTorch has no Lion, which follows its paper in `optim_more.rs`.
const WITHOUT_GOLDEN: [&str; 1] = ["lion"];

/// Clipping of gradients is not part of an optimizer.
const NO_OPTIMIZER: [&str; 2] = ["clip_grad_norm", "clip_grad_value"];

#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    attrs: serde_json::Map<String, Json>,
}

impl Case {
    fn numbers<const N: usize>(&self, name: &str) -> [f64; N] {
        serde_json::from_value::<Vec<f64>>(self.attrs[name].clone()).unwrap().try_into().unwrap()
    }

    /// The optimizer that the case is of: its attributes are the settings, by PyTorch's names.
    fn optimizer(&self) -> Option<Optimizer> {
        let mut optimizer = Optimizer::named(&self.op).unwrap();
        for (name, value) in self.attrs.iter().filter(|(name, _)| *name != "lr") {
            match (name.as_str(), value) {
                ("maximize", Json::Bool(true)) => return None,
                ("maximize", _) => continue,
                _ => optimizer = optimizer.with(name, toml::Value::try_from(value).unwrap()).unwrap(),
            }
        }
        Some(optimizer)
    }
}

const NUM_STEPS: usize = 12;
const NUM_PARAMS: usize = 3;

/// How far a weight may be off, as a share of the largest in its tensor.
///
/// In f64 both sides differ in the order of a few operations a step, some dozen ε = 2⁻⁵³ after twelve.
const TOLERANCE_F64: f64 = 1e-12;
/// In f32 a step rounds the weight once, by at most ε/2 = 6e-8 of it, and twelve such errors add up to 7e-7 at worst;
/// the step itself is a small part of the weight. Adam's quotient is a few ε off, but where gradients nearly cancel
/// in the first moment it loses digits of its own: with lr 0.01 that stays below the weight's own rounding.
const TOLERANCE_F32: f64 = 2e-6;

#[test]
fn cpu_f64() {
    check(&Device::CpuF64, TOLERANCE_F64);
}

#[test]
fn cpu_f32() {
    check(&Device::Cpu, TOLERANCE_F32);
}

#[test]
fn on_the_gpu() {
    check(gpu(), TOLERANCE_F32);
}

fn check(device: &Device, tolerance: f64) {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optim.safetensors")).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (mut skipped, mut checked) = (Vec::new(), BTreeSet::new());
    for case in cases.iter().filter(|case| !NO_OPTIMIZER.contains(&case.op.as_str())) {
        match case.optimizer() {
            None => skipped.push(case.name.as_str()),
            Some(optimizer) => {
                let worst = drift(device, &optimizer, case, &file);
                assert!(worst <= tolerance, "{device}, {}: off by {worst:e} of the largest weight", case.name);
                checked.insert(optimizer.name());
            }
        }
    }
    assert_eq!(skipped, UNSUPPORTED);
    for entry in Optimizer::ENTRIES {
        assert_eq!(checked.contains(entry.name), !WITHOUT_GOLDEN.contains(&entry.name), "{}", entry.name);
    }
}

/// Runs a case step by step; the largest distance from PyTorch, as a share of the tensor's largest weight.
fn drift(device: &Device, optimizer: &Optimizer, case: &Case, file: &SafeTensors<'_>) -> f64 {
    let load = |name: String| -> (Vec<usize>, Vec<f64>) {
        let view = file.tensor(&format!("{}/{name}", case.name)).unwrap();
        assert_eq!(view.dtype(), Dtype::F64);
        let data = view.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        (view.shape().to_vec(), data)
    };
    let starts: Vec<Tensor> = (0..NUM_PARAMS)
        .map(|index| load(format!("param_{index}")))
        .map(|(shape, data)| Tensor::f64(shape, data).unwrap())
        .collect();
    let mut program = Program::compile(device, vec![update_plan(optimizer, &starts)], 0).unwrap();
    let lr: [f64; NUM_STEPS] = case.numbers("lr");
    assert!(lr[6] < lr[5]);
    let mut worst: f64 = 0.0;
    for step in 0..NUM_STEPS {
        for (index, start) in starts.iter().enumerate() {
            let (_, grads) = load(format!("grad_{index}"));
            let elems = start.shape().num_elems();
            let grad = Tensor::f64(start.shape(), grads[step * elems..][..elems].to_vec()).unwrap();
            program.write(&format!("grad_{index}"), &grad).unwrap();
        }
        program.run("update", &optimizer.steps(1, lr[step])).unwrap();
        for (index, start) in starts.iter().enumerate() {
            let (_, steps) = load(format!("param_{index}_steps"));
            let elems = start.shape().num_elems();
            let want = &steps[step * elems..][..elems];
            let got = program.read(&format!("param_{index}")).unwrap().to_f64_vec();
            let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            for (got, want) in got.iter().zip(want) {
                // Written so that a NaN is the worst there is.
                let share = (got - want).abs() / largest;
                worst = if share <= worst { worst } else { share };
            }
        }
    }
    worst
}

/// The update of parameters whose gradients are the inputs `grad_<i>`: those of Σ param · grad.
fn update_plan(optimizer: &Optimizer, starts: &[Tensor]) -> Plan {
    let mut graph = Graph::new("update");
    let mut terms = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let init = Init::Values(start.clone());
        let param = graph.parameter(&format!("param_{index}"), start.shape(), init).unwrap();
        let grad = graph.input(&format!("grad_{index}"), TensorType::f32(start.shape())).unwrap();
        terms.push((param, grad));
    }
    append_update(&mut graph, optimizer, &terms);
    Plan::new(&graph).unwrap()
}

/// Appends the update under the loss Σ param · factor.
fn append_update(graph: &mut Graph, optimizer: &Optimizer, terms: &[(Value, Value)]) {
    let mut loss = None;
    for &(param, factor) in terms {
        let product = graph.mul(param, factor).unwrap();
        let sum = graph.sum_all(product).unwrap();
        loss = Some(match loss {
            None => sum,
            Some(loss) => graph.add(loss, sum).unwrap(),
        });
    }
    let grads = graph.backward(loss.unwrap()).unwrap();
    optimizer.update(graph, &grads).unwrap();
}

/// Every entry of the registry, with its defaults and with each of its settings changed by itself and all together, as
/// far as they go together.
fn settings() -> Vec<Optimizer> {
    let mut all = Vec::new();
    for entry in Optimizer::ENTRIES {
        let plain = Optimizer::named(entry.name).unwrap();
        let mut everything = plain.clone();
        all.push(plain.clone());
        for setting in entry.settings {
            let changed = match entry.defaults()[setting.name].clone() {
                toml::Value::Float(number) if number > 0.5 => toml::Value::from(0.7),
                // A denominator's eps, and shares that are off by default.
                toml::Value::Float(number) if number > 0.0 => toml::Value::from(1e-3),
                toml::Value::Float(_) => toml::Value::from(0.25),
                toml::Value::Boolean(on) => toml::Value::from(!on),
                toml::Value::Array(_) => toml::Value::from(vec![0.8, 0.95]),
                other => panic!("{}.{}: {other} has no variant yet", entry.name, setting.name),
            };
            let alone = plain.with(setting.name, changed.clone()).unwrap();
            assert_ne!(alone, plain);
            alone.validate().unwrap();
            all.push(alone);
            let together = everything.with(setting.name, changed).unwrap();
            if together.validate().is_ok() {
                everything = together;
            }
        }
        all.push(everything);
    }
    all.push(Optimizer::sgd(0.0));
    all
}

/// Tensors of one element, of sizes around the alignment of a pack and of a workgroup: each ends somewhere within it.
#[test]
fn packs_of_odd_sizes_match_the_reference() {
    let shapes: [&[usize]; 9] = [&[1], &[63], &[64], &[65], &[3, 5], &[257], &[2, 1, 7, 3], &[], &[1023]];
    let draw = |index: usize| input(shapes[index], Fill::AwayFromZero).tensor(index as u64);
    let starts: Vec<Tensor> = (0..shapes.len()).map(draw).collect();
    for optimizer in settings() {
        let plan = update_plan(&optimizer, &starts);
        let mut states: StateDict = (0..shapes.len())
            .map(|index| (format!("grad_{index}"), input(shapes[index], Fill::Uniform).tensor(50 + index as u64)))
            .collect();
        // States in the middle of training: means of squares are not negative, and a mean lies below its root mean square.
        for spec in plan.states().iter().filter(|spec| spec.kind == StateKind::Optimizer) {
            let is_square = ["_sq", ".square_avg", ".acc_delta", ".sum"].iter().any(|end| spec.name.ends_with(end));
            let (fill, scale) = if is_square { (Fill::Positive, 1.0) } else { (Fill::Uniform, 0.1) };
            let values = input(spec.ty.shape.clone(), fill).tensor(7).to_f32_vec();
            let values = values.iter().map(|x| x * scale).collect();
            states.insert(spec.name.clone(), Tensor::f32(spec.ty.shape.clone(), values).unwrap());
        }
        let table = optimizer.step(4, 0.05);
        for device in [gpu(), &Device::Cpu] {
            let report = verify(device, &plan, &states, &table, 0).unwrap();
            assert!(report.difference.is_none(), "{device}, {optimizer:?}: {}", report.difference.unwrap());
            let updates = report.ops.iter().filter(|op| op.label.contains("optimizer")).count();
            assert!(updates >= 1, "{:?}", report.ops);
        }
    }
}

/// One value that is the gradient of two parameters, one that is an input, and one under another shape: each is copied,
/// as an update wants gradients side by side.
#[test]
fn gradients_that_are_shared_are_copied() {
    for optimizer in settings() {
        let after = |device: &Device, shared: bool| {
            let mut graph = Graph::new("update");
            let start = |seed: u64| Init::Values(input([5, 3], Fill::Uniform).tensor(seed));
            let a = graph.parameter("a", [5, 3], start(1)).unwrap();
            let b = graph.parameter("b", [5, 3], start(2)).unwrap();
            let flat = Init::Values(Tensor::f32([15], input([5, 3], Fill::Uniform).tensor(3).to_f32_vec()).unwrap());
            let c = graph.parameter("c", [15], flat).unwrap();
            let factor = graph.input("factor", TensorType::f32([5, 3])).unwrap();
            let reshaped = graph.reshape(c, [5, 3]).unwrap();
            if shared {
                let sum = graph.add(a, b).unwrap();
                let sum = graph.add(sum, reshaped).unwrap();
                append_update(&mut graph, &optimizer, &[(sum, factor)]);
            } else {
                append_update(&mut graph, &optimizer, &[(a, factor), (b, factor), (reshaped, factor)]);
            }
            let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
            program.write("factor", &input([5, 3], Fill::AwayFromZero).tensor(9)).unwrap();
            for _ in 0..3 {
                program.run("update", &optimizer.steps(1, 0.1)).unwrap();
            }
            ["a", "b", "c"].map(|name| program.read(name).unwrap().to_f32_vec())
        };
        for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
            let (shared, apart) = (after(device, true), after(device, false));
            assert_eq!(shared, apart, "{device}, {optimizer:?}");
            assert_ne!(shared[0], input([5, 3], Fill::Uniform).tensor(1).to_f32_vec(), "the weights moved");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let (sgd, adam) = (Optimizer::sgd(0.9), Optimizer::adam());
    let bad: [(&Optimizer, &str, toml::Value); 9] = [
        (&sgd, "momentum", 1.0.into()),
        (&Optimizer::sgd(0.0), "nesterov", true.into()),
        (&Optimizer::sgd(0.0), "dampening", 0.5.into()),
        (&sgd, "weight_decay", (-0.1).into()),
        (&adam, "betas", vec![0.9, 1.0].into()),
        (&adam, "eps", f64::NAN.into()),
        (&RmsProp::default().into(), "alpha", 1.0.into()),
        (&Lion::default().into(), "betas", vec![0.9, 1.0].into()),
        (&Adagrad::default().into(), "lr_decay", (-1.0).into()),
    ];
    for (optimizer, setting, value) in bad {
        let error = optimizer.with(setting, value).unwrap().validate().unwrap_err().to_string();
        assert!(error.starts_with(setting), "{error}");
    }
    let error = sgd.with("betas", vec![0.9, 0.99]).unwrap_err().to_string();
    assert!(error.contains("betas") && error.contains("momentum"), "{error}");
}

#[test]
fn optimizers_say_what_they_are() {
    let table = [
        (Optimizer::sgd(0.9), "sgd, momentum 0.9"),
        (Optimizer::sgd(0.0), "sgd, momentum 0"),
        (
            Sgd { nesterov: true, weight_decay: 5e-4, ..Sgd::default() }.into(),
            "sgd, momentum 0.9, nesterov, weight decay 0.0005",
        ),
        (Adam { betas: [0.8, 0.95], amsgrad: true, ..Adam::default() }.into(), "adam, betas 0.8 and 0.95, amsgrad"),
        (RmsProp::default().into(), "rmsprop"),
    ];
    for (optimizer, words) in table {
        assert_eq!(optimizer.to_string(), words);
    }
    // The program's default, and what a file means by the name, is what the README says.
    assert_eq!(Optimizer::named("sgd").unwrap(), Optimizer::sgd(0.9));
    assert_eq!(wgrad::run::RunConfig::default().optimizer, Optimizer::sgd(0.9));
}
