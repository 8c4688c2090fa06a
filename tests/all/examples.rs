//! The course exercises: each example is built and run as a learner runs it, and what it prints is checked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;
use wgrad::data::cifar::{self, Layout};
use wgrad::rng::Stream;

/// The devices for the small examples: the CPU, and the best adapter, a software one if there is no other.
const DEVICES: [&str; 2] = ["cpu", "gpu"];

/// The folder of the built examples. Building them here keeps them from being older than the library under test, and
/// costs nothing where `cargo test` has just built them.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        // target/<profile>/deps/all-….
        let profile = test.parent().and_then(Path::parent).expect("a test lies two folders below its profile's");
        let target = profile.parent().expect("a profile lies in the target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--examples", "--target-dir"]).arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.output().expect("cargo starts");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile.join("examples")
    })
}

/// Runs an example on a device, in a folder of its own, and gives what it printed and the folder.
fn run_on(device: &str, name: &str, args: &[&str]) -> (String, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = folder().join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let out = Command::new(path)
        .args(args)
        .current_dir(dir.path())
        .env("WGRAD_DEVICE", device)
        .env("XDG_CACHE_HOME", dir.path())
        .output()
        .expect("the example starts");
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{name} failed:\n{stdout}\n{}", String::from_utf8_lossy(&out.stderr));
    (stdout, dir)
}

fn run(name: &str, args: &[&str]) -> (String, TempDir) {
    run_on("cpu", name, args)
}

/// The numbers of a line, in order.
fn numbers(line: &str) -> Vec<f64> {
    line.split(|c: char| !(c.is_ascii_digit() || "+-.e".contains(c))).filter_map(|word| word.parse().ok()).collect()
}

/// The numbers of the first line that starts with this, blanks before it aside.
fn numbers_of(text: &str, start: &str) -> Vec<f64> {
    let line = text.lines().find(|line| line.trim_start().starts_with(start));
    numbers(&line.unwrap_or_else(|| panic!("no line starts with \"{start}\":\n{text}")).trim_start()[start.len()..])
}

/// The numbers of all lines between one that starts with `heading` and the next empty one.
fn table(text: &str, heading: &str) -> Vec<Vec<f64>> {
    let rows = text.lines().skip_while(|line| !line.trim_start().starts_with(heading)).skip(1);
    let rows: Vec<_> = rows.take_while(|line| !line.is_empty()).map(numbers).filter(|row| !row.is_empty()).collect();
    assert!(!rows.is_empty(), "no table under \"{heading}\":\n{text}");
    rows
}

/// That there is a picture, and that it is not all of one colour.
fn assert_picture(dir: &TempDir, name: &str) {
    let picture = image::open(dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}")).to_rgb8();
    let first = *picture.get_pixel(0, 0);
    let drawn = picture.pixels().filter(|pixel| **pixel != first).count();
    assert!(drawn * 100 > picture.pixels().len(), "{name} is almost empty: {drawn} pixels");
}

fn assert_close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance, "{what}: {got}, expected {want}");
}

#[test]
fn autograd_prints_the_gradients_of_the_textbook() {
    for device in DEVICES {
        let (text, _dir) = run_on(device, "autograd", &[]);
        assert_eq!(numbers_of(&text, "3x + 5:")[..2], [5.0, 3.0]);
        let power = numbers_of(&text, "2^x:");
        assert_eq!(power[0], 1.0);
        assert_close(power[1], std::f64::consts::LN_2, 2e-6, "derivative of 2^x");
        assert!(text.contains("gradient [0.5, -1.0, 1.5, 0.25]"), "{text}");
        let (by_hand, by_autodiff) = (numbers_of(&text, "by hand, -2Xᵀy:"), numbers_of(&text, "by autodiff:"));
        assert_eq!(by_hand.len(), 2);
        for (a, b) in by_hand.iter().zip(by_autodiff) {
            assert!(a.abs() > 0.1, "not a gradient of 0: {text}");
            assert_close(b, *a, 5e-6, "least squares");
        }
        assert!(text.contains("does a gradient flow to it? false"), "{text}");
        assert!(text.contains("so asking for its derivative is an error"), "{text}");
        assert_eq!(numbers_of(&text, "x·detach(x) at 2:"), [4.0, 2.0]);
        assert_eq!(numbers_of(&text, "pass 3: this gradient"), [3.0, 9.0]);
        let batch = numbers_of(&text, "batch of 8: gradient");
        assert_eq!(batch[0], batch[2]);
    }
}

