//! Runs that are stopped and resumed: by Ctrl-C, by a request to end, by `kill -9`; and what `--resume` refuses.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Instant;

use serde_json::Value;

use crate::cli::{DATA, Place, lines, read, succeeds};

const RUN: [&str; 13] = [
    "train",
    "--device",
    "cpu",
    "--data",
    DATA,
    "--train-limit",
    "320",
    "--val-limit",
    "64",
    "--batch-size",
    "32",
    "--no-early-stopping",
    "--no-report",
];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..], more].concat()
}

/// A run in the background, once it has recorded so many epochs.
fn running(place: &Place, more: &[&str], epochs: usize) -> (Child, PathBuf) {
    place.spawn_until(&args(more), || {
        let run = place.runs().pop()?;
        (num_epochs(&run) >= epochs).then_some(run)
    })
}

/// The epochs that a run has recorded.
fn num_epochs(run: &Path) -> usize {
    std::fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |metrics| metrics.lines().count())
}

/// What must be the same whether a run was stopped or not: its epochs without their speed, its end, its weights.
fn result(run: &Path) -> (Vec<Value>, Vec<u8>) {
    let mut metrics = lines(&read(&run.join("metrics.jsonl")));
    for line in &mut metrics {
        line.as_object_mut().unwrap().remove("images_per_second");
    }
    (metrics, std::fs::read(run.join("model.safetensors")).unwrap())
}

fn expected(more: &[&str]) -> (Vec<Value>, Vec<u8>) {
    let place = Place::new();
    succeeds(place.lenet(&args(more)));
    result(&place.runs()[0])
}

