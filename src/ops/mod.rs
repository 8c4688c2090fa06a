//! The operations. Each has one file here, or a folder where that would be long, and one of the same name in
//! `shaders/`; the Rust file holds the builder method on [`Graph`](crate::Graph), shape inference, the CPU kernel, the
//! GPU dispatches, the gradient rule and the cost. `Op` is the closed list of them, so that passes can match on it and
//! plans can print it.
//!
//! To add an op: write its file and shader, add a line to the list below, add its cases to `tests/all/cases/`.

pub(crate) mod batch;
pub(crate) mod cpu;
mod custom;
pub(crate) mod data;
pub mod kernel;
pub(crate) mod nn;
pub(crate) mod tensor;
pub(crate) mod update;

pub use custom::{Array, ArrayMut, CustomKernel, CustomOp};
pub use data::augment::{Augment, Border};
pub use data::gather::{BatchSource, GatherBatch};
pub use nn::activation::Activation;
pub use nn::avg_pool2d::AvgPool2d;
pub use nn::batch_norm2d::{BatchNorm2d, BatchNormTensors};
pub use nn::conv2d::Conv2d;
pub use nn::cross_entropy::{CrossEntropy, NllLoss, Reduction};
pub use nn::dropout::Dropout;
pub use nn::max_pool2d::MaxPool2d;
pub use tensor::copy::SliceRange;
pub use tensor::matmul::Matmul;
pub use tensor::tensor_stats::{HISTOGRAM_BINS, STATS_COLUMNS, histogram_edges};

use crate::graph::Vjp;
use crate::tensor::TensorType;
use crate::{Error, Result, Value};
use batch::{BatchForm, Part};
use cpu::{CpuContext, Float};
use data::{augment, gather, metrics};
use kernel::{Cost, DispatchContext, Dispatches, Shader};
use nn::{avg_pool2d, batch_norm2d, conv2d, cross_entropy, dropout, fused, max_pool2d, softmax};
use tensor::{argmax, assign, concat, copy, elementwise, matmul, pad, reduce, reshape, tensor_stats};
use update::{accumulate, clip_gradients, packed_update, partial_update, regularization};

/// What every op can do. Implementations are plain structs of attributes.
pub(crate) trait Operation {
    /// The op's name: its file, its label in plans, the first half of its kernels' labels.
    fn name(&self) -> &'static str;

    /// Output types from input types, or what is wrong with the inputs.
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>>;

