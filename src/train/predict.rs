//! What a trained model says of images.

use crate::data::{ChannelStats, Dataset};
use crate::exec::{Device, Program, StateDict};
use crate::graph::Graph;
use crate::nn::{Mode, Model};
use crate::tensor::TensorType;
use crate::{Error, Result};

/// Images that go through the network at a time.
const MAX_BATCH: usize = 256;

/// What a model says of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The class with the largest score; the first of equals.
    pub class: usize,
    /// The probability of every class (classes).
    pub probabilities: Vec<f32>,
}

/// The classes and their probabilities of all of `images`, under a model's weights: softmax of its scores, which may
/// be logits or logarithms of probabilities.
///
/// # Errors
/// [`Error::State`] where the weights are not the model's; [`Error::Operand`] where the images do not fit the network
/// or there are none; what [`Program::compile`] does.
pub fn predict(
    device: &Device,
    model: &dyn Model,
    weights: &StateDict,
    images: &Dataset,
    normalize: &ChannelStats,
) -> Result<Vec<Prediction>> {
    let (len, whole) = (images.len(), images.len().min(MAX_BATCH));
    if images.is_empty() {
        return Err(Error::operand("predict", "at least one image", "none"));
    }
    let mut sizes = vec![whole];
    sizes.extend(Some(len % whole).filter(|&rest| rest > 0));
    let graphs = sizes.iter().map(|&size| graph(model, images.shape, size)).collect::<Result<Vec<_>>>()?;
    let mut program = Program::from_graphs(device, &graphs.iter().collect::<Vec<_>>(), 0)?;
    program.load_model(weights)?;
    // A data set has fewer than 2^32 images.
    let indices: Vec<u32> = (0..len as u32).collect();
    let mut predictions = Vec::with_capacity(len);
    for batch in indices.chunks(whole) {
        let (pixels, _) = images.batch(batch, normalize)?;
        program.write(&input(batch.len()), &pixels)?;
        program.run_once(&entry(batch.len()))?;
        let probabilities = program.output(&entry(batch.len()), "probabilities")?;
        let num_classes = probabilities.shape()[1];
        predictions.extend(probabilities.to_f32_vec().chunks_exact(num_classes).map(prediction));
    }
    Ok(predictions)
}

fn prediction(probabilities: &[f32]) -> Prediction {
    let first_of_largest =
        |best: usize, class: usize| if probabilities[class] > probabilities[best] { class } else { best };
    let class = (0..probabilities.len()).fold(0, first_of_largest);
    Prediction { class, probabilities: probabilities.to_vec() }
}

fn graph(model: &dyn Model, [channels, height, width]: [usize; 3], batch_size: usize) -> Result<Graph> {
    let mut graph = Graph::new(entry(batch_size));
    let images = graph.input(&input(batch_size), TensorType::f32([batch_size, channels, height, width]))?;
    let scores = model.logits(&mut graph, images, Mode::Eval)?;
    let probabilities = graph.softmax(scores, 1)?;
    graph.output("probabilities", probabilities)?;
    Ok(graph)
}

fn entry(batch_size: usize) -> String {
    format!("predict {batch_size}")
}

fn input(batch_size: usize) -> String {
    format!("images {batch_size}")
}
