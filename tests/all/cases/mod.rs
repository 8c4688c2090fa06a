//! The cases: each is declared once and drives the comparison of GPU and CPU, the gradient check and the benches.
//!
//! A case names its inputs by shape and by how they are filled, and builds its outputs from them. To add a case for
//! an op, add a line to the op's file here.

#![allow(dead_code, reason = "benches and tests each use a part")]

pub mod argmax;
pub mod augment;
pub mod avg_pool2d;
pub mod batch_norm2d;
pub mod concat;
pub mod conv2d;
pub mod copy;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod gather;
pub mod loss;
pub mod matmul;
pub mod max_pool2d;
pub mod metrics;
pub mod pad;
pub mod reduce;
pub mod softmax;
pub mod tensor_stats;

use wgrad::rng::Stream;
use wgrad::{Graph, Result, Shape, Tensor, Value};

/// The cases of every op.
pub fn all() -> Vec<Case> {
    [
        argmax::cases(),
        augment::cases(),
        avg_pool2d::cases(),
        batch_norm2d::cases(),
        batch_norm2d::after_conv(),
        batch_norm2d::after_slices(),
        batch_norm2d::before_conv(),
        batch_norm2d::before_strides(),
        batch_norm2d::before_slices(),
        concat::cases(),
        conv2d::attributes(),
        conv2d::depthwise(),
        conv2d::direct(),
        conv2d::grouped(),
        conv2d::lenet(),
        conv2d::pooled(),
        conv2d::sliced(),
        conv2d::strided(),
        conv2d::sizes(),
        copy::cases(),
        cross_entropy::cases(),
        dropout::cases(),
        elementwise::binary(),
        elementwise::unary(),
        gather::cases(),
        loss::cases(),
        matmul::cases(),
        max_pool2d::cases(),
        metrics::cases(),
        pad::cases(),
        pad::slices(),
        reduce::cases(),
        softmax::cases(),
        tensor_stats::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How an input's elements are drawn.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Uniform in [−1, 1).
    Uniform,
    /// Uniform in [0.5, 2): for logarithms, roots, denominators.
    Positive,
    /// Uniform in ±[0.1, 2): away from kinks at 0.
    AwayFromZero,
    /// Distinct multiples of 0.1 in random order: no two are within a finite difference of a tie.
    Distinct,
    /// Few distinct values, so ties are common; not for gradient checks.
    Ties,
    /// Uniform in [−1000, 1000): not for gradient checks of saturating functions.
    Large,
    /// Whole numbers below a bound.
    Index(u32),
    /// Bytes.
    Byte,
}

/// An input of a case.
#[derive(Clone, Debug)]
pub struct Input {
    pub shape: Shape,
    pub fill: Fill,
}

/// Shorthand for an input.
pub fn input(shape: impl Into<Shape>, fill: Fill) -> Input {
    Input { shape: shape.into(), fill }
}

impl Input {
    /// The elements under a seed, rounded to f32 so that every device starts from the same numbers.
    pub fn tensor(&self, seed: u64) -> Tensor {
        let mut stream = Stream::new(seed, 0);
        let count = self.shape.num_elems();
        if let Fill::Index(bound) = self.fill {
            let data = (0..count).map(|_| stream.next_below(bound)).collect();
            return Tensor::u32(&self.shape, data).expect("one for each element");
        }
        if let Fill::Byte = self.fill {
            let data = (0..count).map(|_| stream.next_below(256) as u8).collect();
            return Tensor::u8(&self.shape, data).expect("one for each element");
        }
        let order = stream.permutation(count as u32);
        let draw = |index: usize| {
            let uniform = stream.next_f64();
            match self.fill {
                Fill::Uniform => 2.0 * uniform - 1.0,
                Fill::Positive => 0.5 + 1.5 * uniform,
                Fill::AwayFromZero if stream.next_u32() & 1 == 0 => 0.1 + 1.9 * uniform,
                Fill::AwayFromZero => -0.1 - 1.9 * uniform,
                Fill::Distinct => 0.1 * (f64::from(order[index]) - count as f64 / 2.0 + 0.25),
                Fill::Ties => (4.0 * uniform).floor() / 2.0 - 1.0,
                Fill::Large => 2000.0 * uniform - 1000.0,
                Fill::Index(_) | Fill::Byte => unreachable!("drawn above"),
            }
        };
        let data = (0..count).map(draw).map(|x| x as f32).collect();
        Tensor::f32(&self.shape, data).expect("one for each element")
    }
}

/// Builds the outputs of a case from its inputs.
pub type Build = Box<dyn Fn(&mut Graph, &[Value]) -> Result<Vec<Value>> + Send + Sync>;

/// An input gets one special value for as many elements.
const ELEMS_PER_SPECIAL: usize = 8;

/// One computation over given inputs.
pub struct Case {
    pub name: String,
    pub inputs: Vec<Input>,
    pub build: Build,
    /// Whether finite differences apply: the function is smooth at the inputs, and small enough to try each element.
    pub check_gradient: bool,
    /// Whether it is run with NaN and infinities, too.
    pub takes_special_values: bool,
}

impl Case {
    /// A case that is checked in every way.
    pub fn new(
        name: impl Into<String>,
        inputs: Vec<Input>,
        build: impl Fn(&mut Graph, &[Value]) -> Result<Vec<Value>> + Send + Sync + 'static,
    ) -> Case {
        Case { name: name.into(), inputs, build: Box::new(build), check_gradient: true, takes_special_values: true }
    }

    /// A case with one output.
    pub fn one(
        name: impl Into<String>,
        inputs: Vec<Input>,
        build: impl Fn(&mut Graph, &[Value]) -> Result<Value> + Send + Sync + 'static,
    ) -> Case {
        Case::new(name, inputs, move |graph, inputs| Ok(vec![build(graph, inputs)?]))
    }

    /// The same case without the gradient check: it sits on kinks, or has too many elements.
    pub fn without_gradient_check(mut self) -> Case {
        self.check_gradient = false;
        self
    }

    /// The same case for finite operands alone.
    pub fn without_special_values(mut self) -> Case {
        self.takes_special_values = false;
        self
    }

    pub fn tensors(&self) -> Vec<Tensor> {
        self.inputs.iter().enumerate().map(|(index, input)| input.tensor(index as u64 + 1)).collect()
    }

    pub fn num_elems(&self) -> usize {
        self.inputs.iter().map(|input| input.shape.num_elems()).sum()
    }

    pub fn has_large_inputs(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input.fill, Fill::Large))
    }

    /// The tensors with a few elements of each float input replaced by `special` in turn: few, since one NaN can make
    /// all of a result NaN, and then nothing more is tested.
    pub fn special_tensors(&self, special: &[f32]) -> Vec<Tensor> {
        let mut tensors = self.tensors();
        for (index, tensor) in tensors.iter_mut().enumerate() {
            if tensor.dtype() != wgrad::DType::F32 {
                continue;
            }
            let mut data = tensor.to_f32_vec();
            let mut stream = Stream::new(index as u64, 1);
            let count = (data.len() / ELEMS_PER_SPECIAL).clamp(1, special.len());
            for &value in &special[..count] {
                let place = stream.next_below(data.len() as u32) as usize;
                data[place] = value;
            }
            *tensor = Tensor::f32(tensor.shape(), data).expect("one for each element");
        }
        tensors
    }
}
