//! The binary as a user sees it: exit codes, output, and the files of a run. Runs are tiny and on the CPU; the bundled
//! FashionMNIST is read from the repository, so that no installed data set matters.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]

mod help;
mod schedule;
mod training;
mod wording;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fashion-mnist");
pub const TINY: [&str; 8] = ["--train-limit", "128", "--val-limit", "64", "--epochs", "2", "--batch-size", "50"];

/// A finished call.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A folder to run in, without an environment that decides about devices or data.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lenet"));
        command.args(args).current_dir(self.0.path()).env_remove("WGRAD_DEVICE").stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    pub fn lenet(&self, args: &[&str]) -> Done {
        done(self.command(args).output().unwrap())
    }

    /// A call in the background, once `ready` holds, with what that gave.
    pub fn spawn_until<T>(&self, args: &[&str], ready: impl Fn() -> Option<T>) -> (Child, T) {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(120) {
            if let Some(state) = ready() {
                return (child, state);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        panic!("{args:?} does not get on: {:?}", child.wait_with_output().unwrap());
    }

    /// Kills a call without notice, `delay` after `ready` first held; it must not have ended before.
    pub fn kill_after(&self, args: &[&str], ready: impl Fn() -> bool, delay: Duration) {
        let (mut child, ()) = self.spawn_until(args, || ready().then_some(()));
        std::thread::sleep(delay);
        child.kill().unwrap();
        assert_eq!(child.wait_with_output().unwrap().status.code(), None, "{args:?} ended before it was killed");
    }

    /// A tiny run with more options.
    pub fn train(&self, more: &[&str]) -> Done {
        let fixed = ["train", "--device", "cpu", "--data", DATA];
        self.lenet(&[&fixed[..], &TINY, more].concat())
    }

    /// The folders in `runs`.
    pub fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path("runs")) else { return Vec::new() };
        let mut runs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        runs.sort();
        runs
    }
}

pub fn done(output: Output) -> Done {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub fn succeeds(done: Done) -> String {
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{}", done.stdout);
    done.stdout
}

pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_run_prints_a_table_and_leaves_a_folder() {
    let place = Place::new();
    let stdout = succeeds(place.train(&[]));
    assert!(!stdout.contains(['\u{1b}', '\r']), "control characters in a pipe: {stdout:?}");
    for part in [
        "device    cpu",
        "128 training, 64 validation and 2,000 test images",
        "44,426 parameters",
        "epoch  train loss  train acc  val loss  val acc        lr   images/s",
        "all 2 epochs are done",
        "of 2",
        "on 2,000 images",
        "lenet eval runs/",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let is_row = |line: &&str| line.trim_start().starts_with(['1', '2']) && line.contains('%');
    let rows: Vec<&str> = stdout.lines().filter(is_row).collect();
    assert_eq!(rows.len(), 2, "{stdout}");
    assert!(rows[0].ends_with("best"), "{stdout}");

    let [run] = place.runs().try_into().unwrap();
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with("-lenet5-fashion-mnist") && stdout.contains(name), "{name}");
    let metrics = lines(&read(&run.join("metrics.jsonl")));
    assert_eq!(metrics.len(), 3);
    let keys = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "images_per_second"];
    for report in &metrics[..2] {
        assert!(keys.iter().all(|key| report[key].is_number()), "{report}");
    }
    assert!(["test_loss", "test_accuracy", "best_epoch"].iter().all(|key| metrics[2][key].is_number()), "{metrics:?}");
    assert!(run.join("model.safetensors").is_file() && run.join("config.toml").is_file());
}

#[test]
fn training_is_what_happens_without_a_subcommand() {
    let place = Place::new();
    let stdout = succeeds(place.lenet(&[&["--device", "cpu", "--data", DATA, "--quiet"], &TINY[..]].concat()));
    assert_eq!(place.runs().len(), 1);
    let titles: Vec<&str> = stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(titles, ["best", "test", "run", "evaluate"], "--quiet prints the result alone");
}

#[test]
fn json_is_all_there_is_and_equals_the_metrics_file() {
    let place = Place::new();
    let printed = lines(&succeeds(place.train(&["--json"])));
    let [run] = place.runs().try_into().unwrap();
    let written = lines(&read(&run.join("metrics.jsonl")));
    assert_eq!(printed[..2], written[..2]);
    assert_eq!(printed[2]["test_loss"], written[2]["test_loss"]);
    assert_eq!(place.path(printed[2]["run"].as_str().unwrap()), run);
}

