//! Properties over random shapes, axes and attributes: every op on the GPU and on the CPU in f32 against f64, gradients
//! against finite differences, plans that share memory against plans that do not, and errors instead of panics. The
//! seed is fixed, so a run finds what the last one found.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use wgrad::ops::Activation;
use wgrad::ops::Conv2d;
use wgrad::ops::SliceRange;
use wgrad::ops::Matmul;
use wgrad::{Device, Graph, Plan, Program, Result, TensorType, Value};

use crate::cases::{Case, Fill, input};
use crate::harness::{check_case, gpu};

/// Cases of a property that runs on the GPU. Each may compile kernels of its own, which takes a software adapter long.
const NUM_GPU_CASES: u32 = 24;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20_240_229),
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    }
}

fn holds(case: Case) -> Result<(), TestCaseError> {
    check_case(&case).map_err(TestCaseError::fail)
}

/// Small extents, with 1s more often than chance has it.
fn extents(rank: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1 => Just(1), 4 => 2_usize..6], rank)
}

/// An operand that broadcasts to `shape`: some axes of extent 1, some missing in front.
fn broadcast_operand(shape: &[usize], ones: &[bool], missing: usize) -> Vec<usize> {
    let missing = missing.min(shape.len());
    let extent = |axis: usize| if ones[axis] { 1 } else { shape[axis] };
    (missing..shape.len()).map(extent).collect()
}

/// The axes that a mask picks.
fn axes(mask: &[bool], rank: usize) -> Vec<usize> {
    (0..rank).filter(|&axis| mask[axis]).collect()
}

/// A permutation from random keys.
fn permutation(keys: &[u32], rank: usize) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.sort_by_key(|&axis| keys[axis]);
    axes
}

type UnaryFn = fn(&mut Graph, Value, f64) -> Result<Value>;
type BinaryFn = fn(&mut Graph, Value, Value) -> Result<Value>;
type ReduceFn = fn(&mut Graph, Value, &[usize], bool) -> Result<Value>;

/// Functions of one operand and a constant in [0.1, 1], and where they are smooth.
const UNARY: [(&str, Fill, UnaryFn); 12] = [
    ("relu", Fill::AwayFromZero, |g, x, _| g.relu(x)),
    ("leaky_relu", Fill::AwayFromZero, |g, x, c| g.leaky_relu(x, c)),
    ("sigmoid", Fill::Uniform, |g, x, _| g.sigmoid(x)),
    ("tanh", Fill::Uniform, |g, x, _| g.tanh(x)),
    ("gelu", Fill::Uniform, |g, x, _| g.gelu(x)),
    ("silu", Fill::Uniform, |g, x, _| g.silu(x)),
    ("softplus", Fill::Uniform, |g, x, _| g.softplus(x)),
    ("log", Fill::Positive, |g, x, _| g.log(x)),
    ("sqrt", Fill::Positive, |g, x, _| g.sqrt(x)),
    ("mul_scalar", Fill::Uniform, |g, x, c| g.mul_scalar(x, c)),
    ("pow_scalar", Fill::Positive, |g, x, c| g.pow_scalar(x, 4.0 * c - 2.0)),
    ("square", Fill::Uniform, |g, x, _| g.square(x)),
];

const BINARY: [(&str, Fill, BinaryFn); 7] = [
    ("add", Fill::Uniform, |g, a, b| g.add(a, b)),
    ("sub", Fill::Uniform, |g, a, b| g.sub(a, b)),
    ("mul", Fill::Uniform, |g, a, b| g.mul(a, b)),
    ("div", Fill::AwayFromZero, |g, a, b| g.div(a, b)),
    ("pow", Fill::Positive, |g, a, b| g.pow(a, b)),
    ("minimum", Fill::Uniform, |g, a, b| g.minimum(a, b)),
    ("maximum", Fill::Uniform, |g, a, b| g.maximum(a, b)),
];

const REDUCE: [(&str, ReduceFn); 3] = [
    ("sum", |g, x, axes, keep| g.sum(x, axes, keep)),
    ("mean", |g, x, axes, keep| g.mean(x, axes, keep)),
    ("amax", |g, x, axes, keep| g.amax(x, axes, keep)),
];