    /// Computes the outputs on the CPU.
    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>);

    /// The dispatches that compute the outputs on the GPU.
    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches>;

    /// Appends the gradients of the inputs to the graph: one for each input, `None` where there is none to give.
    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        Err(Error::operand(
            self.name(),
            "an operation with a gradient",
            format!("{} inputs to differentiate by", vjp.inputs.len()),
        ))
    }

    /// How the op acts along the batch axis; `None` where it needs all of the batch at once, or nobody has said.
    fn batch_form(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        None
    }

    /// The parts of an op that needs the whole batch for some of what it does and acts image by image in the rest; empty
    /// where it is a whole.
    fn parts(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Vec<Part> {
        Vec::new()
    }

    /// Computes one of the parts on the CPU, from a context that has the part's operands.
    fn run_part<F: Float>(&self, part: usize, _ctx: &mut CpuContext<'_, F>) {
        panic!("{} has no part {part}", self.name());
    }

    /// Floating-point operations of one run.
    fn flops(&self, _inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        outputs.iter().map(|ty| ty.shape.num_elems() as u64).sum()
    }

    /// Bytes that must be read and written at least once: all of its operands.
    fn bytes(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        inputs.iter().chain(outputs).map(|ty| ty.size_bytes() as u64).sum()
    }

    /// How many products or terms are summed into one element of an output: what a rounding-error bound grows with.
    fn num_terms(&self, _inputs: &[TensorType]) -> usize {
        1
    }

    /// The size of the terms summed into an element, from the largest magnitude in each input: what rounding errors are
    /// relative to where terms cancel. 0 where the result's own size says it all.
    fn term_size(&self, _largest: &[f64]) -> f64 {
        0.0
    }

    /// Rounding errors of one step of this op in units of f32's epsilon, where it calls functions that WGSL lets a
    /// device approximate (`exp`, `log`, `tanh`, division).
    fn ulps(&self) -> f64 {
        4.0
    }

    /// Inputs that are states and are updated in place.
    fn updates(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Runs of inputs that must lie side by side in one buffer, each start aligned to 256 bytes, so that one kernel
    /// can walk over all of them.
    fn packs(&self, _num_inputs: usize) -> Vec<std::ops::Range<usize>> {
        Vec::new()
    }

    /// Whether output 0 is input 0 under another shape, sharing its memory; such an op computes nothing.
    fn is_alias(&self) -> bool {
        false
    }

    /// The attributes, as plans print them; empty where there are none.
    fn describe(&self) -> String {
        String::new()
    }
}

/// Declares the list of ops: the enum, and the one match that delegates to [`Operation`].
macro_rules! op_list {
    ($($(#[$doc:meta])* $variant:ident($module:ident::$ty:ident)),* $(,)?) => {
        /// An operation with its attributes.
        #[derive(Clone, Debug)]
        pub(crate) enum Op { $($(#[$doc])* $variant($module::$ty)),* }

        $(impl From<$module::$ty> for Op {
            fn from(op: $module::$ty) -> Op { Op::$variant(op) }
        })*

        macro_rules! delegate {
            ($op:expr, $inner:ident => $call:expr) => { match $op { $(Op::$variant($inner) => $call),* } };
        }
    };
}

op_list! {
    Unary(elementwise::Unary),
    UnaryBackward(elementwise::UnaryBackward),
    Binary(elementwise::Binary),
    BinaryBackward(elementwise::BinaryBackward),
    Reduce(reduce::Reduce),
    Reshape(reshape::Reshape),
    Detach(reshape::Detach),
    Copy(copy::Copy),
    Matmul(matmul::Matmul),
    Conv2d(conv2d::Conv2d),
    Conv2dGradInput(conv2d::Conv2dGradInput),
    Conv2dGradWeight(conv2d::Conv2dGradWeight),
    Conv2dGradSlices(conv2d::Conv2dGradSlices),
    Conv2dMoments(conv2d::Conv2dMoments),
    Conv2dPooledBackward(conv2d::Conv2dPooledBackward),
    PackedUpdate(packed_update::PackedUpdate),
    PartialUpdate(partial_update::PartialUpdate),
    Accumulate(accumulate::Accumulate),
    ClipGradNorm(clip_gradients::ClipGradNorm),
    ClipGradValue(clip_gradients::ClipGradValue),
    Regularization(regularization::Regularization),
    RegularizationGradient(regularization::RegularizationGradient),
    Metrics(metrics::Metrics),
    Softmax(softmax::Softmax),
    SoftmaxBackward(softmax::SoftmaxBackward),
    ClassLoss(cross_entropy::ClassLoss),
    ClassLossBackward(cross_entropy::ClassLossBackward),
    AveragePool(avg_pool2d::AveragePool),
    AveragePoolBackward(avg_pool2d::AveragePoolBackward),
    Argmax(argmax::Argmax),
    Augment(augment::AugmentImages),
    Concat(concat::Concat),
    Custom(custom::Custom),
    CustomBackward(custom::CustomBackward),
    Dropout(dropout::Dropout),
    Fused(fused::Fused),
    Gather(gather::Gather),
    Pad(pad::Pad),
    MaxPool2d(max_pool2d::MaxPool2d),
    MaxPool2dBackward(max_pool2d::MaxPool2dBackward),
    BatchNormTrain(batch_norm2d::BatchNormTrain),
    BatchNormEval(batch_norm2d::BatchNormEval),
    BatchNormBackward(batch_norm2d::BatchNormBackward),
    TileSums(batch_norm2d::TileSums),
    Assign(assign::Assign),
    TensorStats(tensor_stats::TensorStats),
    TensorHistogram(tensor_stats::TensorHistogram),
}

impl Operation for Op {
    fn name(&self) -> &'static str {
        delegate!(self, op => op.name())
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        delegate!(self, op => op.infer(inputs))
    }
    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        delegate!(self, op => op.run(ctx))
    }
    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        delegate!(self, op => op.dispatches(ctx))
    }
    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        delegate!(self, op => op.vjp(vjp))
    }
    fn batch_form(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Option<BatchForm> {
        delegate!(self, op => op.batch_form(inputs, outputs))
    }
    fn parts(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Vec<Part> {
        delegate!(self, op => op.parts(inputs, outputs))
    }
    fn run_part<F: Float>(&self, part: usize, ctx: &mut CpuContext<'_, F>) {
        delegate!(self, op => op.run_part(part, ctx))
    }
    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        delegate!(self, op => op.flops(inputs, outputs))
    }
    fn bytes(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        delegate!(self, op => op.bytes(inputs, outputs))
    }
    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        delegate!(self, op => op.num_terms(inputs))
    }
    fn term_size(&self, largest: &[f64]) -> f64 {
        delegate!(self, op => op.term_size(largest))
    }
    fn ulps(&self) -> f64 {
        delegate!(self, op => op.ulps())
    }
    fn updates(&self) -> Vec<usize> {
        delegate!(self, op => op.updates())
    }
    fn packs(&self, num_inputs: usize) -> Vec<std::ops::Range<usize>> {
        delegate!(self, op => op.packs(num_inputs))
    }
    fn is_alias(&self) -> bool {
        delegate!(self, op => op.is_alias())
    }
    fn describe(&self) -> String {
        delegate!(self, op => op.describe())
    }
}

impl Op {
    /// What one run of the op costs.
    pub fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        let bytes = if self.is_alias() { 0 } else { self.bytes(inputs, outputs) };
        Cost { flops: self.flops(inputs, outputs), bytes }
    }
}

/// The product of these numbers, for what an op costs: at most 2^53, so that sums over a plan stay in 64 bits.
pub(crate) fn count_ops<const N: usize>(factors: [usize; N]) -> u64 {
    factors.iter().fold(1_u64, |product, &factor| product.saturating_mul(factor as u64)).min(1 << 53)
}

/// Every shader module but those of optimizers ([`optim::shaders`](crate::optim::shaders)), for the tests that hold
/// them against naga's validator and writers.
pub fn shaders() -> Vec<&'static Shader> {
    let shaders: &[&[&Shader]] = &[
        &[&accumulate::SHADER],
        &[&argmax::SHADER],
        &[&assign::SHADER],
        &[&augment::SHADER],
        &[&avg_pool2d::SHADER],
        batch_norm2d::SHADERS,
        &[&clip_gradients::SHADER],
        &[&concat::SHADER],
        conv2d::SHADERS,
        &[&copy::SHADER],
        &[&cross_entropy::SHADER],
        &[&dropout::SHADER],
        &[&elementwise::SHADER],
        &[&gather::SHADER],
        matmul::SHADERS,
        &[&max_pool2d::SHADER],
        &[&metrics::SHADER],
        &[&pad::SHADER],
        &[&regularization::SHADER],
        &[&reduce::SHADER],
        &[&softmax::SHADER],
        &[&tensor_stats::SHADER],
    ];
    [shaders, fused::SHADERS].concat().concat()
}

