//! The kernels against values from PyTorch (`tests/golden/README.md`). Finite differences and the f64 reference can
//! only tell whether our own definitions agree with each other; these tell whether they are PyTorch's.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value as Json;
use wgrad::graph::{StateKind, StateSpec};
use wgrad::nn::Init;
use wgrad::ops::{
    Activation, AvgPool2d, BatchNorm2d, BatchNormTensors, Conv2d, CrossEntropy, Matmul, MaxPool2d, NllLoss, Reduction,
    SliceRange,
};
use wgrad::{Device, Graph, Plan, Program, Result, Shape, Tensor, TensorData, TensorType, Value};

use crate::harness;

/// Ops in the file that the graph has no builder for. An op on this list that can be built fails the test, so the list
/// only gets shorter; an op that is neither built nor listed fails it too, so no case is left out unseen.
const NOT_YET: &[&str] = &[];

/// A case as the file's metadata describes it.
#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    attrs: serde_json::Map<String, Json>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    grads: Vec<String>,
}

impl Case {
    fn attr(&self, name: &str) -> &Json {
        self.attrs.get(name).unwrap_or_else(|| panic!("{} has the attribute {name}", self.name))
    }

    fn number(&self, name: &str) -> f64 {
        self.attr(name).as_f64().unwrap_or_else(|| panic!("{name} of {} is a number", self.name))
    }

    fn number_or(&self, name: &str, default: f64) -> f64 {
        self.attr(name).as_f64().unwrap_or(default)
    }

    fn flag(&self, name: &str) -> bool {
        self.attr(name).as_bool().unwrap_or_else(|| panic!("{name} of {} is a flag", self.name))
    }

    fn text(&self, name: &str) -> &str {
        self.attr(name).as_str().unwrap_or_else(|| panic!("{name} of {} is a text", self.name))
    }

    fn sizes(&self, name: &str) -> Vec<usize> {
        serde_json::from_value(self.attr(name).clone())
            .unwrap_or_else(|_| panic!("{name} of {} lists sizes", self.name))
    }

    fn size(&self, name: &str) -> usize {
        serde_json::from_value(self.attr(name).clone()).unwrap_or_else(|_| panic!("{name} of {} is a size", self.name))
    }

    /// [height, width].
    fn pair(&self, name: &str) -> [usize; 2] {
        self.sizes(name).try_into().unwrap_or_else(|_| panic!("{name} of {} is a pair", self.name))
    }

    fn activation(&self) -> Activation {
        match self.text("activation") {
            "none" => Activation::None,
            "relu" => Activation::Relu,
            other => panic!("{} has the activation {other}", self.name),
        }
    }

    fn reduction(&self) -> Reduction {
        match self.text("reduction") {
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            "none" => Reduction::None,
            other => panic!("{} has the reduction {other}", self.name),
        }
    }

    fn ignore_index(&self) -> Option<u32> {
        self.optional("ignore_index")
    }

    fn optional(&self, name: &str) -> Option<u32> {
        serde_json::from_value(self.attr(name).clone()).unwrap_or_else(|_| panic!("{name} of {} is a count", self.name))
    }

    fn ranges(&self) -> Vec<SliceRange> {
        let bounds = self.sizes("start").into_iter().zip(self.sizes("stop")).zip(self.sizes("step"));
        bounds.map(|((start, stop), step)| SliceRange { start, stop, step }).collect()
    }

    /// How many zeros before and after each axis.
    fn padding(&self) -> Vec<(usize, usize)> {
        assert_eq!(self.number("value"), 0.0, "{} pads with zeros", self.name);
        serde_json::from_value(self.attr("padding").clone()).unwrap_or_else(|_| panic!("{} lists pairs", self.name))
    }

    /// An input that may be absent.
    fn input(&self, inputs: &[Value], name: &str) -> Option<Value> {
        self.inputs.iter().position(|input| input == name).map(|index| inputs[index])
    }
}