proptest! {
    #![proptest_config(config(NUM_GPU_CASES))]

    #[test]
    fn unary((name, fill, f) in select(&UNARY[..]), shape in extents(0..5), constant in 0.1..1.0) {
        let label = format!("{name} {constant} {shape:?}");
        holds(Case::one(label, vec![input(shape, fill)], move |g, v| f(g, v[0], constant)))?;
    }

    #[test]
    fn binary(
        (name, fill, f) in select(&BINARY[..]),
        shape in extents(0..5),
        ones in vec(any::<[bool; 2]>(), 5),
        missing in [0_usize..3, 0_usize..3],
    ) {
        let operand = |which: usize| {
            let ones: Vec<bool> = ones.iter().map(|ones| ones[which]).collect();
            broadcast_operand(&shape, &ones, missing[which])
        };
        let (a, b) = (operand(0), operand(1));
        let label = format!("{name} {a:?} {b:?}");
        holds(Case::one(label, vec![input(a, fill), input(b, fill)], move |g, v| f(g, v[0], v[1])))?;
    }

    #[test]
    fn reduce((name, f) in select(&REDUCE[..]), shape in extents(0..5), mask in vec(any::<bool>(), 5), keep: bool) {
        let axes = axes(&mask, shape.len());
        let label = format!("{name} {shape:?} over {axes:?} keep {keep}");
        holds(Case::one(label, vec![input(shape, Fill::Distinct)], move |g, v| f(g, v[0], &axes, keep)))?;
    }

    #[test]
    fn permute(shape in extents(0..6), keys in vec(any::<u32>(), 6)) {
        let axes = permutation(&keys, shape.len());
        let label = format!("permute {shape:?} by {axes:?}");
        holds(Case::one(label, vec![input(shape, Fill::Uniform)], move |g, v| g.permute(v[0], &axes)))?;
    }

    #[test]
    fn broadcast_to(shape in extents(0..6), ones in vec(any::<bool>(), 6), missing in 0_usize..3) {
        let from = broadcast_operand(&shape, &ones, missing);
        let label = format!("broadcast {from:?} to {shape:?}");
        // Where the shapes are equal there is no op to check, so another one stands behind it.
        let build = move |g: &mut Graph, v: &[Value]| {
            let y = g.broadcast_to(v[0], &shape[..])?;
            g.neg(y)
        };
        holds(Case::one(label, vec![input(from, Fill::Uniform)], build))?;
    }
}

/// A step of a random computation: what it does, and which of the values so far it does it to.
type Move = (u8, Index, Index);

/// Applies random moves to values of shape (4, 4), all smooth and bounded.
fn apply(graph: &mut Graph, inputs: &[Value], moves: &[Move]) -> Result<Vec<Value>> {
    let mut values = inputs.to_vec();
    for (what, a, b) in moves {
        let (a, b) = (*a.get(&values), *b.get(&values));
        values.push(match what {
            0 => graph.add(a, b)?,
            1 => graph.mul(a, b)?,
            2 => graph.tanh(a)?,
            3 => graph.transpose(a, 0, 1)?,
            4 => {
                let flat = graph.flatten(a, 0)?;
                graph.reshape(flat, [4, 4])?
            }
            5 => {
                let mean = graph.mean(a, &[0], true)?;
                graph.sub(b, mean)?
            }
            _ => graph.detach(a)?,
        });
    }
    // Bounded, so that products of products do not overflow f32.
    values.into_iter().map(|value| graph.sigmoid(value)).collect()
}

/// The last value and the gradients of its sum; with `keep_all`, every value of the computation is kept for reading, so
/// that no memory is shared.
fn compute(device: &Device, moves: &[Move], keep_all: bool) -> Result<Vec<Vec<f64>>> {
    let mut graph = Graph::new("moves");
    let inputs: Vec<Value> = ["a", "b"]
        .into_iter()
        .map(|name| graph.parameter(name, [4, 4], wgrad::nn::Init::Uniform { bound: 1.0 }))
        .collect::<Result<_>>()?;
    let values = apply(&mut graph, &inputs, moves)?;
    let last = *values.last().expect("the inputs are among them");
    let loss = graph.sum_all(last)?;
    graph.output("last", last)?;
    if graph.requires_grad(loss) {
        let gradients = graph.backward(loss)?;
        for (index, &input) in inputs.iter().enumerate() {
            if let Some(gradient) = gradients.get(input) {
                graph.output(&format!("gradient {index}"), gradient)?;
            }
        }
    }
    if keep_all {
        for (index, &value) in values.iter().enumerate() {
            graph.output(&format!("value {index}"), value)?;
        }
    }
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 7)?;
    program.run_once("moves")?;
    let wanted = ["last", "gradient 0", "gradient 1"];
    Ok(wanted.iter().filter_map(|name| program.output("moves", name).ok()).map(|tensor| tensor.to_f64_vec()).collect())
}

