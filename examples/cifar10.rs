//! Photographs in ten classes by LeNet-5 for three channels, as PyTorch's first tutorial has it: pixels from −1 to 1,
//! batches of 4, SGD at 0.001 with momentum 0.9, two epochs; the model is saved, loaded and asked. The loop is the
//! library's: a `Session` holds model and data on the device, `fit` trains, an observer prints.
//!
//! ```sh
//! cargo run --release --example cifar10 -- --data FOLDER
//! ```
//!
//! FOLDER holds the six files of CIFAR-10's binary version.

use std::path::PathBuf;

use clap::Parser;
use wgrad::data::{Cifar10, DataLoader, Dataset, Normalize};
use wgrad::nn::weights::{self, Metadata};
use wgrad::nn::{Classifier, LeNet5};
use wgrad::report::grids::{ImageSample, sample_grid};
use wgrad::report::samples;
use wgrad::train::predict::{Prediction, Predictor, PredictorOptions};
use wgrad::train::{FitOptions, PrintEpochs, Session, SessionOptions, fit};
use wgrad::{Device, Result};

/// Trains LeNet-5 on CIFAR-10.
#[derive(Parser)]
struct Args {
    /// Folder with CIFAR-10's six binary files.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for the model and the pictures.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
    #[arg(long, default_value_t = 2)]
    epochs: u64,
    #[arg(long, default_value_t = 4)]
    batch_size: usize,
    #[arg(long, default_value_t = 0.001)]
    lr: f64,
    /// Use only the first N training images
    #[arg(long)]
    train_limit: Option<usize>,
    /// Use only the first N test images
    #[arg(long)]
    test_limit: Option<usize>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    let mut data = wgrad::data::load(&Cifar10 {}.into(), args.data.as_deref())?;
    data.train.limit(args.train_limit.unwrap_or(usize::MAX));
    data.test.limit(args.test_limit.unwrap_or(usize::MAX));
    println!("{} training and {} test images, from {}", data.train.len(), data.test.len(), data.source);

    // What the network will see: the first batch of a random order.
    let order = DataLoader::new(data.train.len() as u32, args.batch_size as u32)?.shuffled(0).order(0);
    let batch = data.train.subset(&order[..args.batch_size.min(order.len())])?;
    println!("a batch:     {}", names(&batch, batch.labels().iter().map(|&label| usize::from(label))));
    sample_grid("A batch of training images", &plain(&batch), 4).save(&args.out.join("cifar10_batch.png"))?;

    // The best epoch is chosen by images held out from training, so that the test images stay unseen until the end.
    let (train, validation) = data.train.hold_out(0.1, 0)?;
    let model = Classifier::new(LeNet5::default(), 10);
    let normalize = Normalize::Half.stats(&data.train)?;
    let options = SessionOptions {
        batch_size: args.batch_size,
        eval_batch_size: 250,
        normalize: normalize.clone(),
        ..SessionOptions::new(&model, &train, &validation, &data.test)?
    };
    let mut session = Session::new(&device, &options)?;
    println!("{} parameters", session.program().num_parameters());
    let outcome = fit(&mut session, &FitOptions::new(args.epochs, args.lr), &mut PrintEpochs::new())?;
    println!("trained model: {:.2} % of the test images", 100.0 * outcome.test_accuracy);

    // Saved, and loaded again: a safetensors file with PyTorch's names, which PyTorch can read as well.
    let file = args.out.join("cifar10.safetensors");
    let metadata = Metadata { network: Some(model.network.clone()), ..Metadata::default() };
    weights::save(&file, &session.model()?, &metadata.entry("dataset", "CIFAR-10"))?;
    println!("saved to {}", file.display());
    let loaded = weights::load(&file)?;
    let options = PredictorOptions {
        model: &model,
        weights: &loaded,
        normalize: &normalize,
        shape: data.test.shape(),
        batch_size: 250,
    };
    let predictions = Predictor::new(&device, &options)?.predict(&data.test)?;
    let correct = predictions.iter().filter(|prediction| prediction.predicted == prediction.label).count();
    println!("loaded model:  {:.2} % of the test images", 100.0 * correct as f64 / predictions.len() as f64);

    show(&data.test, &predictions, &args)
}

/// What the model says of a batch of test images, how well it does on each class, and where it is wrong.
fn show(test: &Dataset, predictions: &[Prediction], args: &Args) -> Result<()> {
    let first = &predictions[..args.batch_size.min(predictions.len())];
    println!("\na batch of test images");
    println!("ground truth:{}", names(test, first.iter().map(|prediction| prediction.label)));
    println!("predicted:   {}", names(test, first.iter().map(|prediction| prediction.predicted)));
    let batch = test.subset(&(0..first.len() as u32).collect::<Vec<_>>())?;
    let mut shown = plain(&batch);
    for (sample, prediction) in shown.iter_mut().zip(first) {
        sample.predicted = Some((test.class_names()[prediction.predicted].to_owned(), prediction.probability));
    }
    sample_grid("A batch of test images, predicted", &shown, 4).save(&args.out.join("cifar10_predicted.png"))?;

    println!("\n{:>12} {:>8} {:>8}", "class", "images", "correct");
    for (class, name) in test.class_names().iter().enumerate() {
        let of_class: Vec<_> = predictions.iter().filter(|prediction| prediction.label == class).collect();
        let correct = of_class.iter().filter(|prediction| prediction.predicted == class).count();
        println!("{name:>12} {:>8} {:>6.1} %", of_class.len(), 100.0 * correct as f64 / of_class.len().max(1) as f64);
    }
    let path = args.out.join("cifar10.png");
    sample_grid("CIFAR-10: some mistakes and some hits", &samples(test, predictions)?, 8).save(&path)?;
    println!("pictures: {}, cifar10_batch.png and cifar10_predicted.png beside it", path.display());
    Ok(())
}

/// Names of classes in columns.
fn names(data: &Dataset, classes: impl Iterator<Item = usize>) -> String {
    classes.map(|class| format!(" {:>10}", data.class_names()[class])).collect()
}

/// Images with their true classes.
fn plain(data: &Dataset) -> Vec<ImageSample> {
    let sample = |(index, pixels): (usize, &[u8])| {
        let (pixels, label) = (pixels.to_vec(), data.class_of(index).to_owned());
        ImageSample { pixels, shape: data.shape(), label, predicted: None }
    };
    data.images().enumerate().map(sample).collect()
}
