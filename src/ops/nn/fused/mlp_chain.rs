//! The fully connected end of a network with the gradient of its loss, forward and back, and the gradients of its weights:
//! two dispatches for all layers. A row of the batch goes through the layers on its own, so a workgroup takes one.

use crate::Result;
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::nn::activation::Activation;
use crate::ops::nn::cross_entropy::{CrossEntropy, Reduction};
use crate::tensor::TensorType;

params! {
    struct Params {
        widths: dims,
        weights: dims,
        biases: dims,
        activations: dims,
        lanes: dims,
        splits: dims,
        batch: u32,
        num_layers: u32,
        ignore_index: u32,
        label_smoothing: f32,
    }
}

static CHAIN: Shader = Shader {
    name: "mlp_chain",
    source: concat!(
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/layer_products.wgsl"),
        include_str!("../../../../shaders/mlp_chain.wgsl"),
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const THREADS: u32 = 256;
/// Layers and the input, as many as `Params` has room for.
pub(crate) const MAX_LAYERS: usize = 7;
/// The most rows: with more, products that share their weights among rows do less. With 1,024 a step of LeNet-5 took an H200
/// 364 µs by the chain and 764 by products, of which another kernel is 120 (`benches/gpu/run --call 2`).
const MAX_ROWS: usize = 2048;
/// Floats of workgroup memory that every device has, and those that do not depend on the widths.
const WORKGROUP_FLOATS: usize = 4096;
const FIXED_FLOATS: usize = 4 * THREADS as usize + 64;
/// vec4s of a row of weights that a thread takes at a time, of two rows or four, and rows of a column.
const QUADS_AT_ONCE: usize = 8;
const ROWS_AT_ONCE: usize = 16;
/// The most threads that share an output: one of them adds up.
const MAX_LANES: usize = 32;
/// Where `Params` has no bias.
const NONE: u32 = u32::MAX;

/// A fully connected layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainLayer {
    /// The places of the weight (out, in) and of the bias among the parameters.
    pub weight: usize,
    pub bias: Option<usize>,
    pub activation: Activation,
}

/// Inputs: what goes into the first layer, one row for each label; labels; class weights; and all parameters of a pack.
/// Outputs: for each row the results of hidden layers and the gradients before the activations of all, side by side; the
/// logits; and, if wanted, the gradient by the input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MlpChain {
    pub layers: Vec<ChainLayer>,
    pub attributes: CrossEntropy,
    /// Whether the gradient by the input is wanted, and the activation that the input came out of, to be included.
    pub by_input: Option<Activation>,
    pub num_params: usize,
}

impl MlpChain {
    /// The index of the first parameter among the inputs.
    pub const PARAMS: usize = 3;

    /// Whether there is a kernel for so many rows of layers of these widths, the input's first.
    pub fn fits(rows: usize, widths: &[usize], attributes: &CrossEntropy) -> bool {
        rows <= MAX_ROWS
            && widths.len() <= MAX_LAYERS + 1
            // Values and gradients of a row, and the classes' weights.
            && 2 * widths.iter().sum::<usize>() + widths.last().unwrap_or(&0) + FIXED_FLOATS <= WORKGROUP_FLOATS
            && attributes.reduction != Reduction::None
    }

