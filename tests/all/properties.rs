//! Properties over random shapes, axes and attributes: every op on the GPU and on the CPU in f32 against f64, gradients
//! against finite differences, plans that share memory against plans that do not, and errors instead of panics.
//!
//! `WGRAD_PROPERTY_SEED` chooses other examples; a failure prints it, and can be repeated.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use wgrad::ops::{Activation, AvgPool2d, Conv2d, CrossEntropy, Matmul, MaxPool2d, Reduction, SliceRange};
use wgrad::{Device, Graph, Plan, Program, Result, Shape, TensorType, Value};

use crate::cases::{Case, Fill, input};
use crate::harness::{check_case, gpu};

/// Cases of a property that runs on the GPU. Each may compile kernels of its own, which takes a software adapter long.
const NUM_GPU_CASES: u32 = 24;

/// The seed of the examples, printed with a test that fails.
pub fn property_seed() -> u64 {
    let seed = std::env::var("WGRAD_PROPERTY_SEED").map_or(20_240_229, |seed| seed.parse().expect("a whole number"));
    println!("WGRAD_PROPERTY_SEED={seed}");
    seed
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(property_seed()),
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

fn floats(shape: impl Into<Shape>) -> crate::cases::Input {
    input(shape, Fill::Uniform)
}

proptest! {
    #![proptest_config(config(NUM_GPU_CASES))]

    #[test]
    fn matmul(
        [m, n, k] in [1_usize..20, 1_usize..20, 1_usize..20],
        batch in extents(0..3),
        ones in vec(any::<[bool; 2]>(), 3),
        trans_a: bool,
        trans_b: bool,
        has_bias: bool,
        activation in select(&[Activation::None, Activation::Sigmoid, Activation::Tanh][..]),
    ) {
        let shape = |which: usize, transposed: bool, rows: usize, cols: usize| {
            let ones: Vec<bool> = ones.iter().map(|ones| ones[which]).collect();
            let mut shape = broadcast_operand(&batch, &ones, 0);
            shape.extend(if transposed { [cols, rows] } else { [rows, cols] });
            shape
        };
        let (a, b) = (shape(0, trans_a, m, k), shape(1, trans_b, k, n));
        let matmul = Matmul { trans_a, trans_b, activation };
        let label = format!("{a:?} {b:?} {matmul:?} bias {has_bias}");
        let mut inputs = vec![floats(a), floats(b)];
        if has_bias {
            inputs.push(floats([n]));
        }
        holds(Case::one(label, inputs, move |g, v| g.matmul_with(v[0], v[1], v.get(2).copied(), matmul)))?;
    }

    #[test]
    fn conv2d(
        (batch, groups, group_in, group_out) in (1_usize..4, 1_usize..3, 1_usize..4, 1_usize..4),
        kernel in [1_usize..5, 1_usize..5],
        more in [0_usize..7, 0_usize..7],
        stride in [1_usize..4, 1_usize..4],
        padding in [0_usize..3, 0_usize..3],
        dilation in [1_usize..3, 1_usize..3],
        has_bias: bool,
        activation in select(&[Activation::None, Activation::Tanh][..]),
    ) {
        let conv = Conv2d { stride, padding, dilation, groups, activation };
        // The kernel fits, and then some.
        let extent = |i: usize| (dilation[i] * (kernel[i] - 1) + 1).saturating_sub(2 * padding[i]).max(1) + more[i];
        let x = [batch, groups * group_in, extent(0), extent(1)];
        let weight = [groups * group_out, group_in, kernel[0], kernel[1]];
        let mut inputs = vec![floats(x), floats(weight)];
        if has_bias {
            inputs.push(floats([weight[0]]));
        }
        let label = format!("{x:?} {weight:?} {conv:?} bias {has_bias}");
        holds(Case::one(label, inputs, move |g, v| g.conv2d(v[0], v[1], v.get(2).copied(), conv)))?;
    }

    #[test]
    fn slice(shape in extents(1..5), bounds in vec((any::<Index>(), any::<Index>(), 1_usize..4), 5)) {
        let range = |(&extent, (start, len, step)): (&usize, &(Index, Index, usize))| {
            let start = start.index(extent);
            SliceRange { start, stop: start + 1 + len.index(extent - start), step: *step }
        };
        let ranges: Vec<SliceRange> = shape.iter().zip(&bounds).map(range).collect();
        let label = format!("{shape:?} {ranges:?}");
        holds(Case::one(label, vec![floats(shape)], move |g, v| g.slice(v[0], &ranges)))?;
    }

    #[test]
    fn concat(shape in extents(1..5), axis: Index, lens in vec(1_usize..5, 1..5)) {
        let axis = axis.index(shape.len());
        let with_len = |&len: &usize| {
            let mut shape = shape.clone();
            shape[axis] = len;
            floats(shape)
        };
        let label = format!("{shape:?} along {axis} of {lens:?}");
        holds(Case::one(label, lens.iter().map(with_len).collect(), move |g, v| g.concat(v, axis)))?;
    }

    #[test]
    fn pad(shape in extents(0..5), padding in vec((0_usize..3, 0_usize..3), 5)) {
        let padding = padding[..shape.len()].to_vec();
        let label = format!("{shape:?} by {padding:?}");
        let build = move |g: &mut Graph, v: &[Value]| {
            let y = g.pad(v[0], &padding)?;
            g.neg(y)
        };
        holds(Case::one(label, vec![floats(shape)], build))?;
    }

    #[test]
    fn argmax(shape in extents(1..5), axis: Index, ties: bool) {
        let axis = axis.index(shape.len());
        let label = format!("{shape:?} along {axis}");
        let fill = if ties { Fill::Ties } else { Fill::Distinct };
        let case = Case::one(label, vec![input(shape, fill)], move |g, v| g.argmax(v[0], axis));
        holds(case.without_gradient_check())?;
    }

    #[test]
    fn pools(
        planes in [1_usize..3, 1_usize..4],
        kernel_size in [1_usize..5, 1_usize..5],
        more in [0_usize..7, 0_usize..7],
        stride in [1_usize..5, 1_usize..5],
        pads in [any::<bool>(), any::<bool>()],
        dilation in [1_usize..3, 1_usize..3],
        ceil_mode: bool,
        count_include_pad: bool,
        is_max: bool,
    ) {
        let padding = [0, 1].map(|i| if pads[i] { kernel_size[i] / 2 } else { 0 });
        let dilation = if is_max { dilation } else { [1, 1] };
        let extent = |i: usize| dilation[i] * (kernel_size[i] - 1) + 1 + more[i];
        let x = [planes[0], planes[1], extent(0), extent(1)];
        let max = MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode };
        let divisor_override = None;
        let avg = AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override };
        let label = if is_max { format!("{x:?} {max:?}") } else { format!("{x:?} {avg:?}") };
        let build = move |g: &mut Graph, v: &[Value]| match is_max {
            true => g.max_pool2d(v[0], max),
            false => g.avg_pool2d(v[0], avg),
        };
        holds(Case::one(label, vec![input(x, Fill::Distinct)], build))?;
    }

    #[test]
    fn softmax(shape in extents(1..5), axis: Index, is_log: bool) {
        let axis = axis.index(shape.len());
        let label = format!("{shape:?} along {axis} log {is_log}");
        let build = move |g: &mut Graph, v: &[Value]| match is_log {
            true => g.log_softmax(v[0], axis),
            false => g.softmax(v[0], axis),
        };
        holds(Case::one(label, vec![floats(shape)], build))?;
    }

    #[test]
    fn cross_entropy(
        // The gradient of a single class is 0, and rounding noise in f64: nothing to be relative to.
        (rows, classes) in (1_usize..9, 2_u32..12),
        reduction in select(&[Reduction::Mean, Reduction::Sum, Reduction::None][..]),
        has_weights: bool,
        smoothing in prop_oneof![Just(0.0), 0.01..0.9],
    ) {
        let attributes = CrossEntropy { reduction, ignore_index: None, label_smoothing: smoothing };
        let label = format!("({rows}, {classes}) {attributes:?} weights {has_weights}");
        // The weights are constants: they get no gradient.
        let inputs = vec![floats([rows, classes as usize]), input([rows], Fill::Index(classes))];
        let build = move |g: &mut Graph, v: &[Value]| {
            let weights = input([classes as usize], Fill::Positive).tensor(3);
            let weights = has_weights.then(|| g.constant(weights));
            g.cross_entropy(v[0], v[1], weights, attributes)
        };
        holds(Case::one(label, inputs, build))?;
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
const ANY_OP: [(&str, AnyOp); 32] = [
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
    ("softmax", |g, v, a| g.softmax(v[0], a.size(0))),
    ("cross_entropy", |g, v, a| {
        let attributes = CrossEntropy {
            reduction: [Reduction::Mean, Reduction::Sum, Reduction::None][a.size(0) % 3],
            ignore_index: a.integers[0].then_some(1),
            label_smoothing: 0.4 * a.size(1) as f64,
        };
        let rows = 1 + a.size(2);
        let labels = g.input("labels", TensorType::u32([rows]))?;
        let logits = g.input_with_grad("logits", [1 + a.size(3), 1 + a.axes.len()])?;
        g.cross_entropy(logits, labels, a.integers[1].then_some(v[0]), attributes)
    }),
    ("argmax", |g, v, a| g.argmax(v[0], a.size(0))),
    ("concat", |g, v, a| g.concat(&v[..a.size(1).min(3)], a.size(0))),
    ("pad", |g, v, a| {
        let pair = |size: &usize| (*size, a.size(0));
        g.pad(v[0], &a.sizes.iter().map(pair).collect::<Vec<_>>())
    }),
    ("mse_loss", |g, v, _| g.mse_loss(v[0], v[1], Reduction::Mean)),
    ("bce_with_logits", |g, v, _| g.bce_with_logits(v[0], v[1], Reduction::None)),
    ("max_pool2d", |g, v, a| {
        let x = if a.flag { v[0] } else { g.input_with_grad("image", [2, 1, 1 + a.size(3), 1 + a.size(4)])? };
        let pool = MaxPool2d {
            kernel_size: [a.size(0), 1],
            stride: [a.size(1), 1],
            padding: [a.axes.len() / 2, 0],
            dilation: [a.size(2), 1],
            ceil_mode: a.integers[0],
        };
        g.max_pool2d(x, pool)
    }),
    ("avg_pool2d", |g, v, a| {
        let x = if a.flag { v[0] } else { g.input_with_grad("image", [2, 1, 1 + a.size(3), 1 + a.size(4)])? };
        let pool = AvgPool2d {
            kernel_size: [a.size(0), 1],
            stride: [a.size(1), 1],
            padding: [a.axes.len() / 2, 0],
            ceil_mode: a.integers[0],
            count_include_pad: a.integers[1],
            divisor_override: a.integers[2].then_some(a.axes.len() as u32),
        };
        g.avg_pool2d(x, pool)
    }),
    ("adaptive_avg_pool2d", |g, v, a| {
        let x = if a.flag { v[0] } else { g.input_with_grad("image", [2, 1, 1 + a.size(3), 1 + a.size(4)])? };
        g.adaptive_avg_pool2d(x, [a.size(0), a.size(1)])
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
