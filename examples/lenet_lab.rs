//! LeNet-5 on FashionMNIST, a question at a time: what is in the data, how large is the network, what does a learning
//! rate of 0.1 do to it, when should training stop, what do L1 and L2 regularization, dropout, a plateau schedule and
//! batch normalisation change, and which settings does a small search find. Every answer is a run folder like those of
//! `lenet train`; all of them end in one table and one page.
//!
//! ```sh
//! cargo run --release --example lenet_lab
//! ```

use std::path::{Path, PathBuf};

use clap::Parser;
use wgrad::nn::{LeNet5, Summary};
use wgrad::optim::{GradientOptions, Optimizer, Sgd};
use wgrad::report::grids::{ImageSample, sample_grid};
use wgrad::report::{Comparison, Page, Picture, curves};
use wgrad::run::folder::read_history;
use wgrad::run::{Run, RunConfig, RunData};
use wgrad::schedule::{Plateau, Schedule};
use wgrad::sweep::{Ranking, RunOptions, Sweep, SweepConfig, SweepFolder, default_jobs, write_results};
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::{DiagnosticKind, EpochReport, History, Observer, Outcome};
use wgrad::{Device, Result};

/// The FashionMNIST exercise, from inspecting the data to hyperparameter search.
#[derive(Parser)]
struct Args {
    /// Folder with FashionMNIST's four files; without one the bundled part or what is installed.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for the runs and the page.
    #[arg(long, default_value = "runs/lenet_lab")]
    out: PathBuf,
    /// The most epochs of a run.
    #[arg(long, default_value_t = 100)]
    epochs: u64,
    /// Takes 9,000 training images, of which the bundled part has as many.
    #[arg(long, default_value_t = 9000)]
    images: usize,
    /// Takes 600 images and 2 epochs, to see it work.
    #[arg(long)]
    quick: bool,
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
        epochs: if args.quick { 2 } else { args.epochs },
        train_limit: Some(if args.quick { 600 } else { args.images }),
        optimizer: Optimizer::sgd_momentum(0.9),
        lr: Some(0.1),
        early_stopping: None,
        ..RunConfig::default()
    };
    let device = Device::from_env()?;
    println!("on {device}");
    let (data, page) = (RunData::load(&base)?, Page::new("LeNet-5 on FashionMNIST"));
    let mut lab = Lab { device, data, out: args.out, page, runs: Vec::new() };

    lab.look_at_the_data()?;
    lab.count_parameters(&base)?;
    lab.train_at_a_tenth(&base)?;

    // From here on a rate at which training is sure to work, so that lessons differ in what they are about.
    let calm = RunConfig { lr: Some(0.01), ..base };
    lab.stop_in_time(&calm)?;
    let stopping = RunConfig { early_stopping: Some(patience_of_5()), ..calm };
    lab.hold_back(&stopping)?;
    lab.slow_down(&stopping)?;
    lab.normalize_batches(&stopping)?;
    lab.search(&stopping)?;
    lab.compare()
}

/// Stops after 5 epochs in which the validation loss was not better by 0.005.
fn patience_of_5() -> EarlyStopOptions {
    EarlyStopOptions { min_delta: 0.005, patience: 5, ..EarlyStopOptions::default() }
}

impl Lab {
    fn look_at_the_data(&mut self) -> Result<()> {
        self.lesson("1. What is in the data?");
        let train = &self.data.train;
        let of_class = |class: usize| train.labels().iter().position(|&label| usize::from(label) == class);
        let mut samples = Vec::new();
        for (class, name) in train.class_names().iter().enumerate() {
            let count = train.labels().iter().filter(|&&label| usize::from(label) == class).count();
            println!("{class}  {name:<12} {count:>6} images");
            if let Some(index) = of_class(class) {
                let pixels = train.image(index).to_vec();
                samples.push(ImageSample { pixels, shape: train.shape(), label: (*name).to_owned(), predicted: None });
            }
        }
        self.say(&format!(
            "{} training images of ten kinds of clothing, 28 by 28 pixels, from {}; {} more decide when to stop, and {} \
             judge the result.",
            train.len(),
            self.data.source,
            self.data.validation.as_ref().map_or(0, |data| data.len()),
            self.data.test.len()
        ));
        let picture = sample_grid("One image of each class", &samples, 5);
        self.page.figure("One image of each class", "The first of each in the training images.", picture);
        Ok(())
    }

