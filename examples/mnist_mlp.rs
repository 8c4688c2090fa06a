//! Handwritten digits by a network of three layers, 784-128-64-10: log-softmax, negative log-likelihood, SGD at 0.003,
//! and the training loop written out.
//!
//! ```sh
//! cargo run --release --example mnist_mlp -- --data FOLDER
//! ```
//!
//! FOLDER holds the four files of MNIST. Without it the cache is searched, and then the bundled subset of
//! FashionMNIST is used instead.

use std::path::PathBuf;

use clap::Parser;
use wgrad::data::{DataLoader, FashionMnist, Mnist, Normalize, Splits};
use wgrad::nn::{Mode, Model, Sequential};
use wgrad::ops::NllLoss;
use wgrad::optim::Optimizer;
use wgrad::report::grids::{ImageSample, probability_bars};
use wgrad::train::predict::{Predictor, PredictorOptions};
use wgrad::{DType, Device, Graph, Program, Result, TensorType};

/// Trains 784-128-64-10 on MNIST.
#[derive(Parser)]
struct Args {
    /// Folder with MNIST's four files.
    #[arg(long)]
    data: Option<PathBuf>,
    #[arg(long, default_value_t = 5)]
    epochs: u64,
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    #[arg(long, default_value_t = 0.003)]
    lr: f64,
    #[arg(long, default_value_t = 0.0)]
    momentum: f64,
    /// Folder for the picture.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
    /// Takes 2,000 images and two epochs at a higher rate, to see it work.
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    let Splits { mut train, mut test, source } = load(&args)?;
    if args.quick {
        (args.epochs, args.lr) = (2, 0.03);
        train.limit(2000);
        test.limit(500);
    }
    println!("{} training and {} test images of {}, from {source}", train.len(), test.len(), train.name());
    let normalize = Normalize::Half.stats(&train)?;

    // The network, as a list of layers.
    let model = Sequential::new().flatten().linear(128).relu().linear(64).relu().linear(10).log_softmax();

    // A training step, as a graph: images and labels in, loss out, parameters updated.
    let optimizer = Optimizer::sgd_momentum(args.momentum);
    let mut graph = Graph::new("step");
    let images = graph.input("images", TensorType::f32([args.batch_size, 1, 28, 28]))?;
    let labels = graph.input("labels", TensorType::u32([args.batch_size]))?;
    let mode = Mode::Train { seed: 0, step: graph.scalar("step", DType::U32)? };
    let log_probs = model.logits(&mut graph, images, mode)?;
    let loss = graph.nll_loss(log_probs, labels, None, NllLoss::default())?;
    graph.output("loss", loss)?;
    optimizer.minimize(&mut graph, loss)?;

    // The loop.
    let mut program = Program::from_graphs(&device, &[&graph], 0)?;
    println!("{} parameters", program.num_parameters());
    let loader = DataLoader::new(train.len() as u32, args.batch_size as u32)?.shuffled(0).dropping_last()?;
    let mut step = 0;
    for epoch in 0..args.epochs {
        let (order, mut running_loss) = (loader.order(epoch), 0.0);
        for batch in loader.batches() {
            let (images, labels) = train.batch(&order[batch.range()], &normalize)?;
            program.write_all([("images", &images), ("labels", &labels)])?;
            program.run("step", &optimizer.step(step, args.lr))?;
            running_loss += program.output("step", "loss")?.item()?;
            step += 1;
        }
        println!("epoch {}: training loss {:.4}", epoch + 1, running_loss / f64::from(loader.num_batches()));
    }

    // How well it does on images it has not seen.
    let weights = program.model()?;
    let options = PredictorOptions {
        model: &model,
        weights: &weights,
        normalize: &normalize,
        shape: test.shape(),
        batch_size: 250,
    };
    let predictions = Predictor::new(&device, &options)?.predict(&test)?;
    let correct = predictions.iter().filter(|prediction| prediction.predicted == prediction.label).count();
    println!("test accuracy {:.2} % ({correct} of {})", 100.0 * correct as f64 / test.len() as f64, test.len());

    // One image, and what the network makes of it.
    println!("\nthe first test image, of class {}:", test.class_of(0));
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
    let path = args.out.join("mnist_mlp.png");
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