#[cfg(unix)]
fn send(child: &Child, signal: &str) {
    let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_from_its_last_save_to_the_same_bytes() {
    let more = ["--epochs", "40"];
    let started = Instant::now();
    let expected = expected(&more);
    let epoch_time = started.elapsed() / 40;
    let place = Place::new();
    let (mut child, run) = running(&place, &more, 3);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it was killed before its end");
    // Killed again and again, at several moments between two saves.
    let resume = ["train", "--resume", run.to_str().unwrap(), "--no-report"];
    for part in 0..3 {
        let before = num_epochs(&run);
        place.kill_after(&resume, || num_epochs(&run) > before, epoch_time * part / 3);
    }
    let stdout = succeeds(place.lenet(&resume));
    assert!(stdout.contains("resumed after"), "{stdout}");
    assert!(result(&run) == expected, "metrics or weights differ from those of a run that was never stopped");
    assert_eq!(place.runs(), [run], "a resumed run stays in its folder");
}

#[cfg(unix)]
#[test]
fn a_signal_lets_the_step_finish_and_says_how_to_go_on() {
    let more = ["--epochs", "40"];
    let expected = expected(&more);
    // A wrapper such as `timeout` and the process group both deliver a signal: that is one request.
    let mut signals = vec![("-INT", 130, 1), ("-TERM", 143, 3)];
    if hup_is_ignored() {
        eprintln!("SIGHUP was not tested: these tests run under nohup, and so does what they start");
    } else {
        signals.push(("-HUP", 129, 1));
    }
    for (signal, code, times) in signals {
        let place = Place::new();
        let (child, run) = running(&place, &more, 2);
        (0..times).for_each(|_| send(&child, signal));
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        let (_, command) = stderr.trim_end().rsplit_once("resume with: lenet ").unwrap();
        assert!(run.join("model.safetensors").is_file(), "the best weights so far can be used");
        succeeds(place.lenet(&command.split(' ').chain(["--quiet", "--no-report"]).collect::<Vec<_>>()));
        assert!(result(&run) == expected, "after {signal}");
    }
}

/// Whether this process was started to ignore SIGHUP, which what it starts inherits.
#[cfg(unix)]
fn hup_is_ignored() -> bool {
    let ignored = std::process::Command::new("sh").args(["-c", "kill -HUP $$"]).status().unwrap();
    ignored.success()
}

#[cfg(unix)]
#[test]
fn under_nohup_a_closed_terminal_stops_nothing() {
    let place = Place::new();
    let under_nohup = ["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_lenet")];
    let command = [&under_nohup[..], &args(&["--epochs", "40"])].concat();
    let mut child = std::process::Command::new("sh").args(command).current_dir(place.path("")).spawn().unwrap();
    while place.runs().pop().is_none_or(|run| num_epochs(&run) < 1) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first epoch");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    send(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(num_epochs(&place.runs()[0]) >= 40, "it trained to its end");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_its_json_with_a_line_that_says_so() {
    let place = Place::new();
    let (child, run) = running(&place, &["--epochs", "200", "--json"], 1);
    send(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let printed = lines(&String::from_utf8(output.stdout).unwrap());
    let last = printed.last().unwrap();
    assert_eq!(last["interrupted"], Value::Bool(true), "{last}");
    assert_eq!(place.path(last["run"].as_str().unwrap()), run, "the folder to resume");
    assert!(last["epochs"].as_u64().unwrap() as usize == printed.len() - 1, "{last}");
}

#[test]
fn a_run_can_be_made_longer_but_not_another() {
    let place = Place::new();
    succeeds(place.lenet(&args(&["--epochs", "2"])));
    let run = place.runs().pop().unwrap();
    let run = run.to_str().unwrap();
    let resume = |more: &[&str]| place.lenet(&[&["train", "--resume", run, "--no-report"], more].concat());

    for (more, words) in [
        (&["--lr", "0.5"][..], "another lr: expected 0.01, as the run began"),
        (&["--optimizer", "adam"], "another"),
        (&["--batch-norm"], "another network.batch_norm: expected false"),
        (&["--train-limit", "64"], "another train_limit: expected 320"),
        (&["--test-limit", "64"], "another test_limit: expected none, as the run began"),
        (
            &["--no-diagnostics"],
            "another diagnostics: expected on, as the run began; start a new run for another, got off",
        ),
        (&["--early-stopping-patience", "3"], "another early_stopping: expected off, as the run began"),
        (&["--config", "x.toml"], "cannot be used with"),
        (&["--epochs", "0"], "--epochs"),
        (&["--epochs", "1"], "--epochs: expected at least 2, which the run has done"),
    ] {
        let done = resume(more);
        assert_eq!(done.code, 2, "{more:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{more:?}: {}", done.stderr);
    }
    // What the run has already may be said again.
    let stdout = succeeds(resume(&["--lr", "0.01", "--epochs", "5"]));
    assert!(stdout.contains("of 5"), "{stdout}");
    assert!(result(Path::new(run)) == expected(&["--epochs", "5"]), "2 epochs and 3 more are 5");
}

#[test]
fn an_edit_of_the_settings_is_taken_up_or_refused_and_never_lost() {
    let place = Place::new();
    succeeds(place.lenet(&args(&["--epochs", "1"])));
    let run = place.runs().pop().unwrap();
    let resume = || place.lenet(&["train", "--resume", run.to_str().unwrap()]);
    let config = run.join("config.toml");
    let written = read(&config);
    for (line, edited, words) in [
        ("lr = 0.01", "lr = 0.5", "config.toml: expected lr to be 0.01, as the run began"),
        ("lr = 0.01", "lr = 0.5", "got 0.5; change the file back"),
        ("momentum = 0.9", "momentum = 0.5", "expected optimizer.momentum to be 0.9"),
        ("epochs = 1", "epochs = 1\nrate = 0.5", "unknown field `rate`"),
        ("epochs = 1", "epochs = 0", "config.toml: expected epochs to be at least 1"),
    ] {
        let text = written.replacen(line, edited, 1);
        assert_ne!(text, written, "{written}");
        std::fs::write(&config, &text).unwrap();
        let done = resume();
        assert!(done.code != 0 && done.stderr.contains(words), "{edited}: {}", done.stderr);
        assert!(!done.stderr.contains("resume with") && read(&config) == text, "{edited}: {}", done.stderr);
    }
    std::fs::write(&config, written.replacen("epochs = 1", "epochs = 3", 1)).unwrap();
    let stdout = succeeds(resume());
    assert!(stdout.contains("all 3 epochs are done"), "{stdout}");
    assert!(result(&run) == expected(&["--epochs", "3"]), "1 epoch and 2 more are 3");
    assert!(!run.join("report.html").exists() && !run.join("tensorboard").exists(), "--no-report is remembered");
    std::fs::remove_file(&config).unwrap();
    succeeds(resume());
    assert!(config.is_file(), "the checkpoint has the settings too");
}

#[test]
fn a_run_that_cannot_resume_stays_as_it_is() {
    let place = Place::new();
    succeeds(place.lenet(&args(&["--epochs", "1"])));
    let run = place.runs().pop().unwrap();
    let other = place.path("other");
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(DATA).unwrap().map(Result::unwrap) {
        // Of each pair of files, those of the test images, under both names.
        let name = entry.file_name().into_string().unwrap();
        let from = name.replacen("train", "t10k", 1);
        std::fs::copy(Path::new(DATA).join(from), other.join(&name)).unwrap();
    }
    let config = read(&run.join("config.toml"));
    let resume = ["train", "--resume", run.to_str().unwrap(), "--data", other.to_str().unwrap(), "--epochs=2"];
    let done = place.lenet(&resume);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("which the run began with"), "{}", done.stderr);
    assert!(!done.stderr.contains("resume with"), "nothing was trained: {}", done.stderr);
    assert_eq!(read(&run.join("config.toml")), config);
}

#[test]
fn what_cannot_be_resumed_says_what_is_wrong() {
    let place = Place::new();
    succeeds(place.lenet(&args(&["--epochs", "1"])));
    let run = place.runs().pop().unwrap();
    let resume = |folder: &Path| place.lenet(&["train", "--resume", folder.to_str().unwrap()]);
    let metrics = run.join("metrics.jsonl");
    let lines = read(&metrics);

    std::fs::write(&metrics, "").unwrap();
    let done = resume(&run);
    assert!(
        done.code == 1
            && done.stderr.contains("metrics.jsonl: expected a line for each epoch of the checkpoint, 1 in all, got 0"),
        "{}",
        done.stderr
    );
    std::fs::write(&metrics, lines).unwrap();

    let checkpoint = run.join("checkpoint");
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x10;
    std::fs::write(&checkpoint, bytes).unwrap();
    let done = resume(&run);
    assert!(
        done.code == 1 && done.stderr.contains("checkpoint: expected a whole checkpoint, got one that was altered"),
        "{}",
        done.stderr
    );

    std::fs::remove_file(&checkpoint).unwrap();
    let done = resume(&run);
    assert!(done.code == 2 && done.stderr.contains("which has none"), "{}", done.stderr);
    let done = resume(&place.path("nowhere"));
    assert!(done.code == 1 && done.stderr.contains("nowhere"), "{}", done.stderr);
}