/// Appends a case's op to the graph; gives the case's outputs, or `None` for an op that there is no builder for.
fn build(case: &Case, graph: &mut Graph, inputs: &[Value]) -> Option<Result<Vec<Value>>> {
    let x = inputs[0];
    let g = graph;
    let output = match case.op.as_str() {
        "neg" => g.neg(x),
        "exp" => g.exp(x),
        "log" => g.log(x),
        "sqrt" => g.sqrt(x),
        "abs" => g.abs(x),
        "reciprocal" => g.reciprocal(x),
        "square" => g.square(x),
        "relu" => g.relu(x),
        "sigmoid" => g.sigmoid(x),
        "tanh" => g.tanh(x),
        "silu" => g.silu(x),
        "leaky_relu" => g.leaky_relu(x, case.number("negative_slope")),
        "gelu" if case.text("approximate") == "tanh" => g.gelu_tanh(x),
        "gelu" => g.gelu(x),
        "softplus" => softplus(g, x, case.number("beta")),
        "clamp" => g.clamp(x, case.number_or("min", f64::NEG_INFINITY), case.number_or("max", f64::INFINITY)),
        "add" => g.add(x, inputs[1]),
        "sub" => g.sub(x, inputs[1]),
        "mul" => g.mul(x, inputs[1]),
        "div" => g.div(x, inputs[1]),
        "pow" => g.pow(x, inputs[1]),
        "minimum" => g.minimum(x, inputs[1]),
        "maximum" => g.maximum(x, inputs[1]),
        "pow_scalar" => g.pow_scalar(x, case.number("exponent")),
        "add_scalar" => g.add_scalar(x, case.number("scalar")),
        "mul_scalar" => g.mul_scalar(x, case.number("scalar")),
        "sum" => g.sum(x, &case.sizes("axes"), case.flag("keepdim")),
        "mean" => g.mean(x, &case.sizes("axes"), case.flag("keepdim")),
        "amax" => g.amax(x, &case.sizes("axes"), case.flag("keepdim")),
        "permute" => g.permute(x, &case.sizes("axes")),
        "max_pool2d" => {
            let output = g.max_pool2d_with_indices(x, max_pool2d(case));
            return Some(output.map(|(output, indices)| vec![output, indices]));
        }
        "avg_pool2d" => g.avg_pool2d(x, avg_pool2d(case)),
        "adaptive_avg_pool2d" => g.adaptive_avg_pool2d(x, case.pair("output_size")),
        "softmax" => g.softmax(x, case.size("axis")),
        "log_softmax" => g.log_softmax(x, case.size("axis")),
        "cross_entropy" => {
            let (reduction, ignore_index) = (case.reduction(), case.ignore_index());
            let attributes = CrossEntropy { reduction, ignore_index, label_smoothing: case.number("label_smoothing") };
            g.cross_entropy(x, inputs[1], case.input(inputs, "weight"), attributes)
        }
        "nll_loss" => {
            let attributes = NllLoss { reduction: case.reduction(), ignore_index: case.ignore_index() };
            g.nll_loss(x, inputs[1], case.input(inputs, "weight"), attributes)
        }
        "mse_loss" => g.mse_loss(x, inputs[1], case.reduction()),
        "l1_loss" => g.l1_loss(x, inputs[1], case.reduction()),
        "bce_with_logits" => g.bce_with_logits(x, inputs[1], case.reduction()),
        "batch_norm2d" => batch_norm2d(case, g, inputs),
        "argmax" => argmax(case, g, x),
        "slice" => g.slice(x, &case.ranges()),
        "concat" => g.concat(inputs, case.size("axis")),
        "pad_constant" => g.pad(x, &case.padding()),
        "matmul" => matmul(case, g, inputs),
        "linear" => linear(case, g, inputs),
        "conv2d" => conv2d(case, g, inputs),
        "broadcast_to" => g.broadcast_to(x, case.sizes("shape")),
        _ => return None,
    };
    Some(output.map(|output| vec![output]))
}

/// ln(1 + e^(βx))/β. PyTorch's `threshold`, from which on it is the identity, lies where that makes no difference.
fn softplus(graph: &mut Graph, x: Value, beta: f64) -> Result<Value> {
    let scaled = graph.mul_scalar(x, beta)?;
    let y = graph.softplus(scaled)?;
    graph.mul_scalar(y, 1.0 / beta)
}

/// A product, which may have one operand or both stored transposed, and a bias.
fn matmul(case: &Case, graph: &mut Graph, inputs: &[Value]) -> Result<Value> {
    let matmul = Matmul { trans_a: case.flag("trans_a"), trans_b: case.flag("trans_b"), ..Matmul::default() };
    graph.matmul_with(inputs[0], inputs[1], case.input(inputs, "bias"), matmul)
}

