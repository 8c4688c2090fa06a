//! Building, differentiating, planning and running graphs: what is refused and in which words, what gradients flow, what
//! a plan holds, and what a program keeps from run to run.

use std::ops::ControlFlow;

use wgrad::exec::MODEL_KINDS;
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::Init;
use wgrad::ops::{AvgPool2d, Conv2d, CrossEntropy, MaxPool2d, NllLoss, Reduction, SliceRange};
use wgrad::optim::Optimizer;
use wgrad::{DType, Device, Error, Graph, Plan, Program, Result, StepTable, Tensor, TensorType, Value};

use crate::harness::gpu;

fn devices() -> [Device; 3] {
    [Device::Cpu, Device::CpuF64, gpu().clone()]
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn compile(device: &Device, graphs: &[&Graph]) -> Program {
    let plans = graphs.iter().map(|graph| Plan::new(graph).expect("the graph is sound")).collect();
    Program::compile(device, plans, 0).expect("the device takes the plans")
}

fn vector(data: &[f32]) -> Tensor {
    Tensor::f32([data.len()], data.to_vec()).expect("one number for each element")
}

/// The gradients of `build(x)` summed, at `x`, on the f64 device; `None` where there are none.
fn gradient(x: &[f32], build: impl FnOnce(&mut Graph, Value) -> Result<Value>) -> Option<Vec<f64>> {
    let mut graph = Graph::new("gradient");
    let value = graph.parameter("x", [x.len()], Init::Values(vector(x))).expect("a new name");
    let y = build(&mut graph, value).expect("sound operands");
    let loss = graph.sum_all(y).expect("there are elements");
    let gradient = graph.backward(loss).expect("a differentiable loss").get(value)?;
    graph.output("gradient", gradient).expect("a new name");
    let mut program = compile(&Device::CpuF64, &[&graph]);
    program.run_once("gradient").expect("the entry exists");
    Some(program.output("gradient", "gradient").expect("the output exists").to_f64_vec())
}

type Use = fn(&mut Graph, Value) -> Result<()>;
type Mistake = fn(&mut Graph, Mistakes) -> Result<Value>;

/// What mistakes are made with.
#[derive(Clone, Copy)]
struct Mistakes {
    /// f32 (2, 3)
    x: Value,
    /// f32 (4)
    y: Value,
    /// u32 (2)
    labels: Value,
}

#[test]
fn wrong_operands_are_refused_in_plain_words() {
    let table: [(Mistake, &str); 19] = [
        (|g, v| g.add(v.x, v.y), "add: expected shapes that broadcast (equal extents, or 1), got (2, 3) and (4)"),
        (|g, v| g.mul(v.x, v.labels), "mul: expected a f32 operand, got u32 (2)"),
        (|g, v| g.relu(v.labels), "relu: expected a f32 operand, got u32 (2)"),
        (|g, v| g.sum(v.x, &[2], false), "sum: expected an axis below 2, got axis 2 of shape (2, 3)"),
        (|g, v| g.mean(v.x, &[1, 1], true), "mean: expected distinct axes in rising order, got [1, 1]"),
        (|g, v| g.amax(v.labels, &[0], false), "amax: expected a f32 operand, got u32 (2)"),
        (|g, v| g.reshape(v.x, [4, 2]), "reshape: expected a shape of 6 elements for (2, 3), got (4, 2)"),
        (|g, v| g.flatten(v.x, 3), "flatten: expected a first axis of at most 2, got 3"),
        (|g, v| g.permute(v.x, &[0, 0]), "permute: expected each axis of (2, 3) once, got [0, 0]"),
        (|g, v| g.permute(v.x, &[0]), "permute: expected each axis of (2, 3) once, got [0]"),
        (|g, v| g.transpose(v.x, 0, 2), "transpose: expected axes below 2, got 0 and 2"),
        (|g, v| g.broadcast_to(v.x, [3, 3]), "broadcast_to: expected a shape that (2, 3) broadcasts to, got (3, 3)"),
        (|g, v| g.broadcast_to(v.x, [3]), "broadcast_to: expected a shape that (2, 3) broadcasts to, got (3)"),
        (|g, v| g.sum_to(v.x, [2]), "sum_to: expected a shape that broadcasts to (2, 3), got (2)"),
        (|g, v| g.sum_to(v.x, [1, 2, 3]), "sum_to: expected a shape that broadcasts to (2, 3), got (1, 2, 3)"),
        (|g, v| g.slice(v.x, &[(0..1).into()]), "slice: expected one range for each axis of (2, 3), got 1"),
        (
            |g, v| g.slice(v.x, &[(0..3).into(), (0..1).into()]),
            "slice: expected ranges within (2, 3) and steps of at least 1, got SliceRange { start: 0, stop: 3, step: 1 }",
        ),
        (
            |g, v| g.slice(v.x, &[SliceRange { start: 0, stop: 2, step: 0 }, (0..1).into()]),
            "slice: expected ranges within (2, 3) and steps of at least 1, got SliceRange { start: 0, stop: 2, step: 0 }",
        ),
        (
            |g, v| g.backward(v.x).map(|_| v.x),
            "backward: expected a float loss of one element; reduce it first, for example with mean, got f32 (2, 3)",
        ),
    ];
    let mut graph = Graph::new("g");
    let operands = Mistakes {
        x: graph.input_with_grad("x", [2, 3]).expect("a new name"),
        y: graph.input("y", TensorType::f32([4])).expect("a new name"),
        labels: graph.input("labels", TensorType::u32([2])).expect("a new name"),
    };
    for (mistake, expected) in table {
        assert_eq!(message(mistake(&mut graph, operands)), expected);
    }
    assert!(!graph.requires_grad(operands.y), "nothing above depends on y");
    let loss = graph.sum_all(operands.y).expect("there are elements");
    let expected = "backward: expected a loss that depends on a parameter, got one that depends on none";
    assert_eq!(message(graph.backward(loss)), expected);
}

/// Wherever a value goes in, one of another graph is refused, and never indexes this graph's nodes.
#[test]
fn a_value_of_another_graph_is_refused() {
    let mut other = Graph::new("other");
    for index in 0..9 {
        other.input(&format!("{index}"), TensorType::f32([2, 3])).expect("a new name");
    }
    let stranger = other.input_with_grad("stranger", [2, 3]).expect("a new name");
    let uses: [(&str, Use); 32] = [
        ("relu", |g, v| g.relu(v).map(drop)),
        ("add", |g, v| g.add(v, v).map(drop)),
        ("sum", |g, v| g.sum(v, &[0], false).map(drop)),
        ("sum_all", |g, v| g.sum_all(v).map(drop)),
        ("mean_all", |g, v| g.mean_all(v).map(drop)),
        ("sum_to", |g, v| g.sum_to(v, [3]).map(drop)),
        ("reshape", |g, v| g.reshape(v, [6]).map(drop)),
        ("flatten", |g, v| g.flatten(v, 0).map(drop)),
        ("transpose", |g, v| g.transpose(v, 0, 1).map(drop)),
        ("permute", |g, v| g.permute(v, &[1, 0]).map(drop)),
        ("broadcast_to", |g, v| g.broadcast_to(v, [5, 2, 3]).map(drop)),
        ("detach", |g, v| g.detach(v).map(drop)),
        ("matmul", |g, v| g.matmul(v, v).map(drop)),
        ("linear", |g, v| g.linear(v, v, None).map(drop)),
        ("conv2d", |g, v| g.conv2d(v, v, None, Conv2d::default()).map(drop)),
        ("softmax", |g, v| g.softmax(v, 0).map(drop)),
        ("log_softmax", |g, v| g.log_softmax(v, 0).map(drop)),
        ("cross_entropy", |g, v| g.cross_entropy(v, v, None, CrossEntropy::default()).map(drop)),
        ("nll_loss", |g, v| g.nll_loss(v, v, None, NllLoss::default()).map(drop)),
        ("mse_loss", |g, v| g.mse_loss(v, v, Reduction::Mean).map(drop)),
        ("l1_loss", |g, v| g.l1_loss(v, v, Reduction::Mean).map(drop)),
        ("bce_with_logits", |g, v| g.bce_with_logits(v, v, Reduction::Mean).map(drop)),
        ("max_pool2d", |g, v| g.max_pool2d(v, MaxPool2d::new([1, 1])).map(drop)),
        ("avg_pool2d", |g, v| g.avg_pool2d(v, AvgPool2d::new([1, 1])).map(drop)),
        ("adaptive_avg_pool2d", |g, v| g.adaptive_avg_pool2d(v, [1, 1]).map(drop)),
        ("global_avg_pool2d", |g, v| g.global_avg_pool2d(v).map(drop)),
        ("slice", |g, v| g.slice(v, &[(0..1).into(), (0..1).into()]).map(drop)),
        ("argmax", |g, v| g.argmax(v, 0).map(drop)),
        ("concat", |g, v| g.concat(&[v, v], 0).map(drop)),
        ("pad", |g, v| g.pad(v, &[(1, 1), (0, 0)]).map(drop)),
        ("output", |g, v| g.output("out", v)),
        ("backward", |g, v| g.backward(v).map(drop)),
    ];
    for (name, f) in uses {
        let mut graph = Graph::new("mine");
        let got = message(f(&mut graph, stranger));
        let expected = "graph: expected a value of graph \"mine\", got a value of another graph";
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn a_name_means_one_thing() {
    let mut graph = Graph::new("g");
    let weight = graph.parameter("weight", [2], Init::Zeros).expect("a new name");
    let again = graph.share(|graph| graph.parameter("weight", [2], Init::Zeros));
    assert_eq!(again.expect("the same again"), weight);
    let lr = graph.scalar("lr", DType::F32).expect("a new name");
    assert_eq!(graph.scalar("lr", DType::F32).expect("the same again"), lr);
    let advice = "; give one of them another name";
    let weight_as = |second: &str| {
        format!("\"weight\" is declared twice: Parameter f32 (2) starting as Zeros and {second}{advice}")
    };
    let ones = Init::Constant(1.0);
    let shared = "the same again, which would share its values (Graph::share allows it)";
    let table = [
        (message(graph.parameter("weight", [2], Init::Zeros)), weight_as(shared)),
        (message(graph.parameter("weight", [3], Init::Zeros)), weight_as("Parameter f32 (3) starting as Zeros")),
        (message(graph.parameter("weight", [2], ones)), weight_as("Parameter f32 (2) starting as Constant(1.0)")),
        (message(graph.input("weight", TensorType::f32([2]))), weight_as("Input f32 (2) starting as Zeros")),
        (
            message(graph.scalar("weight", DType::F32)),
            format!("\"weight\" is declared twice: f32 (2) and a scalar, f32 (){advice}"),
        ),
        (
            message(graph.input("lr", TensorType::f32([]))),
            format!("\"lr\" is declared twice: a scalar and Input f32 () starting as Zeros{advice}"),
        ),
        (
            message(graph.scalar("lr", DType::U32)),
            format!("\"lr\" is declared twice: f32 () and a scalar, u32 (){advice}"),
        ),
    ];
    for (got, expected) in table {
        assert_eq!(got, expected);
    }
    graph.output("out", weight).expect("a new name");
    graph.output("out", weight).expect("the same again");
    let expected = format!("\"out\" is declared twice: output f32 (2) and output f32 (){advice}");
    assert_eq!(message(graph.output("out", lr)), expected);
    // The refusal left the first in place.
    assert_eq!(message(graph.output("out", weight)), "no error");
}

#[test]
fn plans_of_a_program_agree_on_states_and_differ_in_name() {
    let graph = |name: &str, extent: usize| {
        let mut graph = Graph::new(name);
        let weight = graph.parameter("weight", [extent], Init::Zeros).expect("a new name");
        graph.output("weight", weight).expect("a new name");
        Plan::new(&graph).expect("the graph is sound")
    };
    for device in devices() {
        let clash = Program::compile(&device, vec![graph("a", 2), graph("b", 3)], 0).map(drop);
        assert_eq!(
            message(clash),
            "\"weight\" is declared twice: Parameter f32 (2) starting as Zeros and Parameter f32 (3) starting as \
             Zeros; give one of them another name"
        );
        let clash = Program::compile(&device, vec![graph("a", 2), graph("a", 2)], 0).map(drop);
        let expected =
            "\"a\" is declared twice: an entry of 0 steps and an entry of 0 steps; give one of them another name";
        assert_eq!(message(clash), expected);
    }
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let mut graph = Graph::new("train");
    let x = graph.input("x", TensorType::f32([2])).expect("a new name");
    let lr = graph.scalar("lr", DType::F32).expect("a new name");
    let y = graph.mul(x, lr).expect("scalars broadcast");
    graph.output("y", y).expect("a new name");
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        let table = StepTable::new(1).constant("lr", 1.0);
        let answers = [
            (message(program.run("test", &table)), "no entry is called \"test\"; there is: train"),
            (message(program.output("test", "y")), "no entry is called \"test\"; there is: train"),
            (message(program.output("train", "z")), "no output is called \"z\"; there is: y"),
            (message(program.read("w")), "no state is called \"w\"; there is: x"),
            (message(program.write("w", &vector(&[0.0]))), "no state is called \"w\"; there is: x"),
            (message(program.run_once("train")), "no scalar is called \"lr\"; there is: nothing"),
            (
                message(program.run("train", &StepTable::new(1).constant("momentum", 1.0))),
                "no scalar is called \"lr\"; there is: momentum",
            ),
            (message(program.write("x", &vector(&[0.0; 3]))), "tensor \"x\": expected f32 (2), got f32 (3)"),
            (
                message(program.write("x", &Tensor::u32([2], vec![1, 2]).expect("two elements"))),
                "tensor \"x\": expected f32 (2), got u32 (2)",
            ),
        ];
        for (got, expected) in answers {
            assert_eq!(got, expected, "on {device}");
        }
    }
    let none = message(Device::select("no such adapter").map(drop));
    assert!(none.starts_with("no GPU adapter matches \"no such adapter\"; found: "), "{none}");
}

#[test]
fn a_count_in_a_table_is_a_whole_number_in_range() {
    let mut graph = Graph::new("g");
    let start = graph.scalar("start", DType::U32).expect("a new name");
    let copy = graph.reshape(start, [1]).expect("one element");
    graph.output("start", copy).expect("a new name");
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        for (value, word) in [(0.5, "0.5"), (-1.0, "-1"), (4_294_967_296.0, "4294967296"), (f64::NAN, "NaN")] {
            let expected = format!("tensor \"start\": expected whole numbers from 0 to 4294967295, got {word}");
            assert_eq!(message(program.run("g", &StepTable::new(1).constant("start", value))), expected);
        }
        // Too large for f32 to hold exactly.
        program.run("g", &StepTable::new(1).constant("start", 4_294_967_295.0)).expect("the largest u32");
        let got = program.output("g", "start").expect("the output exists");
        assert_eq!(got, Tensor::u32([1], vec![u32::MAX]).expect("one element"), "on {device}");
    }
}

#[test]
fn gradients_of_several_uses_add_up() {
    let x = [1.0, -2.0, 0.5];
    let twice_plus_one: Vec<f64> = x.iter().map(|&x| 2.0 * f64::from(x) + 1.0).collect();
    // Twice in one op, and once more next to it.
    let got = gradient(&x, |g, x| {
        let square = g.mul(x, x)?;
        g.add(square, x)
    });
    assert_eq!(got, Some(twice_plus_one.clone()));
    // Through two paths that meet again: x² + x from (x + 1)·x.
    let got = gradient(&x, |g, x| {
        let left = g.add_scalar(x, 1.0)?;
        let right = g.reshape(x, [3])?;
        g.mul(left, right)
    });
    assert_eq!(got, Some(twice_plus_one));
    // A chain of doublings: the sum is taken before a node's own rule, not after.
    let got = gradient(&x, |g, x| (0..5).try_fold(x, |y, _| g.add(y, y)));
    assert_eq!(got, Some(vec![32.0; 3]));
}

#[test]
fn detach_and_no_grad_cut_gradients() {
    let x = [3.0, -1.0];
    // x·stop(x): only the first factor counts.
    let got = gradient(&x, |g, x| {
        let stopped = g.detach(x)?;
        g.mul(x, stopped)
    });
    assert_eq!(got, Some(vec![3.0, -1.0]));
    let got = gradient(&x, |g, x| {
        let square = g.no_grad(|g| g.square(x))?;
        assert!(!g.requires_grad(square));
        g.add(x, square)
    });
    assert_eq!(got, Some(vec![1.0, 1.0]));
    // Within no_grad there is no way back to gradients but to leave it.
    let got = gradient(&x, |g, x| {
        g.no_grad(|g| g.no_grad(|g| g.square(x)).map(drop))?;
        g.square(x)
    });
    assert_eq!(got, Some(vec![6.0, -2.0]));
}

#[test]
fn a_value_off_the_path_has_no_gradient() {
    let mut graph = Graph::new("g");
    let x = graph.parameter("x", [2], Init::Zeros).expect("a new name");
    let unused = graph.parameter("unused", [2], Init::Zeros).expect("a new name");
    let data = graph.input("data", TensorType::f32([2])).expect("a new name");
    let y = graph.mul(x, data).expect("equal shapes");
    let loss = graph.sum_all(y).expect("there are elements");
    let gradients = graph.backward(loss).expect("a differentiable loss");
    assert!(gradients.get(x).is_some() && gradients.get(unused).is_none() && gradients.get(data).is_none());
    assert_eq!(graph.parameters().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "unused"]);
}