/// What the exercise's solution in PyTorch prints, in f32. What a sum of 150 squares rounds to depends on its order, so
/// the last of the printed digits may differ.
#[test]
fn linear_regression_descends_as_pytorch_does() {
    let first = [
        13.683131, 3.861369, 1.715874, 1.122591, 0.914463, 0.823388, 0.776098, 0.748628, 0.731555, 0.720503, 0.713164,
        0.708208, 0.704822, 0.702489, 0.700870,
    ];
    let second = [
        17.947260, 17.655855, 17.370190, 17.090128, 16.815559, 16.546364, 16.282433, 16.023636, 15.769881, 15.521051,
        15.277046,
    ];
    // The losses of every hundredth iteration, how it ends, and the first and the last element of w and of b. The course
    // prints no parameters for the first descent; they are PyTorch 2.15's.
    let golden: [(&[f64], &str, [f64; 4]); 3] = [
        (&first, "converged, n = 1475", [0.2516, -0.2933, -0.2492, -0.1515]),
        (&second, "gave up at iteration 1000 without converging", [1.8660, -1.3774, -1.1520, 0.3732]),
        (&second[..1], "converged, n = 30", [0.3148, -0.2914, -0.2921, -0.1327]),
    ];
    for device in DEVICES {
        let (text, dir) = run_on(device, "linear_regression", &[]);
        assert_eq!(text.matches("passed").count(), 2, "both gradients are checked:\n{text}");
        let descents: Vec<&str> = text.split("\ndescent ").skip(1).collect();
        assert_eq!(descents.len(), 3);
        for (descent, (losses, end, parameters)) in descents.iter().zip(golden) {
            let printed: Vec<f64> = descent
                .lines()
                .filter_map(|line| line.strip_prefix("iteration "))
                .map(|line| numbers(line)[1])
                .collect();
            assert_eq!(printed.len(), losses.len(), "every hundredth loss:\n{descent}");
            for (got, want) in printed.iter().zip(losses) {
                // One of the last printed digit, and 4 roundings of f32.
                assert_close(*got, *want, 1.01e-6 + 4.0 * 1.2e-7 * want, "loss");
            }
            assert!(descent.contains(end), "{device}: expected {end}:\n{descent}");
            let (_, tensors) = descent.split_once("final w:").expect("the final w");
            let (w, b) = tensors.split_once("final b:").expect("the final b");
            let (w, b) = (numbers(w), numbers(b.lines().nth(1).expect("a line")));
            assert_eq!((w.len(), b.len()), (39, 3), "{descent}");
            for (got, want) in [w[0], w[38], b[0], b[2]].into_iter().zip(parameters) {
                assert_close(got, want, 1.01e-4, "a parameter to four digits");
            }
        }
        assert_picture(&dir, "runs/examples/linear_regression.png");
    }
    let (text, _dir) = run("linear_regression", &["--step-size", "0.1"]);
    assert_eq!(text.matches("\ndescent ").count(), 1, "{text}");
}

