//! Steps of optimizers as a loop by hand runs them: the program counts, wrong tables are refused. Rules of a user's own
//! from ordinary nodes. Values that are not finite, which no rule, limit or penalty may hide.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use wgrad::graph::StateKind;
use wgrad::nn::Init;
use wgrad::optim::rule::{MAX_SCALARS, padded};
use wgrad::optim::{Adam, GradientOptions, Learned, Optimizer, Rule, StepRates, Update, UpdateOptions};
use wgrad::{Device, Graph, Program, Result, StepTable, Tensor, TensorType, Value};

use crate::harness::gpu;

/// A line through four points, from 0.
fn line(update: &Update) -> Program {
    let mut graph = Graph::new("train");
    let x = graph.constant(Tensor::f32([4, 1], vec![0.0, 1.0, 2.0, 3.0]).unwrap());
    let y = graph.constant(Tensor::f32([4, 1], vec![1.0, 3.0, 5.0, 7.0]).unwrap());
    let w = graph.parameter("w", [1, 1], Init::Zeros).unwrap();
    let b = graph.parameter("b", [1], Init::Zeros).unwrap();
    let predicted = graph.linear(x, w, Some(b)).unwrap();
    let error = graph.sub(predicted, y).unwrap();
    let squared = graph.square(error).unwrap();
    let loss = graph.mean_all(squared).unwrap();
    update.minimize(&mut graph, loss).unwrap();
    graph.output("loss", loss).unwrap();
    Program::from_graphs(&Device::Cpu, [&graph], 0).unwrap()
}

fn alone(optimizer: &Optimizer) -> Update {
    Update::new(optimizer.clone(), UpdateOptions::default()).unwrap()
}

#[test]
fn one_loop_works_for_every_optimizer() {
    for entry in Optimizer::ENTRIES {
        let optimizer = Optimizer::named(entry.name).unwrap();
        let lr = optimizer.default_lr().max(0.01);
        let mut program = line(&alone(&optimizer));
        program.run("train", &optimizer.steps(1, lr)).unwrap();
        let before = program.output("train", "loss").unwrap().item().unwrap();
        program.run("train", &optimizer.steps(99, lr)).unwrap();
        let after = program.output("train", "loss").unwrap().item().unwrap();
        assert!(after < before, "{optimizer}: {before} to {after}");
        // The count went on by itself: the same as all at once.
        let mut whole = line(&alone(&optimizer));
        whole.run("train", &optimizer.steps_with(100, |_| lr)).unwrap();
        assert_eq!(whole.read("w").unwrap(), program.read("w").unwrap(), "{optimizer}");
    }
}

#[test]
fn tables_that_do_not_fit_say_what_to_do() {
    let (sgd, adam) = (Optimizer::sgd(0.9), Optimizer::adam());
    let message = |program: &mut Program, table: &StepTable| program.run("train", table).unwrap_err().to_string();
    let mut program = line(&alone(&adam));
    let error = message(&mut program, &sgd.steps(1, 0.1));
    assert!(error.contains("adam") && error.contains("sgd, momentum 0.9"), "{error}");
    let other = Adam { betas: [0.8, 0.999], ..Adam::default() };
    let error = message(&mut program, &Optimizer::from(other).steps(1, 0.1));
    assert!(error.contains("betas 0.8"), "{error}");
    let error = message(&mut program, &StepTable::new(3));
    assert!(error.contains("optimizer.steps(n, lr)") && error.contains("no columns"), "{error}");
    let error = message(&mut program, &adam.step(7, 0.1));
    assert!(error.contains("step 0 to come next"), "{error}");
    program.run("train", &adam.steps(5, 0.1)).unwrap();
    let error = message(&mut program, &adam.step(4, 0.1));
    assert!(error.contains("step 5 to come next"), "{error}");
    program.run("train", &adam.step(5, 0.1)).unwrap();
    program.initialize(0).unwrap();
    program.run("train", &adam.step(0, 0.1)).unwrap();
}

#[test]
fn after_states_were_loaded_the_start_is_said_and_training_continues_to_the_same_bits() {
    const KINDS: [StateKind; 2] = [StateKind::Parameter, StateKind::Optimizer];
    let adam = Optimizer::adam();
    let mut whole = line(&alone(&adam));
    whole.run("train", &adam.steps(30, 0.1)).unwrap();
    let saved = whole.state_dict(&KINDS).unwrap();
    whole.run("train", &adam.steps(20, 0.1)).unwrap();
    let mut resumed = line(&alone(&adam));
    resumed.load_state_dict(&saved, &KINDS).unwrap();
    let error = resumed.run("train", &adam.steps(10, 0.1)).unwrap_err().to_string();
    assert!(error.contains("starting_at(k)"), "{error}");
    resumed.run("train", &adam.steps(10, 0.1).starting_at(30)).unwrap();
    resumed.run("train", &adam.steps(10, 0.1)).unwrap();
    assert_eq!(whole.state_dict(&KINDS).unwrap(), resumed.state_dict(&KINDS).unwrap());
}