#[test]
fn what_nothing_reads_is_not_in_the_plan() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([4])).expect("a new name");
    let unused = graph.input("unused", TensorType::f32([4])).expect("a new name");
    let y = graph.relu(x).expect("a float");
    let lost = graph.exp(unused).expect("a float");
    graph.add(lost, y).expect("equal shapes");
    graph.output("y", y).expect("a new name");
    let plan = Plan::new(&graph).expect("the graph is sound");
    assert_eq!(plan.states().iter().map(|state| state.name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert!(plan.to_string().starts_with("plan \"g\": 1 steps,"), "{plan}");
    assert_eq!(plan.cost().flops, 4, "only relu runs");
    // One output of 16 bytes.
    assert_eq!(plan.slot_bytes(), 16);
}

#[test]
fn a_plan_prints_as_a_table() {
    let mut graph = Graph::new("train");
    let x = graph.input("x", TensorType::f32([32, 4])).expect("a new name");
    let y = graph
        .scope("block", |g| {
            let weight = g.parameter("weight", [4], Init::Zeros)?;
            let y = g.mul(x, weight)?;
            g.leaky_relu(y, 0.1)
        })
        .expect("sound operands");
    let loss = graph.mean_all(y).expect("there are elements");
    graph.output("loss", loss).expect("a new name");
    let plan = Plan::new(&graph).expect("the graph is sound");
    let expected = "\
plan \"train\": 3 steps, 0.00 MFLOP
#  op                attributes          output       MFLOP  stored in
0  block.mul                             f32 (32, 4)  0.000  slot 0
1  block.leaky_relu  negative_slope 0.1  f32 (32, 4)  0.000  slot 1
2  mean              axes [0, 1]         f32 ()       0.000  slot 0
states 528 B in 2 tensors; 2 slots of 1.0 KiB in all, where 1.0 KiB would be needed without sharing";
    assert_eq!(plan.to_string(), expected);
}

/// States and constants can be outputs, as themselves and under another shape.
#[test]
fn leaves_can_be_outputs() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([4])).expect("a new name");
    let fixed = graph.constant(vector(&[5.0, 6.0]));
    let square = graph.reshape(x, [2, 2]).expect("as many elements");
    for (name, value) in [("x", x), ("square", square), ("fixed", fixed)] {
        graph.output(name, value).expect("a new name");
    }
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        program.write("x", &vector(&[1.0, 2.0, 3.0, 4.0])).expect("the input exists");
        program.run_once("g").expect("the entry exists");
        let mut read = |name| program.output("g", name).expect("the output exists");
        assert_eq!(read("x").to_f64_vec(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!((read("square").shape().dims(), read("square").to_f64_vec()), (&[2, 2][..], read("x").to_f64_vec()));
        assert_eq!(read("fixed").to_f64_vec(), [5.0, 6.0]);
    }
}