#[test]
fn mini_batches_answers_the_questions_of_the_course() {
    let (text, dir) = run("mini_batches", &[]);
    assert!(text.contains("the same bits: yes"), "{text}");
    let trained = table(&text, "epochs  batch");
    let settings: Vec<&[f64]> = trained.iter().take(4).map(|row| &row[..4]).collect();
    assert_eq!(
        settings,
        [[15.0, 100.0, 0.1, 15.0], [7.0, 25.0, 0.05, 28.0], [7.0, 5.0, 0.01, 140.0], [15.0, 1.0, 0.001, 1500.0]]
    );
    // Every setting of the course comes near the least loss, which noise of variance 4 leaves.
    assert!(trained.iter().take(4).all(|row| (3.5..5.5).contains(&row[6])), "{text}");
    let whole = numbers_of(&text, "all points: y =");
    for number in 1..=4 {
        let own = numbers_of(&text, &format!("batch {number}: y ="));
        assert!(
            own != whole && (own[0] - whole[0]).abs() < 1.5,
            "a minimum of its own, not far from the other: {text}"
        );
    }
    let epochs: Vec<_> = table(&text, "epoch           SGD").into_iter().filter(|row| row.len() == 4).collect();
    assert_eq!(epochs.len(), 15);
    assert!(epochs[1][2] < epochs[1][1], "momentum is ahead of SGD: {epochs:?}");
    for (column, name) in [(1, "SGD, lr 0.01:"), (2, "momentum 0.9, lr 0.01:"), (3, "Adam, lr 1:")] {
        let losses = epochs.iter().map(|row| row[column]);
        let kept = numbers_of(&text, name);
        let best = losses.clone().fold(f64::INFINITY, f64::min);
        assert_eq!(kept[1], best, "the best epoch is the one of the lowest mean loss");
        assert_eq!(losses.clone().nth(kept[0] as usize - 1), Some(best), "{text}");
        assert_close(kept[3], whole[0], 0.5, "w");
        assert_close(kept[4], whole[1], 0.8, "b");
    }
    let pictures = ["path_100", "path_25", "path_5", "path_1", "minima", "minima_lines", "surfaces_10", "surfaces_5"];
    for name in pictures.into_iter().chain(["surfaces_1", "optimizers", "losses"]) {
        assert_picture(&dir, &format!("runs/examples/mini_batches_{name}.png"));
    }

    // A training of one's own, with a last batch of 10.
    let (text, dir) =
        run("mini_batches", &["--epochs", "3", "--batch-size", "30", "--lr", "0.05", "--optimizer", "adam"]);
    assert!(text.lines().any(|line| numbers(line).starts_with(&[3.0, 30.0, 0.05, 12.0])), "12 steps: {text}");
    assert_picture(&dir, "runs/examples/mini_batches_path_own.png");
}

#[test]
fn momentum_is_faster_where_the_curvatures_say_so() {
    let (text, dir) = run("momentum", &["--momentum", "0.5"]);
    let [plain, momentum] = ["no momentum, lr 0.2 ", "momentum 0.3, lr 1 "].map(|name| numbers_of(&text, name));
    let lowest = numbers_of(&text, "curvature")[2];
    assert!(momentum[2] - lowest < 0.1 * (plain[2] - lowest), "{text}");
    // What is left along the valley after a step decides: 39 steps of it.
    assert!(momentum[1].powi(39) < 0.1 * plain[1].powi(39), "{text}");
    assert!(text.contains("momentum 0.5, lr 1 "), "a curve of one's own: {text}");
    let valley = text.split("2. A valley").nth(1).expect("the second part");
    let from = |name: &str| numbers_of(valley, name).get(3).copied();
    assert_eq!(numbers_of(valley, "curvature")[..2], [2.0, 0.04]);
    let [plain, best, much] =
        ["no momentum, lr 0.98 ", "momentum 0.566, lr 1.535 ", "momentum 0.9, lr 1.535 "].map(from);
    assert!(best < plain && best < much && best.is_some(), "{text}");
    assert_picture(&dir, "runs/examples/momentum.png");
    assert_picture(&dir, "runs/examples/momentum_valley.png");
}

#[test]
fn mnist_mlp_takes_a_step_apart_and_learns() {
    let args = ["--train-limit", "2003", "--test-limit", "500", "--epochs", "2", "--lr", "0.03"];
    let (text, dir) = run("mnist_mlp", &args);
    let [logits, log_probs] = ["cross-entropy of the logits:", "negative log-likelihood of the log-softmax:"];
    assert_close(numbers_of(&text, logits)[0], numbers_of(&text, log_probs)[0], 1.01e-6, "two ways to one loss");
    assert_close(numbers_of(&text, logits)[0], 10f64.ln(), 0.2, "a network that knows nothing guesses");
    let axes = [numbers_of(&text, "axis 0:"), numbers_of(&text, "axis 1:")];
    assert!(axes[0][2] == 1.0 && axes[0][0] != 1.0, "axis 0 makes columns sum to 1: {axes:?}");
    assert!(axes[1][0] == 1.0 && axes[1][2] != 1.0, "axis 1 makes rows sum to 1: {axes:?}");
    assert!(text.contains("before backward: no output is called \"grad 1.weight\""), "{text}");
    assert!(text.contains("after backward:\ntensor([["), "{text}");
    let step = numbers_of(&text, "loss of the batch");
    assert!(step[1] < step[0], "a step down: {step:?}");
    let sums: Vec<_> = table(&text, "batch      reset").into_iter().filter(|row| row.len() == 3).collect();
    assert!(sums.len() > 4, "{text}");
    assert_eq!(sums[0][1], sums[0][2], "the first batch has nothing to add to");
    assert!(sums[1..].iter().all(|row| row[1] != row[2]), "{sums:?}");

    assert!(text.contains("109386 parameters"), "{text}");
    let (first, second) =
        (numbers_of(&text, "epoch 1: training loss")[0], numbers_of(&text, "epoch 2: training loss")[0]);
    assert!(second < first && second < 2.0, "{first} then {second}");
    assert!(numbers_of(&text, "test accuracy")[0] > 40.0, "{text}");
    // Ten probabilities that sum to 1.
    let bars: Vec<f64> = text.lines().filter(|line| line.contains(" % ")).map(|line| numbers(line)[0]).collect();
    let bars = &bars[bars.len() - 10..];
    assert_close(bars.iter().sum(), 100.0, 0.1, "probabilities");
    assert_picture(&dir, "runs/examples/mnist_mlp.png");
}