#[test]
fn a_graph_has_one_optimizer() {
    let mut graph = Graph::new("train");
    let w = graph.parameter("w", [1], Init::Zeros).unwrap();
    let loss = graph.sum_all(w).unwrap();
    let grads = graph.backward(loss).unwrap();
    Optimizer::sgd(0.9).update(&mut graph, &grads).unwrap();
    let error = Optimizer::adam().update(&mut graph, &grads).unwrap_err().to_string();
    assert!(error.contains("one optimizer in a graph (sgd, momentum 0.9)"), "{error}");
}

/// Not elementwise: a matrix moves along its gradient made nearly orthogonal by a Newton-Schulz step, as in Muon; what
/// is no matrix moves along its gradient.
#[derive(Debug)]
struct Orthogonal;

impl Orthogonal {
    /// 1.5 X − 0.5 X Xᵀ X of X = G / ‖G‖.
    fn direction(graph: &mut Graph, grad: Value) -> Result<Value> {
        let squares = graph.square(grad)?;
        let squares = graph.sum_all(squares)?;
        let norm = graph.sqrt(squares)?;
        let x = graph.div(grad, norm)?;
        let transposed = graph.transpose(x, 0, 1)?;
        let gram = graph.matmul(x, transposed)?;
        let cubed = graph.matmul(gram, x)?;
        let (most, half) = (graph.constant(Tensor::scalar(1.5)), graph.constant(Tensor::scalar(0.5)));
        let (most, half) = (graph.mul(x, most)?, graph.mul(cubed, half)?);
        graph.sub(most, half)
    }
}

impl Rule for Orthogonal {
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn default_lr(&self) -> f64 {
        0.02
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr"]
    }

    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS] {
        padded([at.lr])
    }

    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()> {
        for learned in parameters {
            let is_matrix = graph.shape(learned.param).rank() == 2;
            let direction = if is_matrix { Self::direction(graph, learned.grad)? } else { learned.grad };
            let step = graph.mul(direction, scalars[0])?;
            let after = graph.sub(learned.param, step)?;
            graph.assign(learned.param, after)?;
        }
        Ok(())
    }
}

#[test]
fn a_rule_may_be_made_of_matrix_products() {
    for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
        let gradients = GradientOptions { accumulate: 2, clip_norm: Some(100.0), ..GradientOptions::default() };
        let update = Update::with_rule(Orthogonal, gradients.into()).unwrap();
        let mut graph = Graph::new("train");
        let w = graph.parameter("w", [2, 2], Init::Zeros).unwrap();
        let b = graph.parameter("b", [2], Init::Zeros).unwrap();
        let factors = graph.constant(Tensor::f32([2, 2], vec![3.0, 0.0, 0.0, 4.0]).unwrap());
        let (product, sum) = (graph.mul(w, factors).unwrap(), graph.sum_all(b).unwrap());
        let product = graph.sum_all(product).unwrap();
        let loss = graph.add(product, sum).unwrap();
        update.minimize(&mut graph, loss).unwrap();
        let mut program = Program::from_graphs(device, [&graph], 0).unwrap();
        // Two batches of one step.
        program.run("train", &update.steps(2, 1.0)).unwrap();
        let after = program.read("w").unwrap().to_f64_vec();
        // X = diag(0.6, 0.8): 1.5 · 0.6 − 0.5 · 0.6³ and so on.
        for (got, want) in after.iter().zip([-0.792, 0.0, 0.0, -0.944]) {
            assert!((got - want).abs() < 1e-6, "{device}: {after:?}");
        }
        assert_eq!(program.read("b").unwrap().to_f32_vec(), [-1.0, -1.0], "{device}");
    }
}

/// The weights after a step from `starts` under gradients `grads`, and again under gradients of 1.
fn stepped(device: &Device, update: &Update, starts: &[f32], grads: &[f32]) -> Vec<f64> {
    let shape = [starts.len(), 1];
    let mut graph = Graph::new("train");
    let w = graph.parameter("w", shape, Init::Values(Tensor::f32(shape, starts.to_vec()).unwrap())).unwrap();
    let grad = graph.input("grad", TensorType::f32(shape)).unwrap();
    let product = graph.mul(w, grad).unwrap();
    let loss = graph.sum_all(product).unwrap();
    update.minimize(&mut graph, loss).unwrap();
    let mut program = Program::from_graphs(device, [&graph], 0).unwrap();
    program.write("grad", &Tensor::f32(shape, grads.to_vec()).unwrap()).unwrap();
    program.run("train", &update.steps(1, 0.125)).unwrap();
    program.write("grad", &Tensor::f32(shape, vec![1.0; starts.len()]).unwrap()).unwrap();
    program.run("train", &update.steps(1, 0.125)).unwrap();
    program.read("w").unwrap().to_f64_vec()
}