/// A value has elements: nothing can be declared, computed or cut out of a value without any.
#[test]
fn values_without_elements_are_refused() {
    let mut graph = Graph::new("g");
    let expected = "tensor \"x\": expected at least one element, got f32 (2, 0)";
    assert_eq!(message(graph.input("x", TensorType::f32([2, 0]))), expected);
    let x = graph.input("x", TensorType::f32([2, 3])).expect("the refusal left no trace");
    let expected = "slice: expected operands that give at least one element, got f32 (0, 3)";
    assert_eq!(message(graph.slice(x, &[(1..1).into(), (0..3).into()])), expected);
    let wrong = Init::Values(vector(&[1.0]));
    assert_eq!(message(graph.parameter("w", [2], wrong)), "tensor \"w\": expected f32 (2), got f32 (1)");
}

/// Every row of a table reaches its own step, beyond the rows that a GPU holds at once, and the last one is what an
/// output shows, however the steps are cut into runs.
#[test]
fn the_last_row_of_a_table_is_what_an_output_shows() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([3])).expect("a new name");
    let scale = graph.scalar("scale", DType::F32).expect("a new name");
    let shift = graph.scalar("shift", DType::F32).expect("a new name");
    let y = graph.mul(x, scale).expect("scalars broadcast");
    let y = graph.add(y, shift).expect("scalars broadcast");
    graph.output("y", y).expect("a new name");
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        program.write("x", &vector(&[1.0, 2.0, 3.0])).expect("the input exists");
        for num_steps in [1, 2, 7, 1023, 1024, 1025, 2050] {
            let table = StepTable::new(num_steps)
                .column("scale", |step| step as f64)
                .column("shift", |step| 0.5 * step as f64)
                .column("not asked for", |_| f64::NAN);
            let mut seen = 0;
            let mut progress = |done: usize| {
                assert!(done > seen && done <= num_steps, "progress {done} after {seen}");
                seen = done;
                ControlFlow::Continue(())
            };
            let done = program.run_with_progress("g", &table, &mut progress).expect("the entry exists");
            assert_eq!((seen, done), (num_steps, num_steps), "on {device}");
            let last = (num_steps - 1) as f64;
            let got = program.output("g", "y").expect("the output exists").to_f64_vec();
            assert_eq!(got, [1.5 * last, 2.5 * last, 3.5 * last], "{num_steps} steps on {device}");
        }
        program.run("g", &StepTable::new(0).constant("scale", 0.0).constant("shift", 0.0)).expect("nothing to do");
    }
}

