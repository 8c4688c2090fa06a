//! LeNet-5 on FashionMNIST, a question at a time: what is in the data, how large is the network, what does a learning
//! rate of 0.1 do to it, when should training stop, what do L1 and L2 regularization, dropout, a plateau schedule and
//! batch normalization change, and which settings does a small search find. Every answer is a run folder like those of
//! `lenet train`; all of them end in one table and one page. The lessons before training are in `inspect.rs`, those with
//! training in `lessons.rs`.
//!
//! ```sh
//! cargo run --release --example lenet_lab
//! ```

mod inspect;
mod lessons;

use std::path::PathBuf;

use clap::Parser;
use wgrad::optim::Optimizer;
use wgrad::report::{Comparison, Page};
use wgrad::run::folder::read_history;
use wgrad::run::{Run, RunConfig, RunData};
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::{Outcome, PrintEpochs};
use wgrad::{Device, Result};

/// The FashionMNIST exercise, from inspecting the data to hyperparameter search.
#[derive(Parser)]
struct Args {
    /// Folder with FashionMNIST's four files [default: installed ones, or the bundled subset]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for the runs and the page.
    #[arg(long, default_value = "runs/lenet_lab")]
    out: PathBuf,
    /// Maximum number of epochs of a run
    #[arg(long, default_value_t = 100)]
    epochs: u64,
    /// Use only the first N training images
    #[arg(long, default_value_t = 10_000)]
    train_limit: usize,
    /// Use only the first N test images and the first N validation images
    #[arg(long, default_value_t = 2000)]
    test_limit: usize,
    /// The learning rate after the lesson about 0.1.
    #[arg(long, default_value_t = 0.01)]
    lr: f64,
}

/// What all lessons share: where they compute, what they learn from, where they leave it.
struct Lab {
    device: Device,
    data: RunData,
    out: PathBuf,
    page: Page,
    /// Names and folders of the runs so far.
    runs: Vec<(String, PathBuf)>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let base = RunConfig {
        data: args.data,
        epochs: args.epochs,
        train_limit: Some(args.train_limit),
        val_limit: Some(args.test_limit),
        test_limit: Some(args.test_limit),
        optimizer: Optimizer::sgd(0.9),
        lr: Some(0.1),
        early_stopping: None,
        ..RunConfig::default()
    };
    let device = Device::from_env()?;
    println!("on {device}");
    let (data, page) = (RunData::load(&base)?, Page::new("LeNet-5 on FashionMNIST"));
    let mut lab = Lab { device, data, out: args.out, page, runs: Vec::new() };

    lab.describe_the_data()?;
    lab.describe_the_network(&base)?;
    lab.train_at_a_tenth(&base, args.lr)?;
    // From here on a rate at which training is sure to work, so that lessons differ in what they are about.
    let calm = RunConfig { lr: Some(args.lr), ..base };
    lab.stop_in_time(&calm)?;
    let stopping = RunConfig { early_stopping: Some(patience_of_5()), ..calm };
    lab.regularize(&stopping)?;
    lab.slow_down(&stopping)?;
    lab.normalize_batches(&stopping)?;
    lab.search(&stopping)?;
    lab.compare_all()
}

/// Stops after 5 epochs in which the validation loss was not better by 0.005.
fn patience_of_5() -> EarlyStopOptions {
    EarlyStopOptions { min_delta: 0.005, patience: 5, ..EarlyStopOptions::default() }
}

impl Lab {
    /// Trains a run in a folder of its own and prints its epochs, with the learning rate of each.
    fn train(&mut self, name: &str, config: &RunConfig) -> Result<Outcome> {
        println!("\nrun \"{name}\"");
        let config = RunConfig { name: Some(name.to_owned()), ..config.clone() };
        let run = Run::create(config, &self.device, &self.data, &self.out)?;
        let folder = run.folder().to_owned();
        let outcome = run.train(&mut PrintEpochs::new())?.outcome;
        let (epochs, best, accuracy) = (outcome.epochs, outcome.best_epoch, 100.0 * outcome.test_accuracy);
        println!("{name}: {epochs} epochs, the best {best}, test accuracy {accuracy:.2} %");
        self.runs.push((name.to_owned(), folder));
        Ok(outcome)
    }

    /// The folder of a run.
    fn folder(&self, name: &str) -> &PathBuf {
        let (_, folder) = self.runs.iter().find(|(run, _)| run == name).expect("lessons name runs that were trained");
        folder
    }

    /// Some of the runs side by side: prints their table, and puts it and their curves on the page.
    fn compare(&mut self, names: &[&str], title: &str) -> Result<Comparison> {
        let runs = names.iter().map(|name| read_history(self.folder(name)));
        let comparison = Comparison::of(runs.collect::<Result<_>>()?)?;
        print!("\n{}", comparison.table());
        self.page.table(&metrics_only(&comparison));
        let caption = "Training losses are with an L1 penalty, if there is one; validation losses never are.";
        self.page.figure(title, caption, comparison.curves());
        Ok(comparison)
    }

    fn compare_all(&mut self) -> Result<()> {
        self.lesson("9. All runs");
        let comparison =
            Comparison::of(self.runs.iter().map(|(_, folder)| read_history(folder)).collect::<Result<_>>()?)?;
        println!("{}", comparison.table());
        self.page.table(&metrics_only(&comparison));
        let page = self.out.join("lenet_lab.html");
        self.page.save(&page)?;
        println!("page: {}", page.display());
        Ok(())
    }

    fn lesson(&mut self, heading: &str) {
        println!("\n{heading}");
        self.page.heading(heading);
    }

    fn say(&mut self, text: &str) {
        println!("\n{text}");
        self.page.text(text);
    }

    /// A table on the terminal and on the page.
    fn table(&mut self, rows: &[Vec<String>]) {
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        println!();
        for row in rows {
            let first = format!("{:<width$}", row[0], width = widths[0]);
            let rest = row.iter().zip(&widths).skip(1).map(|(cell, &width)| format!("  {cell:>width$}"));
            println!("{first}{}", rest.collect::<String>());
        }
        self.page.table(rows);
    }
}

/// Runs are named by what they are about, so on the page their metrics are enough.
fn metrics_only(comparison: &Comparison) -> Vec<Vec<String>> {
    comparison.rows().into_iter().map(|row| [&row[..1], &row[row.len() - 7..]].concat()).collect()
}