#[test]
fn no_rule_hides_a_number_that_is_none() {
    let grads = [f32::NAN, 1.0, -f32::NAN, 0.0, 1.0];
    let starts = [1.0, 2.0, 3.0, 4.0, f32::NAN];
    for entry in Optimizer::ENTRIES {
        let mut variants = vec![Optimizer::named(entry.name).unwrap()];
        let switches = entry.settings.iter().filter(|setting| setting.takes == wgrad::registry::Takes::Switch);
        variants.extend(switches.map(|switch| variants[0].with(switch.name, true).unwrap()).collect::<Vec<_>>());
        for optimizer in variants {
            for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
                let after = stepped(device, &alone(&optimizer), &starts, &grads);
                let is_nan: Vec<bool> = after.iter().map(|w| w.is_nan()).collect();
                assert_eq!(is_nan, [true, false, true, false, true], "{device}, {optimizer}: {after:?}");
            }
        }
    }
}

#[test]
fn no_limit_or_penalty_hides_a_number_that_is_none() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let off = GradientOptions::default;
    let by_value = GradientOptions { clip_value: Some(0.5), ..off() };
    let by_norm = GradientOptions { clip_norm: Some(0.5), ..off() };
    let l1 = GradientOptions { l1: 0.25, ..off() };
    let l2 = GradientOptions { l2: 0.25, ..off() };
    // Whether each of three weights is a number afterwards. By value NaN stays and infinity becomes the limit, as
    // torch.clamp; by norm an infinite one is NaN and the rest 0, as clip_grad_norm_. A norm that is NaN reaches all
    // gradients that are not 0.
    let cases = [
        (&by_value, [1.0, 1.0, 1.0], [nan, inf, 9.0], [false, true, true]),
        (&by_norm, [1.0, 1.0, 1.0], [nan, 2.0, -3.0], [false, false, false]),
        (&by_norm, [1.0, 1.0, 1.0], [inf, 2.0, -3.0], [false, true, true]),
        (&l1, [nan, 1.0, 0.0], [1.0, 1.0, 1.0], [false, true, true]),
        (&l2, [nan, 1.0, 0.0], [1.0, 1.0, 1.0], [false, true, true]),
    ];
    for (gradients, starts, grads, want) in cases {
        for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
            let update = Update::new(Optimizer::sgd(0.0), gradients.clone().into()).unwrap();
            let after = stepped(device, &update, &starts, &grads);
            let is_number: Vec<bool> = after.iter().map(|w| !w.is_nan()).collect();
            assert_eq!(is_number, want, "{device}, {gradients:?}: {after:?}");
        }
    }
}

/// A learning rate that is none is refused before it reaches the weights, and in words that name the step.
#[test]
fn learning_rates_are_numbers_of_at_least_0() {
    for optimizer in [Optimizer::sgd(0.9), Optimizer::adam()] {
        let update = alone(&optimizer);
        let mut program = line(&update);
        let before = program.read("w").unwrap();
        for lr in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1] {
            let tables = [update.steps(1, lr), update.steps_with(3, |step| if step == 2 { lr } else { 0.1 })];
            for (table, row) in tables.iter().zip([0, 2]) {
                let refused = program.run("train", table).unwrap_err();
                let expected =
                    format!("lr: expected a finite number of at least 0, got {lr} in row {row} of the table");
                assert_eq!(refused.to_string(), expected);
            }
        }
        assert_eq!(program.read("w").unwrap(), before, "nothing was run");
        program.run("train", &update.steps(1, 0.0)).unwrap();
        program.run("train", &update.steps(1, 0.1)).unwrap();
        assert_ne!(program.read("w").unwrap(), before);
    }
}

/// Nor does a NaN get in by a table that was made by hand. An infinity may be meant.
#[test]
fn numbers_of_a_table_are_not_nan() {
    let mut graph = Graph::new("g");
    let x = graph.constant(Tensor::f32([2], vec![1.0, -2.0]).unwrap());
    let bound = graph.scalar("bound", wgrad::DType::F32).unwrap();
    let y = graph.minimum(x, bound).unwrap();
    graph.output("y", y).unwrap();
    let mut program = Program::from_graphs(&Device::Cpu, [&graph], 0).unwrap();
    let refused = program.run("g", &StepTable::new(2).column("bound", |step| [0.0, f64::NAN][step])).unwrap_err();
    assert_eq!(refused.to_string(), "tensor \"bound\": expected numbers, got NaN");
    program.run("g", &StepTable::new(1).constant("bound", f64::INFINITY)).unwrap();
    assert_eq!(program.output("g", "y").unwrap().to_f32_vec(), [1.0, -2.0]);
}