/// Training from a schedule of learning rates, `cuts` steps at a run: the bits of the parameter and of its velocity.
fn train(device: &Device, optimizer: &Optimizer, cuts: &[usize]) -> Vec<Vec<u64>> {
    let mut graph = Graph::new("train");
    let x = graph.parameter("x", [5], Init::Uniform { bound: 1.0 }).expect("a new name");
    let y = graph.tanh(x).expect("a float");
    let y = graph.square(y).expect("a float");
    let loss = graph.mean_all(y).expect("there are elements");
    let gradients = graph.backward(loss).expect("a differentiable loss");
    optimizer.update(&mut graph, &gradients).expect("a parameter with a gradient");
    let mut program = compile(device, &[&graph]);
    let mut done = 0;
    for &num_steps in cuts {
        let table = optimizer.steps_with(num_steps, |step| 0.5 / (1 + done + step) as f64);
        program.run("train", &table).expect("the entry exists");
        done += num_steps;
    }
    let states = program.state_dict(&[StateKind::Parameter, StateKind::Optimizer]).expect("states can be read");
    states.values().map(|state| state.to_f64_vec().into_iter().map(f64::to_bits).collect()).collect()
}

/// How steps are cut into runs changes no bit, whatever the steps' own scalars and whatever the states they update.
#[test]
fn training_does_not_depend_on_how_steps_are_cut_into_runs() {
    for device in devices() {
        for optimizer in [Optimizer::sgd(0.9), Optimizer::adam()] {
            let whole = train(&device, &optimizer, &[60]);
            let start = train(&device, &optimizer, &[]);
            assert!(whole.len() > 1 && whole != start, "training changes the states");
            for cuts in [&[1; 60][..], &[7, 7, 7, 7, 7, 7, 7, 7, 4], &[59, 1], &[0, 1, 0, 59]] {
                assert_eq!(train(&device, &optimizer, cuts), whole, "{optimizer:?} cut into {cuts:?} on {device}");
            }
        }
    }
}

