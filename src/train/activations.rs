//! What the layers of a network make of one image: the maps that convolutions, activation functions and poolings put out,
//! in evaluation (running statistics, no dropout).

use super::predict::{IMAGES, LABELS, ORDER, PREDICT, PredictorOptions, forward};
use crate::data::Dataset;
use crate::exec::{Device, MODEL_KINDS, Program, StepTable};
use crate::graph::plan::Plan;
use crate::graph::{Graph, NodeKind};
use crate::ops::{Op, Operation};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The maps of one layer.
#[derive(Clone, Debug)]
pub struct Activations {
    /// The layer and the op, as plans label it: "conv1.conv2d".
    pub label: String,
    /// The maps (C, H, W).
    pub maps: Tensor,
}

/// The maps of every op whose result has channels and more than one pixel, on the first image of `data`, in the order of
/// the network. [`PredictorOptions::batch_size`] does not matter.
///
/// # Errors
/// As [`Predictor::new`](super::predict::Predictor::new); [`Error::Operand`] where there is no image, or one of another
/// shape.
pub fn activations(device: &Device, options: &PredictorOptions<'_>, data: &Dataset) -> Result<Vec<Activations>> {
    let [channels, height, width] = options.shape;
    if data.is_empty() || data.shape() != options.shape {
        let (expected, got) = (format!("an image of shape {:?}", options.shape), format!("{:?}", data.shape()));
        return Err(Error::operand("activations", expected, if data.is_empty() { "none".to_owned() } else { got }));
    }
    let (graph, labels) = graph(&PredictorOptions { batch_size: 1, ..*options })?;
    // Not fused: what is asked for would be inside the fused products.
    let mut program = Program::compile(device, vec![Plan::unfused(&graph)?], 0)?;
    program.load_state_dict(options.weights, &MODEL_KINDS)?;
    program.write(IMAGES, &Tensor::u8([1, channels, height, width], data.image(0).to_vec())?)?;
    program.write(LABELS, &Tensor::u32([1], vec![0])?)?;
    program.write(ORDER, &Tensor::u32([1], vec![0])?)?;
    program.run(PREDICT, &StepTable::new(1).constant("start", 0.0))?;
    let read = |(index, label): (usize, String)| {
        let maps = program.output(PREDICT, &output(index))?;
        let shape = maps.shape().dims()[1..].to_vec();
        Ok(Activations { label, maps: Tensor::f32(shape, maps.to_f32_vec())? })
    };
    labels.into_iter().enumerate().map(read).collect()
}

/// The network with an output for each op that has maps, and their labels.
fn graph(options: &PredictorOptions<'_>) -> Result<(Graph, Vec<String>)> {
    let mut graph = Graph::new(PREDICT);
    let (logits, _) = forward(&mut graph, options)?;
    // So that the plan has every layer, as the weights have.
    graph.output("logits", logits)?;
    let mut labels = Vec::new();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let NodeKind::Op(op) = &node.kind else { continue };
        // The image itself is no layer's.
        let is_layer = !matches!(op, Op::Gather(_));
        let has_maps = matches!(node.types[0].shape.dims(), &[_, _, height, width] if height * width > 1);
        if is_layer && has_maps {
            let label =
                if node.scope.is_empty() { op.name().to_owned() } else { format!("{}.{}", node.scope, op.name()) };
            graph.output(&output(labels.len()), graph.value(index, 0))?;
            labels.push(label);
        }
    }
    Ok((graph, labels))
}

fn output(index: usize) -> String {
    format!("maps {index}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::data::Normalize;
    use crate::nn::{Classifier, LeNet5};
    use crate::run::{RunConfig, RunData, setup};

    #[test]
    fn the_first_maps_are_the_convolution_of_the_image() {
        let config = RunConfig { train_limit: Some(64), test_limit: Some(1), ..RunConfig::default() };
        let data = RunData::load(&config).unwrap();
        let weights = setup::session(&config, &Device::Cpu, &data).unwrap().model().unwrap();
        let normalize = Normalize::Dataset.stats(&data.train).unwrap();
        let model = Classifier::new(LeNet5::default(), 10);
        let options = PredictorOptions {
            model: &model,
            weights: &weights,
            normalize: &normalize,
            shape: [1, 28, 28],
            batch_size: 7,
        };
        let layers = activations(&Device::Cpu, &options, &data.test).unwrap();
        let maps = &layers[0].maps;
        assert!(layers[0].label.starts_with("conv1"), "{}", layers[0].label);
        // Filter 0 at row 10, column 12 of the image, computed by hand.
        let (weight, bias) = (weights["conv1.weight"].to_f64_vec(), weights["conv1.bias"].to_f64_vec());
        let mut want = bias[0];
        for row in 0..5 {
            for column in 0..5 {
                let pixel = f64::from(data.test.image(0)[(10 + row) * 28 + 12 + column]) / 255.0;
                want += weight[row * 5 + column] * (pixel - normalize.mean[0]) / normalize.std[0];
            }
        }
        let got = maps.to_f64_vec()[10 * maps.shape().dims()[2] + 12];
        // 26 products and sums of values of about 1, in f32.
        assert!((got - want).abs() < 26.0 * f64::from(f32::EPSILON), "{got} and {want}");
        assert!(got != 0.0 && layers.len() > 3, "{} layers", layers.len());
        let none = data.test.subset(&[]).unwrap();
        assert!(activations(&Device::Cpu, &options, &none).unwrap_err().to_string().contains("none"));
    }
}