#[test]
fn a_written_model_evaluates_to_the_numbers_of_its_run() {
    let place = Place::new();
    // The settings that eval needs come from the file beside the model.
    let extra = ["--batch-norm", "--dropout", "0.2", "--normalize", "half", "--optimizer", "adam", "--json"];
    let outcome = lines(&succeeds(place.train(&extra))).pop().unwrap();
    let [run] = place.runs().try_into().unwrap();
    let model = run.join("model.safetensors");
    let eval = |more: &[&str]| {
        place.lenet(&[&["eval", "--device", "cpu", "--json", "--model", model.to_str().unwrap()], more].concat())
    };
    let score = lines(&succeeds(eval(&[]))).pop().unwrap();
    assert_eq!((&score["test_loss"], &score["test_accuracy"]), (&outcome["test_loss"], &outcome["test_accuracy"]));
    assert_eq!(score["images"], 2000);
    let other = lines(&succeeds(eval(&["--normalize", "none"]))).pop().unwrap();
    assert_ne!(other["test_loss"], score["test_loss"], "the command line wins over the file");
    assert_eq!(lines(&succeeds(eval(&["--test-limit", "100"])))[0]["images"], 100);

    // The model file alone says what it is of; told another network, it does not fit.
    std::fs::rename(run.join("config.toml"), run.join("elsewhere.toml")).unwrap();
    let alone = lines(&succeeds(eval(&["--data", DATA]))).pop().unwrap();
    assert_eq!(alone["test_loss"], score["test_loss"]);
    let refused = eval(&["--data", DATA, "--network", "vgg"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("model.safetensors"), "{}", refused.stderr);
}

#[test]
fn the_configuration_of_a_run_repeats_it_and_options_change_it() {
    let place = Place::new();
    let extra = ["--no-early-stopping", "--scheduler", "plateau", "--factor", "0.5", "--seed", "3", "--nesterov"];
    succeeds(place.train(&extra));
    let first = place.runs().remove(0);
    let config = first.join("config.toml");
    let again = ["--config", config.to_str().unwrap(), "--out", "again"];
    succeeds(place.lenet(&again));
    let second = std::fs::read_dir(place.path("again")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(read(&config), read(&second.join("config.toml")));
    let metrics = |run: &Path| {
        let mut metrics = lines(&read(&run.join("metrics.jsonl")));
        // The clock differs, nothing else may.
        metrics.iter_mut().filter_map(Value::as_object_mut).for_each(|line| drop(line.remove("images_per_second")));
        metrics
    };
    assert_eq!(metrics(&first), metrics(&second));
    let bytes = |run: &Path| std::fs::read(run.join("model.safetensors")).unwrap();
    assert!(bytes(&first) == bytes(&second), "one seed, one file");

    let changed = lines(&succeeds(place.lenet(&[&again[..], &["--optimizer", "adamw", "--json"]].concat())));
    assert_eq!(changed[0]["lr"], 0.001, "another optimizer brings its own learning rate");
}

#[test]
fn a_run_starts_from_a_given_model() {
    let place = Place::new();
    succeeds(place.train(&[]));
    let model = place.runs()[0].join("model.safetensors");
    let init = ["--init", model.to_str().unwrap()];
    let from_model = lines(&succeeds(place.train(&[&init[..], &["--json"]].concat())));
    let from_scratch = lines(&read(&place.runs()[0].join("metrics.jsonl")));
    assert_ne!(from_model[0]["train_loss"], from_scratch[0]["train_loss"]);
    let refused = place.train(&[&init[..], &["--batch-norm"]].concat());
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("tensor \"bn1."), "{}", refused.stderr);
}

#[test]
fn without_held_out_images_the_test_images_validate() {
    let place = Place::new();
    let reports = lines(&succeeds(place.train(&["--val-split", "0", "--json"])));
    assert_eq!(reports.len(), 3);
    // Without a limit, validation and the final judgement are over the same images, so the judgement is that of the
    // best epoch, to the bit. The rate is so high that the best epoch is not the last.
    let args =
        ["--val-split=0", "--train-limit=256", "--epochs=6", "--lr=0.3", "--json", "--device=cpu", "--data", DATA];
    let reports = lines(&succeeds(place.lenet(&args)));
    let (outcome, epochs) = reports.split_last().unwrap();
    let best = epochs.iter().find(|report| report["epoch"] == outcome["best_epoch"]).unwrap();
    assert_eq!(best["val_loss"], outcome["test_loss"]);
    assert_ne!(best, epochs.last().unwrap(), "{reports:?}");
}

#[test]
fn a_value_that_is_not_finite_is_an_error_and_leaves_no_model_of_such_values() {
    let place = Place::new();
    let failed = place.train(&["--lr", "1e30"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("not finite in epoch 1") && failed.stderr.contains("1e30"), "{}", failed.stderr);
    assert!(!place.runs()[0].join("model.safetensors").exists());
    // One step an epoch: the first epoch's loss is of the initial weights, and the rate is such that the weights after
    // it still have finite logits, and those after the second step have not.
    let args = ["--device=cpu", "--data", DATA, "--train-limit=128", "--val-limit=64", "--batch-size=128", "--lr=1e6"];
    let later = place.lenet(&args);
    assert_eq!(later.code, 1, "{}", later.stderr);
    assert!(later.stderr.contains("not finite in epoch"), "{}", later.stderr);
    let model = place.runs().last().unwrap().join("model.safetensors");
    let weights = wgrad::nn::weights::load(&model).unwrap();
    assert!(weights.values().all(|tensor| tensor.to_f64_vec().iter().all(|x| x.is_finite())), "the best so far");
}

/// Whatever an activation makes of it: the weights themselves are checked before they are kept.
#[test]
fn weights_that_are_not_numbers_end_the_run() {
    let place = Place::new();
    let args = ["--train-limit=400", "--val-limit=100", "--batch-size=16", "--seed=0", "--lr=3000", "--epochs=1"];
    let failed = place.lenet(&[&["train", "--device=cpu", "--data", DATA], &args[..]].concat());
    assert_eq!(failed.code, 1, "{}{}", failed.stdout, failed.stderr);
    assert!(failed.stderr.contains("is not finite in epoch 1, step "), "{}", failed.stderr);
    assert!(failed.stderr.contains(", first in "), "{}", failed.stderr);
    assert!(!place.runs()[0].join("model.safetensors").exists());
}

#[test]
fn wrong_options_are_usage_errors_and_leave_nothing() {
    let place = Place::new();
    let cases: [(&[&str], &str); 18] = [
        (&["--val-split", "2"], "--val-split"),
        (&["--batch-size", "0"], "--batch-size"),
        (&["--epochs", "0"], "--epochs"),
        (&["--epochs", "many"], "--epochs"),
        (&["--dropout", "1"], "--dropout"),
        (&["--lr", "-1"], "--lr"),
        (&["--lr", "nan"], "--lr"),
        (&["--train-limit", "0"], "--train-limit"),
        (&["--dataset", "imagenet"], "fashion-mnist, mnist, kmnist"),
        (&["--optimizer", "adam", "--nesterov"], "--optimizer sgd"),
        (&["--optimizer", "adamw", "--momentum", "0.5"], "--optimizer sgd"),
        (&["--momentum", "0", "--nesterov"], "--nesterov"),
        (&["--factor", "0.5"], "--scheduler constant-factor or plateau"),
        (&["--scheduler", "constant", "--patience", "3"], "--scheduler plateau"),
        (&["--scheduler", "plateau", "--factor", "2"], "--factor"),
        (&["--early-stopping-min-delta", "-1"], "--early-stopping-min-delta"),
        (&["--no-early-stopping", "--early-stopping-patience", "3"], "--no-early-stopping"),
        (&["--unheard-of"], "--unheard-of"),
    ];
    for (args, part) in cases {
        let Done { code, stderr, .. } = place.lenet(&[&["--device=cpu", "--data", DATA], args].concat());
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{args:?}: {stderr}");
    }
    assert!(place.runs().is_empty());
}

#[test]
fn what_a_run_meets_is_an_error_that_names_it() {
    let place = Place::new();
    std::fs::create_dir(place.path("short")).unwrap();
    for entry in std::fs::read_dir(DATA).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.path("short").join(entry.file_name())).unwrap();
    }
    let images = place.path("short/train-images-idx3-ubyte.gz");
    let bytes = std::fs::read(&images).unwrap();
    std::fs::write(&images, &bytes[..10_000]).unwrap();
    std::fs::write(place.path("file"), "no folder").unwrap();
    std::fs::write(place.path("typo.toml"), "batchsize = 3\n").unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["--device=cpu", "--data", "nowhere"], "nowhere/train-images-idx3-ubyte.gz"),
        (&["--device=cpu", "--data", "short"], "train-images-idx3-ubyte.gz"),
        (&["--device", "no such adapter"], "no GPU adapter matches \"no such adapter\"; found: "),
        (&["--device=cpu", "--data", DATA, "--out", "file"], "cannot create file"),
        (&["--device=cpu", "--data", DATA, "--init", "nowhere.safetensors"], "nowhere.safetensors"),
        (&["--device=cpu", "--data", DATA, "--init", "file"], "a whole safetensors file"),
        (&["--config", "typo.toml"], "batchsize"),
        (
            &["eval", "--device=cpu", "--data", DATA, "--model", "nowhere.safetensors"],
            "cannot read nowhere.safetensors",
        ),
    ];
    for (args, part) in cases {
        let Done { code, stderr, .. } = place.lenet(args);
        assert_eq!(code, 1, "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{args:?}: {stderr}");
    }
    assert!(place.runs().is_empty());
    let none = place.lenet(&["--device=cpu", "--dataset", "cifar10"]);
    assert_eq!(none.code, 2, "a folder must be given: {}", none.stderr);
}