    fn count_parameters(&mut self, config: &RunConfig) -> Result<()> {
        self.lesson("2. How large is the network?");
        let summary = Summary::of(&config.model()?, self.data.train.shape(), config.batch_size)?;
        let mut rows = vec![["layer", "output", "parameters"].map(str::to_owned).to_vec()];
        for layer in &summary.layers {
            let name = if layer.name.is_empty() { layer.ops.join(", ") } else { layer.name.clone() };
            rows.push(vec![name, format!("{:?}", layer.output), layer.num_parameters.to_string()]);
        }
        rows.iter().for_each(|row| println!("{:<12} {:>20} {:>11}", row[0], row[1], row[2]));
        self.page.table(&rows);
        if let Some(largest) = summary.layers.iter().max_by_key(|layer| layer.num_parameters) {
            let share = 100.0 * largest.num_parameters as f64 / summary.num_parameters as f64;
            self.say(&format!(
                "{} numbers are learned, {share:.0} % of them in {}; the convolutions, which do most of the seeing, have few, \
                 since each is used at every place of the image.",
                summary.num_parameters, largest.name
            ));
        }
        Ok(())
    }

    /// A step so long that it overshoots.
    fn train_at_a_tenth(&mut self, base: &RunConfig) -> Result<()> {
        self.lesson("3. What does a learning rate of 0.1 do?");
        self.train("lr 0.1 seed 0", base)?;
        for seed in [1, 2] {
            self.train(&format!("lr 0.1 seed {seed}"), &RunConfig { seed, ..base.clone() })?;
        }
        self.train("lr 0.01", &RunConfig { lr: Some(0.01), ..base.clone() })?;
        let runs = self.comparison(&["lr 0.1 seed 0", "lr 0.1 seed 1", "lr 0.1 seed 2", "lr 0.01"])?;
        let (tenth, hundredth) = runs.runs().split_at(3);
        let best = |runs: &[History]| runs.iter().map(|run| run.best().val_accuracy).fold(0.0, f64::max);
        let num_dead = tenth.iter().filter(|run| is_dead(run)).count();
        self.say(&format!(
            "Of three seeds at 0.1, {num_dead} ended with a dead network. The best epoch of all three classified {:.1} % of \
             the validation images correctly; at 0.01 it was {:.1} %.",
            100.0 * best(tenth),
            100.0 * best(hundredth)
        ));
        self.say(
            "With momentum 0.9 a step of 0.1 moves, in the long run, ten times as far as its gradient says: a rate of 1 \
             without momentum. Where the loss curves faster than two over that rate, steps overshoot the valley by more \
             than they gain, and the loss jumps. A jump can push every unit of a layer to where its ReLU gives 0 for every \
             image. Then no gradient comes back, the scores are the same for all images, and the loss stays at ln 10 = \
             2.303 for good: the network is dead. Whether that happens is a matter of the seed; where it does not, the \
             noise of such steps still costs several points of accuracy against a rate of 0.01. PyTorch does the same at \
             these settings.",
        );
        let picture = runs.curves();
        self.page.figure("Three seeds at 0.1, and 0.01", "A line at 2.303 is a network that has died.", picture);
        if let Some(picture) = curves::diagnostic_curves(&tenth[0]) {
            let caption = "Gradients, changes and dead units of the first run at 0.1.";
            self.page.figure("Inside the network at 0.1", caption, picture);
        }
        Ok(())
    }

