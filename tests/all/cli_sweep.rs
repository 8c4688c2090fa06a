//! `lenet sweep`, as a user meets it: what it prints and writes, that a killed sweep comes to the same end, and
//! what it refuses. Trials are tiny and run on the CPU.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use serde_json::Value;
use wgrad::run::RunConfig;
use wgrad::run::folder::read_history;

use crate::cli::{DATA, Done, Place, lines, read, succeeds};

/// A sweep file in a place.
pub fn write(place: &Place, search: &str, base: &str, space: &str) {
    let text = format!(
        "[search]\n{search}\n[base]\ndata = \"{DATA}\"\ntrain_limit = 192\nval_limit = 100\nbatch_size = 32\n{base}\n\
         [space]\n{space}\n"
    );
    std::fs::write(place.path("space.toml"), text).unwrap();
}

pub const SPACE: &str = "lr = { min = 1e-3, max = 0.3, log = true }\nnetwork.batch_norm = { choices = [false, true] }";

pub fn sweep(place: &Place, more: &[&str]) -> Done {
    place.lenet(&[&["sweep", "space.toml", "--device", "cpu"], more].concat())
}

pub fn folders(place: &Place) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(place.path("sweeps")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn only_folder(place: &Place) -> PathBuf {
    let [folder] = folders(place).try_into().unwrap();
    folder
}

fn trials(folder: &Path) -> Vec<Value> {
    lines(&read(&folder.join("trials.jsonl")))
}

/// The ranked table out of what a sweep prints.
pub fn table(stdout: &str) -> Vec<&str> {
    let rows = stdout.lines().skip_while(|line| !line.starts_with("rank"));
    rows.take_while(|line| !line.is_empty()).collect()
}

/// The weights of a trial, and the validation losses of its epochs.
pub type Trained = (Vec<u8>, Vec<f64>);

/// All that must be the same whether a sweep was stopped or not: the ledger, and the weights and epochs of all trials.
pub fn result(folder: &Path) -> (String, Vec<Trained>) {
    let of_trial = |record: &Value| {
        let path = folder.join(record["folder"].as_str().unwrap());
        let losses = read_history(&path).unwrap().epochs.iter().map(|epoch| epoch.val_loss).collect();
        (std::fs::read(path.join("model.safetensors")).unwrap(), losses)
    };
    (read(&folder.join("trials.jsonl")), trials(folder).iter().map(of_trial).collect())
}

#[test]
fn a_random_sweep_prints_a_line_a_trial_and_a_ranking_and_leaves_runs() {
    let place = Place::new();
    write(&place, "num_trials = 4\nmethod = \"random\"", "epochs = 2", SPACE);
    let stdout = succeeds(sweep(&place, &["--jobs", "2"]));
    assert!(!stdout.contains(['\u{1b}', '\r']), "control characters in a pipe: {stdout:?}");
    for part in
        ["device    cpu", "random: 4 trials of at most 2 epochs", "2 at a time", "lr: 0.001 to 0.3, logarithmic"]
    {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let table = table(&stdout);
    assert_eq!(table.len(), 5, "{stdout}");
    for name in ["rank", "trial", "lr", "network.batch_norm", "val loss", "epochs", "status"] {
        assert!(table[0].contains(name), "{name} in {}", table[0]);
    }
    let loss = |row: &str| row.split_whitespace().nth(4).unwrap().parse::<f64>().unwrap();
    assert!(table[1..].windows(2).all(|pair| loss(pair[0]) <= loss(pair[1])), "{table:?}");

    let folder = only_folder(&place);
    assert!(folder.file_name().unwrap().to_str().unwrap().ends_with("-space"));
    let records = trials(&folder);
    assert_eq!(records.len(), 4);
    for record in &records {
        let run = read_history(&folder.join(record["folder"].as_str().unwrap())).unwrap();
        assert_eq!((record["status"].as_str(), run.epochs.len()), (Some("complete"), 2), "{record}");
        assert_eq!(record["metric"].as_f64(), Some(run.best().val_loss), "the kept epoch's metric");
        let lr = run.settings.iter().find(|(name, _)| name == "lr").unwrap();
        assert_eq!(lr.1.parse::<f64>().ok(), record["settings"]["lr"].as_f64());
        assert!(run.outcome.is_some(), "{record}");
    }
    for file in ["sweep.toml", "best.toml", "parallel.png", "report.html"] {
        assert!(folder.join(file).metadata().unwrap().len() > 100, "{file}");
    }
    let page = read(&folder.join("report.html"));
    assert!(page.contains("href=\"trial-001/\"") && page.contains("data:image/png;base64,"), "a page of its own");

    // What other commands make of it.
    let (first, second) = (folder.join("trial-001"), folder.join("trial-002"));
    let compared = succeeds(place.lenet(&["compare", first.to_str().unwrap(), second.to_str().unwrap()]));
    assert!(compared.contains("trial-001") && compared.contains("lr"), "{compared}");
    let all = succeeds(place.lenet(&["compare", folder.to_str().unwrap()]));
    assert_eq!(all.lines().count(), 1 + records.len(), "the sweep's folder stands for its trials: {all}");
    let empty = place.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let none = place.lenet(&["compare", empty.to_str().unwrap()]);
    assert!(none.code == 2 && none.stderr.contains("whose subfolders are runs"), "{}", none.stderr);
    let model = first.join("model.safetensors");
    let score = lines(&succeeds(place.lenet(&["eval", "--device=cpu", "--json", "--model", model.to_str().unwrap()])));
    let outcome = read_history(&first).unwrap().outcome.unwrap();
    assert_eq!(score[0]["test_loss"].as_f64(), Some(outcome.test_loss));

    // The best configuration, trained by itself, is the best trial again.
    let best = folder.join("best.toml");
    let again = lines(&succeeds(place.lenet(&["train", "--json", "--no-report", "--config", best.to_str().unwrap()])));
    let (_, line) = stdout.split_once("best      trial ").unwrap();
    let number: usize = line.split(':').next().unwrap().parse().unwrap();
    let losses = read_history(&folder.join(format!("trial-{number:03}"))).unwrap().epochs;
    assert_eq!(again[1]["val_loss"].as_f64(), Some(losses[1].val_loss));
    assert!(RunConfig::load(&best).unwrap().diagnostics.is_some(), "by itself it is looked into as any run");
}

#[test]
fn trials_side_by_side_are_the_same_bytes_as_one_after_another() {
    let results: Vec<_> = ["1", "2", "3"]
        .iter()
        .map(|jobs| {
            let place = Place::new();
            write(&place, "num_trials = 3", "epochs = 2\nnetwork = { kind = \"lenet5\", dropout = 0.2 }", SPACE);
            succeeds(sweep(&place, &["--jobs", jobs, "--quiet"]));
            result(&only_folder(&place))
        })
        .collect();
    assert!(results[0] == results[1] && results[0] == results[2]);
}

#[test]
fn a_grid_has_every_combination_and_options_go_before_the_file() {
    let place = Place::new();
    let space = "lr = { min = 0.01, max = 0.1, count = 2 }\noptimizer = { choices = [\"sgd\", \"adam\"] }";
    write(&place, "num_trials = 3\nmetric = \"val_accuracy\"", "", space);
    let printed = lines(&succeeds(sweep(&place, &["--method", "grid", "--epochs", "1", "--out", "there", "--json"])));
    let (last, records) = printed.split_last().unwrap();
    let mut seen: Vec<String> = records.iter().map(|record| record["settings"].to_string()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!((records.len(), seen.len()), (4, 4), "{printed:?}");
    assert!(records.iter().all(|record| record["epochs"] == 1), "{printed:?}");
    let best = records.iter().map(|record| record["metric"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!((last["metric"].as_f64(), last["trials"].as_u64()), (Some(best), Some(4)));
    let config = RunConfig::load(&place.path(last["config"].as_str().unwrap())).unwrap();
    assert_eq!((config.epochs, config.lr), (1, last["settings"]["lr"].as_f64()));
    assert!(place.path("there").is_dir() && folders(&place).is_empty());
}

#[test]
fn halving_trains_the_best_on_from_where_they_were() {
    let place = Place::new();
    write(&place, "method = \"asha\"\nnum_trials = 5\nmax_epochs = 4\nreduction_factor = 2", "", SPACE);
    let stdout = succeeds(sweep(&place, &["--jobs", "1"]));
    assert!(stdout.contains("successive halving: 5 trials, 1 in 2 continues after epochs 1, 2, 4"), "{stdout}");
    let folder = only_folder(&place);
    let records = trials(&folder);
    let mut epochs: Vec<u64> = records.iter().map(|record| record["epochs"].as_u64().unwrap()).collect();
    epochs.sort_unstable();
    assert_eq!((epochs.len(), epochs[0]), (5, 1), "{stdout}");
    assert!(*epochs.last().unwrap() == 4, "{stdout}");
    assert!(records.iter().all(|record| (record["epochs"] == 4) == (record["status"] == "complete")), "{stdout}");

    // A trial that went on after each rung is the run that never paused.
    let through = records.iter().find(|record| record["epochs"] == 4).unwrap();
    let run = folder.join(through["folder"].as_str().unwrap());
    let config = run.join("config.toml");
    succeeds(place.lenet(&["train", "--quiet", "--no-report", "--config", config.to_str().unwrap()]));
    let whole = place.runs().remove(0);
    let losses =
        |run: &Path| -> Vec<f64> { read_history(run).unwrap().epochs.iter().map(|epoch| epoch.val_loss).collect() };
    assert_eq!(losses(&run), losses(&whole));

    // One that was not let further has its best weights all the same.
    let halved = records.iter().find(|record| record["status"] == "halved").unwrap();
    let model = folder.join(halved["folder"].as_str().unwrap()).join("model.safetensors");
    succeeds(place.lenet(&["eval", "--device=cpu", "--model", model.to_str().unwrap()]));
}

/// A sweep in the background, once its ledger has so many lines.
fn running(place: &Place, more: &[&str], num_records: usize) -> (Child, PathBuf) {
    let args = [&["sweep", "space.toml", "--device", "cpu"], more].concat();
    place.spawn_until(&args, || {
        let folder = folders(place).pop()?;
        let ledger = std::fs::read_to_string(folder.join("trials.jsonl")).ok()?;
        (ledger.lines().count() >= num_records).then_some(folder)
    })
}

#[cfg(unix)]
fn send(child: &Child, signal: &str) {
    let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The epochs that the trials of a sweep have recorded.
pub fn num_epochs(folder: &Path) -> usize {
    let metrics = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("metrics.jsonl")).ok();
    let trials = std::fs::read_dir(folder).unwrap().filter_map(|entry| metrics(entry.unwrap()));
    trials.map(|metrics| metrics.lines().count()).sum()
}

/// Kills a sweep again and again, and holds its end to that of one that was never stopped.
#[cfg(unix)]
fn survives(search: &str, jobs: &str) {
    let base = "epochs = 6\nearly_stopping = false\nnetwork = { kind = \"lenet5\", dropout = 0.1 }";
    let place = Place::new();
    write(&place, search, base, SPACE);
    let stdout = succeeds(sweep(&place, &["--jobs", jobs, "--quiet"]));
    let expected = result(&only_folder(&place));

    let place = Place::new();
    write(&place, search, base, SPACE);
    let (mut child, folder) = running(&place, &["--jobs", jobs], 3);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it was killed before its end");
    let resume = ["sweep", "--resume", folder.to_str().unwrap(), "--quiet", "--jobs", jobs];
    for delay in [0, 7, 23] {
        let before = num_epochs(&folder);
        place.kill_after(&resume, || num_epochs(&folder) > before, Duration::from_millis(delay));
    }
    let resumed = succeeds(place.lenet(&resume));
    assert_eq!(table(&resumed), table(&stdout));
    assert!(result(&folder) == expected, "the ledger or the trials differ from those of a sweep never stopped");
    assert_eq!(folders(&place), [folder], "a resumed sweep stays in its folder");
}

#[cfg(unix)]
#[test]
fn a_killed_random_sweep_comes_to_the_same_ranking() {
    survives("num_trials = 6", "1");
}

#[cfg(unix)]
#[test]
fn a_killed_grid_with_trials_side_by_side_comes_to_the_same_ranking() {
    survives("num_trials = 6\nseed = 3", "2");
}

#[cfg(unix)]
#[test]
fn a_killed_halving_comes_to_the_same_ranking() {
    survives("method = \"asha\"\nnum_trials = 9\nreduction_factor = 2", "1");
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_the_trials_under_way_and_says_how_to_resume() {
    let (search, base) = ("num_trials = 4", "epochs = 12\nearly_stopping = false");
    let place = Place::new();
    write(&place, search, base, SPACE);
    succeeds(sweep(&place, &["--quiet", "--jobs", "2"]));
    let expected = result(&only_folder(&place));
    let place = Place::new();
    write(&place, search, base, SPACE);
    let (child, folder) = running(&place, &["--jobs", "2"], 2);
    send(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.starts_with("interrupted: ") && stderr.contains("of 4 trials are done"), "{stderr}");
    assert!(trials(&folder).iter().any(|record| record["status"] == "running"), "it was stopped half-way");
    let (_, command) = stderr.trim_end().rsplit_once("resume with: lenet ").unwrap();
    let stdout = succeeds(place.lenet(&command.split(' ').collect::<Vec<_>>()));
    assert!(stdout.contains("resumed   "), "{stdout}");
    assert!(result(&folder) == expected);
    // With nothing left to do it only writes the result again.
    let again = succeeds(place.lenet(&command.split(' ').chain(["--quiet"]).collect::<Vec<_>>()));
    assert_eq!(table(&again), table(&stdout));
}

#[test]
fn a_trial_that_fails_is_ranked_last_with_its_reason() {
    let place = Place::new();
    write(&place, "method = \"grid\"", "epochs = 2", "lr = { choices = [1e30, 0.01] }");
    let printed = lines(&succeeds(sweep(&place, &["--json", "--jobs", "1"])));
    assert_eq!(printed[0]["status"], "failed");
    assert!(printed[0]["metric"].is_null());
    assert!(printed[0]["reason"].as_str().unwrap().contains("not finite"), "{}", printed[0]);
    assert_eq!((&printed[2]["best_trial"], &printed[2]["failed"]), (&Value::from(2), &Value::from(1)));
    let folder = only_folder(&place);
    assert!(read(&folder.join("report.html")).contains("Trial 1 failed: the "));
    let stdout = succeeds(place.lenet(&["sweep", "--quiet", "--resume", folder.to_str().unwrap()]));
    assert!(table(&stdout)[2].ends_with("failed") && table(&stdout)[2].starts_with('–'), "{stdout}");

    write(&place, "method = \"grid\"", "epochs = 2", "lr = { choices = [1e30, 1e31] }");
    let all = sweep(&place, &["--quiet"]);
    assert_eq!(all.code, 1, "{}", all.stdout);
    assert!(all.stderr.contains("every trial failed"), "{}", all.stderr);
}

#[test]
fn a_mistake_in_the_file_or_the_options_is_a_usage_error_that_trains_nothing() {
    let place = Place::new();
    let cases = [
        ("", "", "lr = { min = 1, max = 0 }", "space.lr: expected min below max"),
        ("", "", "lr = 0.1", "space.lr: expected choices"),
        ("", "", "", "[space]: expected at least one setting"),
        ("", "", "batchsize = { choices = [1] }", "space.batchsize"),
        // One in eight is wrong, wherever it stands.
        ("num_trials = 8", "", "network.dropout = { min = 0.0, max = 1.2 }", "space.network.dropout"),
        ("method = \"bayes\"", "", SPACE, "grid"),
        ("trials = 3", "", SPACE, "num_trials"),
        ("", "momentum = 0.5", SPACE, "[base]"),
        ("method = \"grid\"", "", SPACE, "space.lr: expected count"),
        ("", "", "\"groups\" = { choices = [[{ matching = [\"nosuch.*\"] }]] }", "settings that can be trained"),
    ];
    for (search, base, space, part) in cases {
        write(&place, search, base, space);
        let Done { code, stderr, .. } = sweep(&place, &[]);
        assert_eq!(code, 2, "{space}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{space}: {stderr}");
    }
    write(&place, "", "", SPACE);
    let options: [&[&str]; 5] =
        [&["--jobs", "0"], &["--trials", "0"], &["--epochs", "0"], &["--method", "bayes"], &["--resume", "somewhere"]];
    for more in options {
        let Done { code, stderr, .. } = sweep(&place, more);
        assert_eq!(code, 2, "{more:?}: {stderr}");
    }
    assert_eq!(place.lenet(&["sweep"]).code, 2, "there must be something to search");
    assert!(folders(&place).is_empty(), "nothing was trained");
    let Done { code, stderr, .. } = place.lenet(&["sweep", "nowhere.toml"]);
    assert!(code == 1 && stderr.contains("cannot read nowhere.toml"), "{stderr}");
}

#[test]
fn a_folder_whose_sweep_was_changed_or_is_at_work_is_not_gone_on_with() {
    let place = Place::new();
    write(&place, "num_trials = 2", "epochs = 1", SPACE);
    succeeds(sweep(&place, &["--quiet"]));
    let folder = only_folder(&place);
    let resume = || place.lenet(&["sweep", "--resume", folder.to_str().unwrap()]);
    let lock = std::fs::File::open(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let Done { code, stderr, .. } = resume();
    assert!(code == 2 && stderr.contains("no other process"), "{code}: {stderr}");
    drop(lock);
    succeeds(resume());
    let file = folder.join("sweep.toml");
    std::fs::write(&file, read(&file).replace("0.3", "0.2")).unwrap();
    let Done { code, stderr, .. } = resume();
    assert!(code == 1 && stderr.contains("trials.jsonl") && stderr.contains("was changed"), "{code}: {stderr}");
}