#[test]
fn a_reader_that_goes_away_ends_neither_a_listing_nor_a_run() {
    let place = Place::new();
    for args in [vec!["plan"], [&["--device=cpu", "--data", DATA], &TINY[..]].concat(), vec!["--help"]] {
        let mut child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let done = done(child.wait_with_output().unwrap());
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
    }
    assert!(place.runs()[0].join("model.safetensors").is_file());
}

#[test]
fn devices_are_listed_and_one_is_what_auto_takes() {
    let place = Place::new();
    let stdout = succeeds(place.lenet(&["devices"]));
    assert_eq!(stdout.matches("<- --device auto").count(), 1, "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("cpu")), "{stdout}");
    // The variable stands for the option, and other subcommands do not mind it.
    let mut command = place.command(&["devices"]);
    assert_eq!(done(command.env("WGRAD_DEVICE", "no such adapter").output().unwrap()).code, 0);
    let mut command = place.command(&[]);
    let refused = done(command.env("WGRAD_DEVICE", "no such adapter").output().unwrap());
    assert!(refused.code == 1 && refused.stderr.contains("no such adapter"), "{}", refused.stderr);
}

#[test]
fn plans_need_no_data() {
    let place = Place::new();
    let args = ["plan", "--dataset", "cifar10", "--batch-size", "17", "--batch-norm", "--dropout", "0.5"];
    let stdout = succeeds(place.lenet(&args));
    for part in ["plan \"train\"", "plan \"test\"", "(17, 3, 32, 32)", "bn1.", "dropout", "optimizer."] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
}

#[test]
fn a_training_step_agrees_with_the_reference() {
    let place = Place::new();
    for device in ["cpu", "gpu"] {
        let args =
            ["verify", "--data", DATA, "--device", device, "--batch-size", "16", "--dropout", "0.2", "--batch-norm"];
        let stdout = succeeds(place.lenet(&args));
        assert!(stdout.contains("ops agree with the f64 reference") && stdout.contains("conv2d_grad"), "{stdout}");
    }
}

/// The kernels are a GPU's, whatever is here.
#[cfg(feature = "sanitize")]
#[test]
fn an_estimate_names_every_kernel_and_says_that_it_is_one() {
    let args = ["profile", "--data", DATA, "--batch-size", "2", "--estimate", "h100"];
    let stdout = succeeds(Place::new().lenet(&args));
    assert!(stdout.contains("An estimate for the NVIDIA H100"), "{stdout}");
    for kernel in ["gather.", "conv2d_pool", "mlp_chain", "loss_metrics", "sgd."] {
        assert!(stdout.contains(kernel), "{kernel} is not in:\n{stdout}");
    }
    assert!(stdout.contains("within a factor of two"), "{stdout}");
    let refused = Place::new().lenet(&["profile", "--data", DATA, "--estimate", "cray"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("h100, 4090, m2"), "{}", refused.stderr);
}

#[test]
fn a_profile_names_every_op_and_its_share() {
    let stdout = succeeds(Place::new().lenet(&["profile", "--data", DATA, "--device", "cpu", "--batch-size", "4"]));
    assert!(stdout.contains("GFLOP/s") && stdout.contains("conv1.conv2d"), "{stdout}");
    assert!(stdout.contains("ms in all"), "{stdout}");
    let phases = ["until the first step was done", "opening the device", "reading images\n", "the first step\n"];
    assert!(phases.iter().all(|phase| stdout.contains(phase)), "{stdout}");
    assert!(!stdout.contains("compil") && !stdout.contains("pipeline"), "a CPU compiles no kernels:\n{stdout}");
}

#[test]
fn a_profile_tells_what_compiling_each_kernel_takes() {
    let args = ["profile", "--compiling", "--device", "gpu", "--batch-size", "4"];
    let stdout = succeeds(Place::new().lenet(&args));
    for kernel in ["gather.", "conv2d_pool.", "sgd."] {
        assert!(stdout.contains(kernel), "{kernel} is not in:\n{stdout}");
    }
    assert!(stdout.contains("first use ms") && stdout.contains("one after the other"), "{stdout}");
}