proptest! {
    #![proptest_config(config(64))]

    /// Sharing memory changes no bit of a result.
    #[test]
    fn shared_memory_changes_nothing(moves in vec((0_u8..7, any::<Index>(), any::<Index>()), 1..20)) {
        for device in [&Device::Cpu, gpu()] {
            let (shared, kept) = (compute(device, &moves, false), compute(device, &moves, true));
            let (shared, kept) = (shared.map_err(fail)?, kept.map_err(fail)?);
            prop_assert!(!shared.is_empty() && shared.iter().flatten().all(|x| x.is_finite()));
            prop_assert_eq!(shared, kept);
        }
    }

    /// A random computation as a whole has the gradients that finite differences say.
    #[test]
    fn gradients_of_compositions(moves in vec((0_u8..6, any::<Index>(), any::<Index>()), 1..12)) {
        let inputs: Vec<_> = (1..3).map(|seed| input([4, 4], Fill::Uniform).tensor(seed)).collect();
        let build = |graph: &mut Graph, inputs: &[Value]| Ok(vec![*apply(graph, inputs, &moves)?.last().expect("inputs")]);
        prop_assert_eq!(wgrad::gradcheck(&inputs, build).map_err(fail)?, None);
    }
}

fn fail(error: wgrad::Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// What random arguments are made of: shapes with zeros and with more dimensions than kernels walk over, axes and
/// sizes that may or may not fit.
#[derive(Clone, Debug)]
struct Arguments {
    shapes: Vec<Vec<usize>>,
    integers: [bool; 3],
    axes: Vec<usize>,
    sizes: Vec<usize>,
    flag: bool,
}

fn arguments() -> impl Strategy<Value = Arguments> {
    let shape =
        prop_oneof![9 => vec(prop_oneof![1 => Just(0_usize), 24 => 1_usize..4], 0..5), 1 => vec(1_usize..3, 5..11)];
    let parts = (vec(shape, 3), any::<[bool; 3]>(), vec(0_usize..5, 0..4), vec(0_usize..5, 0..5), any::<bool>());
    parts.prop_map(|(shapes, integers, axes, sizes, flag)| Arguments { shapes, integers, axes, sizes, flag })
}

impl Arguments {
    fn size(&self, index: usize) -> usize {
        self.sizes.get(index).copied().unwrap_or(1)
    }
}

type AnyOp = fn(&mut Graph, &[Value], &Arguments) -> Result<Value>;

/// Every builder, called with arguments that may not fit.
const ANY_OP: [(&str, AnyOp); 22] = [
    ("relu", |g, v, _| g.relu(v[0])),
    ("clamp", |g, v, a| g.clamp(v[0], a.size(0) as f64, a.size(1) as f64)),
    ("add", |g, v, _| g.add(v[0], v[1])),
    ("maximum", |g, v, _| g.maximum(v[0], v[1])),
    ("sum", |g, v, a| g.sum(v[0], &a.axes, a.flag)),
    ("mean", |g, v, a| g.mean(v[0], &a.axes, a.flag)),
    ("amax", |g, v, a| g.amax(v[0], &a.axes, a.flag)),
    ("sum_all", |g, v, _| g.sum_all(v[0])),
    ("mean_all", |g, v, _| g.mean_all(v[0])),
    ("sum_to", |g, v, a| g.sum_to(v[0], &a.shapes[1][..])),
    ("reshape", |g, v, a| g.reshape(v[0], &a.shapes[1][..])),
    ("flatten", |g, v, a| g.flatten(v[0], a.size(0))),
    ("copy", |g, v, _| g.copy(v[0])),
    ("permute", |g, v, a| g.permute(v[0], &a.axes)),
    ("transpose", |g, v, a| g.transpose(v[0], a.size(0), a.size(1))),
    ("broadcast_to", |g, v, a| g.broadcast_to(v[0], &a.shapes[1][..])),
    ("detach", |g, v, _| g.detach(v[0])),
    ("slice", |g, v, a| {
        let range = |&stop: &usize| SliceRange { start: a.size(0), stop, step: a.size(1) };
        g.slice(v[0], &a.shapes[2].iter().map(range).collect::<Vec<_>>())
    }),
    ("matmul", |g, v, a| {
        let matmul = Matmul { trans_a: a.size(0) > 2, trans_b: a.size(1) > 2, activation: Activation::Tanh };
        g.matmul_with(v[0], v[1], a.flag.then_some(v[2]), matmul)
    }),
    ("linear", |g, v, a| g.linear(v[0], v[1], a.flag.then_some(v[2]))),
    ("conv2d", |g, v, a| {
        let [stride, padding, dilation] = [0, 1, 2].map(|index| a.axes.get(index).copied().unwrap_or(index % 2));
        let conv = Conv2d {
            stride: [stride.max(a.size(4)), 1],
            padding: [padding, 0],
            dilation: [dilation, 1],
            groups: 1 + usize::from(a.integers[0]),
            activation: Activation::Relu,
        };
        if a.integers[1] {
            return g.conv2d(v[0], v[1], a.flag.then_some(v[2]), conv);
        }
        let image = g.input_with_grad("image", [2, 1 + a.size(0), 1 + a.size(1), 2])?;
        let weight = g.input_with_grad("weight", [1 + a.size(2), 1 + a.axes.len(), 1 + a.size(3), 1])?;
        g.conv2d(image, weight, None, conv)
    }),
    ("backward", |g, v, _| g.backward(v[0]).map(|_| v[0])),
];

/// Builds, and runs what could be built; gives whether it could.
fn build_and_run(op: AnyOp, arguments: &Arguments, device: &Device) -> Result<bool> {
    let mut graph = Graph::new("any");
    let mut values = Vec::new();
    for (index, shape) in arguments.shapes.iter().enumerate() {
        let name = format!("input {index}");
        let declared = match arguments.integers[index] && arguments.flag {
            true => graph.input(&name, TensorType::u32(&shape[..])),
            false => graph.input_with_grad(&name, &shape[..]),
        };
        let Ok(value) = declared else { return Ok(false) };
        values.push(value);
    }
    let Ok(output) = op(&mut graph, &values, arguments) else { return Ok(false) };
    graph.output("output", output)?;
    if graph.requires_grad(output)
        && let Ok(loss) = graph.sum_all(output)
        // Some derivatives are ops that may not exist for these shapes; that is an error like any other.
        && let Ok(gradients) = graph.backward(loss)
        && let Some(gradient) = gradients.get(values[0])
    {
        assert_eq!(graph.shape(gradient), graph.shape(values[0]));
        graph.output("gradient", gradient)?;
    }
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
    program.run_once("any")?;
    let tensor = program.output("any", "output")?;
    assert_eq!((tensor.shape(), tensor.dtype()), (graph.shape(output), graph.ty(output).dtype));
    Ok(true)
}

/// Wrong arguments give an error, and what gives none also runs, with the shape that was inferred.
#[test]
fn wrong_arguments_give_errors_and_never_panic() {
    for (name, op) in ANY_OP {
        let mut runner = proptest::test_runner::TestRunner::new(config(400));
        let (built, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let result = runner.run(&arguments(), |arguments| {
            let could = build_and_run(op, &arguments, &Device::Cpu).map_err(fail)?;
            let count = if could { &built } else { &refused };
            count.set(count.get() + 1);
            Ok(())
        });
        assert!(result.is_ok(), "{name}: {}", result.expect_err("not ok"));
        assert!(built.get() > 0, "no arguments fit {name}, so nothing was tried");
        assert!(refused.get() > 0, "{name} takes anything, shapes without elements included");
    }
}

/// As many dimensions as kernels walk over run on the GPU as well.
#[test]
fn deep_shapes_run_on_the_gpu() {
    for shape in [[1, 1, 1, 1, 1, 1, 1, 1], [2, 1, 2, 1, 2, 1, 2, 1], [2, 1, 3, 1, 2, 2, 1, 2]] {
        let build = |g: &mut Graph, v: &[Value]| {
            let reversed = g.permute(v[0], &[7, 6, 5, 4, 3, 2, 1, 0])?;
            let sum = g.sum(v[0], &[0, 2, 4, 6], true)?;
            let product = g.mul(v[0], sum)?;
            let back = g.permute(reversed, &[7, 6, 5, 4, 3, 2, 1, 0])?;
            g.sub(product, back)
        };
        let case = Case::one(format!("{shape:?}"), vec![input(shape, Fill::Uniform)], build);
        check_case(&case).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
