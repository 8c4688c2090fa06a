//! What is in the data, in the network, in its parameters and after its first layer.

use wgrad::data::Dataset;
use wgrad::nn::{Mode, Model, Summary};
use wgrad::ops::Conv2d;
use wgrad::report::grids::{ImageSample, sample_grid};
use wgrad::run::{RunConfig, SavedModel};
use wgrad::{Graph, Result, Tensor, TensorType, Value, evaluate};

use crate::Lab;

/// Images whose features are described.
const NUM_INSPECTED: u32 = 256;

impl Lab {
    pub fn describe_the_data(&mut self) -> Result<()> {
        self.lesson("1. What is in the data?");
        let train = &self.data.train;
        let of_class = |class: usize| train.labels().iter().position(|&label| usize::from(label) == class);
        let (mut samples, mut rows) = (Vec::new(), vec![["label", "class", "images"].map(str::to_owned).to_vec()]);
        for (class, name) in train.class_names().iter().enumerate() {
            let count = train.labels().iter().filter(|&&label| usize::from(label) == class).count();
            rows.push(vec![class.to_string(), (*name).to_owned(), count.to_string()]);
            if let Some(index) = of_class(class) {
                let pixels = train.image(index).to_vec();
                samples.push(ImageSample { pixels, shape: train.shape(), label: (*name).to_owned(), predicted: None });
            }
        }
        let ([channels, height, width], first) = (train.shape(), &train.labels()[..8].to_vec());
        let text = format!(
            "The first labels are {first:?}: a label is an integer, the number of its class, not a one-hot vector of ten \
             zeros and ones; cross-entropy takes it as it is. An image is {height} high, {width} wide and has {channels} \
             channel: H×W×C = {height}×{width}×{channels}. In a batch channels come first, (N, C, H, W). There are {} \
             training images, {} to decide when to stop, and {} to evaluate the result on, from {}.",
            train.len(),
            self.data.validation.as_ref().map_or(0, Dataset::len),
            self.data.test.len(),
            self.data.source
        );
        self.table(&rows);
        self.say(&text);
        let picture = sample_grid("One image of each class", &samples, 5);
        picture.save(&self.out.join("classes.png"))?;
        self.page.figure("One image of each class", "The first of each in the training images.", picture);
        Ok(())
    }

    pub fn describe_the_network(&mut self, config: &RunConfig) -> Result<()> {
        self.lesson("2. How large is the network, and what comes out of it?");
        let shape = self.data.train.shape();
        let summary = Summary::of(&config.model()?, shape, config.batch_size)?;
        let mut rows = vec![["layer", "output", "parameters"].map(str::to_owned).to_vec()];
        for layer in &summary.layers {
            let name = if layer.name.is_empty() { layer.ops.join(", ") } else { layer.name.clone() };
            rows.push(vec![name, format!("{:?}", layer.output), layer.num_parameters.to_string()]);
        }
        self.table(&rows);

        // The sum that PyTorch's model.parameters() and numel() give, over the parameters of the graph.
        let mut graph = Graph::new("network");
        let images = graph.input("images", TensorType::f32([1, shape[0], shape[1], shape[2]]))?;
        config.model()?.logits(&mut graph, images, Mode::Eval)?;
        let counts: Vec<(String, usize)> =
            graph.parameters().into_iter().map(|(name, value)| (name, graph.ty(value).shape.num_elems())).collect();
        let total: usize = counts.iter().map(|(_, count)| count).sum();
        let terms: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        self.say(&format!("{} = {total} numbers are learned.", terms.join(" + ")));
        self.say(
            "The output has no activation: it is ten logits. The loss, cross-entropy, has the softmax in it, computed in a \
             way that large logits do not overflow; a softmax before it would be a second one and flatten the gradients, \
             and a ReLU would cut off half of what the last layer can say. For probabilities, take the softmax of the \
             logits afterwards; for the class, the largest logit is enough.",
        );
        Ok(())
    }

    /// Minimum, maximum, mean and standard deviation of all parameters of some runs.
    pub fn describe_parameters(&mut self, names: &[&str]) -> Result<()> {
        let mut rows = vec![["parameters", "min", "max", "mean", "std", "below 0.001"].map(str::to_owned).to_vec()];
        for name in names {
            let weights = SavedModel::open(self.folder(name), &[])?.weights;
            let all: Vec<f64> = weights.values().flat_map(Tensor::to_f64_vec).collect();
            let small = all.iter().filter(|weight| weight.abs() < 1e-3).count();
            let mut row = statistics(name, &all);
            row.push(format!("{:.1} %", 100.0 * small as f64 / all.len() as f64));
            rows.push(row);
        }
        self.table(&rows);
        Ok(())
    }

    /// The features of the first convolution before and after batch normalization, as in a training step.
    pub fn describe_features(&mut self, run: &str) -> Result<()> {
        let SavedModel { weights, normalize, .. } = SavedModel::open(self.folder(run), &[])?;
        let indices: Vec<u32> = (0..NUM_INSPECTED.min(self.data.train.len() as u32)).collect();
        let (images, _) = self.data.train.batch(&indices, &normalize)?;
        let per_channel = |name: &str| Tensor::f32([1, 6, 1, 1], weights[name].to_f32_vec());
        let inputs = [
            images,
            weights["conv1.weight"].clone(),
            weights["conv1.bias"].clone(),
            per_channel("bn1.weight")?,
            per_channel("bn1.bias")?,
        ];
        let stages = evaluate(&self.device, &inputs, |graph, values| {
            let [images, weight, bias, scale, shift] = [values[0], values[1], values[2], values[3], values[4]];
            let features = graph.conv2d(images, weight, Some(bias), Conv2d::default())?;
            let normalized = normalized(graph, features)?;
            let scaled = graph.mul(normalized, scale)?;
            Ok(vec![features, normalized, graph.add(scaled, shift)?])
        })?;
        let names = ["before", "normalized", "scaled and shifted"];
        let mut rows = vec![["features", "min", "max", "mean", "std"].map(str::to_owned).to_vec()];
        for (stage, name) in stages.iter().zip(names) {
            rows.push(statistics(&format!("{name}, all channels"), &stage.to_f64_vec()));
        }
        for channel in 0..6 {
            for (stage, name) in stages.iter().zip(names) {
                rows.push(statistics(&format!("{name}, channel {channel}"), &of_channel(stage, channel)));
            }
        }
        self.table(&rows);
        Ok(())
    }
}

/// Each channel of (N, C, H, W) less its mean, divided by its standard deviation.
fn normalized(graph: &mut Graph, features: Value) -> Result<Value> {
    let mean = graph.mean(features, &[0, 2, 3], true)?;
    let centered = graph.sub(features, mean)?;
    let squares = graph.square(centered)?;
    let variance = graph.mean(squares, &[0, 2, 3], true)?;
    let safe = graph.add_scalar(variance, 1e-5)?;
    let std = graph.sqrt(safe)?;
    graph.div(centered, std)
}

fn of_channel(features: &Tensor, channel: usize) -> Vec<f64> {
    let (channels, pixels) = (features.shape()[1], features.shape()[2] * features.shape()[3]);
    let values = features.to_f64_vec();
    values.chunks(pixels).skip(channel).step_by(channels).flatten().copied().collect()
}

/// A row of a table.
fn statistics(name: &str, values: &[f64]) -> Vec<String> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    let numbers =
        [low, high, mean, variance.sqrt()].map(|number| format!("{number:.5}").replace("-0.00000", "0.00000"));
    [vec![name.to_owned()], numbers.to_vec()].concat()
}
