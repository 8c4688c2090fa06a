//! A classifier of your own images: a folder with a subfolder of PNG or JPEG files for each class is all it needs.
//!
//! ```sh
//! cargo run --release --example own_images -- --data DIR --size 32 --channels 3
//! ```
//!
//! Without a folder it makes one of bundled FashionMNIST images: shirts, trousers and boots as PNG files.

use std::path::{Path, PathBuf};

use clap::Parser;
use image::GrayImage;
use wgrad::data::{Choice, Dataset, ImageFolder, Normalize, Photo, PhotoOptions, Splits, bundled};
use wgrad::nn::{Classifier, LeNet5};
use wgrad::train::predict::{Predictor, PredictorOptions};
use wgrad::train::{FitOptions, PrintEpochs, Session, SessionOptions, fit};
use wgrad::{Device, Error, Result};

/// Trains LeNet-5 on a folder of images.
#[derive(Parser)]
struct Args {
    /// Folder with a subfolder of images for each class.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where sample images are put if --data is not given
    #[arg(long, default_value = "runs/examples")]
    out: PathBuf,
    /// Height and width that images are scaled to.
    #[arg(long, default_value_t = 28)]
    size: usize,
    /// 1 for grey, 3 for colour.
    #[arg(long, default_value_t = 1)]
    channels: usize,
    #[arg(long, default_value_t = 8)]
    epochs: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::from_env()?;
    let folder = match args.data {
        Some(folder) => folder,
        None => make_folder(&args.out.join("own_images"))?,
    };

    // Every image is scaled and cropped to one size. A share of the files, chosen by their names, is for testing.
    let images = ImageFolder { size: args.size, channels: args.channels, ..ImageFolder::default() };
    let Splits { train, test, source } = wgrad::data::load(&images.into(), Some(&folder))?;
    println!("{} training and {} test images from {source}, on {device}", train.len(), test.len());
    println!("classes: {}", train.class_names().join(", "));

    // Another share of the training images says when the network is best. Mean and standard deviation are those of the
    // training images, since nobody has published any.
    let normalize = Normalize::Dataset.stats(&train)?;
    let (train, validation) = train.hold_out(0.1, 0)?;
    let model = Classifier::new(LeNet5::default(), train.num_classes());
    let options = SessionOptions {
        validation: Some(&validation),
        batch_size: 16,
        ..SessionOptions::validated_on_test(&model, &train, &test, normalize.clone())
    };
    let mut session = Session::new(&device, &options)?;
    let outcome = fit(&mut session, &FitOptions::new(args.epochs, 0.02), &mut PrintEpochs::new())?;
    println!("test accuracy {:.1} %", 100.0 * outcome.test_accuracy);

    // The trained network, asked about one file of each class, as it would be about any other.
    let weights = session.model()?;
    let shape = test.shape();
    let options = PredictorOptions { model: &model, weights: &weights, normalize: &normalize, shape, batch_size: 1 };
    let mut predictor = Predictor::new(&device, &options)?;
    for class in test.class_names() {
        let Some(file) = first_file(&folder.join(class))? else { continue };
        let pixels = Photo::read(&file)?.fitted(shape, PhotoOptions::default());
        for prediction in predictor.predict(&test.with_unlabelled(pixels)?)? {
            let name = test.class_names()[prediction.predicted];
            println!("{}: {name}, {:.1} %", file.display(), 100.0 * prediction.probability);
        }
    }
    Ok(())
}

/// Three classes of FashionMNIST, 120 images each, as a person would have them: files in folders.
fn make_folder(folder: &Path) -> Result<PathBuf> {
    let data = bundled::fashion_mnist()?.train;
    for (class, name) in [(1, "trousers"), (6, "shirts"), (9, "boots")] {
        let chosen = data.choose(&Choice { class: Some(class), count: 120, ..Choice::default() })?;
        let class_folder = folder.join(name);
        write_images(&class_folder, &chosen).map_err(|source| Error::Io {
            action: "write",
            path: class_folder,
            source,
        })?;
    }
    Ok(folder.to_owned())
}

fn write_images(folder: &Path, images: &Dataset) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (index, pixels) in images.images().enumerate() {
        let image = GrayImage::from_raw(28, 28, pixels.to_vec()).expect("FashionMNIST's images are 28×28");
        image.save(folder.join(format!("{index:03}.png"))).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// The first file of a folder by name, if there is the folder.
fn first_file(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let io = |source| Error::Io { action: "read", path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(io)?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).min())
}