/// Memory is flat: everything is made when a program is compiled, or in its first run at the latest.
#[test]
fn nothing_is_made_after_warm_up() {
    // A device of its own: the count is the device's, and other tests compile at the same time.
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let device = Device::select(&wanted).expect("tests need an adapter");
    let mut graph = Graph::new("g");
    let x = graph.parameter("x", [257, 5], Init::Uniform { bound: 1.0 }).expect("a new name");
    let scale = graph.scalar("scale", DType::F32).expect("a new name");
    let y = graph.mul(x, scale).expect("scalars broadcast");
    let y = graph.tanh(y).expect("a float");
    let loss = graph.mean_all(y).expect("there are elements");
    let gradient = graph.backward(loss).expect("a differentiable loss").get(x).expect("x is on the path");
    graph.output("loss", loss).expect("a new name");
    graph.output("gradient", gradient).expect("a new name");
    let mut program = compile(&device, &[&graph]);
    let mut epoch = |num_steps: usize| {
        program.run("g", &StepTable::new(num_steps).constant("scale", 0.5)).expect("the entry exists");
        program.output("g", "loss").expect("the output exists");
        program.output("g", "gradient").expect("the output exists");
        let values = program.read("x").expect("the state exists");
        program.write("x", &values).expect("the state exists");
        let dict = program.state_dict(&MODEL_KINDS).expect("states can be read");
        program.load_state_dict(&dict, &MODEL_KINDS).expect("the same states");
        program.keep_model().expect("there is memory");
        program.restore_model().expect("kept before");
        program.num_objects()
    };
    let warm = epoch(3);
    assert!(warm > 0, "the count counts something");
    for num_steps in [1, 50, 3, 2000] {
        assert_eq!(epoch(num_steps), warm, "objects after a run of {num_steps} steps");
    }
}

