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
        let (by_hand, by_autodiff) = (numbers_of(&text, "by hand:"), numbers_of(&text, "by autodiff:"));
        assert_eq!(by_hand.len(), 3);
        for (a, b) in by_hand.iter().zip(by_autodiff) {
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

/// The values of the exercise's solution in PyTorch, in f32. What a sum of 150 squares rounds to depends on its order,
/// so the last of the printed digits may differ.
#[test]
fn linear_regression_descends_as_pytorch_does() {
    let golden: [(&[(&str, f64)], &str); 3] = [
        (
            &[
                ("iteration    0:", 13.683131),
                ("iteration  100:", 3.861369),
                ("iteration  200:", 1.715874),
                ("iteration  300:", 1.122591),
                ("iteration  400:", 0.914463),
                ("iteration  500:", 0.823388),
                ("iteration 1000:", 0.713164),
                ("iteration 1400:", 0.700870),
            ],
            "converged, n = 1475",
        ),
        (
            &[
                ("iteration    0:", 17.947260),
                ("iteration  100:", 17.655855),
                ("iteration  200:", 17.370190),
                ("iteration  300:", 17.090130),
                ("iteration  400:", 16.815559),
                ("iteration  500:", 16.546364),
                ("iteration 1000:", 15.277046),
            ],
            "stopped at the cap of 1000",
        ),
        (&[("iteration    0:", 17.947260)], "converged, n = 30"),
    ];
    for device in DEVICES {
        let (text, _dir) = run_on(device, "linear_regression", &[]);
        assert_eq!(text.matches("passed").count(), 2, "both gradients are checked:\n{text}");
        let runs: Vec<&str> = text.split("\nrun ").skip(1).collect();
        assert_eq!(runs.len(), 3);
        for (run, (losses, end)) in runs.iter().zip(golden) {
            for (start, want) in losses {
                // One of the last printed digit, and 4 roundings of f32.
                assert_close(numbers_of(run, start)[0], *want, 1.01e-6 + 4.0 * 1.2e-7 * want, start);
            }
            assert!(run.contains(end), "{device}: expected {end}:\n{run}");
        }
    }
}

#[test]
fn mini_batches_compares_sizes_and_optimizers() {
    let (text, _dir) = run("mini_batches", &[]);
    let sizes = table(&text, "batch  steps");
    assert_eq!(sizes.iter().map(|row| row[0]).collect::<Vec<_>>(), [100.0, 25.0, 5.0, 1.0]);
    assert_eq!(sizes.iter().map(|row| row[1]).collect::<Vec<_>>(), [20.0, 80.0, 400.0, 2000.0]);
    // In the same number of epochs smaller batches come further, by a longer way.
    assert!(sizes[1][4] < sizes[0][4] && sizes[2][4] < sizes[1][4], "{sizes:?}");
    assert!(sizes.windows(2).all(|pair| pair[0][5] < pair[1][5]), "{sizes:?}");
    // The grid's lowest point lies next to the exact minimum: its cells are 0.1 by 0.133.
    for name in ["all points", "batch 1", "batch 2", "batch 3", "batch 4"] {
        let surface = numbers_of(&text, &format!("{name}: lowest of the grid"));
        assert_close(surface[0], surface[3], 0.101, "w");
        assert_close(surface[1], surface[4], 0.134, "b");
    }
    let epochs = table(&text, "epoch           SGD");
    for column in 1..=3 {
        assert!(epochs[5][column] < 0.1 * epochs[0][column], "{epochs:?}");
    }
    assert!(epochs[0][2] < epochs[0][1], "momentum is ahead of SGD: {epochs:?}");
    for name in ["SGD:", "momentum 0.9:", "Adam:"] {
        let kept = numbers_of(&text, name);
        assert!(kept[1] <= kept[2], "the best is no worse than the last: {kept:?}");
        assert_close(kept[3], 1.5, 0.1, "w");
        assert_close(kept[4], -1.0, 0.15, "b");
    }
}

#[test]
fn momentum_is_faster_along_the_valley() {
    let (text, _dir) = run("momentum", &[]);
    let curves = table(&text, "step");
    let curves: Vec<_> = curves.iter().filter(|row| row.len() == 4).collect();
    let (first, last) = (curves[0], curves[curves.len() - 1]);
    assert!(first[1] == first[2] && first[2] == first[3], "all start alike: {first:?}");
    assert!(last[3] < last[1], "{last:?}");
    assert!(text.contains("momentum 0: not within 1 %"), "{text}");
    assert!(numbers_of(&text, "momentum 0.9: within 1 % of the lowest loss from step")[0] < 150.0, "{text}");
}

#[test]
fn mnist_mlp_learns() {
    let (text, _dir) = run("mnist_mlp", &["--quick"]);
    assert!(text.contains("109386 parameters"), "{text}");
    let (first, second) =
        (numbers_of(&text, "epoch 1: training loss")[0], numbers_of(&text, "epoch 2: training loss")[0]);
    assert!(second < first && second < 2.0, "{first} then {second}");
    assert!(numbers_of(&text, "test accuracy")[0] > 40.0, "{text}");
    // Ten probabilities that sum to 1.
    let bars: Vec<f64> = text.lines().filter(|line| line.contains(" % ")).map(|line| numbers(line)[0]).collect();
    let bars = &bars[bars.len() - 10..];
    assert_close(bars.iter().sum(), 100.0, 0.1, "probabilities");
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
    let (text, dir) = run("cifar10", &["--quick", "--data", folder]);
    assert!(text.contains("1000 training and 200 test images"), "{text}");
    assert!(text.contains("62006 parameters"), "{text}");
    let (first, second) = (numbers_of(&text, "epoch 1: training loss"), numbers_of(&text, "epoch 2: training loss"));
    assert!(second[0] < first[0], "{text}");
    // What was loaded again is what was trained: `fit` ends with the best epoch's weights.
    let best = first[2].max(second[2]);
    let loaded = numbers_of(&text, "loaded model:")[0];
    assert!(loaded == first[2] || loaded == second[2], "{loaded} is neither epoch's accuracy (best {best}):\n{text}");
    let model = wgrad::nn::weights::load(&dir.path().join("cifar10.safetensors")).expect("the saved model");
    assert_eq!(model.len(), 10);
    assert_eq!(model["conv1.weight"].shape().dims(), [6, 3, 5, 5]);
}

#[test]
fn lenet_lab_asks_its_questions_and_ends_in_a_table_and_a_page() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fashion-mnist");
    let (text, dir) = run("lenet_lab", &["--quick", "--data", data]);
    for number in 1..=9 {
        assert!(text.lines().any(|line| line.starts_with(&format!("{number}. "))), "question {number}:\n{text}");
    }
    assert!(text.contains("44426 numbers are learned, 69 % of them in fc1"), "{text}");
    // Ten runs and the best of the search, each with its scores.
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
    assert!(text.contains("epoch 1:") && text.contains(data), "{text}");
}
