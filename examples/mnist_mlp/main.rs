//! Handwritten digits by a network of three layers, 784-128-64-10: the loss and one step of it taken apart
//! (`lessons.rs`), then five epochs of SGD at 0.003 by a training loop written out, and what the network makes of an
//! image.
//!
//! ```sh
//! cargo run --release --example mnist_mlp -- --data FOLDER
//! ```
//!
//! FOLDER holds the four files of MNIST. Without it the cache is searched, and then the bundled subset of
//! FashionMNIST is used instead.

mod lessons;

use std::path::{Path, PathBuf};

use clap::Parser;
use lessons::{Batch, NUM_IMAGES};
use wgrad::data::{ChannelStats, DataLoader, Dataset, FashionMnist, Mnist, Normalize, Splits};
use wgrad::nn::{Mode, Model, Sequential};
use wgrad::ops::NllLoss;
use wgrad::optim::Optimizer;
use wgrad::report::grids::{ImageSample, probability_bars};
use wgrad::train::predict::{Predictor, PredictorOptions};
use wgrad::{Device, Graph, Program, Result, StateDict, TensorType};

/// Trains 784-128-64-10 on MNIST.
#[derive(Parser)]
struct Args {
    /// Folder with MNIST's four files.
    #[arg(long)]
    data: Option<PathBuf>,
    #[arg(long, default_value_t = 5)]
    epochs: u64,
    #[arg(long, default_value_t = 64)]
    batch_size: u32,
    #[arg(long, default_value_t = 0.003)]
    lr: f64,
    #[arg(long, default_value_t = 0.0)]
    momentum: f64,
    /// Use only the first N training images
    #[arg(long)]
    train_limit: Option<usize>,
    /// Use only the first N test images
    #[arg(long)]
    test_limit: Option<usize>,
    /// Folder for the picture.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    let Splits { mut train, mut test, source } = load(&args)?;
    train.limit(args.train_limit.unwrap_or(usize::MAX));
    test.limit(args.test_limit.unwrap_or(usize::MAX));
    println!("{} training and {} test images of {}, from {source}", train.len(), test.len(), train.name());
    // Pixels from −1 to 1.
    let normalize = Normalize::Half.stats(&train)?;

    let loader = DataLoader::new(train.len() as u32, NUM_IMAGES as u32)?.shuffled(0).dropping_last()?;
    let (order, mut batches) = (loader.order(0), Vec::new());
    for batch in loader.batches().take(200) {
        let (images, labels) = train.batch(&order[batch.range()], &normalize)?;
        batches.push(Batch { images, labels });
    }
    lessons::two_losses(&device, &batches[0])?;
    lessons::softmax_axis(&device, &batches[0])?;
    lessons::before_and_after_backward(&device, &batches[0])?;
    lessons::one_step(&device, &batches[0])?;
    lessons::without_zero_grad(&device, &batches)?;

    let weights = train_network(&device, &args, &train, &normalize)?;
    predict(&device, &args.out, (&weights, &normalize), &test)
}

/// 784-128-64-10.
fn network() -> Sequential {
    Sequential::new().flatten().linear(128).relu().linear(64).relu().linear(10)
}

/// The loop, written out. Gives the trained parameters.
fn train_network(device: &Device, args: &Args, train: &Dataset, normalize: &ChannelStats) -> Result<StateDict> {
    println!("\n6. {} epochs of SGD at {}, batches of {}", args.epochs, args.lr, args.batch_size);
    let optimizer = Optimizer::sgd(args.momentum);
    // A training step, as a graph for one batch size: images and labels in, loss out, parameters updated.
    let model = network().log_softmax();
    let step = |batch_size: usize| -> Result<Graph> {
        let mut graph = Graph::new("step");
        let images = graph.input("images", TensorType::f32([batch_size, 1, 28, 28]))?;
        let labels = graph.input("labels", TensorType::u32([batch_size]))?;
        // Without dropout or batch normalization, training and evaluation have one graph.
        let log_probs = model.logits(&mut graph, images, Mode::Eval)?;
        let loss = graph.nll_loss(log_probs, labels, None, NllLoss::default())?;
        graph.output("loss", loss)?;
        optimizer.minimize(&mut graph, loss)?;
        Ok(graph)
    };
    // 60,000 images are 937 batches of 64 and a last one of 32, for which there is a graph of its own.
    let loader = DataLoader::new(train.len() as u32, args.batch_size)?.shuffled(0);
    let graphs = loader.batch_sizes().into_iter().map(step).collect::<Result<Vec<_>>>()?;
    let mut program = Program::from_graphs(device, &graphs, 0)?;
    println!("{} parameters", program.num_parameters());
    for epoch in 0..args.epochs {
        let (order, mut running_loss) = (loader.order(epoch), 0.0);
        for batch in loader.batches() {
            let (images, labels) = train.batch(&order[batch.range()], normalize)?;
            program.write_all([("images", &images), ("labels", &labels)])?;
            program.run("step", &optimizer.steps(1, args.lr))?;
            running_loss += program.output("step", "loss")?.item()?;
        }
        println!("epoch {}: training loss {:.4}", epoch + 1, running_loss / f64::from(loader.num_batches()));
    }
    program.model()
}

/// How well the network does on images it has not seen, and what it makes of the first one.
fn predict(device: &Device, out: &Path, trained: (&StateDict, &ChannelStats), test: &Dataset) -> Result<()> {
    let (weights, normalize) = trained;
    let options = PredictorOptions { model: &network(), weights, normalize, shape: test.shape(), batch_size: 250 };
    let predictions = Predictor::new(device, &options)?.predict(test)?;
    let correct = predictions.iter().filter(|prediction| prediction.predicted == prediction.label).count();
    println!("test accuracy {:.2} % ({correct} of {})", 100.0 * correct as f64 / test.len() as f64, test.len());

    println!("\n7. The first test image, of class {}:", test.class_of(0));
    for row in test.image(0).chunks_exact(28) {
        let line: String = row.iter().map(|&pixel| [' ', '.', ':', 'o', '#'][usize::from(pixel) * 5 / 256]).collect();
        println!("  {}", line.trim_end());
    }
    let first = &predictions[0];
    for (name, &probability) in test.class_names().iter().zip(&first.probabilities) {
        println!("{name:>12} {:6.2} % {}", 100.0 * probability, "#".repeat((probability * 40.0).round() as usize));
    }
    let image = ImageSample {
        pixels: test.image(0).to_vec(),
        shape: test.shape(),
        label: test.class_of(0).to_owned(),
        predicted: Some((test.class_names()[first.predicted].to_owned(), first.probability)),
    };
    let path = out.join("mnist_mlp.png");
    probability_bars(&image, &test.class_names(), &first.probabilities).save(&path)?;
    println!("picture: {}", path.display());
    Ok(())
}

/// MNIST, or FashionMNIST where it is not found and no folder was named.
fn load(args: &Args) -> Result<Splits> {
    wgrad::data::load(&Mnist {}.into(), args.data.as_deref()).or_else(|error| {
        if args.data.is_some() {
            return Err(error);
        }
        println!("MNIST was not found, so FashionMNIST takes its place; --data FOLDER names its folder");
        wgrad::data::load(&FashionMnist {}.into(), None)
    })
}