/// A model of every kind of state.
fn model() -> Graph {
    let mut graph = Graph::new("model");
    let mut state = |name: &str, kind, init| {
        let spec = StateSpec { name: name.to_owned(), ty: TensorType::f32([3]), kind, init };
        graph.state(spec).expect("a new name")
    };
    let values = [
        state("weight", StateKind::Parameter, Init::Uniform { bound: 1.0 }),
        state("mean", StateKind::Buffer, Init::Constant(0.25)),
        state("momentum", StateKind::Optimizer, Init::Zeros),
        state("batch", StateKind::Input, Init::Zeros),
    ];
    let sum = values[1..].iter().try_fold(values[0], |sum, &value| graph.add(sum, value)).expect("equal shapes");
    graph.output("sum", sum).expect("a new name");
    graph
}

#[test]
fn a_state_dict_goes_out_and_back_in() {
    for device in devices() {
        let mut program = compile(&device, &[&model()]);
        let dict = program.state_dict(&MODEL_KINDS).expect("states can be read");
        assert_eq!(dict.keys().map(String::as_str).collect::<Vec<_>>(), ["mean", "weight"]);
        assert_eq!(dict["mean"].to_f64_vec(), [0.25; 3]);
        assert!(dict["weight"].to_f64_vec().iter().all(|x| *x != 0.0 && x.abs() < 1.0));

        let mut changed = dict.clone();
        changed.insert("weight".to_owned(), vector(&[1.0, -2.0, 3.5]));
        program.load_state_dict(&changed, &MODEL_KINDS).expect("shapes fit");
        assert_eq!(program.read("weight").expect("the state exists").to_f64_vec(), [1.0, -2.0, 3.5]);
        assert_eq!(program.state_dict(&[StateKind::Optimizer]).expect("states can be read").len(), 1);
        program.run_once("model").expect("the entry exists");
        assert_eq!(program.output("model", "sum").expect("the output exists").to_f64_vec(), [1.25, -1.75, 3.75]);

        program.initialize(0).expect("the device is there");
        assert_eq!(program.state_dict(&MODEL_KINDS).expect("states can be read"), dict, "the seed decides");
    }
}