    fn stop_in_time(&mut self, calm: &RunConfig) -> Result<()> {
        self.lesson("4. When should training stop?");
        let stopping = RunConfig { early_stopping: Some(patience_of_5()), ..calm.clone() };
        let stopped = self.train("early stopping", &stopping)?;
        let comparison = self.comparison(&["lr 0.01", "early stopping"])?;
        let all = &comparison.runs()[0];
        self.say(&format!(
            "The training loss falls to the end, the validation loss has its lowest point in epoch {}: what is learned \
             after it is the training images by heart. Stopping after 5 epochs without an improvement of 0.005 took {} \
             epochs instead of {}, and the weights of the best epoch come back either way.",
            all.best().epoch,
            stopped.epochs,
            all.epochs.len()
        ));
        let caption = "Validation decides, training only follows.";
        self.page.figure("With and without early stopping", caption, comparison.curves());
        Ok(())
    }

    fn hold_back(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("5. What do penalties and dropout change?");
        let sparse = GradientOptions { l1: 0.001, ..GradientOptions::default() };
        // PyTorch's weight_decay: the usual form of an L2 penalty of half of it times the sum of squares.
        let decaying = Optimizer::from(Sgd { momentum: 0.9, weight_decay: 0.01, ..Sgd::default() });
        self.train("L2 0.01", &RunConfig { optimizer: decaying, ..stopping.clone() })?;
        self.train("L1 0.001", &RunConfig { gradients: sparse, ..stopping.clone() })?;
        let dropout = LeNet5 { dropout: 0.5, ..LeNet5::default() };
        self.train("dropout 0.5", &RunConfig { network: dropout.into(), ..stopping.clone() })?;
        self.say(
            "All three keep the network from learning images by heart: the gap between training and validation closes. \
             L2 shrinks large weights most, L1 sends small ones to 0, dropout makes every unit do without the others. On \
             few epochs that costs accuracy too: a network of 44,426 weights has little to hold back.",
        );
        let picture = self.comparison(&["early stopping", "L2 0.01", "L1 0.001", "dropout 0.5"])?.curves();
        let caption = "Training losses are with the L1 penalty, validation losses without.";
        self.page.figure("Early stopping alone, and with each", caption, picture);
        Ok(())
    }

    fn slow_down(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("6. What does a plateau schedule change?");
        let schedule = Schedule::plateau(Plateau { patience: 2, ..Plateau::default() })?;
        let early_stopping = Some(EarlyStopOptions { patience: 10, ..EarlyStopOptions::default() });
        self.train("plateau", &RunConfig { schedule, early_stopping, ..stopping.clone() })?;
        self.say(
            "Whenever the validation loss has not fallen for 2 epochs, the next one cuts the rate to a tenth: smaller steps \
             settle deeper in the valley, and what comes after hardly moves. Early stopping has to be more patient than the \
             plateau, or the run is over before the first cut shows: here it waits for 10 epochs, and for any improvement.",
        );
        let picture = self.comparison(&["lr 0.01", "plateau"])?.curves();
        self.page.figure("A constant rate, and a plateau schedule", "The same until the first cut.", picture);
        Ok(())
    }

    fn normalize_batches(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("7. What does batch normalisation change?");
        let batch_norm = LeNet5 { batch_norm: true, ..LeNet5::default() };
        self.train("batch norm", &RunConfig { network: batch_norm.into(), ..stopping.clone() })?;
        self.say(
            "Each channel of the first convolution gets mean 0 and deviation 1 over a batch, then a scale and a shift that \
             are learned, so the layers behind it see the same range whatever the first one does.",
        );
        let (_, run) = self.runs.last().expect("it was trained above");
        let features = Picture::open(&run.join("pictures/features.png"))?;
        let caption = "Values of each channel over a batch of test images, with mean ± standard deviation.";
        self.page.figure("Features before and after it", caption, features);
        let picture = self.comparison(&["early stopping", "batch norm"])?.curves();
        self.page.figure("With and without batch normalisation", "Both with early stopping.", picture);
        Ok(())
    }