#[test]
fn cifar10_saves_loads_and_predicts() {
    let data = tempfile::tempdir().expect("a temporary folder");
    // Every class is a colour of its own under noise, so that two epochs are enough to learn it.
    let mut stream = Stream::named(3, "cifar");
    for name in cifar::TRAIN_FILES.iter().chain([&cifar::TEST_FILE]) {
        let mut bytes = Vec::with_capacity(200 * Layout::CIFAR10.record_len_bytes());
        for index in 0..200u8 {
            let label = index % 10;
            bytes.push(label);
            for channel in 0..3 {
                let base = 40 * ((label * (2 * channel + 1) + channel) % 6);
                bytes.extend((0..32 * 32).map(|_| base + stream.next_below(50) as u8));
            }
        }
        std::fs::write(data.path().join(name), bytes).expect("the folder takes files");
    }
    let folder = data.path().to_str().expect("a temporary folder's name is plain text");
    let (text, dir) = run("cifar10", &["--data", folder]);
    assert!(text.contains("1000 training and 200 test images"), "{text}");
    assert!(text.contains("62006 parameters"), "{text}");
    let epochs = table(&text, "epoch  train loss");
    assert!(epochs[1][1] < epochs[0][1], "{text}");
    // What is loaded is what was trained, and of that the best epoch: another's weights have another accuracy.
    let (trained, loaded) = (numbers_of(&text, "trained model:"), numbers_of(&text, "loaded model:"));
    assert_eq!(trained, loaded, "{text}");
    assert!(trained[0] > 15.0, "better than chance: {text}");
    assert_eq!(
        text.lines().find(|line| line.starts_with("a batch: ")).map(|line| line.split_whitespace().count()),
        Some(6)
    );
    let [truth, predicted] = ["ground truth:", "predicted:"].map(|start| {
        let line = text.lines().find(|line| line.starts_with(start)).expect("the line");
        line[start.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(truth, ["airplane", "automobile", "bird", "cat"], "{text}");
    assert_eq!(predicted.len(), 4, "{text}");
    let file = dir.path().join("runs/examples/cifar10.safetensors");
    let model = wgrad::nn::weights::load(&file).expect("the saved model");
    assert_eq!(model.len(), 10);
    assert_eq!(model["conv1.weight"].shape().dims(), [6, 3, 5, 5]);
    for name in ["cifar10", "cifar10_batch", "cifar10_predicted"] {
        assert_picture(&dir, &format!("runs/examples/{name}.png"));
    }
}

#[test]
fn lenet_lab_asks_its_questions_and_ends_in_a_table_and_a_page() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fashion-mnist");
    let quick = ["--data", data, "--epochs", "2", "--train-limit", "600", "--test-limit", "300"];
    let (text, dir) = run("lenet_lab", &quick);
    for number in 1..=9 {
        assert!(text.lines().any(|line| line.starts_with(&format!("{number}. "))), "question {number}:\n{text}");
    }
    assert!(text.contains("H×W×C = 28×28×1") && text.contains("600 training images, 300 to decide"), "{text}");
    assert!(text.contains("The first labels are [") && text.contains("not a one-hot vector"), "{text}");
    assert!(text.contains("conv1.weight 150 + conv1.bias 6 + conv2.weight 2400"), "{text}");
    assert!(text.contains("= 44426 numbers are learned"), "{text}");
    assert!(text.contains("The output has no activation"), "{text}");
    // The epochs of eleven runs, each with its learning rate.
    let is_epoch =
        |line: &&str| ["1 ", "2 "].iter().any(|epoch| line.trim_start().starts_with(epoch)) && line.contains('%');
    // The last number, images a second, may have a comma in it.
    let rates: Vec<f64> = text
        .lines()
        .filter(is_epoch)
        .map(numbers)
        .filter(|row| (7..=8).contains(&row.len()))
        .map(|row| row[5])
        .collect();
    assert_eq!(rates.iter().filter(|&&lr| lr == 0.1).count(), 6, "three seeds at 0.1: {rates:?}");
    assert_eq!(rates.iter().filter(|&&lr| lr == 0.01).count(), 14, "seven runs at 0.01: {rates:?}");
    assert!(text.contains("The range test (Smith, 2015)"), "{text}");
    // L2 has smaller weights than no penalty; min, max, mean and standard deviation of each.
    let statistics = table(&text, "parameters ");
    assert_eq!(statistics.len(), 4, "{statistics:?}");
    let std = |name: &str| *numbers_of(&text, name).iter().rev().nth(1).expect("the standard deviation");
    assert!(std("L1 0.001  ") < std("early stopping  "), "{text}");
    // Batch normalization: each channel of the normalised features has mean 0 and standard deviation 1.
    for channel in 0..6 {
        let normalized = numbers_of(&text, &format!("normalized, channel {channel}"));
        assert_close(normalized[2], 0.0, 1e-4, "the mean");
        assert_close(normalized[3], 1.0, 1e-3, "the standard deviation");
        let scaled = numbers_of(&text, &format!("scaled and shifted, channel {channel}"));
        assert!(scaled[2].abs() < 1.0 && scaled[3] > 0.5, "{text}");
    }
    // Ten runs and the best of the search, each with its metrics.
    let runs = table(&text, "9. All runs").into_iter().filter(|row| row.len() > 8);
    assert_eq!(runs.count(), 11, "{text}");
    let out = dir.path().join("runs/lenet_lab");
    let page = std::fs::read_to_string(out.join("lenet_lab.html")).expect("the page");
    assert!(page.contains("data:image/png;base64,") && page.contains("<td>early-stopping</td>"));
    for name in ["lr-0.1-seed-0", "L1-0.001", "batch-norm"] {
        let folders = std::fs::read_dir(&out).expect("the folder");
        let run = folders
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.ends_with(name) || path.to_string_lossy().ends_with(name));
        assert!(run.is_some_and(|run| run.join("report.html").is_file()), "the run {name}");
    }
}

#[test]
fn an_example_without_its_data_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = Command::new(folder().join("cifar10"))
        .args(["--data", dir.path().to_str().expect("plain text")])
        .env("WGRAD_DEVICE", "cpu")
        .output()
        .expect("the example starts");
    assert!(!out.status.success());
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.contains("data_batch_1.bin"), "{stderr}");
    // The message itself, though `main` returns the error.
    assert!(stderr.starts_with("Error: ") && stderr.contains(": expected ") && !stderr.contains(" { "), "{stderr}");
}

#[test]
fn own_images_learns_a_folder_of_files() {
    let (text, dir) = run("own_images", &[]);
    assert!(text.contains("classes: boots, shirts, trousers"), "{text}");
    let made = dir.path().join("runs/examples/own_images");
    assert_eq!(std::fs::read_dir(made.join("boots")).expect("the folder").count(), 120);
    let accuracy = numbers_of(&text, "test accuracy")[0];
    // Three classes that a linear layer could tell apart; by chance it would be 33.
    assert!(accuracy > 85.0, "{text}");
    for class in ["boots", "shirts", "trousers"] {
        assert!(text.contains(&format!("{class}/000.png: ")), "{text}");
    }

    // A folder of one's own, in colour and of another size.
    let data = made.to_str().expect("a path of letters");
    let (text, _dir) = run("own_images", &["--epochs", "1", "--data", data, "--size", "32", "--channels", "3"]);
    assert!(table(&text, "epoch  train loss")[0][0] == 1.0 && text.contains(data), "{text}");
}
