//! Inference: the class and probabilities of images, and the inspection of a trained network: inputs and outputs of
//! each batch normalisation, and the gradients of a batch. It has a program of its own, so that a [`Session`] that is
//! made for training carries none of it.
//!
//! [`Session`]: super::Session

use crate::data::{ChannelStats, Dataset};
use crate::exec::{Device, MODEL_KINDS, Program, StateDict, StepTable};
use crate::graph::plan::Plan;
use crate::graph::{Graph, NodeKind, Value};
use crate::nn::{Mode, Model};
use crate::ops::{BatchSource, CrossEntropy, Op};
use crate::tensor::{DType, Tensor, TensorType};
use crate::{Error, Result};

pub(super) const IMAGES: &str = "predict.images";
pub(super) const LABELS: &str = "predict.labels";
pub(super) const ORDER: &str = "predict.order";
pub(super) const PREDICT: &str = "predict";
const PREDICT_ONE: &str = "predict.one";
const INSPECT: &str = "inspect";

/// What a predictor is made of.
#[derive(Clone, Copy)]
pub struct PredictorOptions<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// Its parameters and running statistics.
    pub weights: &'a StateDict,
    /// What is subtracted from pixels, and what they are divided by.
    pub normalize: &'a ChannelStats,
    /// C, H and W of the images it will get.
    pub shape: [usize; 3],
    /// Images in a step.
    pub batch_size: usize,
}

/// What a network makes of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The image's class, as the data set has it.
    pub label: usize,
    /// The class with the largest logit, the first one in a tie.
    pub predicted: usize,
    /// The probability of that class: the softmax of the logits. NaN where a logit is not finite.
    pub probability: f64,
    /// The probability of every class.
    pub probabilities: Vec<f64>,
}

impl Prediction {
    /// The `count` most probable classes with their probabilities, the highest first.
    pub fn top(&self, count: usize) -> Vec<(usize, f64)> {
        let mut classes: Vec<(usize, f64)> = self.probabilities.iter().copied().enumerate().collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        classes.truncate(count);
        classes
    }
}

/// The numbers around one batch normalisation, over a batch of images.
#[derive(Clone, Debug)]
pub struct NormalizedLayer {
    /// The layer's name.
    pub name: String,
    /// For each channel, the values that go in.
    pub before: Vec<Vec<f32>>,
    /// For each channel, the values that come out.
    pub after: Vec<Vec<f32>>,
}

/// What happens inside on one batch, in evaluation (running statistics, no dropout).
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Every batch normalisation, in the order of the network.
    pub normalized: Vec<NormalizedLayer>,
    /// The gradient of the batch's mean cross-entropy by each parameter.
    pub gradients: StateDict,
    /// The names of the parameters, in the order of the network.
    pub parameters: Vec<String>,
}

/// A network with weights, compiled for a device. See the [module](self).
pub struct Predictor {
    program: Program,
    shape: [usize; 3],
    batch_size: usize,
    layers: Vec<String>,
    parameters: Vec<(String, TensorType)>,
}

impl Predictor {
    /// Compiles the network and loads its weights.
    ///
    /// # Errors
    /// [`Error::Operand`] where the model does not take such images; [`Error::State`] where the weights are not the
    /// model's; [`Error::Setting`] for a batch of 0 images; [`Error::Limit`] for one that is too large for the device.
    pub fn new(device: &Device, options: &PredictorOptions<'_>) -> Result<Predictor> {
        if options.batch_size == 0 {
            return Err(Error::setting("batch_size", "at least 1", 0));
        }
        let graph = prediction_of(PREDICT, options)?;
        // Single images have a plan of their own, so that one does not take as long as a batch.
        let one = prediction_of(PREDICT_ONE, &PredictorOptions { batch_size: 1, ..*options })?;
        let (inspect, layers) = inspection(options)?;
        let parameters = graph.parameters().into_iter().map(|(name, value)| (name, graph.ty(value).clone())).collect();
        // Not fused: what is asked for would be inside the fused products.
        let plans = vec![Plan::new(&graph)?, Plan::new(&one)?, Plan::unfused(&inspect)?];
        let mut program = Program::compile(device, plans, 0)?;
        program.load_state_dict(options.weights, &MODEL_KINDS)?;
        let num_images = u32::try_from(options.batch_size)
            .map_err(|_| Error::setting("batch_size", "less than 2^32", options.batch_size))?;
        program.write(ORDER, &Tensor::u32([options.batch_size], (0..num_images).collect())?)?;
        program.write(&named(ORDER, PREDICT_ONE), &Tensor::u32([1], vec![0])?)?;
        Ok(Predictor { program, shape: options.shape, batch_size: options.batch_size, layers, parameters })
    }

