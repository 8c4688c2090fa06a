//! Dropout (`torch.nn.functional.dropout`). The mask is a pure function of seed, layer, step and element, so it is
//! never stored, the backward draws it again, and CPU and GPU draw the same bits.

use crate::graph::{Graph, Value, Vjp};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::rng::{Domain, key, random_blocks, random_words};
use crate::tensor::{DType, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        num_elems: u32,
        key_0: u32,
        key_1: u32,
        layer: u32,
        keep_below: u32,
        scale: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "dropout",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/philox.wgsl"),
        include_str!("../../../shaders/dropout.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Words that one counter gives.
const WORDS: usize = 4;

/// Blocks of words that are drawn side by side on the CPU: two of the widest vectors, so that one does not wait for itself.
const BLOCKS: usize = 32;

/// Approximate simple operations of Philox per element.
const COST: usize = 8;

/// Elements set to 0 at random, the others scaled up so that the expected value stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability that an element is dropped, in [0, 1].
    pub p: f64,
    /// The seed of all masks of a run.
    pub seed: u64,
    /// The number of the layer: layers of different numbers draw different masks.
    pub layer: u32,
}

impl Dropout {
    /// Words below this keep their element.
    fn keep_below(&self) -> u32 {
        // From [0, 2^32], where the cast saturates: p below 2^-33 still drops one element in 2^32.
        ((1.0 - self.p) * 4_294_967_296.0).round() as u32
    }

    /// What kept elements are multiplied by; 0 where none is kept, instead of 1/0.
    fn scale(&self) -> f64 {
        if self.p == 1.0 { 0.0 } else { 1.0 / (1.0 - self.p) }
    }
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x, step] = check::arity("dropout", inputs)?;
        check::float("dropout", x)?;
        check::dtype("dropout", step, DType::U32)?;
        Ok(vec![x.clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, step, y) = (ctx.float(0), ctx.u32(1)[0], ctx.output(0));
        let first = ctx.first_elem(0);
        let (keep_below, scale) = (self.keep_below(), F::from_f64(self.scale()));
        let key = key(self.seed);
        parallel::for_chunks(
            y,
            PIECE_ELEMS,
            COST,
            #[inline(always)]
            |piece, y| {
                let start = piece * PIECE_ELEMS;
                let (mut x, mut y, mut at) = (&x[start..][..y.len()], y, first + start);
                // A product in either case: an element that is not finite is not hidden by being dropped.
                // Looked up, since a choice can become a branch, which chance would have mispredicted.
                let factors = [F::ZERO, scale];
                let drop = |x: F, word: u32| x * factors[usize::from(word < keep_below)];
                while at % WORDS == 0 && y.len() >= BLOCKS * WORDS {
                    let (many, rest) = y.split_at_mut(BLOCKS * WORDS);
                    // The shader counts in u32, as all sizes on a device are.
                    let words = random_blocks::<BLOCKS>([(at / WORDS) as u32, self.layer, step], Domain::Dropout, key);
                    for ((y, &x), &word) in many.iter_mut().zip(x).zip(words.as_flattened()) {
                        *y = drop(x, word);
                    }
                    (y, x, at) = (rest, &x[BLOCKS * WORDS..], at + BLOCKS * WORDS);
                }
                while !y.is_empty() {
                    // Where rows are short, the first words of a block may be of rows before.
                    let (block, skipped) = (at / WORDS, at % WORDS);
                    let words = random_words([block as u32, self.layer, step], Domain::Dropout, key);
                    let len = (WORDS - skipped).min(y.len());
                    let (block, rest) = y.split_at_mut(len);
                    for ((y, &x), &word) in block.iter_mut().zip(x).zip(&words[skipped..]) {
                        *y = drop(x, word);
                    }
                    (y, x, at) = (rest, &x[len..], at + len);
                }
            },
        );
    }

    fn batch_form(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Option<BatchForm> {
        BatchForm::new([Along::Rows, Along::Whole], [Along::Rows])
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_elems = ctx.outputs[0].shape.num_elems();
        let [key_0, key_1] = key(self.seed);
        let params = Params {
            num_elems: to_u32(num_elems),
            key_0,
            key_1,
            layer: self.layer,
            keep_below: self.keep_below(),
            // Kernels compute in f32.
            scale: self.scale() as f32,
        };
        let bindings = [Binding::Input(0), Binding::Scalar(1), Binding::Output(0)];
        let groups = grid(num_elems.div_ceil(WORDS), WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, "forward", &params, bindings, groups.short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn vjp(&self, vjp: &mut Vjp<'_>) -> Result<Vec<Option<Value>>> {
        // y is x times a mask, and so is grad_x of grad_y.
        let (grad, step) = (vjp.grad_output(), vjp.inputs[1]);
        Ok(vec![Some(vjp.graph.push1(*self, &[grad, step])?), None])
    }

    fn describe(&self) -> String {
        format!("p {}, layer {}", self.p, self.layer)
    }
}

/// Elements of a piece of work on the CPU, a multiple of [`WORDS`].
const PIECE_ELEMS: usize = 2048 * WORDS;

impl Graph {
    /// `x` with each element dropped (set to 0) with probability `p` and the others scaled by `1 / (1 − p)`
    /// (`torch.nn.functional.dropout` in training; an evaluation leaves the layer out). At `p` 0 it is `x` itself, at
    /// `p` 1 all zeros. It is a product with 0 that drops: what is not finite becomes NaN and is not hidden. `step` is
    /// a u32 scalar ([`Graph::scalar`]): every step draws a new mask.
    ///
    /// # Errors
    /// [`Error::Operand`] where `p` is not in [0, 1], `x` is not a float, or `step` not a u32 scalar.
    pub fn dropout(&mut self, x: Value, dropout: Dropout, step: Value) -> Result<Value> {
        if !(0.0..=1.0).contains(&dropout.p) {
            return Err(Error::operand("dropout", "a probability in [0, 1]", dropout.p.to_string()));
        }
        self.check(x)?;
        self.check_scalar("dropout", step)?;
        check::float("dropout", self.ty(x))?;
        if dropout.p == 0.0 {
            return Ok(x);
        }
        self.push1(dropout, &[x, step])
    }
}