#[test]
fn a_state_dict_that_does_not_fit_changes_nothing() {
    let mut program = compile(&Device::Cpu, &[&model()]);
    let good = program.state_dict(&MODEL_KINDS).expect("states can be read");
    let mut missing = good.clone();
    missing.remove("weight");
    let mut wrong_shape = good.clone();
    wrong_shape.insert("weight".to_owned(), vector(&[1.0]));
    let mut wrong_type = good.clone();
    wrong_type.insert("weight".to_owned(), Tensor::u32([3], vec![1, 2, 3]).expect("three elements"));
    let mut too_many = good.clone();
    too_many.insert("bias".to_owned(), vector(&[1.0]));
    let table = [
        (missing, "tensor \"weight\": expected f32 (3), got nothing of that name"),
        (wrong_shape, "tensor \"weight\": expected f32 (3), got f32 (1)"),
        (wrong_type, "tensor \"weight\": expected f32 (3), got u32 (3)"),
        (too_many, "tensor \"bias\": expected one of this model's tensors, got f32 (1)"),
    ];
    for (mut dict, expected) in table {
        // Fits, and comes before the one that does not.
        dict.insert("mean".to_owned(), vector(&[9.0; 3]));
        let result = program.load_state_dict(&dict, &MODEL_KINDS);
        assert!(matches!(result, Err(Error::State { .. })));
        assert_eq!(message(result), expected);
        assert_eq!(program.state_dict(&MODEL_KINDS).expect("states can be read"), good, "after: {expected}");
    }
}