    /// The indices of the parameters among the inputs: a pack.
    pub fn pack(&self) -> std::ops::Range<usize> {
        Self::PARAMS..Self::PARAMS + self.num_params
    }

    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let batch = ctx.inputs[1].shape.num_elems();
        let params = &ctx.inputs[Self::PARAMS..];
        let mut table = Params {
            widths: [0; 8],
            weights: [0; 8],
            biases: [NONE; 8],
            activations: [0; 8],
            lanes: [1; 8],
            splits: [1; 8],
            batch: to_u32(batch),
            num_layers: to_u32(self.layers.len()),
            ignore_index: self.attributes.ignore_index.unwrap_or(u32::MAX),
            // Kernels compute in f32.
            label_smoothing: self.attributes.label_smoothing as f32,
        };
        table.widths[0] = to_u32(ctx.inputs[0].shape.num_elems() / batch);
        table.activations[0] = self.by_input.unwrap_or_default().code();
        for (index, layer) in self.layers.iter().enumerate() {
            table.widths[index + 1] = to_u32(params[layer.weight].shape[0]);
            table.weights[index + 1] = to_u32(offset(params, layer.weight));
            table.biases[index + 1] = layer.bias.map_or(NONE, |bias| to_u32(offset(params, bias)));
            table.activations[index + 1] = layer.activation.code();
            let [outputs, inputs] = [0, 1].map(|axis| params[layer.weight].shape[axis]);
            table.lanes[index + 1] = to_u32(lanes(inputs));
            table.splits[index + 1] = to_u32(splits(inputs, outputs));
        }
        let total: u32 = table.widths.iter().sum();
        let grad_x = if self.by_input.is_some() { Binding::Output(2) } else { Binding::ScratchMut(0) };
        let bindings = [
            Binding::Input(0),
            Binding::Pack(0),
            Binding::Input(1),
            Binding::Input(2),
            Binding::Output(0),
            Binding::Output(1),
            grad_x,
        ];
        let widths = &table.widths[..=self.layers.len()];
        let is_aligned = widths[..self.layers.len()].iter().all(|width| width.is_multiple_of(4));
        let classes = table.widths[self.layers.len()];
        // Of each layer forward and back: steps over rows or columns, each with products and parts to add up.
        let layers: usize = widths.windows(2).map(|pair| iterations(pair[0] as usize, pair[1] as usize)).sum();
        let elements = 4 * (total as usize).div_ceil(THREADS as usize) + 4 * self.layers.len();
        let work = grid(batch, 1).iterations(layers + elements + 8 * classes as usize + batch + 64);
        let dispatch = Dispatch::new(&CHAIN, "rows", &table, bindings, work)
            .constant("WG", THREADS)
            .constant("TOTAL", total)
            .constant("CLASSES", classes)
            .constant("ALIGNED", u32::from(is_aligned))
            .constant("HAS_GRAD_X", u32::from(self.by_input.is_some()))
            .constant("IS_MEAN", u32::from(self.attributes.reduction == Reduction::Mean));
        // Four elements are bound where nothing is written.
        Ok(Dispatches { list: vec![dispatch], scratch_elems: vec![4] })
    }
}

/// Threads that share an output of a layer: so many that a row of its weights is on its way at once.
fn lanes(inputs: usize) -> usize {
    inputs.div_ceil(4 * QUADS_AT_ONCE).next_power_of_two().min(MAX_LANES)
}

/// Parts of the outputs whose sums for an input are computed by threads of their own: so many that all are on their way at
/// once, if there are threads for them.
fn splits(inputs: usize, outputs: usize) -> usize {
    let threads = (THREADS as usize / inputs.div_ceil(4).next_power_of_two()).max(1);
    outputs.div_ceil(ROWS_AT_ONCE).next_power_of_two().min(threads)
}

/// Iterations of the loops over a layer, forward and back, in one thread.
fn iterations(inputs: usize, outputs: usize) -> usize {
    let (lanes, splits, threads) = (lanes(inputs), splits(inputs, outputs), THREADS as usize);
    // With four rows at a time there are half as many steps, of as much as twice the parts.
    let forward = outputs.div_ceil(2 * threads / lanes) * (inputs.div_ceil(32 * lanes) + 2 * (2 + lanes) + 4);
    let backward = inputs.div_ceil(4 * threads / splits)
        * (outputs.div_ceil(ROWS_AT_ONCE * splits) + 4usize.div_ceil(splits) * (2 + splits) + 4);
    forward + backward
}