/// A fully connected layer; with an activation, as the one kernel that it becomes.
fn linear(case: &Case, graph: &mut Graph, inputs: &[Value]) -> Result<Value> {
    let bias = case.input(inputs, "bias");
    match case.activation() {
        Activation::None => graph.linear(inputs[0], inputs[1], bias),
        activation => {
            let matmul = Matmul { trans_b: true, activation, ..Matmul::default() };
            graph.matmul_with(inputs[0], inputs[1], bias, matmul)
        }
    }
}

fn conv2d(case: &Case, graph: &mut Graph, inputs: &[Value]) -> Result<Value> {
    let conv = Conv2d {
        stride: case.pair("stride"),
        padding: case.pair("padding"),
        dilation: case.pair("dilation"),
        groups: case.size("groups"),
        activation: case.activation(),
    };
    graph.conv2d(inputs[0], inputs[1], case.input(inputs, "bias"), conv)
}

fn max_pool2d(case: &Case) -> MaxPool2d {
    MaxPool2d {
        kernel_size: case.pair("kernel_size"),
        stride: case.pair("stride"),
        padding: case.pair("padding"),
        dilation: case.pair("dilation"),
        ceil_mode: case.flag("ceil_mode"),
    }
}

fn avg_pool2d(case: &Case) -> AvgPool2d {
    AvgPool2d {
        kernel_size: case.pair("kernel_size"),
        stride: case.pair("stride"),
        padding: case.pair("padding"),
        ceil_mode: case.flag("ceil_mode"),
        count_include_pad: case.flag("count_include_pad"),
        divisor_override: case.optional("divisor_override"),
    }
}

/// The index of the maximum; where the case keeps the axis, as another shape.
fn argmax(case: &Case, graph: &mut Graph, x: Value) -> Result<Value> {
    let axis = case.size("axis");
    let index = graph.argmax(x, axis)?;
    if !case.flag("keepdim") {
        return Ok(index);
    }
    let mut shape = graph.shape(index).dims().to_vec();
    shape.insert(axis, 1);
    graph.reshape(index, shape)
}

fn batch_norm2d(case: &Case, graph: &mut Graph, inputs: &[Value]) -> Result<Value> {
    let &[x, weight, bias, running_mean, running_var] = inputs else { panic!("{} has five inputs", case.name) };
    let eps = case.number("eps");
    let momentum = case.attr("momentum").as_f64();
    let num_batches_tracked = match momentum {
        Some(_) => None,
        None => {
            let init = Init::Constant(case.number("num_batches_tracked"));
            let ty = TensorType::f32([]);
            let name = "num_batches_tracked".to_owned();
            Some(graph.state(StateSpec { name, ty, kind: StateKind::Buffer, init })?)
        }
    };
    let tensors = BatchNormTensors { weight, bias, running_mean, running_var, num_batches_tracked };
    match case.flag("training") {
        true => graph.batch_norm2d(x, tensors, BatchNorm2d { eps, momentum }),
        false => graph.batch_norm2d_eval(x, tensors, eps),
    }
}

/// How far a device may be from PyTorch's f64 values.
#[derive(Clone, Copy)]
enum Precision {
    /// Both sides compute in f64. They differ in the order of their sums and in the last bits of `exp` and the like,
    /// some thousand ε = 2⁻⁵³ at worst, while a constant rounded to f32 would show up as 1e-8 and a different
    /// definition as more.
    F64,
    /// Rounding errors of a sum of K terms grow like √K as long as they do not conspire.
    F32,
}

impl Precision {
    /// The share of a value's size, and of the largest value's size in the same tensor, that it may be off.
    fn relative(self, num_terms: usize) -> f64 {
        match self {
            Precision::F64 => 1e-10,
            Precision::F32 => ULPS * f64::from(f32::EPSILON) / 2.0 * (num_terms as f64).sqrt(),
        }
    }
}

/// Rounding errors of one term in f32: a handful of operations one after the other in the longest formulas (GELU's
/// derivative), each rounded once.
const ULPS: f64 = 16.0;

/// The most terms that one element of an output or gradient can be a sum of: no tensor of the case is used up by more
/// than one element, so the largest one bounds it. An elementwise function of one operand sums nothing.
fn num_terms(case: &Case, tensors: &[&Tensor]) -> usize {
    if case.inputs.len() == 1 && tensors.iter().all(|tensor| tensor.shape() == tensors[0].shape()) {
        return 1;
    }
    tensors.iter().map(|tensor| tensor.shape().num_elems()).max().unwrap_or(1)
}