/// The checks on operands that many ops share.
pub(crate) mod check {
    use super::*;
    use crate::DType;

    /// The inputs as an array of the expected length.
    pub fn arity<'a, const N: usize>(op: &str, inputs: &'a [TensorType]) -> Result<&'a [TensorType; N]> {
        inputs.try_into().map_err(|_| Error::operand(op, format!("{N} operands"), inputs.len().to_string()))
    }

    /// A float operand.
    pub fn float(op: &str, ty: &TensorType) -> Result<()> {
        dtype(op, ty, DType::F32)
    }

    /// An operand of one element type.
    pub fn dtype(op: &str, ty: &TensorType, dtype: DType) -> Result<()> {
        if ty.dtype == dtype { Ok(()) } else { Err(Error::operand(op, format!("a {dtype} operand"), ty.to_string())) }
    }

    /// A float operand of a given rank, as its extents.
    pub fn rank<const N: usize>(op: &str, ty: &TensorType, dims: &str) -> Result<[usize; N]> {
        float(op, ty)?;
        ty.shape.dims().try_into().map_err(|_| Error::operand(op, format!("shape {dims}"), ty.shape.to_string()))
    }

    /// Groups of corresponding operands: parameters, their gradients, their moments.
    pub fn same_groups(op: &str, inputs: &[TensorType], ranges: &[std::ops::Range<usize>]) -> Result<()> {
        let end = ranges.last().map_or(0, |range| range.end);
        if inputs.len() != end || ranges.first().is_none_or(|range| range.is_empty()) {
            return Err(Error::operand(
                op,
                format!("{end} operands, with at least one parameter"),
                inputs.len().to_string(),
            ));
        }
        for range in &ranges[1..] {
            for (first, other) in inputs[ranges[0].clone()].iter().zip(&inputs[range.clone()]) {
                if first != other || first.dtype != DType::F32 {
                    return Err(Error::operand(op, format!("a gradient and states like {first}"), other.to_string()));
                }
            }
        }
        Ok(())
    }

    /// An axis of a shape, in `0..rank`.
    pub fn axis(op: &str, ty: &TensorType, axis: usize) -> Result<()> {
        if axis < ty.shape.rank() {
            Ok(())
        } else {
            Err(Error::operand(
                op,
                format!("an axis below {}", ty.shape.rank()),
                format!("axis {axis} of shape {}", ty.shape),
            ))
        }
    }
}
