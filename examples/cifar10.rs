//! Photographs in ten classes by LeNet-5 for three channels, as PyTorch's first tutorial has it: pixels from −1 to 1,
//! batches of 4, SGD at 0.001 with momentum 0.9, two epochs; the model is saved, loaded and asked. The loop is the
//! library's: a `Session` holds model and data on the device, `fit` trains, an `Observer` is told.
//!
//! ```sh
//! cargo run --release --example cifar10 -- --data FOLDER
//! ```
//!
//! FOLDER holds the six files of CIFAR-10's binary version.

use std::path::PathBuf;

use clap::Parser;
use wgrad::data::{Cifar10, Normalize};
use wgrad::nn::weights::{self, Metadata};
use wgrad::nn::{Classifier, LeNet5};
use wgrad::report::grids::sample_grid;
use wgrad::report::samples;
use wgrad::train::predict::{Predictor, PredictorOptions};
use wgrad::train::{EpochReport, FitOptions, Observer, Session, SessionOptions, fit};
use wgrad::{Device, Result};

/// Trains LeNet-5 on CIFAR-10.
#[derive(Parser)]
struct Args {
    /// Folder with CIFAR-10's six binary files.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where the model goes.
    #[arg(long, default_value = "cifar10.safetensors")]
    model: PathBuf,
    /// Folder for the picture.
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
    #[arg(long, default_value_t = 2)]
    epochs: u64,
    #[arg(long, default_value_t = 4)]
    batch_size: usize,
    #[arg(long, default_value_t = 0.001)]
    lr: f64,
    /// Takes 2,000 images, to see it work.
    #[arg(long)]
    quick: bool,
}

/// Prints what `fit` tells it.
struct Printer;

impl Observer for Printer {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        println!(
            "epoch {}: training loss {:.3}, test loss {:.3}, test accuracy {:.2} %, {:.0} images/s",
            report.epoch,
            report.train_loss,
            report.val_loss,
            100.0 * report.val_accuracy,
            report.images_per_second
        );
        Ok(())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    println!("on {device}");
    let mut data = wgrad::data::load(&Cifar10 {}.into(), args.data.as_deref())?;
    if args.quick {
        data.train.limit(2000);
        data.test.limit(500);
    }
    println!("{} training and {} test images, from {}", data.train.len(), data.test.len(), data.source);

    // Weights are chosen on images held out from training, so that the test images stay unseen until the end.
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
    fit(&mut session, &FitOptions::new(args.epochs, args.lr), &mut Printer)?;

    // Saved, and loaded again: a safetensors file with PyTorch's names, which PyTorch can read as well.
    let metadata = Metadata { network: Some(model.network.clone()), ..Metadata::default() };
    weights::save(&args.model, &session.model()?, &metadata.entry("dataset", "CIFAR-10"))?;
    println!("saved to {}", args.model.display());
    let loaded = weights::load(&args.model)?;

    // What the loaded model says of all test images, then of the first few.
    let options = PredictorOptions {
        model: &model,
        weights: &loaded,
        normalize: &normalize,
        shape: data.test.shape(),
        batch_size: 250,
    };
    let predictions = Predictor::new(&device, &options)?.predict(&data.test)?;
    let names = data.test.class_names();
    println!("\n{:>12} {:>8} {:>8}", "class", "images", "correct");
    for (class, name) in names.iter().enumerate() {
        let of_class: Vec<_> = predictions.iter().filter(|prediction| prediction.label == class).collect();
        let correct = of_class.iter().filter(|prediction| prediction.predicted == class).count();
        println!("{name:>12} {:>8} {:>6.1} %", of_class.len(), 100.0 * correct as f64 / of_class.len().max(1) as f64);
    }
    let correct = predictions.iter().filter(|prediction| prediction.predicted == prediction.label).count();
    println!("loaded model: {:.2} % of the test images", 100.0 * correct as f64 / predictions.len() as f64);
    println!("\n{:>6} {:>12} {:>12}", "image", "true", "predicted");
    for (index, prediction) in predictions.iter().take(8).enumerate() {
        let (label, predicted) = (names[prediction.label], names[prediction.predicted]);
        println!("{index:>6} {label:>12} {predicted:>12} ({:.0} %)", 100.0 * prediction.probability);
    }
    let path = args.out.join("cifar10.png");
    let shown = samples(&data.test, &predictions)?;
    sample_grid("CIFAR-10: some mistakes and some hits", &shown, 8).save(&path)?;
    println!("picture: {}", path.display());
    Ok(())
}