    /// What the network makes of each image, in their order.
    ///
    /// # Errors
    /// [`Error::Operand`] where the images are of another shape; [`Error::DeviceLost`].
    pub fn predict(&mut self, data: &Dataset) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::with_capacity(data.len());
        for first in (0..data.len()).step_by(self.batch_size) {
            let count = self.load(data, first)?;
            self.program.run(PREDICT, &StepTable::new(1).constant("start", 0.0))?;
            let logits = self.program.output(PREDICT, "logits")?;
            let num_classes = logits.shape().dims().last().copied().unwrap_or(1).max(1);
            let rows = logits.to_f32_vec();
            let labels = &data.labels()[first..first + count];
            predictions.extend(rows.chunks(num_classes).zip(labels).map(|(row, label)| prediction(row, *label)));
        }
        Ok(predictions)
    }

    /// The logits of one image, given its pixels (C, H, W): for images that come one by one. On the CPU a small network
    /// takes some microseconds.
    ///
    /// # Errors
    /// [`Error::Operand`] where there are not as many pixels as an image has; [`Error::DeviceLost`].
    pub fn logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>> {
        let [channels, height, width] = self.shape;
        if pixels.len() != channels * height * width {
            let expected =
                format!("the {} bytes of an image ({channels}, {height}, {width})", channels * height * width);
            return Err(Error::operand("predict", expected, pixels.len().to_string()));
        }
        let image = Tensor::u8([1, channels, height, width], pixels.to_vec())?;
        self.program.write(&named(IMAGES, PREDICT_ONE), &image)?;
        self.program.run(PREDICT_ONE, &StepTable::new(1).constant("start", 0.0))?;
        Ok(self.program.output(PREDICT_ONE, "logits")?.to_f32_vec())
    }

    /// What happens inside on the first batch of `data`. Fewer images than a batch are repeated to fill it.
    ///
    /// # Errors
    /// As [`Predictor::predict`]; [`Error::Operand`] where there are no images.
    pub fn inspect(&mut self, data: &Dataset) -> Result<Inspection> {
        if data.is_empty() {
            return Err(Error::operand("inspect", "at least one image", "none"));
        }
        self.load(data, 0)?;
        self.program.run(INSPECT, &StepTable::new(1).constant("start", 0.0))?;
        let mut normalized = Vec::new();
        for name in &self.layers {
            let mut read = |side: &str| -> Result<Vec<Vec<f32>>> {
                Ok(channels(&self.program.output(INSPECT, &format!("{side}.{name}"))?))
            };
            normalized.push(NormalizedLayer { name: name.clone(), before: read("before")?, after: read("after")? });
        }
        let mut gradients = StateDict::new();
        for (name, _) in &self.parameters {
            gradients.insert(name.clone(), self.program.output(INSPECT, &format!("grad.{name}"))?);
        }
        let parameters = self.parameters.iter().map(|(name, _)| name.clone()).collect();
        Ok(Inspection { normalized, gradients, parameters })
    }

    /// Uploads a batch, padded with images from its start, and returns how many of its images are new.
    fn load(&mut self, data: &Dataset, first: usize) -> Result<usize> {
        if data.shape() != self.shape {
            let ([c, h, w], [got_c, got_h, got_w]) = (self.shape, data.shape());
            let got = format!("({got_c}, {got_h}, {got_w})");
            return Err(Error::operand("predict", format!("images of shape ({c}, {h}, {w})"), got));
        }
        let count = self.batch_size.min(data.len() - first);
        let labels = &data.labels()[first..first + count];
        let pixels: Vec<u8> = (0..self.batch_size).flat_map(|row| data.image(first + row % count)).copied().collect();
        let labels: Vec<u32> = labels.iter().map(|&label| u32::from(label)).cycle().take(self.batch_size).collect();
        let [channels, height, width] = self.shape;
        self.program.write(IMAGES, &Tensor::u8([self.batch_size, channels, height, width], pixels)?)?;
        self.program.write(LABELS, &Tensor::u32([self.batch_size], labels)?)?;
        Ok(count)
    }
}

/// The name of an input of the graph `entry`: that of one image has inputs of its own.
fn named(input: &str, entry: &str) -> String {
    if entry == PREDICT_ONE { format!("{input}.one") } else { input.to_owned() }
}