/// Ill-conditioned cases, whose results in f32 are further off than the number of terms says: the name, the factor and
/// the reason.
const ILL_CONDITIONED: &[(&str, f64, &str)] = &[
    (
        "batch_norm2d_train_two_values",
        32.0,
        "with two values in a channel, the gradient by the input is the hundredth part that a cancellation leaves over",
    ),
    (
        "batch_norm2d_train_offset",
        8.0,
        "around a mean of 1000, rounding the mean to f32 moves all normalised values together by up to 3e-5, and the \
         gradient by the weight by that times the sum of the output's gradient",
    ),
];

#[test]
fn cpu_f64() {
    check(&Device::CpuF64, Precision::F64, |_| true);
}

#[test]
fn cpu_f32() {
    check(&Device::Cpu, Precision::F32, |_| true);
}

#[test]
fn gpu() {
    check(harness::gpu(), Precision::F32, |_| true);
}

/// The ops that get other kernels on another kind of adapter.
#[test]
fn every_kernel() {
    let [like_gpu, _] = harness::portable();
    check(like_gpu, Precision::F32, |op| ["matmul", "linear", "conv2d"].contains(&op));
}

/// Runs the cases of the ops that `wanted` picks on a device and reports all that fail.
fn check(device: &Device, precision: Precision, wanted: impl Fn(&str) -> bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ops.safetensors");
    let bytes = std::fs::read(path).expect("the golden values are part of the repository");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let cases =
        metadata.metadata().as_ref().and_then(|metadata| metadata.get("cases")).expect("the file lists its cases");
    let cases: Vec<Case> = serde_json::from_str(cases).expect("the list is as the README says");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let ops: BTreeSet<String> = cases.iter().map(|case| case.op.clone()).collect();
    let mut failures: Vec<String> = NOT_YET
        .iter()
        .filter(|&&op| !ops.contains(op))
        .map(|op| format!("{op} of NOT_YET is not in the file"))
        .collect();
    let mut num_compared = 0;
    let cases: Vec<Case> = cases.into_iter().filter(|case| wanted(&case.op)).collect();
    for case in &cases {
        match check_case(device, precision, case, &file) {
            Ok(compared) => num_compared += compared,
            Err(failure) => failures.push(format!("{}: {failure}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
    let wanted: usize = cases
        .iter()
        .filter(|case| !NOT_YET.contains(&case.op.as_str()))
        .map(|case| case.outputs.len() + case.grads.len())
        .sum();
    assert_eq!(num_compared, wanted, "every output and every gradient was compared");
}

/// Runs a case and gives the number of tensors compared.
fn check_case(device: &Device, precision: Precision, case: &Case, file: &SafeTensors<'_>) -> Result<usize, String> {
    let describe = |error: wgrad::Error| error.to_string();
    let mut graph = Graph::new("golden");
    let inputs: Vec<Tensor> = case.inputs.iter().map(|name| load(file, case, name)).collect();
    let declare = |(name, tensor): (&String, &Tensor)| match case.grads.contains(&format!("grad_{name}")) {
        true => graph.input_with_grad(name, tensor.shape()),
        false => graph.input(name, tensor.ty()),
    };
    let values = case.inputs.iter().zip(&inputs).map(declare).collect::<Result<Vec<Value>>>().map_err(describe)?;
    let listed = NOT_YET.contains(&case.op.as_str());
    let outputs = match build(case, &mut graph, &values) {
        None if listed => return Ok(0),
        None => return Err(format!("no arm for the op {}", case.op)),
        Some(_) if listed => return Err(format!("{} is built: take it off NOT_YET", case.op)),
        Some(outputs) => outputs.map_err(describe)?,
    };
    let (after, outputs_in_file): (Vec<&String>, Vec<&String>) =
        case.outputs.iter().partition(|name| name.ends_with("_after"));
    if outputs.len() != outputs_in_file.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), outputs_in_file.len()));
    }
    for (name, &output) in outputs_in_file.iter().zip(&outputs) {
        graph.output(name, output).map_err(describe)?;
    }
    let has_grads = if case.grads.is_empty() {
        BTreeSet::new()
    } else {
        append_gradients(case, &mut graph, &values, outputs[0]).map_err(describe)?
    };
    let plan = Plan::new(&graph).map_err(describe)?;
    let read: BTreeSet<String> = plan.states().iter().map(|state| state.name.clone()).collect();
    let mut program = Program::compile(device, vec![plan], 0).map_err(describe)?;
    let grad_output = (!case.grads.is_empty()).then(|| ("grad_output", load(file, case, "grad_output")));
    let named = case.inputs.iter().map(String::as_str).zip(inputs.iter().cloned()).chain(grad_output);
    // Inputs that nothing reads are not in the plan.
    for (name, tensor) in named.filter(|(name, _)| read.contains(*name)) {
        program.write(name, &tensor).map_err(describe)?;
    }
    program.run_once("golden").map_err(describe)?;

    for name in case.outputs.iter().chain(&case.grads) {
        let want = load(file, case, name);
        let got = if after.contains(&name) {
            program.read(name.trim_end_matches("_after")).map_err(describe)?
        } else if case.grads.contains(name) && !has_grads.contains(name) {
            // No gradient flows there: PyTorch has to say that it is 0.
            Tensor::f64(want.shape(), vec![0.0; want.shape().num_elems()]).map_err(describe)?
        } else {
            program.output("golden", name).map_err(describe)?
        };
        let terms = num_terms(case, &inputs.iter().chain([&want]).collect::<Vec<_>>());
        compare(case, precision, terms, &got, &want).map_err(|failure| format!("{name}: {failure}"))?;
    }
    Ok(case.outputs.len() + case.grads.len())
}