#[test]
fn the_model_kept_last_comes_back_and_nothing_else() {
    for device in devices() {
        let mut program = compile(&device, &[&model()]);
        let write_all = |program: &mut Program, value: f32| {
            for name in ["weight", "mean", "momentum", "batch"] {
                program.write(name, &vector(&[value; 3])).expect("the state exists");
            }
        };
        let read_all = |program: &mut Program| {
            ["weight", "mean", "momentum", "batch"].map(|name| {
                let values = program.read(name).expect("the state exists").to_f64_vec();
                assert!(values.iter().all(|value| *value == values[0]));
                values[0]
            })
        };
        write_all(&mut program, 1.0);
        program.restore_model().expect("nothing was kept, so nothing is done");
        assert_eq!(read_all(&mut program), [1.0; 4]);
        program.keep_model().expect("there is memory");
        write_all(&mut program, 2.0);
        program.keep_model().expect("there is memory");
        write_all(&mut program, 3.0);
        program.restore_model().expect("kept before");
        assert_eq!(read_all(&mut program), [2.0, 2.0, 3.0, 3.0], "on {device}");
        write_all(&mut program, 4.0);
        program.restore_model().expect("kept before");
        assert_eq!(read_all(&mut program), [2.0, 2.0, 4.0, 4.0], "what was kept can be restored again");
    }
}

/// Entries share states by name: what is written once is seen by all.
#[test]
fn entries_share_states() {
    let graph = |name: &str, factor: f64| {
        let mut graph = Graph::new(name);
        let weight = graph.parameter("weight", [2], Init::Constant(3.0)).expect("a new name");
        let y = graph.mul_scalar(weight, factor).expect("a float");
        graph.output("y", y).expect("a new name");
        graph
    };
    for device in devices() {
        let mut program = compile(&device, &[&graph("train", 2.0), &graph("test", -1.0)]);
        let mut run = |entry: &str| {
            program.run_once(entry).expect("the entry exists");
            program.output(entry, "y").expect("the output exists").to_f64_vec()
        };
        assert_eq!((run("train"), run("test")), (vec![6.0; 2], vec![-3.0; 2]));
        program.write("weight", &vector(&[1.0, 5.0])).expect("the state exists");
        let mut run = |entry: &str| {
            program.run_once(entry).expect("the entry exists");
            program.output(entry, "y").expect("the output exists").to_f64_vec()
        };
        assert_eq!((run("train"), run("test")), (vec![2.0, 10.0], vec![-1.0, -5.0]));
    }
}