/// A graph from images to logits.
fn prediction_of(entry: &str, options: &PredictorOptions<'_>) -> Result<Graph> {
    let mut graph = Graph::new(entry);
    let (logits, _) = forward(&mut graph, options)?;
    graph.output("logits", logits)?;
    Ok(graph)
}

/// Appends the network; returns its logits and the batch's labels.
pub(super) fn forward(graph: &mut Graph, options: &PredictorOptions<'_>) -> Result<(Value, Value)> {
    let (batch_size, [channels, height, width]) = (options.batch_size, options.shape);
    let name = |input| named(input, graph.name());
    let [images, labels, order] = [IMAGES, LABELS, ORDER].map(name);
    let images = [graph.input(&images, TensorType::u8([batch_size, channels, height, width]))?];
    let labels = graph.input(&labels, TensorType::u32([batch_size]))?;
    let permutation = graph.input(&order, TensorType::u32([batch_size]))?;
    let start = graph.scalar("start", DType::U32)?;
    let normalize = options.normalize.gather();
    let source = BatchSource { images: &images, labels, permutation, start, batch_size };
    let (images, labels) = graph.gather_batch(normalize, source)?;
    Ok((options.model.logits(graph, images, Mode::Eval)?, labels))
}

/// The graph of [`Predictor::inspect`], and the names of its batch normalisations.
fn inspection(options: &PredictorOptions<'_>) -> Result<(Graph, Vec<String>)> {
    let mut graph = Graph::new(INSPECT);
    let (logits, labels) = forward(&mut graph, options)?;
    let is_norm = |kind: &NodeKind| matches!(kind, NodeKind::Op(Op::BatchNormEval(_)));
    let norms: Vec<usize> = (0..graph.nodes.len()).filter(|&index| is_norm(&graph.nodes[index].kind)).collect();
    let mut layers = Vec::new();
    for index in norms {
        let node = &graph.nodes[index];
        let (before, mut name) = (node.inputs[0], node.scope.clone());
        if name.is_empty() || layers.contains(&name) {
            name = format!("{name}#{index}");
        }
        let after = graph.value(index, 0);
        graph.output(&format!("before.{name}"), before)?;
        graph.output(&format!("after.{name}"), after)?;
        layers.push(name);
    }
    let loss = graph.cross_entropy(logits, labels, None, CrossEntropy::default())?;
    let gradients = graph.backward(loss)?;
    for (name, value) in graph.parameters() {
        let gradient = gradients.get(value).unwrap_or_else(|| {
            let shape = graph.shape(value).clone();
            let zeros = vec![0.0; shape.num_elems()];
            graph.constant(Tensor::f32(shape, zeros).expect("as many zeros as the shape has elements"))
        });
        graph.output(&format!("grad.{name}"), gradient)?;
    }
    Ok((graph, layers))
}

/// The values of each channel of (N, C, …).
fn channels(tensor: &Tensor) -> Vec<Vec<f32>> {
    let &[_, num_channels, ..] = tensor.shape().dims() else { return Vec::new() };
    let values = tensor.to_f32_vec();
    let plane = tensor.shape().dims()[2..].iter().product::<usize>().max(1);
    let of =
        |channel: usize| values.chunks(plane).skip(channel).step_by(num_channels.max(1)).flatten().copied().collect();
    (0..num_channels).map(of).collect()
}

/// The prediction of one row of logits; the softmax is computed in f64.
pub(super) fn prediction(logits: &[f32], label: u16) -> Prediction {
    let mut predicted = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[predicted] {
            predicted = class;
        }
    }
    let highest = logits[predicted];
    let powers: Vec<f64> = logits.iter().map(|logit| (f64::from(*logit) - f64::from(highest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    let probabilities: Vec<f64> = powers.iter().map(|power| power / sum).collect();
    Prediction { label: usize::from(label), predicted, probability: probabilities[predicted], probabilities }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_the_softmax() {
        let two = prediction(&[1000.0, 1000.0], 1);
        assert_eq!((two.predicted, two.label), (0, 1));
        assert_eq!(two.probabilities, [0.5, 0.5]);
        let sure = prediction(&[-1e4, 0.0, 1e4], 0);
        assert_eq!((sure.predicted, sure.probability), (2, 1.0));
        assert_eq!(sure.top(1), [(2, 1.0)]);
        assert!(prediction(&[f32::NAN, 1.0], 0).probability.is_nan());
    }

    #[test]
    fn channels_are_taken_apart() {
        let tensor = Tensor::f32([2, 2, 1, 2], (0..8).map(|value| value as f32).collect()).expect("8 values");
        assert_eq!(channels(&tensor), [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]);
    }
}