/// Appends the gradients of `sum(output · grad_output)` as outputs and gives the names of those there are.
fn append_gradients(case: &Case, graph: &mut Graph, inputs: &[Value], output: Value) -> Result<BTreeSet<String>> {
    let shape = graph.shape(output).clone();
    let grad_output = graph.input("grad_output", TensorType::f32(shape))?;
    let weighted = graph.mul(output, grad_output)?;
    let loss = graph.sum_all(weighted)?;
    let gradients = graph.backward(loss)?;
    let mut names = BTreeSet::new();
    for (name, &input) in case.inputs.iter().zip(inputs) {
        if let Some(gradient) = gradients.get(input) {
            graph.output(&format!("grad_{name}"), gradient)?;
            names.insert(format!("grad_{name}"));
        }
    }
    Ok(names)
}

/// A tensor of a case.
fn load(file: &SafeTensors<'_>, case: &Case, name: &str) -> Tensor {
    let view = file.tensor(&format!("{}/{name}", case.name)).unwrap_or_else(|_| panic!("{} has {name}", case.name));
    let data = match view.dtype() {
        Dtype::F64 => {
            let (chunks, _) = view.data().as_chunks::<8>();
            TensorData::F64(chunks.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect())
        }
        Dtype::U32 => {
            let (chunks, _) = view.data().as_chunks::<4>();
            TensorData::U32(chunks.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect())
        }
        other => panic!("{}/{name} is {other:?}", case.name),
    };
    Tensor::new(Shape::from(view.shape()), data).expect("the file's shapes fit its data")
}

/// Holds a tensor to `|got − want| ≤ relative · (|want| + largest |want|)`; integers have to be equal.
fn compare(case: &Case, precision: Precision, terms: usize, got: &Tensor, want: &Tensor) -> Result<(), String> {
    if got.ty() != want.ty() {
        return Err(format!("{} instead of {}", got.ty(), want.ty()));
    }
    let factor = match precision {
        Precision::F64 => 1.0,
        Precision::F32 => {
            ILL_CONDITIONED.iter().find(|(name, ..)| *name == case.name).map_or(1.0, |(_, factor, _)| *factor)
        }
    };
    let relative = if want.dtype() == wgrad::DType::F32 { factor * precision.relative(terms) } else { 0.0 };
    let (got, want) = (got.to_f64_vec(), want.to_f64_vec());
    let scale = want.iter().copied().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()));
    for (index, (&got, &want)) in got.iter().zip(&want).enumerate() {
        let tolerance = relative * (want.abs() + scale);
        let same = got == want || (got.is_nan() && want.is_nan());
        // False where one side only is a NaN.
        let is_close = (got - want).abs() <= tolerance;
        if !same && !is_close {
            return Err(format!("element {index}: got {got:e}, want {want:e} ± {tolerance:.1e}"));
        }
    }
    Ok(())
}