/// Where a member of a pack begins.
fn offset(types: &[TensorType], member: usize) -> usize {
    crate::graph::plan::packed_elems(&types[..member])
}

mod layer_gradients {
    use crate::ops::kernel::{Shader, params};

    params! {
        struct Params {
            heights: quad,
            widths: quad,
            d_starts: quad,
            h_starts: quad,
            rows: u32,
            num_layers: u32,
            chain_width: u32,
            x_width: u32,
        }
    }

    pub static SHADER: Shader = Shader {
        name: "layer_gradients",
        source: include_str!("../../../../shaders/layer_gradients.wgsl"),
        params: Params::FIELDS,
        needs_subgroups: false,
    };

    pub fn params(
        [heights, widths, d_starts, h_starts]: [[u32; 4]; 4],
        [rows, num_layers, chain_width, x_width]: [u32; 4],
    ) -> impl bytemuck::NoUninit {
        Params { heights, widths, d_starts, h_starts, rows, num_layers, chain_width, x_width }
    }
}

pub static SHADERS: &[&Shader] = &[&CHAIN, &layer_gradients::SHADER];

/// Layers of one dispatch: as many as there are bindings for.
const LAYERS_AT_ONCE: usize = 3;
/// Rows and columns of a workgroup.
const TILE: [usize; 2] = [16, 32];
/// Rows of the batch that it takes at a time.
const K_STEP: usize = 64;

/// The gradients by weights and biases of a chain's layers. Inputs: what went into the first layer, and the chain's first
/// output. Outputs: for each layer its weight's and, where there is one, its bias's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerGradients {
    /// The widths of all layers, the input's first.
    pub widths: Vec<usize>,
    pub has_bias: Vec<bool>,
}

impl LayerGradients {
    pub fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let chain = &ctx.inputs[1].shape;
        let num_layers = self.has_bias.len();
        let hidden: usize = self.widths[1..num_layers].iter().sum();
        let mut list = Vec::new();
        let (mut output, mut first) = (0, 0);
        while first < num_layers {
            let layers = first..num_layers.min(first + LAYERS_AT_ONCE);
            let (mut table, mut units, mut biases) = ([[0; 4]; 4], 0, 0u32);
            let mut bindings = vec![Binding::Input(0), Binding::Input(1)];
            for (place, layer) in layers.clone().enumerate() {
                // Layer `layer` goes from widths[layer] to widths[layer + 1].
                let [n, m] = [self.widths[layer], self.widths[layer + 1]];
                let before: usize = self.widths[1..=layer].iter().sum();
                let h_start = if layer == 0 { NONE } else { to_u32(before - n) };
                let row = [to_u32(m), to_u32(n), to_u32(hidden + before), h_start];
                table.iter_mut().zip(row).for_each(|(column, value)| column[place] = value);
                units += m.div_ceil(TILE[0]) * n.div_ceil(TILE[1]);
                bindings.push(Binding::Output(output));
                output += 1;
                bindings.push(if self.has_bias[layer] { Binding::Output(output) } else { Binding::ScratchMut(0) });
                output += usize::from(self.has_bias[layer]);
                biases |= u32::from(self.has_bias[layer]) << place;
            }
            bindings.resize(2 + 2 * LAYERS_AT_ONCE, Binding::ScratchMut(0));
            let counts = [chain[0], layers.len(), chain[1], self.widths[0]].map(to_u32);
            // A chunk of rows is staged in six steps.
            let iterations = chain[0].div_ceil(K_STEP) * 8 + chain[0] + LAYERS_AT_ONCE;
            let params = layer_gradients::params(table, counts);
            let work = grid(units, 1).iterations(iterations);
            list.push(
                Dispatch::new(&layer_gradients::SHADER, "layers", &params, bindings, work).constant("BIASES", biases),
            );
            first = layers.end;
        }
        Ok(Dispatches { list, scratch_elems: vec![4] })
    }
}