    fn search(&mut self, stopping: &RunConfig) -> Result<()> {
        self.lesson("8. Which settings does a search find?");
        let mut config = SweepConfig::parse(SEARCH, Path::new("the lab's search"))?;
        let shared = RunConfig { epochs: stopping.epochs.min(9), early_stopping: None, lr: None, ..stopping.clone() };
        config.set_base(&shared)?;
        let sweep = Sweep::new(config)?;
        let mut folder = SweepFolder::create(&self.out, "sweep", sweep)?;
        let options = RunOptions { device: &self.device, jobs: default_jobs(&self.device), stop: &|| false };
        folder.run(options, &mut ())?;
        let written = write_results(&folder)?;
        let ranking = Ranking::of(folder.sweep(), folder.records());
        println!("{}", ranking.table());
        println!("sweep: {}", written.last().unwrap_or(&self.out).display());
        self.page.table(&[vec![ranking.head()], ranking.rows()].concat());
        self.say(
            "Nine random settings start with one epoch each. Only the better third goes on, for three times as many, and of \
             those the better third again: most of the time goes to settings that deserve it.",
        );
        let picture = ranking.picture("Nine trials")?;
        self.page.figure("Settings and score", "A line is a trial; the darker the better.", picture);
        if let Some(best) = ranking.best() {
            self.runs.push(("best of the search".to_owned(), folder.path().join(&best.folder)));
        }
        Ok(())
    }

    /// Trains a run in a folder of its own and shows its epochs.
    fn train(&mut self, name: &str, config: &RunConfig) -> Result<Outcome> {
        println!("\n{name}");
        let config = RunConfig { name: Some(name.to_owned()), ..config.clone() };
        let run = Run::create(config, &self.device, &self.data, &self.out)?;
        let folder = run.folder().to_owned();
        let outcome = run.train(&mut Printer)?.outcome;
        let (epochs, best, accuracy) = (outcome.epochs, outcome.best_epoch, 100.0 * outcome.test_accuracy);
        println!("{name}: {epochs} epochs, the best {best}, test accuracy {accuracy:.2} %");
        self.runs.push((name.to_owned(), folder));
        Ok(outcome)
    }

    /// Some of the runs side by side.
    fn comparison(&self, names: &[&str]) -> Result<Comparison> {
        let runs = self.runs.iter().filter(|(name, _)| names.contains(&name.as_str()));
        Comparison::of(runs.map(|(_, folder)| read_history(folder)).collect::<Result<_>>()?)
    }

    fn compare(&mut self) -> Result<()> {
        self.lesson("9. All runs");
        let comparison =
            Comparison::of(self.runs.iter().map(|(_, folder)| read_history(folder)).collect::<Result<_>>()?)?;
        println!("{}", comparison.table());
        // Runs are named by what they are about; on the page their metrics are enough.
        let scores = |row: Vec<String>| [&row[..1], &row[row.len() - 7..]].concat();
        self.page.table(&comparison.rows().into_iter().map(scores).collect::<Vec<_>>());
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
}

/// Whether a layer was 0 for every inspected image when the run ended.
fn is_dead(run: &History) -> bool {
    let last = run.diagnostics.last();
    last.is_some_and(|last| last.report.of_kind(DiagnosticKind::Unit).any(|row| row.summary.zeros == 1.0))
}

const SEARCH: &str = r#"
[search]
method = "asha"
num_trials = 9
min_epochs = 1
metric = "val_accuracy"

[space]
lr = { min = 0.003, max = 0.1, log = true }
network.dropout = { choices = [0.0, 0.2] }
network.batch_norm = { choices = [false, true] }
"#;

/// Prints every fifth and each best epoch.
struct Printer;

impl Observer for Printer {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let EpochReport { epoch, train_loss, val_loss, val_accuracy, is_best, .. } = report;
        if *is_best || epoch % 5 == 0 {
            let best = if *is_best { "  best" } else { "" };
            let accuracy = 100.0 * val_accuracy;
            println!("  epoch {epoch:>3}  training {train_loss:.4}  validation {val_loss:.4}, {accuracy:.2} %{best}");
        }
        Ok(())
    }

    fn warn(&mut self, message: &str) {
        println!("  {message}");
    }
}
